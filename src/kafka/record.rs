//! What is handed to Kafka.

use rdkafka::message::{Header as NativeHeader, OwnedHeaders};

use crate::event::{Bytes, Header, Text};

/// A Kafka record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kafka topic.
    pub topic: Text,
    /// Decides the partition, and so with whom it keeps its order; without one, any partition.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since the Unix epoch. Kafka forgets a producer whose newest record is older than `producer.id.expiration.ms` (a day)
    /// when it restarts, and with it which batches it has: much older times than the present cost the protection against repetitions.
    pub timestamp_ms: u64,
}

impl Record {
    /// What it counts for in `max_outstanding_bytes`: key, value and headers.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers
    }

    /// The headers as librdkafka wants them; none costs nothing.
    pub(super) fn native_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        let all = self
            .headers
            .iter()
            .fold(empty, |headers, header| headers.insert(NativeHeader { key: header.name.as_ref(), value: Some(&*header.value) }));
        Some(all)
    }
}
