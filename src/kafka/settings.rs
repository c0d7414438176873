//! `[kafka]` → librdkafka's properties.

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError as NativeError};

use super::KafkaError;
use crate::config::{Kafka, Place};

/// Properties that would turn the producer into something else, and why.
const REFUSED: &[(&str, &str)] = &[
    ("transactional.id", "Hookgate's producer is not transactional; records are idempotent with acks = \"all\""),
    ("test.mock.num.brokers", "write bootstrap_servers = \"embedded\""),
    ("log.queue", "Hookgate reads the log itself"),
];

/// librdkafka's default.
const DEFAULT_BATCH_BYTES: usize = 1_000_000;

/// What every client of a cluster says: where it is, and who Hookgate is. `servers` are those of the embedded cluster, if it is that.
pub(super) fn connection(_kafka: &Kafka, servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("client.id", "hookgate")
        // A Kafka that comes back is found within a second (librdkafka: ten).
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1000")
        // Lost and found are logged once, by the keeper.
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    config
}

/// The properties of the producer for the cluster at `servers`.
pub(super) fn client_config(kafka: &Kafka, servers: &str) -> Result<ClientConfig, KafkaError> {
    let idempotent = kafka.acks == "all";
    let mut config = connection(kafka, servers);
    config
        .set("acks", &kafka.acks)
        .set("enable.idempotence", idempotent.to_string())
        .set("compression.type", &kafka.compression)
        .set("linger.ms", kafka.linger_ms.to_string())
        .set("message.timeout.ms", kafka.delivery_timeout_ms.to_string())
        // Our own bounds count; librdkafka's give room back only after a whole batch of reports.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        .set("partitioner", "murmur2_random");
    if !idempotent {
        config.set("max.in.flight.requests.per.connection", "1"); // else a retry overtakes
    }
    for (name, value) in &kafka.properties {
        let refused = REFUSED.iter().find(|(refused, _)| refused == name);
        if let Some((_, reason)) = refused {
            return Err(KafkaError::Property { place: value.place.clone(), name: name.clone(), reason: (*reason).to_owned() });
        }
        config.set(name, &value.value);
    }
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(error) => Err(explain(kafka, error)),
    }
}

/// Keeps batches below what every topic takes; true when that changed something.
pub(super) fn limit_batches(config: &mut ClientConfig, kafka: &Kafka, lowest: usize) -> bool {
    let set = kafka.properties.iter().find(|(name, _)| name == "batch.size");
    let batch = set.and_then(|(_, value)| value.value.parse().ok()).unwrap_or(DEFAULT_BATCH_BYTES);
    if lowest < batch {
        config.set("batch.size", lowest.to_string());
    }
    lowest < batch
}

/// librdkafka's complaint with the place of the setting that it is about.
pub(super) fn explain(kafka: &Kafka, error: NativeError) -> KafkaError {
    let settings = |reason: String| KafkaError::Settings { place: kafka.place.place.clone(), reason };
    match error {
        NativeError::ClientConfig(_, reason, name, _) => match place_of(kafka, &name) {
            Some(place) => KafkaError::Property { place, name, reason },
            None => settings(format!("{name}: {reason}")),
        },
        NativeError::ClientCreation(reason) => settings(reason),
        other => settings(other.to_string()),
    }
}

fn place_of(kafka: &Kafka, name: &str) -> Option<Place> {
    kafka.properties.iter().find(|(property, _)| property == name).map(|(_, value)| value.place.clone())
}
