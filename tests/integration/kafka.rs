//! The producer against a real Apache Kafka: what the mock cannot prove.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hookgate::{
    config::{Bootstrap, Kafka, Place},
    event::{Outcome, Receipt, Refusal, Settlement, Settlements, Text, now_ms},
    kafka::{Producer, Record},
    metrics::Metrics,
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time::{sleep, timeout};

use crate::real_kafka::RealKafka;

/// Only ever waited for when something is broken.
const SAFETY: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

/// Creates a topic of three partitions.
pub async fn create_topic(address: &str, topic: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client(address).create().unwrap();
    let mut new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let created = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(SAFETY))).await.unwrap();
    for result in created {
        result.unwrap();
    }
}

/// Everything that is in a topic: partition, key and value, in the order of each partition.
pub fn read_all(address: &str, topic: &str) -> Vec<(i32, String, String)> {
    let consumer: BaseConsumer = client(address).set("group.id", "reader").set("enable.partition.eof", "false").create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut expected = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, SAFETY).unwrap();
        expected += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    let mut records = Vec::new();
    while (records.len() as i64) < expected {
        let record = consumer.poll(SAFETY).expect("the topic holds more records").unwrap();
        records.push((record.partition(), text(record.key()), text(record.payload())));
    }
    records
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

fn connect(address: &str, topic: &str, change: impl FnOnce(&mut Kafka)) -> Producer {
    connect_counted(address, topic, &Metrics::new(), change)
}

fn connect_counted(address: &str, topic: &str, metrics: &Arc<Metrics>, change: impl FnOnce(&mut Kafka)) -> Producer {
    let _ = tracing_subscriber::fmt().with_test_writer().try_init(); // another test may have done it
    let place = Place { file: Arc::new(PathBuf::from("hookgate.toml")), line: 1, column: 1 };
    let mut kafka = Kafka { bootstrap: Bootstrap::Servers(address.to_owned()), ..Kafka::embedded(place) };
    change(&mut kafka);
    tokio::task::block_in_place(|| Producer::connect(&kafka, &[Text::from(topic)], Arc::clone(metrics))).unwrap()
}

fn record(topic: &str, key: &str, value: String) -> Record {
    let topic = Text::from(topic);
    Record { topic, key: Some(key.to_owned().into()), value: value.into(), timestamp_ms: now_ms(), ..Record::default() }
}

/// Waits until `count` receipts are settled; outcomes by number.
async fn settled(settlements: &Settlements, count: usize) -> BTreeMap<u64, Outcome> {
    let mut all: Vec<Settlement> = Vec::new();
    settlements.take(&mut all);
    while all.len() < count {
        timeout(SAFETY, settlements.wait()).await.expect("receipts stay open");
        settlements.take(&mut all);
    }
    assert_eq!(all.len(), count, "a receipt was settled twice");
    all.into_iter().map(|settlement| (settlement.number, settlement.outcome)).collect()
}

/// Each key's values must be 0, 1, 2 … without gap or repetition; returns how many each has.
fn check_sequences(records: &[(i32, String, String)]) -> BTreeMap<&str, u64> {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (partition, key, value) in records {
        let expected = next.entry(key).or_default();
        let number: u64 = value.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number, *expected, "key {key} in partition {partition}");
        *expected += 1;
    }
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::shared_or_start(folder.path()) else { return };
    let kafka = kafka.unwrap();
    let address = kafka.address();
    let topic = format!("in_order_{}", std::process::id());
    create_topic(&address, &topic, &[]).await;
    let producer = connect(&address, &topic, |kafka| kafka.max_outstanding_records = 500);
    let settlements = Settlements::new();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (producer, settlements, topic) = (producer.clone(), Arc::clone(&settlements), topic.clone());
            tokio::spawn(async move {
                for number in 0..5_000_u64 {
                    let (key, value) = (format!("{sender}-{}", number % 5), (number / 5).to_string());
                    producer.send(record(&topic, &key, value), Receipt::open(sender * 5_000 + number, &settlements)).await;
                }
            })
        })
        .collect();
    for sender in senders {
        timeout(SAFETY, sender).await.unwrap().unwrap();
    }
    let outcomes = settled(&settlements, 20_000).await;
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Stored));
    let records = read_all(&address, &topic);
    let counts = check_sequences(&records);
    assert_eq!(counts.len(), 20);
    assert!(counts.values().all(|count| *count == 1_000), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_topic_is_refused_and_later_records_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::shared_or_start(folder.path()) else { return };
    let kafka = kafka.unwrap();
    let address = kafka.address();
    let topic = format!("small_{}", std::process::id());
    create_topic(&address, &topic, &[("max.message.bytes", "10000")]).await;
    let producer = connect(&address, &topic, |_| {});
    let settlements = Settlements::new();
    let filling = "x".repeat(1_000);
    for number in 0..3 {
        let value = if number == 1 { "x".repeat(50_000) } else { format!("{} {filling}", number / 2) };
        producer.send(record(&topic, "key", value), Receipt::open(number, &settlements)).await;
        let outcome = settled(&settlements, 1).await.remove(&number);
        match number {
            1 => assert!(matches!(outcome, Some(Outcome::Refused(Refusal::TooLarge(_)))), "{outcome:?}"),
            _ => assert_eq!(outcome, Some(Outcome::Stored)),
        }
    }
    // Together they would make a batch that is too large, although none of them is.
    let slow = connect(&address, &topic, |kafka| kafka.linger_ms = 300);
    for number in 2..50 {
        slow.send(record(&topic, "key", format!("{number} {filling}")), Receipt::open(number, &settlements)).await;
    }
    assert!(settled(&settlements, 48).await.values().all(|outcome| *outcome == Outcome::Stored));
    // A producer that came before the topic does not know what it takes: only what may be alone too large is refused.
    let late = format!("late_{}", std::process::id());
    let producer = connect(&address, "hookgate_other", |kafka| kafka.linger_ms = 300);
    create_topic(&address, &late, &[("max.message.bytes", "10000")]).await;
    producer.send(record(&late, "key", filling.repeat(2)), Receipt::open(0, &settlements)).await;
    assert_eq!(settled(&settlements, 1).await.remove(&0), Some(Outcome::Stored));
    for number in 0..50 {
        producer.send(record(&late, "key", filling.clone()), Receipt::open(number, &settlements)).await;
    }
    let outcomes = settled(&settlements, 50).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "{outcomes:?}");
    let counts = read_all(&address, &topic);
    assert_eq!(check_sequences(&counts), BTreeMap::from([("key", 50)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_under_load_loses_nothing_and_repeats_nothing() {
    const SENDERS: u64 = 4;
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::start(folder.path()) else { return };
    let mut kafka = kafka.unwrap();
    let topic = "outage";
    create_topic(&kafka.address(), topic, &[]).await;
    let metrics = Metrics::new();
    let producer = connect_counted(&kafka.address(), topic, &metrics, |kafka| kafka.max_outstanding_records = 2_000);
    let reachable = |value: u8| metrics.render().contains(&format!("hookgate_kafka_reachable{{name=\"kafka\"}} {value}\n"));
    assert!(reachable(1));
    let settlements = Settlements::new();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (producer, settlements, stop, sent) = (producer.clone(), Arc::clone(&settlements), Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let receipt = Receipt::open(number * SENDERS + sender, &settlements);
                    producer.send(record(topic, &sender.to_string(), number.to_string()), receipt).await;
                    number += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if number.is_multiple_of(10) {
                        sleep(Duration::from_millis(10)).await;
                    }
                }
                number
            })
        })
        .collect();
    let under_load = async |count: u64| {
        let (start, before) = (Instant::now(), sent.load(Ordering::Relaxed));
        while sent.load(Ordering::Relaxed) < before + count {
            assert!(start.elapsed() < SAFETY, "records do not go on");
            sleep(Duration::from_millis(20)).await;
        }
    };
    under_load(4_000).await;
    kafka.kill().unwrap();
    let mut confirmed: Vec<Settlement> = Vec::new();
    sleep(Duration::from_secs(1)).await;
    settlements.take(&mut confirmed);
    let at_outage = confirmed.len();
    sleep(Duration::from_secs(4)).await;
    settlements.take(&mut confirmed);
    assert_eq!(confirmed.len(), at_outage, "nothing is confirmed while Kafka is dead");
    assert_eq!(producer.outstanding(), 2_000, "senders wait at the bound");
    assert!(reachable(0));
    tokio::task::block_in_place(|| kafka.start_again()).unwrap();
    under_load(4_000).await;
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for sender in senders {
        total += timeout(SAFETY, sender).await.unwrap().unwrap();
    }
    assert_eq!(producer.drain(SAFETY).await, 0);
    settlements.take(&mut confirmed);
    assert_eq!(confirmed.len() as u64, total);
    assert!(confirmed.iter().all(|settlement| settlement.outcome == Outcome::Stored));
    assert!(reachable(1));
    let records = read_all(&kafka.address(), topic);
    assert_eq!(records.len() as u64, total, "what was confirmed is there once");
    assert_eq!(check_sequences(&records).len() as u64, SENDERS);
}
