//! kill -9 under load: each record reaches the device's session at least once, in the order of its partition, though the device is away.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use rdkafka::mocking::MockCluster;
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};

use super::App;
use crate::{
    real_kafka::RealKafka,
    support::{PATIENCE, Process, field},
};

const RECORDS: usize = 1_500;

/// A client whose session outlives its connection.
fn device(address: SocketAddr, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_clean_start(false).set_session_expiry_interval(Some(3_600)).set_receive_maximum(Some(1_000));
    AsyncClient::new(options, 100)
}

/// Started, and reading: the group waits for a member that was killed until its session is over.
fn start(folder: &Path, servers: &str, topic: &str) -> (Process, SocketAddr) {
    let file = folder.join("hookgate.toml");
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[mqtt]\nmax_queued_messages = 100000\n[[listener]]\nbind = \"127.0.0.1:0\"\n\
         [kafka]\nbootstrap_servers = \"{servers}\"\n\
         [[downlink]]\nname = \"commands\"\ntopics = [\"{topic}\"]\nstart = \"earliest\"\ntopic = \"devices/${{key}}/command\"\n\
         max_in_flight = 50\non_refusal = \"drop\"\nproperties = {{ \"session.timeout.ms\" = 6000, \"heartbeat.interval.ms\" = 500 }}\n"
    );
    fs::write(&file, text).unwrap();
    let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
    let addresses = field(&process.ready(), "addresses");
    let address = addresses.trim_matches('"').trim_start_matches("mqtt=").parse().unwrap();
    process.line("reading from Kafka");
    (process, address)
}

/// The device's session begins, and it goes away.
async fn subscribe(address: SocketAddr) {
    let (client, mut events) = device(address, "lock-1");
    client.subscribe("devices/lock-1/command", QoS::AtLeastOnce).await.unwrap();
    let subscribed = async { while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {} };
    tokio::time::timeout(PATIENCE, subscribed).await.unwrap();
}

/// What waits in the session, until every number was there.
async fn collect(address: SocketAddr) -> Vec<usize> {
    let (_client, mut events) = device(address, "lock-1");
    let (mut seen, mut missing) = (Vec::new(), RECORDS);
    let mut there = vec![false; RECORDS];
    let deadline = Instant::now() + 3 * PATIENCE;
    while missing > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, events.poll()).await.unwrap_or_else(|_| panic!("{missing} records are missing"));
        if let Event::Incoming(Packet::Publish(publish)) = event.unwrap() {
            let number: usize = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
            missing -= usize::from(!std::mem::replace(&mut there[number], true));
            seen.push(number);
        }
    }
    seen
}

async fn kill_again_and_again(servers: &str, topic: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, address) = start(folder.path(), servers, topic);
    subscribe(address).await;
    let app = App::new(servers);
    for number in 0..RECORDS {
        app.send(topic, "lock-1", &number.to_string());
        if number % 500 == 400 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            process.signal("KILL");
            process.end();
            (process, _) = start(folder.path(), servers, topic);
        }
    }
    process.signal("TERM");
    assert_eq!(process.end(), 0, "what is in flight is settled and committed");
    let (process, address) = start(folder.path(), servers, topic);
    let seen = collect(address).await;
    let mut firsts = seen.clone();
    let mut known = vec![false; RECORDS];
    firsts.retain(|number| !std::mem::replace(&mut known[*number], true));
    assert!(firsts.is_sorted(), "in the order of the partition");
    assert!(seen.len() < 2 * RECORDS, "{} came for {RECORDS}: only what was not committed comes again", seen.len());
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_reaches_the_session_at_least_once_on_the_mock() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("device_commands", 1, 1).unwrap();
    kill_again_and_again(&cluster.bootstrap_servers(), "device_commands").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_reaches_the_session_at_least_once_on_a_real_kafka() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::shared_or_start(folder.path()) else { return };
    let kafka = kafka.unwrap();
    let topic = format!("device_commands_{}", std::process::id());
    crate::kafka::create_topic(&kafka.address(), &topic, &[]).await;
    kill_again_and_again(&kafka.address(), &topic).await;
}
