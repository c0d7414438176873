//! Topics made and removed on a real Kafka: those that `create_topics` asks for, and those of the benchmark and the tests; the embedded
//! one makes its own.

use std::{future::Future, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{config::NewTopics, event::Text};

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

/// Creates topics; what came of each. One that somebody else created meanwhile counts as created. Blocks.
pub(super) fn create_topics(config: &ClientConfig, topics: &[Text], new: NewTopics) -> Vec<(Text, Result<(), String>)> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let wanted = |topic| NewTopic::new(topic, number(new.partitions), TopicReplication::Fixed(number(new.replication)));
    let wanted: Vec<NewTopic<'_>> = topics.iter().map(|topic| wanted(topic)).collect();
    let create = || -> Result<Vec<TopicResult>, String> {
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| error.to_string())?;
        let created = wait_for(admin.create_topics(&wanted, &options()))?;
        created.map_err(|error| error.to_string())
    };
    let results = match create() {
        Ok(results) => results,
        Err(error) => return topics.iter().map(|topic| (topic.clone(), Err(error.clone()))).collect(),
    };
    let advice = |code| match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            format!("{code}; give the Kafka user CREATE on it, or on the cluster")
        }
        RDKafkaErrorCode::InvalidReplicationFactor => format!("{code}; create_topics.replication is more than there are brokers"),
        code => code.to_string(),
    };
    let end = |result: TopicResult| match result {
        Ok(topic) | Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => (Text::from(topic), Ok(())),
        Err((topic, code)) => (Text::from(topic), Err(advice(code))),
    };
    results.into_iter().map(end).collect()
}

/// Waits for an admin client's answer. On a thread of its own: whoever asks may be in a runtime already, where nothing may block on
/// another.
pub(super) fn wait_for<T: Send>(asked: impl Future<Output = T> + Send) -> Result<T, String> {
    let answered = std::thread::scope(|scope| {
        let thread = scope.spawn(|| Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(asked)));
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the question was given up")))
    });
    answered.map_err(|error: std::io::Error| error.to_string())
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
