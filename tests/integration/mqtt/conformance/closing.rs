//! PINGREQ, DISCONNECT, and how faults end a connection (3.12, 3.14, 4.8 of 3.1.1, 4.13 of MQTT 5).

use std::time::Duration;

use super::place::{Place, closed, properties_after, property};
use crate::mqtt::wire::{Connect, Packet, Wire, packet, text};

/// Faults of a connected client.
fn faults(place: &Place) -> Vec<(&'static str, Vec<u8>)> {
    let none: &[u8] = if place.five() { &[0] } else { &[] };
    let topic = text(place.topic("t"));
    let mut faults = vec![
        ("type 0", vec![0x00, 0]),
        ("CONNACK", vec![0x20, 2, 0, 0]),
        ("SUBACK", vec![0x90, 3, 0, 1, 0]),
        ("UNSUBACK", vec![0xB0, 2, 0, 1]),
        ("PINGRESP", vec![0xD0, 0]),
        ("PINGREQ with a body", vec![0xC0, 1, 0]),
        ("a remaining length without end", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("PUBLISH to a wildcard", packet(0x30, &[&text("a/#"), none, b"x"])),
        ("PUBLISH with QoS 3", packet(0x36, &[&topic, &[0, 1], none, b"x"])),
        ("PUBACK without identifier", vec![0x40, 1, 0]),
        ("PUBREL with bad flags", vec![0x60, 2, 0, 1]),
        ("SUBSCRIBE to nothing", packet(0x82, &[&[0, 1], none])),
        ("UNSUBSCRIBE without its flags", packet(0xA0, &[&[0, 1], none, &topic])),
        ("too large", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("CONNECT again", place.connect("offender").bytes()),
        ("type 15", vec![0xF0, 0]),
    ];
    if place.five() {
        faults.extend([
            ("an unknown property", packet(0x30, &[&topic, &[2, 0x7F, 0], b"x"])),
            ("a property of CONNECT in PUBLISH", packet(0x30, &[&topic, &[3, 0x21, 0, 1], b"x"])),
            ("a property twice", packet(0x30, &[&topic, &[4, 1, 0, 1, 0], b"x"])),
            ("properties longer than the packet", packet(0x30, &[&topic, &[9, 1]])),
            ("PUBACK with an unknown code", vec![0x40, 3, 0, 1, 0x42]),
            ("DISCONNECT with an unknown code", vec![0xE0, 1, 0x42]),
            ("a session expiry where there was none", vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]),
        ]);
    }
    faults
}

/// The codes of DISCONNECT that servers send, all of them faults.
const ERRORS: &[u8] = &[
    0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D,
    0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

/// Every fault of the list ends its connection; the DISCONNECT packets of MQTT 5.
async fn all_end(place: &Place) -> Vec<(&'static str, Packet)> {
    let said = place.all_end(faults(place), ERRORS).await;
    place.wire("witness").await.expect_quiet().await;
    said.into_iter().filter_map(|(name, packet)| Some((name, packet?))).collect()
}

pub(super) async fn faults_end_the_connection(place: Place) {
    all_end(&place).await;
}

pub(super) async fn codes_of_disconnect(place: Place) {
    let said = all_end(&place).await; // which looks at the codes, and that nothing follows
    for (name, code) in [("type 0", 0x81), ("too large", 0x95), ("CONNECT again", 0x82), ("SUBACK", 0x82), ("PUBREL with bad flags", 0x81)]
    {
        let (_, packet) = said.iter().find(|(other, _)| *other == name).expect("in the list");
        assert_eq!(packet.body[0], code, "{name}");
    }
}

pub(super) async fn no_session_expiry_from_the_server(place: Place) {
    for (name, packet) in all_end(&place).await {
        assert_eq!(property(&properties_after(&packet, 1), 0x11), None, "{name}");
    }
}

pub(super) async fn disconnects_fit(place: Place) {
    let mut explained = 0;
    for maximum in [20_u8, 30, 60, 250] {
        for (name, bytes) in faults(&place) {
            let mut wire = Wire::open(&place).await;
            wire.speak(5);
            wire.send(&Connect { properties: vec![0x27, 0, 0, 0, maximum], ..place.connect("small") }.bytes()).await;
            if wire.receive().await.body[1] != 0 {
                break; // CONNACK itself would not fit
            }
            wire.send(&bytes).await;
            let packet = closed(name, &mut wire, ERRORS).await.expect("DISCONNECT");
            assert!(packet.size() <= maximum.into(), "{name}: {} bytes", packet.size());
            let found = properties_after(&packet, 1);
            assert_eq!(property(&found, 0x26), None, "no user properties");
            explained += usize::from(property(&found, 0x1F).is_some());
        }
    }
    assert!(explained > 0, "where there is room, the reason is said");
}

pub(super) async fn no_disconnect_before_connack(place: Place) {
    let mut bad = faults(&place);
    bad.push(("a bad CONNECT", place.raw_connect("x", 0x1E, &[])));
    bad.push(("a protocol version", packet(0x10, &[&text("MQTT"), &[9, 2, 0, 0, 0], &text("x")])));
    for (name, bytes) in bad.into_iter().filter(|(name, _)| *name != "CONNECT again") {
        let mut wire = Wire::open(&place).await;
        wire.send(&bytes).await;
        while let Some(packet) = wire.receive_or_end().await {
            assert_ne!(packet.kind(), 14, "{name}: {packet:x?}");
        }
    }
}

pub(super) async fn ping(place: Place) {
    let mut wire = place.wire("x").await;
    for _ in 0..3 {
        wire.send(&[0xC0, 0]).await;
        wire.expect(&[0xD0, 0]).await;
    }
}

pub(super) async fn disconnect_flags(place: Place) {
    for flags in 1..16 {
        place.ends("DISCONNECT with flags", &[0xE0 | flags, 0], &[0x81]).await;
    }
    if !place.five() {
        // Whether it was taken as a goodbye shows in the will, which must come.
        let (_, mut heir) = place.pair("will", 0).await;
        let will = Some((place.topic("will"), b"gone".to_vec(), 0, false, Vec::new()));
        let mut wire = Wire::connect(&place, Connect { will, ..place.connect("testator") }).await;
        wire.send(&[0xE1, 0]).await;
        assert_eq!(heir.expect_publish().await.payload, b"gone");
    }
}

/// After DISCONNECT of either side nothing more is sent or taken, and the connection ends.
pub(super) async fn nothing_after_disconnect(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 0).await;
    let mut wire = place.wire("leaving").await;
    let late = wire.publish_bytes(0, 0, place.topic("t"), &[], "late");
    wire.send(&[&[0xE0, 0][..], &late].concat()).await;
    assert_eq!(wire.receive_or_end().await, None, "no answer to DISCONNECT");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(place.collect(&mut publisher, &mut subscriber).await.is_empty());
    all_end(&place).await; // the server's own: `closed` wants the end right behind it
}

/// CONNACK with an error, and errors without a word, end the connection as well.
pub(super) async fn errors_end_it_said_or_not(place: Place) {
    for (name, bytes) in [
        ("CONNACK with an error", place.raw_connect_with(2, &[0x21, 0, 0], &text(&place.name))),
        ("without a word", vec![0xC0, 0]),
        ("a protocol version", packet(0x10, &[&text("MQTT"), &[9, 2, 0, 0, 0], &text("x")])),
    ] {
        place.refused(name, &bytes).await;
    }
    all_end(&place).await;
}
