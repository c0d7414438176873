//! Sessions: begun, resumed, discarded, expired.

use std::time::Duration;

use super::place::Place;
use crate::mqtt::wire::{Connect, Wire};

/// A session with a subscription to `t`, left behind with a queued message.
async fn leave_behind(place: &Place, connect: Connect) {
    let mut wire = Wire::connect(place, connect).await;
    wire.subscribe(1, &place.topic("t"), 1).await;
    drop(wire);
    place.wire("publisher").await.say(1, place.topic("t"), "queued").await;
}

pub(super) async fn clean_start_discards(place: Place) {
    leave_behind(&place, place.keep("x")).await;
    let (mut wire, connack) = Wire::connect_with(&place, Connect { clean: true, ..place.keep("x") }).await;
    assert_eq!(connack.body[0], 0);
    wire.expect_quiet().await;
    wire.subscribe(2, &place.topic("fence"), 0).await;
    let mut publisher = place.wire("publisher").await;
    publisher.say(1, place.topic("t"), "nobody subscribed").await;
    assert!(place.collect(&mut publisher, &mut wire).await.is_empty());
}

pub(super) async fn resumes(place: Place) {
    leave_behind(&place, place.keep("x")).await;
    let (mut wire, connack) = Wire::connect_with(&place, place.keep("x")).await;
    assert_eq!(connack.body[0], 1);
    let got = wire.expect_publish().await;
    assert_eq!(got.payload, b"queued");
    wire.ack(4, got.id).await;
    place.wire("publisher").await.say(1, place.topic("t"), "still subscribed").await;
    assert_eq!(wire.expect_publish().await.payload, b"still subscribed");
}

pub(super) async fn begins_where_there_is_none(place: Place) {
    let (mut wire, connack) = Wire::connect_with(&place, place.keep("x")).await;
    assert_eq!(connack.body[0], 0);
    wire.subscribe(1, &place.topic("t"), 1).await;
    drop(wire);
    assert_eq!(Wire::connect_with(&place, place.keep("x")).await.1.body[0], 1, "it was created");
}

/// Queues QoS 1 and 2 while the client is away.
pub(super) async fn queues_while_away(place: Place) {
    let mut wire = Wire::connect(&place, place.keep("x")).await;
    wire.subscribe(1, &place.topic("t"), 2).await;
    wire.subscribe(2, &place.topic("fence"), 0).await;
    drop(wire);
    let mut publisher = place.wire("publisher").await;
    for number in 0..200 {
        publisher.say(1 + number % 2, place.topic("t"), number.to_string()).await;
    }
    let mut wire = Wire::connect(&place, place.keep("x")).await;
    let expected: Vec<String> = (0..200).map(|number: u8| number.to_string()).collect();
    assert_eq!(place.payloads(&mut publisher, &mut wire).await, expected);
}

/// State of a clean session is not there in the next one, and a clean session takes nothing over from a kept one.
pub(super) async fn nothing_is_reused(place: Place) {
    clean_start_discards(place.clone()).await;
    leave_behind(&place, place.connect("clean")).await;
    let (mut wire, connack) = Wire::connect_with(&place, place.keep("clean")).await;
    assert_eq!(connack.body[0], 0);
    wire.expect_quiet().await;
}

fn expiring(place: &Place, who: &str, seconds: u8) -> Connect {
    Connect { clean: false, properties: vec![0x11, 0, 0, 0, seconds], ..place.connect(who) }
}

pub(super) async fn kept_while_it_has_not_expired(place: Place) {
    leave_behind(&place, expiring(&place, "x", 100)).await;
    let (mut wire, connack) = Wire::connect_with(&place, expiring(&place, "x", 100)).await;
    assert_eq!(connack.body[0], 1);
    assert_eq!(wire.expect_publish().await.payload, b"queued");
    // An interval of 0, or none, ends with the connection.
    for properties in [vec![0x11, 0, 0, 0, 0], Vec::new()] {
        let brief = || Connect { clean: false, properties: properties.clone(), ..place.connect("brief") };
        leave_behind(&place, brief()).await;
        assert_eq!(Wire::connect_with(&place, brief()).await.1.body[0], 0);
    }
}

pub(super) async fn lasts_as_long_as_the_connection(place: Place) {
    let connect = if place.five() { expiring(&place, "x", 1) } else { place.connect("x") };
    let mut wire = Wire::connect(&place, connect).await;
    wire.subscribe(1, &place.topic("t"), 1).await;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    place.wire("publisher").await.say(1, place.topic("t"), "still there").await;
    assert_eq!(wire.expect_publish().await.payload, b"still there");
    if place.five() {
        drop(wire);
        assert_eq!(Wire::connect_with(&place, expiring(&place, "x", 1)).await.1.body[0], 1, "and a moment longer");
    }
}

pub(super) async fn discarded_when_expired(place: Place) {
    leave_behind(&place, expiring(&place, "x", 1)).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let (mut wire, connack) = Wire::connect_with(&place, expiring(&place, "x", 1)).await;
    assert_eq!(connack.body[0], 0);
    wire.expect_quiet().await;
}
