//! Strategies for everything that crosses the boundary, valid in MQTT's and Kafka's eyes.

use std::{net::SocketAddr, sync::Arc};

use proptest::{option, prelude::*, sample::select};

use crate::{
    event::{
        Action, Answer, Bytes, Changes, Client, Closing, Connection, Credentials, Delivery, Denial, Detail, Dropping, ExchangeVerdict,
        Fetched, Header, KafkaRecord, Message, ObserveVerdict, Peer, Properties, PublishVerdict, QoS, RecordHeader, Subscription, Text,
    },
    hook::DropReason,
};

/// Empty and short ones, and some that need more room than a guest keeps ready.
pub(in crate::guest) fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        8 => "[a-zäß🔒/ ]{0,12}".prop_map(Text::from),
        1 => (select(vec!["a", "ß", "🔒"]), 0usize..12_000).prop_map(|(letter, count)| letter.repeat(count).into()),
    ]
}

pub(in crate::guest) fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        1 => (any::<u8>(), 0usize..60_000).prop_map(|(byte, count)| vec![byte; count].into()),
    ]
}

pub(in crate::guest) fn headers() -> impl Strategy<Value = Vec<Header>> {
    prop::collection::vec((text(), text()).prop_map(|(name, value)| Header { name, value }), 0..4)
}

pub(in crate::guest) fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn topic() -> impl Strategy<Value = Text> {
    "[a-zä]{1,5}(/[a-z]{0,3}){0,3}".prop_map(Text::from)
}

fn properties() -> impl Strategy<Value = Properties> {
    let fields = (any::<Option<u32>>(), option::of(text()), option::of(topic()), option::of(bytes()), headers());
    fields.prop_map(|(expiry_s, content_type, response_topic, correlation_data, user_properties)| Properties {
        expiry_s,
        payload_is_utf8: Some(false),
        content_type,
        response_topic,
        correlation_data,
        user_properties,
    })
}

pub(in crate::guest) fn messages() -> impl Strategy<Value = Message> {
    let fields = (text(), option::of(text()), topic(), bytes(), qos(), any::<(bool, u64)>(), option::of(properties()), headers());
    fields.prop_map(|(publisher, publisher_username, topic, payload, qos, (retain, received_at_ms), properties, annotations)| Message {
        publisher,
        publisher_username,
        topic,
        payload,
        qos,
        retain,
        received_at_ms,
        properties: properties.map(Box::new),
        annotations,
    })
}

pub(in crate::guest) fn clients() -> impl Strategy<Value = Client> {
    let fields = (text(), option::of(text()), any::<SocketAddr>(), any::<u8>(), option::of(text()), any::<u64>());
    fields.prop_map(|(client_id, username, peer, protocol_version, certificate_name, connected_at_ms)| Client {
        client_id,
        username,
        peer: Peer::from(peer),
        protocol_version,
        certificate_name,
        connected_at_ms,
    })
}

fn connection() -> impl Strategy<Value = Connection> {
    (any::<(bool, u16, u32)>(), headers()).prop_map(|((clean_start, keep_alive_s, session_expiry_s), user_properties)| Connection {
        clean_start,
        keep_alive_s,
        session_expiry_s,
        user_properties,
    })
}

fn closing() -> impl Strategy<Value = Closing> {
    (any::<u8>(), text()).prop_map(|(reason_code, reason)| Closing { reason_code, reason })
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (text(), qos(), any::<(bool, bool)>()).prop_map(|(filter, qos, (no_local, retain_as_published))| Subscription {
        filter,
        qos,
        no_local,
        retain_as_published,
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (messages(), qos()).prop_map(|(message, qos)| Delivery { message: Arc::new(message), qos })
}

fn dropping() -> impl Strategy<Value = Dropping> {
    (messages(), select(DropReason::ALL.to_vec()), text()).prop_map(|(message, reason, explanation)| Dropping {
        message: Arc::new(message),
        reason,
        explanation,
    })
}

/// One firing of each of the sixteen hooks that observe.
pub(in crate::guest) fn details() -> impl Strategy<Value = Vec<Detail>> {
    let client = (
        connection().prop_map(Detail::ClientConnect),
        closing().prop_map(Detail::ClientConnack),
        connection().prop_map(Detail::ClientConnected),
        closing().prop_map(Detail::ClientDisconnected),
        prop::collection::vec(subscription(), 0..4).prop_map(Detail::ClientSubscribe),
        prop::collection::vec(text(), 0..4).prop_map(Detail::ClientUnsubscribe),
    );
    let session = (
        subscription().prop_map(Detail::SessionSubscribed),
        subscription().prop_map(Detail::SessionUnsubscribed),
        closing().prop_map(Detail::SessionTerminated),
    );
    let message = (
        delivery().prop_map(Detail::MessageDelivered),
        delivery().prop_map(Detail::MessageAcked),
        dropping().prop_map(Detail::MessageDropped),
    );
    (client, session, message).prop_map(|((a, b, c, d, e, f), (g, h, i), (j, k, l))| {
        let bare = [Detail::SessionCreated, Detail::SessionResumed, Detail::SessionDiscarded, Detail::SessionTakenOver];
        [a, b, c, d, e, f, g, h, i, j, k, l].into_iter().chain(bare).collect()
    })
}

pub(in crate::guest) fn credentials() -> impl Strategy<Value = Credentials> {
    (option::of(text()), option::of(bytes())).prop_map(|(method, password)| Credentials { method, password })
}

pub(in crate::guest) fn actions() -> impl Strategy<Value = Action> {
    (any::<bool>(), qos()).prop_map(|(publish, qos)| if publish { Action::Publish(qos) } else { Action::Subscribe(qos) })
}

pub(in crate::guest) fn denials() -> impl Strategy<Value = Denial> {
    (0x80u8.., text()).prop_map(|(reason_code, reason)| Denial { reason_code, reason })
}

fn records() -> impl Strategy<Value = Vec<KafkaRecord>> {
    let topic = "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,30}".prop_map(Text::from);
    let record = (option::of(topic), option::of(bytes()), option::of(bytes()), headers());
    prop::collection::vec(record.prop_map(|(topic, key, value, headers)| KafkaRecord { topic, key, value, headers }), 0..4)
}

/// What may be answered on `message.publish`; a message that it changes keeps what is the host's own of `original`.
pub(in crate::guest) fn publish_verdicts(original: Message) -> impl Strategy<Value = PublishVerdict> {
    let message = messages().prop_map(move |message| Message {
        publisher: original.publisher.clone(),
        publisher_username: original.publisher_username.clone(),
        received_at_ms: original.received_at_ms,
        annotations: original.annotations.clone(),
        ..message
    });
    let change = (option::of(message), headers(), option::of(records()));
    prop_oneof![
        Just(PublishVerdict::Pass),
        change.prop_map(|(message, headers, records)| PublishVerdict::Change(Changes { message, headers, records })),
        text().prop_map(PublishVerdict::Drop),
        denials().prop_map(PublishVerdict::Deny),
    ]
}

pub(in crate::guest) fn observe_verdicts() -> impl Strategy<Value = ObserveVerdict> {
    prop_oneof![
        Just(ObserveVerdict::Pass),
        headers().prop_map(ObserveVerdict::Annotate),
        records().prop_map(ObserveVerdict::Emit),
        text().prop_map(ObserveVerdict::Drop),
    ]
}

pub(in crate::guest) fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![Just(Answer::Allow), denials().prop_map(Answer::Deny), Just(Answer::Abstain)]
}

pub(in crate::guest) fn exchange_verdicts() -> impl Strategy<Value = ExchangeVerdict> {
    prop_oneof![
        (option::of(bytes()), bytes()).prop_map(|(data, memo)| ExchangeVerdict::Proceed { data, memo }),
        option::of(bytes()).prop_map(ExchangeVerdict::Allow),
        denials().prop_map(ExchangeVerdict::Deny),
        Just(ExchangeVerdict::Abstain),
    ]
}

pub(in crate::guest) fn fetched() -> impl Strategy<Value = Fetched> {
    let small = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let header = ("[a-zäß]{0,12}", option::of(small())).prop_map(|(name, value)| RecordHeader { name: name.into(), value });
    let fields =
        ("[a-z._-]{1,20}", any::<(u32, u64, Option<u64>)>(), option::of(small()), option::of(bytes()), prop::collection::vec(header, 0..4));
    fields.prop_map(|(topic, (partition, offset, timestamp_ms), key, value, headers)| Fetched {
        topic: topic.into(),
        partition,
        offset,
        timestamp_ms,
        key,
        value,
        headers,
    })
}
