//! The shapes of records.

use std::sync::Arc;

use super::*;
use crate::event::{Action, Closing, Connection, Delivery, Denial, DropReason, Dropping, QoS};

fn event(client_id: &'static str, detail: Detail) -> Event {
    let client = Client {
        client_id: client_id.into(),
        username: Some("app".into()),
        peer: ([192, 0, 2, 7], 51234).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 1,
    };
    Event { id: 255, time_ms: 1_574_744_434_000, client: Arc::new(client), detail }
}

fn message() -> Arc<Message> {
    Arc::new(Message {
        publisher: "app-1".into(),
        publisher_username: Some("app".into()),
        topic: "devices/1/command".into(),
        payload: Bytes::from_static(b"{}"),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: 1_574_744_434_000,
        properties: None,
        annotations: Vec::new(),
    })
}

#[track_caller]
fn check(format: Format, event: &Event, expected: &str) {
    let value = value(event, "n1", format, PayloadEncoding::Base64).expect("plain data");
    assert_eq!(String::from_utf8_lossy(&value), expected);
}

#[test]
fn the_shapes_of_the_emqx_bridge() {
    let subscription = || Subscription { filter: "a/#".into(), qos: QoS::ExactlyOnce, no_local: false, retain_as_published: false };
    let connection = Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: 0, user_properties: Vec::new() };
    let delivery = || Delivery { message: message(), qos: QoS::AtLeastOnce };
    let dropping = Dropping { message: message(), reason: DropReason::Denied, explanation: "replayed".into() };
    let closing = Closing { reason_code: 0x8d, reason: "keepalive-timeout".into() };
    for (detail, expected) in [
        (
            Detail::MessagePublish(message()),
            r#"{"client_id":"c","username":"app","topic":"devices/1/command","payload":"e30=","qos":1,"node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::MessageAcked(delivery()),
            r#"{"client_id":"c","username":"app","topic":"devices/1/command","payload":"e30=","qos":1,"node":"n1","ts":1574744434000,"from":"app-1"}"#,
        ),
        (
            Detail::MessageDropped(dropping),
            r#"{"client_id":"c","username":"app","topic":"devices/1/command","payload":"e30=","qos":1,"node":"n1","ts":1574744434000,"from":"app-1","reason":"denied","explanation":"replayed"}"#,
        ),
        (Detail::ClientConnect(connection.clone()), r#"{"client_id":"c","node":"n1","ts":1574744434000}"#),
        (Detail::ClientConnack(closing.clone()), r#"{"client_id":"c","node":"n1","ts":1574744434000,"reason":"keepalive-timeout"}"#),
        (Detail::SessionTerminated(closing.clone()), r#"{"client_id":"c","node":"n1","ts":1574744434000,"reason":"keepalive-timeout"}"#),
        (Detail::SessionTakenOver, r#"{"client_id":"c","node":"n1","ts":1574744434000}"#),
        (
            Detail::ClientSubscribe(vec![subscription()]),
            r#"{"client_id":"c","topics":[{"topic":"a/#","qos":2}],"node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::ClientUnsubscribe(vec!["a/#".into(), "b".into()]),
            r#"{"client_id":"c","topics":[{"topic":"a/#"},{"topic":"b"}],"node":"n1","ts":1574744434000}"#,
        ),
        (Detail::ClientConnected(connection), r#"{"client_id":"c","node":"n1","ts":1574744434000}"#),
        (Detail::ClientDisconnected(closing), r#"{"client_id":"c","node":"n1","ts":1574744434000,"reason":"keepalive-timeout"}"#),
        (Detail::SessionSubscribed(subscription()), r#"{"client_id":"c","topic":"a/#","qos":2,"node":"n1","ts":1574744434000}"#),
        (Detail::SessionUnsubscribed(subscription()), r#"{"client_id":"c","topic":"a/#","qos":2,"node":"n1","ts":1574744434000}"#),
    ] {
        check(Format::EmqxBridge, &event("c", detail), expected);
    }
}

#[test]
fn the_envelope_carries_everything_known() {
    let client = r#""client":{"client_id":"c","username":"app","peer":"192.0.2.7:51234","protocol_version":5,"certificate_name":null,"connected_at":1}"#;
    let message_json = r#""message":{"publisher":"app-1","publisher_username":"app","topic":"devices/1/command","payload":"e30=","payload_encoding":"base64","qos":1,"retain":false,"received_at":1574744434000}"#;
    let head = |hook: &str| format!(r#"{{"v":1,"id":"00000000000000ff","hook":"{hook}","ts":1574744434000,"node":"n1",{client}"#);
    let closing = Closing { reason_code: 0, reason: "normal".into() };
    check(
        Format::Envelope,
        &event("c", Detail::ClientDisconnected(closing)),
        &format!(r#"{},"reason_code":0,"reason":"normal"}}"#, head("client.disconnected")),
    );
    let denial = Denial { reason_code: 0x87, reason: "no".into() };
    let asked = Some((Action::Publish(QoS::AtLeastOnce), "a/b".into()));
    for (detail, hook, rest) in [
        (
            Detail::ClientAuthorize(Ruling { asked, denial: Some(denial), by: "acl".into() }),
            "client.authorize",
            r#""action":"publish","topic":"a/b","qos":1,"result":"deny","by":"acl","reason_code":135,"reason":"no""#,
        ),
        (
            Detail::ClientAuthenticate(Ruling { asked: None, denial: None, by: "g".into() }),
            "client.authenticate",
            r#""result":"allow","by":"g","reason_code":0,"reason":"""#,
        ),
    ] {
        check(Format::Envelope, &event("c", detail), &format!("{},{rest}}}", head(hook)));
    }
    let subscription = Subscription { filter: "a".into(), qos: QoS::AtLeastOnce, no_local: true, retain_as_published: false };
    let fields = r#""filter":"a","qos":1,"no_local":true,"retain_as_published":false"#;
    check(
        Format::Envelope,
        &event("c", Detail::SessionSubscribed(subscription.clone())),
        &format!("{},{fields}}}", head("session.subscribed")),
    );
    check(
        Format::Envelope,
        &event("c", Detail::ClientSubscribe(vec![subscription])),
        &format!(r#"{},"subscriptions":[{{{fields}}}]}}"#, head("client.subscribe")),
    );
    check(
        Format::Envelope,
        &event("c", Detail::ClientUnsubscribe(vec!["a".into(), "b".into()])),
        &format!(r#"{},"filters":["a","b"]}}"#, head("client.unsubscribe")),
    );
    check(Format::Envelope, &event("c", Detail::SessionCreated), &format!("{}}}", head("session.created")));
    check(Format::Envelope, &event("c", Detail::MessagePublish(message())), &format!("{},{message_json}}}", head("message.publish")));
}

#[test]
fn raw_is_the_payload() {
    check(Format::Raw, &event("c", Detail::MessagePublish(message())), "{}");
}
