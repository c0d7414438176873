//! Sections 4.7 and 4.8: names, filters, matching, shared subscriptions.

use super::place::Place;
use crate::mqtt::{
    broker::Running,
    wire::{Connect, Wire, packet, text},
};

pub(super) async fn wildcards_in_filters_only(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for name in ["a/+", "#", "+"] {
        place.ends(name, &packet(0x30, &[&text(place.topic(name)), none, b"x"]), &[0x81, 0x82, 0x90]).await;
    }
    for filter in ["a/+", "#", "+", "+/b/#"] {
        place.wire("x").await.subscribe(1, &place.topic(filter), 0).await;
    }
}

/// MQTT 5 answers a bad filter with a code in SUBACK or ends the connection; 3.1.1 ends it or answers 0x80.
async fn bad_filter(place: &Place, filter: &str) {
    let mut wire = place.wire("x").await;
    wire.send(&wire.subscribe_bytes(1, &[], filter, 0)).await;
    let answer = wire.receive_or_end().await;
    match answer {
        None => assert!(!place.five(), "{filter}: ended without DISCONNECT"),
        Some(packet) if packet.first == 0x90 => {
            let code = *packet.body.last().unwrap();
            assert!(if place.five() { code == 0x8F } else { code == 0x80 }, "{filter}: {code:#x}");
        }
        Some(packet) => assert!(packet.first == 0xE0 && [0x81, 0x82, 0x8F].contains(&packet.body[0]), "{filter}: {packet:x?}"),
    }
}

/// Which of `topics` reach a subscriber to `filter`.
async fn matching(place: &Place, filter: &str, topics: &[&str]) -> Vec<String> {
    let (mut publisher, mut subscriber) = place.pair(filter, 0).await;
    for topic in topics {
        publisher.say(1, place.topic(topic), "x").await;
    }
    let got = place.collect(&mut publisher, &mut subscriber).await;
    let own = place.topic("");
    got.iter().map(|publish| publish.topic.strip_prefix(&own).unwrap_or(&publish.topic).to_owned()).collect()
}

pub(super) async fn multi_level(place: Place) {
    for bad in ["a/#/b", "a#", "#a", "#/a", "##", "a/b#", "a/#/"] {
        bad_filter(&place, bad).await;
    }
    assert_eq!(matching(&place, "a/#", &["a", "a/b", "a/b/c", "b", "ab", "a/"]).await, ["a", "a/b", "a/b/c", "a/"]);
    let broker = Running::start().await; // `#` alone sees everything, so it wants a broker of its own
    let mut wire = Wire::connect(&broker, Connect { level: place.level, ..Connect::v4("x") }).await;
    wire.subscribe(1, "#", 0).await;
    for topic in ["a", "/", "a/b/c"] {
        wire.publish(0, 0, topic, "").await;
        assert_eq!(wire.expect_publish().await.topic, topic);
    }
}

pub(super) async fn single_level(place: Place) {
    for bad in ["a+", "+a", "a/b+", "a/+b/c", "++", "a/+#"] {
        bad_filter(&place, bad).await;
    }
    assert_eq!(matching(&place, "+", &["a", "a/b", "", "b"]).await, ["a", "", "b"]);
    assert_eq!(matching(&place, "a/+/c", &["a/b/c", "a//c", "a/c", "a/b/b/c", "a/b/c/d"]).await, ["a/b/c", "a//c"]);
    assert_eq!(matching(&place, "a/+", &["a", "a/", "a/b", "a/b/c"]).await, ["a/", "a/b"]);
    assert_eq!(matching(&place, "+/#", &["a", "a/b"]).await, ["a", "a/b"]);
}

pub(super) async fn dollar_topics_hide(place: Place) {
    let broker = Running::start().await;
    let connect = |who: &str| Connect { level: place.level, ..Connect::v4(who) };
    for (filter, expected) in [("#", &["x/a"][..]), ("+/a", &["x/a"]), ("+/#", &["x/a"]), ("$x/a", &["$x/a"]), ("$x/#", &["$x/a"])] {
        let mut publisher = Wire::connect(&broker, connect("publisher")).await;
        let mut wire = Wire::connect(&broker, connect("subscriber")).await;
        wire.subscribe(1, filter, 0).await;
        wire.subscribe(2, "$fence", 0).await;
        for topic in ["$x/a", "x/a", "$fence"] {
            publisher.say(1, topic, "").await;
        }
        let mut got = Vec::new();
        loop {
            let topic = wire.expect_publish().await.topic;
            if topic == "$fence" {
                break;
            }
            got.push(topic);
        }
        assert_eq!(got, expected, "{filter}");
    }
}

pub(super) async fn at_least_one_character(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    place.ends("PUBLISH", &packet(0x30, &[&text(""), none, b"x"]), &[0x81, 0x82, 0x90]).await;
    bad_filter(&place, "").await;
    place.ends("UNSUBSCRIBE", &packet(0xA2, &[&[0, 1], none, &text("")]), &[0x81, 0x82, 0x8F]).await;
    assert_eq!(matching(&place, "/", &["/", ""]).await, ["/"], "a slash alone is a topic");
}

pub(super) async fn no_null_character(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let bad = text("a\0b");
    place.ends("PUBLISH", &packet(0x30, &[&bad, none, b"x"]), &[0x81, 0x82, 0x90]).await;
    place.ends("SUBSCRIBE", &packet(0x82, &[&[0, 1], none, &bad, &[0]]), &[0x81, 0x82, 0x8F]).await;
    place.ends("UNSUBSCRIBE", &packet(0xA2, &[&[0, 1], none, &bad]), &[0x81, 0x82, 0x8F]).await;
}

/// Longer ones cannot be said; the longest is good.
pub(super) async fn longest_topic(place: Place) {
    let longest = format!("{}/{}", place.name, "x".repeat(65_535 - place.name.len() - 1));
    let mut wire = place.wire("x").await;
    wire.subscribe(1, &longest, 1).await;
    let mut publisher = place.wire("publisher").await;
    publisher.say(1, &longest, "payload").await;
    let got = wire.expect_publish().await;
    assert!(got.topic == longest && got.payload == b"payload");
}

pub(super) async fn no_normalisation(place: Place) {
    // Composed and decomposed, upper and lower case, blanks, doubled and trailing slashes, ligatures, a noncharacter.
    let topics = ["é", "e\u{301}", "É", "a", "A", " a", "a ", "a/", "/a", "a//b", "a/b", "ﬁ", "fi", "\u{FFFF}", "\u{1F512}"];
    for topic in topics {
        assert_eq!(matching(&place, topic, &topics).await, [topic], "{topic:?}");
    }
}

const CLOSED: &[u8] = &[0x81, 0x82, 0x8F];

pub(super) async fn share_names(place: Place) {
    for bad in ["$share/", "$share//a", "$share"] {
        shared_refused(&place, bad).await;
    }
    let good = format!("$share/g/{}", place.topic("t"));
    place.wire("x").await.subscribe(1, &good, 1).await;
}

async fn shared_refused(place: &Place, filter: &str) {
    let mut wire = place.wire("x").await;
    wire.send(&wire.subscribe_bytes(1, &[], filter, 0)).await;
    let packet = wire.receive().await;
    let code = if packet.first == 0x90 { *packet.body.last().unwrap() } else { packet.body[0] };
    assert!(CLOSED.contains(&code), "{filter}: {packet:x?}");
}

pub(super) async fn share_names_without_wildcards(place: Place) {
    for bad in ["$share/g+/a", "$share/g#/a", "$share/+/a", "$share/#/a", "$share/g", "$share/g/"] {
        shared_refused(&place, bad).await;
    }
    for (filter, topic) in [("+", "t"), ("a/#", "a/b")] {
        let mut wire = place.wire("x").await;
        wire.subscribe(1, &format!("$share/g/{}", place.topic(filter)), 0).await;
        place.wire("publisher").await.say(0, place.topic(topic), "x").await;
        assert_eq!(wire.expect_publish().await.topic, place.topic(topic));
    }
}

/// Each message goes to one of the group, at the QoS that this one was granted.
pub(super) async fn shared_qos(place: Place) {
    let filter = format!("$share/g/{}", place.topic("t"));
    let mut members = Vec::new();
    for qos in 0..=2 {
        let mut wire = place.wire(&format!("member-{qos}")).await;
        wire.subscribe(1, &place.topic("fence"), 0).await;
        wire.subscribe(2, &filter, qos).await;
        members.push(wire);
    }
    let mut publisher = place.wire("publisher").await;
    for number in 0..30 {
        publisher.say(2, place.topic("t"), number.to_string()).await;
    }
    publisher.publish(0, 0, place.topic("fence"), "").await;
    let mut all = Vec::new();
    for (granted, member) in (0..).zip(&mut members) {
        loop {
            let packet = member.receive().await;
            if packet.kind() == 6 {
                member.ack(7, super::place::id_of(&packet)).await;
                continue;
            }
            let got = packet.publish(true);
            if got.topic == place.topic("fence") {
                break;
            }
            assert_eq!(got.qos, granted);
            if got.qos > 0 {
                member.ack(3 + got.qos, got.id).await;
            }
            all.push(String::from_utf8(got.payload).unwrap().parse::<u32>().unwrap());
        }
    }
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>(), "each once in the whole group");
}

/// A member with a session to keep, to which a QoS 2 message has gone, and another member; the identifier of that message.
async fn group(place: &Place) -> (Wire, Wire, Wire, u16) {
    let filter = format!("$share/g/{}", place.topic("t"));
    let mut first = Wire::connect(place, place.keep("first")).await;
    first.subscribe(1, &filter, 2).await;
    let mut publisher = place.wire("publisher").await;
    publisher.say(2, place.topic("t"), "x").await;
    let id = first.expect_publish().await.id;
    let mut second = place.wire("second").await;
    second.subscribe(1, &place.topic("fence"), 0).await;
    second.subscribe(2, &filter, 2).await;
    (publisher, first, second, id)
}

pub(super) async fn shared_qos_2_is_completed(place: Place) {
    let (mut publisher, first, mut second, id) = group(&place).await;
    drop(first);
    let mut first = Wire::connect(&place, place.keep("first")).await;
    let again = first.expect_publish().await;
    assert_eq!((again.id, again.dup), (id, true));
    first.ack(5, id).await;
    first.expect_ack(6, id, 0).await;
    assert!(place.collect(&mut publisher, &mut second).await.is_empty(), "it belongs to the first");
}

pub(super) async fn shared_qos_2_ends_with_its_session(place: Place) {
    let (mut publisher, first, mut second, _) = group(&place).await;
    drop(first);
    let anew = Wire::connect(&place, Connect { clean: true, ..place.keep("first") }).await;
    assert!(place.collect(&mut publisher, &mut second).await.is_empty());
    drop(anew);
}

pub(super) async fn shared_refused_is_discarded(place: Place) {
    let (mut publisher, mut first, mut second, id) = group(&place).await;
    let [high, low] = id.to_be_bytes();
    first.send(&[0x50, 3, high, low, 0x97]).await;
    first.expect_quiet().await;
    assert!(place.collect(&mut publisher, &mut second).await.is_empty(), "QoS 2, refused with PUBREC");
    // QoS 1: whoever gets it refuses it, and the other must not see it.
    let filter = format!("$share/one/{}", place.topic("one"));
    let mut wires = [place.wire("third").await, place.wire("fourth").await];
    for wire in &mut wires {
        wire.subscribe(1, &filter, 1).await;
    }
    for number in 0..6_u8 {
        publisher.say(1, place.topic("one"), [number]).await;
    }
    let mut seen = Vec::new();
    for wire in &mut wires {
        wire.send(&[0xC0, 0]).await;
        loop {
            let packet = wire.receive().await;
            if packet.kind() == 13 {
                break;
            }
            let got = packet.publish(true);
            seen.push(got.payload[0]);
            let [high, low] = got.id.to_be_bytes();
            wire.send(&[0x40, 3, high, low, 0x80]).await;
        }
    }
    for wire in &mut wires {
        wire.expect_quiet().await;
    }
    seen.sort_unstable();
    let all = seen.len();
    seen.dedup();
    assert_eq!(all, seen.len(), "no message twice");
    assert!(all > 0, "and some arrived");
}
