//! librdkafka's mock cluster: a Kafka inside this process, on a loopback port, for demos, tests and first steps.
//!
//! It speaks the real protocol, so any Kafka tool can read from it. Nothing is kept on disk, and of each partition only the newest
//! 100 000 records or 5 MiB. Topics that nobody configured come into being when they are first used, with four partitions.

use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    mocking::MockCluster,
    producer::{BaseProducer, DefaultProducerContext, Producer as _},
};

use super::KafkaError;
use crate::event::Text;

/// A running mock cluster of one broker; dropping it ends it, with everything in it.
pub(super) struct Embedded {
    /// librdkafka ties a cluster to a client; this one does nothing else.
    owner: BaseProducer,
    /// `host:port`
    pub(super) address: String,
}

impl Embedded {
    /// Starts a cluster with these topics.
    pub(super) fn start(topics: &[Text], partitions: u32) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1").set_log_level(RDKafkaLogLevel::Emerg);
        let owner: BaseProducer = config.create().map_err(|error| KafkaError::Embedded(error.to_string()))?;
        let mut embedded = Embedded { owner, address: String::new() };
        let address = embedded.cluster()?.bootstrap_servers();
        embedded.address = address;
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        for topic in topics {
            let created = embedded.cluster()?.create_topic(topic, partitions, 1);
            created.map_err(|error| KafkaError::Embedded(format!("topic {topic}: {error}")))?;
        }
        Ok(embedded)
    }

    /// The cluster itself.
    pub(super) fn cluster(&self) -> Result<MockCluster<'_, DefaultProducerContext>, KafkaError> {
        self.owner.client().mock_cluster().ok_or_else(|| KafkaError::Embedded("librdkafka was built without it".to_owned()))
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("address", &self.address).finish_non_exhaustive()
    }
}
