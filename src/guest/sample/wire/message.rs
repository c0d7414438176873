//! Messages in a line: the fields of the envelope's `message`, its payload as text where it is UTF-8.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::event::PROTOCOL_VERSION;
use crate::event::{Bytes, Client, Header, Message, Properties, QoS, Text};

/// `message`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher_username: Option<String>,
    topic: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    payload_encoding: Encoding,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Plain,
    Base64,
}

impl MessageLine {
    pub(super) fn new(message: &Message) -> Self {
        let (payload, payload_encoding) = match std::str::from_utf8(&message.payload) {
            Ok(text) => (text.to_owned(), Encoding::Plain),
            Err(_) => (encode(&message.payload), Encoding::Base64),
        };
        let properties = message.properties.clone().unwrap_or_default();
        MessageLine {
            publisher: Some(message.publisher.to_string()),
            publisher_username: owned(message.publisher_username.as_ref()),
            topic: message.topic.to_string(),
            payload,
            payload_encoding,
            qos: message.qos.level(),
            retain: message.retain,
            received_at: Some(message.received_at_ms),
            expiry_s: properties.expiry_s,
            content_type: owned(properties.content_type.as_ref()),
            response_topic: owned(properties.response_topic.as_ref()),
            correlation_data: properties.correlation_data.map(|data| encode(&data)),
            user_properties: pairs(&properties.user_properties),
        }
    }

    pub(super) fn message(self, client: &Client, time_ms: u64) -> Result<Message, String> {
        let payload = match self.payload_encoding {
            Encoding::Plain => self.payload.into(),
            Encoding::Base64 => decode(&self.payload).map_err(|error| format!("`message.payload`: {error}"))?,
        };
        let correlation_data = self.correlation_data.map(|text| decode(&text)).transpose();
        let properties = Properties {
            expiry_s: self.expiry_s,
            payload_is_utf8: None,
            content_type: self.content_type.map(Text::from),
            response_topic: self.response_topic.map(Text::from),
            correlation_data: correlation_data.map_err(|error| format!("`message.correlation_data`: {error}"))?,
            user_properties: headers(self.user_properties),
        };
        Ok(Message {
            publisher: self.publisher.map_or_else(|| client.client_id.clone(), Text::from),
            publisher_username: self.publisher_username.map(Text::from),
            topic: self.topic.into(),
            payload,
            qos: qos(self.qos)?,
            retain: self.retain,
            received_at_ms: self.received_at.unwrap_or(time_ms),
            properties: (properties != Properties::default()).then(|| Box::new(properties)),
            annotations: Vec::new(),
        })
    }
}

/// A message as a guest made it, over the one that it was given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ChangedMessage(MessageLine);

impl ChangedMessage {
    pub(super) fn new(message: &Message) -> Self {
        ChangedMessage(MessageLine { publisher: None, publisher_username: None, received_at: None, ..MessageLine::new(message) })
    }

    /// What is the host's own about the original stays as it was.
    pub(super) fn over(self, original: &Message) -> Result<Message, String> {
        let nobody = Client {
            client_id: original.publisher.clone(),
            username: None,
            peer: ([0, 0, 0, 0], 0).into(),
            protocol_version: PROTOCOL_VERSION,
            certificate_name: None,
            connected_at_ms: 0,
        };
        let message = self.0.message(&nobody, original.received_at_ms)?;
        Ok(Message { publisher_username: original.publisher_username.clone(), annotations: original.annotations.clone(), ..message })
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Result<Bytes, String> {
    BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("this is no base64: {error}"))
}

pub(super) fn qos(level: u8) -> Result<QoS, String> {
    match level {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        other => Err(format!("a QoS is {other}: give 0, 1 or 2")),
    }
}

pub(super) fn pairs(headers: &[Header]) -> Vec<(String, String)> {
    headers.iter().map(|header| (header.name.to_string(), header.value.to_string())).collect()
}

pub(super) fn headers(pairs: Vec<(String, String)>) -> Vec<Header> {
    pairs.into_iter().map(|(name, value)| Header { name: name.into(), value: value.into() }).collect()
}

pub(super) fn owned(text: Option<&Text>) -> Option<String> {
    text.map(ToString::to_string)
}
