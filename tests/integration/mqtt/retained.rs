//! Retained messages.

use super::{
    broker::Running,
    wire::{Connect, Wire},
};

/// Publishes with the retain flag and waits until it is done.
async fn retain(wire: &mut Wire, topic: &str, payload: &str) {
    wire.publish(3, 1, topic, payload).await;
    let ack = wire.receive().await;
    assert_eq!(ack.kind(), 4, "{ack:x?}");
}

/// Subscribes and collects what is retained, as sorted texts.
async fn collect(broker: &Running, filter: &str) -> Vec<String> {
    let mut wire = Wire::connect(broker, Connect::v4("collector")).await;
    wire.subscribe(2, "$end", 0).await;
    wire.subscribe(1, filter, 0).await;
    wire.publish(0, 0, "$end", "").await;
    let mut got = Vec::new();
    loop {
        let publish = wire.expect_publish().await;
        if publish.topic == "$end" {
            got.sort();
            return got;
        }
        assert!(publish.retain, "{publish:?}");
        got.push(format!("{}={}", publish.topic, String::from_utf8_lossy(&publish.payload)));
    }
}

#[tokio::test]
async fn the_last_one_stays_until_an_empty_one_clears_it() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v4("publisher")).await;
    retain(&mut wire, "a/b", "old").await;
    retain(&mut wire, "a/b", "new").await;
    retain(&mut wire, "a/c", "other").await;
    retain(&mut wire, "$x/a", "hidden").await;
    assert_eq!(collect(&broker, "a/+").await, ["a/b=new", "a/c=other"]);
    assert_eq!(collect(&broker, "#").await, ["a/b=new", "a/c=other"]);
    assert_eq!(collect(&broker, "$x/#").await, ["$x/a=hidden"]);
    wire.publish(0, 0, "a/b", "").await; // empty, but not retained: it clears nothing
    assert_eq!(collect(&broker, "a/b").await, ["a/b=new"]);
    retain(&mut wire, "a/b", "").await;
    assert_eq!(collect(&broker, "a/#").await, ["a/c=other"]);
    assert_eq!(broker.metrics.retained_messages.get(), 2);
}

#[tokio::test]
async fn thousands_come_with_one_subscription() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v4("publisher")).await;
    for number in 0..5_000 {
        wire.publish(1, 0, format!("many/{number}/state"), "x").await;
    }
    wire.expect_quiet().await;
    assert_eq!(collect(&broker, "many/+/state").await.len(), 5_000);
}

#[tokio::test]
async fn live_messages_lose_the_flag_unless_kept_as_published() {
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    let mut plain = Wire::connect(&broker, Connect::v5("plain")).await;
    let mut kept = Wire::connect(&broker, Connect::v5("kept")).await;
    plain.subscribe(1, "a", 0).await;
    kept.subscribe(1, "a", 8).await;
    retain(&mut publisher, "a", "x").await;
    assert!(!plain.expect_publish().await.retain);
    assert!(kept.expect_publish().await.retain);
}

#[tokio::test]
async fn subscribing_brings_them_as_the_options_say() {
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    retain(&mut publisher, "a", "x").await;
    let mut wire = Wire::connect(&broker, Connect::v5("subscriber")).await;
    for (id, handling, comes) in [(1, 2, false), (2, 1, false), (3, 0, true), (4, 0, true)] {
        wire.subscribe(id, "a", handling << 4).await;
        if comes {
            assert!(wire.expect_publish().await.retain);
        }
        wire.expect_quiet().await;
    }
    let mut fresh = Wire::connect(&broker, Connect::v5("fresh")).await;
    fresh.subscribe(1, "a", 1 << 4).await;
    assert!(fresh.expect_publish().await.retain);
}

#[tokio::test]
async fn the_bound_is_kept_and_counted() {
    let broker = Running::with("max_retained_messages = 1").await;
    let mut wire = Wire::connect(&broker, Connect::v4("publisher")).await;
    retain(&mut wire, "a", "x").await;
    retain(&mut wire, "b", "x").await;
    assert_eq!(collect(&broker, "#").await, ["a=x"]);
    assert_eq!(broker.dropped("queue-full"), 1);
}
