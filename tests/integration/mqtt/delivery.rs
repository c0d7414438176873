//! From publisher to subscriber.

use super::{
    broker::Running,
    wire::{Connect, Wire},
};

#[tokio::test]
async fn every_qos_reaches_every_qos_at_the_lower_of_both() {
    let broker = Running::start().await;
    for level in [4, 5] {
        let connect = |name: &str| Connect { level, ..Connect::v4(name) };
        let mut publisher = Wire::connect(&broker, connect("publisher")).await;
        let mut subscriber = Wire::connect(&broker, connect("subscriber")).await;
        for granted in 0..=2 {
            subscriber.subscribe(1, "a/+", granted).await;
            for published in 0..=2 {
                publisher.publish(published << 1, 7, "a/b", "hello").await;
                match published {
                    1 => publisher.expect_ack(4, 7, 0).await,
                    2 => {
                        publisher.expect_ack(5, 7, 0).await;
                        publisher.ack(6, 7).await;
                        publisher.expect_ack(7, 7, 0).await;
                    }
                    _ => {}
                }
                let got = subscriber.expect_publish().await;
                let expected = (granted.min(published), "a/b", &b"hello"[..], false, false);
                assert_eq!((got.qos, &*got.topic, &*got.payload, got.retain, got.dup), expected);
                match got.qos {
                    1 => subscriber.ack(4, got.id).await,
                    2 => {
                        subscriber.ack(5, got.id).await;
                        subscriber.expect_ack(6, got.id, 0).await;
                        subscriber.ack(7, got.id).await;
                    }
                    _ => {}
                }
                subscriber.expect_quiet().await;
            }
        }
    }
}

#[tokio::test]
async fn overlapping_subscriptions_make_one_delivery_with_all_identifiers() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("overlap")).await;
    for (id, filter, options) in [(3, "a/b", 0), (2, "a/+", 2), (1, "#", 1)] {
        let bytes = wire.subscribe_bytes(id, &[0x0B, id as u8], filter, options);
        wire.send(&bytes).await;
        assert_eq!(wire.receive().await.first, 0x90);
    }
    wire.publish(4, 9, "a/b", "x").await;
    let (mut ids, mut seen) = (Vec::new(), 0);
    while seen < 2 {
        let packet = wire.receive().await;
        if packet.kind() == 3 {
            let publish = packet.publish(true);
            assert_eq!(publish.qos, 2);
            ids = publish.properties.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            ids.sort_unstable();
        } else {
            assert_eq!(packet.kind(), 5);
        }
        seen += 1;
    }
    assert_eq!(ids, [(0x0B, 1), (0x0B, 2), (0x0B, 3)]);
    wire.expect_quiet().await;
}

#[tokio::test]
async fn filters_select_and_dollar_topics_hide() {
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    for (filter, topics, expected) in [
        ("a/+/c", &["a/b/c", "a/b", "a/b/c/d", "a//c"][..], &["a/b/c", "a//c"][..]),
        ("a/#", &["a", "a/b", "b/a", "a/b/c"], &["a", "a/b", "a/b/c"]),
        ("#", &["$x/a", "a", "$x"], &["a"]),
        ("+/a", &["$x/a", "x/a"], &["x/a"]),
        ("$x/+", &["$x/a", "x/a"], &["$x/a"]),
        ("/+", &["/a", "a"], &["/a"]),
    ] {
        let mut subscriber = Wire::connect(&broker, Connect::v4("subscriber")).await;
        subscriber.subscribe(1, filter, 1).await;
        subscriber.subscribe(2, "$end", 0).await;
        for topic in topics.iter().chain(&["$end"]) {
            publisher.publish(2, 1, topic, "").await;
            publisher.expect_ack(4, 1, 0).await;
        }
        let mut got = Vec::new();
        loop {
            let publish = subscriber.expect_publish().await;
            if publish.topic == "$end" {
                break;
            }
            got.push(publish.topic);
        }
        assert_eq!(got, expected, "{filter}");
    }
}

#[tokio::test]
async fn unsubscribing_ends_deliveries_and_each_filter_is_answered() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("fickle")).await;
    wire.subscribe(1, "a", 0).await;
    wire.subscribe(2, "b", 0).await;
    wire.send(b"\xA2\x0C\x00\x07\x00\x00\x01a\x00\x01x\x00\x01b").await;
    wire.expect(&[0xB0, 6, 0, 7, 0, 0, 0x11, 0]).await;
    wire.publish(0, 0, "a", "").await;
    wire.publish(2, 5, "b", "").await;
    wire.expect_ack(4, 5, 0x10).await;
    assert_eq!(broker.dropped("no-subscribers"), 2);
    assert_eq!(broker.metrics.subscriptions.get(), 0);
}

#[tokio::test]
async fn no_local_and_resubscribing_with_another_qos() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("narcissus")).await;
    wire.subscribe(1, "a", 4).await;
    wire.publish(2, 1, "a", "own").await;
    wire.expect_ack(4, 1, 0x10).await;
    wire.subscribe(2, "a", 1).await;
    wire.publish(2, 1, "a", "own").await;
    let mut kinds = [wire.receive().await.kind(), wire.receive().await.kind()];
    kinds.sort_unstable();
    assert_eq!(kinds, [3, 4]);
}

#[tokio::test]
async fn properties_travel_from_end_to_end_and_older_clients_do_without() {
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v5("publisher")).await;
    let mut five = Wire::connect(&broker, Connect::v5("five")).await;
    let mut four = Wire::connect(&broker, Connect::v4("four")).await;
    five.subscribe(1, "a", 0).await;
    four.subscribe(1, "a", 0).await;
    let given = b"\x02\x00\x00\x00\x64\x01\x01\x03\x00\x04text\x08\x00\x05reply\x09\x00\x02id\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
    let bytes = publisher.publish_bytes(0, 0, "a", given, "x");
    publisher.send(&bytes).await;
    let got = five.expect_publish().await;
    assert_eq!((got.payload, got.properties), (b"x".to_vec(), given.to_vec()));
    assert_eq!(four.expect_publish().await.payload, b"x");
    // The other way round: no properties.
    four.publish(0, 0, "a", "y").await;
    assert_eq!(five.expect_publish().await.properties, b"");
}

#[tokio::test]
async fn aliases_name_topics() {
    let broker = Running::start().await;
    let mut wire = Wire::connect(&broker, Connect::v5("alias")).await;
    wire.subscribe(1, "a/+", 0).await;
    for (topic, expected) in [("a/long", "a/long"), ("", "a/long"), ("a/other", "a/other"), ("", "a/other")] {
        let bytes = wire.publish_bytes(0, 0, topic, &[0x23, 0, 5], "x");
        wire.send(&bytes).await;
        assert_eq!(wire.expect_publish().await.topic, expected);
    }
    let bytes = wire.publish_bytes(0, 0, "", &[0x23, 0, 6], "x");
    wire.send(&bytes).await;
    wire.expect_end(0x94).await;
}

#[tokio::test]
async fn a_publishers_messages_stay_in_order_at_every_subscriber() {
    const COUNT: u32 = 3_000;
    let broker = Running::start().await;
    let mut publisher = Wire::connect(&broker, Connect::v4("publisher")).await;
    let mut readers = Vec::new();
    for index in 0..3_u8 {
        let mut subscriber = Wire::connect(&broker, Connect::v4(&format!("subscriber-{index}"))).await;
        subscriber.subscribe(1, "a/#", index).await;
        readers.push(tokio::spawn(async move {
            let mut expected = 0;
            while expected < COUNT {
                let packet = subscriber.receive().await;
                if packet.kind() == 6 {
                    subscriber.ack(7, u16::from_be_bytes([packet.body[0], packet.body[1]])).await;
                    continue;
                }
                let publish = packet.publish(false);
                assert_eq!(publish.payload, expected.to_be_bytes());
                expected += 1;
                match publish.qos {
                    1 => subscriber.ack(4, publish.id).await,
                    2 => subscriber.ack(5, publish.id).await,
                    _ => {}
                }
            }
        }));
    }
    for number in 0..COUNT {
        publisher.publish(((number % 3) << 1) as u8, (number % 200 + 1) as u16, "a/b", number.to_be_bytes()).await;
        match number % 3 {
            1 => publisher.expect_ack(4, (number % 200 + 1) as u16, 0).await,
            2 => {
                let id = (number % 200 + 1) as u16;
                publisher.expect_ack(5, id, 0).await;
                publisher.ack(6, id).await;
                publisher.expect_ack(7, id, 0).await;
            }
            _ => {}
        }
    }
    for reader in readers {
        reader.await.expect("in order");
    }
}
