//! Retained messages [MQTT-3.3.1-5] and on.

use super::place::Place;
use crate::mqtt::wire::Wire;

async fn retain(wire: &mut Wire, place: &Place, qos: u8, payload: &str) {
    wire.say_with(qos << 1 | 1, place.topic("t"), &[], payload).await;
}

/// Payload and QoS of what is retained.
async fn kept(place: &Place) -> Vec<(String, u8)> {
    let got = place.retained("t").await;
    assert!(got.iter().all(|publish| publish.retain), "the flag is set for new subscriptions");
    got.into_iter().map(|publish| (String::from_utf8_lossy(&publish.payload).into_owned(), publish.qos)).collect()
}

pub(super) async fn replaced_and_kept_with_qos(place: Place) {
    let mut wire = place.wire("publisher").await;
    for (qos, payload) in [(0, "zero"), (1, "one"), (2, "two"), (0, "zero again")] {
        retain(&mut wire, &place, qos, payload).await;
        assert_eq!(kept(&place).await, [(payload.to_owned(), qos)]);
    }
}

pub(super) async fn empty_removes_it(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 0).await;
    retain(&mut publisher, &place, 1, "x").await;
    retain(&mut publisher, &place, 1, "").await;
    assert_eq!(place.payloads(&mut publisher, &mut subscriber).await, ["x", ""], "it is delivered as any other");
    assert!(kept(&place).await.is_empty());
}

pub(super) async fn empty_is_not_kept(place: Place) {
    let mut wire = place.wire("publisher").await;
    for qos in 0..=2 {
        retain(&mut wire, &place, qos, "").await;
        wire.expect_quiet().await;
        assert!(kept(&place).await.is_empty());
    }
}

pub(super) async fn without_flag_nothing_changes(place: Place) {
    let mut wire = place.wire("publisher").await;
    wire.say(1, place.topic("t"), "passing").await;
    assert!(kept(&place).await.is_empty());
    retain(&mut wire, &place, 1, "x").await;
    wire.say(1, place.topic("t"), "passing").await;
    wire.say(1, place.topic("t"), "").await;
    assert_eq!(kept(&place).await, [("x".to_owned(), 1)]);
}

/// Publishes at QoS 0: the old one goes, the new one stays.
pub(super) async fn qos_0_replaces(place: Place) {
    let mut wire = place.wire("publisher").await;
    retain(&mut wire, &place, 1, "old").await;
    retain(&mut wire, &place, 0, "new").await;
    wire.expect_quiet().await;
    assert_eq!(kept(&place).await, [("new".to_owned(), 0)]);
}

pub(super) async fn new_subscriptions_get_it(place: Place) {
    let mut wire = place.wire("publisher").await;
    for number in 0..40 {
        wire.say_with(3, place.topic(&format!("many/{number}")), &[], "x").await;
    }
    assert_eq!(place.retained("many/+").await.len(), 40);
    assert_eq!(place.retained("#").await.len(), 40);
    let got = place.retained("many/7").await;
    assert!(got.len() == 1 && got[0].retain && got[0].topic == place.topic("many/7"));
}

pub(super) async fn established_subscriptions_see_no_flag(place: Place) {
    let (mut publisher, mut subscriber) = place.pair("t", 1).await;
    for payload in ["one", "two"] {
        retain(&mut publisher, &place, 1, payload).await;
    }
    let got = place.collect(&mut publisher, &mut subscriber).await;
    assert!(got.len() == 2 && got.iter().all(|publish| !publish.retain), "{got:?}");
}

/// Subscribes with a retain handling, twice; how many retained messages each brings.
async fn handling(place: &Place, handling: u8) -> [usize; 2] {
    let mut publisher = place.wire("publisher").await;
    for last in ["a", "b"] {
        publisher.say_with(3, place.topic(&format!("r/{last}")), &[], "x").await;
    }
    let mut subscriber = place.wire("subscriber").await;
    subscriber.subscribe(1, &place.topic("fence"), 0).await;
    let mut counts = [0; 2];
    for count in &mut counts {
        subscriber.subscribe(2, &place.topic("r/+"), handling << 4).await;
        *count = place.collect(&mut publisher, &mut subscriber).await.len();
    }
    counts
}

pub(super) async fn handling_0(place: Place) {
    assert_eq!(handling(&place, 0).await, [2, 2]);
}

pub(super) async fn handling_1(place: Place) {
    assert_eq!(handling(&place, 1).await, [2, 0]);
}

pub(super) async fn handling_2(place: Place) {
    assert_eq!(handling(&place, 2).await, [0, 0]);
}

async fn as_published(place: &Place, options: u8) -> Vec<bool> {
    let (mut publisher, mut subscriber) = place.pair("t", options).await;
    for flags in [2, 3] {
        publisher.say_with(flags, place.topic("t"), &[], "x").await;
    }
    place.collect(&mut publisher, &mut subscriber).await.iter().map(|publish| publish.retain).collect()
}

pub(super) async fn as_published_0(place: Place) {
    assert_eq!(as_published(&place, 0).await, [false, false]);
}

pub(super) async fn as_published_1(place: Place) {
    assert_eq!(as_published(&place, 8).await, [false, true]);
}

pub(super) async fn outlives_the_session(place: Place) {
    let mut wire = place.wire("publisher").await;
    retain(&mut wire, &place, 1, "x").await;
    drop(wire);
    let again = place.wire("publisher").await;
    assert_eq!(kept(&place).await, [("x".to_owned(), 1)]);
    drop(again);
    assert_eq!(kept(&place).await, [("x".to_owned(), 1)]);
}
