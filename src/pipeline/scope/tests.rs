//! Templates over events of every kind.

use std::sync::Arc;

use super::*;
use crate::{
    config::Template,
    event::{Action, Bytes, Client, Closing, Connection, Delivery, Denial, DropReason, Dropping, Properties, QoS, Subscription},
};

fn client() -> Client {
    Client {
        client_id: "lock-1".into(),
        username: Some("lock".into()),
        peer: ([192, 0, 2, 7], 51234).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 7,
    }
}

fn event(detail: Detail) -> Event {
    Event { id: 255, time_ms: 1_574_744_434_123, client: Arc::new(client()), detail }
}

fn message(payload: &'static [u8]) -> Message {
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    Message {
        publisher: "app-1".into(),
        publisher_username: Some("app".into()),
        topic: "devices/lock-1/state".into(),
        payload: Bytes::from_static(payload),
        qos: QoS::AtLeastOnce,
        retain: true,
        received_at_ms: 1_574_744_434_000,
        properties: Some(Box::new(Properties {
            expiry_s: Some(60),
            payload_is_utf8: None,
            content_type: Some("application/json".into()),
            response_topic: Some("answers/1".into()),
            correlation_data: Some(Bytes::from_static(&[1, 2, 255])),
            user_properties: vec![header("trace", "a1"), header("trace", "a2"), header("x.y", "z")],
        })),
        annotations: Vec::new(),
    }
}

#[track_caller]
fn check(detail: Detail, cases: &[(&str, &str)]) {
    let (event, node) = (event(detail), Text::from_static("n1"));
    let scope = Scope::new(&event, &node);
    for (text, expected) in cases {
        let template = Template::parse(text).unwrap();
        assert_eq!(template.check(event.detail.hook()), Ok(()), "{text}");
        assert_eq!(&*scope.fill(template.parts()), *expected, "{text}");
    }
}

#[test]
fn fields_of_every_event() {
    check(
        Detail::SessionCreated,
        &[
            ("", ""),
            ("plain", "plain"),
            ("${client_id}", "lock-1"),
            ("${client_id}-${username}", "lock-1-lock"),
            ("${certificate_name}", ""),
            ("${certificate_name:-none}", "none"),
            ("<${certificate_name:-}>", "<>"),
            ("${client_id:-none}", "lock-1"),
            ("${peer} ${peer_ip} ${protocol_version}", "192.0.2.7:51234 192.0.2.7 5"),
            ("${connected_at}", "7"),
            ("${event_id}", "00000000000000ff"),
            ("${ts}", "1574744434123"),
            ("${hook}@${node}", "session.created@n1"),
        ],
    );
}

#[test]
fn fields_of_messages() {
    check(
        Detail::MessagePublish(Arc::new(message(
            br#"{"id":"o-1","order":{"items":[{"n":1},{"n":2.50}],"paid":true,"note":null},"t":"x\"y"}"#,
        ))),
        &[
            ("${topic}", "devices/lock-1/state"),
            ("${topic[1]} ${topic[3]} ${topic[-1]} ${topic[-3]}", "devices state state devices"),
            ("${topic[4]}${topic[-4]}", ""),
            ("${topic[9]:-x}", "x"),
            ("${publisher}/${publisher_username}", "app-1/app"),
            ("${qos} ${retain} ${received_at} ${expiry_s}", "1 true 1574744434000 60"),
            ("${content_type} ${response_topic} ${correlation_data}", "application/json answers/1 AQL/"),
            ("${user_property.trace} ${user_property.x.y}", "a1 z"),
            ("${user_property.none:-nobody}", "nobody"),
            ("${payload.id}", "o-1"),
            ("${payload.order.items.1.n}", "2.5"),
            ("${payload.order.items.0}", "{\"n\":1}"),
            ("${payload.order.paid}", "true"),
            ("${payload.order.note:-null}", "null"),
            ("${payload.order.items.2.n}${payload.order.items.n}${payload.id.x}${payload.none}", ""),
            ("${payload.t}", "x\"y"),
        ],
    );
    check(Detail::MessagePublish(Arc::new(message(b"on\xff"))), &[("${payload}", "on\u{fffd}"), ("${payload.a:-no}", "no")]);
    let delivery = Delivery { message: Arc::new(message(b"{}")), qos: QoS::AtMostOnce };
    check(Detail::MessageAcked(delivery), &[("${client_id} ${publisher} ${qos} ${delivery_qos}", "lock-1 app-1 1 0")]);
    let dropping = Dropping { message: Arc::new(message(b"{}")), reason: DropReason::QueueFull, explanation: "1000 messages".into() };
    check(Detail::MessageDropped(dropping), &[("${reason}: ${explanation}", "queue-full: 1000 messages")]);
    let plain = Message { properties: None, ..message(b"") };
    let missing = "${content_type}${response_topic}${correlation_data}${expiry_s}${user_property.trace}${payload}${payload.a}";
    check(Detail::MessagePublish(Arc::new(plain)), &[(missing, "")]);
}

#[test]
fn fields_of_lives() {
    let closing = Closing { reason_code: 0x8d, reason: "keepalive-timeout".into() };
    check(Detail::ClientDisconnected(closing), &[("${reason} ${reason_code}", "keepalive-timeout 141")]);
    let user_properties = vec![Header { name: "fw".into(), value: "1.2".into() }];
    let connection = Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: 3600, user_properties };
    let words = "${clean_start} ${keep_alive_s} ${session_expiry_s} ${user_property.fw}";
    check(Detail::ClientConnected(connection), &[(words, "true 60 3600 1.2")]);
    let asked = Some((Action::Subscribe(QoS::ExactlyOnce), "a/#".into()));
    let denial = Some(Denial { reason_code: 0x87, reason: "not yours".into() });
    let words = "${action} ${topic} ${qos} ${result} ${by} ${reason} ${reason_code}";
    check(Detail::ClientAuthorize(Ruling { asked, denial, by: "acl".into() }), &[(words, "subscribe a/# 2 deny acl not yours 135")]);
    check(
        Detail::ClientAuthenticate(Ruling { asked: None, denial: None, by: "g".into() }),
        &[("${result} ${by} ${reason:-fine} ${reason_code}", "allow g fine 0")],
    );
    let subscription = Subscription { filter: "a/b/#".into(), qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false };
    check(Detail::SessionSubscribed(subscription.clone()), &[("${topic[2]} ${qos}", "b 1")]);
    check(Detail::ClientSubscribe(vec![subscription]), &[("${topic} ${qos}", "a/b/# 1")]);
    check(Detail::ClientUnsubscribe(vec!["x".into(), "y".into()]), &[("${topic}", "x")]);
}

#[test]
fn a_text_that_stands_alone_is_not_copied() {
    let (event, node) = (event(Detail::SessionCreated), Text::from_static("n1"));
    let key = Scope::new(&event, &node).fill(Template::parse("${client_id}").unwrap().parts());
    assert_eq!(key.as_ptr(), event.client.client_id.as_ptr());
}
