//! Topic aliases that the broker defines for a client.

use super::{
    broker::Running,
    wire::{Connect, Wire},
};

fn aliasing(name: &str, maximum: u8) -> Connect {
    let mut connect = Connect::v5(name).keep_session();
    connect.properties.extend([0x22, 0, maximum]);
    connect
}

/// Topic and properties of the next PUBLISH.
async fn next(wire: &mut Wire) -> (String, Vec<u8>) {
    let publish = wire.expect_publish().await;
    if publish.qos == 1 {
        wire.ack(4, publish.id).await;
    }
    (publish.topic, publish.properties)
}

#[tokio::test]
async fn the_first_topics_get_one_as_many_as_the_client_takes() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, aliasing("subscriber", 2)).await;
    wire.subscribe(1, "#", 0).await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    let (one, two, three) = ("topic/one", "topic/two", "topic/three");
    for (topic, seen, alias) in [
        (one, one, &[0x23, 0, 1][..]),
        (one, "", &[0x23, 0, 1]),
        (two, two, &[0x23, 0, 2]),
        (three, three, &[]),
        ("short", "short", &[]),
        (two, "", &[0x23, 0, 2]),
        (one, "", &[0x23, 0, 1]),
    ] {
        publisher.publish(0, 0, topic, "x").await;
        assert_eq!(next(&mut wire).await, (seen.to_owned(), alias.to_vec()), "{topic}");
    }
    // On another connection nothing of it holds.
    drop(wire);
    let mut wire = Wire::connect(&broker, aliasing("subscriber", 1)).await;
    publisher.publish(0, 0, two, "x").await;
    assert_eq!(next(&mut wire).await, (two.to_owned(), vec![0x23, 0, 1]));
    drop(wire);
    let mut wire = Wire::connect(&broker, Connect::v5("subscriber").keep_session()).await;
    for _ in 0..2 {
        publisher.publish(0, 0, two, "x").await;
        assert_eq!(next(&mut wire).await, (two.to_owned(), vec![]), "a client that does not ask gets none");
    }
}

#[tokio::test]
async fn what_is_sent_again_defines_its_alias_anew() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, aliasing("subscriber", 9)).await;
    wire.subscribe(1, "#", 1).await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    for id in 1..=2 {
        publisher.publish(2, id, "topic/one", "x").await;
        publisher.expect_ack(4, id, 0).await;
    }
    let (first, second) = (wire.expect_publish().await, wire.expect_publish().await);
    assert_eq!((&*first.topic, &*second.topic), ("topic/one", ""));
    drop(wire);
    let mut wire = Wire::connect(&broker, aliasing("subscriber", 9)).await;
    let (first, second) = (wire.expect_publish().await, wire.expect_publish().await);
    assert_eq!((&*first.topic, first.dup, &*second.topic, second.dup), ("topic/one", true, "", true));
    assert_eq!((&first.properties, &second.properties), (&vec![0x23, 0, 1], &vec![0x23, 0, 1]));
}

#[tokio::test]
async fn the_clients_maximum_packet_size_holds_with_aliases() {
    let broker = Running::start().await;
    let mut connect = aliasing("subscriber", 9);
    connect.properties.extend([0x27, 0, 0, 0, 100]);
    let mut wire = Wire::connect(&broker, connect).await;
    wire.subscribe(1, "#", 0).await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    let topic = "topic/of/20/bytes/xx";
    let plain = 2 + 2 + topic.len() + 1; // fixed header, topic, properties' length
    for (payload, seen, alias) in [
        (100 - plain, topic, &[][..]),           // exactly fits, but not with an alias
        (100 - plain - 3, topic, &[0x23, 0, 1]), // fits with it
        (100 - plain, "", &[0x23, 0, 1]),
        (100 - plain + topic.len() - 3, "", &[0x23, 0, 1]), // fits only thanks to it
    ] {
        publisher.publish(0, 0, topic, vec![b'x'; payload]).await;
        assert_eq!(next(&mut wire).await, (seen.to_owned(), alias.to_vec()), "{payload} bytes");
    }
    publisher.publish(0, 0, topic, vec![b'x'; 100 - plain + topic.len() - 2]).await;
    wire.settle().await;
    wire.expect_quiet().await;
    assert_eq!(broker.dropped("too-large"), 1);
}

#[tokio::test]
async fn the_configuration_bounds_both_directions() {
    let broker = Running::with("max_topic_aliases = 1").await;
    let (mut wire, connack) = Wire::connect_with(&broker, aliasing("both", 9)).await;
    assert!(connack.body.windows(3).any(|part| part == [0x22, 0, 1]), "{connack:x?}");
    wire.subscribe(1, "#", 0).await;
    for (topic, alias) in [("topic/one", vec![0x23, 0, 1]), ("topic/two", vec![])] {
        wire.publish(0, 0, topic, "x").await;
        assert_eq!(next(&mut wire).await, (topic.to_owned(), alias));
    }
    let bytes = wire.publish_bytes(0, 0, "topic/two", &[0x23, 0, 2], "x");
    wire.send(&bytes).await;
    wire.expect_end(0x94).await;
    let none = Running::with("max_topic_aliases = 0").await;
    let (mut wire, connack) = Wire::connect_with(&none, aliasing("none", 9)).await;
    assert!(!connack.body.contains(&0x22), "{connack:x?}");
    wire.subscribe(1, "#", 0).await;
    wire.publish(0, 0, "topic/one", "x").await;
    assert_eq!(next(&mut wire).await, ("topic/one".to_owned(), vec![]));
}
