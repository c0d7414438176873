//! Hookgate's own shape: everything known about the event. Documented in `docs/envelope.md`, as a schema in `docs/schema/envelope-1.json`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;

use super::payload::Payload;
use crate::{
    config::PayloadEncoding,
    event::{Client, Detail, Header, Message, Ruling, Subscription},
    kafka::RecordId,
    pipeline::scope::Scope,
};

/// Version of the envelope's schema; raised when a field changes its meaning or goes away.
const ENVELOPE_VERSION: u32 = 1;

/// The envelope of an event.
#[derive(Serialize)]
pub(super) struct Envelope<'a> {
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

/// What an event without a message is about: its data as a CloudEvent.
#[derive(Serialize)]
pub(super) struct Life<'a> {
    client: ClientFields<'a>,
    #[serde(flatten)]
    particulars: Particulars<'a>,
}

impl<'a> Life<'a> {
    pub(super) fn new(scope: &Scope<'a>) -> Self {
        Life { client: ClientFields::new(&scope.event.client), particulars: Particulars::new(&scope.event.detail) }
    }
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
    payload: Payload<'a>,
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
pub(super) struct RulingFields<'a> {
    #[serde(flatten)]
    asked: Option<AskedFields<'a>>,
    pub(super) result: &'static str,
    by: &'a str,
    reason_code: u8,
    pub(super) reason: &'a str,
}

#[derive(Serialize)]
struct AskedFields<'a> {
    action: &'static str,
    topic: &'a str,
    qos: u8,
}

impl<'a> RulingFields<'a> {
    pub(super) fn new(ruling: &'a Ruling) -> Self {
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
    pub(super) fn new(scope: &Scope<'a>, payload: PayloadEncoding) -> Self {
        let event = scope.event;
        Envelope {
            v: ENVELOPE_VERSION,
            id: RecordId { event: event.id, part: 0 }.text().as_str().to_owned(),
            hook: event.detail.hook().name(),
            ts: event.time_ms,
            node: scope.node,
            client: ClientFields::new(&event.client),
            message: event.detail.message().map(|message| MessageFields::new(message, Payload::new(scope, payload))),
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
    fn new(message: &'a Message, payload: Payload<'a>) -> Self {
        let properties = message.properties.as_deref();
        MessageFields {
            publisher: &message.publisher,
            publisher_username: message.publisher_username.as_deref(),
            topic: &message.topic,
            payload_encoding: payload.encoding(),
            payload,
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
