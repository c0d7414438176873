//! Kafka dies under load and comes back: nothing is acknowledged that is not there, nothing acknowledged is lost.

use std::time::{Duration, Instant};

use crate::{
    kafka::create_topic,
    real_kafka::RealKafka,
    support::{Device, Gate, PATIENCE, json, records},
};

const DEVICES: usize = 4;
const TABLES: &str = "[[route]]\nhook = \"message.publish\"\nfilter = \"d/#\"\ntopic = \"outage\"\nformat = \"raw\"\n";
/// How long Kafka is away.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_for_twenty_seconds_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::start(folder.path()) else { return };
    let mut kafka = kafka.unwrap();
    create_topic(&kafka.address(), "outage", &[]).await;
    let gate = Gate::start_on(&kafka.address(), TABLES, &[]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..DEVICES {
        fleet.spawn(publish(gate.address(), number, stopped.clone()));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    kafka.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await; // answers that were on their way
    let confirmed = |gate: &Gate| gate.bridge.metrics().records_confirmed.get_or_create(&"outage".into()).get();
    let before = confirmed(&gate);
    tokio::time::sleep(AWAY).await;
    assert_eq!(confirmed(&gate), before, "nothing is confirmed while Kafka is away");
    kafka.start_again().unwrap();
    gate.until("Kafka's return", |gate| confirmed(gate) > before).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.send(true).unwrap();
    let mut acknowledged = vec![0; DEVICES];
    while let Some(device) = fleet.join_next().await {
        let (number, count) = device.unwrap();
        acknowledged[number] = count;
    }
    let total: usize = acknowledged.iter().sum();
    assert!(total > 1_000, "there was a load: {acknowledged:?}");
    let found = records(&kafka.address(), &["outage"], total).await;
    for (device, count) in acknowledged.iter().enumerate() {
        let of_device = found.iter().filter(|record| record.key.as_deref() == Some(format!("d{device}").as_bytes()));
        let numbers: Vec<u64> = of_device.filter_map(|record| json(record)["number"].as_u64()).collect();
        assert_eq!(numbers, (0..*count as u64).collect::<Vec<_>>(), "device {device}: each acknowledged message once, in order");
    }
}

/// Publishes until `stop`, then waits for every acknowledgement; the device's number and how many it got.
async fn publish(address: std::net::SocketAddr, number: usize, stop: tokio::sync::watch::Receiver<bool>) -> (usize, usize) {
    let mut device = Device::connect(address, &format!("d{number}")).await;
    let (mut sent, mut answered) = (0, 0);
    while !*stop.borrow() {
        if sent - answered < 200 {
            device.send(&format!("d/{number}"), format!("{{\"number\":{sent}}}")).await;
            sent += 1;
        }
        answered += device.answers();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while answered < sent && Instant::now() < deadline {
        device.answer().await;
        answered += 1;
    }
    (number, answered)
}
