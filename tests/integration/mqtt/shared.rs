//! Shared subscriptions: who of a group gets what, and what becomes of it when its member leaves.

use super::{
    broker::Running,
    wire::{Connect, Wire, packet, text},
};

async fn member(broker: &Running, connect: Connect, filter: &str, qos: u8) -> Wire {
    let mut wire = Wire::connect(broker, connect).await;
    wire.subscribe(1, filter, qos).await;
    wire
}

/// Publishes numbers at QoS 1, each after the one before was acknowledged, and waits until all have reached their queues: an
/// acknowledgement may come before that, but the messages of one publisher stay in order.
async fn publish(broker: &Running, topic: &str, numbers: std::ops::Range<u8>) {
    let mut wire = Wire::connect(broker, Connect::v5("publisher")).await;
    wire.subscribe(1, "fence", 0).await;
    for number in numbers {
        wire.publish(2, 7, topic, [number]).await;
        wire.expect_ack(4, 7, 0).await;
    }
    wire.publish(0, 0, "fence", "").await;
    wire.expect_publish().await;
}

/// The payloads until the answer to a ping; QoS 1 is acknowledged.
async fn got(wire: &mut Wire) -> Vec<u8> {
    let mut numbers = Vec::new();
    wire.settle().await;
    wire.send(&[0xC0, 0]).await;
    loop {
        let packet = wire.receive().await;
        if packet.first == 0xD0 {
            return numbers;
        }
        let publish = wire.read_publish(&packet);
        if publish.qos == 1 {
            wire.ack(4, publish.id).await;
        }
        numbers.push(publish.payload[0]);
    }
}

#[tokio::test]
async fn one_of_each_group_and_everybody_else() {
    let broker = Running::start().await;
    for connect in [Connect::v4 as fn(&str) -> Connect, Connect::v5] {
        let mut one = member(&broker, connect("one"), "$share/g/a/+", 1).await;
        let mut two = member(&broker, connect("two"), "$share/g/a/+", 1).await;
        let mut other = member(&broker, connect("other"), "$share/h/a/b", 1).await;
        let mut plain = member(&broker, connect("plain"), "a/#", 1).await;
        publish(&broker, "a/b", 0..6).await;
        assert_eq!(got(&mut plain).await, [0, 1, 2, 3, 4, 5]);
        assert_eq!(got(&mut other).await, [0, 1, 2, 3, 4, 5]);
        let (first, second) = (got(&mut one).await, got(&mut two).await);
        assert_eq!((first.len(), second.len()), (3, 3), "a round");
        let mut all = [first, second].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        // The same session in the group and beside it: each subscription counts on its own.
        two.send(&unsubscribe(&two, "$share/g/a/+")).await;
        assert_eq!(two.receive().await.first, 0xB0);
        one.subscribe(2, "a/b", 1).await;
        publish(&broker, "a/b", 9..10).await;
        assert_eq!(got(&mut one).await, [9, 9]);
        assert_eq!(got(&mut two).await, [0_u8; 0]);
    }
}

fn unsubscribe(wire: &Wire, filter: &str) -> Vec<u8> {
    let none: &[u8] = if wire.is_5() { &[0] } else { &[] };
    packet(0xA2, &[&[0, 3], none, &text(filter)])
}

#[tokio::test]
async fn what_a_group_is_told_and_what_it_is_refused() {
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v5("publisher")).await;
    publisher.publish(3, 1, "a", "kept").await;
    publisher.expect_ack(4, 1, 0x10).await;
    let (mut wire, connack) = Wire::connect_with(&broker, Connect::v5("member")).await;
    assert!(!connack.body.windows(2).any(|pair| pair == [0x2A, 0]), "shared subscriptions are available: {connack:x?}");
    let bytes = wire.subscribe_bytes(1, &[0x0B, 77], "$share/g/a", 2);
    wire.send(&bytes).await;
    assert_eq!(wire.receive().await.body, [0, 1, 0, 2]);
    wire.expect_quiet().await; // nothing retained
    publisher.publish(4, 2, "a", "x").await;
    publisher.expect_ack(5, 2, 0).await;
    let publish = wire.expect_publish().await;
    assert_eq!((publish.qos, publish.properties), (2, vec![0x0B, 77]), "QoS and identifier are the member's");
    for filter in ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a", "$share/g+/a"] {
        let bytes = wire.subscribe_bytes(2, &[], filter, 0);
        wire.send(&bytes).await;
        assert_eq!(wire.receive().await.body.last(), Some(&0x8F), "{filter}");
    }
    let bytes = wire.subscribe_bytes(3, &[], "$share/g/b", 4);
    wire.send(&bytes).await;
    wire.expect_end(0x82).await; // no local [MQTT-3.8.3-4]
}

#[tokio::test]
async fn what_a_leaving_member_had_not_acknowledged_goes_to_another() {
    let broker = Running::with("max_inflight = 2").await;
    let mut leaver = member(&broker, Connect::v5("leaver").keep_session(), "$share/g/a", 1).await;
    publish(&broker, "a", 0..5).await;
    for number in 0..2 {
        assert_eq!(leaver.expect_publish().await.payload, [number]); // never acknowledged; three more wait
    }
    let mut heir = member(&broker, Connect::v5("heir"), "$share/g/a", 1).await;
    drop(leaver);
    assert_eq!(got(&mut heir).await, [0_u8; 0], "the session waits for its client");
    Wire::connect(&broker, Connect::v5("leaver")).await; // which begins anew
    let mut all = Vec::new();
    while all.len() < 5 {
        let publish = heir.expect_publish().await;
        assert!(!publish.dup, "it is new to this client");
        heir.ack(4, publish.id).await;
        all.extend(publish.payload);
    }
    assert_eq!(all, [0, 1, 2, 3, 4]);
    assert_eq!(broker.dropped("session-ended"), 0);
}

#[tokio::test]
async fn qos_2_that_was_sent_stays_with_its_member() {
    let broker = Running::start().await;
    let mut first = member(&broker, Connect::v5("first").keep_session(), "$share/g/a", 2).await;
    let mut publisher = Wire::connect(&broker, Connect::v5("publisher")).await;
    publisher.publish(4, 1, "a", "once").await;
    publisher.expect_ack(5, 1, 0).await;
    let id = first.expect_publish().await.id;
    let mut second = member(&broker, Connect::v5("second"), "$share/g/a", 2).await;
    drop(first);
    let mut first = Wire::connect(&broker, Connect::v5("first").keep_session()).await;
    let again = first.expect_publish().await;
    assert_eq!((again.id, again.dup, &again.payload[..]), (id, true, &b"once"[..]), "[MQTT-4.8.2-4]");
    drop(first);
    Wire::connect(&broker, Connect::v5("first")).await;
    second.settle().await;
    second.expect_quiet().await; // [MQTT-4.8.2-5]
    assert_eq!(broker.dropped("session-ended"), 1);
}

#[tokio::test]
async fn what_a_member_refuses_goes_to_nobody() {
    let broker = Running::start().await;
    let mut wires = Vec::new();
    for name in ["one", "two"] {
        wires.push(member(&broker, Connect::v5(name), "$share/g/a", 2).await);
    }
    for (flags, publish_ack, refusal) in [(2, 4, 0x40), (4, 5, 0x50)] {
        let mut publisher = Wire::connect(&broker, Connect::v5("publisher")).await;
        publisher.publish(flags, 1, "a", "x").await;
        publisher.expect_ack(publish_ack, 1, 0).await;
        let wire = &mut wires[if flags == 2 { 0 } else { 1 }];
        let [high, low] = wire.expect_publish().await.id.to_be_bytes();
        wire.send(&[refusal, 3, high, low, 0x83]).await;
        for wire in &mut wires {
            wire.settle().await;
            wire.expect_quiet().await; // [MQTT-4.8.2-6]
        }
    }
    assert_eq!(broker.dropped("refused"), 2);
}

#[tokio::test]
async fn those_who_are_there_come_first() {
    let broker = Running::start().await;
    let away = member(&broker, Connect::v4("away").keep_session(), "$share/g/a", 1).await;
    let mut there = member(&broker, Connect::v4("there"), "$share/g/a", 1).await;
    drop(away);
    while broker.metrics.connections.get() > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    publish(&broker, "a", 0..4).await;
    assert_eq!(got(&mut there).await, [0, 1, 2, 3]);
    there.send(&[0xE0, 0]).await;
    while there.receive_or_end().await.is_some() {}
    while broker.metrics.sessions.get() > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    publish(&broker, "a", 4..6).await;
    let mut away = Wire::connect(&broker, Connect::v4("away").keep_session()).await;
    assert_eq!(got(&mut away).await, [4, 5], "when nobody is there it waits");
}
