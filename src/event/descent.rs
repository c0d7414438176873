//! The way down: a record that came from Kafka, the messages that it becomes, and what a guest says about them.

use super::{Bytes, Message, Text};

/// A header as Kafka has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name; names may repeat.
    pub name: Text,
    /// Its value.
    pub value: Option<Bytes>,
}

/// A record that was fetched from Kafka. Topic, partition and offset name it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Kafka topic.
    pub topic: Text,
    /// Partition within the topic, from 0.
    pub partition: u32,
    /// Offset within the partition, from 0.
    pub offset: u64,
    /// The producer's or the broker's, as the topic has it, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<u64>,
    /// Record key.
    pub key: Option<Bytes>,
    /// Record value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<RecordHeader>,
}

/// A record on its way down, as a guest is asked about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Descent {
    /// The downlink's name.
    pub downlink: Text,
    /// Whom its messages come from: what they have for [`Message::publisher`].
    pub publisher: Text,
    /// When the host received the record, milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// The record.
    pub fetched: Fetched,
    /// What would be published now.
    pub messages: Vec<Message>,
}

/// What a guest says about a record on its way down.
#[derive(Clone, Debug, PartialEq)]
pub enum DescentVerdict {
    /// Publish what there is.
    Pass,
    /// Publish these instead, in order; none is allowed.
    Publish(Vec<Message>),
    /// Publish nothing.
    Drop(Text),
}

impl Fetched {
    /// The record's key as text, if it is text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_ref()?).ok()
    }

    /// About what it takes in memory, bytes.
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|header| header.name.len() + length(&header.value)).sum();
        length(&self.key) + length(&self.value) + headers
    }
}
