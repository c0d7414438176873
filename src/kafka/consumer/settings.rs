//! A cluster's settings and a downlink's → librdkafka's properties of a consumer.

use rdkafka::{ClientConfig, error::KafkaError as NativeError};

use super::{
    super::{KafkaError, settings},
    Wanted,
};
use crate::config::{Kafka, Placed};

/// Properties of `[kafka.properties]` that only a producer has.
const OF_PRODUCERS: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.level",
    "delivery.report.only.error",
    "enable.gapless.guarantee",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queuing.strategy",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
];

/// The properties of a member of a consumer group. What is committed, and when, is ours to say.
pub(super) fn consumer_config(kafka: &Kafka, servers: &str, wanted: &Wanted<'_>) -> Result<ClientConfig, KafkaError> {
    let mut config = settings::connection(kafka, servers);
    config
        .set("group.id", wanted.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        // Where a group begins is committed before it reads; this is for marks whose records are gone: what is left of them comes.
        .set("auto.offset.reset", "earliest")
        // A process that was killed holds its partitions no longer than this (librdkafka: 45 s).
        .set("session.timeout.ms", "10000")
        // What waits inside librdkafka, for each downlink (librdkafka: 64 MiB).
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.error.backoff.ms", "100")
        .set("statistics.interval.ms", "5000");
    if config.get("topic.metadata.refresh.interval.ms").is_none() {
        config.set("topic.metadata.refresh.interval.ms", "30000"); // topics that appear are found so soon (librdkafka: five minutes)
    }
    for (name, value) in kafka.properties.iter().filter(|(name, _)| !OF_PRODUCERS.contains(&name.as_str())) {
        config.set(name, &value.value);
    }
    for (name, Placed { value, .. }) in wanted.properties {
        config.set(name, value);
    }
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(error) => Err(explain(kafka, wanted, error)),
    }
}

/// librdkafka's complaint with the place of the setting that it is about.
fn explain(kafka: &Kafka, wanted: &Wanted<'_>, error: NativeError) -> KafkaError {
    let NativeError::ClientConfig(_, reason, complained, _) = &error else { return settings::explain(kafka, error) };
    match wanted.properties.iter().find(|(name, _)| name == complained) {
        Some((name, Placed { place, .. })) => {
            KafkaError::ConsumerProperty { place: place.clone(), name: name.clone(), reason: reason.clone() }
        }
        None => settings::explain(kafka, error),
    }
}
