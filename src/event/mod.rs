//! What travels down the line: an [`Event`] is one firing of a hook. Plain data, no I/O, no engine's types.
//!
//! Text and payloads are slices of the buffer they were read into ([`Text`], [`Bytes`]): cloning one copies a pointer.

mod access;
mod descent;
mod message;
mod origin;
mod peer;
mod receipt;
mod verdict;

use std::sync::Arc;

pub use bytes::Bytes;
/// UTF-8 text that is cheap to clone.
pub use bytestring::ByteString as Text;

pub use self::{
    access::{Action, Answer, Credentials, ExchangeVerdict, Round, Ruling, Step},
    descent::{Descent, DescentVerdict, Fetched, RecordHeader},
    message::{Header, Message, Properties, QoS},
    origin::{Knowledge, Origin},
    peer::Peer,
    receipt::{Outcome, Receipt, Refusal, Settlement, Settlements},
    verdict::{Changes, Denial, KafkaRecord, ObserveVerdict, PublishVerdict},
};
pub use crate::hook::DropReason;
use crate::hook::Hook;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The MQTT client identifier, also where the server assigned it.
    pub client_id: Text,
    /// The user name of CONNECT.
    pub username: Option<Text>,
    /// The device's own address.
    pub peer: Peer,
    /// 3 (MQTT 3.1), 4 (3.1.1) or 5.
    pub protocol_version: u8,
    /// Common name of a verified client certificate.
    pub certificate_name: Option<Text>,
    /// When CONNECT was read, milliseconds since the Unix epoch.
    pub connected_at_ms: u64,
}

/// One firing of a hook.
#[derive(Clone, Debug)]
pub struct Event {
    /// Unique on this node and increasing; the same on a retry.
    pub id: u64,
    /// When the host received it, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Whose life it is: the publisher for `message.publish`, the receiver for `message.delivered` and `message.acked`.
    pub client: Arc<Client>,
    /// What happened.
    pub detail: Detail,
}

/// What happened, with what each hook knows. The two hooks that ask for access (`client.authenticate`, `client.authorize`) have no case:
/// their guests are asked through an interface of its own, and nothing has happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// `client.connect`: what the client asks for.
    ClientConnect(Connection),
    /// `client.connack`: how its CONNECT was answered; the word is `success` when it is in.
    ClientConnack(Closing),
    /// `client.connected`: what it was granted.
    ClientConnected(Connection),
    /// `client.disconnected`
    ClientDisconnected(Closing),
    /// `client.authenticate`, decided.
    ClientAuthenticate(Ruling),
    /// `client.authorize`, decided.
    ClientAuthorize(Ruling),
    /// `client.subscribe`: the valid filters of one SUBSCRIBE, with the QoS that the client asks for.
    ClientSubscribe(Vec<Subscription>),
    /// `client.unsubscribe`: the valid filters of one UNSUBSCRIBE.
    ClientUnsubscribe(Vec<Text>),
    /// `session.created`
    SessionCreated,
    /// `session.subscribed`
    SessionSubscribed(Subscription),
    /// `session.unsubscribed`: the subscription as it was.
    SessionUnsubscribed(Subscription),
    /// `session.resumed`
    SessionResumed,
    /// `session.discarded`: a clean start threw it away.
    SessionDiscarded,
    /// `session.takenover`: it goes on with another connection.
    SessionTakenOver,
    /// `session.terminated`: it ended otherwise, and why.
    SessionTerminated(Closing),
    /// `message.publish`
    MessagePublish(Arc<Message>),
    /// `message.delivered`
    MessageDelivered(Delivery),
    /// `message.acked`
    MessageAcked(Delivery),
    /// `message.dropped`
    MessageDropped(Dropping),
}

impl Detail {
    /// The hook that this is a firing of.
    pub fn hook(&self) -> Hook {
        match self {
            Detail::ClientConnect(_) => Hook::ClientConnect,
            Detail::ClientConnack(_) => Hook::ClientConnack,
            Detail::ClientConnected(_) => Hook::ClientConnected,
            Detail::ClientDisconnected(_) => Hook::ClientDisconnected,
            Detail::ClientAuthenticate(_) => Hook::ClientAuthenticate,
            Detail::ClientAuthorize(_) => Hook::ClientAuthorize,
            Detail::ClientSubscribe(_) => Hook::ClientSubscribe,
            Detail::ClientUnsubscribe(_) => Hook::ClientUnsubscribe,
            Detail::SessionCreated => Hook::SessionCreated,
            Detail::SessionSubscribed(_) => Hook::SessionSubscribed,
            Detail::SessionUnsubscribed(_) => Hook::SessionUnsubscribed,
            Detail::SessionResumed => Hook::SessionResumed,
            Detail::SessionDiscarded => Hook::SessionDiscarded,
            Detail::SessionTakenOver => Hook::SessionTakenOver,
            Detail::SessionTerminated(_) => Hook::SessionTerminated,
            Detail::MessagePublish(_) => Hook::MessagePublish,
            Detail::MessageDelivered(_) => Hook::MessageDelivered,
            Detail::MessageAcked(_) => Hook::MessageAcked,
            Detail::MessageDropped(_) => Hook::MessageDropped,
        }
    }

    /// The MQTT topic or filter; of a packet with many filters, the first.
    pub fn topic(&self) -> Option<&Text> {
        match self {
            Detail::ClientAuthenticate(ruling) | Detail::ClientAuthorize(ruling) => ruling.asked.as_ref().map(|(_, topic)| topic),
            Detail::ClientSubscribe(subscriptions) => subscriptions.first().map(|subscription| &subscription.filter),
            Detail::ClientUnsubscribe(filters) => filters.first(),
            Detail::SessionSubscribed(subscription) | Detail::SessionUnsubscribed(subscription) => Some(&subscription.filter),
            _ => self.message().map(|message| &message.topic),
        }
    }

    /// Whether `wanted` says yes to its topic, or to any of its filters; events without topics are always wanted.
    pub fn any_topic(&self, wanted: impl Fn(&str) -> bool) -> bool {
        match self {
            Detail::ClientSubscribe(subscriptions) => subscriptions.iter().any(|subscription| wanted(&subscription.filter)),
            Detail::ClientUnsubscribe(filters) => filters.iter().any(|filter| wanted(filter)),
            _ => self.topic().is_none_or(|topic| wanted(topic)),
        }
    }

    /// The message, for the hooks that are about one.
    pub fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Detail::MessagePublish(message) => Some(message),
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => Some(&delivery.message),
            Detail::MessageDropped(dropping) => Some(&dropping.message),
            _ => None,
        }
    }
}

/// How a client came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Clean start (MQTT 5) or clean session (3.1.1).
    pub clean_start: bool,
    /// Seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Seconds; `u32::MAX` is for ever.
    pub session_expiry_s: u32,
    /// User properties of CONNECT.
    pub user_properties: Vec<Header>,
}

/// How a connection ended, a session ended, or a CONNECT was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// An MQTT 5 reason code, also for older protocols.
    pub reason_code: u8,
    /// A stable word: `normal`, `keepalive-timeout`, `taken-over`, `protocol-error`, `connection-lost`, `expired` …
    pub reason: Text,
}

/// One subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter as the client gave it.
    pub filter: Text,
    /// The granted QoS; on `client.subscribe` the one asked for.
    pub qos: QoS,
    /// MQTT 5: not to the client that published it.
    pub no_local: bool,
    /// MQTT 5: keep the retain flag as published.
    pub retain_as_published: bool,
}

/// A message on its way to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message as the guests left it, with the QoS of this delivery.
    pub message: Arc<Message>,
    /// The QoS of this delivery: the lower of the publisher's and the subscription's.
    pub qos: QoS,
}

/// Why a message ended without reaching anybody, or without reaching the client of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropping {
    /// The message as it was when it was dropped.
    pub message: Arc<Message>,
    /// Which kind of end.
    pub reason: DropReason,
    /// The particulars: a guest's own words, a limit's value. May be empty.
    pub explanation: Text,
}
