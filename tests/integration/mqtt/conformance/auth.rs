//! Enhanced authentication (3.15 and 4.12).

use ring::hmac;

use super::place::{Place, closed, properties_after, property, string_property};
use crate::{
    mqtt::wire::{Connect, Packet, Wire, packet, properties, text},
    support::{Gate, KEY},
};

pub(super) async fn flags(place: Place) {
    for flags in 1..16 {
        place.ends("AUTH with flags", &[0xF0 | flags, 2, 0x18, 0], &[0x81]).await;
    }
}

pub(super) async fn unknown_method(place: Place) {
    let connect = Connect { properties: string_property(0x15, "NOBODY-KNOWS"), ..place.connect("x") };
    let answer = place.refused("an unknown method", &connect.bytes()).await;
    assert!(answer.is_none_or(|answer| [0x8C, 0x87].contains(&answer.body[1])));
}

pub(super) async fn without_a_method(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.connect("x")).await;
    let found = properties_after(&connack, 2);
    assert_eq!((property(&found, 0x15), property(&found, 0x16)), (None, None));
    wire.subscribe(1, &place.topic("t"), 1).await;
    wire.publish(0, 0, place.topic("t"), "x").await;
    assert_eq!(wire.receive().await.kind(), 3);
    wire.expect_quiet().await;
}

pub(super) async fn auth_without_a_method(place: Place) {
    for bytes in [&[0xF0, 0][..], &[0xF0, 2, 0x18, 0], &[0xF0, 2, 0x19, 0]] {
        place.ends("AUTH", bytes, &[0x82]).await;
    }
    let method = string_property(0x15, "X");
    let bytes = [&[0xF0, 2 + method.len() as u8, 0x19, method.len() as u8][..], &method].concat();
    place.ends("AUTH with a method that CONNECT had not", &bytes, &[0x82, 0x8C]).await;
}

// What follows speaks the method of the example guest: a nonce comes, its HMAC with the client identifier goes back.

const METHOD: &str = "hmac-challenge";

async fn gate() -> Gate {
    let tables = format!(
        "[[key]]\nname = \"devices\"\ntext = \"{KEY}\"\n[[guest]]\nname = \"access\"\npath = \"access_example.wasm\"\n\
         grants = [\"crypto\"]\nkeys = [\"devices\"]\n[[route]]\nhook = \"client.authenticate\"\nguests = [\"access\"]\n"
    );
    Gate::start(&tables, &["access_example"]).await
}

/// Authentication method and data.
fn proof(method: &str, data: &[u8]) -> Vec<u8> {
    let data = if data.is_empty() { Vec::new() } else { string_property(0x16, data) };
    [string_property(0x15, method), data].concat()
}

fn auth(code: u8, given: &[u8]) -> Vec<u8> {
    packet(0xF0, &[&[code], &properties(&[given])])
}

/// The code and properties of an AUTH.
fn read(packet: &Packet) -> (u8, Vec<(u8, Vec<u8>)>) {
    assert_eq!(packet.first, 0xF0, "AUTH: {packet:x?}");
    (packet.body.first().copied().unwrap_or(0), properties_after(packet, 1))
}

/// A client in the middle of its authentication, and the server's AUTH.
async fn challenged(gate: &Gate, place: &Place, more: &[u8]) -> (Wire, Packet) {
    let connect = Connect { properties: [proof(METHOD, b""), more.to_vec()].concat(), ..place.connect("x") };
    let mut wire = Wire::open(gate).await;
    wire.speak(5);
    wire.send(&connect.bytes()).await;
    let challenge = wire.receive().await;
    (wire, challenge)
}

/// The right answer to a challenge.
fn answer(place: &Place, challenge: &Packet) -> Vec<u8> {
    let nonce = property(&read(challenge).1, 0x16).expect("authentication data");
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = hmac::sign(&key, &[place.connect("x").client_id.as_bytes(), &nonce].concat());
    auth(0x18, &proof(METHOD, tag.as_ref()))
}

/// A client that is in, and its CONNACK.
async fn admitted(gate: &Gate, place: &Place) -> (Wire, Packet) {
    let (mut wire, challenge) = challenged(gate, place, &[]).await;
    wire.send(&answer(place, &challenge)).await;
    let connack = wire.receive().await;
    assert_eq!((connack.first, connack.body[1]), (0x20, 0), "{connack:x?}");
    (wire, connack)
}

/// Expects CONNACK with a refusal, and the end.
async fn refused(name: &str, wire: &mut Wire) {
    if let Some(connack) = wire.receive_or_end().await {
        assert!(connack.first == 0x20 && connack.body[0] == 0 && connack.body[1] >= 0x80, "{name}: {connack:x?}");
        assert_eq!(wire.receive_or_end().await, None, "{name}");
    }
}

pub(super) async fn codes(place: Place) {
    let gate = gate().await;
    let (mut wire, challenge) = challenged(&gate, &place, &[]).await;
    assert_eq!(read(&challenge).0, 0x18);
    wire.send(&answer(&place, &challenge)).await;
    assert_eq!(wire.receive().await.body[1], 0);
    wire.send(&auth(0x19, &proof(METHOD, b""))).await;
    let challenge = wire.receive().await;
    assert_eq!(read(&challenge).0, 0x18);
    wire.send(&answer(&place, &challenge)).await;
    assert_eq!(read(&wire.receive().await).0, 0, "the end of re-authentication");
    wire.send(&auth(0x42, &proof(METHOD, b""))).await;
    closed("a code that does not exist", &mut wire, &[0x81, 0x82]).await;
}

pub(super) async fn fits(place: Place) {
    let gate = gate().await;
    for maximum in [60_u8, 250] {
        let (_, challenge) = challenged(&gate, &place, &[0x27, 0, 0, 0, maximum]).await;
        assert!(challenge.size() <= maximum.into(), "{challenge:x?}");
        let (_, given) = read(&challenge);
        assert_eq!((property(&given, 0x1F), property(&given, 0x26)), (None, None), "neither is sent");
    }
}

pub(super) async fn refused_at_any_step(place: Place) {
    let gate = gate().await;
    let connect = Connect { properties: proof("NOBODY-KNOWS", b""), ..place.connect("x") };
    let mut wire = Wire::open(&gate).await;
    wire.send(&connect.bytes()).await;
    refused("at the first step", &mut wire).await;
    let (mut wire, _) = challenged(&gate, &place, &[]).await;
    wire.send(&auth(0x18, &proof(METHOD, &[0; 32]))).await;
    refused("at the second", &mut wire).await;
}

pub(super) async fn method_is_named(place: Place) {
    let gate = gate().await;
    let named = Some(METHOD.as_bytes().to_vec());
    let (_, challenge) = challenged(&gate, &place, &[]).await;
    assert_eq!(property(&read(&challenge).1, 0x15), named);
    let (mut wire, connack) = admitted(&gate, &place).await;
    assert_eq!(property(&properties_after(&connack, 2), 0x15), named);
    wire.send(&auth(0x19, &proof(METHOD, b""))).await;
    let challenge = wire.receive().await;
    assert_eq!(property(&read(&challenge).1, 0x15), named);
    wire.send(&answer(&place, &challenge)).await;
    assert_eq!(property(&read(&wire.receive().await).1, 0x15), named);
}

/// In the middle of it a client answers with AUTH and 0x18, and with nothing else.
pub(super) async fn nothing_but_auth(place: Place) {
    let gate = gate().await;
    let publish = packet(0x30, &[&text("a"), &[0], b"x"]);
    for (name, bytes) in [("PINGREQ", vec![0xC0, 0]), ("PUBLISH", publish), ("AUTH with 0x19", auth(0x19, &proof(METHOD, b"")))] {
        let (mut wire, _) = challenged(&gate, &place, &[]).await;
        wire.send(&bytes).await;
        refused(name, &mut wire).await;
    }
}

pub(super) async fn again_with_another_method(place: Place) {
    let gate = gate().await;
    let (mut wire, _) = admitted(&gate, &place).await;
    wire.send(&auth(0x19, &proof("SCRAM-SHA-1", b""))).await;
    closed("another method", &mut wire, &[0x82, 0x8C]).await;
}

pub(super) async fn again_in_vain(place: Place) {
    let gate = gate().await;
    let (mut wire, _) = admitted(&gate, &place).await;
    wire.send(&auth(0x19, &proof(METHOD, b""))).await;
    wire.receive().await;
    wire.expect_quiet().await; // everything else goes on meanwhile
    wire.send(&auth(0x18, &proof(METHOD, &[0; 32]))).await;
    closed("a wrong answer", &mut wire, &[0x80, 0x83, 0x87, 0x8C]).await;
}
