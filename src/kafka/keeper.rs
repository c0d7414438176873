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

use rdkafka::{producer::Producer as _, types::RDKafkaErrorCode};

use super::{
    KafkaError,
    delivery::Notice,
    native::{Native, create_missing},
    producer::Inner,
    topics,
};
use crate::event::Text;

/// How often it looks around.
const TICK: Duration = Duration::from_secs(1);
/// How long one question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a lost producer may take to report its records.
const REPORTS: Duration = Duration::from_secs(2);
/// How long until a producer that may write nothing is followed by one that asks again.
const DENIED: Duration = Duration::from_secs(3);

/// Starts the thread; it ends soon after the producer is dropped.
pub(super) fn start(inner: &Arc<Inner>, notices: Receiver<Notice>, reachable: bool) -> Result<(), KafkaError> {
    let mut keeper = Keeper { inner: Arc::downgrade(inner), reachable, lost: Vec::new() };
    let thread = std::thread::Builder::new().name("kafka-keeper".to_owned());
    thread.spawn(move || while keeper.turn(&notices) {}).map(drop).map_err(KafkaError::Thread)
}

struct Keeper {
    inner: Weak<Inner>,
    /// What the log says.
    reachable: bool,
    /// Producers of no more use, with the reason and since when; those that are not in service yet may come into it.
    lost: Vec<(u64, String, Instant)>,
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
            self.lost.push((generation, reason, Instant::now()));
        }
        if !self.lost.is_empty() && !inner.renewing.load(Ordering::Acquire) {
            self.replace_lost(&inner);
        }
        let tokens = inner.native.load().setup.tokens.clone();
        if let Some(Err(error)) = tokens.map(|tokens| tokens.refresh()) {
            inner.shared.failures.trouble(RDKafkaErrorCode::Authentication, &format!("no token: {error}"));
        }
        if !self.reachable || inner.shared.suspect.load(Ordering::Acquire) {
            self.look_for_kafka(&inner);
        }
        ask_again(&inner);
        if self.reachable {
            inner.topics.ask_for_partitions(inner.native.load_full().producer.client(), PATIENCE);
        }
        inner.shared.failures.flush();
        inner.shared.bounds.look(Instant::now()); // while nothing is answered
        true
    }

    /// Puts another producer in the place of the one in service, if that is lost.
    fn replace_lost(&mut self, inner: &Inner) {
        let present = inner.native.load_full();
        self.lost.retain(|(generation, ..)| *generation >= present.generation);
        let pause = if present.context().denial().is_some() { DENIED } else { Duration::ZERO };
        if let Some((_, reason, since)) = self.lost.iter().find(|(generation, ..)| *generation == present.generation)
            && since.elapsed() >= pause
        {
            replace(inner, &present, reason);
        }
    }

    /// One lost connection is no outage: only a question without an answer is.
    fn look_for_kafka(&mut self, inner: &Inner) {
        inner.shared.suspect.store(false, Ordering::Release);
        let native = inner.native.load_full();
        let answer = topics::look_up(native.producer.client(), &inner.topic_names.load(), PATIENCE);
        let servers = &native.setup.servers;
        match answer.silence {
            Some(silence) if self.reachable => {
                self.reachable = false;
                inner.reachable.set(0);
                let trouble = std::mem::take(&mut *inner.shared.trouble.lock());
                let reason = if trouble.is_empty() { silence } else { trouble };
                let outstanding = inner.shared.bounds.outstanding();
                tracing::error!(outstanding, "Kafka at {servers} cannot be reached: {reason}; what waits for it is not acknowledged");
            }
            None if !self.reachable => {
                self.reachable = true;
                inner.reachable.set(1);
                tracing::info!(outstanding = inner.shared.bounds.outstanding(), "Kafka at {servers} answers again");
                answer.warn();
            }
            _ => {}
        }
    }
}

/// Asks for topics that were refused as a whole; only that librdkafka hears the answer matters, and one that is still refused comes up
/// again with its next record. Where topics are to be created, those that are met for the first time are asked for as well.
fn ask_again(inner: &Inner) {
    let mut open: Vec<Text> = std::mem::take(&mut *inner.shared.doubtful.lock()).into_iter().collect();
    let (fresh, native) = (inner.topics.take_fresh(), inner.native.load_full());
    if native.setup.create_topics.is_some() && !(open.is_empty() && fresh.is_empty()) {
        open.extend(fresh);
        open = topics::look_up(native.producer.client(), &open, PATIENCE).missing;
        create_missing(&native.setup, &open);
    }
    for topic in open {
        let _ = native.producer.client().fetch_metadata(Some(&topic), PATIENCE);
    }
}

/// Puts a new producer in the place of one that librdkafka declared dead. What the old one held counts as unknown.
fn replace(inner: &Inner, old: &Native, reason: &str) {
    tracing::error!(
        unconfirmed = old.unanswered(),
        "Kafka's producer failed for good: {reason}; starting another, unconfirmed records count as unknown"
    );
    inner.shared.metrics.kafka_producer_restarts.inc();
    old.purge();
    let start = Instant::now();
    while old.unanswered() > 0 && start.elapsed() < REPORTS {
        std::thread::sleep(Duration::from_millis(10));
    }
    loop {
        match Native::start(&old.setup, &inner.shared) {
            Ok(native) => {
                let generation = native.generation;
                inner.native.store(Arc::new(native));
                inner.announce(generation);
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
