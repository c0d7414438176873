//! Reads topics back from the beginning, without a consumer group: what the demo shows and what the benchmark verifies.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError as Error,
    message::Headers as _,
};

use crate::event::{Bytes, Header};

/// A record as Kafka holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Kafka topic.
    pub topic: String,
    /// Partition within the topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Record key.
    pub key: Option<Bytes>,
    /// Record value; empty for a tombstone.
    pub value: Bytes,
    /// Headers whose values are text.
    pub headers: Vec<Header>,
    /// The producer's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

/// A reader of whole topics.
pub struct Reader {
    consumer: BaseConsumer,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Why topics cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A topic is not there, even after waiting.
    #[error("Kafka has no topic \"{0}\"; create it, or name another")]
    NoTopic(String),
    /// librdkafka says no.
    #[error("reading from Kafka: {0}")]
    Kafka(#[from] Error),
}

impl Reader {
    /// Opens every partition of `topics` at its beginning; waits up to `patience` for topics that are not there yet.
    ///
    /// # Errors
    /// No broker answers, or a topic is missing.
    pub fn open(bootstrap_servers: &str, topics: &[&str], patience: Duration) -> Result<Self, ReadError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "hookgate-reader") // required by the API; nothing is ever committed
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        let deadline = Instant::now() + patience;
        for topic in topics {
            for partition in partitions(&consumer, topic, deadline)? {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Reader { consumer })
    }

    /// The next record, or `None` when none came within `wait`. Blocks: call it on a thread of its own.
    ///
    /// # Errors
    /// librdkafka's; trying again may help.
    pub fn next(&self, wait: Duration) -> Result<Option<StoredRecord>, ReadError> {
        let Some(message) = self.consumer.poll(wait).transpose()? else { return Ok(None) };
        let headers = message.headers().map(|headers| headers.iter().map(text_header).collect()).unwrap_or_default();
        Ok(Some(StoredRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
        }))
    }
}

fn text_header(header: rdkafka::message::Header<'_, &[u8]>) -> Header {
    let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    Header { name: header.key.into(), value: value.into() }
}

fn partitions(consumer: &BaseConsumer, topic: &str, deadline: Instant) -> Result<Vec<i32>, ReadError> {
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5));
        let found: Vec<i32> = match &metadata {
            Ok(metadata) => metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect(),
            Err(_) => Vec::new(),
        };
        if !found.is_empty() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            metadata?;
            return Err(ReadError::NoTopic(topic.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
