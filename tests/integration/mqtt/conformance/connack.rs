//! Section 3.2: CONNACK, and what CONNECT asks for its properties.

use super::place::{Place, properties_after, property};
use crate::mqtt::{
    broker::Running,
    wire::{Connect, Wire, packet, text},
};

pub(super) async fn connack_first(place: Place) {
    let mut wire = Wire::connect(&place, place.keep("sleeper")).await;
    wire.subscribe(1, &place.topic("t"), 1).await;
    drop(wire);
    let mut publisher = place.wire("publisher").await;
    for _ in 0..50 {
        publisher.say(1, place.topic("t"), "queued").await;
    }
    let mut wire = Wire::open(&place).await;
    wire.speak(place.level);
    wire.send(&[&place.keep("sleeper").bytes()[..], &[0xC0, 0]].concat()).await;
    assert_eq!(wire.receive().await.first, 0x20, "CONNACK comes before the fifty messages and the PINGRESP");
    let mut messages = 0;
    let mut connacks = 0;
    while messages < 50 {
        match wire.receive().await.kind() {
            3 => messages += 1,
            2 => connacks += 1,
            other => assert_eq!(other, 13),
        }
    }
    assert_eq!(connacks, 0, "one CONNACK only");
}

pub(super) async fn session_present(place: Place) {
    let present = |connect: Connect| async { Wire::connect_with(&place, connect).await.1.body[0] };
    let afresh = || Connect { clean: true, ..place.keep("x") };
    assert_eq!(present(place.keep("x")).await, 0, "there is none yet");
    assert_eq!(present(place.keep("x")).await, 1);
    assert_eq!(present(afresh()).await, 0, "begun anew");
    if place.five() {
        assert_eq!(present(place.keep("x")).await, 1, "the new one is kept");
    } else {
        assert_eq!(present(place.keep("x")).await, 0, "a clean session of 3.1.1 ends with its connection");
    }
}

/// [`Place::refused`] wants session present 0 and the end.
pub(super) async fn refusals_forget_the_session(place: Place) {
    Wire::connect(&place, place.keep("x")).await;
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let answer = place.refused("with a session", &place.raw_connect("x", 4, &[none, &text("$SYS/x"), &text("x")])).await;
    assert!(answer.is_some() || !place.five(), "MQTT 5 has a code for it");
    let version = packet(0x10, &[&text("MQTT"), &[9, 0, 0, 0], &text(&place.keep("x").client_id)]);
    assert!(place.refused("another version", &version).await.is_some());
}

pub(super) async fn connack_codes(place: Place) {
    let id = text(&place.name);
    let known: &[u8] = if place.five() {
        &[0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F]
    } else {
        &[1, 2, 3, 4, 5]
    };
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let mut cases = vec![
        ("will to a wildcard", place.raw_connect("x", 6, &[none, &text("a/#"), &text("x")])),
        ("will under $SYS/", place.raw_connect("x", 6, &[none, &text("$SYS/x"), &text("x")])),
        ("will QoS 3", place.raw_connect("x", 0x1E, &[none, &text("a"), &text("x")])),
        ("identifier is no UTF-8", place.raw_connect_with(2, &[], &text(b"\xFF"))),
        ("too large", packet(0x10, &[&text("MQTT"), &[place.level, 2, 0, 0], none, &id, &vec![0; 2 << 20]])),
    ];
    if place.five() {
        cases.extend([
            ("unknown authentication method", place.raw_connect_with(2, &[&[0x15][..], &text("NOBODY-KNOWS")].concat(), &id)),
            ("receive maximum 0", place.raw_connect_with(2, &[0x21, 0, 0], &id)),
            ("maximum packet size 0", place.raw_connect_with(2, &[0x27, 0, 0, 0, 0], &id)),
        ]);
    } else {
        cases.push(("no identifier, session to keep", place.raw_connect_with(0, &[], &text(""))));
    }
    let mut answers = 0;
    for (name, bytes) in cases {
        let mut wire = Wire::open(&place).await;
        wire.send(&bytes).await;
        if let Some(answer) = wire.receive_or_end().await {
            assert!(answer.first == 0x20 && known.contains(&answer.body[1]), "{name}: {answer:x?}");
            answers += 1;
        }
    }
    assert!(answers > 0, "somebody was told something");
}

/// 3.1.1 has codes for few faults; for the others it closes without a word.
pub(super) async fn faults_without_a_code(place: Place) {
    for (name, bytes) in [
        ("will QoS 3", place.raw_connect("x", 0x1E, &[&text("a"), &text("x")])),
        ("reserved flag", place.raw_connect("x", 3, &[])),
        ("identifier is no UTF-8", place.raw_connect_with(2, &[], &text(b"\xFF"))),
        ("will to a wildcard", place.raw_connect("x", 6, &[&text("a/#"), &text("x")])),
    ] {
        assert_eq!(place.refused(name, &bytes).await, None, "{name}");
    }
}

pub(super) async fn connack_flags(place: Place) {
    for _ in 0..2 {
        let (_, connack) = Wire::connect_with(&place, place.keep("x")).await;
        assert_eq!(connack.body[0] & 0xFE, 0);
    }
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    place.refused("refused", &place.raw_connect("x", 6, &[none, &text("$SYS/x"), &text("x")])).await;
}

pub(super) async fn every_qos_is_supported(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    assert_eq!(property(&properties_after(&connack, 2), 0x24), None, "no Maximum QoS, so 2 is supported");
    for qos in 0..=2 {
        wire.subscribe(1, &place.topic("t"), qos).await;
    }
    let none: &[u8] = &[0];
    for qos in 0..=2 {
        let bytes = place.raw_connect("will", 6 | qos << 3, &[none, &text(place.topic("w")), &text("x")]);
        place.accepted("a will of this QoS", &bytes).await;
    }
}

pub(super) async fn retaining_is_supported(place: Place) {
    let (_, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let available = property(&properties_after(&connack, 2), 0x25);
    assert!(available.is_none_or(|value| value == [1]), "Retain Available");
    let bytes = place.raw_connect("will", 0x26, &[&[0], &text(place.topic("w")), &text("x")]);
    place.accepted("a retained will", &bytes).await;
}

pub(super) async fn refusals_fit(place: Place) {
    let mut reason_strings = 0;
    for maximum in [5_u8, 8, 20, 250] {
        let will = [&text(&place.name)[..], &[0], &text("$SYS/x"), &text("x")].concat();
        let answer = place.refused("small", &place.raw_connect_with(6, &[0x27, 0, 0, 0, maximum], &will)).await;
        let Some(answer) = answer else { continue };
        assert!(answer.size() <= maximum.into(), "{} bytes for a client that takes {maximum}: {answer:x?}", answer.size());
        let found = properties_after(&answer, 2);
        assert_eq!(property(&found, 0x26), None, "no user properties in CONNACK");
        reason_strings += usize::from(property(&found, 0x1F).is_some());
    }
    assert!(reason_strings > 0, "where there is room, the reason is said");
}

pub(super) async fn request_response_information(place: Place) {
    for given in [&[][..], &[0x19, 0]] {
        let (_, connack) = Wire::connect_with(&place, Connect { properties: given.to_vec(), ..place.connect("x") }).await;
        assert_eq!(property(&properties_after(&connack, 2), 0x1A), None, "Response Information without being asked");
    }
}

pub(super) async fn request_problem_information(place: Place) {
    let mut refusals = 0;
    for (given, welcome) in [(&[0x17, 0][..], false), (&[], true)] {
        let mut wire = Wire::connect(&place, Connect { properties: given.to_vec(), ..place.connect("x") }).await;
        for flags in [2, 4] {
            wire.publish(flags, 5, "$SYS/x", "x").await;
            let ack = wire.receive().await;
            assert!(ack.body[2] >= 0x80, "publishing under $SYS/ is refused: {ack:x?}");
            let found = properties_after(&ack, 3);
            assert!(welcome || found.is_empty(), "not asked for: {found:x?}");
            refusals += usize::from(!found.is_empty());
        }
        wire.send(&wire.subscribe_all_bytes(6, &[("a/#/b", 0)])).await;
        let suback = wire.receive().await;
        assert!(welcome || properties_after(&suback, 2).is_empty());
        wire.ack(6, 77).await;
        let pubcomp = wire.receive().await;
        assert!(welcome || properties_after(&pubcomp, 3).is_empty());
        // DISCONNECT and CONNACK may say why all the same.
    }
    assert!(refusals > 0, "where it is welcome, the reason is said");
}

pub(super) async fn server_keep_alive(_: Place) {
    let broker = Running::with("max_keep_alive_s = 7").await;
    for asked in [0, 600] {
        let (_, connack) = Wire::connect_with(&broker, Connect { keep_alive_s: asked, ..Connect::v5("x") }).await;
        assert_eq!(property(&properties_after(&connack, 2), 0x13), Some(vec![0, 7]));
    }
}
