//! Exactly once: what clients publish to a route becomes its records once, over repetitions, reconnects and the death of the process.
//!
//! ```text
//!  pipeline ─▶ Together: the records of one publish for one cluster ─▶ Once (bounded queue) ─▶ worker: a batch, one transaction
//!                                                       intents ─▶ store        records and marker ─▶ Kafka
//!  receipts settle after the commit
//! ```
//! One worker per cluster and process, a thread, keeps the order of arrival over all transactions. Before a transaction commits, the store
//! durably holds an intent for every publish in it: session, packet identifier, digest, number. With the records the transaction commits
//! the highest number as the marker. What a process that starts learns from both is in [`ledger`]; what a session does with a PUBLISH
//! that it has seen before, is the session's; an [`Origin`] connects them.
//!
//! Absent: how a transaction is made (`kafka::Transactor`).

mod batch;
mod ledger;
mod lot;
mod past;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

pub use self::past::Past;
use self::{
    lot::{Entry, Lot},
    worker::Worker,
};
use super::Way;
use crate::{
    config::Kafka,
    event::{Knowledge, Origin, Outcome, Receipt, Text},
    kafka::{Bounds, Producer, Record},
    metrics::Metrics,
};

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) kafka: Kafka,
    /// The producer of the same cluster, which knows how to reach it.
    pub(super) producer: Producer,
    pub(super) node: String,
    pub(super) past: Arc<Past>,
    pub(super) metrics: Arc<Metrics>,
}

/// The way into one cluster's transactions; clones share it. It ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Once {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: Text,
    lots: mpsc::Sender<Lot>,
    shared: Arc<Shared>,
}

/// What callers and worker have in common.
#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    /// Up to which number intents of former processes are in Kafka; `None` until Kafka has said so.
    stored: watch::Sender<Option<u64>>,
    /// What is left is given up.
    stopped: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Once {
    /// Starts a worker, which connects by itself.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(settings: Settings) -> std::io::Result<Self> {
        let kafka = &settings.kafka;
        let shared = Arc::new(Shared {
            bounds: Bounds::new(kafka.max_outstanding_records, kafka.max_outstanding_bytes, Duration::ZERO),
            stored: watch::Sender::new(None),
            stopped: AtomicBool::new(false),
            metrics: Arc::clone(&settings.metrics),
        });
        let cluster: Text = kafka.name.as_str().into();
        // The bounds count; whoever is in finds room here.
        let (lots, lots_in) = mpsc::channel(kafka.max_outstanding_records);
        let mut worker = Worker::new(settings, cluster.clone(), Arc::clone(&shared), lots_in)?;
        std::thread::Builder::new().name("exactly-once".to_owned()).spawn(move || worker.run())?;
        Ok(Once { inner: Arc::new(Inner { cluster, lots, shared }) })
    }

    /// Whether the cluster has a publish already. Waits where only Kafka knows.
    pub(super) async fn has(&self, origin: &Origin) -> bool {
        match origin.knows(&self.inner.cluster) {
            None | Some(Knowledge::Underway) => false,
            Some(Knowledge::Stored) => true,
            Some(Knowledge::Former(number)) => {
                let mut stored = self.inner.shared.stored.subscribe();
                stored.wait_for(Option::is_some).await.is_ok_and(|stored| stored.is_some_and(|stored| number <= stored))
            }
        }
    }

    /// Hands over the records of one publish, after waiting for room. They become durable together, after all that was handed over before.
    async fn send(&self, entries: Vec<Entry>, receipt: Receipt) {
        let Inner { lots, shared, .. } = &*self.inner;
        let bytes = entries.iter().map(|entry| entry.record.bytes()).sum();
        let Ok(()) = shared.bounds.enter(bytes).await else {
            return receipt.settle(Outcome::Unknown(Text::from_static("the way to Kafka is being closed")));
        };
        let lot = Lot::new(entries, bytes, receipt, shared);
        // An error: the worker is gone, and the lot with its receipt.
        drop(lots.send(lot).await);
    }

    /// Waits until everything is stored, at most `patience`; then closes for good. Returns how many publishes were not.
    pub(super) async fn drain(&self, patience: Duration) -> usize {
        let shared = &self.inner.shared;
        let _ = timeout(patience, shared.bounds.until_empty()).await; // what is left is counted below
        shared.bounds.close();
        shared.stopped.store(true, Ordering::Release);
        shared.bounds.outstanding()
    }
}

/// The records of one publish for those who must have them once: they go together, or not at all.
#[derive(Debug, Default)]
pub struct Together<'a> {
    lots: Vec<(&'a Once, Vec<Entry>)>,
}

impl<'a> Together<'a> {
    /// Takes a record whose way is exactly once; gives another one back.
    pub fn take(&mut self, way: &'a Way, record: Record) -> Option<Record> {
        let Some(once) = way.once() else { return Some(record) };
        let entry = Entry { record, grave: way.grave().cloned() };
        match self.lots.iter_mut().find(|(other, _)| Arc::ptr_eq(&other.inner, &once.inner)) {
            Some((_, entries)) => entries.push(entry),
            None => self.lots.push((once, vec![entry])),
        }
        None
    }

    /// Sends what was taken, each cluster's together, and not to those who have it. The receipt's shares settle when it is stored.
    pub async fn send(self, receipt: &Receipt) {
        for (once, entries) in self.lots {
            if let Some(origin) = receipt.origin()
                && once.has(origin).await
            {
                once.inner.shared.metrics.publishes_repeated.get_or_create(&(&*once.inner.cluster).into()).inc();
                origin.is_stored(&once.inner.cluster);
                continue;
            }
            once.send(entries, receipt.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests;
