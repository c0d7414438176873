use std::path::Path;

use super::*;
use crate::{config::Config, event::RecordHeader};

const NOW_MS: u64 = 1_700_000_010_000;

fn template(lines: &str) -> MessageTemplate {
    let text = format!(
        "listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\n[[downlink]]\nname = \"d\"\ntopics = [\"t\"]\n{lines}"
    );
    let (config, problems) = Config::parse(Path::new("h.toml"), &text);
    assert_eq!(problems, []);
    config.downlinks.into_iter().next().unwrap().message.unwrap()
}

fn fetched() -> Fetched {
    let header = |name: &str, value: Option<&'static [u8]>| RecordHeader { name: name.into(), value: value.map(Bytes::from_static) };
    Fetched {
        topic: "device_commands".into(),
        partition: 3,
        offset: 41,
        timestamp_ms: Some(NOW_MS - 10_000),
        key: Some("lock-1".into()),
        value: Some(r#"{"command":{"name":"unlock","tries":[1,2.50],"door":{"a":true}},"none":null}"#.into()),
        headers: vec![header("trace", Some(b"t-1")), header("bytes", Some(&[0xff])), header("empty", None), header("trace", Some(b"t-2"))],
    }
}

fn made(lines: &str, fetched: &Fetched) -> Result<Made, String> {
    make(&template(lines), fetched, &"$downlink/d".into(), NOW_MS).map_err(|unfit| unfit.to_string())
}

#[test]
fn the_defaults_are_the_value_at_qos_1() {
    let Made { message, is_expired } = made("topic = \"devices/${key}/command\"", &fetched()).unwrap();
    assert_eq!((&*message.topic, &message.payload, message.qos), ("devices/lock-1/command", &fetched().value.unwrap(), QoS::AtLeastOnce));
    assert_eq!((message.retain, message.properties, message.received_at_ms, is_expired), (false, None, NOW_MS, false));
    assert_eq!(&*message.publisher, "$downlink/d");
}

#[test]
fn templates_are_filled_in() {
    for (text, expected) in [
        ("${topic}-${partition}-${offset}-${timestamp}", "device_commands-3-41-1700000000000"),
        ("${value.command.name}", "unlock"),
        ("${value.command.tries.1}/${value.command.door}", "2.5/{\"a\":true}"),
        ("${header.trace}", "t-1"),
        ("${value}", std::str::from_utf8(&fetched().value.unwrap()).unwrap()),
    ] {
        let made = made(&format!("topic = \"a\"\npayload = \"{text}\""), &fetched()).unwrap();
        assert_eq!(std::str::from_utf8(&made.message.payload), Ok(expected));
    }
}

#[test]
fn every_setting_has_its_place_in_the_message() {
    let lines = "topic = \"a\"\nqos = 2\nretain = true\nexpiry = \"1m\"\ncontent_type = \"text/${key}\"\nresponse_topic = \"answers/${key}\"\n\
        correlation_data = \"${offset}\"\nheaders = \"user-properties\"";
    let message = made(lines, &fetched()).unwrap().message;
    let properties = message.properties.unwrap();
    assert_eq!((message.qos, message.retain, properties.expiry_s), (QoS::ExactlyOnce, true, Some(50)));
    assert_eq!((properties.content_type.as_deref(), properties.response_topic.as_deref()), (Some("text/lock-1"), Some("answers/lock-1")));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"41"[..]));
    let named = |lines: &str| {
        let properties =
            made(lines, &fetched()).unwrap().message.properties.map(|properties| properties.user_properties).unwrap_or_default();
        properties.iter().map(|header| format!("{}={}", header.name, header.value)).collect::<Vec<_>>()
    };
    assert_eq!(named(lines), ["trace=t-1", "empty=", "trace=t-2"], "bytes that are no text have no place");
    assert_eq!(named("topic = \"a\"\nheaders = [\"trace\", \"absent\"]"), ["trace=t-1", "trace=t-2"]);
    assert_eq!(named("topic = \"a\""), [""; 0]);
}

#[test]
fn what_cannot_be_a_message_says_why() {
    let keyless = Fetched { key: None, value: None, timestamp_ms: None, ..fetched() };
    let odd = Fetched { key: Some(Bytes::from_static(&[0xff])), value: Some("no json".into()), ..fetched() };
    for (lines, fetched, expected) in [
        ("topic = \"devices/${key}\"", &keyless, "topic wants ${key}, and the record has no key"),
        ("topic = \"devices/${key}\"", &odd, "topic wants ${key}, and its key is no text"),
        ("topic = \"${value.a}\"", &odd, "topic wants ${value.a}, and its value is no JSON"),
        ("topic = \"${value.command.nam}\"", &fetched(), "topic wants ${value.command.nam}, and its value has no such member"),
        ("topic = \"${value.none}\"", &fetched(), "topic wants ${value.none}, and it is null"),
        ("topic = \"a\"\npayload = \"${header.bytes}\"", &fetched(), "payload wants ${header.bytes}, and the header is no text"),
        ("topic = \"a\"\npayload = \"${header.x}\"", &fetched(), "payload wants ${header.x}, and the record has no such header"),
        ("topic = \"a\"\npayload = \"${timestamp}\"", &keyless, "payload wants ${timestamp}, and the record has no timestamp"),
        ("topic = \"${value.command.door}/#\"", &fetched(), "topic: \"{\"a\":true}/#\" is no topic: a topic name contains no wildcard"),
        ("topic = \"$SYS/x\"", &fetched(), "topic: \"$SYS/x\" is no topic: topics that begin with $ belong to the server"),
        ("topic = \"a\"\nresponse_topic = \"a/+\"", &fetched(), "response_topic: \"a/+\" is no topic: a topic name contains no wildcard"),
    ] {
        assert_eq!(made(lines, fetched).err().as_deref(), Some(expected), "{lines}");
    }
    let long = Fetched { key: Some("x".repeat(70_000).into()), ..fetched() };
    assert_eq!(
        made("topic = \"a\"\ncontent_type = \"${key}\"", &long).err().as_deref(),
        Some("content_type: it is longer than 65535 bytes")
    );
    assert!(made("topic = \"${key}\"", &long).is_err_and(|why| why.len() < 200));
}

#[test]
fn time_counts_from_the_records_timestamp() {
    let lines = "topic = \"a\"\nexpiry = \"10s\"";
    let at = |timestamp_ms: Option<u64>| {
        let Made { message, is_expired } = made(lines, &Fetched { timestamp_ms, ..fetched() }).unwrap();
        (message.properties.unwrap().expiry_s, is_expired)
    };
    assert_eq!(at(Some(NOW_MS - 10_000)), (Some(0), true));
    assert_eq!(at(Some(NOW_MS - 9_999)), (Some(1), false));
    assert_eq!(at(Some(NOW_MS)), (Some(10), false));
    assert_eq!(at(Some(NOW_MS + 60_000)), (Some(10), false), "a clock that is ahead");
    assert_eq!(at(None), (Some(10), false));
}

#[test]
fn a_tombstone_is_an_empty_payload() {
    let made = made("topic = \"a\"\nretain = true", &Fetched { value: None, ..fetched() }).unwrap();
    assert!(made.message.payload.is_empty() && made.message.retain);
}
