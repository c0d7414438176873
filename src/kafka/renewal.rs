//! Another configuration for a producer that is at work: other brokers, credentials, properties, topics.
//!
//! The new librdkafka producer is started beside the old one and takes its place at once. Where both speak to the same cluster, it takes
//! no record before everything that the old one holds is answered, so that no record overtakes another of its client; who sends meanwhile
//! waits in line. Where it is another cluster there is no order to keep between the two, and the old one is emptied beside it. What the
//! old one has not had answered after `drain_timeout_ms` counts as unknown: it is not acknowledged, and the device sends it again.
//!
//! Invariant: between the preparation of a renewal and its end nobody else replaces the producer.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::producer::Producer as _;

use super::{
    KafkaError, Producer,
    native::{Ground, Native, START_PATIENCE},
    producer::{servers, sorted},
    settings::Setup,
    topics::{self, Answer},
};
use crate::{config::Kafka, event::Text};

/// How often a producer that is being emptied is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// How long a purge may take to report every record.
const REPORTS: Duration = Duration::from_secs(2);
/// How long a cluster may take to say which one it is.
const IDENTITY: Duration = Duration::from_secs(1);

/// Producers that were replaced and may still hold records.
#[derive(Debug, Default)]
pub(super) struct Former(Mutex<Vec<Weak<Native>>>);

impl Former {
    fn add(&self, native: &Arc<Native>) {
        let mut former = self.0.lock();
        former.retain(|native| native.strong_count() > 0);
        former.push(Arc::downgrade(native));
    }

    /// Gives everything back as unknown.
    pub(super) fn purge(&self) {
        self.0.lock().iter().filter_map(Weak::upgrade).for_each(|native| native.purge());
    }
}

/// A change that is ready; dropped without [`Renewal::commit`], everything stays as it was.
#[must_use]
pub struct Renewal {
    held: Held,
    topics: Vec<Text>,
    /// `None`: the producer that is there will do.
    next: Option<Next>,
}

struct Next {
    native: Native,
    /// What Kafka said to it about the topics.
    answer: Answer,
    /// Whether it speaks to the cluster to which the old one speaks.
    same_cluster: bool,
    patience: Duration,
}

/// The right to replace the producer, until it is dropped.
struct Held(Producer);

impl Held {
    fn take(producer: &Producer) -> Option<Self> {
        let free = producer.inner.renewing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        free.ok().map(|_| Held(producer.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.inner.renewing.store(false, Ordering::Release);
    }
}

impl Producer {
    /// Prepares another configuration; nothing has changed yet. Blocks like [`Producer::connect`].
    ///
    /// # Errors
    /// Settings that librdkafka does not take; a Kafka that answers today, and does not with these settings; a former change that has not
    /// come to its end.
    pub fn renew(&self, config: &Kafka, topics: &[Text]) -> Result<Renewal, KafkaError> {
        let (inner, topics) = (&self.inner, sorted(topics));
        let busy = || KafkaError::Busy { place: config.place.place.clone(), name: config.name.clone() };
        let held = Held::take(self).ok_or_else(busy)?;
        let old = inner.native.load_full();
        let servers = servers(config, inner.embedded.as_ref());
        let setup = Setup::new(config, &servers, Some(&old.setup))?;
        let known = inner.topic_names.load();
        if setup.is_like(&old.setup) && topics.iter().all(|topic| known.contains(topic)) {
            return Ok(Renewal { held, topics, next: None });
        }
        let ground = Ground { config, topics: &topics, shared: &inner.shared, counters: &inner.topics, is_real: inner.embedded.is_none() };
        let (native, mut answer) = ground.open(setup)?;
        if native.setup.is_like(&old.setup) && native.setup.batch_limit == old.setup.batch_limit {
            // Only topics are new; they are asked for so that their first records need not wait.
            inner.topics.learn(&topics::look_up(old.producer.client(), &topics, START_PATIENCE));
            return Ok(Renewal { held, topics, next: None });
        }
        if let Some(reason) = answer.silence.take()
            && topics::look_up(old.producer.client(), &[], IDENTITY).silence.is_none()
        {
            return Err(KafkaError::Silent { place: config.place.place.clone(), servers, reason });
        }
        let same_cluster = is_same_cluster(&old, &native);
        let patience = Duration::from_millis(config.drain_timeout_ms);
        Ok(Renewal { held, topics, next: Some(Next { native, answer, same_cluster, patience }) })
    }
}

impl Renewal {
    /// Takes the new configuration into service. Returns at once; a thread sees to what the old producer holds.
    pub fn commit(self) {
        let Renewal { held, topics, next } = self;
        let producer = held.0.clone();
        let inner = &producer.inner;
        inner.topic_names.store(Arc::new(topics));
        let Some(Next { native, answer, same_cluster, patience }) = next else { return };
        let native = Arc::new(native);
        native.set_open(!same_cluster);
        inner.topics.limit(&answer);
        let old = inner.native.swap(Arc::clone(&native));
        inner.former.add(&old);
        let (servers, unanswered) = (&native.setup.servers, old.unanswered());
        tracing::info!(unanswered, same_cluster, "records go to Kafka at {servers} with new settings from now on");
        let waiting = if same_cluster {
            Some((held, native))
        } else {
            inner.announce(native.generation);
            None
        };
        let finishing = producer.clone();
        let finish = move || {
            empty(&old, patience);
            finishing.inner.topics.learn(&answer);
            if let Some((held, native)) = waiting {
                native.set_open(true);
                finishing.inner.announce(native.generation);
                drop(held);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-renewal".to_owned()).spawn(finish) {
            // What was to be done on it went with it: the right to replace, and the old producer with what it held.
            tracing::error!("no thread to empty the former producer: {error}; what it held counts as unknown");
            let native = inner.native.load();
            native.set_open(true);
            inner.announce(native.generation);
        }
    }
}

/// Waits until `old` has answered for everything and nobody can hand it more; what it has not answered after `patience` is unknown.
fn empty(old: &Arc<Native>, patience: Duration) {
    if wait(old, patience) {
        return;
    }
    let (servers, unanswered) = (&old.setup.servers, old.unanswered());
    tracing::error!(unanswered, "the former producer for Kafka at {servers} got no answer in time: its records count as unknown");
    old.purge();
    wait(old, REPORTS);
}

/// Whether it happened in time. Whoever has loaded `old` to hand it a record counts as an owner of it, since it is no longer the one in
/// service; so once this is the only one, nothing can be added.
fn wait(old: &Arc<Native>, patience: Duration) -> bool {
    let start = Instant::now();
    while Arc::strong_count(old) > 1 || old.unanswered() > 0 {
        if start.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// By the clusters' own word; where one is silent, by a broker that both lists name.
fn is_same_cluster(old: &Native, new: &Native) -> bool {
    let identity = |native: &Native| native.producer.client().fetch_cluster_id(IDENTITY);
    match (identity(old), identity(new)) {
        (Some(old), Some(new)) => old == new,
        _ => share_a_broker(&old.setup.servers, &new.setup.servers),
    }
}

fn share_a_broker(one: &str, other: &str) -> bool {
    one.split(',').any(|server| other.split(',').any(|other| server.trim() == other.trim()))
}

#[cfg(test)]
mod tests {
    use super::share_a_broker;

    #[test]
    fn one_broker_in_both_lists_makes_one_cluster() {
        assert!(share_a_broker("a:9092, b:9092", "c:9092,b:9092"));
        assert!(!share_a_broker("a:9092", "a:9093"));
    }
}
