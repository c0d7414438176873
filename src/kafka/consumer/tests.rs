//! Against librdkafka's mock cluster, which has consumer groups.

use std::{collections::BTreeSet, path::PathBuf};

use tokio::time::timeout;

use super::*;
use crate::{
    config::Place,
    event::{Outcome, Receipt, Settlements, Text},
    kafka::{Producer, Record},
    metrics::Metrics,
};

/// Only ever waited for when something is broken.
const SAFETY: Duration = Duration::from_secs(60);
const TOPIC: Text = Text::from_static("down");

fn placed<T>(value: T) -> Placed<T> {
    Placed { value, place: Place { file: Arc::new(PathBuf::from("h.toml")), line: 1, column: 1 } }
}

struct Bench {
    kafka: Kafka,
    producer: Producer,
    topics: Vec<Placed<String>>,
    properties: Vec<(String, Placed<String>)>,
}

impl Bench {
    fn new(partitions: u32) -> Self {
        let kafka = Kafka { embedded_partitions: partitions, linger_ms: 0, ..Kafka::embedded(placed(()).place) };
        let producer = Producer::connect(&kafka, &[TOPIC], Metrics::new()).unwrap();
        let property = |name: &str, value: &str| (name.to_owned(), placed(value.to_owned()));
        let properties = vec![property("fetch.wait.max.ms", "10"), property("heartbeat.interval.ms", "200")];
        Bench { kafka, producer, topics: vec![placed(TOPIC.to_string())], properties }
    }

    fn wanted(&self, start: Start, max_in_flight: usize) -> Wanted<'_> {
        Wanted { name: "d", topics: &self.topics, group: "g", start, max_in_flight, properties: &self.properties }
    }

    fn join(&self, start: Start, max_in_flight: usize) -> (Consumer, Records) {
        Consumer::start(&self.kafka, &self.producer, &self.wanted(start, max_in_flight), Gauge::default()).unwrap()
    }

    /// Records with these numbers as values, all stored.
    async fn send(&self, numbers: std::ops::Range<u64>) {
        let settlements = Settlements::new();
        let count = numbers.clone().count();
        for number in numbers {
            let record = Record {
                topic: TOPIC,
                key: Some(format!("k{}", number % 7).into()),
                value: number.to_string().into(),
                timestamp_ms: 1_000,
                ..Record::default()
            };
            self.producer.send(record, Receipt::open(number, &settlements)).await;
        }
        let mut settled = Vec::new();
        while settled.len() < count {
            timeout(SAFETY, settlements.wait()).await.unwrap();
            settlements.take(&mut settled);
        }
        assert!(settled.iter().all(|settlement| settlement.outcome == Outcome::Stored));
    }
}

async fn next(records: &mut Records) -> (Fetched, Lease) {
    timeout(SAFETY, records.next()).await.expect("a record").expect("an open consumer")
}

fn number(fetched: &Fetched) -> u64 {
    std::str::from_utf8(fetched.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_committed_and_what_is_not_comes_again() {
    let bench = Bench::new(1);
    bench.send(0..10).await;
    let (consumer, mut records) = bench.join(Start::Earliest, 100);
    let mut leases = Vec::new();
    for expected in 0..10 {
        let (fetched, lease) = next(&mut records).await;
        assert_eq!((number(&fetched), fetched.offset, fetched.partition, fetched.timestamp_ms), (expected, expected, 0, Some(1_000)));
        leases.push(lease);
    }
    for done in [0, 1, 2, 4, 5] {
        consumer.done(&leases[done]);
    }
    consumer.close(records, SAFETY).await;
    let (consumer, mut records) = bench.join(Start::Earliest, 100);
    let (fetched, lease) = next(&mut records).await;
    assert_eq!(number(&fetched), 3, "4 and 5 wait for it");
    assert!(consumer.holds(&lease));
    consumer.close(records, SAFETY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_out_than_may_be_and_none_is_lost() {
    let bench = Bench::new(3);
    bench.send(0..500).await;
    let (consumer, mut records) = bench.join(Start::Earliest, 10);
    let (mut seen, mut leases) = (BTreeSet::new(), Vec::new());
    for _ in 0..10 {
        let (fetched, lease) = next(&mut records).await;
        assert!(seen.insert(number(&fetched)));
        leases.push(lease);
    }
    let more = timeout(Duration::from_millis(800), records.next()).await;
    assert!(more.is_err(), "there is no room, so nothing comes");
    while seen.len() < 500 {
        leases.drain(..).for_each(|lease| consumer.done(&lease));
        let (fetched, lease) = next(&mut records).await;
        assert!(seen.insert(number(&fetched)), "each once");
        leases.push(lease);
    }
    consumer.close(records, SAFETY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_at_the_end_misses_nothing_from_then_on() {
    let bench = Bench::new(1);
    bench.send(0..5).await;
    let (consumer, mut records) = bench.join(Start::Latest, 10);
    // Until it is there, what is sent may be from before its beginning.
    let first = loop {
        bench.send(100..101).await;
        if let Ok(Some((fetched, _lease))) = timeout(Duration::from_millis(300), records.next()).await {
            break fetched;
        }
    };
    assert_eq!(number(&first), 100, "nothing older");
    consumer.close(records, SAFETY).await; // its record is not done
    bench.send(200..201).await;
    let (consumer, mut records) = bench.join(Start::Latest, 10);
    let (fetched, _lease) = next(&mut records).await;
    assert_eq!((number(&fetched), fetched.offset <= first.offset), (100, true), "it goes on where it began");
    consumer.close(records, SAFETY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_go_to_another_member_are_finished_or_forgotten() {
    let bench = Bench::new(2);
    bench.send(0..40).await;
    let (one, mut ones) = bench.join(Start::Earliest, 1_000);
    let mut leases = Vec::new();
    for _ in 0..40 {
        leases.push(next(&mut ones).await.1);
    }
    leases.iter().step_by(2).for_each(|lease| one.done(lease)); // the others never are
    let (two, mut twos) = bench.join(Start::Earliest, 1_000);
    let (_, lease) = next(&mut twos).await; // one had to give a partition up
    assert!(two.holds(&lease));
    assert!(leases.iter().any(|lease| !one.holds(lease)));
    leases.iter().for_each(|lease| one.done(lease)); // moves nothing of what is gone
    tokio::join!(one.close(ones, SAFETY), two.close(twos, SAFETY));
}

#[test]
fn properties_are_checked_with_their_place() {
    let bench = Bench::new(1);
    let properties = [("fetch.min.byte".to_owned(), placed("1".to_owned()))];
    let wanted = Wanted { properties: &properties, ..bench.wanted(Start::Latest, 1) };
    let refused = Consumer::check(&bench.kafka, &wanted);
    assert!(matches!(&refused, Err(KafkaError::ConsumerProperty { name, .. }) if name == "fetch.min.byte"), "{refused:?}");
    assert!(refused.err().and_then(|error| error.problem()).is_some());
    assert!(Consumer::check(&bench.kafka, &bench.wanted(Start::Latest, 1)).is_ok());
}
