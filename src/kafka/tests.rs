//! The producer against librdkafka's mock cluster: order, refusals, bounds, ends.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::timeout;

use super::{KafkaError, Producer, Record, topics};
use crate::{
    config::{Bootstrap, Kafka, Place, Placed},
    event::{Header, Outcome, Receipt, Refusal, Settlement, Settlements, Text},
    metrics::Metrics,
};

mod renewal;

/// Only ever waited for when something is broken.
const SAFETY: Duration = Duration::from_secs(30);
const TOPIC: Text = Text::from_static("t");

fn place() -> Place {
    Place { file: Arc::new(PathBuf::from("hookgate.toml")), line: 7, column: 3 }
}

fn settings(change: impl FnOnce(&mut Kafka)) -> Kafka {
    let mut kafka = Kafka { embedded_partitions: 1, linger_ms: 0, ..Kafka::embedded(place()) };
    change(&mut kafka);
    kafka
}

/// A producer with an embedded cluster, and what became of the records that it was given.
struct Bench {
    producer: Producer,
    settlements: Arc<Settlements>,
    metrics: Arc<Metrics>,
    settled: Vec<Settlement>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Kafka)) -> Self {
        let metrics = Metrics::new();
        let producer = Producer::connect(&settings(change), &[TOPIC], Arc::clone(&metrics)).unwrap();
        Bench { producer, settlements: Settlements::new(), metrics, settled: Vec::new() }
    }

    async fn send(&self, number: u64, record: Record) {
        timeout(SAFETY, self.producer.send(record, Receipt::open(number, &self.settlements))).await.unwrap();
    }

    /// Waits until `count` records are settled in all, and returns them by number.
    async fn settled(&mut self, count: usize) -> BTreeMap<u64, Outcome> {
        self.settlements.take(&mut self.settled);
        while self.settled.len() < count {
            timeout(SAFETY, self.settlements.wait()).await.unwrap();
            self.settlements.take(&mut self.settled);
        }
        assert_eq!(self.settled.len(), count);
        self.settled.iter().map(|settlement| (settlement.number, settlement.outcome.clone())).collect()
    }

    fn fail_produce(&self, errors: &[RDKafkaRespErr]) {
        self.producer.embedded().unwrap().cluster().unwrap().request_errors(RDKafkaApiKey::Produce, errors);
    }

    fn kafka_is_down(&self, down: bool) {
        let cluster = self.producer.embedded().unwrap().cluster().unwrap();
        if down { cluster.broker_down(-1).unwrap() } else { cluster.broker_up(-1).unwrap() }
    }

    /// The first `count` records of partition 0.
    fn read<T>(&self, count: usize, take: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.producer.embedded_address().unwrap()).set("group.id", "test");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&TOPIC, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let read = (0..count).map(|index| take(&consumer.poll(SAFETY).unwrap_or_else(|| panic!("only {index} records")).unwrap()));
        read.collect()
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|rendered| rendered == line)
    }
}

fn record(value: impl Into<String>) -> Record {
    let value = value.into();
    Record { topic: TOPIC, key: Some("key".into()), value: value.into(), timestamp_ms: 1, ..Record::default() }
}

fn refused(outcome: Option<&Outcome>) -> Option<&Refusal> {
    match outcome {
        Some(Outcome::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

#[tokio::test]
async fn nothing_is_sent_before_what_comes_again() {
    let mut bench = Bench::new(|_| {});
    let (lost, later) = (Receipt::open(1, &bench.settlements), Receipt::open(2, &bench.settlements));
    lost.settle(Outcome::Unknown("given up".into()));
    timeout(SAFETY, bench.producer.send(record("2"), later)).await.unwrap();
    let outcomes = bench.settled(2).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "{outcomes:?}");
    bench.settlements.begin(3, false); // the client is back, and sends both again
    bench.send(3, record("1 again")).await;
    bench.send(4, record("2 again")).await;
    bench.settled(4).await;
    assert_eq!(bench.read(2, |message| message.payload().map(<[u8]>::to_vec)), [Some(b"1 again".to_vec()), Some(b"2 again".to_vec())]);
}

#[tokio::test]
async fn a_record_arrives_whole() {
    let mut bench = Bench::new(|_| {});
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let headers = vec![header("verified", "true"), header("verified", "again")];
    bench.send(7, Record { headers, timestamp_ms: 1_700_000_000_123, ..record("value") }).await;
    bench.send(8, Record { key: None, value: "".into(), ..record("") }).await;
    assert_eq!(bench.settled(2).await, BTreeMap::from([(7, Outcome::Stored), (8, Outcome::Stored)]));
    let read = bench.read(2, |message| {
        let headers: Vec<(String, Vec<u8>)> = message
            .headers()
            .map_or(Vec::new(), |headers| headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap().to_vec())).collect());
        let key = message.key().map(<[u8]>::to_vec);
        (key, message.payload().map(<[u8]>::to_vec), headers, message.timestamp().to_millis())
    });
    let headers = vec![("verified".to_owned(), b"true".to_vec()), ("verified".to_owned(), b"again".to_vec())];
    assert_eq!(read[0], (Some(b"key".to_vec()), Some(b"value".to_vec()), headers, Some(1_700_000_000_123)));
    assert_eq!((&read[1].0, &read[1].1), (&None, &Some(Vec::new())), "an empty value is no tombstone");
    assert!(bench.metric("hookgate_records_enqueued_total{name=\"t\"} 2"));
    assert!(bench.metric("hookgate_records_confirmed_total{name=\"t\"} 2"));
    assert!(bench.metric("hookgate_records_outstanding 0"));
    assert!(bench.metric("hookgate_kafka_reachable{name=\"kafka\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_through_refusals_of_batches_and_a_full_gate() {
    const COUNT: usize = 3_000;
    let mut bench = Bench::new(|kafka| {
        kafka.max_outstanding_records = 50;
        // One request at once: the mock cluster does not look at sequence numbers, so it takes a second request after it has refused the
        // first one, and librdkafka then counts the first as taken, too. A Kafka refuses the second as out of order.
        kafka.properties = vec![property("max.in.flight", "1")];
    });
    // What librdkafka repeats by itself.
    bench.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT]);
    for number in 0..COUNT {
        bench.send(number as u64, record(number.to_string())).await;
        assert!(bench.producer.outstanding() <= 50);
    }
    assert!(bench.settled(COUNT).await.values().all(|outcome| *outcome == Outcome::Stored));
    let read = bench.read(COUNT, |message| String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
    assert_eq!(read, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn refusals_are_told_from_one_another_and_later_records_go_on() {
    use RDKafkaRespErr as E;
    let kind = |refusal: &Refusal| match refusal {
        Refusal::TooLarge(_) => "too-large",
        Refusal::Unauthorized(_) => "unauthorized",
        Refusal::Quota(_) => "quota",
        Refusal::Other(_) => "other",
    };
    let cases = [
        (E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "too-large", "too-large"),
        (E::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "quota", "quota"),
        (E::RD_KAFKA_RESP_ERR_INVALID_RECORD, "other", "invalid-record"),
    ];
    let mut bench = Bench::new(|_| {});
    for (index, (error, expected, reason)) in cases.into_iter().enumerate() {
        bench.fail_produce(&[error]);
        let (first, second) = (index as u64 * 2, index as u64 * 2 + 1);
        bench.send(first, record("refused")).await;
        let settled = bench.settled(first as usize + 1).await;
        assert_eq!(refused(settled.get(&first)).map(kind), Some(expected), "{error:?}");
        bench.send(second, record("good")).await;
        assert_eq!(bench.settled(second as usize + 1).await.get(&second), Some(&Outcome::Stored), "after {error:?}");
        assert!(bench.metric(&format!("hookgate_records_failed_total{{name=\"t\",reason=\"{reason}\"}} 1")), "{reason}");
    }
}

#[tokio::test]
async fn a_right_that_is_given_counts_soon() {
    let mut bench = Bench::new(|_| {});
    bench.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    bench.send(0, record("refused")).await;
    let settled = bench.settled(1).await;
    assert!(matches!(refused(settled.get(&0)), Some(Refusal::Unauthorized(_))), "{settled:?}");
    for number in 1.. {
        bench.send(number, record("once more")).await;
        if bench.settled(number as usize + 1).await.get(&number) == Some(&Outcome::Stored) {
            return;
        }
        assert!(number < 300, "librdkafka was not told to ask again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn too_large_for_librdkafka_is_refused_at_once() {
    let mut bench = Bench::new(|kafka| kafka.properties = vec![property("message.max.bytes", "2000")]);
    bench.kafka_is_down(true); // nobody needs to be asked
    bench.send(1, record("x".repeat(3_000))).await;
    let settled = bench.settled(1).await;
    assert!(matches!(refused(settled.get(&1)), Some(Refusal::TooLarge(_))), "{settled:?}");
    assert_eq!(bench.producer.outstanding(), 0);
}

#[tokio::test]
async fn who_finds_no_room_waits_until_kafka_has_answered() {
    let mut bench = Bench::new(|kafka| kafka.max_outstanding_records = 3);
    bench.kafka_is_down(true);
    for number in 0..3 {
        bench.send(number, record(number.to_string())).await;
    }
    assert_eq!(bench.producer.outstanding(), 3);
    let (producer, settlements) = (bench.producer.clone(), Arc::clone(&bench.settlements));
    let fourth = tokio::spawn(async move { producer.send(record("3"), Receipt::open(3, &settlements)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!fourth.is_finished(), "there is room for three");
    assert_eq!(bench.settled(0).await.len(), 0, "nothing is acknowledged while Kafka is away");
    bench.kafka_is_down(false);
    timeout(SAFETY, fourth).await.unwrap().unwrap();
    assert!(bench.settled(4).await.values().all(|outcome| *outcome == Outcome::Stored));
    assert_eq!(bench.read(4, |message| message.payload().unwrap().to_vec()), [b"0", b"1", b"2", b"3"]);
}

#[tokio::test]
async fn bytes_are_bounded_and_one_record_may_fill_them_all() {
    let mut bench = Bench::new(|kafka| kafka.max_outstanding_bytes = 1_024);
    for number in 0..3 {
        bench.send(number, record("x".repeat(5_000))).await; // each alone
    }
    assert!(bench.settled(3).await.values().all(|outcome| *outcome == Outcome::Stored));
    bench.kafka_is_down(true);
    bench.send(3, record("x".repeat(600))).await;
    let (producer, receipt) = (bench.producer.clone(), Receipt::open(4, &bench.settlements));
    let waits = timeout(Duration::from_millis(100), producer.send(record("x".repeat(600)), receipt)).await;
    assert!(waits.is_err(), "there is room for 1024 bytes");
    assert!(matches!(bench.settled(4).await.get(&4), Some(Outcome::Unknown(_))), "cancelled while it waited");
    bench.kafka_is_down(false);
    assert_eq!(bench.settled(5).await.get(&3), Some(&Outcome::Stored));
    bench.settlements.begin(5, false);
    bench.send(5, record("x".repeat(1_000))).await;
    assert_eq!(bench.settled(6).await.get(&5), Some(&Outcome::Stored), "the cancelled one gave its room back");
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_unknown() {
    let mut bench = Bench::new(|kafka| kafka.delivery_timeout_ms = 300);
    bench.kafka_is_down(true);
    bench.send(1, record("late")).await;
    assert!(matches!(bench.settled(1).await.get(&1), Some(Outcome::Unknown(_))));
    assert!(bench.metric("hookgate_records_failed_total{name=\"t\",reason=\"timeout\"} 1"));
}

#[tokio::test]
async fn draining_waits_for_answers() {
    let mut bench = Bench::new(|kafka| kafka.linger_ms = 100);
    for number in 0..100 {
        bench.send(number, record("x")).await;
    }
    assert_eq!(bench.producer.drain(SAFETY).await, 0);
    assert!(bench.settled(100).await.values().all(|outcome| *outcome == Outcome::Stored));
    bench.send(100, record("too late")).await;
    assert!(matches!(bench.settled(101).await.get(&100), Some(Outcome::Unknown(_))));
}

#[tokio::test]
async fn draining_without_kafka_leaves_everything_unknown() {
    let mut bench = Bench::new(|kafka| kafka.max_outstanding_records = 10);
    bench.kafka_is_down(true);
    for number in 0..10 {
        bench.send(number, record("x")).await;
    }
    let (producer, receipt) = (bench.producer.clone(), Receipt::open(10, &bench.settlements));
    let waiting = tokio::spawn(async move { producer.send(record("waits for room"), receipt).await });
    tokio::task::yield_now().await;
    assert_eq!(timeout(SAFETY, bench.producer.drain(Duration::from_millis(100))).await.unwrap(), 10);
    timeout(SAFETY, waiting).await.unwrap().unwrap();
    let settled = bench.settled(11).await;
    assert!(settled.values().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "{settled:?}");
    assert_eq!(bench.producer.outstanding(), 0);
}

#[tokio::test]
async fn dropping_the_producer_leaves_everything_unknown() {
    let mut bench = Bench::new(|_| {});
    bench.kafka_is_down(true);
    bench.send(1, record("x")).await;
    let other = Producer::connect(&settings(|_| {}), &[TOPIC], Metrics::new()).unwrap();
    drop(std::mem::replace(&mut bench.producer, other));
    assert!(matches!(bench.settled(1).await.get(&1), Some(Outcome::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_failed_for_good_is_replaced() {
    let mut bench = Bench::new(|_| {});
    bench.send(0, record("0")).await;
    bench.settled(1).await;
    // The answer to the first request of a sequence that leaves librdkafka no way on.
    bench.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    bench.send(1, record("1")).await;
    let lost = bench.settled(2).await;
    assert!(matches!(lost.get(&1), Some(Outcome::Unknown(_))), "{lost:?}");
    bench.settlements.begin(2, false);
    bench.send(2, record("2")).await;
    assert_eq!(bench.settled(3).await.get(&2), Some(&Outcome::Stored));
    assert!(bench.metric("hookgate_kafka_producer_restarts_total 1"));
    assert!(bench.metric("hookgate_records_outstanding 0"));
}

fn property(name: &str, value: &str) -> (String, Placed<String>) {
    (name.to_owned(), Placed { value: value.to_owned(), place: place() })
}

#[test]
fn wrong_properties_are_named_with_their_place() {
    let cases = [
        (
            vec![property("linger.msec", "5")],
            "hookgate.toml:7:3: kafka.properties.\"linger.msec\": No such configuration property: \"linger.msec\"",
        ),
        (
            vec![property("batch.size", "many")],
            "hookgate.toml:7:3: kafka.properties.\"batch.size\": Invalid value for configuration property \"batch.size\"",
        ),
        (
            vec![property("transactional.id", "x")],
            "hookgate.toml:7:3: kafka.properties.\"transactional.id\": \
             Hookgate's producer is not transactional; records are idempotent with acks = \"all\"",
        ),
    ];
    for (properties, message) in cases {
        let error = Producer::check(&settings(|kafka| kafka.properties = properties)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.problem().unwrap().place, place());
    }
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    // Idempotence with more than five requests in flight.
    let kafka = settings(|kafka| kafka.properties = vec![property("max.in.flight", "10")]);
    let error = Producer::connect(&kafka, &[TOPIC], Metrics::new()).unwrap_err();
    assert!(matches!(error, KafkaError::Settings { .. }), "{error}");
}

#[tokio::test]
async fn a_kafka_that_is_away_does_not_hinder_the_start() {
    let kafka = settings(|kafka| kafka.bootstrap = Bootstrap::Servers("127.0.0.1:1".to_owned()));
    let metrics = Metrics::new();
    let producer = tokio::task::spawn_blocking({
        let metrics = Arc::clone(&metrics);
        move || Producer::connect(&kafka, &[TOPIC], metrics).unwrap()
    });
    let producer = timeout(SAFETY, producer).await.unwrap().unwrap();
    assert!(metrics.render().contains("hookgate_kafka_reachable{name=\"kafka\"} 0\n"));
    producer.send(record("x"), Receipt::nobody()).await;
    assert_eq!(producer.drain(Duration::ZERO).await, 1);
}

#[test]
fn topics_of_guests_are_counted_up_to_a_bound() {
    let metrics = Metrics::new();
    let topics = topics::Topics::new(&[TOPIC], &metrics);
    for number in 0..2_000 {
        topics.counters(&format!("guest_{number}").into()).enqueued.inc();
    }
    topics.counters(&TOPIC).enqueued.inc();
    let page = metrics.render();
    assert!(page.contains("hookgate_records_enqueued_total{name=\"guest_998\"} 1\n"));
    assert!(page.contains("hookgate_records_enqueued_total{name=\"(others)\"} 1001\n"));
    assert!(page.contains("hookgate_records_enqueued_total{name=\"t\"} 1\n"));
}
