//! Wills: stored, published, forgotten.

use std::time::Duration;

use super::place::{Place, user_property};
use crate::mqtt::wire::{Connect, Wire, packet, text};

/// With a will `payload` to the topic `will`.
fn with(place: &Place, connect: Connect, payload: &str, qos: u8, retain: bool, given: &[u8]) -> Connect {
    Connect { will: Some((place.topic("will"), payload.into(), qos, retain, given.to_vec())), ..connect }
}

/// Connects and vanishes.
async fn vanish(place: &Place, connect: Connect) {
    drop(Wire::connect(place, connect).await);
}

/// Waits until the connection of `who`, which has ended, is dealt with, and begins and ends another one without a will.
async fn after(place: &Place, who: &str) {
    let mut wire = place.wire(who).await;
    wire.send(&[0xE0, 0]).await;
    assert_eq!(wire.receive_or_end().await, None);
}

pub(super) async fn is_published(place: Place) {
    let (_, mut heir) = place.pair("will", 2).await;
    let will = with(&place, place.connect("testator"), "gone", 1, false, &[]);
    vanish(&place, will).await;
    let got = heir.expect_publish().await;
    assert_eq!((got.topic, &got.payload[..], got.qos), (place.topic("will"), &b"gone"[..], 1));
}

/// Not before the connection ends, and whatever ends it but a goodbye.
pub(super) async fn whatever_ends_the_connection(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    for (name, end) in [
        ("vanished", &[][..]),
        ("malformed packet", &[0xC1, 0]),
        ("protocol error", &[0x10, 0]),
        ("taken over", &[0xC0, 0]),
        ("disconnect with will", if place.five() { &[0xE0, 1, 4] } else { &[] }),
    ] {
        let mut wire = Wire::connect(&place, with(&place, place.connect("testator"), name, 0, false, &[])).await;
        assert!(place.collect(&mut publisher, &mut heir).await.is_empty(), "{name}: before the end");
        if !end.is_empty() {
            wire.send(end).await;
        }
        if name == "taken over" {
            wire.expect(&[0xD0, 0]).await;
            let other = place.wire("testator").await;
            assert_eq!(heir.expect_publish().await.payload, name.as_bytes());
            drop(other);
        } else {
            drop(wire);
            assert_eq!(heir.expect_publish().await.payload, name.as_bytes());
        }
    }
}

pub(super) async fn goodbye_discards_it(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    let mut goodbyes = vec![&[0xE0, 0][..]];
    if place.five() {
        goodbyes.extend([&[0xE0, 1, 0][..], &[0xE0, 2, 0, 0]]);
    }
    for goodbye in goodbyes {
        let mut wire = Wire::connect(&place, with(&place, place.connect("testator"), "gone", 0, false, &[])).await;
        wire.send(goodbye).await;
        assert_eq!(wire.receive_or_end().await, None);
        after(&place, "testator").await;
    }
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty());
}

pub(super) async fn is_published_once(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    vanish(&place, with(&place, place.keep("testator"), "gone", 0, false, &[])).await;
    assert_eq!(heir.expect_publish().await.payload, b"gone");
    // The session goes on without a will, and ends badly again.
    vanish(&place, place.keep("testator")).await;
    after(&place, "testator").await;
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty());
}

pub(super) async fn without_flag_there_is_none(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    vanish(&place, place.connect("x")).await;
    after(&place, "x").await;
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty());
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let fields: [&[u8]; 3] = [none, &text(place.topic("will")), &text("gone")];
    place.refused("fields without the flag", &place.raw_connect("x", 2, &fields)).await;
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty());
}

pub(super) async fn qos_of_the_will(place: Place) {
    let (_, mut heir) = place.pair("will", 2).await;
    for qos in 0..=2 {
        vanish(&place, with(&place, place.connect("testator"), "gone", qos, false, &[])).await;
        let got = heir.expect_publish().await;
        assert_eq!(got.qos, qos);
        match qos {
            1 => heir.ack(4, got.id).await,
            2 => {
                heir.ack(5, got.id).await;
                heir.expect_ack(6, got.id, 0).await;
                heir.ack(7, got.id).await;
            }
            _ => {}
        }
    }
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let fields: [&[u8]; 3] = [none, &text(place.topic("will")), &text("gone")];
    place.refused("will QoS 3", &place.raw_connect("x", 0x1E, &fields)).await;
}

pub(super) async fn flags_without_a_will(place: Place) {
    for (name, flags) in [("QoS 1", 0x0A), ("QoS 2", 0x12), ("QoS 3", 0x1A), ("retain", 0x22)] {
        place.refused(name, &place.raw_connect("x", flags, &[])).await;
    }
}

pub(super) async fn not_retained(place: Place) {
    let (_, mut heir) = place.pair("will", 0).await;
    vanish(&place, with(&place, place.connect("testator"), "gone", 1, false, &[])).await;
    assert!(!heir.expect_publish().await.retain);
    assert!(place.retained("will").await.is_empty());
}

pub(super) async fn retained(place: Place) {
    let (_, mut heir) = place.pair("will", 0).await;
    vanish(&place, with(&place, place.connect("testator"), "gone", 1, true, &[])).await;
    assert!(!heir.expect_publish().await.retain, "for established subscriptions the flag is 0");
    let got = place.retained("will").await;
    assert_eq!(got.len(), 1);
    assert!(got[0].retain && got[0].payload == b"gone" && got[0].qos == 1);
}

const DELAY: [u8; 5] = [0x18, 0, 0, 0, 200];

/// The session's end comes before the delay, a goodbye and a return cancel, and a new session begins with the old one's end.
pub(super) async fn delay(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    vanish(&place, with(&place, place.connect("short"), "session over", 0, false, &DELAY)).await;
    assert_eq!(heir.expect_publish().await.payload, b"session over");
    vanish(&place, with(&place, place.keep("waiting"), "a second later", 0, false, &[0x18, 0, 0, 0, 1])).await;
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty(), "not before its time");
    assert_eq!(heir.expect_publish().await.payload, b"a second later");
    vanish(&place, with(&place, place.keep("anew"), "begun anew", 0, false, &DELAY)).await;
    drop(place.wire("anew").await);
    assert_eq!(heir.expect_publish().await.payload, b"begun anew");
}

pub(super) async fn return_within_the_delay(place: Place) {
    let (mut publisher, mut heir) = place.pair("will", 0).await;
    let delayed = || with(&place, place.keep("back"), "gone", 0, false, &[0x18, 0, 0, 0, 1]);
    vanish(&place, delayed()).await;
    let wire = Wire::connect(&place, place.keep("back")).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(place.collect(&mut publisher, &mut heir).await.is_empty(), "it came back in time");
    drop(wire);
}

pub(super) async fn properties_in_order(place: Place) {
    let (_, mut heir) = place.pair("will", 0).await;
    let given = [user_property("b", "1"), user_property("a", "2"), user_property("b", "3"), user_property("b", "1")].concat();
    vanish(&place, with(&place, place.connect("testator"), "gone", 0, false, &given)).await;
    assert_eq!(heir.expect_publish().await.properties, given);
}

/// A will to nowhere is refused as a publish to nowhere is.
pub(super) async fn topic_is_utf8(place: Place) {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    for bad in [&b"\xFF"[..], b"\xED\xA0\x80", b"a\0b"] {
        place.refused("will topic", &place.raw_connect("x", 6, &[none, &text(bad), &text("x")])).await;
    }
    let whole =
        packet(0x10, &[&text("MQTT"), &[place.level, 6, 0, 0], none, &text(&place.name), none, &text(place.topic("é")), &text("x")]);
    place.accepted("a good topic", &whole).await;
}
