//! The way into transactions, against librdkafka's mock cluster, which keeps records and forgets markers.

use std::sync::Arc;

use super::*;
use crate::{
    config::{self, Place, SyncPolicy},
    event::{Settlement, Settlements},
    kafka::{Producer, Reader},
    store::{Change, Image, Intent, Restored, SessionState, Store},
};

/// Only ever waited for when something is broken.
const SAFETY: Duration = Duration::from_secs(30);
const TOPIC: Text = Text::from_static("t");

/// A mock cluster, a store on disk, and a worker between them.
struct Bench {
    producer: Producer,
    once: Once,
    settlements: Arc<Settlements>,
    metrics: Arc<Metrics>,
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new(restored: &Restored) -> Self {
        let place = Place { file: Arc::new("hookgate.toml".into()), line: 1, column: 1 };
        let kafka = Kafka { embedded_partitions: 1, linger_ms: 0, ..Kafka::embedded(place) };
        let metrics = Metrics::new();
        let producer = Producer::connect(&kafka, &[TOPIC], Arc::clone(&metrics)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&settings(&folder), &metrics).unwrap();
        let past = Arc::new(Past::new(&store, restored));
        let settings = Settings { kafka, producer: producer.clone(), node: "n".to_owned(), past, metrics: Arc::clone(&metrics) };
        let once = Once::start(settings).unwrap();
        Bench { producer, once, settlements: Settlements::new(), metrics, folder, store }
    }

    fn receipt(&self, number: u64, origin: Option<&Arc<Origin>>) -> Receipt {
        Receipt::open_for(number, &self.settlements, origin.cloned())
    }

    async fn settled(&self, count: usize) -> Vec<Settlement> {
        let mut settled = Vec::new();
        self.settlements.take(&mut settled);
        while settled.len() < count {
            timeout(SAFETY, self.settlements.wait()).await.unwrap();
            self.settlements.take(&mut settled);
        }
        settled
    }

    fn read(&self, count: usize) -> Vec<String> {
        let reader = Reader::open(&self.producer.embedded_address().unwrap(), &[&TOPIC], SAFETY).unwrap();
        let next = || reader.next(SAFETY).unwrap().map(|record| String::from_utf8(record.value.to_vec()).unwrap());
        std::iter::repeat_with(next).take(count).flatten().collect()
    }

    /// What a process that started now would find.
    fn restore(self) -> Restored {
        self.store.close();
        Store::open(&settings(&self.folder), &Metrics::new()).unwrap().1
    }
}

fn settings(folder: &tempfile::TempDir) -> config::Store {
    config::Store { folder: folder.path().to_owned(), sync: SyncPolicy::Never, forget_state: Vec::new() }
}

fn record(value: &str) -> Record {
    Record { topic: TOPIC, value: value.to_owned().into(), timestamp_ms: 1, ..Record::default() }
}

fn entry(value: &str) -> Entry {
    Entry { record: record(value), grave: None }
}

fn session(number: u64) -> Change {
    let client = crate::event::Client {
        client_id: "c".into(),
        username: None,
        peer: ([127, 0, 0, 1], 1).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    };
    Change::Session(Box::new(SessionState { number, client: Arc::new(client), expiry_s: 60, left_at_ms: None }))
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_are_stored_in_order_and_their_intents_before() {
    let bench = Bench::new(&Restored::default());
    bench.store.add(session(1));
    let origins: Vec<_> = (0..20).map(|id| Arc::new(Origin::new(1, id, u64::from(id)))).collect();
    for (id, origin) in origins.iter().enumerate() {
        let entries = vec![entry(&format!("{id} a")), entry(&format!("{id} b"))];
        bench.once.send(entries, bench.receipt(id as u64, Some(origin))).await;
    }
    bench.once.send(vec![entry("from nobody")], bench.receipt(20, None)).await;
    let settled = bench.settled(21).await;
    assert!(settled.iter().all(|settlement| settlement.outcome == Outcome::Stored), "{settled:?}");
    assert!(settled.iter().map(|settlement| settlement.number).is_sorted());
    let expected = (0..20).flat_map(|id| [format!("{id} a"), format!("{id} b")]).chain(["from nobody".to_owned()]);
    assert_eq!(bench.read(41), expected.collect::<Vec<_>>());
    assert!(origins.iter().all(|origin| origin.knows("kafka") == Some(Knowledge::Stored)));
    assert!(bench.metrics.render().contains("hookgate_records_confirmed_total{name=\"t\"} 41\n"));
    assert_eq!(bench.once.drain(SAFETY).await, 0);
    let restored = bench.restore();
    let numbers: Vec<_> = restored.intents().map(|(session, intent)| (session, intent.id, intent.number)).collect();
    assert_eq!(numbers, (0..20).map(|id| (1, id, u64::from(id) + 1)).collect::<Vec<_>>());
    let (name, ledger) = restored.ledgers.first().unwrap();
    assert_eq!((&**name, ledger.epoch, ledger.topic.as_deref()), ("kafka", 1, Some("t")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_has_is_not_sent_again() {
    let bench = Bench::new(&Restored::default());
    let origin = Arc::new(Origin::new(1, 1, 1));
    let way = Way::nowhere().through(bench.once.clone());
    for number in 0..2 {
        let mut together = Together::default();
        assert_eq!(together.take(&way, record("x")), None);
        let receipt = bench.receipt(number, Some(&origin));
        together.send(&receipt).await;
        receipt.settle(Outcome::Stored);
        assert_eq!(bench.settled(1).await, [Settlement { number, outcome: Outcome::Stored }]);
    }
    let mut together = Together::default();
    assert_eq!(together.take(&Way::nowhere(), record("x")), Some(record("x")), "another way");
    assert!(bench.metrics.render().contains("hookgate_publishes_repeated_total{name=\"kafka\"} 1\n"));
    bench.once.send(vec![entry("last")], bench.receipt(2, None)).await;
    assert_eq!(bench.read(2), ["x", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn intents_that_never_arrived_are_forgotten_at_the_start() {
    let mut image = Image::default();
    let intent = Intent { id: 1, cluster: "kafka".into(), number: 41, digest: 1 };
    image.apply(&[session(1), Change::Intended(1, Box::new(intent))]);
    let restored = image.restore();
    let bench = Bench::new(&restored);
    let origin = Arc::new(Origin::new(1, 1, 1));
    origin.was_underway(&"kafka".into(), 41);
    assert!(!timeout(SAFETY, bench.once.has(&origin)).await.unwrap());
    bench.store.add(session(1));
    bench.once.send(vec![entry("x")], bench.receipt(0, Some(&origin))).await;
    bench.settled(1).await;
    let numbers: Vec<_> = bench.restore().intents().map(|(_, intent)| intent.number).collect();
    assert_eq!(numbers, [42], "numbers are not used twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_never_answers_gives_nothing_up_until_the_end() {
    let bench = Bench::new(&Restored::default());
    let place = Place { file: Arc::new("hookgate.toml".into()), line: 1, column: 1 };
    let kafka = Kafka { bootstrap: config::Bootstrap::Servers("127.0.0.1:1".to_owned()), ..Kafka::embedded(place) };
    let nobody = kafka.clone();
    let producer = tokio::task::spawn_blocking(move || Producer::connect(&nobody, &[], Metrics::new()).unwrap()).await.unwrap();
    let past = Arc::new(Past::new(&bench.store, &Restored::default()));
    let once = Once::start(Settings { kafka, producer, node: "n".to_owned(), past, metrics: Metrics::new() }).unwrap();
    once.send(vec![entry("x")], bench.receipt(0, None)).await;
    assert_eq!(once.drain(Duration::from_millis(50)).await, 1);
    once.send(vec![entry("y")], bench.receipt(1, None)).await;
    let settled = bench.settled(1).await;
    assert!(matches!(&settled[..], [Settlement { number: 1, outcome: Outcome::Unknown(_) }]), "{settled:?}");
}
