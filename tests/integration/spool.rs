//! The spool in the real binary: Kafka is away, Hookgate is killed, the disk is full or damaged, and nothing acknowledged is lost.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hookgate::{
    config::{Ack, Config},
    kafka::StoredRecord,
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::{
    kafka::create_topic,
    real_kafka::RealKafka,
    support::{Device, PATIENCE, Process, configuration, field, records},
};

const DEVICES: usize = 4;
const ROUTES: &str = "[[route]]\nhook = \"message.publish\"\nfilter = \"d/#\"\ntopic = \"spooled\"\nformat = \"raw\"\nack = \"spool\"\n\
     [[route]]\nhook = \"client.connected\"\ntopic = \"life\"\n";

/// `hookgate` with a folder that stays.
struct Node {
    process: Option<Process>,
    folder: tempfile::TempDir,
    file: PathBuf,
    address: SocketAddr,
}

impl Node {
    /// On the Kafka at `servers`; `tables` behind the usual ones.
    fn start(servers: &str, tables: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        let mut node = Node { process: None, folder, file, address: ([127, 0, 0, 1], 0).into() };
        node.configure(servers, tables);
        node.begin();
        node
    }

    fn configure(&self, servers: &str, tables: &str) {
        let text = configuration(servers, tables).replace("[node]\n", "[node]\ndata_dir = \"data\"\n");
        fs::write(&self.file, text).unwrap();
    }

    fn begin(&mut self) {
        let mut process = Process::start(&["run", "--config", self.file.to_str().unwrap()]);
        let addresses = field(&process.ready(), "addresses");
        self.address = addresses.trim_matches('"').trim_start_matches("mqtt=").parse().unwrap();
        self.process = Some(process);
    }

    fn end(&mut self, signal: &str) {
        let process = self.process.take().unwrap();
        process.signal(signal);
        assert_eq!(process.end(), if signal == "TERM" { 0 } else { -1 });
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The segments of a cluster's spool.
    fn segments(&self, cluster: &str) -> Vec<PathBuf> {
        let entries = self.folder.path().join("data/spool").join(cluster).read_dir().unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
        paths.sort();
        paths
    }
}

/// A Kafka of its own that can be away.
struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Kafka {
    fn start(topics: &[&str]) -> Kafka {
        let cluster = MockCluster::new(1).unwrap();
        topics.iter().for_each(|topic| cluster.create_topic(topic, 3, 1).unwrap());
        Kafka { cluster }
    }

    fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    fn leave(&self) {
        self.cluster.broker_down(-1).unwrap();
    }

    fn come_back(&self) {
        self.cluster.broker_up(-1).unwrap();
    }
}

/// Publishes numbers from every device, all of which must be acknowledged.
async fn publish(address: SocketAddr, numbers: std::ops::Range<u64>) {
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..DEVICES {
        let numbers = numbers.clone();
        fleet.spawn(async move {
            let mut device = Device::connect(address, &format!("d{number}")).await;
            for value in numbers.clone() {
                device.send(&format!("d/{number}"), value.to_string()).await;
            }
            for _ in numbers {
                assert_eq!(device.answer().await.reason, PubAckReason::NoMatchingSubscribers);
            }
            device.disconnect().await;
        });
    }
    fleet.join_all().await;
}

/// The numbers of each key in their order, each where it stands first.
fn sequences(records: &[StoredRecord]) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.as_deref().unwrap_or_default().to_vec()).unwrap();
        let number = std::str::from_utf8(&record.value).unwrap().split(' ').next().unwrap().parse().unwrap();
        let numbers = found.entry(key).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    found
}

fn complete(count: u64) -> BTreeMap<String, Vec<u64>> {
    (0..DEVICES).map(|device| (format!("d{device}"), (0..count).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_while_kafka_was_away_arrives_in_order_after_kills() {
    let kafka = Kafka::start(&["spooled", "life"]);
    kafka.leave();
    let mut node = Node::start(&kafka.address(), ROUTES);
    publish(node.address, 0..300).await;
    node.end("KILL");
    node.begin();
    publish(node.address, 300..400).await;
    let start = Instant::now();
    node.end("TERM");
    assert!(start.elapsed() < Duration::from_secs(15), "what is in the spool need not be waited for");
    node.begin();
    let waiting = node.process().lines().iter().any(|line| line.contains("records wait in the spool since the last time"));
    assert!(waiting, "it says what waits");
    kafka.come_back();
    publish(node.address, 400..500).await;
    let found = records(&kafka.address(), &["spooled"], 500 * DEVICES).await;
    assert_eq!(sequences(&found), complete(500));
    assert_eq!(found.len(), 500 * DEVICES, "nothing was sent twice: Kafka was never asked before");
    let life = records(&kafka.address(), &["life"], 3 * DEVICES).await;
    assert_eq!(life.len(), 3 * DEVICES, "events that nobody waits for survive, too");
    node.end("TERM");
    node.begin();
    publish(node.address, 500..501).await;
    let again = records(&kafka.address(), &["spooled"], 501 * DEVICES).await;
    assert_eq!(again.len(), 501 * DEVICES, "what was confirmed is not sent again after an orderly end");
    node.end("KILL");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_under_load_nothing_is_lost() {
    let kafka = Kafka::start(&["spooled", "life"]);
    let mut node = Node::start(&kafka.address(), ROUTES);
    for round in 0..4 {
        if round % 2 == 1 {
            kafka.leave();
        }
        publish(node.address, round * 100..(round + 1) * 100).await;
        node.end("KILL");
        kafka.come_back();
        node.begin();
    }
    let found = records(&kafka.address(), &["spooled"], 400 * DEVICES).await;
    assert_eq!(sequences(&found), complete(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kafka_refuses_becomes_a_dead_letter_and_holds_nothing_up() {
    let kafka = Kafka::start(&["spooled", "life", "hookgate_dead_letter"]);
    let node = Node::start(&kafka.address(), ROUTES);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let mut device = Device::connect(node.address, "d0").await;
    device.publish("d/0", "0").await;
    records(&kafka.address(), &["spooled"], 1).await;
    kafka.cluster.request_errors(RDKafkaApiKey::Produce, &[refused]);
    device.publish("d/0", "1").await;
    let letters = records(&kafka.address(), &["hookgate_dead_letter"], 1).await;
    let header = |name: &str| letters[0].headers.iter().find(|header| header.name == name).map(|header| header.value.to_string());
    assert_eq!((&*letters[0].value, header("refused-topic").as_deref()), (&b"1"[..], Some("spooled")));
    assert_eq!(header("error").as_deref(), Some("unauthorized"));
    let mut number = 2;
    loop {
        device.publish("d/0", number.to_string()).await; // librdkafka refuses the topic itself until it has asked again
        let found = records(&kafka.address(), &["spooled"], 2).await;
        if found.len() > 1 {
            break;
        }
        number += 1;
        assert!(number < 50, "the topic never gets anything again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_told_or_waited_for() {
    let kafka = Kafka::start(&["spooled", "life"]);
    kafka.leave();
    let tables =
        |when_full: &str| format!("{ROUTES}[spool]\nmax_bytes = 1_048_576\nsegment_bytes = 262_144\nwhen_full = \"{when_full}\"\n");
    let node = Node::start(&kafka.address(), &tables("refuse"));
    let mut device = Device::connect(node.address, "d0").await;
    let mut reasons = Vec::new();
    for _ in 0..12 {
        reasons.push(device.publish("d/0", vec![b'x'; 100_000]).await.reason);
    }
    assert_eq!(reasons[..9], [PubAckReason::NoMatchingSubscribers; 9]);
    assert_eq!(reasons[11], PubAckReason::QuotaExceeded);
    drop((device, node));

    let node = Node::start(&kafka.address(), &tables("wait"));
    let mut device = Device::connect(node.address, "d0").await;
    for number in 0..20 {
        device.send("d/0", format!("{number} {}", "x".repeat(100_000))).await;
    }
    for _ in 0..9 {
        device.answer().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(device.answers() < 4, "there is no room for them");
    kafka.come_back();
    let found = records(&kafka.address(), &["spooled"], 20).await;
    assert_eq!(sequences(&found)["d0"], (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_spool_is_not_started_on_unless_it_is_asked_for() {
    let kafka = Kafka::start(&["spooled", "life"]);
    kafka.leave();
    let mut node = Node::start(&kafka.address(), ROUTES);
    publish(node.address, 0..10).await;
    node.end("KILL");
    let segment = node.segments("kafka").remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let mut process = Process::start(&["run", "--config", node.file.to_str().unwrap()]);
    let line = process.line("is damaged at byte");
    assert!(line.contains(segment.file_name().unwrap().to_str().unwrap()) && line.contains("on_damage"), "{line}");
    assert_ne!(process.end(), 0);
    node.configure(&kafka.address(), &format!("{ROUTES}[spool]\non_damage = \"skip\"\n"));
    node.begin();
    kafka.come_back();
    let count = 10 * DEVICES + DEVICES - 1;
    let found = records(&kafka.address(), &["spooled", "life"], count).await;
    assert_eq!(found.len(), count, "all but one");
    assert!(segment.with_extension("spool.damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_for_a_cluster_that_is_gone_are_not_forgotten() {
    let kafka = Kafka::start(&["spooled", "life"]);
    let away = "127.0.0.1:1";
    let eu = format!("[[cluster]]\nname = \"eu\"\nbootstrap_servers = \"{away}\"\n");
    let to_eu = ROUTES.replace("topic = \"spooled\"", "topic = \"spooled\"\ncluster = \"eu\"");
    let mut node = Node::start(&kafka.address(), &format!("{to_eu}{eu}"));
    publish(node.address, 0..5).await;
    node.end("TERM");
    node.configure(&kafka.address(), ROUTES);
    node.begin();
    let lines = node.process().lines();
    let said = lines.iter().find(|line| line.contains("whose cluster is not configured")).expect("it is said");
    assert!(said.contains("20 acknowledged records") && said.contains("eu"), "{said}");
    node.end("TERM");
    node.configure(&kafka.address(), &format!("{to_eu}{}", eu.replace(away, &kafka.address())));
    node.begin();
    assert_eq!(sequences(&records(&kafka.address(), &["spooled"], 20).await), complete(5));
}

#[test]
fn the_example_of_the_documentation_is_whole() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spool.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let (config, problems) = Config::parse(Path::new("hookgate.toml"), example);
    assert_eq!(problems, []);
    assert!(config.routes.iter().all(|route| route.delivery.ack == Ack::Spool));
    let defaults = Config::parse(Path::new("hookgate.toml"), "[node]\ndata_dir = \"data\"").0.spool;
    assert_eq!(config.spool, defaults, "it shows the defaults");
}

/// Resident memory of a process, bytes.
fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).ok()?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// The records of an outage: 7 200 000 are an hour at 2 000 a second.
const RECORDS: &str = "HOOKGATE_SPOOL_RECORDS";

#[tokio::test(flavor = "multi_thread")]
async fn the_volume_of_an_outage_is_replayed_in_order_and_memory_stays_flat() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::start(folder.path()) else { return };
    let mut kafka = kafka.unwrap();
    for topic in ["spooled", "life", "hookgate_dead_letter"] {
        create_topic(&kafka.address(), topic, &[]).await;
    }
    let each = std::env::var(RECORDS).map_or(100_000, |count| count.parse().expect("a number")) / DEVICES as u64;
    let mut node = Node::start(&kafka.address(), ROUTES);
    publish(node.address, 0..1).await; // the topics are known
    records(&kafka.address(), &["spooled"], DEVICES).await;
    kafka.kill().unwrap();
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..DEVICES {
        let address = node.address;
        fleet.spawn(async move {
            let mut device = Device::connect(address, &format!("d{number}")).await;
            let filling = "x".repeat(1_000);
            let (mut sent, mut answered) = (1, 1);
            while answered < each {
                while sent < each && sent - answered < 1_000 {
                    device.send(&format!("d/{number}"), format!("{sent} {filling}")).await;
                    sent += 1;
                }
                device.answer().await;
                answered += 1 + device.answers() as u64;
            }
        });
    }
    let start = Instant::now();
    let (mut early, mut highest) = (None, 0);
    let process = node.process().id();
    while !fleet.is_empty() {
        tokio::select! {
            done = fleet.join_next() => done.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let resident = resident_bytes(process).unwrap_or_default();
        if start.elapsed() > Duration::from_secs(2) {
            early.get_or_insert(resident);
        }
        highest = highest.max(resident);
    }
    let appended = start.elapsed();
    tokio::task::block_in_place(|| kafka.start_again()).unwrap();
    let start = Instant::now();
    let address = kafka.address();
    let expected = each as usize * DEVICES;
    let read = tokio::task::spawn_blocking(move || replayed(&address, expected));
    while !read.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        highest = highest.max(resident_bytes(process).unwrap_or_default());
    }
    read.await.unwrap();
    eprintln!(
        "spool: {expected} records of 1 KB appended in {:.1} s, replayed {:.1} s after Kafka's return; memory {:?} MB early, {} MB at most",
        appended.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        early.map(|bytes| bytes >> 20),
        highest >> 20
    );
    assert!(highest < 400 << 20, "{} MB of memory", highest >> 20);
}

/// Reads until every device's numbers are there, each first in its order.
fn replayed(address: &str, expected: usize) {
    let reader = hookgate::kafka::Reader::open(address, &["spooled"], PATIENCE).unwrap();
    let mut next: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (mut found, mut last) = (0, Instant::now());
    while found < expected {
        let Some(record) = reader.next(Duration::from_millis(100)).unwrap() else {
            assert!(last.elapsed() < 4 * PATIENCE, "{found} of {expected}");
            continue;
        };
        last = Instant::now();
        let number: u64 = std::str::from_utf8(&record.value).unwrap().split(' ').next().unwrap().parse().unwrap();
        let next = next.entry(record.key.as_deref().unwrap_or_default().to_vec()).or_default();
        assert!(number <= *next, "{number} came before {next}");
        if number == *next {
            *next += 1;
            found += 1;
        }
    }
}
