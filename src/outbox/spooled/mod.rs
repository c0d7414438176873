//! Records that are safe before Kafka has them: they go into the cluster's spool, and from there to Kafka in the order of the log.
//!
//! All records of a route with `ack = "spool"` take this way, also while Kafka answers, so that old and new ones stay in order.
//!
//! Invariants: a record leaves the spool when Kafka has it, when the dead letter topic has it, or with an error in the log; what nobody
//! knows of is sent again, with everything behind it. Nothing here waits for Kafka but the one task of the cluster.

mod forwarder;
mod window;
mod wire;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use self::forwarder::Forwarder;
use super::refused::Letters;
use crate::{
    config,
    event::{Outcome, Receipt, Text, now_ms},
    kafka::{Producer, Record},
    metrics::Metrics,
    spool::{self, Spool, SpoolError},
};

/// How long an end waits for a Kafka that confirms nothing: what is left is safe where it is.
const STANDSTILL: Duration = Duration::from_secs(1);
/// How often an end looks around.
const LOOK: Duration = Duration::from_millis(20);

/// Where a cluster's records go now.
#[derive(Debug)]
struct Target {
    producer: Producer,
    dead_letter_topic: Text,
}

/// The spool of one cluster, with the task that empties it; cheap to clone. The task ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Spooled {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    target: Arc<ArcSwap<Target>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Forwarder>>>,
}

impl Spooled {
    /// Opens the spool of a cluster and begins to forward what is in it. Blocks; must be called in a runtime.
    ///
    /// # Errors
    /// [`SpoolError`]
    pub(super) fn open(
        name: &str,
        config: &config::Spool,
        producer: &Producer,
        dead_letter_topic: &Text,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SpoolError> {
        let (spool, reader) = Spool::open(name, &config.folder.join(folder_name(name)), config, metrics)?;
        let waiting = spool.waiting();
        if waiting > 0 {
            tracing::info!(spool = name, waiting, "records wait in the spool since the last time; they are sent first");
        }
        let target = Target { producer: producer.clone(), dead_letter_topic: dead_letter_topic.clone() };
        let target = Arc::new(ArcSwap::from_pointee(target));
        let (stop, stopped) = watch::channel(false);
        let forwarder = Forwarder::new(name, spool.clone(), reader, Arc::clone(&target), metrics);
        let task = Mutex::new(Some(tokio::spawn(forwarder.run(stopped))));
        Ok(Spooled { inner: Arc::new(Inner { spool, target, stop, task }) })
    }

    /// Everything that is sent from now on goes this way. What a former producer does not confirm is sent again by this one.
    pub(super) fn aim(&self, producer: &Producer, dead_letter_topic: &Text) {
        let target = Target { producer: producer.clone(), dead_letter_topic: dead_letter_topic.clone() };
        self.inner.target.store(Arc::new(target));
    }

    /// Appends a record after waiting for room; its receipt is settled when it is on the disk.
    pub(super) async fn send(&self, record: Record, receipt: Receipt) {
        if receipt.overtakes() {
            return receipt.settle(Outcome::Unknown(Text::from_static("a message before it is not stored, and comes again first")));
        }
        let body = wire::encode(&record);
        drop(record);
        self.inner.spool.append(now_ms(), &body, receipt).await;
    }

    /// Goes on as long as Kafka confirms, at most `patience`, and then sends nothing more.
    pub(super) async fn rest(&self, patience: Duration) -> Rest {
        let Inner { spool, stop, task, .. } = &*self.inner;
        let start = Instant::now();
        let (mut waiting, mut moved) = (spool.waiting(), start);
        while waiting > 0 && start.elapsed() < patience && moved.elapsed() < STANDSTILL {
            sleep(LOOK).await;
            let left = spool.waiting();
            if left != waiting {
                (waiting, moved) = (left, Instant::now());
            }
        }
        stop.send_replace(true);
        let task = task.lock().take();
        let forwarder = match task {
            Some(task) => task.await.ok(), // an error: it has panicked, and said so
            None => None,
        };
        Rest { forwarder, spool: spool.clone() }
    }
}

/// A spool that sends nothing more; what it sent may still be confirmed.
pub(super) struct Rest {
    forwarder: Option<Forwarder>,
    spool: Spool,
}

impl Rest {
    /// Drains the producer, waiting for other records than the spool's, and for dead letters of those; how many were not confirmed. What is
    /// left in the spool waits for the next start.
    pub(super) async fn drain(mut self, producer: &Producer, letters: Option<&Letters>, patience: Duration) -> usize {
        let start = Instant::now();
        let mut look = || self.forwarder.as_mut().map_or(0, Forwarder::look);
        let mut is_settled = || producer.outstanding() <= look() && letters.is_none_or(Letters::is_settled);
        while !is_settled() && start.elapsed() < patience {
            sleep(LOOK).await;
        }
        let own = look();
        let unconfirmed = producer.drain(Duration::ZERO).await;
        look();
        let spool = self.spool;
        let left = spool.waiting();
        drop(self.forwarder);
        let _ = tokio::task::spawn_blocking(move || spool.close()).await; // an error: it has panicked, and said so
        if left > 0 {
            tracing::info!(left, "records wait in the spool for the next start");
        }
        unconfirmed.saturating_sub(own)
    }
}

/// Says aloud which records wait for clusters that are not configured any more.
pub(super) fn warn_of_others(folder: &Path, clusters: &[&str]) {
    let own: Vec<String> = clusters.iter().map(|name| folder_name(name)).collect();
    let entries = folder.read_dir().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if own.contains(&name) {
            continue;
        }
        let folder = entry.path();
        match spool::count(&folder) {
            Ok(0) => {}
            Ok(waiting) => tracing::error!(
                folder = %folder.display(), waiting,
                "{waiting} acknowledged records wait in a spool whose cluster is not configured: nobody sends them until it is again"
            ),
            Err(error) => tracing::error!("a spool whose cluster is not configured cannot be read: {error}"),
        }
    }
}

/// A cluster's name as the name of a folder: what is neither letter, digit, `-` nor `_` is written `%` and two hexadecimal digits.
fn folder_name(cluster: &str) -> String {
    let mut name = String::new();
    for byte in cluster.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_after_clusters() {
        for (cluster, folder) in [("kafka", "kafka"), ("eu-1_a", "eu-1_a"), ("../eu", "%2e%2e%2feu"), ("é", "%c3%a9"), ("%", "%25")] {
            assert_eq!(folder_name(cluster), folder);
        }
    }
}
