//! The way to Kafka; the only place that names librdkafka.
//!
//! A [`Record`] goes in with a share of its event's [`Receipt`](crate::event::Receipt); the share is settled when Kafka has answered,
//! from librdkafka's delivery report, without a task, a future or a table entry per record.
//!
//! Invariants:
//! - Records of one caller reach a partition in the order in which they were sent, also across retries and Kafka's restarts: one
//!   producer, idempotent with `acks = "all"`, one request in flight otherwise.
//! - What is outstanding is bounded by our own count of records and bytes, and by the time that Kafka takes to answer, below librdkafka's
//!   queue; who finds no room waits in line and is woken by a delivery report.
//! - A record counts as stored only when Kafka said so, as refused only when sending it again cannot help. Everything else (a timeout, a
//!   purge, a lost producer) is unknown: it may be in the log, and is never acknowledged.
//! - Keys choose partitions as Java's producer does (murmur2), so that other producers of the same key meet the same partition; a record
//!   may ask for another [`Choice`], and gives its order up with it.
//!
//! The way back is [`Consumer`]: a member of a consumer group that commits what whoever reads from it says is done, in order.
//!
//! Absent: the spool; what of transactions is more than one ([`Transactor`]).

mod admin;
mod bounds;
mod consumer;
mod delivery;
mod embedded;
mod failures;
mod findings;
mod inspection;
mod keeper;
mod limits;
mod native;
mod pace;
mod partition;
mod plain;
mod producer;
mod reader;
mod record;
mod renewal;
mod settings;
mod tokens;
mod topics;
mod transaction;

use crate::config::{Place, Problem};

pub use self::{
    admin::{AdminError, create_topic, delete_topic},
    consumer::{Consumer, Lease, Records, Wanted},
    delivery::End,
    inspection::{Finding, Inspection, Severity, TopicFacts, inspect},
    partition::Choice,
    plain::PlainProducer,
    producer::Producer,
    reader::{ReadError, Reader, StoredRecord},
    record::{Record, RecordId, RecordIdText},
    renewal::Renewal,
    transaction::{Failed, Marker, TransactionError, Transactor},
};
pub(crate) use bounds::Bounds;

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property under `[kafka.properties]` that librdkafka does not know, or whose value does not fit.
    #[error("{place}: kafka.properties.\"{name}\": {reason}")]
    Property {
        /// Where it is written.
        place: Place,
        /// As written.
        name: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// The same among the `properties` of a downlink.
    #[error("{place}: downlink.properties.\"{name}\": {reason}")]
    ConsumerProperty {
        /// Where it is written.
        place: Place,
        /// As written.
        name: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// Settings that are fine one by one, but not together.
    #[error("{place}: librdkafka refuses these settings: {reason}")]
    Settings {
        /// Where `bootstrap_servers` is written.
        place: Place,
        /// In librdkafka's words.
        reason: String,
    },
    /// librdkafka gives no consumer.
    #[error("downlink \"{name}\": librdkafka gives no consumer: {reason}")]
    Consumer {
        /// The downlink.
        name: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// Settings with which no Kafka answers, while one answers with those that are in service.
    #[error("{place}: Kafka at {servers} does not answer with these settings: {reason}")]
    Silent {
        /// Where `bootstrap_servers` is written.
        place: Place,
        /// `host:port,…`
        servers: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// A former change of the cluster goes on.
    #[error("{place}: cluster \"{name}\" still answers for records that it was given before its last change")]
    Busy {
        /// Where `bootstrap_servers` is written.
        place: Place,
        /// The cluster.
        name: String,
    },
    /// The embedded cluster does not start.
    #[error("the embedded Kafka does not start: {0}; is there a free loopback port?")]
    Embedded(String),
    /// The operating system gives no thread.
    #[error("no thread for Kafka: {0}")]
    Thread(#[source] std::io::Error),
}

impl KafkaError {
    /// The same as a problem of the configuration, for those that are one.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            KafkaError::Property { place, name, reason } => {
                let problem = Problem::new(place, format!("kafka.properties.\"{name}\": {reason}"));
                Some(problem.help("see librdkafka's CONFIGURATION.md for names and values"))
            }
            KafkaError::ConsumerProperty { place, name, reason } => {
                let problem = Problem::new(place, format!("downlink.properties.\"{name}\": {reason}"));
                Some(problem.help("see librdkafka's CONFIGURATION.md for names and values"))
            }
            KafkaError::Settings { place, reason } => Some(Problem::new(place, format!("librdkafka refuses these settings: {reason}"))),
            KafkaError::Silent { place, servers, reason } => {
                let problem = Problem::new(place, format!("Kafka at {servers} does not answer with these settings: {reason}"));
                Some(problem.help("the cluster in service answers and goes on; `hookgate check --connect` says more"))
            }
            KafkaError::Busy { place, name } => {
                let problem =
                    Problem::new(place, format!("cluster \"{name}\" still answers for records that it was given before its last change"));
                Some(problem.help("reload again in a moment; it takes at most drain_timeout_ms"))
            }
            KafkaError::Consumer { .. } | KafkaError::Embedded(_) | KafkaError::Thread(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
