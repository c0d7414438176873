//! Sections 4.3 to 4.6: the three exchanges, what is sent again, and order.

use std::time::Duration;

use super::place::{Place, id_of};
use crate::mqtt::wire::{Connect, Wire};

pub(super) async fn qos_0(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    publisher.say(0, place.topic("t"), "x").await;
    let got = subscriber.receive().await;
    assert_eq!(got.first, 0x30, "QoS 0, DUP 0, not retained");
    subscriber.expect_quiet().await;
}

/// First transmissions: identifiers that are free, DUP 0.
async fn first_transmission(place: &Place, qos: u8) {
    let (mut publisher, mut subscriber) = place.pair("t", qos).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        publisher.say(qos, place.topic("t"), "x").await;
        let got = subscriber.expect_publish().await;
        assert_eq!((got.qos, got.dup), (qos, false));
        assert!(got.id != 0 && !ids.contains(&got.id), "{} in use: {ids:?}", got.id);
        ids.push(got.id);
    }
}

pub(super) async fn qos_1_sent(place: Place) {
    first_transmission(&place, 1).await;
}

pub(super) async fn qos_2_sent(place: Place) {
    first_transmission(&place, 2).await;
}

/// A receiver that keeps its session and has got one message; its identifier.
async fn with_one(place: &Place, qos: u8, given: &[u8]) -> (Wire, u16) {
    let mut wire = Wire::connect(place, place.keep("receiver")).await;
    wire.subscribe(1, &place.topic("t"), qos).await;
    place.wire("publisher").await.say_with(qos << 1, place.topic("t"), given, "x").await;
    let id = wire.expect_publish().await.id;
    (wire, id)
}

async fn come_back(place: &Place) -> Wire {
    let (wire, connack) = Wire::connect_with(place, place.keep("receiver")).await;
    assert_eq!(connack.body[0], 1);
    wire
}

pub(super) async fn unacknowledged_until_puback(place: Place) {
    let (wire, id) = with_one(&place, 1, &[]).await;
    drop(wire);
    for _ in 0..2 {
        let got = come_back(&place).await.expect_publish().await;
        assert_eq!((got.id, got.dup, &got.payload[..]), (id, true, &b"x"[..]));
    }
    let mut wire = come_back(&place).await;
    wire.expect_publish().await;
    wire.ack(4, id).await;
    wire.expect_quiet().await;
    drop(wire);
    come_back(&place).await.expect_quiet().await;
}

pub(super) async fn unacknowledged_until_pubrec(place: Place) {
    let (wire, id) = with_one(&place, 2, &[]).await;
    drop(wire);
    let got = come_back(&place).await.expect_publish().await;
    assert_eq!((got.id, got.dup, got.qos), (id, true, 2));
}

pub(super) async fn pubrec_gets_pubrel(place: Place) {
    let (mut wire, id) = with_one(&place, 2, &[]).await;
    wire.ack(5, id).await;
    let pubrel = wire.receive().await;
    assert_eq!((pubrel.first, id_of(&pubrel)), (0x62, id));
    if place.five() {
        wire.ack(7, id).await;
        place.wire("publisher").await.say(2, place.topic("t"), "refused").await;
        let id = wire.expect_publish().await.id;
        let [high, low] = id.to_be_bytes();
        wire.send(&[0x50, 3, high, low, 0x80]).await;
        wire.expect_quiet().await; // no PUBREL for a refusal
    }
}

/// After PUBREL only PUBREL is sent again, until PUBCOMP.
pub(super) async fn pubrel_until_pubcomp(place: Place) {
    let (mut wire, id) = with_one(&place, 2, &[]).await;
    wire.ack(5, id).await;
    wire.expect_ack(6, id, 0).await;
    drop(wire);
    for _ in 0..2 {
        let again = come_back(&place).await.receive().await;
        assert_eq!((again.first, id_of(&again)), (0x62, id), "PUBREL, not PUBLISH");
    }
    let mut wire = come_back(&place).await;
    wire.expect_ack(6, id, 0).await;
    wire.ack(7, id).await;
    wire.expect_quiet().await;
    drop(wire);
    come_back(&place).await.expect_quiet().await;
}

pub(super) async fn no_expiry_once_sent(place: Place) {
    let (wire, id) = with_one(&place, 2, &[2, 0, 0, 0, 1]).await;
    drop(wire);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let got = come_back(&place).await.expect_publish().await;
    assert_eq!((got.id, got.dup), (id, true), "it was sent before it expired, so it goes on");
}

pub(super) async fn exchange_goes_on_after_expiry(place: Place) {
    let mut sleeper = Wire::connect(&place, place.keep("sleeper")).await;
    sleeper.subscribe(1, &place.topic("t"), 2).await;
    drop(sleeper);
    let mut publisher = place.wire("publisher").await;
    let bytes = publisher.publish_bytes(4, 9, place.topic("t"), &[2, 0, 0, 0, 1], "x");
    publisher.send(&bytes).await;
    publisher.expect_done(5, 9).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    Wire::connect(&place, place.keep("sleeper")).await.expect_quiet().await; // expired
    publisher.ack(6, 9).await;
    publisher.expect_ack(7, 9, 0).await;
}

pub(super) async fn qos_1_received(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 1).await;
    for flags in [2, 2, 10, 10] {
        publisher.publish(flags, 7, place.topic("t"), "x").await;
        publisher.expect_ack(4, 7, 0).await;
    }
    assert_eq!(place.collect(&mut publisher, &mut subscriber).await.len(), 4, "each is a publication of its own, DUP or not");
}

pub(super) async fn qos_2_acknowledged(place: Place) {
    let (mut publisher, subscriber) = place.pair("t", 2).await;
    for id in [1, 0x1234, 0xFFFF] {
        publisher.publish(4, id, place.topic("t"), "x").await;
        publisher.expect_ack(5, id, 0).await;
    }
    drop(subscriber);
}

pub(super) async fn qos_2_delivered_once(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    for flags in [4, 12, 12, 4] {
        publisher.publish(flags, 7, place.topic("t"), "x").await;
        publisher.expect_ack(5, 7, 0).await;
    }
    publisher.ack(6, 7).await;
    publisher.expect_ack(7, 7, 0).await;
    assert_eq!(place.collect(&mut publisher, &mut subscriber).await.len(), 1);
    // The same across connections.
    let mut kept = Wire::connect(&place, place.keep("kept")).await;
    kept.publish(4, 8, place.topic("t"), "y").await;
    kept.expect_ack(5, 8, 0).await;
    drop(kept);
    let mut kept = Wire::connect(&place, place.keep("kept")).await;
    kept.publish(12, 8, place.topic("t"), "y").await;
    kept.expect_done(5, 8).await;
    kept.ack(6, 8).await;
    kept.expect_ack(7, 8, 0).await;
    assert_eq!(place.collect(&mut kept, &mut subscriber).await.len(), 1);
}

pub(super) async fn pubrel_gets_pubcomp(place: Place) {
    let mut wire = place.wire("x").await;
    for id in [1, 0x1234] {
        wire.publish(4, id, place.topic("t"), "x").await;
        wire.expect_done(5, id).await;
        wire.ack(6, id).await;
        wire.expect_ack(7, id, 0).await;
        // Sent again, it is answered again; MQTT 5 says that nothing is known any more.
        wire.ack(6, id).await;
        wire.expect_ack(7, id, if place.five() { 0x92 } else { 0 }).await;
    }
}

pub(super) async fn new_after_pubcomp(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    for (flags, payload) in [(4, "one"), (4, "two"), (12, "three")] {
        publisher.say_with(flags, place.topic("t"), &[], payload).await;
    }
    assert_eq!(place.payloads(&mut publisher, &mut subscriber).await, ["one", "two", "three"]);
}

pub(super) async fn new_after_a_refusing_pubrec(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    publisher.publish(4, 1, "$SYS/x", "refused").await;
    let pubrec = publisher.receive().await;
    assert!(pubrec.first == 0x50 && pubrec.body[2] >= 0x80, "{pubrec:x?}");
    publisher.say(2, place.topic("t"), "new").await; // under identifier 1, too
    assert_eq!(place.payloads(&mut publisher, &mut subscriber).await, ["new"]);
}

/// PUBLISH and PUBREL go again when the client returns, with their identifiers and in their order; and at no other time.
pub(super) async fn resends_on_return_only(place: Place) {
    let mut wire = Wire::connect(&place, place.keep("receiver")).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    let mut publisher = place.wire("publisher").await;
    let mut sent = Vec::new();
    for number in 0..6 {
        publisher.say(1 + number % 2, place.topic("t"), number.to_string()).await;
        let got = wire.expect_publish().await;
        sent.push((got.id, got.payload));
    }
    wire.ack(5, sent[1].0).await;
    wire.expect_ack(6, sent[1].0, 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.expect_quiet().await; // not while the connection lasts
    drop(wire);
    let mut wire = come_back(&place).await;
    let mut again = Vec::new();
    let mut released = false;
    for _ in 0..6 {
        let packet = wire.receive().await;
        if packet.kind() == 6 {
            assert_eq!(id_of(&packet), sent[1].0);
            released = true;
        } else {
            let publish = packet.publish(place.five());
            assert!(publish.dup);
            again.push((publish.id, publish.payload));
        }
    }
    wire.expect_quiet().await;
    let (_, pubrel) = (sent.remove(1), released);
    assert!(pubrel);
    assert_eq!(again, sent, "the original identifiers, in the original order");
}

pub(super) async fn refused_is_not_sent_again(place: Place) {
    for (qos, kind) in [(1, 4_u8), (2, 5)] {
        let (mut wire, id) = with_one(&place, qos, &[]).await;
        let [high, low] = id.to_be_bytes();
        wire.send(&[kind << 4, 3, high, low, 0x97]).await;
        wire.expect_quiet().await;
        drop(wire);
        come_back(&place).await.expect_quiet().await;
        Wire::connect(&place, Connect { clean: true, ..place.keep("receiver") }).await;
    }
}

pub(super) async fn every_matching_session_gets_it(place: Place) {
    let mut kept = Wire::connect(&place, place.keep("kept")).await;
    kept.subscribe(1, &place.topic("+"), 1).await;
    drop(kept);
    let (mut publisher, mut here) = place.pair("t", 1).await;
    publisher.say(1, place.topic("t"), "x").await;
    assert_eq!(here.expect_publish().await.payload, b"x");
    let mut kept = Wire::connect(&place, place.keep("kept")).await;
    assert_eq!(kept.expect_publish().await.payload, b"x");
}

/// Acknowledgements of the server leave in the order in which the publishes came.
async fn acknowledged_in_order(place: &Place, qos: u8) {
    let mut wire = place.wire("x").await;
    let ids: Vec<u16> = (0..100).map(|number| 1 + number * 37 % 101).collect();
    let script: Vec<u8> = ids.iter().flat_map(|id| wire.publish_bytes(qos << 1, *id, place.topic("t"), &[], "x")).collect();
    wire.send(&script).await;
    for id in &ids {
        wire.expect_done(3 + qos, *id).await;
    }
}

pub(super) async fn pubacks_in_order(place: Place) {
    acknowledged_in_order(&place, 1).await;
}

pub(super) async fn pubrecs_in_order(place: Place) {
    acknowledged_in_order(&place, 2).await;
}

pub(super) async fn pubrels_in_order(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 2).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        publisher.say(2, place.topic("t"), "x").await;
        ids.push(subscriber.expect_publish().await.id);
    }
    ids.reverse();
    let script: Vec<u8> = ids.iter().flat_map(|id| [&[0x50, 2][..], &id.to_be_bytes()].concat()).collect();
    subscriber.send(&script).await;
    for id in ids {
        subscriber.expect_ack(6, id, 0).await;
    }
}

pub(super) async fn topics_are_ordered(place: Place) {
    const COUNT: u16 = 300;
    for qos in 0..=2 {
        let (mut publisher, mut subscriber) = place.pair("t", qos).await;
        let (five, topic) = (place.five(), place.topic("t"));
        let receive = tokio::spawn(async move {
            let mut next = 0;
            while next < COUNT {
                let packet = subscriber.receive().await;
                match packet.kind() {
                    3 => {
                        let publish = packet.publish(five);
                        assert_eq!(publish.payload, next.to_be_bytes(), "QoS {qos}");
                        next += 1;
                        match publish.qos {
                            1 => subscriber.ack(4, publish.id).await,
                            2 => subscriber.ack(5, publish.id).await,
                            _ => {}
                        }
                    }
                    6 => subscriber.ack(7, id_of(&packet)).await,
                    other => panic!("packet of type {other}"),
                }
            }
        });
        // Several at a time, so that there is something to put in disorder.
        for batch in 0..COUNT / 50 {
            let ids = batch * 50..(batch + 1) * 50;
            let script: Vec<u8> =
                ids.clone().flat_map(|number| publisher.publish_bytes(qos << 1, number + 1, &topic, &[], number.to_be_bytes())).collect();
            publisher.send(&script).await;
            for number in ids.clone().filter(|_| qos > 0) {
                publisher.expect_done(3 + qos, number + 1).await;
            }
            for number in ids.filter(|_| qos == 2) {
                publisher.ack(6, number + 1).await;
                publisher.expect_done(7, number + 1).await;
            }
        }
        receive.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

/// 3.1.1 has the sender's and the receiver's part of an exchange in one statement each.
pub(super) async fn qos_1_both(place: Place) {
    qos_1_sent(place.clone()).await;
    unacknowledged_until_puback(place).await;
}

pub(super) async fn qos_2_sender(place: Place) {
    qos_2_sent(place.clone()).await;
    for part in ["pubrec", "pubrel", "pubcomp"] {
        let place = Place { name: format!("{}-{part}", place.name), ..place.clone() };
        match part {
            "pubrec" => unacknowledged_until_pubrec(place).await,
            "pubrel" => pubrec_gets_pubrel(place).await,
            _ => pubrel_until_pubcomp(place).await,
        }
    }
}

pub(super) async fn qos_2_receiver(place: Place) {
    qos_2_acknowledged(place.clone()).await;
    qos_2_delivered_once(place.clone()).await;
    pubrel_gets_pubcomp(place.clone()).await;
    new_after_pubcomp(place).await;
}
