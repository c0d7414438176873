//! A thread that keeps the producer usable: it notices that Kafka is gone and that it is back, starts another producer when one is lost
//! for good, and says the numbers that the log owes.
//!
//! A thread, because librdkafka's questions block.

use std::{
    sync::{
        Arc, Weak,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rdkafka::producer::{Producer as _, PurgeConfig};

use super::{
    KafkaError,
    delivery::Notice,
    producer::{Inner, Native},
    topics,
};

/// How often it looks around.
const TICK: Duration = Duration::from_secs(1);
/// How long one question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a lost producer may take to report its records.
const REPORTS: Duration = Duration::from_secs(2);

/// Starts the thread; it ends soon after the producer is dropped.
pub(super) fn start(inner: &Arc<Inner>, notices: Receiver<Notice>, reachable: bool) -> Result<(), KafkaError> {
    let mut keeper = Keeper { inner: Arc::downgrade(inner), reachable };
    let thread = std::thread::Builder::new().name("kafka-keeper".to_owned());
    thread.spawn(move || while keeper.turn(&notices) {}).map(drop).map_err(KafkaError::Thread)
}

struct Keeper {
    inner: Weak<Inner>,
    /// What the log says.
    reachable: bool,
}

impl Keeper {
    /// Waits for a notice or the next tick and sees to it; false when the producer is gone.
    fn turn(&mut self, notices: &Receiver<Notice>) -> bool {
        let notice = match notices.recv_timeout(TICK) {
            Ok(notice) => Some(notice),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let Some(inner) = self.inner.upgrade() else { return false };
        if let Some(Notice::Fatal(generation, reason)) = notice {
            replace(&inner, generation, &reason);
        }
        if !self.reachable || inner.shared.suspect.load(Ordering::Acquire) {
            self.look_for_kafka(&inner);
        }
        for topic in std::mem::take(&mut *inner.shared.doubtful.lock()) {
            // Only that librdkafka hears the answer matters; a topic that is still refused comes up again with its next record.
            let _ = inner.native.load().producer.client().fetch_metadata(Some(&topic), PATIENCE);
        }
        if self.reachable {
            inner.topics.ask_for_partitions(inner.native.load().producer.client(), PATIENCE);
        }
        inner.shared.failures.flush();
        inner.shared.bounds.look(Instant::now()); // while nothing is answered
        true
    }

    /// One lost connection is no outage: only a question without an answer is.
    fn look_for_kafka(&mut self, inner: &Inner) {
        inner.shared.suspect.store(false, Ordering::Release);
        let answer = topics::look_up(inner.native.load().producer.client(), &inner.topic_names, PATIENCE);
        let servers = &inner.servers;
        match answer.silence {
            Some(silence) if self.reachable => {
                self.reachable = false;
                inner.shared.metrics.kafka_reachable.set(0);
                let trouble = std::mem::take(&mut *inner.shared.trouble.lock());
                let reason = if trouble.is_empty() { silence } else { trouble };
                let outstanding = inner.shared.bounds.outstanding();
                tracing::error!(outstanding, "Kafka at {servers} cannot be reached: {reason}; what waits for it is not acknowledged");
            }
            None if !self.reachable => {
                self.reachable = true;
                inner.shared.metrics.kafka_reachable.set(1);
                tracing::info!(outstanding = inner.shared.bounds.outstanding(), "Kafka at {servers} answers again");
                topics::warn_of_missing(&answer.missing);
            }
            _ => {}
        }
    }
}

/// Puts a new producer in the place of one that librdkafka declared dead. What the old one held counts as unknown.
fn replace(inner: &Inner, generation: u64, reason: &str) {
    let old = inner.native.load_full();
    if old.generation != generation {
        return;
    }
    tracing::error!(
        unconfirmed = old.producer.in_flight_count(),
        "Kafka's producer failed for good: {reason}; starting another, unconfirmed records count as unknown"
    );
    inner.shared.metrics.kafka_producer_restarts.inc();
    old.producer.purge(PurgeConfig::default().queue().inflight());
    let start = Instant::now();
    while old.producer.in_flight_count() > 0 && start.elapsed() < REPORTS {
        std::thread::sleep(Duration::from_millis(10));
    }
    loop {
        match Native::start(&inner.client_config, generation + 1, &inner.shared) {
            Ok(native) => {
                inner.native.store(Arc::new(native));
                inner.generation.send_replace(generation + 1);
                return;
            }
            Err(error) if inner.shared.bounds.is_closed() => {
                tracing::error!("no new producer while draining: {error}");
                return;
            }
            Err(error) => {
                tracing::error!("no new producer for Kafka: {error}; trying again in a second");
                std::thread::sleep(TICK);
            }
        }
    }
}
