//! What a record's value is: the JSON of EMQX's bridge, Hookgate's own envelope, or the payload itself.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    config::{Format, PayloadEncoding},
    event::{Bytes, Client, Detail, Event, Header, Message, Ruling, Subscription},
};

/// Version of the envelope's schema; raised when a field changes its meaning or goes away.
const ENVELOPE_VERSION: u32 = 1;

/// The value of the record that `event` becomes.
///
/// # Errors
/// serde_json's, which cannot happen for these types.
pub(super) fn value(event: &Event, node: &str, format: Format, payload: PayloadEncoding) -> Result<Bytes, serde_json::Error> {
    let json = match format {
        Format::Raw => return Ok(event.detail.message().map(|message| message.payload.clone()).unwrap_or_default()),
        Format::EmqxBridge => serde_json::to_vec(&EmqxBridge { event, node, payload })?,
        Format::Envelope => serde_json::to_vec(&Envelope::new(event, node, payload))?,
    };
    Ok(json.into())
}

fn payload_text(payload: &Bytes, encoding: PayloadEncoding) -> Cow<'_, str> {
    match encoding {
        PayloadEncoding::Base64 => BASE64_STANDARD.encode(payload).into(),
        PayloadEncoding::Plain => String::from_utf8_lossy(payload),
    }
}

/// EMQX Enterprise 3.4, Kafka bridge: flat, one shape per hook. The hooks that its bridge does not know are ours, in the same manner.
struct EmqxBridge<'a> {
    event: &'a Event,
    node: &'a str,
    payload: PayloadEncoding,
}

impl Serialize for EmqxBridge<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { client, detail, time_ms, .. } = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("client_id", &*client.client_id)?;
        if let Some(message) = detail.message() {
            map.serialize_entry("username", &client.username.as_deref())?;
            map.serialize_entry("topic", &*message.topic)?;
            map.serialize_entry("payload", &payload_text(&message.payload, self.payload))?;
        }
        match detail {
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => {
                map.serialize_entry("topic", &*subscription.filter)?;
                map.serialize_entry("qos", &subscription.qos.level())?;
            }
            Detail::MessagePublish(message) => map.serialize_entry("qos", &message.qos.level())?,
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => map.serialize_entry("qos", &delivery.qos.level())?,
            Detail::MessageDropped(dropping) => map.serialize_entry("qos", &dropping.message.qos.level())?,
            Detail::ClientAuthorize(Ruling { asked: Some((action, topic)), .. }) => {
                map.serialize_entry("topic", &**topic)?;
                map.serialize_entry("qos", &action.qos().level())?;
                map.serialize_entry("action", action.name())?;
            }
            Detail::ClientSubscribe(subscriptions) => {
                let topics: Vec<_> = subscriptions.iter().map(|of| Topic { topic: &of.filter, qos: Some(of.qos.level()) }).collect();
                map.serialize_entry("topics", &topics)?;
            }
            Detail::ClientUnsubscribe(filters) => {
                let topics: Vec<_> = filters.iter().map(|filter| Topic { topic: filter, qos: None }).collect();
                map.serialize_entry("topics", &topics)?;
            }
            _ => {}
        }
        map.serialize_entry("node", self.node)?;
        map.serialize_entry("ts", time_ms)?;
        match detail {
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => {
                let fields = RulingFields::new(ruling);
                map.serialize_entry("result", fields.result)?;
                map.serialize_entry("reason", fields.reason)?;
            }
            Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing) => {
                map.serialize_entry("reason", &*closing.reason)?;
            }
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => {
                map.serialize_entry("from", &*delivery.message.publisher)?;
            }
            Detail::MessageDropped(dropping) => {
                map.serialize_entry("from", &*dropping.message.publisher)?;
                map.serialize_entry("reason", dropping.reason.name())?;
                map.serialize_entry("explanation", &*dropping.explanation)?;
            }
            _ => {}
        }
        map.end()
    }
}

/// One filter of a SUBSCRIBE or UNSUBSCRIBE.
#[derive(Serialize)]
struct Topic<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
}

/// Hookgate's own shape: everything known about the event. Documented in `docs/envelope.md`.
#[derive(Serialize)]
struct Envelope<'a> {
    v: u32,
    id: String,
    hook: &'static str,
    ts: u64,
    node: &'a str,
    client: ClientFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageFields<'a>>,
    #[serde(flatten)]
    particulars: Particulars<'a>,
}

#[derive(Serialize)]
struct ClientFields<'a> {
    client_id: &'a str,
    username: Option<&'a str>,
    peer: &'a str,
    protocol_version: u8,
    certificate_name: Option<&'a str>,
    connected_at: u64,
}

#[derive(Serialize)]
struct MessageFields<'a> {
    publisher: &'a str,
    publisher_username: Option<&'a str>,
    topic: &'a str,
    payload: Cow<'a, str>,
    payload_encoding: &'static str,
    qos: u8,
    retain: bool,
    received_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<[&'a str; 2]>,
}

/// What one hook knows beyond client and message.
#[derive(Serialize)]
#[serde(untagged)]
enum Particulars<'a> {
    Connection { clean_start: bool, keep_alive_s: u16, session_expiry_s: u32, user_properties: Vec<[&'a str; 2]> },
    Closing { reason_code: u8, reason: &'a str },
    Ruling(RulingFields<'a>),
    Subscription(SubscriptionFields<'a>),
    Subscriptions { subscriptions: Vec<SubscriptionFields<'a>> },
    Filters { filters: Vec<&'a str> },
    Nothing {},
    Delivery { delivery_qos: u8 },
    Dropping { reason: &'a str, explanation: &'a str },
}

#[derive(Serialize)]
struct RulingFields<'a> {
    #[serde(flatten)]
    asked: Option<AskedFields<'a>>,
    result: &'static str,
    by: &'a str,
    reason_code: u8,
    reason: &'a str,
}

#[derive(Serialize)]
struct AskedFields<'a> {
    action: &'static str,
    topic: &'a str,
    qos: u8,
}

impl<'a> RulingFields<'a> {
    fn new(ruling: &'a Ruling) -> Self {
        let Ruling { asked, denial, by } = ruling;
        RulingFields {
            asked: asked.as_ref().map(|(action, topic)| AskedFields { action: action.name(), topic, qos: action.qos().level() }),
            result: if denial.is_some() { "deny" } else { "allow" },
            by,
            reason_code: denial.as_ref().map_or(0, |denial| denial.reason_code),
            reason: denial.as_ref().map_or("", |denial| &denial.reason),
        }
    }
}

#[derive(Serialize)]
struct SubscriptionFields<'a> {
    filter: &'a str,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
}

impl<'a> Envelope<'a> {
    fn new(event: &'a Event, node: &'a str, payload: PayloadEncoding) -> Self {
        Envelope {
            v: ENVELOPE_VERSION,
            id: format!("{:016x}", event.id),
            hook: event.detail.hook().name(),
            ts: event.time_ms,
            node,
            client: ClientFields::new(&event.client),
            message: event.detail.message().map(|message| MessageFields::new(message, payload)),
            particulars: Particulars::new(&event.detail),
        }
    }
}

impl<'a> ClientFields<'a> {
    fn new(client: &'a Client) -> Self {
        ClientFields {
            client_id: &client.client_id,
            username: client.username.as_deref(),
            peer: client.peer.as_str(),
            protocol_version: client.protocol_version,
            certificate_name: client.certificate_name.as_deref(),
            connected_at: client.connected_at_ms,
        }
    }
}

impl<'a> MessageFields<'a> {
    fn new(message: &'a Message, encoding: PayloadEncoding) -> Self {
        let properties = message.properties.as_deref();
        MessageFields {
            publisher: &message.publisher,
            publisher_username: message.publisher_username.as_deref(),
            topic: &message.topic,
            payload: payload_text(&message.payload, encoding),
            payload_encoding: match encoding {
                PayloadEncoding::Base64 => "base64",
                PayloadEncoding::Plain => "plain",
            },
            qos: message.qos.level(),
            retain: message.retain,
            received_at: message.received_at_ms,
            expiry_s: properties.and_then(|properties| properties.expiry_s),
            content_type: properties.and_then(|properties| properties.content_type.as_deref()),
            response_topic: properties.and_then(|properties| properties.response_topic.as_deref()),
            correlation_data: properties
                .and_then(|properties| properties.correlation_data.as_ref())
                .map(|data| BASE64_STANDARD.encode(data)),
            user_properties: pairs(properties.map_or(&[], |properties| &properties.user_properties)),
        }
    }
}

impl<'a> Particulars<'a> {
    fn new(detail: &'a Detail) -> Self {
        match detail {
            Detail::ClientConnect(connection) | Detail::ClientConnected(connection) => Particulars::Connection {
                clean_start: connection.clean_start,
                keep_alive_s: connection.keep_alive_s,
                session_expiry_s: connection.session_expiry_s,
                user_properties: pairs(&connection.user_properties),
            },
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => Particulars::Ruling(RulingFields::new(ruling)),
            Detail::ClientConnack(closing) | Detail::ClientDisconnected(closing) | Detail::SessionTerminated(closing) => {
                Particulars::Closing { reason_code: closing.reason_code, reason: &closing.reason }
            }
            Detail::ClientSubscribe(subscriptions) => {
                Particulars::Subscriptions { subscriptions: subscriptions.iter().map(SubscriptionFields::new).collect() }
            }
            Detail::ClientUnsubscribe(filters) => Particulars::Filters { filters: filters.iter().map(|filter| &**filter).collect() },
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => {
                Particulars::Subscription(SubscriptionFields::new(subscription))
            }
            Detail::SessionCreated
            | Detail::SessionResumed
            | Detail::SessionDiscarded
            | Detail::SessionTakenOver
            | Detail::MessagePublish(_) => Particulars::Nothing {},
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => {
                Particulars::Delivery { delivery_qos: delivery.qos.level() }
            }
            Detail::MessageDropped(dropping) => {
                Particulars::Dropping { reason: dropping.reason.name(), explanation: &dropping.explanation }
            }
        }
    }
}

impl<'a> SubscriptionFields<'a> {
    fn new(of: &'a Subscription) -> Self {
        SubscriptionFields { filter: &of.filter, qos: of.qos.level(), no_local: of.no_local, retain_as_published: of.retain_as_published }
    }
}

fn pairs(headers: &[Header]) -> Vec<[&str; 2]> {
    headers.iter().map(|header| [&*header.name, &*header.value]).collect()
}

#[cfg(test)]
mod tests;
