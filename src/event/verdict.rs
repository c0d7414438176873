//! What guests answer, whichever language they speak.

use super::{Bytes, Header, Message, Text};

/// A Kafka record that a guest asks for; `None` keeps what the route says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaRecord {
    /// Kafka topic.
    pub topic: Option<Text>,
    /// Record key.
    pub key: Option<Bytes>,
    /// Record value.
    pub value: Option<Bytes>,
    /// Added to the route's headers.
    pub headers: Vec<Header>,
}

/// A refusal, as the client and the audit record see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// MQTT 5 reason code, 0x80 and above.
    pub reason_code: u8,
    /// For the client (reason string), the audit record and the log.
    pub reason: Text,
}

/// What a guest changed about a publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The message from here on.
    pub message: Option<Message>,
    /// Annotations: headers for the Kafka records of this message.
    pub headers: Vec<Header>,
    /// These records instead of the one that the route would make.
    pub records: Option<Vec<KafkaRecord>>,
}

/// The answer on `message.publish`.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishVerdict {
    /// Unchanged.
    Pass,
    /// Changed.
    Change(Changes),
    /// Swallowed: acknowledged, but neither routed nor produced.
    Drop(Text),
    /// Refused: the client is told.
    Deny(Denial),
}

/// The answer on a hook that observes: it shapes the record, the broker goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObserveVerdict {
    /// The record that the route makes.
    Pass,
    /// The same, with more headers.
    Annotate(Vec<Header>),
    /// These records instead; none is allowed.
    Emit(Vec<KafkaRecord>),
    /// Nothing to Kafka.
    Drop(Text),
}
