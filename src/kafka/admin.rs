//! Topics made and removed on a real Kafka, for the benchmark and the tests; the embedded one makes its own.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    error::KafkaError,
    types::RDKafkaErrorCode,
};

/// How long Kafka may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a topic was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The brokers do not answer, or librdkafka says no.
    #[error("Kafka at {servers}: {reason}; is it running, and may this client administer topics?")]
    Unreachable {
        /// `host:port`
        servers: String,
        /// In librdkafka's words.
        reason: KafkaError,
    },
    /// The brokers refuse this topic.
    #[error("Kafka refuses topic {topic}: {reason}")]
    Refused {
        /// Its name.
        topic: String,
        /// Kafka's error code.
        reason: RDKafkaErrorCode,
    },
}

/// Creates a topic without replicas.
///
/// # Errors
/// [`AdminError`]; also when it is there already.
pub async fn create_topic(servers: &str, topic: &str, partitions: u32) -> Result<(), AdminError> {
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let results = client(servers)?.create_topics([&new], &options()).await;
    result(servers, results)
}

/// Deletes a topic.
///
/// # Errors
/// [`AdminError`]; also when it is not there.
pub async fn delete_topic(servers: &str, topic: &str) -> Result<(), AdminError> {
    let results = client(servers)?.delete_topics(&[topic], &options()).await;
    result(servers, results)
}

fn client(servers: &str) -> Result<AdminClient<DefaultClientContext>, AdminError> {
    ClientConfig::new().set("bootstrap.servers", servers).create().map_err(|reason| unreachable(servers, reason))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn unreachable(servers: &str, reason: KafkaError) -> AdminError {
    AdminError::Unreachable { servers: servers.to_owned(), reason }
}

fn result(servers: &str, results: Result<Vec<TopicResult>, KafkaError>) -> Result<(), AdminError> {
    for result in results.map_err(|reason| unreachable(servers, reason))? {
        result.map_err(|(topic, reason)| AdminError::Refused { topic, reason })?;
    }
    Ok(())
}
