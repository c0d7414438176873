//! When a device is told what: the binary between real MQTT packets and a Kafka that refuses, fails and dawdles on demand.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use hookgate::{config::Config, kafka::StoredRecord};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr as E},
};

use super::wire::{Connect, Wire};
use crate::{
    kafka::create_topic,
    real_kafka::RealKafka,
    support::{PATIENCE, Process, field, records},
};

const OK: E = E::RD_KAFKA_RESP_ERR_NO_ERROR;
const QUOTA: E = E::RD_KAFKA_RESP_ERR_POLICY_VIOLATION;
const INVALID: E = E::RD_KAFKA_RESP_ERR_INVALID_RECORD;
/// Nobody can say whether the record is stored.
const UNKNOWN: E = E::RD_KAFKA_RESP_ERR_UNKNOWN;
/// Stored, and nobody is subscribed.
const STORED: u8 = 0x10;

/// A cluster whose answers the test decides.
struct Kafka(MockCluster<'static, DefaultProducerContext>);

impl Kafka {
    fn start(topics: &[&str]) -> Kafka {
        let cluster = MockCluster::new(1).unwrap();
        topics.iter().for_each(|topic| cluster.create_topic(topic, 1, 1).unwrap());
        Kafka(cluster)
    }

    fn address(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// How it answers the next requests to store something.
    fn answers(&self, answers: &[E]) {
        self.0.request_errors(RDKafkaApiKey::Produce, answers);
    }

    fn is_away(&self, away: bool) {
        if away { self.0.broker_down(-1).unwrap() } else { self.0.broker_up(-1).unwrap() }
    }

    async fn records(&self, topic: &str, count: usize) -> Vec<StoredRecord> {
        let found = records(&self.address(), &[topic], count).await;
        assert_eq!(found.len(), count, "{topic}: {found:#?}");
        found
    }

    async fn values(&self, topic: &str, count: usize) -> Vec<String> {
        let found = self.records(topic, count).await;
        found.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
    }
}

/// `hookgate run` before it.
struct Gate {
    process: Process,
    address: SocketAddr,
    admin: String,
    _folder: tempfile::TempDir,
}

impl Gate {
    /// With lines for `[kafka]`, and more tables.
    fn start(kafka: &Kafka, lines: &str, tables: &str) -> Gate {
        Gate::start_on(&kafka.address(), lines, tables)
    }

    /// The same before any Kafka.
    fn start_on(servers: &str, lines: &str, tables: &str) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        let doors = "[[listener]]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n";
        fs::write(&file, format!("{doors}[kafka]\nbootstrap_servers = \"{servers}\"\nlinger_ms = 0\n{lines}\n{tables}\n")).unwrap();
        let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
        let ready = process.ready();
        let address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
        Gate { process, address, admin: format!("http://{}", field(&ready, "admin")), _folder: folder }
    }

    async fn enter(&self, connect: Connect) -> Wire {
        Wire::connect_at(self.address, connect).await.0
    }

    /// The value of a metric; 0 while it is not there.
    fn metric(&self, name: &str) -> u64 {
        let page = ureq::get(format!("{}/metrics", self.admin)).call().unwrap().body_mut().read_to_string().unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    async fn until(&self, what: &str, condition: impl Fn(&Gate) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
    }
}

/// A route that makes records of the payload alone.
fn route(filter: &str, topic: &str, more: &str) -> String {
    format!("[[route]]\nhook = \"message.publish\"\nfilter = \"{filter}\"\ntopic = \"{topic}\"\nformat = \"raw\"\n{more}\n")
}

fn numbers(numbers: impl IntoIterator<Item = u16>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// Publishes with QoS 1 and 2 in turn, in one write.
async fn publish_all(wire: &mut Wire, dup: bool, ids: impl Iterator<Item = u16>) {
    let flags = |id: u16| if id.is_multiple_of(2) { 4 } else { 2 } | if dup { 8 } else { 0 };
    let bytes: Vec<u8> = ids.flat_map(|id| wire.publish_bytes(flags(id), id, "a", &[], id.to_string())).collect();
    wire.send(&bytes).await;
}

/// As many publishes of QoS 0, in one write.
fn burst(wire: &Wire, range: std::ops::Range<u16>) -> Vec<u8> {
    range.flat_map(|number| wire.publish_bytes(0, 0, "a", &[], number.to_string())).collect()
}

async fn expect_answer(wire: &mut Wire, id: u16, code: u8) {
    wire.expect_ack(if id.is_multiple_of(2) { 5 } else { 4 }, id, code).await;
}

#[test]
fn the_example_of_the_page_is_whole() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/acknowledgement.md")).unwrap();
    let example = page.split("```").find_map(|block| block.strip_prefix("toml\n")).unwrap();
    assert_eq!(Config::parse(Path::new("hookgate.toml"), example).1, []);
}

#[tokio::test]
async fn in_strict_order_each_record_is_answered_before_the_next() {
    let kafka = Kafka::start(&["t"]);
    let gate = Gate::start(&kafka, "", &route("a", "t", "max_in_flight = 1"));
    // An answer for a request, and so for a record: were two of them together in one, the codes would not alternate.
    kafka.answers(&[QUOTA, OK, QUOTA, OK, INVALID, OK]);
    let mut wire = gate.enter(Connect::v5("d")).await;
    publish_all(&mut wire, false, 1..=9).await;
    for (id, code) in (1..).zip([0x97, STORED, 0x97, STORED, 0x83, STORED, STORED, STORED, STORED]) {
        expect_answer(&mut wire, id, code).await;
    }
    assert_eq!(kafka.values("t", 6).await, numbers([2, 4, 6, 7, 8, 9]));
}

#[tokio::test]
async fn one_key_waits_for_itself_only() {
    let kafka = Kafka::start(&["t", "other"]);
    let gate = Gate::start(&kafka, "", &(route("a", "t", "max_in_flight = 1") + &route("b", "other", "")));
    let (mut first, mut second) = (gate.enter(Connect::v5("first")).await, gate.enter(Connect::v5("second")).await);
    kafka.is_away(true);
    publish_all(&mut first, false, 1..=3).await;
    publish_all(&mut second, false, 1..=3).await;
    first.expect_quiet().await;
    let outstanding = |count| move |gate: &Gate| gate.metric("hookgate_records_outstanding") == count;
    gate.until("each key has one record under way", outstanding(2)).await;
    kafka.is_away(false);
    for wire in [&mut first, &mut second] {
        for id in 1..=3 {
            expect_answer(wire, id, STORED).await;
        }
    }
    let found = kafka.records("t", 6).await;
    for key in ["first", "second"] {
        let of_key = found.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        assert!(of_key.map(|record| &record.value[..]).eq([b"1", b"2", b"3"]), "{key}: {found:#?}");
    }
}

#[tokio::test]
async fn what_follows_a_record_that_comes_again_waits_for_it() {
    let kafka = Kafka::start(&["t"]);
    let gate = Gate::start(&kafka, "", &route("a", "t", "max_in_flight = 1"));
    let mut expected = Vec::new();
    // MQTT before 5 has no way to say that a message is refused: the connection ends, and the client sends it again.
    for (round, (level, answer)) in (1_u16..).zip([(5, UNKNOWN), (4, UNKNOWN), (4, QUOTA)]) {
        let ids = || round * 10..=round * 10 + 6;
        let connect = || Connect { level, ..Connect::v4(&format!("d{round}")) }.keep_session();
        let mut wire = gate.enter(connect()).await;
        kafka.answers(&[answer]);
        publish_all(&mut wire, false, ids()).await;
        wire.expect_end(if answer == UNKNOWN { 0x83 } else { 0 }).await;
        let mut wire = gate.enter(connect()).await;
        publish_all(&mut wire, true, ids()).await;
        for id in ids() {
            expect_answer(&mut wire, id, if level == 5 { STORED } else { 0 }).await;
        }
        expected.extend(numbers(ids()));
        assert_eq!(kafka.values("t", expected.len()).await, expected, "MQTT {level}, {answer:?}: none overtook, none came twice");
    }
}

#[tokio::test]
async fn a_refusal_has_a_reason_code() {
    let cases = [
        ("large", E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 0x97),
        ("right", E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 0x87),
        ("quota", QUOTA, 0x97),
        ("other", INVALID, 0x83),
    ];
    let topics: Vec<String> = cases.iter().flat_map(|(name, ..)| [1, 2, 4].map(|flags| format!("{name}{flags}"))).collect();
    let kafka = Kafka::start(&topics.iter().map(String::as_str).collect::<Vec<_>>());
    let mut gate = Gate::start(&kafka, "", &topics.iter().map(|topic| route(topic, topic, "")).collect::<String>());
    for (name, answer, code) in cases {
        for flags in [2, 4] {
            let topic = format!("{name}{flags}");
            let ack = if flags == 2 { 4 } else { 5 };
            let mut five = gate.enter(Connect::v5("five")).await;
            kafka.answers(&[answer]);
            five.publish(flags, 7, &topic, "x").await;
            five.expect_ack(ack, 7, code).await;
            if code != 0x87 {
                five.publish(flags, 7, &topic, "y").await; // the identifier is free
                five.expect_ack(ack, 7, STORED).await;
                assert_eq!(kafka.values(&topic, 1).await, ["y"]);
            }
        }
        // No codes before MQTT 5, and no acknowledgement of what is not there.
        let topic = format!("{name}1");
        let mut older = gate.enter(Connect::v4("older")).await;
        kafka.answers(&[answer]);
        older.publish(2, 7, &topic, "x").await;
        older.expect_end(0).await;
    }
    assert!(gate.process.lines().iter().any(|line| line.contains("Kafka did not confirm a record for topic large2")));
}

fn header<'a>(record: &'a StoredRecord, name: &str) -> &'a str {
    record.headers.iter().find(|header| &*header.name == name).map_or("", |header| &*header.value)
}

const LETTERS: &str = "hookgate_records_dead_lettered_total{name=\"t\",reason=\"quota\"}";

#[tokio::test]
async fn what_kafka_refuses_becomes_a_dead_letter() {
    let kafka = Kafka::start(&["t", "dead"]);
    let lines = "dead_letter_topic = \"dead\"\n[kafka.properties]\n\"message.max.bytes\" = \"5000\"";
    let dead = "on_refusal = \"dead-letter\"";
    let gate = Gate::start(&kafka, lines, &(route("a", "t", dead) + &route("s", "t", &format!("{dead}\nmax_in_flight = 1"))));
    let mut wire = gate.enter(Connect::v5("device")).await;
    for (number, (flags, topic)) in (1..).zip([(2, "a"), (4, "a"), (0, "a"), (2, "s")]) {
        kafka.answers(&[QUOTA]);
        wire.publish(flags, 1, topic, format!("refused {flags}")).await;
        if flags > 0 {
            wire.expect_ack(if flags == 2 { 4 } else { 5 }, 1, STORED).await;
        }
        gate.until("the letter is stored", |gate| gate.metric(LETTERS) == number).await;
        wire.publish(2, 3, topic, "good").await;
        wire.expect_ack(4, 3, STORED).await;
    }
    let letters = kafka.records("dead", 4).await;
    for (letter, flags) in letters.iter().zip([2, 4, 0, 2]) {
        assert_eq!((letter.key.as_deref(), &letter.value[..]), (Some(&b"device"[..]), format!("refused {flags}").as_bytes()));
        assert_eq!((header(letter, "refused-topic"), header(letter, "error")), ("t", "quota"));
        assert!(header(letter, "reason").starts_with("topic t: "), "{letter:?}");
        assert_eq!(header(letter, "event-id").len(), 16, "as the record had it");
        assert!(header(letter, "time").parse::<u64>().unwrap() > 1_600_000_000_000);
    }
    assert_eq!(kafka.values("t", 4).await, ["good"; 4]);
    // A letter that is refused as well: the device is told.
    kafka.answers(&[QUOTA, QUOTA]);
    wire.publish(2, 5, "a", "twice").await;
    wire.expect_ack(4, 5, 0x97).await;
    wire.publish(2, 6, "a", "x".repeat(6_000)).await; // larger than any topic takes
    wire.expect_ack(4, 6, 0x97).await;
    assert_eq!(kafka.records("dead", 4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_kafka_refuses_what_is_too_large_and_nothing_overtakes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(kafka) = RealKafka::start(folder.path()) else { return };
    let address = kafka.as_ref().unwrap().address();
    create_topic(&address, "small", &[("max.message.bytes", "10000")]).await;
    create_topic(&address, "large", &[]).await;
    let delivery = "max_in_flight = 1\non_refusal = \"dead-letter\"";
    let gate = Gate::start_on(&address, "dead_letter_topic = \"large\"", &route("a", "small", delivery));
    let mut wire = gate.enter(Connect::v5("device")).await;
    let filling = |number: u16| if number.is_multiple_of(5) { "x".repeat(50_000) } else { "x".repeat(1_000) };
    let publish = |number: u16| wire.publish_bytes(2, number, "a", &[], format!("{number} {}", filling(number)));
    let bytes: Vec<u8> = (1..=60).flat_map(publish).collect();
    wire.send(&bytes).await;
    for id in 1..=60 {
        wire.expect_ack(4, id, STORED).await;
    }
    for (topic, large) in [("small", false), ("large", true)] {
        let expected: Vec<_> = (1..=60).filter(|number| (number % 5 == 0) == large).collect();
        let found = records(&address, &[topic], expected.len()).await;
        let number = |record: &StoredRecord| str::from_utf8(&record.value).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(found.iter().map(number).collect::<Vec<u16>>(), expected, "{topic}");
    }
}

#[tokio::test]
async fn a_refusal_that_nobody_hears_is_raised_once() {
    let kafka = Kafka::start(&["t", "dropped", "acked"]);
    let observe =
        |hook: &str, topic: &str, more: &str| format!("[[route]]\nhook = \"{hook}\"\ntopic = \"{topic}\"\nformat = \"envelope\"\n{more}\n");
    let tables = route("a", "t", "")
        + &observe("message.dropped", "dropped", "reasons = [\"kafka-refused\"]")
        + &observe("message.acked", "acked", "");
    let gate = Gate::start(&kafka, "", &tables);
    let mut wire = gate.enter(Connect::v5("device")).await;
    let dropped = |count| move |gate: &Gate| gate.metric("hookgate_messages_dropped_total{name=\"kafka-refused\"}") == count;
    kafka.answers(&[QUOTA]);
    wire.publish(0, 0, "a", "refused").await;
    gate.until("it is raised", dropped(1)).await;
    let record = kafka.records("dropped", 1).await.remove(0);
    let text = String::from_utf8(record.value.to_vec()).unwrap();
    assert!(["\"device\"", "\"kafka-refused\"", "topic t: "].iter().all(|words| text.contains(words)), "{text}");
    // Of a later moment: the subscriber's acknowledgement of a message that Kafka has.
    let mut subscriber = gate.enter(Connect::v5("subscriber")).await;
    subscriber.subscribe(1, "b", 1).await;
    wire.publish(2, 2, "b", "to the subscriber").await;
    wire.expect_ack(4, 2, 0).await;
    let delivery = subscriber.expect_publish().await;
    kafka.answers(&[QUOTA]);
    subscriber.ack(4, delivery.id).await;
    gate.until("it is raised", dropped(2)).await;
    // The record about a refusal is refused itself: that is the end of it.
    kafka.answers(&[QUOTA, QUOTA]);
    wire.publish(0, 0, "a", "refused").await;
    gate.until("its own record is refused", |gate| gate.metric("hookgate_records_failed_total{name=\"dropped\",reason=\"quota\"}") == 1)
        .await;
    wire.publish(2, 3, "a", "good").await;
    wire.expect_ack(4, 3, STORED).await;
    assert!(dropped(3)(&gate));
    kafka.records("dropped", 2).await;
    // Publishers that can be told are told, and nothing is raised.
    kafka.answers(&[QUOTA]);
    wire.publish(2, 4, "a", "refused").await;
    wire.expect_ack(4, 4, 0x97).await;
    assert!(dropped(3)(&gate));
}

#[tokio::test]
async fn the_strictest_route_decides_when_the_device_is_told() {
    let (prompt, late) = (Kafka::start(&["t"]), Kafka::start(&["u", "v"]));
    let cluster = format!("[[cluster]]\nname = \"late\"\nbootstrap_servers = \"{}\"\n", late.address());
    let tables = cluster
        + &route("both", "t", "")
        + &route("both", "u", "cluster = \"late\"")
        + &route("loose", "t", "")
        + &route("loose", "v", "cluster = \"late\"\nack = \"none\"");
    let gate = Gate::start(&prompt, "", &tables);
    let mut wire = gate.enter(Connect::v5("device")).await;
    wire.publish(2, 9, "both", "0").await;
    wire.expect_ack(4, 9, STORED).await;
    late.is_away(true);
    wire.publish(2, 1, "loose", "1").await;
    wire.expect_ack(4, 1, STORED).await;
    wire.publish(2, 2, "both", "2").await;
    assert_eq!(prompt.values("t", 3).await, ["0", "1", "2"]);
    wire.expect_quiet().await;
    late.is_away(false);
    wire.expect_ack(4, 2, STORED).await;
    assert_eq!(late.values("u", 2).await, ["0", "2"]);
    assert_eq!(late.values("v", 1).await, ["1"]);
    late.answers(&[QUOTA]); // the worst outcome holds
    wire.publish(2, 3, "both", "3").await;
    wire.expect_ack(4, 3, 0x97).await;
    late.answers(&[QUOTA]);
    wire.publish(2, 4, "loose", "4").await;
    wire.expect_ack(4, 4, STORED).await;
}

#[tokio::test]
async fn qos_0_beyond_its_bound_is_dropped_while_kafka_is_slow() {
    let kafka = Kafka::start(&["t", "dropped"]);
    let tables = "[mqtt]\nmax_qos0_waiting = 10\n".to_owned()
        + &route("a", "t", "")
        + "[[route]]\nhook = \"message.dropped\"\nreasons = [\"kafka-slow\"]\ntopic = \"dropped\"\nformat = \"raw\"\n";
    let mut gate = Gate::start(&kafka, "max_outstanding_records = 200", &tables);
    let mut wire = gate.enter(Connect::v5("device")).await;
    // While Kafka takes what comes, none is dropped, however many come in one piece.
    wire.send(&burst(&wire, 0..100)).await;
    assert_eq!(kafka.values("t", 100).await, numbers(0..100));
    kafka.is_away(true);
    wire.send(&burst(&wire, 100..400)).await;
    wire.expect_quiet().await; // reading goes on
    gate.process.line("messages of QoS 0 beyond max_qos0_waiting are dropped");
    kafka.is_away(false);
    let dropped = |gate: &Gate| gate.metric("hookgate_messages_dropped_total{name=\"kafka-slow\"}");
    gate.until("all are told of", |gate| dropped(gate) == 90).await;
    assert_eq!(kafka.values("t", 310).await, numbers(0..310), "two hundred under way and ten that waited");
    assert_eq!(kafka.values("dropped", 90).await, numbers(310..400));
    wire.publish(0, 0, "a", "again").await;
    assert_eq!(kafka.values("t", 311).await[310], "again");
}

#[tokio::test]
async fn by_default_reading_pauses_and_nobody_is_cut() {
    let kafka = Kafka::start(&["t"]);
    let gate = Gate::start(&kafka, "max_outstanding_records = 5", &route("a", "t", ""));
    let mut wire = gate.enter(Connect { keep_alive_s: 1, ..Connect::v5("device") }).await;
    kafka.is_away(true);
    wire.send(&burst(&wire, 0..500)).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(800)).await; // in all more than the client's keep alive and a half
        wire.expect_quiet().await;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await; // nor one whose pings are stuck behind what waits
    kafka.is_away(false);
    assert_eq!(kafka.values("t", 500).await, numbers(0..500));
    wire.expect_quiet().await;
    assert_eq!(gate.metric("hookgate_messages_dropped_total{name=\"kafka-slow\"}"), 0);
}

#[tokio::test]
async fn what_is_outstanding_is_bounded_by_time() {
    const COUNT: u16 = 12_000;
    let kafka = Kafka::start(&["t"]);
    kafka.0.broker_round_trip_time(-1, Duration::from_millis(50)).unwrap();
    // A hundred records in 50 ms: 2 000 a second, so that 300 ms are 600 records.
    let lines = "max_outstanding_records = 3000\nmax_outstanding_ms = 300\nbatch_records = 100\nmax_in_flight_requests = 1";
    let gate = Gate::start(&kafka, lines, &route("a", "t", ""));
    let mut wire = gate.enter(Connect::v5("device")).await;
    let burst = burst(&wire, 0..COUNT);
    wire.send(&burst).await;
    gate.until("the bound by number is reached", |gate| gate.metric("hookgate_records_outstanding") > 1_500).await;
    gate.until("the bound by time holds", |gate| gate.metric("hookgate_records_outstanding") <= 1_000).await;
    let confirmed = gate.metric("hookgate_records_confirmed_total{name=\"t\"}");
    assert!(confirmed < u64::from(COUNT) - 2_000, "{confirmed} confirmed: the load was over before");
    assert_eq!(kafka.values("t", usize::from(COUNT)).await, numbers(0..COUNT));
}
