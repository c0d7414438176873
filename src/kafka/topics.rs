//! What is kept per Kafka topic: its metric handles, resolved once, and its partitions; and the question whether Kafka has it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rdkafka::{client::Client, error::KafkaError as NativeError, producer::ProducerContext, types::RDKafkaErrorCode};

use super::partition::Partitions;
use crate::{
    event::{Text, now_ms},
    metrics::{Label, Metrics, ReasonLabel},
};

/// Guests may name topics; what is kept for them, and the metrics page, must not grow without end.
const MOST_TOPICS: usize = 1_000;
/// What further topics are counted as.
const OTHERS: &str = "(others)";
/// How long a topic that Kafka does not know may take to come into being (brokers that create topics do so when first asked).
const CREATION_PATIENCE: Duration = Duration::from_millis(1_500);
/// How many topics are asked about their partitions at once.
const MOST_QUESTIONS: usize = 20;

/// The metric handles of one topic.
#[derive(Debug)]
pub(super) struct Counters {
    name: String,
    pub(super) enqueued: Counter,
    pub(super) partitions: Partitions,
    confirmed: Counter,
    /// Bytes that a record may have for certain: from the topic's limit, or from the largest record that Kafka took.
    fits: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Counters {
    fn new(name: &str, metrics: &Arc<Metrics>) -> Self {
        let label = Label::from(name);
        Counters {
            name: name.to_owned(),
            enqueued: metrics.records_enqueued.get_or_create_owned(&label),
            partitions: Partitions::new(),
            confirmed: metrics.records_confirmed.get_or_create_owned(&label),
            fits: AtomicUsize::new(0),
            metrics: Arc::clone(metrics),
        }
    }

    /// Kafka took a record of this size.
    pub(super) fn took(&self, bytes: usize) {
        self.confirmed.inc();
        self.fits(bytes);
    }

    /// Kafka takes records of this size.
    pub(super) fn fits(&self, bytes: usize) {
        if bytes > self.fits.load(Ordering::Relaxed) {
            self.fits.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// Whether Kafka is known to take records of this size.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.fits.load(Ordering::Relaxed)
    }

    /// Failures are rare, so their handle is not kept.
    pub(super) fn failed(&self, reason: &str) {
        let label = ReasonLabel { name: self.name.clone(), reason: reason.to_owned() };
        self.metrics.records_failed.get_or_create(&label).inc();
    }
}

/// All topics that were used; read without a lock.
#[derive(Debug)]
pub(super) struct Topics {
    known: ArcSwap<HashMap<Text, Arc<Counters>>>,
    others: Arc<Counters>,
    metrics: Arc<Metrics>,
    /// Those that nobody has asked Kafka for; as many as are known at most.
    fresh: Mutex<Vec<Text>>,
}

impl Topics {
    pub(super) fn new(topics: &[Text], metrics: &Arc<Metrics>) -> Self {
        let known = topics.iter().map(|topic| (topic.clone(), Arc::new(Counters::new(topic, metrics)))).collect();
        Topics {
            known: ArcSwap::from_pointee(known),
            others: Arc::new(Counters::new(OTHERS, metrics)),
            metrics: Arc::clone(metrics),
            fresh: Mutex::default(),
        }
    }

    /// The topics that came up since the last time, beside those that were configured.
    pub(super) fn take_fresh(&self) -> Vec<Text> {
        std::mem::take(&mut *self.fresh.lock())
    }

    pub(super) fn counters(&self, topic: &Text) -> Arc<Counters> {
        if let Some(counters) = self.known.load().get(topic) {
            return Arc::clone(counters);
        }
        self.known.rcu(|known| {
            let mut more = HashMap::clone(known);
            if more.len() < MOST_TOPICS {
                // The text may be a slice of a large buffer, which must not be kept for it.
                let name = Text::from(topic.to_string());
                more.entry(name).or_insert_with(|| Arc::new(Counters::new(topic, &self.metrics)));
            }
            more
        });
        let known = self.known.load();
        let Some((name, counters)) = known.get_key_value(topic) else { return Arc::clone(&self.others) };
        self.fresh.lock().push(name.clone());
        Arc::clone(counters)
    }

    /// Keeps how many partitions Kafka says that topics have.
    pub(super) fn learn(&self, answer: &Answer) {
        for (topic, count) in &answer.partitions {
            self.counters(topic).partitions.learn(*count, now_ms());
        }
    }

    /// No more partitions than these, until more is learned: some records go to one cluster still, and some to the next.
    pub(super) fn limit(&self, answer: &Answer) {
        for (topic, count) in &answer.partitions {
            self.counters(topic).partitions.limit(*count);
        }
    }

    /// Asks how many partitions those topics have whose records are not spread by their keys. Blocks, at most `patience` for each.
    pub(super) fn ask_for_partitions<C: ProducerContext>(&self, client: &Client<C>, patience: Duration) {
        let now_ms = now_ms();
        let known = self.known.load_full();
        for (topic, counters) in known.iter().filter(|(_, counters)| counters.partitions.is_due(now_ms)).take(MOST_QUESTIONS) {
            match client.fetch_metadata(Some(topic), patience) {
                Ok(metadata) => counters.partitions.learn(metadata.topics().first().map_or(0, |topic| topic.partitions().len()), now_ms),
                Err(_) => return, // whoever looks for Kafka says so
            }
        }
    }
}

/// What Kafka said about topics.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Why it said nothing, if so.
    pub(super) silence: Option<String>,
    /// Topics that it does not have.
    pub(super) missing: Vec<Text>,
    /// Topics of which it says something else.
    odd: Vec<(Text, RDKafkaErrorCode)>,
    /// How many partitions the others have.
    pub(super) partitions: Vec<(Text, usize)>,
}

impl Answer {
    /// Says what to do about what is not as it should be.
    pub(super) fn warn(&self) {
        for topic in &self.missing {
            tracing::warn!(
                %topic,
                "Kafka has no topic {topic}: records for it will be refused until somebody creates it \
                 (kafka-topics.sh --create --topic {topic} --partitions N --replication-factor N, or create_topics)"
            );
        }
        for (topic, code) in &self.odd {
            tracing::warn!(%topic, "Kafka says about topic {topic}: {code}; `hookgate check --connect` says more");
        }
    }
}

/// Asks for each topic, so that librdkafka knows its partitions before the first record; takes no longer than `patience`.
pub(super) fn look_up<C: ProducerContext>(client: &Client<C>, topics: &[Text], patience: Duration) -> Answer {
    let start = Instant::now();
    let left = || patience.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
    if topics.is_empty() {
        let silence = client.fetch_metadata(None, left()).err().map(|error| error.to_string());
        return Answer { silence, ..Answer::default() };
    }
    let (mut open, mut partitions, mut odd) = (topics.to_vec(), Vec::new(), Vec::new());
    loop {
        let mut missing = Vec::new();
        for topic in open {
            match client.fetch_metadata(Some(&topic), left()) {
                Ok(metadata) => {
                    let found = metadata.topics().first();
                    let error = found.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
                    match error {
                        None => partitions.push((topic, found.map_or(0, |found| found.partitions().len()))),
                        Some(error) if is_absence(error) => missing.push(topic),
                        Some(error) => odd.push((topic, error)),
                    }
                }
                Err(NativeError::MetadataFetch(error)) if is_absence(error) => missing.push(topic),
                Err(error) => return Answer { silence: Some(error.to_string()), partitions, ..Answer::default() },
            }
        }
        if missing.is_empty() || start.elapsed() > CREATION_PATIENCE.min(patience) {
            return Answer { silence: None, missing, odd, partitions };
        }
        open = missing;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_absence(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error, LeaderNotAvailable | UnknownPartition | UnknownTopic | UnknownTopicOrPartition)
}
