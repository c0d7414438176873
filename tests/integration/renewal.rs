//! Brokers, topics and settings of clusters change while devices publish: nothing is lost, nothing is there twice, no order is broken.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    kafka::read_all,
    support::{Device, PATIENCE, Process, configuration, field},
};

const DEVICES: usize = 4;

/// A Kafka of librdkafka's with these topics.
struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start(topics: &[&str]) -> Cluster {
        let cluster = MockCluster::new(1).unwrap();
        topics.iter().for_each(|topic| cluster.create_topic(topic, 3, 1).unwrap());
        Cluster(cluster)
    }

    fn address(&self) -> String {
        self.0.bootstrap_servers()
    }
}

/// A Hookgate whose configuration changes, and devices that publish all the while.
struct Load {
    process: Process,
    folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    fleet: JoinSet<(usize, usize)>,
}

impl Load {
    async fn start(servers: &str, tables: &str) -> Load {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        fs::write(&file, configuration(servers, tables)).unwrap();
        let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
        let address: SocketAddr = field(&process.ready(), "addresses").trim_start_matches("mqtt=").parse().unwrap();
        let (stop, stopped) = watch::channel(false);
        let mut fleet = JoinSet::new();
        for number in 0..DEVICES {
            fleet.spawn(publish(address, number, stopped.clone()));
        }
        let load = Load { process, folder, stop, fleet };
        load.go_on().await;
        load
    }

    async fn go_on(&self) {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }

    /// Another configuration; the file is watched.
    async fn change(&mut self, servers: &str, tables: &str) {
        let beside = self.folder.path().join("new");
        fs::write(&beside, configuration(servers, tables)).unwrap();
        fs::rename(&beside, self.folder.path().join("hookgate.toml")).unwrap();
        tokio::task::block_in_place(|| self.process.line("configuration reloaded"));
        self.go_on().await;
    }

    /// Stops the devices and waits for what is theirs: how many messages of each were acknowledged.
    async fn stop(mut self) -> Vec<usize> {
        self.stop.send(true).unwrap();
        let mut acknowledged = vec![0; DEVICES];
        while let Some(device) = self.fleet.join_next().await {
            let (number, count) = device.unwrap();
            acknowledged[number] = count;
        }
        self.process.signal("TERM");
        assert_eq!(tokio::task::block_in_place(|| self.process.end()), 0);
        assert!(acknowledged.iter().all(|count| *count > 100), "there was a load: {acknowledged:?}");
        acknowledged
    }
}

/// Publishes until `stop`, then waits for every acknowledgement; the device's number and how many it got.
async fn publish(address: SocketAddr, number: usize, stop: watch::Receiver<bool>) -> (usize, usize) {
    let mut device = Device::connect(address, &format!("d{number}")).await;
    let (mut sent, mut answered) = (0, 0);
    while !*stop.borrow() {
        if sent - answered < 100 {
            device.send(&format!("d/{number}"), sent.to_string()).await;
            sent += 1;
        }
        answered += device.answers();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while answered < sent && Instant::now() < deadline {
        device.answer().await;
        answered += 1;
    }
    (number, answered)
}

fn route(topic: &str, cluster: &str) -> String {
    format!("[[route]]\nhook = \"message.publish\"\nfilter = \"d/#\"\ntopic = \"{topic}\"\nformat = \"raw\"\ncluster = \"{cluster}\"\n")
}

/// The numbers of each device, in the order in which they stand in its partition.
fn numbers(records: &[(i32, String, String)]) -> BTreeMap<String, Vec<usize>> {
    let mut of: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (_, device, value) in records {
        of.entry(device.clone()).or_default().push(value.parse().unwrap());
    }
    of
}

/// What stands in these places, one after the other, is what each device was acknowledged: once, in order.
fn check(places: &[(&str, &str)], acknowledged: &[usize]) -> Vec<usize> {
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut counts = Vec::new();
    for (address, topic) in places {
        let found = tokio::task::block_in_place(|| read_all(address, topic));
        counts.push(found.len());
        numbers(&found).into_iter().for_each(|(device, numbers)| all.entry(device).or_default().extend(numbers));
    }
    for (device, count) in acknowledged.iter().enumerate() {
        let found = &all[&format!("d{device}")];
        let expected: Vec<usize> = (0..*count).collect();
        let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        assert!(*found == expected, "device {device}: {} records for {count} messages, other than expected at {at:?}", found.len());
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_host_and_topic_change_under_load() {
    let (here, there) = (Cluster::start(&["first"]), Cluster::start(&["second"]));
    let mut load = Load::start(&here.address(), &route("first", "kafka")).await;
    load.change(&there.address(), &route("second", "kafka")).await;
    let acknowledged = load.stop().await;
    let counts = check(&[(&here.address(), "first"), (&there.address(), "second")], &acknowledged);
    assert!(counts.iter().all(|count| *count > 100), "both had their share: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_one_cluster_change_again_and_again_under_load() {
    let here = Cluster::start(&["only"]);
    let tables = |linger: usize| format!("linger_ms = {linger}\n{}", route("only", "kafka"));
    let mut load = Load::start(&here.address(), &tables(5)).await;
    for linger in [0, 20, 1, 50, 3] {
        load.change(&here.address(), &tables(linger)).await;
    }
    let acknowledged = load.stop().await;
    check(&[(&here.address(), "only")], &acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_and_go_under_load() {
    let (here, there) = (Cluster::start(&["first", "third"]), Cluster::start(&["second"]));
    let cluster = format!("[[cluster]]\nname = \"eu\"\nbootstrap_servers = \"{}\"\n", there.address());
    let mut load = Load::start(&here.address(), &route("first", "kafka")).await;
    load.change(&here.address(), &format!("{}{cluster}", route("second", "eu"))).await;
    load.change(&here.address(), &route("third", "kafka")).await;
    let acknowledged = load.stop().await;
    let (here, there) = (here.address(), there.address());
    let counts = check(&[(&here, "first"), (&there, "second"), (&here, "third")], &acknowledged);
    assert!(counts.iter().all(|count| *count > 100), "each had its share: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_does_not_answer_does_not_take_the_place_of_one_that_does() {
    let here = Cluster::start(&["only"]);
    let mut load = Load::start(&here.address(), &route("only", "kafka")).await;
    fs::write(load.folder.path().join("hookgate.toml"), configuration("127.0.0.1:1", &route("only", "kafka"))).unwrap();
    let line = tokio::task::block_in_place(|| load.process.line("does not answer with these settings"));
    assert!(line.contains("configuration refused"), "{line}");
    load.go_on().await;
    let acknowledged = load.stop().await;
    check(&[(&here.address(), "only")], &acknowledged);
}
