//! Section 3.3: PUBLISH, its flags and properties.

use std::time::Duration;

use super::place::{Place, closed, properties_after, property, read_properties, string_property, user_property};
use crate::mqtt::wire::{Connect, Wire, packet, properties, text};

/// Leaves a QoS 1 or 2 delivery unacknowledged, comes back, and gives both transmissions' flags and identifiers.
pub(super) async fn dup_on_redelivery(place: Place) {
    let mut wire = Wire::connect(&place, place.keep("receiver")).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    let mut publisher = place.wire("publisher").await;
    for qos in [1, 2] {
        publisher.say(qos, place.topic("t"), "x").await;
        let first = wire.expect_publish().await;
        assert!(!first.dup);
        drop(wire);
        wire = Wire::connect(&place, place.keep("receiver")).await;
        let second = wire.expect_publish().await;
        assert_eq!((second.dup, second.id, second.qos), (true, first.id, qos));
        wire.ack(3 + qos, second.id).await;
        if qos == 2 {
            wire.expect_ack(6, second.id, 0).await;
            wire.ack(7, second.id).await;
        }
    }
}

pub(super) async fn no_dup_with_qos_0(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 0).await;
    for (flags, id) in [(0, 0), (2, 5), (10, 6)] {
        publisher.publish(flags, id, place.topic("t"), "x").await;
        assert!(!subscriber.expect_publish().await.dup);
    }
    let bytes = publisher.publish_bytes(8, 0, place.topic("t"), &[], "x");
    place.ends("DUP with QoS 0", &bytes, &[0x81, 0x82]).await;
}

pub(super) async fn dup_is_not_passed_on(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    for flags in [8 | 2, 8 | 4] {
        publisher.say_with(flags, place.topic("t"), &[], "x").await;
        let got = subscriber.expect_publish().await;
        assert_eq!((got.dup, got.qos), (false, flags >> 1 & 3));
    }
}

pub(super) async fn qos_3(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for flags in [6, 7, 14, 15] {
        place.ends("QoS 3", &packet(0x30 | flags, &[&text(place.topic("t")), &[0, 1], none, b"x"]), &[0x81, 0x82]).await;
    }
}

pub(super) async fn topic_comes_first(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let codes = [0x81, 0x82, 0x90];
    for (name, bytes) in [
        ("no topic", packet(0x30, &[])),
        ("half a length", packet(0x30, &[&[0]])),
        ("a cut topic", packet(0x30, &[&[0, 9, b'a']])),
        ("an empty topic", packet(0x30, &[&text(""), none])),
        ("no UTF-8", packet(0x30, &[&text(b"a\xFF"), none])),
        ("no identifier", packet(0x32, &[&text("a")])),
    ] {
        place.ends(name, &bytes, &codes).await;
    }
}

pub(super) async fn no_wildcards_in_names(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let (mut publisher, mut subscriber) = place.pair("#", 0).await;
    for name in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        let name = place.topic(name);
        place.ends(&name, &packet(0x30, &[&text(&name), none, b"x"]), &[0x81, 0x82, 0x90]).await;
    }
    assert!(place.collect(&mut publisher, &mut subscriber).await.is_empty());
}

pub(super) async fn names_match_the_filter(place: Place) {
    for (filter, matching, other) in [("a/+/c", "a/b/c", "a/b"), ("x/#", "x/y/z", "y/x"), ("exact", "exact", "Exact")] {
        let (mut publisher, mut subscriber) = place.pair(filter, 0).await;
        publisher.say(1, place.topic(other), "no").await;
        publisher.say(1, place.topic(matching), "yes").await;
        let got = place.collect(&mut publisher, &mut subscriber).await;
        let seen: Vec<_> = got.iter().map(|publish| (publish.topic.clone(), &publish.payload[..])).collect();
        assert_eq!(seen, [(place.topic(matching), &b"yes"[..])], "{filter}");
    }
}

/// Sends a message with `given` and expects the same at every QoS of a subscription, and when retained.
async fn travels(place: &Place, given: &[u8]) {
    for qos in 0..=2 {
        // Retain handling 2: what the round before retained stays away.
        let (mut publisher, mut subscriber) = place.pair("t", 0x20 | qos).await;
        publisher.say_with(qos << 1 | 1, place.topic("t"), given, "x").await;
        assert_eq!(subscriber.expect_publish().await.properties, given, "QoS {qos}");
        assert_eq!(place.retained("t").await[0].properties, given, "retained with QoS {qos}");
    }
}

pub(super) async fn payload_format_indicator(place: Place) {
    for indicator in [0, 1] {
        travels(&place, &[1, indicator]).await;
    }
}

pub(super) async fn response_topic(place: Place) {
    for topic in ["reply/to", "é", "$share/x", "/"] {
        travels(&place, &string_property(8, topic)).await;
    }
}

pub(super) async fn correlation_data(place: Place) {
    for data in [&b""[..], b"\0\xFF\xC0", &[7; 300]] {
        travels(&place, &string_property(9, data)).await;
    }
}

pub(super) async fn user_properties(place: Place) {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("é", "日本"), ("b", "0")];
    travels(&place, &pairs.map(|(name, value)| user_property(name, value)).concat()).await;
}

pub(super) async fn content_type(place: Place) {
    for text in ["", "application/json", "é/ü"] {
        travels(&place, &string_property(3, text)).await;
    }
}

pub(super) async fn texts_of_properties(place: Place) {
    let topic = text(place.topic("t"));
    for (name, id) in [("response topic", 8), ("content type", 3)] {
        for bad in [&b"\xFF"[..], b"\xED\xA0\x80", b"a\0"] {
            let bytes = packet(0x30, &[&topic, &properties(&[&string_property(id, bad)]), b"x"]);
            place.ends(name, &bytes, &[0x81, 0x82, 0x90]).await;
        }
    }
}

pub(super) async fn response_topic_without_wildcards(place: Place) {
    for bad in ["a/#", "+", "a/+/b"] {
        let bytes = packet(0x30, &[&text(place.topic("t")), &properties(&[&string_property(8, bad)]), b"x"]);
        place.ends(bad, &bytes, &[0x81, 0x82, 0x90]).await;
    }
}

const fn expiry(seconds: u8) -> [u8; 5] {
    [2, 0, 0, 0, seconds]
}

pub(super) async fn expired_copies_are_deleted(place: Place) {
    let mut sleeper = Wire::connect(&place, place.keep("sleeper")).await;
    sleeper.subscribe(1, &place.topic("t"), 1).await;
    drop(sleeper);
    let mut publisher = place.wire("publisher").await;
    for (payload, given) in [("at once", &expiry(0)[..]), ("short", &expiry(1)), ("long", &expiry(100)), ("endless", &[])] {
        publisher.say_with(2, place.topic("t"), given, payload).await;
    }
    publisher.say_with(3, place.topic("kept"), &expiry(1), "short").await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let mut sleeper = Wire::connect(&place, place.keep("sleeper")).await;
    for expected in ["long", "endless"] {
        assert_eq!(sleeper.expect_publish().await.payload, expected.as_bytes());
    }
    assert!(place.retained("kept").await.is_empty(), "a retained message expires, too");
}

pub(super) async fn expiry_counts_down(place: Place) {
    let mut sleeper = Wire::connect(&place, place.keep("sleeper")).await;
    sleeper.subscribe(1, &place.topic("t"), 1).await;
    drop(sleeper);
    let mut publisher = place.wire("publisher").await;
    publisher.say_with(3, place.topic("t"), &expiry(100), "x").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut sleeper = Wire::connect(&place, place.keep("sleeper")).await;
    for got in [sleeper.expect_publish().await, place.retained("t").await.remove(0)] {
        let left = property(&read_properties(&got.properties), 2).expect("Message Expiry Interval");
        let left = u32::from_be_bytes(left.try_into().unwrap());
        assert!((60..100).contains(&left), "{left} of 100 after more than a second");
    }
    // What did not wait keeps what it had, or nearly.
    let (mut publisher, mut subscriber) = place.pair("now", 0).await;
    publisher.say_with(0, place.topic("now"), &expiry(100), "x").await;
    let left = property(&read_properties(&subscriber.expect_publish().await.properties), 2).expect("Message Expiry Interval");
    assert!(left[3] > 60 && left[3] <= 100);
}

pub(super) async fn aliases_end_with_the_connection(place: Place) {
    for _ in 0..2 {
        let mut wire = Wire::connect(&place, place.keep("x")).await;
        let undefined = wire.publish_bytes(0, 0, "", &[0x23, 0, 1], "x");
        let define = wire.publish_bytes(0, 0, place.topic("t"), &[0x23, 0, 1], "x");
        wire.send(&[&define[..], &undefined].concat()).await;
        wire.expect_quiet().await;
    }
    let mut wire = Wire::connect(&place, place.keep("x")).await;
    let undefined = wire.publish_bytes(0, 0, "", &[0x23, 0, 1], "x");
    wire.send(&undefined).await;
    closed("an alias of the former connection", &mut wire, &[0x82, 0x94]).await;
}

pub(super) async fn alias_0(place: Place) {
    let bytes = packet(0x30, &[&text(place.topic("t")), &properties(&[&[0x23, 0, 0]]), b"x"]);
    place.ends("alias 0", &bytes, &[0x81, 0x82, 0x94]).await;
}

fn alias_maximum(connack: &crate::mqtt::wire::Packet) -> u16 {
    property(&properties_after(connack, 2), 0x22).map_or(0, |value| super::place::number(&value))
}

pub(super) async fn alias_above_the_maximum(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let [high, low] = (alias_maximum(&connack) + 1).to_be_bytes();
    let bytes = wire.publish_bytes(0, 0, place.topic("t"), &[0x23, high, low], "x");
    wire.send(&bytes).await;
    closed("one above the maximum", &mut wire, &[0x94]).await;
}

pub(super) async fn every_alias_up_to_the_maximum(place: Place) {
    let (_, mut subscriber) = place.pair("+", 0).await;
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let maximum = alias_maximum(&connack);
    assert!(maximum > 0, "aliases are supported");
    for round in 0..2 {
        for alias in 1..=maximum {
            let [high, low] = alias.to_be_bytes();
            let topic = place.topic(&format!("t{alias}"));
            let bytes = wire.publish_bytes(0, 0, if round == 0 { &*topic } else { "" }, &[0x23, high, low], "x");
            wire.send(&bytes).await;
            assert_eq!(subscriber.expect_publish().await.topic, topic);
        }
    }
}

/// What a subscriber with this Topic Alias Maximum gets: the aliases that came, each topic checked.
async fn aliases_from_the_server(place: &Place, maximum: Option<u16>) -> Vec<u16> {
    let given = maximum.map_or(Vec::new(), |maximum| [&[0x22][..], &maximum.to_be_bytes()].concat());
    let mut subscriber = Wire::connect(place, Connect { properties: given, ..place.connect("subscriber") }).await;
    subscriber.subscribe(1, &place.topic("+"), 0).await;
    let mut publisher = place.wire("publisher").await;
    let (mut known, mut seen) = (std::collections::HashMap::new(), Vec::new());
    for number in 0..30 {
        let topic = place.topic(&format!("t{}", number % 6));
        publisher.publish(0, 0, &topic, "x").await;
        let got = subscriber.expect_publish().await;
        let alias = property(&read_properties(&got.properties), 0x23).map(|value| super::place::number(&value));
        if let Some(alias) = alias {
            seen.push(alias);
            if !got.topic.is_empty() {
                known.insert(alias, got.topic.clone());
            }
            assert_eq!(known.get(&alias), Some(&topic), "alias {alias}");
        } else {
            assert_eq!(got.topic, topic);
        }
    }
    seen
}

pub(super) async fn server_aliases_within_the_maximum(place: Place) {
    for maximum in [1, 3, 100] {
        let seen = aliases_from_the_server(&place, Some(maximum)).await;
        assert!(seen.iter().all(|alias| (1..=maximum).contains(alias)), "maximum {maximum}: {seen:?}");
    }
}

pub(super) async fn no_server_aliases_unasked(place: Place) {
    for maximum in [None, Some(0)] {
        assert!(aliases_from_the_server(&place, maximum).await.is_empty());
    }
}

pub(super) async fn answers_by_qos(place: Place) {
    let mut wire = place.wire("x").await;
    wire.publish(0, 0, place.topic("t"), "x").await;
    wire.expect_quiet().await;
    wire.publish(2, 5, place.topic("t"), "x").await;
    wire.expect_done(4, 5).await;
    wire.publish(4, 6, place.topic("t"), "x").await;
    wire.expect_done(5, 6).await;
    wire.expect_quiet().await;
}

pub(super) async fn subscription_identifier_from_a_client(place: Place) {
    let bytes = packet(0x30, &[&text(place.topic("t")), &properties(&[&[0x0B, 5]]), b"x"]);
    place.ends("subscription identifier", &bytes, &[0x81, 0x82]).await;
}
