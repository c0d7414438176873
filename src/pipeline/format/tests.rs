//! The shapes of records.

mod schemas;

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::event::{
    Action, Client, Closing, Connection, Delivery, Denial, Detail, DropReason, Dropping, Event, Message, Properties, QoS, Ruling,
    Subscription, Text,
};

static NODE: Text = Text::from_static("n1");

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
    check_with(format, PayloadEncoding::Base64, event, expected);
}

#[track_caller]
fn check_with(format: Format, payload: PayloadEncoding, event: &Event, expected: &str) {
    assert_eq!(written(format, payload, event), expected);
}

fn written(format: Format, payload: PayloadEncoding, event: &Event) -> String {
    String::from_utf8(value(&Scope::new(event, &NODE), format, payload).to_vec()).expect("UTF-8")
}

fn with_payload(payload: &'static [u8], properties: Option<Properties>) -> Arc<Message> {
    let properties = properties.map(Box::new);
    Arc::new(Message { payload: Bytes::from_static(payload), properties, ..Message::clone(&message()) })
}

/// An event of every hook, some more than once.
fn one_of_each() -> Vec<Detail> {
    let header = |name: &str| crate::event::Header { name: name.into(), value: "x".into() };
    let subscription = Subscription { filter: "a/#".into(), qos: QoS::ExactlyOnce, no_local: false, retain_as_published: true };
    let connection = Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: u32::MAX, user_properties: vec![header("a")] };
    let closing = Closing { reason_code: 0x8d, reason: "keepalive-timeout".into() };
    let properties = Properties {
        expiry_s: Some(0),
        payload_is_utf8: Some(true),
        content_type: Some("application/vnd.lock+json; v=1".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: vec![header("a"), header("a")],
    };
    let rich = with_payload(br#"{"a": 1}"#, Some(properties));
    let delivery = Delivery { message: Arc::clone(&rich), qos: QoS::AtMostOnce };
    let ruling =
        |asked, denied: bool| Ruling { asked, denial: denied.then(|| Denial { reason_code: 0x87, reason: "no".into() }), by: "acl".into() };
    vec![
        Detail::ClientConnect(connection.clone()),
        Detail::ClientConnack(closing.clone()),
        Detail::ClientConnected(connection),
        Detail::ClientDisconnected(closing.clone()),
        Detail::ClientAuthenticate(ruling(None, false)),
        Detail::ClientAuthorize(ruling(Some((Action::Subscribe(QoS::AtLeastOnce), "a".into())), true)),
        Detail::ClientSubscribe(vec![subscription.clone()]),
        Detail::ClientUnsubscribe(vec!["a".into(), "b".into()]),
        Detail::SessionCreated,
        Detail::SessionSubscribed(subscription.clone()),
        Detail::SessionUnsubscribed(subscription),
        Detail::SessionResumed,
        Detail::SessionDiscarded,
        Detail::SessionTakenOver,
        Detail::SessionTerminated(closing),
        Detail::MessagePublish(message()),
        Detail::MessagePublish(Arc::clone(&rich)),
        Detail::MessagePublish(with_payload(b"on\xff", None)),
        Detail::MessagePublish(with_payload(b"", None)),
        Detail::MessageDelivered(delivery.clone()),
        Detail::MessageAcked(delivery),
        Detail::MessageDropped(Dropping { message: rich, reason: DropReason::Denied, explanation: "re\u{1}played".into() }),
    ]
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

#[test]
fn the_shapes_of_the_emq_plugin() {
    let subscription = Subscription { filter: "a/#".into(), qos: QoS::AtMostOnce, no_local: false, retain_as_published: false };
    let connection = Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: 0, user_properties: Vec::new() };
    let closing = Closing { reason_code: 0, reason: "normal".into() };
    let published = Message { qos: QoS::AtMostOnce, retain: true, ..Message::clone(&with_payload(b"say \"hi\"", None)) };
    let delivery = Delivery { message: message(), qos: QoS::AtLeastOnce };
    for (detail, expected) in [
        (
            Detail::ClientConnected(connection),
            r#"{"type":"connected","client_id":"c","message":{},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::ClientDisconnected(closing),
            r#"{"type":"disconnected","client_id":"c","message":{},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::SessionSubscribed(subscription.clone()),
            r#"{"type":"subscribed","client_id":"c","message":{"topic":"a/#","opts":{"qos":0}},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::SessionUnsubscribed(subscription),
            r#"{"type":"unsubscribed","client_id":"c","message":{"topic":"a/#","opts":{"qos":0}},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::MessagePublish(Arc::new(published)),
            r#"{"type":"public","client_id":"c","message":{"username":"app","topic":"devices/1/command","payload":"say \"hi\"","qos":0,"dup":0,"retain":1},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (
            Detail::MessageAcked(delivery),
            r#"{"type":"acked","client_id":"c","message":{"username":"app","topic":"devices/1/command","payload":"{}","qos":1,"dup":0,"retain":0,"from":"app-1"},"cluster_node":"n1","ts":1574744434000}"#,
        ),
        (Detail::SessionCreated, r#"{"type":"created","client_id":"c","message":{},"cluster_node":"n1","ts":1574744434000}"#),
    ] {
        check_with(Format::EmqPlugin, PayloadEncoding::Plain, &event("c", detail), expected);
    }
}

#[test]
fn the_shapes_of_the_emqttd_bridge_count_seconds() {
    let closing = Closing { reason_code: 0, reason: "normal".into() };
    let subscription = Subscription { filter: "a/#".into(), qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false };
    let delivery = Delivery { message: message(), qos: QoS::AtMostOnce };
    for (detail, expected) in [
        (
            Detail::MessagePublish(message()),
            r#"{"type":"published","client_id":"c","topic":"devices/1/command","payload":"{}","qos":1,"cluster_node":"n1","ts":1574744434}"#,
        ),
        (
            Detail::MessageDelivered(delivery),
            r#"{"type":"delivered","client_id":"c","from":"app-1","topic":"devices/1/command","payload":"{}","qos":0,"cluster_node":"n1","ts":1574744434}"#,
        ),
        (
            Detail::ClientDisconnected(closing),
            r#"{"type":"disconnected","client_id":"c","reason":"normal","cluster_node":"n1","ts":1574744434}"#,
        ),
        (
            Detail::SessionSubscribed(subscription),
            r#"{"type":"subscribed","client_id":"c","topic":"a/#","qos":1,"cluster_node":"n1","ts":1574744434}"#,
        ),
        (Detail::SessionCreated, r#"{"type":"created","client_id":"c","cluster_node":"n1","ts":1574744434}"#),
    ] {
        check_with(Format::EmqttdBridge, PayloadEncoding::Plain, &event("c", detail), expected);
    }
}

#[test]
fn a_payload_that_is_json_can_stand_as_it_is() {
    let publish = |payload| event("c", Detail::MessagePublish(with_payload(payload, None)));
    for (payload, text, encoding) in [
        (&b" {\"b\": 83.40,\n\"a\":[1]} "[..], "{\"b\": 83.40,\n\"a\":[1]}", "json"),
        (b"21.50", "21.50", "json"),
        (b"on", "\"on\"", "plain"),
        (b"{\"a\":", "\"{\\\"a\\\":\"", "plain"),
        (b"\xff", "\"\u{fffd}\"", "plain"),
        (b"", "\"\"", "plain"),
    ] {
        let bridge = format!(
            r#"{{"client_id":"c","username":"app","topic":"devices/1/command","payload":{text},"qos":1,"node":"n1","ts":1574744434000}}"#
        );
        check_with(Format::EmqxBridge, PayloadEncoding::Json, &publish(payload), &bridge);
        let envelope = written(Format::Envelope, PayloadEncoding::Json, &publish(payload));
        assert!(envelope.contains(&format!(r#""payload":{text},"payload_encoding":"{encoding}""#)), "{envelope}");
    }
}

#[test]
fn raw_records_say_the_rest_in_headers() {
    let rich = one_of_each().into_iter().find(|detail| matches!(detail, Detail::MessageAcked(_))).unwrap();
    let (event, mut found) = (event("c", rich), Vec::new());
    let id = RecordId { event: event.id, part: 0 };
    headers(&Scope::new(&event, &NODE), Format::Raw, false, id, &mut found);
    assert_eq!(found, [], "only on request");
    headers(&Scope::new(&event, &NODE), Format::Raw, true, id, &mut found);
    let found: Vec<(&str, &str)> = found.iter().map(|header| (&*header.name, &*header.value)).collect();
    let expected = [
        ("hook", "message.acked"),
        ("node", "n1"),
        ("ts", "1574744434000"),
        ("client_id", "c"),
        ("username", "app"),
        ("peer", "192.0.2.7:51234"),
        ("topic", "devices/1/command"),
        ("publisher", "app-1"),
        ("publisher_username", "app"),
        ("qos", "1"),
        ("delivery_qos", "0"),
        ("retain", "false"),
        ("received_at", "1574744434000"),
        ("expiry_s", "0"),
        ("content_type", "application/vnd.lock+json; v=1"),
        ("response_topic", "r"),
        ("correlation_data", "AP8="),
        ("user_property.a", "x"),
        ("user_property.a", "x"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn cloud_events_in_structured_mode() {
    let head = |hook: &str, topic: &str| {
        let subject = if topic.is_empty() { String::new() } else { format!(r#""subject":"{topic}","#) };
        format!(
            r#"{{"specversion":"1.0","id":"00000000000000ff","source":"/hookgate/n1","type":"hookgate.{hook}","time":"2019-11-26T05:00:34.000Z",{subject}"clientid":"c","username":"app","#
        )
    };
    let publish = |payload, content_type: Option<&str>| {
        let properties = content_type.map(|of| Properties { content_type: Some(of.into()), ..Properties::default() });
        event("c", Detail::MessagePublish(with_payload(payload, properties)))
    };
    let message = head("message.publish", "devices/1/command") + r#""publisher":"app-1","qos":1,"retain":false,"#;
    use PayloadEncoding::{Base64, Json, Plain};
    for (payload, content_type, encoding, rest) in [
        (&b"{}"[..], None, Base64, r#""datacontenttype":"application/octet-stream","data_base64":"e30="}"#),
        (b"{}", Some("application/json"), Base64, r#""datacontenttype":"application/json","data_base64":"e30="}"#),
        (b"{\"a\": 1}", None, Json, r#""datacontenttype":"application/json","data":{"a": 1}}"#),
        (b"1", Some("text/csv"), Json, r#""datacontenttype":"application/json","data":1}"#),
        (b"1", Some("application/x+JSON; v=1"), Json, r#""datacontenttype":"application/x+JSON; v=1","data":1}"#),
        (b"on", None, Json, r#""datacontenttype":"text/plain; charset=utf-8","data":"on"}"#),
        (b"on", Some("text/csv"), Json, r#""datacontenttype":"text/csv","data":"on"}"#),
        (b"on", Some("text/json"), Json, r#""datacontenttype":"text/json","data_base64":"b24="}"#),
        (b"1", None, Plain, r#""datacontenttype":"text/plain; charset=utf-8","data":"1"}"#),
        (b"1", Some("application/json"), Plain, r#""datacontenttype":"application/json","data":1}"#),
        (b"\xff", None, Plain, r#""datacontenttype":"application/octet-stream","data_base64":"/w=="}"#),
    ] {
        check_with(Format::CloudEventsJson, encoding, &publish(payload, content_type), &format!("{message}{rest}"));
    }
    let closing = Closing { reason_code: 0x8d, reason: "keepalive-timeout".into() };
    let data = r#""datacontenttype":"application/json","data":{"client":{"client_id":"c","username":"app","peer":"192.0.2.7:51234","protocol_version":5,"certificate_name":null,"connected_at":1},"reason_code":141,"reason":"keepalive-timeout"}}"#;
    check(Format::CloudEventsJson, &event("c", Detail::ClientDisconnected(closing)), &(head("client.disconnected", "") + data));
}

/// The attributes of a record in binary mode as the JSON of structured mode, so that one schema serves both.
fn from_binary(event: &Event) -> Value {
    let (scope, mut found) = (Scope::new(event, &NODE), Vec::new());
    headers(&scope, Format::CloudEvents, false, RecordId { event: event.id, part: 2 }, &mut found);
    let mut object = serde_json::Map::new();
    for header in found {
        let name = if &*header.name == "content-type" { "datacontenttype" } else { header.name.strip_prefix("ce_").expect("a prefix") };
        assert!(object.insert(name.to_owned(), header.value.to_string().into()).is_none(), "{name} twice");
    }
    let data = value(&scope, Format::CloudEvents, PayloadEncoding::Base64);
    match serde_json::from_slice::<Value>(&data) {
        Ok(data) if event.detail.message().is_none() => object.insert("data".to_owned(), data),
        _ => object.insert("data_base64".to_owned(), base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &data).into()),
    };
    object.into()
}

#[test]
fn cloud_events_in_binary_mode() {
    let properties = Properties { payload_is_utf8: Some(true), ..Properties::default() };
    let publish = event("c", Detail::MessagePublish(with_payload(b"on", Some(properties))));
    let expected = serde_json::json!({
        "specversion": "1.0", "id": "00000000000000ff-2", "source": "/hookgate/n1", "type": "hookgate.message.publish",
        "time": "2019-11-26T05:00:34.000Z", "subject": "devices/1/command", "clientid": "c", "username": "app", "publisher": "app-1",
        "qos": "1", "retain": "false", "datacontenttype": "text/plain; charset=utf-8", "data_base64": "b24=",
    });
    assert_eq!(from_binary(&publish), expected);
    check(Format::CloudEvents, &publish, "on");
}
