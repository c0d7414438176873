//! Sessions that outlive their connections, takeover, wills, the end of the process.

use std::time::Duration;

use super::{
    broker::Running,
    wire::{Connect, PATIENCE, Wire},
};

async fn publish(broker: &Running, topic: &str, payload: &str) {
    let mut wire = Wire::connect(broker, Connect::v4("sender")).await;
    wire.publish(2, 1, topic, payload).await;
    let ack = wire.receive().await;
    assert_eq!(ack.kind(), 4);
}

fn keep(level: u8, name: &str) -> Connect {
    if level == 5 { Connect::v5(name).keep_session() } else { Connect::v4(name).keep_session() }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[tokio::test]
async fn a_kept_session_collects_and_redelivers_in_order_with_dup() {
    let broker = Running::start().await;
    for level in [4, 5] {
        let mut wire = Wire::connect(&broker, keep(level, "sleeper")).await;
        wire.subscribe(1, "a", 1).await;
        publish(&broker, "a", "1").await;
        publish(&broker, "a", "2").await;
        let (first, second) = (wire.expect_publish().await, wire.expect_publish().await);
        drop(wire);
        publish(&broker, "a", "3").await;
        let (mut wire, connack) = Wire::connect_with(&broker, keep(level, "sleeper")).await;
        assert_eq!(connack.body[0], 1, "session present");
        let mut got = Vec::new();
        for _ in 0..3 {
            let publish = wire.expect_publish().await;
            wire.ack(4, publish.id).await;
            got.push((publish.id, publish.dup, publish.payload));
        }
        assert_eq!(got[..2], [(first.id, true, b"1".to_vec()), (second.id, true, b"2".to_vec())]);
        assert_eq!((got[2].1, &got[2].2[..]), (false, &b"3"[..]));
        wire.expect_quiet().await;
        let (mut wire, connack) = Wire::connect_with(&broker, Connect { level, ..Connect::v4("sleeper") }).await;
        assert_eq!(connack.body[0], 0, "a clean start");
        publish(&broker, "a", "4").await;
        wire.expect_quiet().await;
    }
}

#[tokio::test]
async fn pubrel_goes_on_after_reconnecting() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, keep(4, "exact")).await;
    wire.subscribe(1, "a", 2).await;
    let mut sender = Wire::connect(&broker, Connect::v4("sender")).await;
    sender.publish(4, 1, "a", "x").await;
    let id = wire.expect_publish().await.id;
    wire.ack(5, id).await;
    wire.expect_ack(6, id, 0).await;
    drop(wire);
    let mut wire = Wire::connect(&broker, keep(4, "exact")).await;
    wire.expect_ack(6, id, 0).await;
    wire.ack(7, id).await;
    wire.expect_quiet().await;
}

#[tokio::test]
async fn sessions_end_with_their_expiry_interval() {
    let broker = Running::start().await;
    let expiring = |seconds| Connect { clean: false, properties: vec![0x11, 0, 0, 0, seconds], ..Connect::v5("brief") };
    for (seconds, present) in [(0, 0), (100, 1)] {
        let mut wire = Wire::connect(&broker, Connect { clean: true, ..expiring(seconds) }).await;
        wire.subscribe(1, "a", 1).await;
        drop(wire);
        let (_, connack) = Wire::connect_with(&broker, expiring(seconds)).await;
        assert_eq!(connack.body[0], present, "{seconds} s");
    }
    let mut wire = Wire::connect(&broker, Connect { clean: true, ..expiring(1) }).await;
    wire.subscribe(1, "a", 1).await;
    drop(wire);
    publish(&broker, "a", "lost").await;
    until("the session has expired", || broker.dropped("session-ended") == 1).await;
    until("nobody is left", || broker.metrics.sessions.get() == 0).await;
    assert_eq!(broker.metrics.subscriptions.get(), 0);
    let (_, connack) = Wire::connect_with(&broker, expiring(1)).await;
    assert_eq!(connack.body[0], 0);
}

#[tokio::test]
async fn the_offline_queue_is_bounded_and_counted() {
    let broker = Running::with("max_queued_messages = 3").await;
    let mut wire = Wire::connect(&broker, keep(5, "sleeper")).await;
    wire.subscribe(1, "a", 1).await;
    drop(wire);
    until("it is gone", || broker.metrics.connections.get() == 0).await;
    for number in 0..5 {
        publish(&broker, "a", &number.to_string()).await;
    }
    until("two are dropped", || broker.dropped("queue-full") == 2).await;
    let mut wire = Wire::connect(&broker, keep(5, "sleeper")).await;
    for number in 0..3 {
        assert_eq!(wire.expect_publish().await.payload, number.to_string().as_bytes());
    }
    wire.expect_quiet().await;
}

#[tokio::test]
async fn a_second_connection_takes_over_and_the_first_cannot_touch_it() {
    let broker = Running::start().await;
    for level in [4, 5] {
        let mut old = Wire::connect(&broker, keep(level, "twin")).await;
        old.subscribe(1, "a", 1).await;
        let (mut new, connack) = Wire::connect_with(&broker, keep(level, "twin")).await;
        assert_eq!(connack.body[0], 1, "session present");
        old.expect_end(0x8E).await;
        drop(old);
        publish(&broker, "a", "x").await;
        assert_eq!(new.expect_publish().await.payload, b"x");
        // Many at once: the last one has it.
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(Wire::connect(&broker, keep(level, "twin")).await);
        }
        let mut last = all.pop().expect("five");
        for mut other in all {
            other.expect_end(0x8E).await;
        }
        assert!(last.expect_publish().await.dup, "x again");
        publish(&broker, "a", "y").await;
        assert_eq!(last.expect_publish().await.payload, b"y");
        Wire::connect(&broker, Connect { level, ..Connect::v4("twin") }).await;
    }
    until("the old connections are gone", || broker.metrics.sessions.get() == 0).await;
    assert_eq!(broker.metrics.subscriptions.get(), 0);
}

fn with_will(mut connect: Connect, delay_s: u8) -> Connect {
    let properties = if delay_s > 0 { vec![0x18, 0, 0, 0, delay_s] } else { Vec::new() };
    connect.will = Some(("will".into(), b"gone".to_vec(), 1, false, properties));
    connect
}

#[tokio::test]
async fn wills() {
    let broker = Running::start().await;
    let mut heir = Wire::connect(&broker, Connect::v4("heir")).await;
    heir.subscribe(1, "will", 0).await;
    // The connection's end, and what happens after it; whether the will comes.
    for (name, connect, goodbye, comes) in [
        ("3.1.1 lost", with_will(Connect::v4("testator"), 0), &[][..], true),
        ("3.1.1 goodbye", with_will(Connect::v4("testator"), 0), &[0xE0, 0], false),
        ("5 lost", with_will(Connect::v5("testator"), 0), &[], true),
        ("5 goodbye", with_will(Connect::v5("testator"), 0), &[0xE0, 0], false),
        ("5 goodbye with will", with_will(Connect::v5("testator"), 0), &[0xE0, 1, 4], true),
        ("5 protocol error", with_will(Connect::v5("testator"), 0), &[0xF0, 0], true),
        ("5 delayed, but the session ends now", with_will(Connect::v5("testator"), 200), &[], true),
        ("5 delayed by a second", with_will(keep(5, "testator"), 1), &[], true),
    ] {
        let mut wire = Wire::connect(&broker, connect).await;
        wire.send(goodbye).await;
        if !goodbye.is_empty() {
            while wire.receive_or_end().await.is_some() {}
        }
        drop(wire);
        if comes {
            let will = heir.expect_publish().await;
            assert_eq!((&*will.topic, &*will.payload), ("will", &b"gone"[..]), "{name}");
        }
        until("it is gone", || broker.metrics.connections.get() == 1).await;
        heir.expect_quiet().await;
    }
    // A delayed will is forgotten when the client is back in time, or comes when it begins anew.
    Wire::connect(&broker, with_will(keep(5, "back"), 200)).await;
    Wire::connect(&broker, with_will(keep(5, "back"), 200)).await;
    heir.expect_quiet().await;
    Wire::connect(&broker, Connect::v5("back")).await;
    assert_eq!(heir.expect_publish().await.payload, b"gone");
}

#[tokio::test]
async fn draining_settles_says_goodbye_and_publishes_wills() {
    let broker = Running::start().await;
    let mut heir = Wire::connect(&broker, keep(4, "heir")).await;
    heir.subscribe(1, "will", 0).await;
    let mut five = Wire::connect(&broker, with_will(Connect::v5("five"), 0)).await;
    let mut half_open = Wire::open(&broker).await;
    for id in 1..=100 {
        five.publish(2, id, "nobody", "x").await;
    }
    for id in 1..=100 {
        five.expect_ack(4, id, 0x10).await;
    }
    let address = broker.address();
    let metrics = broker.metrics.clone();
    assert!(broker.broker.drain(PATIENCE).await, "in time");
    five.expect_end(0x8B).await;
    while heir.receive_or_end().await.is_some() {}
    assert_eq!(half_open.receive_or_end().await, None);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    assert_eq!((metrics.connections.get(), metrics.messages_received.get()), (0, 100));
}
