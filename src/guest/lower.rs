//! Events as guests see them: the WIT types, borrowing from the event.

use super::bindings::{
    exported::{
        access::{self, Credentials},
        downlink::{Fetched, RecordHeader},
        enhanced_access::Exchange,
        events::{self as wit, Closing, Connection, Delivery, Dropping, Subscription},
    },
    imported::types::{Client, HeaderParam, MessageParam, Qos},
};
use crate::event::{self, Action, Detail, Header, Message, QoS};

pub(super) fn qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// The address as text, for [`client`].
pub(super) fn peer(client: &event::Client) -> &str {
    client.peer.as_str()
}

pub(super) fn client<'a>(client: &'a event::Client, peer: &'a str) -> Client<'a> {
    Client {
        client_id: &client.client_id,
        username: client.username.as_deref(),
        peer,
        protocol_version: client.protocol_version,
        certificate_name: client.certificate_name.as_deref(),
        connected_at_ms: client.connected_at_ms,
    }
}

pub(super) fn credentials(credentials: &event::Credentials) -> Credentials<'_> {
    Credentials { method: credentials.method.as_deref(), password: credentials.password.as_deref() }
}

pub(super) fn round(round: event::Round<'_>) -> Exchange<'_> {
    Exchange { method: round.method, data: round.data, round: round.number, memo: round.memo, again: round.again }
}

pub(super) fn action(action: Action) -> access::Action {
    match action {
        Action::Publish(as_qos) => access::Action::Publish(qos(as_qos)),
        Action::Subscribe(as_qos) => access::Action::Subscribe(qos(as_qos)),
    }
}

/// The headers that [`fetched`] wants as a list.
pub(super) fn record_headers(fetched: &event::Fetched) -> Vec<RecordHeader<'_>> {
    fetched.headers.iter().map(|header| RecordHeader { name: &header.name, value: header.value.as_deref() }).collect()
}

pub(super) fn fetched<'a>(fetched: &'a event::Fetched, headers: &'a [RecordHeader<'a>]) -> Fetched<'a> {
    Fetched {
        topic: &fetched.topic,
        partition: fetched.partition,
        offset: fetched.offset,
        timestamp_ms: fetched.timestamp_ms,
        key: fetched.key.as_deref(),
        value: fetched.value.as_deref(),
        headers,
    }
}

/// The user properties that [`messages`] wants as lists.
pub(super) fn all_user_properties(messages: &[Message]) -> Vec<Vec<HeaderParam<'_>>> {
    messages.iter().map(user_properties).collect()
}

pub(super) fn messages<'a>(messages: &'a [Message], user_properties: &'a [Vec<HeaderParam<'a>>]) -> Vec<MessageParam<'a>> {
    messages.iter().zip(user_properties).map(|(one, properties)| message(one, one.qos, properties)).collect()
}

/// The lists that [`detail`] borrows.
#[derive(Default)]
pub(super) struct Lists<'a> {
    user_properties: Vec<HeaderParam<'a>>,
    subscriptions: Vec<Subscription<'a>>,
    filters: Vec<&'a str>,
}

impl<'a> Lists<'a> {
    /// Those of one event.
    pub(super) fn of(detail: &'a Detail) -> Self {
        let mut lists = Lists::default();
        match detail {
            Detail::ClientConnect(connection) | Detail::ClientConnected(connection) => {
                lists.user_properties = headers(&connection.user_properties);
            }
            Detail::ClientSubscribe(subscriptions) => lists.subscriptions = subscriptions.iter().map(subscription).collect(),
            Detail::ClientUnsubscribe(filters) => lists.filters = filters.iter().map(|filter| &**filter).collect(),
            _ => lists.user_properties = detail.message().map_or_else(Vec::new, |message| user_properties(message)),
        }
        lists
    }
}

/// The user properties that [`message`] wants as a list.
pub(super) fn user_properties(message: &Message) -> Vec<HeaderParam<'_>> {
    message.properties.as_ref().map_or_else(Vec::new, |properties| headers(&properties.user_properties))
}

fn headers(headers: &[Header]) -> Vec<HeaderParam<'_>> {
    headers.iter().map(|header| HeaderParam { name: &header.name, value: &header.value }).collect()
}

pub(super) fn message<'a>(message: &'a Message, as_qos: QoS, user_properties: &'a [HeaderParam<'a>]) -> MessageParam<'a> {
    let properties = message.properties.as_deref();
    MessageParam {
        topic: &message.topic,
        payload: &message.payload,
        qos: qos(as_qos),
        retain: message.retain,
        expiry_s: properties.and_then(|properties| properties.expiry_s),
        content_type: properties.and_then(|properties| properties.content_type.as_deref()),
        response_topic: properties.and_then(|properties| properties.response_topic.as_deref()),
        correlation_data: properties.and_then(|properties| properties.correlation_data.as_deref()),
        user_properties,
    }
}

/// The case of `events.detail`; `None` for the hooks that decide.
pub(super) fn detail<'a>(detail: &'a Detail, lists: &'a Lists<'a>) -> Option<wit::Detail<'a>> {
    let user_properties = lists.user_properties.as_slice();
    Some(match detail {
        // Asked through interfaces of their own.
        Detail::MessagePublish(_) | Detail::ClientAuthenticate(_) | Detail::ClientAuthorize(_) => return None,
        Detail::ClientConnect(of) => wit::Detail::ClientConnect(connection(of, user_properties)),
        Detail::ClientConnack(of) => wit::Detail::ClientConnack(closing(of)),
        Detail::ClientConnected(of) => wit::Detail::ClientConnected(connection(of, user_properties)),
        Detail::ClientDisconnected(of) => wit::Detail::ClientDisconnected(closing(of)),
        Detail::ClientSubscribe(_) => wit::Detail::ClientSubscribe(&lists.subscriptions),
        Detail::ClientUnsubscribe(_) => wit::Detail::ClientUnsubscribe(&lists.filters),
        Detail::SessionCreated => wit::Detail::SessionCreated,
        Detail::SessionResumed => wit::Detail::SessionResumed,
        Detail::SessionDiscarded => wit::Detail::SessionDiscarded,
        Detail::SessionTakenOver => wit::Detail::SessionTakenOver,
        Detail::SessionTerminated(of) => wit::Detail::SessionTerminated(closing(of)),
        Detail::SessionSubscribed(of) => wit::Detail::SessionSubscribed(subscription(of)),
        Detail::SessionUnsubscribed(of) => wit::Detail::SessionUnsubscribed(subscription(of)),
        Detail::MessageDelivered(of) => wit::Detail::MessageDelivered(delivery(of, user_properties)),
        Detail::MessageAcked(of) => wit::Detail::MessageAcked(delivery(of, user_properties)),
        Detail::MessageDropped(of) => wit::Detail::MessageDropped(Dropping {
            message: message(&of.message, of.message.qos, user_properties),
            publisher: &of.message.publisher,
            reason: of.reason.name(),
            explanation: &of.explanation,
        }),
    })
}

fn connection<'a>(of: &'a event::Connection, user_properties: &'a [HeaderParam<'a>]) -> Connection<'a> {
    Connection { clean_start: of.clean_start, keep_alive_s: of.keep_alive_s, session_expiry_s: of.session_expiry_s, user_properties }
}

fn closing(of: &event::Closing) -> Closing<'_> {
    Closing { reason_code: of.reason_code, reason: &of.reason }
}

fn subscription(of: &event::Subscription) -> Subscription<'_> {
    Subscription { filter: &of.filter, qos: qos(of.qos), no_local: of.no_local, retain_as_published: of.retain_as_published }
}

fn delivery<'a>(of: &'a event::Delivery, user_properties: &'a [HeaderParam<'a>]) -> Delivery<'a> {
    Delivery { message: message(&of.message, of.qos, user_properties), publisher: &of.message.publisher }
}
