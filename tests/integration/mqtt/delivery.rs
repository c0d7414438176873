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
