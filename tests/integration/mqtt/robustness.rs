//! What clients do to brokers, on purpose or not. Much of it is proved elsewhere: topics of every script, packets in pieces, floods without
//! reading and what no client may send in `protocol`, thousands of retained messages in `retained`, duplicates and PUBREL after a
//! return, invalid filters, wills and versions in `conformance`. Here is the rest.

use super::{
    broker::Running,
    wire::{Connect, Wire},
};

/// Acknowledgements in any order, of either QoS, twice, and of what was never sent.
#[tokio::test]
async fn acknowledgements_may_come_in_any_order() {
    const COUNT: u16 = 30;
    let broker = Running::start().await;
    for level in [4, 5] {
        let mut wire = Wire::connect(&broker, Connect { level, ..Connect::v4("juggler") }.keep_session()).await;
        wire.subscribe(1, "a", 2).await;
        let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
        let mut open = Vec::new();
        for number in 0..COUNT {
            publisher.publish(2 << (number % 2), 1 + number, "a", number.to_be_bytes()).await;
            let got = wire.expect_publish().await;
            open.push((got.id, got.qos, got.payload));
        }
        // Every third stays open; the others are answered from the end, some twice.
        let (open, answered): (Vec<_>, Vec<_>) = open.into_iter().enumerate().partition(|(index, _)| index % 3 == 0);
        for (index, (id, qos, _)) in answered.into_iter().rev() {
            for _ in 0..1 + index % 2 {
                wire.ack(3 + qos, id).await;
            }
            if qos == 2 {
                for _ in 0..1 + index % 2 {
                    assert_eq!(wire.receive().await.kind(), 6);
                }
                wire.ack(7, id).await;
            }
        }
        wire.ack(4, 60_000).await;
        wire.ack(7, 60_001).await;
        wire.expect_quiet().await;
        drop(wire);
        // Exactly the open ones come again, in their order.
        let mut wire = Wire::connect(&broker, Connect { level, ..Connect::v4("juggler") }.keep_session()).await;
        for (_, (id, qos, payload)) in open {
            let again = wire.expect_publish().await;
            assert_eq!((again.id, again.qos, again.payload, again.dup), (id, qos, payload, true));
        }
        wire.expect_quiet().await;
        drop(wire);
        Wire::connect(&broker, Connect { level, ..Connect::v4("juggler") }).await;
    }
}

/// A half-open connection whose client has come back over another: its reset must not touch the new one or the session.
#[tokio::test]
async fn the_end_of_an_older_connection_leaves_the_newer_alone() {
    let broker = Running::start().await;
    let connect = || Connect::v5("roamer").keep_session();
    for _ in 0..20 {
        let mut old = Wire::connect(&broker, connect()).await;
        old.subscribe(1, "a", 1).await;
        let unfinished = old.publish_bytes(2, 7, "a", &[], "cut off");
        old.send(&unfinished[..unfinished.len() - 3]).await;
        let mut new = Wire::connect(&broker, connect()).await;
        old.reset();
        new.publish(2, 1, "a", "still there").await;
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let packet = new.receive().await;
            kinds.push(packet.kind());
            if packet.kind() == 3 {
                let got = packet.publish(true);
                assert_eq!(got.payload, b"still there");
                new.ack(4, got.id).await;
            }
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [3, 4]);
        new.expect_quiet().await;
    }
}

/// Connections that break at every byte of a conversation.
#[tokio::test]
async fn connections_may_break_anywhere() {
    let broker = Running::start().await;
    let mut script = Connect::v5("fragile").keep_session().bytes();
    let wire = Wire::connect(&broker, Connect::v5("scribe")).await;
    script.extend(wire.subscribe_bytes(1, &[], "a", 2));
    script.extend(wire.publish_bytes(4, 2, "a", &[], "payload"));
    script.extend([0x62, 2, 0, 2, 0xE0, 0]);
    for length in 0..=script.len() {
        let mut wire = Wire::open(&broker).await;
        wire.send(&script[..length]).await;
        if length % 2 == 0 {
            wire.reset();
        }
    }
    let mut witness = Wire::connect(&broker, Connect::v5("witness")).await;
    witness.subscribe(1, "b", 1).await;
    witness.publish(0, 0, "b", "x").await;
    assert_eq!(witness.expect_publish().await.payload, b"x");
    drop((witness, wire));
    let gone = async {
        while broker.metrics.connections.get() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(super::wire::PATIENCE, gone).await.expect("no connection is left behind");
    assert_eq!(broker.metrics.sessions.get(), 1, "and one session, which is kept");
}
