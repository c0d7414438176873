//! Section 3.1: CONNECT.

use std::time::Instant;

use super::place::{Place, closed, properties_after, property};
use crate::mqtt::wire::{Connect, Wire, packet, text};

pub(super) async fn first_packet_is_connect(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for (name, bytes) in [
        ("PUBLISH", packet(0x30, &[&text(place.topic("t")), none, b"x"])),
        ("SUBSCRIBE", packet(0x82, &[&[0, 1], none, &text(place.topic("t")), &[0]])),
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        ("PUBACK", vec![0x40, 2, 0, 1]),
        ("AUTH", vec![0xF0, 0]),
    ] {
        let mut wire = Wire::open(&place).await;
        wire.send(&[&bytes[..], &place.connect("late").bytes()].concat()).await;
        assert_eq!(wire.receive_or_end().await, None, "{name} first");
    }
}

pub(super) async fn second_connect(place: Place) {
    place.ends("CONNECT twice", &place.connect("offender").bytes(), &[0x82]).await;
    let mut wire = Wire::open(&place).await;
    wire.speak(place.level);
    wire.send(&[place.connect("hasty").bytes(), place.connect("hasty").bytes()].concat()).await;
    assert_eq!(wire.receive().await.first, 0x20);
    closed("CONNECT twice at once", &mut wire, &[0x82]).await;
}

pub(super) async fn protocol_name(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for name in ["", "mqtt", "MQTX", "MQTTT", "HTTP"] {
        let bytes = packet(0x10, &[&text(name), &[place.level, 2, 0, 0], none, &text(&place.name)]);
        if let Some(answer) = place.refused(name, &bytes).await {
            assert!([0x84, 0x01].contains(&answer.body[1]), "{name}: {answer:x?}");
        }
    }
}

pub(super) async fn protocol_version(place: Place) {
    for level in [0, 1, 2, 6, 7, 127, 255] {
        let bytes = packet(0x10, &[&text("MQTT"), &[level, 2, 0, 0, 0], &text(&place.name)]);
        let mut wire = Wire::open(&place).await;
        wire.send(&bytes).await;
        let answer = wire.receive_or_end().await;
        if place.five() {
            // 0x84 in MQTT 5's form may be sent; a client of another version is better served with 3.1.1's code.
            let code = answer.map(|answer| answer.body[1]);
            assert!(matches!(code, None | Some(0x84 | 0x01)), "level {level}: {code:x?}");
        } else {
            assert_eq!(answer.map(|answer| answer.body), Some(vec![0, 1]), "level {level}");
        }
        assert_eq!(wire.receive_or_end().await, None);
    }
}

pub(super) async fn reserved_connect_flag(place: Place) {
    for flags in [0x01, 0x03] {
        let answer = place.refused("reserved flag", &place.raw_connect("flagged", flags, &[])).await;
        if place.five() {
            assert!(answer.is_none_or(|answer| [0x81, 0x82].contains(&answer.body[1])));
        } else {
            assert_eq!(answer, None, "3.1.1 closes without CONNACK");
        }
    }
}

pub(super) async fn fields_follow_their_flags(place: Place) {
    let secret = text("secret");
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let will: &[&[u8]] = &[none, &text(place.topic("will")), &text("gone")];
    let user = text("user");
    let cases: [(&str, u8, &[&[u8]]); 9] = [
        ("no flag, but a user name", 0x02, &[&user]),
        ("user name alone announced, but more follows", 0x82, &[&user, &secret]),
        ("user name announced, but missing", 0x82, &[]),
        ("password announced, but missing", 0xC2, &[&user]),
        ("no will flag, but a will", 0x02, will),
        ("will announced, but missing", 0x06, &[]),
        ("will announced, but without a payload", 0x06, &will[..2]),
        ("will QoS without will", 0x0A, &[]),
        ("will retained without will", 0x22, &[]),
    ];
    let mut cases: Vec<_> = cases.map(|(name, flags, rest)| (name, place.raw_connect("fields", flags, rest))).into();
    cases.push(("will QoS 3", place.raw_connect("fields", 0x1E, will)));
    place.all_refused(cases).await;
    if place.five() {
        place.accepted("a password alone", &place.raw_connect("fields", 0x42, &[&secret])).await;
    } else {
        place.refused("a password alone", &place.raw_connect("fields", 0x42, &[&secret])).await;
    }
    place.accepted("nothing announced", &place.raw_connect("fields", 0x02, &[])).await;
    place.accepted("a user name", &place.raw_connect("fields", 0x82, &[&user])).await;
    place.accepted("both", &place.raw_connect("fields", 0xC2, &[&user, &secret])).await;
    place.accepted("a will", &place.raw_connect("fields", 0x06, will)).await;
}

/// Will topic and payload tell that the fields were read from where they are.
pub(super) async fn order_of_fields(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 1).await;
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let rest: [&[u8]; 5] = [none, &text(place.topic("will")), &text("gone"), &text("user"), &text("secret")];
    let wire = place.accepted("all fields", &place.raw_connect("all", 0xC6, &rest)).await;
    drop(wire);
    let will = heir.expect_publish().await;
    assert_eq!((will.topic, will.payload), (place.topic("will"), b"gone".to_vec()));
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty());
}

pub(super) async fn identifier_names_the_session(place: Place) {
    for who in ["anna", "berta"] {
        let mut wire = Wire::connect(&place, place.keep(who)).await;
        wire.subscribe(1, &place.topic(who), 1).await;
    }
    let mut publisher = place.wire("publisher").await;
    for who in ["anna", "berta"] {
        publisher.say(1, place.topic(who), who).await;
    }
    for who in ["berta", "anna"] {
        let (mut wire, connack) = Wire::connect_with(&place, place.keep(who)).await;
        assert_eq!(connack.body[0], 1, "{who}");
        assert_eq!(wire.expect_publish().await.payload, who.as_bytes());
        wire.expect_quiet().await;
    }
}

pub(super) async fn identifier_comes_first(place: Place) {
    place.refused("no payload", &place.raw_connect_with(2, &[], &[])).await;
    place.refused("half a length", &place.raw_connect_with(2, &[], &[0])).await;
    place.refused("a cut identifier", &place.raw_connect_with(2, &[], &[0, 5, b'a'])).await;
}

pub(super) async fn texts_of_connect_are_utf8(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for bad in [&b"\xFF"[..], b"\xED\xA0\x80"] {
        let bad = text(bad);
        place.refused("client identifier", &place.raw_connect_with(2, &[], &bad)).await;
        place.refused("will topic", &place.raw_connect("x", 6, &[none, &bad, &text("x")])).await;
        place.refused("user name", &place.raw_connect("x", 0x82, &[&bad])).await;
    }
    place.accepted("a password is binary", &place.raw_connect("x", 0xC2, &[&text("user"), &text(b"\xFF\0")])).await;
}

pub(super) async fn plain_identifiers(place: Place) {
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut ids: Vec<&str> = (0..letters.len() - 22).step_by(13).map(|start| &letters[start..start + 23]).collect();
    ids.extend([&letters[letters.len() - 23..], &letters[..1], &letters[40..41]]);
    for id in ids {
        place.accepted(id, &place.raw_connect_with(2, &[], &text(id))).await;
    }
}

pub(super) async fn empty_identifiers(place: Place) {
    let anonymous = || Connect { client_id: String::new(), ..place.connect("") };
    let (mut one, first) = Wire::connect_with(&place, anonymous()).await;
    let (mut two, second) = Wire::connect_with(&place, anonymous()).await;
    // Both live: they were given different identifiers.
    one.expect_quiet().await;
    two.expect_quiet().await;
    if !place.five() {
        return;
    }
    let assigned = [first, second].map(|connack| property(&properties_after(&connack, 2), 0x12).expect("Assigned Client Identifier"));
    assert_ne!(assigned[0], assigned[1]);
    let known = Wire::connect_with(&place, Connect { client_id: String::new(), ..place.keep("") }).await;
    let id = String::from_utf8(property(&properties_after(&known.1, 2), 0x12).expect("Assigned Client Identifier")).unwrap();
    drop(known);
    let (_, connack) = Wire::connect_with(&place, Connect { client_id: id, ..place.keep("") }).await;
    assert_eq!(connack.body[0], 1, "the session belongs to the assigned identifier");
    assert_eq!(property(&properties_after(&connack, 2), 0x12), None, "nothing to assign");
}

pub(super) async fn empty_identifier_with_a_session(place: Place) {
    let answer = place.refused("no identifier, session to keep", &place.raw_connect_with(0, &[], &text(""))).await;
    assert_eq!(answer.map(|answer| answer.body), Some(vec![0, 2]));
}

pub(super) async fn connect_is_validated(place: Place) {
    let name = text("MQTT");
    let id = text(&place.name);
    let cases = vec![
        ("nothing", packet(0x10, &[])),
        ("no level", packet(0x10, &[&name])),
        ("no flags", packet(0x10, &[&name, &[place.level]])),
        ("half a keep alive", packet(0x10, &[&name, &[place.level, 2, 0]])),
        ("a length that ends too early", [&packet(0x10, &[&name, &[place.level, 2, 0, 0, 0]])[..], &id].concat()),
    ];
    let answers = place.all_refused(cases).await;
    assert!(place.five() || answers.iter().all(Option::is_none), "3.1.1 closes without CONNACK: {answers:x?}");
    if place.five() {
        let cases = [
            ("a property of PUBLISH", &[0x23, 0, 1][..]),
            ("an unknown property", &[0x7F, 0]),
            ("receive maximum 0", &[0x21, 0, 0]),
            ("receive maximum twice", &[0x21, 0, 1, 0x21, 0, 1]),
            ("maximum packet size 0", &[0x27, 0, 0, 0, 0]),
            ("request problem information 2", &[0x17, 2]),
            ("request response information 2", &[0x19, 2]),
            ("authentication data without a method", &[0x16, 0, 1, 1]),
        ];
        for answer in place.all_refused(cases.map(|(name, given)| (name, place.raw_connect_with(2, given, &id))).into()).await {
            assert!(answer.is_none_or(|answer| [0x81, 0x82].contains(&answer.body[1])));
        }
    }
}

pub(super) async fn further_restrictions(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    place.refused("will under $SYS/", &place.raw_connect("x", 6, &[none, &text("$SYS/x"), &text("x")])).await;
}

pub(super) async fn takeover(place: Place) {
    let mut old = place.wire("same").await;
    let mut new = place.wire("same").await;
    closed("the older connection", &mut old, &[0x8E]).await;
    new.expect_quiet().await;
    // Its end must not touch the new one.
    drop(old);
    new.subscribe(1, &place.topic("t"), 0).await;
    new.publish(0, 0, place.topic("t"), "x").await;
    assert_eq!(new.expect_publish().await.payload, b"x");
}

pub(super) async fn good_connect_is_acknowledged(place: Place) {
    for who in ["plain", "with/+#$", "é", "a-longer-identifier-than-twenty-three-bytes-is-allowed-too"] {
        let (_, connack) = Wire::connect_with(&place, place.connect(who)).await;
        assert_eq!((connack.first, &connack.body[..2]), (0x20, &[0, 0][..]));
    }
}

pub(super) async fn nothing_after_a_refusal(place: Place) {
    let (mut publisher, mut witness) = place.pair("t", 1).await;
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let message = packet(0x30, &[&text(place.topic("t")), none, b"smuggled"]);
    let bad_will = place.raw_connect("x", 6, &[none, &text("a/#"), &text("x")]);
    for bad in [bad_will, packet(0x10, &[&text("MQTT"), &[9, 2, 0, 0], &text(&place.name)])] {
        place.refused("with a message behind it", &[&bad[..], &message].concat()).await;
    }
    publisher.say(1, place.topic("t"), "proper").await;
    assert_eq!(place.payloads(&mut publisher, &mut witness).await, ["proper"]);
}

pub(super) async fn too_large_for_the_server(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let maximum = property(&properties_after(&connack, 2), 0x27).expect("Maximum Packet Size");
    let maximum = u32::from_be_bytes(maximum.try_into().unwrap()) as usize;
    let head = 5 + 2 + place.topic("t").len();
    let fits = wire.publish_bytes(0, 0, place.topic("t"), &[], vec![b'x'; maximum - head]);
    assert_eq!(fits.len(), maximum);
    wire.send(&fits).await;
    wire.expect_quiet().await;
    let above = wire.publish_bytes(0, 0, place.topic("t"), &[], vec![b'x'; maximum - head + 1]);
    wire.send(&above[..100]).await;
    closed("one byte above", &mut wire, &[0x95]).await;
}

pub(super) async fn keep_alive(place: Place) {
    let mut heir = place.wire("heir").await;
    heir.subscribe(1, &place.topic("will"), 0).await;
    let will = Some((place.topic("will"), b"gone".to_vec(), 0, false, Vec::new()));
    let begin = Instant::now();
    let (mut wire, connack) = Wire::connect_with(&place, Connect { keep_alive_s: 1, will, ..place.connect("silent") }).await;
    if place.five() {
        assert_eq!(property(&properties_after(&connack, 2), 0x13), None, "the client's keep alive holds");
    }
    closed("silent", &mut wire, &[0x8D]).await;
    assert!(begin.elapsed().as_millis() >= 1_500, "one and a half times the keep alive");
    assert_eq!(heir.expect_publish().await.payload, b"gone", "as if the network had failed");
}
