//! The topics: made before the load, watched after it, read by the judge.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    broker::safety,
    class::{ClassId, Stream, streams},
};

/// Of each topic.
pub(crate) const PARTITIONS: i32 = 3;
/// Where nothing may arrive.
pub(crate) const DEAD_LETTERS: &str = "chaos-dead-letters";
/// For one request.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until the topics are there.
const CREATION_PATIENCE: Duration = Duration::from_secs(60);

/// Makes the topics of `classes`.
///
/// # Errors
/// Kafka says no.
pub(crate) async fn create(bootstrap: &str, classes: &[ClassId], brokers: usize) -> Result<()> {
    let (copies, in_sync) = safety(brokers);
    let in_sync = in_sync.to_string();
    let mut names: Vec<String> = streams(classes).into_iter().map(Stream::kafka_topic).collect();
    names.push(DEAD_LETTERS.to_owned());
    let topics = names
        .iter()
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(copies as i32)).set("min.insync.replicas", &in_sync));
    let topics: Vec<NewTopic<'_>> = topics.collect();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let deadline = Instant::now() + CREATION_PATIENCE;
    loop {
        let made = admin.create_topics(&topics, &AdminOptions::new().operation_timeout(Some(PATIENCE))).await;
        let failed = match made {
            Ok(results) => {
                results.into_iter().find_map(|result| result.err().filter(|(_, code)| !is_there(*code))).map(|failed| format!("{failed:?}"))
            }
            Err(error) => Some(error.to_string()),
        };
        let Some(failed) = failed else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("the topics cannot be made: {failed}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await; // brokers that register late
    }
}

fn is_there(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    code == rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists
}

/// A consumer that sees what its isolation allows; it commits nothing.
///
/// # Errors
/// librdkafka says no.
pub(crate) fn consumer(bootstrap: &str, isolation: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "hookgate-chaos").set("enable.auto.commit", "false");
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("auto.offset.reset", "error");
    config.set("check.crcs", "true").set("fetch.message.max.bytes", "4194304").set("queued.max.messages.kbytes", "16384");
    config.create().context("a consumer")
}

/// The end of every partition of `topics`, in their order.
///
/// # Errors
/// Kafka does not answer.
pub(crate) fn ends(consumer: &BaseConsumer, topics: &[String]) -> Result<Vec<i64>> {
    let partitions = topics.iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)));
    let end = |(topic, partition): (&String, i32)| {
        let (_, end) =
            consumer.fetch_watermarks(topic, partition, PATIENCE).with_context(|| format!("asking for the end of {topic} {partition}"))?;
        Ok(end)
    };
    partitions.map(end).collect()
}
