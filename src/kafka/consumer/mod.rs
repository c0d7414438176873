//! A member of a consumer group: records in, what is done is committed.
//!
//! A thread polls librdkafka; [`Records`] is where they come out, each with a [`Lease`] that goes back through [`Consumer::done`]. Invariants:
//! - A partition's committed offset never passes a record whose lease is not back ([`marks`]); what is not committed comes again, to this
//!   process or another.
//! - Records out on lease are bounded in number and bytes. When there is no more room, fetching pauses; the group goes on.
//! - A partition that goes to another member is given up once what is under way of it is done, after three seconds at the latest; what
//!   was under way then may come twice.
//! - A group that begins at "latest" commits where it begins before it reads, so that nothing is missed if the process dies right then.
//! - Records of aborted transactions never come. Kafka may be away and come back.
//!
//! Absent: what the records mean.

mod context;
mod marks;
mod settings;
mod thread;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

pub use self::marks::Lease;
use self::{marks::Marks, thread::Fetcher};
use super::{KafkaError, Producer, failures::Failures, tokens::Tokens};
use crate::{
    config::{Kafka, Placed, Start},
    event::Fetched,
};

/// Bytes of the records on lease, at most (and one record more).
const MAX_BYTES: usize = 64 << 20;
/// What librdkafka may still hand over while fetching is being paused.
const SLACK: usize = 1_024;

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// For the log.
    pub name: &'a str,
    /// Topics; one that begins with `^` is a regular expression.
    pub topics: &'a [Placed<String>],
    /// The consumer group.
    pub group: &'a str,
    /// Where the group begins.
    pub start: Start,
    /// Records on lease, at most.
    pub max_in_flight: usize,
    /// Further properties of librdkafka.
    pub properties: &'a [(String, Placed<String>)],
}

/// A member of a consumer group; it leaves, after a last commit, when it is [closed](Consumer::close) or dropped.
pub struct Consumer {
    shared: Arc<Shared>,
}

/// What it reads.
#[derive(Debug)]
pub struct Records(mpsc::Receiver<(Fetched, Lease)>);

/// What the consumer, its thread and librdkafka's callbacks have in common.
struct Shared {
    name: String,
    start: Start,
    max_in_flight: usize,
    marks: Mutex<Marks>,
    /// Notified when leases come back.
    returned: Condvar,
    closing: AtomicBool,
    /// Partitions have come or gone, so that none is paused any more.
    reassigned: AtomicBool,
    failures: Failures,
    /// For SASL OAUTHBEARER; the producer keeps them fresh.
    tokens: Option<Arc<Tokens>>,
    lag: Gauge,
}

impl Consumer {
    /// Checks what [`Consumer::start`] would refuse, without connecting.
    ///
    /// # Errors
    /// The first property that librdkafka does not take.
    pub fn check(kafka: &Kafka, wanted: &Wanted<'_>) -> Result<(), KafkaError> {
        settings::consumer_config(kafka, "127.0.0.1:1", wanted).map(drop)
    }

    /// Joins the group on the producer's cluster, as whom the producer is there; `lag` follows how many records of the assigned partitions are not committed. Does not
    /// wait for Kafka.
    ///
    /// # Errors
    /// Settings that librdkafka does not take; no thread.
    pub fn start(kafka: &Kafka, producer: &Producer, wanted: &Wanted<'_>, lag: Gauge) -> Result<(Self, Records), KafkaError> {
        let (servers, tokens) = producer.connection();
        let client_config = settings::consumer_config(kafka, &servers, wanted)?;
        let shared = Arc::new(Shared {
            name: wanted.name.to_owned(),
            start: wanted.start,
            max_in_flight: wanted.max_in_flight,
            marks: Mutex::default(),
            returned: Condvar::new(),
            closing: AtomicBool::new(false),
            reassigned: AtomicBool::new(false),
            failures: Failures::default(),
            tokens,
            lag,
        });
        let (records, out) = mpsc::channel(wanted.max_in_flight + SLACK);
        let topics = wanted.topics.iter().map(|topic| topic.value.clone()).collect();
        let fetcher = Fetcher::new(client_config, topics, Arc::clone(&shared), records)?;
        let thread = std::thread::Builder::new().name("kafka-consumer".to_owned());
        thread.spawn(move || fetcher.run()).map_err(KafkaError::Thread)?;
        Ok((Consumer { shared }, Records(out)))
    }

    /// Whether a record's partition is still ours: if not, another member gets it, or we do, again.
    pub fn holds(&self, lease: &Lease) -> bool {
        self.shared.marks.lock().holds(lease)
    }

    /// A record is done with: once those before it are, it is committed.
    pub fn done(&self, lease: &Lease) {
        self.shared.marks.lock().done(lease);
        self.shared.returned.notify_one();
    }

    /// Commits what is done, and leaves the group; waits until that has happened, at most `patience`.
    pub async fn close(self, mut records: Records, patience: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.returned.notify_one();
        let ended = async { while records.0.recv().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(downlink = self.shared.name, "Kafka did not take the last commit in time; some records will come again");
        }
    }
}

/// The thread sees it within a tenth of a second.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.returned.notify_one();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Records {
    /// The next one; `None`: the consumer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<(Fetched, Lease)> {
        self.0.recv().await
    }
}

impl Shared {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether no more records may be on lease.
    fn is_full(&self, marks: &Marks) -> bool {
        let (records, bytes) = marks.outstanding();
        records >= self.max_in_flight || bytes >= MAX_BYTES
    }

    /// Waits until there is room, at most `patience`; whether there is.
    fn has_room_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut marks = self.marks.lock();
        while self.is_full(&marks) && !self.is_closing() {
            if self.returned.wait_until(&mut marks, deadline).timed_out() {
                return !self.is_full(&marks);
            }
        }
        true
    }

    /// Waits until nothing of these partitions is under way, at most `patience`; whether that is so.
    fn is_done_within(&self, places: &[marks::Place], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut marks = self.marks.lock();
        while marks.outstanding_of(places) > 0 {
            if self.is_closing() || self.returned.wait_until(&mut marks, deadline).timed_out() {
                return marks.outstanding_of(places) == 0;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
