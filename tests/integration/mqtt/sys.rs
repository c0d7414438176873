//! The broker's figures under `$SYS/`.

use std::time::Duration;

use hookgate::hook::Hook;

use super::{
    broker::Running,
    wire::{Connect, PATIENCE, Publish, Wire},
};

/// Reads until a figure of `topic` comes for which `condition` holds.
async fn figure(wire: &mut Wire, topic: &str, condition: impl Fn(&Publish) -> bool) -> String {
    let find = async {
        loop {
            let publish = wire.expect_publish().await;
            if publish.topic == topic && condition(&publish) {
                return String::from_utf8(publish.payload).expect("text");
            }
        }
    };
    tokio::time::timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no such figure on {topic}"))
}

#[tokio::test]
async fn figures_come_at_once_and_then_when_they_change() {
    let broker = Running::with("sys_interval_s = 1").await;
    let mut wire = Wire::connect(&broker, Connect::v5("watcher")).await;
    wire.subscribe(1, "$SYS/#", 1).await;
    assert_eq!(figure(&mut wire, "$SYS/broker/clients/connected", |publish| publish.payload == b"1" && !publish.retain).await, "1");
    let mut late = Wire::connect(&broker, Connect::v4("late")).await;
    late.subscribe(1, "$SYS/brokers/+/version", 0).await;
    let version = late.expect_publish().await;
    assert!((version.retain, version.qos, version.topic.as_str()) == (true, 0, "$SYS/brokers/hookgate/version"), "{version:?}");
    figure(&mut wire, "$SYS/broker/clients/total", |publish| publish.payload == b"2").await;
    let received = figure(&mut wire, "$SYS/broker/bytes/received", |publish| !publish.retain).await;
    assert!(received.parse::<u64>().is_ok_and(|bytes| bytes > 50), "{received}");
    figure(&mut wire, "$SYS/broker/subscriptions/count", |publish| publish.payload == b"2").await;
    // A wildcard on the first level does not reach them, and they wait for nobody who is away.
    late.subscribe(2, "#", 0).await;
    late.expect_quiet().await;
    let away = Connect::v5("away").keep_session();
    let mut sleeper = Wire::connect(&broker, away).await;
    sleeper.subscribe(1, "$SYS/broker/uptime", 0).await;
    sleeper.expect_publish().await;
    drop(sleeper);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut sleeper = Wire::connect(&broker, Connect::v5("away").keep_session()).await;
    let fresh = sleeper.expect_publish().await;
    assert!(!fresh.retain && fresh.topic == "$SYS/broker/uptime", "{fresh:?}");
    // The server's own messages are no events.
    for hook in Hook::ALL.iter().filter(|hook| hook.name().starts_with("message.")) {
        assert_eq!(broker.metrics.hook_events.get_or_create(&hook.name().into()).get(), 0, "{hook}");
    }
    assert_eq!(broker.metrics.retained_messages.get(), 0);
}

#[tokio::test]
async fn they_can_be_turned_off() {
    let broker = Running::with("sys_interval_s = 0").await;
    let mut wire = Wire::connect(&broker, Connect::v5("watcher")).await;
    wire.subscribe(1, "$SYS/#", 1).await;
    wire.expect_quiet().await;
}
