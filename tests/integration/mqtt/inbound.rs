//! From client to broker: QoS 2, order, identifiers.

use super::{
    broker::Running,
    wire::{Connect, Wire},
};
use crate::support::Gate;

#[tokio::test]
async fn a_duplicate_of_qos_2_is_delivered_once_also_over_connections() {
    let broker = Running::start().await;
    let mut watcher = Wire::connect(&broker, Connect::v4("watcher")).await;
    watcher.subscribe(1, "a", 0).await;
    for level in [4, 5] {
        let connect = || Connect { level, ..Connect::v4("twice") };
        let keep = || if level == 5 { connect().keep_session() } else { Connect { clean: false, ..connect() } };
        let mut wire = Wire::connect(&broker, keep()).await;
        wire.publish(4, 9, "a", "once").await;
        wire.expect_ack(5, 9, 0).await;
        wire.publish(12, 9, "a", "once").await;
        wire.expect_ack(5, 9, 0).await;
        drop(wire);
        let (mut wire, connack) = Wire::connect_with(&broker, keep()).await;
        assert_eq!(connack.body[0], 1, "session present");
        wire.publish(12, 9, "a", "once").await;
        wire.expect_ack(5, 9, 0).await;
        wire.ack(6, 9).await;
        wire.expect_ack(7, 9, 0).await;
        wire.ack(6, 9).await;
        wire.expect_ack(7, 9, if level == 5 { 0x92 } else { 0 }).await;
        wire.publish(4, 9, "a", "again").await;
        wire.expect_ack(5, 9, 0).await;
        wire.ack(6, 9).await;
        wire.expect_ack(7, 9, 0).await;
        assert_eq!(watcher.expect_publish().await.payload, b"once");
        assert_eq!(watcher.expect_publish().await.payload, b"again");
        watcher.expect_quiet().await;
        Wire::connect(&broker, connect()).await; // a clean start throws the session away
    }
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_publishes() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("pipeline")).await;
    let mut script = Vec::new();
    for id in 1..=250_u16 {
        script.extend(wire.publish_bytes(if id % 2 == 0 { 4 } else { 2 }, id, "nobody", &[], "x"));
    }
    wire.send(&script).await;
    for id in 1..=250_u16 {
        wire.expect_ack(if id % 2 == 0 { 5 } else { 4 }, id, 0x10).await;
    }
}

#[tokio::test]
async fn more_than_the_receive_maximum_is_a_fault_in_5() {
    let broker = Running::with("receive_maximum = 3").await;
    let mut wire = Wire::connect(&broker, Connect::v5("greedy")).await;
    for id in 1..=3 {
        wire.publish(4, id, "a", "").await;
        wire.expect_ack(5, id, 0x10).await; // never released
    }
    wire.publish(4, 4, "a", "").await;
    wire.expect_end(0x93).await;
    // A 3.1.1 client cannot know the bound; it may have as many as it likes.
    let mut older = Wire::connect(&broker, Connect::v4("older")).await;
    for id in 1..=20 {
        older.publish(4, id, "a", "").await;
        older.expect_ack(5, id, 0).await;
    }
}

#[tokio::test]
async fn what_was_sent_before_goodbye_is_published() {
    let broker = Running::start().await;
    let mut watcher = Wire::connect(&broker, Connect::v4("watcher")).await;
    watcher.subscribe(1, "a", 0).await;
    let mut wire = Wire::connect(&broker, Connect::v4("hasty")).await;
    let mut script = Vec::new();
    for number in 0..1_000_u32 {
        script.extend(wire.publish_bytes(0, 0, "a", &[], number.to_be_bytes()));
    }
    script.extend([0xE0, 0]);
    wire.send(&script).await;
    drop(wire);
    for number in 0..1_000_u32 {
        assert_eq!(watcher.expect_publish().await.payload, number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_publishes_wait_for_kafka() {
    let tables = "[mqtt]\nreceive_maximum = 1\n[[route]]\nhook = \"message.publish\"\nfilter = \"#\"\ntopic = \"nowhere\"\n";
    let gate = Gate::start_on("127.0.0.1:1", tables, &[]).await; // nobody is Kafka there
    let (mut wire, _) = Wire::connect_at(gate.address(), Connect::v4("waiting")).await;
    for id in 1..=3 {
        wire.publish(2, id, "a", "x").await;
    }
    wire.expect_quiet().await;
    wire.publish(2, 4, "a", "x").await;
    wire.expect_quiet().await;
}
