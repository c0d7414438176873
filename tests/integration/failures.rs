//! What becomes of events on which guests fail: the circuit breaker, retry and dead letters, on the binary and in this process.

use std::{fs, net::SocketAddr, path::PathBuf};

use hookgate::kafka::StoredRecord;
use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::support::{Device, Gate, Process, configuration, field, guest, json, records, strip_ansi};

/// A hostile guest named after its mode.
fn hostile(mode: &str, more: &str) -> String {
    let path = guest("hostile");
    format!("[[guest]]\nname = \"{mode}\"\npath = {path:?}\ngrants = [\"settings\", \"log\"]\nsettings = {{ mode = \"{mode}\" }}\n{more}\n")
}

fn route(hook: &str, guest: &str, on_failure: &str, topic: &str) -> String {
    format!("[[route]]\nname = \"{topic}\"\nhook = \"{hook}\"\nguests = [\"{guest}\"]\non_failure = {on_failure}\ntopic = \"{topic}\"\n")
}

/// `hookgate run` with a folder of its own.
struct Binary {
    process: Process,
    address: SocketAddr,
    kafka: String,
    _folder: tempfile::TempDir,
}

impl Binary {
    fn start(tables: &str) -> Binary {
        Binary::start_on(&configuration("embedded", tables))
    }

    /// With all of its configuration.
    fn start_on(text: &str) -> Binary {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("hookgate.toml");
        fs::write(&file, text).unwrap();
        let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
        let ready = process.ready();
        let address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
        Binary { process, address, kafka: field(&ready, "kafka"), _folder: folder }
    }
}

fn header<'a>(record: &'a StoredRecord, name: &str) -> &'a str {
    record.headers.iter().find(|header| &*header.name == name).map_or("", |header| &*header.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_circuit_to_a_guest_that_fails_opens_and_closes() {
    let breaker = "breaker = { window = \"60s\", min_calls = 6, max_failure_ratio = 0.5, open_for = \"3s\", probes = 2 }";
    let tables = hostile("trap-sometimes", breaker) + &route("message.publish", "trap-sometimes", "\"dead-letter\"", "judged");
    let mut binary = Binary::start(&tables);
    let mut device = Device::connect(binary.address, "d").await;
    for payload in ["good", "good", "a trap", "a trap", "a trap"] {
        device.publish("a", payload).await;
    }
    // Three of five is too many, but too few calls to tell; the sixth tells.
    device.publish("a", "a trap").await;
    let opened = strip_ansi(&binary.process.line("circuit opened"));
    assert_eq!((field(&opened, "calls"), field(&opened, "failures")), ("6".to_owned(), "4".to_owned()), "{opened}");
    assert!(opened.contains("hookgate guest rollback trap-sometimes"), "{opened}");

    assert_eq!(device.publish("a", "good, and refused").await.reason, PubAckReason::Success, "it is a dead letter");
    binary.process.line("breaker-open");
    while device.publish("a", "good").await.reason == PubAckReason::Success {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    binary.process.line("circuit half-open");
    device.publish("a", "good").await;
    binary.process.line("circuit closed");
    device.publish("a", "a trap").await;
    assert_eq!(device.publish("a", "good").await.reason, PubAckReason::NoMatchingSubscribers, "what was before is forgotten");

    let letters = records(&binary.kafka, &["hookgate_dead_letter"], 6).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| header(letter, "failure")).collect();
    assert_eq!(reasons[..5], ["trap", "trap", "trap", "trap", "breaker-open"], "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| **reason == "trap").count(), 5, "{reasons:?}");
    let judged = records(&binary.kafka, &["judged"], 5).await;
    assert!(judged.len() >= 5, "{}", judged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_fails_is_asked_again_and_then_its_events_are_kept() {
    let retry = "{ retry = 2, backoff = \"10ms\", then = \"dead-letter\" }";
    let tables = hostile("fault-retry", "") + &hostile("fault-invalid", "") + &hostile("trap", "");
    let tables = [("fault-retry", "r/#"), ("fault-invalid", "i/#"), ("trap", "t/#")]
        .iter()
        .fold(tables, |tables, (mode, filter)| tables + &route("message.publish", mode, retry, mode) + &format!("filter = \"{filter}\"\n"));
    let binary = Binary::start(&tables);
    let mut device = Device::connect(binary.address, "d").await;
    let topics = ["r/1", "t/1", "i/1", "r/2", "t/2", "i/2"];
    for topic in topics {
        device.send(topic, format!("on {topic}")).await;
    }
    for _ in topics {
        assert_eq!(device.answer().await.reason, PubAckReason::Success, "kept, and so acknowledged");
    }
    let letters = records(&binary.kafka, &["hookgate_dead_letter"], topics.len()).await;
    let kept: Vec<String> = letters.iter().map(|letter| json(letter)["message"]["topic"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, topics, "waiting keeps the order");
    for letter in &letters {
        let value = json(letter);
        let (guest, reason, attempts) = match value["message"]["topic"].as_str().unwrap().as_bytes()[0] {
            b'r' => ("fault-retry", "fault-retry", "3"),
            b't' => ("trap", "trap", "3"),
            _ => ("fault-invalid", "fault-invalid", "1"), // the event is wrong, and stays so
        };
        for (name, expected) in [
            ("hook", "message.publish"),
            ("route", guest),
            ("guest", guest),
            ("failure", reason),
            ("attempts", attempts),
            ("event-id", value["id"].as_str().unwrap()),
        ] {
            assert_eq!(header(letter, name), expected, "{name} of {value}");
        }
        assert_eq!(header(letter, "version").len(), 64);
        assert!(header(letter, "error").contains("as told"), "{}", header(letter, "error"));
        assert_eq!(header(letter, "backtrace").contains("Hostile"), guest == "trap", "{}", header(letter, "backtrace"));
        assert!(!header(letter, "backtrace").contains("panic"), "{}", header(letter, "backtrace"));
    }
}

/// The waits before the calls would take minutes; the process has less.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_guest_when_the_process_ends() {
    let retry = "{ retry = 10, backoff = \"10s\", then = \"deny\" }";
    let tables = hostile("fault-retry", "") + &route("message.publish", "fault-retry", retry, "judged");
    let mut binary = Binary::start(&tables);
    let mut device = Device::connect(binary.address, "d").await;
    device.send("a", "x").await;
    binary.process.line("retry as told");
    binary.process.signal("TERM");
    let dropped = strip_ansi(&binary.process.line("message dropped"));
    assert!(dropped.contains("guest fault-retry: fault-retry"), "on_failure has decided: {dropped}");
    binary.process.line("drained");
    assert_eq!(binary.process.end(), 0);
}

/// Every second call fails; whoever asks again gets an answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_passes_at_every_hook() {
    let retry = "{ retry = 1, backoff = \"1ms\" }";
    let tables = ["message.publish", "client.authenticate", "client.subscribe", "message.dropped"].map(|hook| {
        let guest = hostile("fault-nth", "limits = { instances = 1 }").replace("\"fault-nth\"\npath", &format!("\"{hook}\"\npath"));
        guest + &route(hook, hook, retry, hook)
    });
    let gate = Gate::start(&tables.concat(), &[]).await;
    let retries = |hook: &str| gate.bridge.metrics().guest_retries.get_or_create(&hook.into()).get();
    for number in 0..3 {
        let mut device = Device::connect(gate.address(), &format!("d{number}")).await;
        device.subscribe("none").await;
        assert_eq!(device.publish("a", "x").await.reason, PubAckReason::NoMatchingSubscribers);
    }
    assert_eq!(["message.publish", "client.authenticate", "client.subscribe"].map(retries), [2, 2, 2]);
    for hook in ["message.publish", "client.authenticate", "client.subscribe", "message.dropped"] {
        assert_eq!(records(&gate.kafka(), &[hook], 3).await.len(), 3, "{hook}");
    }
    assert_eq!(gate.bridge.metrics().guest_dead_letters.get_or_create(&"message.publish".into()).get(), 0);
}

/// Each policy on a hook that observes: what happened, happened.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_merely_happened_are_kept_passed_on_or_not() {
    let tables = hostile("trap", "")
        + &route("client.connected", "trap", "\"dead-letter\"", "kept")
        + &route("client.connected", "trap", "\"pass\"", "passed")
        + &route("client.connected", "trap", "\"drop\"", "dropped")
        + &route("client.connected", "trap", "{ retry = 1, backoff = \"1ms\" }", "asked-again");
    let gate = Gate::start(&tables, &[]).await;
    let _device = Device::connect(gate.address(), "d").await;
    let letters = records(&gate.kafka(), &["hookgate_dead_letter"], 2).await;
    let told: Vec<_> = letters.iter().map(|letter| (header(letter, "route"), header(letter, "attempts"))).collect();
    assert_eq!(told, [("kept", "1"), ("asked-again", "2")]);
    assert!(letters.iter().all(|letter| header(letter, "hook") == "client.connected" && json(letter)["hook"] == "client.connected"));
    assert_eq!(records(&gate.kafka(), &["passed"], 1).await.len(), 1);
    assert_eq!(gate.bridge.metrics().guest_dead_letters.get_or_create(&"trap".into()).get(), 2);
}

/// The strictest verdict, on the wire and in Kafka; which chains give which verdict is tested beside the code.
#[tokio::test(flavor = "multi_thread")]
async fn one_verdict_holds_for_all_routes() {
    let tables = ["drop", "deny", "change"].map(|mode| hostile(mode, "")).concat()
        + r#"
[[route]]
hook = "message.publish"
filter = "a/#"
guests = ["change", "drop"]
topic = "a"
[[route]]
hook = "message.publish"
filter = "a/denied"
guests = ["deny"]
topic = "denied"
[[route]]
hook = "message.publish"
filter = "b/#"
topic = "first"
format = "raw"
[[route]]
hook = "message.publish"
filter = "b/#"
guests = ["change"]
topic = "second"
format = "raw"
[[route]]
hook = "message.dropped"
filter = "a/#"
topic = "dropped"
"#;
    let gate = Gate::start(&tables, &[]).await;
    let mut device = Device::connect(gate.address(), "d").await;
    for (topic, reason) in
        [("a/dropped", PubAckReason::Success), ("a/denied", PubAckReason::NotAuthorized), ("b/1", PubAckReason::NoMatchingSubscribers)]
    {
        assert_eq!(device.publish(topic, "original").await.reason, reason, "{topic}");
    }
    let changed = records(&gate.kafka(), &["first", "second"], 2).await;
    assert_eq!(changed.len(), 2);
    for record in &changed {
        assert_eq!(
            (&record.value[..], header(record, "changed")),
            (&b"changed"[..], "true"),
            "every route sees the message as it is in the end"
        );
    }
    let dropped = records(&gate.kafka(), &["dropped"], 2).await;
    let told: Vec<_> = dropped.iter().map(|record| (json(record)["reason"].clone(), header(record, "changed").to_owned())).collect();
    assert_eq!(told, [("filtered".into(), "true".to_owned()), ("denied".into(), "true".to_owned())], "as it was when it was dropped");
}

/// The example of `docs/failures.md`, as it stands there, but for the ports and the folder.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_example_works() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/failures.md")).unwrap();
    let example = page.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let example =
        example.replace(":1883", ":0").replace(":18083", ":0").replace("guests/target", &format!("{}/guests/target", root.display()));
    let mut binary = Binary::start_on(&example);
    let mut device = Device::connect(binary.address, "d").await;
    assert_eq!(device.publish("devices/1", "all is well").await.reason, PubAckReason::NoMatchingSubscribers);
    for _ in 0..4 {
        assert_eq!(device.publish("devices/1", "a trap").await.reason, PubAckReason::Success);
    }
    binary.process.line("circuit opened");
    let letters = records(&binary.kafka, &["hookgate_dead_letter"], 4).await;
    let told: Vec<_> = letters.iter().map(|letter| (header(letter, "failure"), header(letter, "attempts"))).collect();
    let refused = ("breaker-open", "3");
    assert_eq!(told, [("trap", "3"), refused, refused, refused]);
}
