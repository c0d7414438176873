//! Sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE with their answers; and how overlapping subscriptions are served.

use super::place::{Place, properties_after, property, read_properties};
use crate::mqtt::wire::{Connect, Wire, packet, text};

pub(super) async fn flags(place: Place) {
    let mut wire = place.wire("x").await;
    let bytes = wire.subscribe_bytes(1, &[], &place.topic("t"), 0);
    wire.expect_quiet().await;
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut bytes = bytes.clone();
        bytes[0] = 0x80 | flags;
        place.ends("SUBSCRIBE with other flags", &bytes, &[0x81]).await;
    }
}

pub(super) async fn unsubscribe_flags(place: Place) {
    let wire = place.wire("x").await;
    let bytes = wire.unsubscribe_bytes(1, &[&place.topic("t")]);
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut bytes = bytes.clone();
        bytes[0] = 0xA0 | flags;
        place.ends("UNSUBSCRIBE with other flags", &bytes, &[0x81]).await;
    }
}

pub(super) async fn filters_are_utf8(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for bad in [&b"\xFF"[..], b"\xED\xA0\x80", b"a\0"] {
        for (name, bytes) in [
            ("SUBSCRIBE", packet(0x82, &[&[0, 1], none, &text(bad), &[0]])),
            ("UNSUBSCRIBE", packet(0xA2, &[&[0, 1], none, &text(bad)])),
            ("a second filter", packet(0x82, &[&[0, 1], none, &text(place.topic("t")), &[0], &text(bad), &[0]])),
        ] {
            place.ends(name, &bytes, &[0x81, 0x82, 0x8F]).await;
        }
    }
}

pub(super) async fn at_least_one_filter(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    place.ends("SUBSCRIBE to nothing", &packet(0x82, &[&[0, 1], none]), &[0x81, 0x82]).await;
    place.ends("a filter without options", &packet(0x82, &[&[0, 1], none, &text("a")]), &[0x81, 0x82]).await;
}

pub(super) async fn at_least_one_filter_to_leave(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    place.ends("UNSUBSCRIBE from nothing", &packet(0xA2, &[&[0, 1], none]), &[0x81, 0x82]).await;
}

pub(super) async fn no_local(place: Place) {
    let mut wire = place.wire("narcissus").await;
    wire.subscribe(1, &place.topic("t"), 4).await;
    wire.subscribe(2, &place.topic("fence"), 0).await;
    wire.say(1, place.topic("t"), "own").await;
    let mut other = place.wire("other").await;
    other.say(1, place.topic("t"), "another's").await;
    assert_eq!(place.payloads(&mut other, &mut wire).await, ["another's"]);
    let fence = wire.publish_bytes(0, 0, place.topic("fence"), &[], "");
    wire.send(&fence).await;
    assert_eq!(wire.expect_publish().await.topic, place.topic("fence"), "its own did not come late either");
}

pub(super) async fn no_local_with_shared(place: Place) {
    let filter = format!("$share/group/{}", place.topic("t"));
    let wire = place.wire("x").await;
    let bytes = wire.subscribe_bytes(1, &[], &filter, 4);
    place.ends("no local on a shared subscription", &bytes, &[0x82]).await;
}

pub(super) async fn reserved_options(place: Place) {
    let wire = place.wire("x").await;
    let bits: &[u8] = if place.five() { &[0x40, 0x80, 0xC0, 0x03, 0x30] } else { &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x03, 0xFF] };
    for options in bits {
        let bytes = wire.subscribe_bytes(1, &[], &place.topic("t"), *options);
        place.ends(&format!("options {options:#x}"), &bytes, &[0x81, 0x82]).await;
    }
}

pub(super) async fn is_answered(place: Place) {
    let mut wire = place.wire("x").await;
    for (id, qos) in [(1, 0), (0x1234, 1), (0xFFFF, 2)] {
        wire.send(&wire.subscribe_bytes(id, &[], &place.topic("t"), qos)).await;
        assert_eq!(wire.codes(9, id).await, [qos]);
    }
}

pub(super) async fn replaces(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    for qos in [2, 0, 1] {
        subscriber.subscribe(5, &place.topic("t"), qos).await;
        publisher.say(2, place.topic("t"), "x").await;
        let got = place.collect(&mut publisher, &mut subscriber).await;
        assert_eq!(got.iter().map(|publish| publish.qos).collect::<Vec<_>>(), [qos], "one copy, at the new QoS");
    }
}

/// Publishes all the while and subscribes anew: each message comes exactly once, the retained one with every SUBSCRIBE.
pub(super) async fn replacing_loses_nothing(place: Place) {
    let mut publisher = place.wire("publisher").await;
    publisher.say_with(3, place.topic("r/kept"), &[], "kept").await;
    let mut subscriber = place.wire("subscriber").await;
    subscriber.subscribe(1, &place.topic("fence"), 0).await;
    subscriber.subscribe(2, &place.topic("r/+"), 1).await;
    let (mut numbers, mut kept, mut subacks) = (Vec::new(), 0, 0);
    for round in 0..10_u8 {
        subscriber.send(&subscriber.subscribe_bytes(3, &[], &place.topic("r/+"), 1)).await;
        for number in 0..10 {
            publisher.say(1, place.topic("r/live"), [round * 10 + number]).await;
        }
    }
    publisher.publish(0, 0, place.topic("fence"), "").await;
    loop {
        let packet = subscriber.receive().await;
        if packet.kind() == 9 {
            subacks += 1;
            continue;
        }
        let publish = packet.publish(place.five());
        if publish.topic == place.topic("fence") {
            break;
        }
        subscriber.ack(4, publish.id).await;
        if publish.topic == place.topic("r/kept") {
            kept += 1;
        } else {
            numbers.push(publish.payload[0]);
        }
    }
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!((subacks, kept), (10, 11));
}

pub(super) async fn several_filters(place: Place) {
    let (mut publisher, _) = place.pair("none", 0).await;
    let mut wire = place.wire("several").await;
    let (a, b, c) = (place.topic("a"), place.topic("b"), place.topic("c"));
    wire.send(&wire.subscribe_all_bytes(7, &[(&a, 0), (&b, 2), (&c, 1), (&place.topic("fence"), 0)])).await;
    assert_eq!(wire.codes(9, 7).await, [0, 2, 1, 0], "one SUBACK, a code for each in their order");
    for topic in [&c, &b, &a] {
        publisher.say(2, topic, "x").await;
    }
    let got = place.collect(&mut publisher, &mut wire).await;
    let seen: Vec<_> = got.iter().map(|publish| (&publish.topic, publish.qos)).collect();
    assert_eq!(seen, [(&c, 1), (&b, 2), (&a, 0)]);
    // As if they had come one after the other: of two equal filters the later counts.
    wire.send(&wire.subscribe_all_bytes(8, &[(&a, 0), (&a, 1)])).await;
    assert_eq!(wire.codes(9, 8).await, [0, 1]);
    publisher.say(2, &a, "x").await;
    let got = place.collect(&mut publisher, &mut wire).await;
    assert_eq!(got.iter().map(|publish| publish.qos).collect::<Vec<_>>(), [1]);
}

/// In MQTT 5 a bad filter between good ones has its code in its place; 3.1.1 has codes for what it grants.
pub(super) async fn codes_in_order(place: Place) {
    let mut wire = place.wire("x").await;
    let (a, b) = (place.topic("a"), place.topic("b"));
    if place.five() {
        wire.send(&wire.subscribe_all_bytes(7, &[(&a, 1), ("a/#/b", 2), (&b, 2), ("x+", 0), (&a, 0)])).await;
        assert_eq!(wire.codes(9, 7).await, [1, 0x8F, 2, 0x8F, 0]);
    } else {
        wire.send(&wire.subscribe_all_bytes(7, &[(&a, 1), (&b, 2), (&a, 0), (&b, 1)])).await;
        assert_eq!(wire.codes(9, 7).await, [1, 2, 0, 1]);
    }
}

pub(super) async fn suback_codes(place: Place) {
    let known: &[u8] = if place.five() { &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2] } else { &[0, 1, 2, 0x80] };
    let deep = "a/".repeat(300);
    let mut filters = vec![(&*deep, 0), ("$SYS/#", 1), ("$share/group/x", 1), ("ok", 2)];
    if place.five() {
        filters.extend([("a/#/b", 0), ("$share/", 0), ("$share/g+/a", 0)]);
    }
    let mut wire = place.wire("x").await;
    for chunk in filters.chunks(1) {
        wire.send(&wire.subscribe_all_bytes(7, chunk)).await;
        let packet = wire.receive().await;
        if packet.kind() == 9 {
            let code = *packet.body.last().unwrap();
            assert!(known.contains(&code), "{chunk:?}: {code:#x}");
        } else {
            assert!(packet.publish(place.five()).retain, "only what is retained may come in between");
        }
    }
}

pub(super) async fn lower_of_both(place: Place) {
    for granted in 0..=2 {
        let (mut publisher, mut subscriber) = place.pair("t", granted).await;
        for published in 0..=2 {
            publisher.say(published, place.topic("t"), "x").await;
            let got = place.collect(&mut publisher, &mut subscriber).await;
            assert_eq!(got.iter().map(|publish| publish.qos).collect::<Vec<_>>(), [granted.min(published)]);
        }
    }
}

/// Answers to SUBSCRIBE and UNSUBSCRIBE with faults, for a client that takes small packets only.
async fn small_answers(place: &Place, kind: u8) {
    let mut wire = Wire::connect(place, Connect { properties: vec![0x27, 0, 0, 0, 60], ..place.connect("small") }).await;
    let filters = [("a/#/b", 0), ("x+", 1), ("ok", 2)];
    let bytes =
        if kind == 9 { wire.subscribe_all_bytes(7, &filters) } else { wire.unsubscribe_bytes(7, &filters.map(|(filter, _)| filter)) };
    wire.send(&bytes).await;
    let answer = wire.receive().await;
    assert!(answer.first == kind << 4 && answer.size() <= 60, "{answer:x?}");
    assert_eq!(property(&properties_after(&answer, 2), 0x26), None, "no user properties");
}

pub(super) async fn subacks_fit(place: Place) {
    small_answers(&place, 9).await;
}

pub(super) async fn unsubacks_fit(place: Place) {
    small_answers(&place, 11).await;
}

pub(super) async fn compared_by_character(place: Place) {
    let (mut publisher, mut wire) = place.pair("a/b", 0).await;
    for other in ["a/+", "a/#", "+/b", "A/b", "a/b/", "a//b", "a/b ", "#"] {
        wire.send(&wire.unsubscribe_bytes(9, &[&place.topic(other)])).await;
        let codes = wire.codes(11, 9).await;
        assert!(!place.five() || codes == [0x11], "{other}: {codes:x?}");
    }
    publisher.say(0, place.topic("a/b"), "x").await;
    assert_eq!(place.payloads(&mut publisher, &mut wire).await, ["x"], "none of them was the same filter");
    wire.subscribe(3, &place.topic("a/+"), 0).await;
    wire.send(&wire.unsubscribe_bytes(9, &[&place.topic("a/b")])).await;
    wire.codes(11, 9).await;
    publisher.say(0, place.topic("a/b"), "y").await;
    assert_eq!(place.payloads(&mut publisher, &mut wire).await, ["y"], "the one with a wildcard stays");
    wire.send(&wire.unsubscribe_bytes(9, &[&place.topic("a/+")])).await;
    wire.codes(11, 9).await;
    publisher.say(0, place.topic("a/b"), "z").await;
    assert!(place.payloads(&mut publisher, &mut wire).await.is_empty());
}

pub(super) async fn nothing_after_unsubscribing(place: Place) {
    let (mut publisher, mut wire) = place.pair("t", 1).await;
    publisher.say(1, place.topic("t"), "before").await;
    assert_eq!(place.payloads(&mut publisher, &mut wire).await, ["before"]);
    wire.send(&wire.unsubscribe_bytes(9, &[&place.topic("t")])).await;
    wire.codes(11, 9).await;
    publisher.say(1, place.topic("t"), "after").await;
    assert!(place.payloads(&mut publisher, &mut wire).await.is_empty());
}

pub(super) async fn begun_deliveries_are_completed(place: Place) {
    let mut wire = Wire::connect(&place, place.keep("x")).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    let mut publisher = place.wire("publisher").await;
    for qos in [1, 2] {
        publisher.say(qos, place.topic("t"), "x").await;
    }
    let (one, two) = (wire.expect_publish().await, wire.expect_publish().await);
    wire.send(&wire.unsubscribe_bytes(9, &[&place.topic("t")])).await;
    wire.codes(11, 9).await;
    drop(wire);
    let mut wire = Wire::connect(&place, place.keep("x")).await;
    let again = [wire.expect_publish().await, wire.expect_publish().await];
    assert_eq!([again[0].id, again[1].id], [one.id, two.id], "sent again, though the subscription is gone");
    wire.ack(4, one.id).await;
    wire.ack(5, two.id).await;
    wire.expect_ack(6, two.id, 0).await;
    wire.ack(7, two.id).await;
    wire.expect_quiet().await;
}

pub(super) async fn unsubscribe_is_answered(place: Place) {
    let mut wire = place.wire("x").await;
    wire.subscribe(1, &place.topic("t"), 0).await;
    for (id, code) in [(0x1234, 0), (0xFFFF, 0x11), (1, 0x11)] {
        wire.send(&wire.unsubscribe_bytes(id, &[&place.topic("t")])).await;
        let codes = wire.codes(11, id).await;
        assert_eq!(codes, if place.five() { vec![code] } else { Vec::new() });
    }
}

pub(super) async fn several_filters_to_leave(place: Place) {
    let (mut publisher, mut wire) = place.pair("a", 0).await;
    let (a, b, c) = (place.topic("a"), place.topic("b"), place.topic("c"));
    wire.subscribe(3, &b, 0).await;
    wire.send(&wire.unsubscribe_bytes(9, &[&a, &c, &b, &a])).await;
    let codes = wire.codes(11, 9).await;
    assert_eq!(codes, if place.five() { vec![0, 0x11, 0, 0x11] } else { Vec::new() }, "one UNSUBACK");
    for topic in [&a, &b, &c] {
        publisher.say(0, topic, "x").await;
    }
    assert!(place.payloads(&mut publisher, &mut wire).await.is_empty());
}

pub(super) async fn unsuback_codes(place: Place) {
    let mut wire = place.wire("x").await;
    wire.subscribe(1, &place.topic("t"), 0).await;
    // Nobody can have subscribed to a filter that is not one, so both codes are true of it.
    for (filter, expected) in [(&*place.topic("t"), &[0][..]), ("nothing", &[0x11]), ("a/#/b", &[0x8F, 0x11]), ("$share/group/x", &[0x11])]
    {
        wire.send(&wire.unsubscribe_bytes(9, &[filter])).await;
        let codes = wire.codes(11, 9).await;
        assert!(codes.len() == 1 && expected.contains(&codes[0]), "{filter}: {codes:x?}");
    }
}

/// One client with overlapping subscriptions, each with its own QoS and, in MQTT 5, identifier.
async fn overlapping(place: &Place) -> (Wire, Wire) {
    let publisher = place.wire("publisher").await;
    let mut wire = place.wire("overlap").await;
    wire.subscribe(1, &place.topic("fence"), 0).await;
    for (id, filter, qos) in [(3_u8, "a/b", 0), (2, "a/+", 2), (1, "#", 1)] {
        let given: &[u8] = if place.five() { &[0x0B, id] } else { &[] };
        wire.send(&wire.subscribe_bytes(id.into(), given, &place.topic(filter), qos)).await;
        assert_eq!(wire.codes(9, id.into()).await, [qos]);
    }
    (publisher, wire)
}

pub(super) async fn maximum_of_overlapping(place: Place) {
    let (mut publisher, mut wire) = overlapping(&place).await;
    publisher.say(2, place.topic("a/b"), "x").await;
    let got = wire.expect_publish().await;
    assert_eq!(got.qos, 2, "the highest of 0, 1 and 2");
}

fn identifiers(properties: &[u8]) -> Vec<u8> {
    let mut ids: Vec<u8> = read_properties(properties)
        .iter()
        .filter(|(id, _)| *id == 0x0B)
        .map(|(_, value)| value.last().copied().unwrap_or_default())
        .collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn identifiers_of_overlapping(place: Place) {
    let (mut publisher, mut wire) = overlapping(&place).await;
    for (topic, expected) in [("a/b", &[1, 2, 3][..]), ("a/c", &[1, 2]), ("b", &[1])] {
        publisher.say(0, place.topic(topic), "x").await;
        let got = wire.expect_publish().await;
        assert_eq!(identifiers(&got.properties), expected, "{topic}: one copy, all identifiers");
    }
    wire.expect_quiet().await;
}

/// Subscriptions without an identifier add none.
pub(super) async fn identifiers_of_those_that_have_one(place: Place) {
    let (mut publisher, mut wire) = overlapping(&place).await;
    wire.subscribe(4, &place.topic("a/b"), 0).await; // replaces the one with identifier 3
    publisher.say(0, place.topic("a/b"), "x").await;
    assert_eq!(identifiers(&wire.expect_publish().await.properties), [1, 2]);
}
