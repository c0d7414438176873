//! What templates and formats see of one event.
//!
//! Fields have the names and the meaning that they have in the envelope. A payload is read as JSON at most once for each event, and only
//! when a template or a format asks for it. Absent: the route's name, which is filled in when the route is made.

use std::{borrow::Cow, fmt::Write as _, sync::OnceLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::value::RawValue;

use super::json;
use crate::{
    config::{Field, Part},
    event::{Detail, Event, Header, Message, Ruling, Text},
    kafka::RecordId,
};

/// An event as templates and formats see it.
pub(super) struct Scope<'a> {
    pub(super) event: &'a Event,
    /// This node's name.
    pub(super) node: &'a Text,
    raw: OnceLock<Option<&'a RawValue>>,
    parsed: OnceLock<Option<serde_json::Value>>,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Not in this event.
    Missing,
    /// Cheap to keep.
    Text(&'a Text),
    /// To be copied.
    Words(Cow<'a, str>),
    /// In decimal digits.
    Number(u64),
}

impl<'a> Value<'a> {
    fn text(text: Option<&'a Text>) -> Self {
        text.map_or(Value::Missing, Value::Text)
    }

    fn word(word: Option<&'a str>) -> Self {
        word.map_or(Value::Missing, |word| Value::Words(word.into()))
    }

    fn number(number: Option<u64>) -> Self {
        number.map_or(Value::Missing, Value::Number)
    }

    fn flag(flag: Option<bool>) -> Self {
        Value::word(flag.map(|flag| if flag { "true" } else { "false" }))
    }

    fn append(&self, to: &mut String) {
        match self {
            Value::Missing => {}
            Value::Text(text) => to.push_str(text),
            Value::Words(words) => to.push_str(words),
            // Writing to a String cannot fail.
            Value::Number(number) => drop(write!(to, "{number}")),
        }
    }

    /// As a text of its own; what is missing is empty.
    pub(super) fn into_text(self) -> Text {
        match self {
            Value::Missing => Text::new(),
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.into_owned().into(),
            Value::Number(number) => number.to_string().into(),
        }
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(event: &'a Event, node: &'a Text) -> Self {
        Scope { event, node, raw: OnceLock::new(), parsed: OnceLock::new() }
    }

    /// Fills a template in. A text of the event that stands alone is not copied.
    pub(super) fn fill(&self, parts: &[Part]) -> Text {
        if let [Part::Field { field, default }] = parts {
            let value = self.value(field);
            match (&value, default) {
                (Value::Text(text), _) if !text.is_empty() => return Text::clone(text),
                (_, None) => return value.into_text(),
                _ => {}
            }
        }
        let mut all = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => all.push_str(text),
                Part::Field { field, default } => {
                    let before = all.len();
                    self.value(field).append(&mut all);
                    if let (true, Some(default)) = (all.len() == before, default) {
                        all.push_str(default);
                    }
                }
            }
        }
        all.into()
    }

    /// A field of the event.
    pub(super) fn value(&self, field: &Field) -> Value<'_> {
        let (client, detail) = (&self.event.client, &self.event.detail);
        match field {
            Field::ClientId => Value::Text(&client.client_id),
            Field::Username => Value::text(client.username.as_ref()),
            Field::Peer => Value::word(Some(client.peer.as_str())),
            Field::PeerIp => Value::Words(client.peer.ip().to_string().into()),
            Field::ProtocolVersion => Value::Number(client.protocol_version.into()),
            Field::CertificateName => Value::text(client.certificate_name.as_ref()),
            Field::ConnectedAt => Value::Number(client.connected_at_ms),
            Field::EventId => Value::Words(RecordId { event: self.event.id, part: 0 }.text().as_str().to_owned().into()),
            Field::Ts => Value::Number(self.event.time_ms),
            Field::Hook => Value::word(Some(detail.hook().name())),
            Field::Node => Value::Text(self.node),
            Field::Route => Value::Missing, // a literal by now
            Field::Topic => Value::text(detail.topic()),
            Field::TopicLevel(level) => Value::word(detail.topic().and_then(|topic| level_of(topic, *level))),
            Field::UserProperty(name) => {
                Value::text(user_properties(detail).iter().find(|header| *header.name == **name).map(|header| &header.value))
            }
            Field::PayloadMember(path) => self.member(path),
            Field::Qos => Value::number(qos(detail)),
            field => match detail.message() {
                Some(message) => of_message(field, message, detail),
                None => of_life(field, detail),
            },
        }
    }

    /// The payload; empty without a message.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.event.detail.message().map_or(&[], |message| &message.payload)
    }

    /// The payload as it is, when it is JSON that consumers can be expected to read.
    pub(super) fn payload_json(&self) -> Option<&'a RawValue> {
        *self.raw.get_or_init(|| json::read(self.payload()))
    }

    fn member(&self, path: &[String]) -> Value<'_> {
        let parsed = self.parsed.get_or_init(|| serde_json::from_slice(self.payload()).ok());
        let found = path.iter().try_fold(parsed.as_ref(), |value, name| match value {
            Some(serde_json::Value::Object(members)) => members.get(name).map(Some),
            Some(serde_json::Value::Array(items)) => items.get(name.parse::<usize>().ok()?).map(Some),
            _ => None,
        });
        match found.flatten() {
            None | Some(serde_json::Value::Null) => Value::Missing,
            Some(serde_json::Value::String(text)) => Value::word(Some(text)),
            Some(other) => Value::Words(other.to_string().into()),
        }
    }
}

/// A level of a topic: from 1, from the end with a minus sign.
fn level_of(topic: &str, level: i16) -> Option<&str> {
    let before = usize::from(level.unsigned_abs()).checked_sub(1)?;
    if level > 0 { topic.split('/').nth(before) } else { topic.rsplit('/').nth(before) }
}

fn user_properties(detail: &Detail) -> &[Header] {
    match detail {
        Detail::ClientConnect(connection) | Detail::ClientConnected(connection) => &connection.user_properties,
        _ => detail.message().and_then(|message| message.properties.as_deref()).map_or(&[], |properties| &properties.user_properties),
    }
}

fn qos(detail: &Detail) -> Option<u64> {
    let qos = match detail {
        Detail::ClientSubscribe(subscriptions) => subscriptions.first()?.qos,
        Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => subscription.qos,
        Detail::ClientAuthorize(Ruling { asked: Some((action, _)), .. }) => action.qos(),
        _ => detail.message()?.qos,
    };
    Some(qos.level().into())
}

/// A field that only messages have.
fn of_message<'a>(field: &Field, message: &'a Message, detail: &'a Detail) -> Value<'a> {
    let properties = message.properties.as_deref();
    match (field, detail) {
        (Field::Publisher, _) => Value::Text(&message.publisher),
        (Field::PublisherUsername, _) => Value::text(message.publisher_username.as_ref()),
        (Field::Payload, _) => Value::Words(String::from_utf8_lossy(&message.payload)),
        (Field::Retain, _) => Value::flag(Some(message.retain)),
        (Field::ReceivedAt, _) => Value::Number(message.received_at_ms),
        (Field::ExpiryS, _) => Value::number(properties.and_then(|properties| properties.expiry_s).map(u64::from)),
        (Field::ContentType, _) => Value::text(properties.and_then(|properties| properties.content_type.as_ref())),
        (Field::ResponseTopic, _) => Value::text(properties.and_then(|properties| properties.response_topic.as_ref())),
        (Field::CorrelationData, _) => match properties.and_then(|properties| properties.correlation_data.as_ref()) {
            Some(data) => Value::Words(BASE64_STANDARD.encode(data).into()),
            None => Value::Missing,
        },
        (Field::DeliveryQos, Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery)) => {
            Value::Number(delivery.qos.level().into())
        }
        (Field::Reason, Detail::MessageDropped(dropping)) => Value::word(Some(dropping.reason.name())),
        (Field::Explanation, Detail::MessageDropped(dropping)) => Value::Text(&dropping.explanation),
        _ => Value::Missing,
    }
}

/// A field that only the hooks of clients and sessions have.
fn of_life<'a>(field: &Field, detail: &'a Detail) -> Value<'a> {
    match (field, detail) {
        (Field::Reason, Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing)) => {
            Value::Text(&closing.reason)
        }
        (Field::ReasonCode, Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing)) => {
            Value::Number(closing.reason_code.into())
        }
        (_, Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling)) => {
            let denial = ruling.denial.as_ref();
            match field {
                Field::Reason => Value::text(denial.map(|denial| &denial.reason)),
                Field::ReasonCode => Value::Number(denial.map_or(0, |denial| denial.reason_code).into()),
                Field::Result => Value::word(Some(if denial.is_some() { "deny" } else { "allow" })),
                Field::By => Value::Text(&ruling.by),
                Field::Action => Value::word(ruling.asked.as_ref().map(|(action, _)| action.name())),
                _ => Value::Missing,
            }
        }
        (_, Detail::ClientConnect(connection) | Detail::ClientConnected(connection)) => match field {
            Field::CleanStart => Value::flag(Some(connection.clean_start)),
            Field::KeepAliveS => Value::Number(connection.keep_alive_s.into()),
            Field::SessionExpiryS => Value::Number(connection.session_expiry_s.into()),
            _ => Value::Missing,
        },
        _ => Value::Missing,
    }
}

#[cfg(test)]
mod tests;
