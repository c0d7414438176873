//! An MQTT message, whichever protocol version brought it.

use super::{Bytes, Text};

/// MQTT's promise about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    /// QoS 0
    AtMostOnce = 0,
    /// QoS 1
    AtLeastOnce = 1,
    /// QoS 2
    ExactlyOnce = 2,
}

impl QoS {
    /// 0, 1 or 2, as on the wire.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

/// An MQTT 5 user property, or a Kafka record header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name; names may repeat.
    pub name: Text,
    /// Its value.
    pub value: Text,
}

/// A message as subscribers, the retained store, later guests and Kafka see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Client id of the publisher; for a will, of the client that left it.
    pub publisher: Text,
    /// User name of the publisher.
    pub publisher_username: Option<Text>,
    /// The topic name.
    pub topic: Text,
    /// The application's bytes.
    pub payload: Bytes,
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When the host received it, milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// MQTT 5 properties; all absent for older protocols.
    pub properties: Option<Box<Properties>>,
    /// Kafka headers that guests gave it on `message.publish`; records of its later life (delivered, acked, dropped) carry them too.
    pub annotations: Vec<Header>,
}

impl Message {
    /// Whether the server itself made it: a figure under `$SYS/`. No hook is raised for such a message.
    pub fn is_the_servers(&self) -> bool {
        self.publisher.is_empty() // no client's identifier is: the server assigns one
    }
}

/// The MQTT 5 properties of PUBLISH that belong to the message rather than to one transmission of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Message expiry interval in seconds, as published.
    pub expiry_s: Option<u32>,
    /// Payload format indicator: true when the publisher promises UTF-8.
    pub payload_is_utf8: Option<bool>,
    /// Content type.
    pub content_type: Option<Text>,
    /// Response topic.
    pub response_topic: Option<Text>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties, in order.
    pub user_properties: Vec<Header>,
}
