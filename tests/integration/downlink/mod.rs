//! From Kafka to devices: what becomes of records, on librdkafka's mock and, where it matters, on a real Kafka.

mod kills;

use std::{
    fs,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use rumqttc::v5::mqttbytes::v5::Publish;

use crate::support::{Device, Gate, KEY, PATIENCE, command, guest, json, now_s, records};

/// Whoever sends commands by Kafka.
pub(super) struct App {
    producer: BaseProducer,
}

impl App {
    pub(super) fn new(address: &str) -> App {
        App { producer: ClientConfig::new().set("bootstrap.servers", address).set("linger.ms", "0").create().unwrap() }
    }

    pub(super) fn send(&self, topic: &str, key: &str, value: &str) {
        self.send_with(BaseRecord::to(topic).key(key).payload(value));
    }

    /// Returns when Kafka has it.
    fn send_with(&self, record: BaseRecord<'_, str, str>) {
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.producer.in_flight_count() > 0 {
            assert!(Instant::now() < deadline, "Kafka does not take a record");
            self.producer.poll(Duration::from_millis(1));
        }
    }
}

/// A downlink that reads from the beginning, with more lines.
fn downlink(lines: &str) -> String {
    format!(
        "[[downlink]]\nname = \"commands\"\ntopics = [\"device_commands\"]\nstart = \"earliest\"\ntopic = \"devices/${{key}}/command\"\n\
         properties = {{ \"fetch.wait.max.ms\" = 10 }}\n{lines}\n"
    )
}

fn count(gate: &Gate, reason: &str) -> u64 {
    let label = hookgate::metrics::ReasonLabel { name: "commands".to_owned(), reason: reason.to_owned() };
    gate.bridge.metrics().downlink_dropped.get_or_create(&label).get()
}

fn text(publish: &Publish) -> (&str, &str) {
    (std::str::from_utf8(&publish.topic).unwrap(), std::str::from_utf8(&publish.payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_becomes_a_message_and_its_acknowledgement_a_record() {
    let lines = "expiry = \"1h\"\ncontent_type = \"application/json\"\nresponse_topic = \"answers/${key}\"\n\
        correlation_data = \"${header.id}\"\nheaders = [\"trace\"]\npayload = \"${value.command}\"";
    let route = "[[route]]\nhook = \"message.acked\"\nfilter = \"devices/+/command\"\ntopic = \"message_command\"\nformat = \"emqx-bridge\"\n\
        [[route]]\nhook = \"message.publish\"\nfilter = \"#\"\ntopic = \"published\"";
    let gate = Gate::start(&format!("{}{route}", downlink(lines)), &[]).await;
    let mut lock = Device::connect(gate.address(), "lock-1").await;
    lock.subscribe("devices/lock-1/command").await;
    let header = |key, value| Header { key, value: Some(value) };
    let headers = OwnedHeaders::new().insert(header("id", "i-1")).insert(header("trace", "t-1")).insert(header("other", "x"));
    let record = BaseRecord::to("device_commands").key("lock-1").payload(r#"{"command":{"action":"unlock"}}"#).headers(headers);
    App::new(&gate.kafka()).send_with(record);
    let message = lock.message().await;
    assert_eq!(text(&message), ("devices/lock-1/command", r#"{"action":"unlock"}"#));
    let properties = message.properties.unwrap();
    assert!(properties.message_expiry_interval.is_some_and(|left_s| (3_500..=3_600).contains(&left_s)));
    assert_eq!(
        (properties.content_type.as_deref(), properties.response_topic.as_deref()),
        (Some("application/json"), Some("answers/lock-1"))
    );
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"i-1"[..]));
    assert_eq!(properties.user_properties, [("trace".to_owned(), "t-1".to_owned())]);
    let [acked] = &records(&gate.kafka(), &["message_command"], 1).await[..] else { panic!("one record") };
    let value = json(acked);
    assert_eq!((&value["client_id"], &value["from"]), (&"lock-1".into(), &"$downlink/commands".into()));
    assert_eq!(records(&gate.kafka(), &["published"], 0).await, [], "no route of message.publish sees it");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_change_and_drop_and_failures_are_kept() {
    let guests = ["change", "trap-sometimes"].map(|mode| {
        let path = guest("hostile").display().to_string();
        format!(
            "[[guest]]\nname = \"{mode}\"\npath = \"{path}\"\ngrants = [\"settings\", \"log\"]\nsettings = {{ mode = \"{mode}\", payload = \"!\" }}\n\
             limits = {{ deadline_ms = 5000 }}\n"
        )
    });
    let gate = Gate::start(&format!("{}{}", guests.concat(), downlink("guests = [\"change\", \"trap-sometimes\"]")), &[]).await;
    let mut lock = Device::connect(gate.address(), "lock-1").await;
    lock.subscribe("devices/+/command").await;
    let app = App::new(&gate.kafka());
    for (key, value) in [("lock-1", "open"), ("lock-1", "trap"), ("a/#", "no topic"), ("lock-1", "close")] {
        app.send("device_commands", key, value);
    }
    let (first, second) = (lock.message().await, lock.message().await);
    let mut seen = [text(&first).1, text(&second).1];
    seen.sort_unstable();
    assert_eq!(seen, ["close!", "open!"]);
    let letters = records(&gate.kafka(), &["hookgate_dead_letter"], 2).await;
    let header = |index: usize, name: &str| {
        let found = letters[index].headers.iter().find(|header| *header.name == *name);
        found.map(|header| header.value.to_string()).unwrap_or_default()
    };
    let mut causes: Vec<_> = (0..letters.len()).map(|index| (header(index, "failure"), header(index, "guest"))).collect();
    causes.sort();
    assert_eq!(causes, [("trap".into(), "trap-sometimes".into()), ("unfit".to_owned(), String::new())]);
    assert_eq!((header(0, "downlink"), header(0, "record-topic")), ("commands".into(), "device_commands".into()));
    assert!(letters.iter().any(|letter| &letter.value[..] == b"trap" && letter.key.as_deref() == Some(b"lock-1")));
    assert_eq!((count(&gate, "unfit"), count(&gate, "guest-failed")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smart_lock_verifies_commands_from_kafka_too() {
    let tables = format!(
        "[[key]]\nname = \"lock-hmac\"\ntext = \"{KEY}\"\n\
         [[guest]]\nname = \"verify\"\npath = \"lock_command_verifier.wasm\"\ngrants = [\"settings\", \"state\", \"crypto\"]\nkeys = [\"lock-hmac\"]\n\
         [[route]]\nhook = \"message.dropped\"\nfilter = \"devices/+/command\"\nreasons = [\"filtered\"]\ntopic = \"message_audit\"\n{}",
        downlink("guests = [\"verify\"]")
    );
    let gate = Gate::start(&tables, &["lock_command_verifier"]).await;
    let mut lock = Device::connect(gate.address(), "lock-1").await;
    lock.subscribe("devices/lock-1/command").await;
    let app = App::new(&gate.kafka());
    let good = command(KEY, "1", "n-1", now_s());
    for value in [&command("another key", "2", "n-2", now_s()), &good, &good, "{}"] {
        app.send("device_commands", "lock-1", value);
    }
    assert_eq!(text(&lock.message().await).1, good);
    let audits = records(&gate.kafka(), &["message_audit"], 3).await;
    let mut reasons: Vec<String> = audits.iter().map(|audit| json(audit)["explanation"].as_str().unwrap_or_default().to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["bad-signature", "malformed", "replayed"]);
    assert_eq!((count(&gate, "filtered"), lock.messages().len()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_stay_and_expired_ones_never_come() {
    let gate = Gate::start(&downlink("retain = true\nexpiry = \"1m\""), &[]).await;
    let app = App::new(&gate.kafka());
    let old = BaseRecord::to("device_commands").key("old").payload("too late").timestamp((now_s() as i64 - 61) * 1_000);
    app.send_with(old);
    app.send("device_commands", "lock-1", "set point 21");
    gate.until("the messages are retained", |gate| gate.bridge.metrics().retained_messages.get() == 1).await;
    gate.until("the old one is counted", |gate| count(gate, "expired") == 1).await;
    let mut late = Device::connect(gate.address(), "late").await;
    late.subscribe("devices/+/command").await;
    let message = late.message().await;
    assert_eq!((text(&message), message.retain), (("devices/lock-1/command", "set point 21"), true));
    let tombstone: BaseRecord<'_, str, str> = BaseRecord::to("device_commands").key("lock-1");
    app.send_with(tombstone);
    gate.until("the tombstone cleared it", |gate| gate.bridge.metrics().retained_messages.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_way_down_and_loses_nothing() {
    let gate = Gate::start(&downlink(""), &[]).await;
    let mut lock = Device::connect(gate.address(), "lock-1").await;
    lock.subscribe("#").await;
    let app = App::new(&gate.kafka());
    let written = fs::read_to_string(&gate.file).unwrap();
    let mut expected = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            let value = format!("{round}-{number}");
            app.send("device_commands", "lock-1", &value);
            expected.push(value);
        }
        let reloads = gate.bridge.metrics().config_reloads.get();
        fs::write(&gate.file, written.replace("/command", &format!("/order/{round}"))).unwrap();
        gate.until("the reload", |gate| gate.bridge.metrics().config_reloads.get() > reloads).await;
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let message = lock.message().await;
        assert!(text(&message).0.starts_with("devices/lock-1/"));
        seen.push(text(&message).1.to_owned());
    }
    assert_eq!(seen, expected, "each once, in order, whichever configuration it met");
    fs::write(&gate.file, written.split("[[downlink]]").next().unwrap()).unwrap();
    let reloads = gate.bridge.metrics().config_reloads.get();
    gate.until("the downlink is gone", |gate| gate.bridge.metrics().config_reloads.get() > reloads).await;
    app.send("device_commands", "lock-1", "nobody reads this");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lock.messages().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_be_asked_is_refused() {
    let path = guest("identity").display().to_string();
    let tables = format!("[[guest]]\nname = \"identity\"\npath = \"{path}\"\n{}", downlink("guests = [\"identity\"]"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookgate.toml");
    fs::write(&file, crate::support::configuration("embedded", &tables)).unwrap();
    let problems = hookgate::bridge::check(&file).await.unwrap();
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert!(problem.message.contains("does not export the interface `downlink`"), "{problem}");
}
