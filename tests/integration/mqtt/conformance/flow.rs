//! Receive maximum, both ways (3.3.4 and 4.9).

use super::place::{Place, closed, id_of, number, properties_after, property};
use crate::mqtt::{
    broker::Running,
    wire::{Connect, Wire, packet, text},
};

/// A subscriber that takes `maximum` publishes without acknowledging them, and a publisher.
async fn limited(place: &Place, maximum: u8) -> (Wire, Wire) {
    let mut wire = Wire::connect(place, Connect { properties: vec![0x21, 0, maximum], ..place.connect("limited") }).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    (place.wire("publisher").await, wire)
}

pub(super) async fn above_the_servers_maximum(place: Place) {
    let broker = Running::with("receive_maximum = 3").await;
    let (mut wire, connack) = Wire::connect_with(&broker, place.connect("x")).await;
    let announced = property(&properties_after(&connack, 2), 0x21).map_or(65_535, |value| number(&value));
    assert_eq!(announced, 3);
    for id in 1..=3 {
        wire.publish(4, id, place.topic("t"), "x").await;
        wire.expect_done(5, id).await;
    }
    wire.expect_quiet().await;
    wire.publish(4, 4, place.topic("t"), "x").await;
    closed("a fourth without PUBREL of the first three", &mut wire, &[0x93]).await;
    // PUBCOMP gives a place back.
    let mut wire = Wire::connect(&broker, place.connect("y")).await;
    for _ in 0..10 {
        wire.say(2, place.topic("t"), "x").await;
    }
}

pub(super) async fn within_the_clients_maximum(place: Place) {
    let (mut publisher, mut wire) = limited(&place, 2).await;
    for number in 0..6 {
        publisher.say(1 + number % 2, place.topic("t"), [number]).await;
    }
    let mut open = std::collections::VecDeque::new();
    for number in 0..6 {
        if open.len() == 2 {
            wire.expect_quiet().await; // no third one
            let (id, qos) = open.pop_front().unwrap();
            wire.ack(3 + qos, id).await;
            if qos == 2 {
                wire.expect_ack(6, id, 0).await;
                wire.expect_quiet().await; // PUBREC alone gives no place back
                wire.ack(7, id).await;
            }
        }
        let got = wire.expect_publish().await;
        assert_eq!(got.payload, [number]);
        open.push_back((got.id, got.qos));
    }
}

pub(super) async fn a_refusing_pubrec_gives_the_place_back(place: Place) {
    let (mut publisher, mut wire) = limited(&place, 1).await;
    for payload in ["one", "two"] {
        publisher.say(2, place.topic("t"), payload).await;
    }
    let got = wire.expect_publish().await;
    let [high, low] = got.id.to_be_bytes();
    wire.send(&[0x50, 3, high, low, 0x80]).await;
    assert_eq!(wire.expect_publish().await.payload, b"two");
}

/// With the window full everything else goes on.
pub(super) async fn the_rest_goes_on(place: Place) {
    let (mut publisher, mut wire) = limited(&place, 1).await;
    for payload in ["one", "two"] {
        publisher.say(1, place.topic("t"), payload).await;
    }
    let first = wire.expect_publish().await;
    wire.expect_quiet().await;
    wire.send(&wire.subscribe_bytes(5, &[], &place.topic("other"), 1)).await;
    assert_eq!(wire.codes(9, 5).await, [1]);
    wire.send(&wire.unsubscribe_bytes(6, &[&place.topic("other")])).await;
    assert_eq!(wire.codes(11, 6).await, [0]);
    wire.publish(2, 7, place.topic("elsewhere"), "x").await;
    wire.expect_done(4, 7).await;
    wire.publish(4, 8, place.topic("elsewhere"), "x").await;
    wire.expect_done(5, 8).await;
    wire.ack(6, 8).await;
    wire.expect_ack(7, 8, 0).await;
    wire.ack(4, first.id).await;
    assert_eq!(wire.expect_publish().await.payload, b"two");
}

/// A large packet is passed over as if it had been delivered: it takes no place in the window.
pub(super) async fn too_large_for_the_client(place: Place) {
    let given = vec![0x21, 0, 1, 0x27, 0, 0, 0, 120];
    let mut wire = Wire::connect(&place, Connect { properties: given, ..place.connect("small") }).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    let mut publisher = place.wire("publisher").await;
    for qos in 0..=2 {
        publisher.say(qos, place.topic("t"), [b'x'; 200]).await;
    }
    publisher.say(2, place.topic("t"), "fits").await;
    let packet = wire.receive().await;
    assert!(packet.size() <= 120);
    assert_eq!(packet.publish(true).payload, b"fits");
    // The last byte that fits, and one more.
    wire.ack(5, id_of_publish(&packet)).await;
    wire.expect_done(6, id_of_publish(&packet)).await;
    wire.ack(7, id_of_publish(&packet)).await;
    let head = 2 + 2 + place.topic("t").len() + 1;
    for length in [121 - head, 120 - head] {
        publisher.say(0, place.topic("t"), vec![b'x'; length]).await;
    }
    assert_eq!(wire.receive().await.size(), 120);
}

fn id_of_publish(packet: &crate::mqtt::wire::Packet) -> u16 {
    packet.publish(true).id
}

/// Everything that is sent to a client with a small maximum stays within it.
pub(super) async fn never_above_the_clients_maximum(place: Place) {
    too_large_for_the_client(place.clone()).await;
    let mut wire = Wire::connect(&place, Connect { properties: vec![0x27, 0, 0, 0, 64], ..place.connect("tiny") }).await;
    let many: Vec<(String, u8)> = (0..40).map(|number| (place.topic(&number.to_string()), 0)).collect();
    let filters: Vec<(&str, u8)> = many.iter().map(|(filter, options)| (filter.as_str(), *options)).collect();
    for bytes in [
        wire.subscribe_all_bytes(1, &filters),
        wire.publish_bytes(2, 2, "$SYS/a-long-topic-that-a-reason-string-might-repeat/in/full", &[], "x"),
        packet(0x62, &[&[0, 99]]),
    ] {
        wire.send(&bytes).await;
        let answer = wire.receive().await;
        assert!(answer.size() <= 64, "{answer:x?}");
        assert!(answer.kind() != 9 || id_of(&answer) == 1);
    }
    wire.send(&packet(0x30, &[&text("a/#"), &[0], b"x"])).await;
    let last = closed("a wildcard", &mut wire, &[0x81, 0x82, 0x90]).await.expect("DISCONNECT");
    assert!(last.size() <= 64);
}
