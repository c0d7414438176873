//! librdkafka's producer with nothing around it: what a record costs at the least on this machine, for the benchmark to compare with.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rdkafka::{
    ClientContext,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};

use super::{KafkaError, embedded::Embedded, settings};
use crate::{
    config::{Bootstrap, Kafka},
    event::Text,
};

/// A producer with the settings of Hookgate's own, and no bounds, receipts or metrics.
pub struct PlainProducer {
    producer: ThreadedProducer<Tally>,
    tally: Arc<Counts>,
    topic: Text,
    /// Ends after the producer.
    embedded: Option<Embedded>,
}

/// What came of the records.
#[derive(Debug, Default)]
struct Counts {
    confirmed: AtomicU64,
    failed: AtomicU64,
}

/// What librdkafka calls back.
struct Tally {
    counts: Arc<Counts>,
    delivered: Box<dyn Fn(u64) + Send + Sync>,
}

impl ClientContext for Tally {}

impl ProducerContext for Tally {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        match result {
            Ok(_) => {
                self.counts.confirmed.fetch_add(1, Ordering::Relaxed);
                (self.delivered)(*sent);
            }
            Err(_) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl PlainProducer {
    /// Starts one for records of one topic; `delivered` hears the mark of each that Kafka has confirmed.
    ///
    /// # Errors
    /// Settings that librdkafka does not take; no embedded cluster.
    pub fn start(kafka: &Kafka, topic: &str, delivered: impl Fn(u64) + Send + Sync + 'static) -> Result<Self, KafkaError> {
        let topic = Text::from(topic);
        let embedded = match &kafka.bootstrap {
            Bootstrap::Embedded => Some(Embedded::start(std::slice::from_ref(&topic), kafka.embedded_partitions)?),
            Bootstrap::Servers(_) => None,
        };
        let servers = match (&kafka.bootstrap, &embedded) {
            (Bootstrap::Servers(servers), _) => servers.as_str(),
            (Bootstrap::Embedded, embedded) => embedded.as_ref().map_or("", |embedded| embedded.address.as_str()),
        };
        let config = settings::client_config(kafka, servers)?;
        let tally = Arc::new(Counts::default());
        let context = Tally { counts: Arc::clone(&tally), delivered: Box::new(delivered) };
        let producer = config.create_with_context(context).map_err(|error| settings::explain(kafka, error))?;
        Ok(PlainProducer { producer, tally, topic, embedded })
    }

    /// Hands a record over; false when librdkafka does not take it.
    pub fn send(&self, key: &[u8], value: &[u8], mark: u64) -> bool {
        let record: BaseRecord<'_, [u8], [u8], Box<u64>> = BaseRecord::with_opaque_to(&self.topic, Box::new(mark)).key(key).payload(value);
        self.producer.send(record).is_ok()
    }

    /// Records that Kafka confirmed, and those that it did not.
    pub fn answered(&self) -> (u64, u64) {
        (self.tally.confirmed.load(Ordering::Relaxed), self.tally.failed.load(Ordering::Relaxed))
    }

    /// Records handed over and not yet answered.
    pub fn outstanding(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Whether Kafka is part of this process.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }
}

impl std::fmt::Debug for PlainProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainProducer").field("topic", &self.topic).field("answered", &self.answered()).finish_non_exhaustive()
    }
}
