//! Routes of the real binary: what becomes a record, where it goes, and what it looks like, byte for byte.

use std::{fs, net::SocketAddr, path::Path};

use hookgate::{config::Config, kafka::StoredRecord};
use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::support::{Device, Process, configuration, field, json, now_s, records};

/// `hookgate run` on `tables`, with a folder of its own.
struct Binary {
    process: Process,
    address: SocketAddr,
    kafka: String,
    _folder: tempfile::TempDir,
}

impl Binary {
    fn start(tables: &str) -> Binary {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        fs::write(&file, configuration("embedded", tables)).unwrap();
        let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
        let ready = process.ready();
        let address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
        Binary { process, address, kafka: field(&ready, "kafka"), _folder: folder }
    }
}

fn header<'a>(record: &'a StoredRecord, name: &str) -> Option<&'a str> {
    record.headers.iter().find(|header| &*header.name == name).map(|header| &*header.value)
}

/// The value with its time, which must be about now, as `TS`.
fn timeless(record: &StoredRecord, per_second: u64) -> String {
    let ts = json(record)["ts"].as_u64().unwrap();
    assert!(now_s().abs_diff(ts / per_second) < 60, "{ts}");
    String::from_utf8(record.value.to_vec()).unwrap().replace(&format!("\"ts\":{ts}"), "\"ts\":TS")
}

/// What the hooks of S0, S1 and S4 become, as their texts give it.
const LIVES: [(&str, &str, &str); 15] = [
    ("emq-plugin", "client.connected", r#"{"type":"connected","client_id":"c","message":{},"cluster_node":"n1","ts":TS}"#),
    ("emq-plugin", "client.disconnected", r#"{"type":"disconnected","client_id":"c","message":{},"cluster_node":"n1","ts":TS}"#),
    (
        "emq-plugin",
        "session.subscribed",
        r#"{"type":"subscribed","client_id":"c","message":{"topic":"devices/+/command","opts":{"qos":1}},"cluster_node":"n1","ts":TS}"#,
    ),
    (
        "emq-plugin",
        "session.unsubscribed",
        r#"{"type":"unsubscribed","client_id":"c","message":{"topic":"devices/+/command","opts":{"qos":1}},"cluster_node":"n1","ts":TS}"#,
    ),
    (
        "emq-plugin",
        "message.publish",
        r#"{"type":"public","client_id":"c","message":{"username":"app","topic":"devices/c/command","payload":"{\"on\":true}","qos":1,"dup":0,"retain":0},"cluster_node":"n1","ts":TS}"#,
    ),
    (
        "emqttd-bridge",
        "message.publish",
        r#"{"type":"published","client_id":"c","topic":"devices/c/command","payload":"{\"on\":true}","qos":1,"cluster_node":"n1","ts":TS}"#,
    ),
    (
        "emqx-bridge",
        "message.publish",
        r#"{"client_id":"c","username":"app","topic":"devices/c/command","payload":"eyJvbiI6dHJ1ZX0=","qos":1,"node":"n1","ts":TS}"#,
    ),
    (
        "emqx-bridge",
        "message.delivered",
        r#"{"client_id":"c","username":"app","topic":"devices/c/command","payload":"eyJvbiI6dHJ1ZX0=","qos":1,"node":"n1","ts":TS,"from":"c"}"#,
    ),
    (
        "emqx-bridge",
        "message.acked",
        r#"{"client_id":"c","username":"app","topic":"devices/c/command","payload":"eyJvbiI6dHJ1ZX0=","qos":1,"node":"n1","ts":TS,"from":"c"}"#,
    ),
    ("emqx-bridge", "client.connected", r#"{"client_id":"c","node":"n1","ts":TS}"#),
    ("emqx-bridge", "client.disconnected", r#"{"client_id":"c","node":"n1","ts":TS,"reason":"normal"}"#),
    ("emqx-bridge", "session.subscribed", r#"{"client_id":"c","topic":"devices/+/command","qos":1,"node":"n1","ts":TS}"#),
    ("emqx-bridge", "session.unsubscribed", r#"{"client_id":"c","topic":"devices/+/command","qos":1,"node":"n1","ts":TS}"#),
    ("emqttd-bridge", "client.connected", r#"{"type":"connected","client_id":"c","cluster_node":"n1","ts":TS}"#),
    ("emqttd-bridge", "client.disconnected", r#"{"type":"disconnected","client_id":"c","reason":"normal","cluster_node":"n1","ts":TS}"#),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_bridges_that_it_replaces_are_matched_byte_for_byte() {
    let table = |(format, hook, _): &(&str, &str, &str)| {
        format!("[[route]]\nname = \"{format} {hook}\"\nhook = \"{hook}\"\nformat = \"{format}\"\ntopic = \"{format}_${{hook}}\"\n")
    };
    let binary = Binary::start(&LIVES.iter().map(table).collect::<String>());
    let mut device = Device::connect(binary.address, "c").await;
    device.subscribe("devices/+/command").await;
    device.publish("devices/c/command", "{\"on\":true}").await;
    device.message().await;
    device.unsubscribe("devices/+/command").await;
    device.disconnect().await;
    let topics: Vec<String> = LIVES.iter().map(|(format, hook, _)| format!("{format}_{hook}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let found = records(&binary.kafka, &topics, LIVES.len()).await;
    assert_eq!(found.len(), LIVES.len());
    for ((format, hook, expected), topic) in LIVES.iter().zip(topics) {
        let record = found.iter().find(|record| record.topic == topic).unwrap_or_else(|| panic!("no {topic}"));
        let per_second = if *format == "emqttd-bridge" { 1 } else { 1_000 };
        assert_eq!(timeless(record, per_second), *expected, "{format} {hook}");
        assert_eq!(record.key.as_deref(), Some(&b"c"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_say_which_events_go_where() {
    let tables = r#"
[[route]]
name = "all"
hook = "message.publish"
filter = ["devices/#", "sites/+"]
exclude = "devices/+/debug"
topic = "all"
format = "raw"
metadata = true
[[route]]
name = "by kind"
hook = "message.publish"
filter = "devices/+/state"
topic = "kind_${payload.kind}"
key = "${topic[2]}"
headers = { from = "${client_id}@${node}", trace = "${payload.trace:-none}" }
timestamp = "${payload.at}"
format = "cloudevents"
[[route]]
name = "anonymous"
hook = "message.publish"
filter = "sites/+"
topic = "sites"
event_id = false
payload = "json"
"#;
    let mut binary = Binary::start(tables);
    let mut device = Device::connect(binary.address, "d").await;
    let at = (now_s() - 60) * 1_000;
    let state = format!("{{\"kind\":\"pump\",\"at\":{at}}}");
    for (topic, payload) in [("devices/1/debug", "{}"), ("devices/1/state", &*state), ("sites/1", "{\"open\": true}"), ("other", "{}")] {
        assert_eq!(device.publish(topic, payload).await.reason, PubAckReason::NoMatchingSubscribers, "{topic}");
    }
    let nowhere = device.publish("devices/1/state", "{\"kind\":\"a pump\"}").await;
    assert_eq!(nowhere.reason, PubAckReason::ImplementationSpecificError);
    assert_eq!(nowhere.properties.unwrap().reason_string.as_deref(), Some("\"kind_a pump\" is no Kafka topic name"));
    binary.process.line("a record cannot be produced");

    let found = records(&binary.kafka, &["all", "kind_pump", "sites"], 5).await;
    let of = |topic: &str| found.iter().filter(|record| record.topic == topic).collect::<Vec<_>>();
    let mut all: Vec<_> = of("all").iter().map(|record| (header(record, "topic").unwrap(), &record.value[..])).collect();
    all.sort_unstable();
    let refused = &b"{\"kind\":\"a pump\"}"[..];
    assert_eq!(all, [("devices/1/state", refused), ("devices/1/state", state.as_bytes()), ("sites/1", b"{\"open\": true}")]);
    let [pump] = of("kind_pump")[..] else { panic!("{found:?}") };
    assert_eq!((pump.key.as_deref(), &pump.value[..], pump.timestamp_ms), (Some(&b"1"[..]), state.as_bytes(), Some(at as i64)));
    let names: Vec<&str> = pump.headers.iter().map(|header| &*header.name).collect();
    assert_eq!(
        names,
        [
            "event-id",
            "content-type",
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_time",
            "ce_subject",
            "ce_clientid",
            "ce_username",
            "ce_publisher",
            "ce_qos",
            "ce_retain",
            "from",
            "trace"
        ]
    );
    assert_eq!(header(pump, "ce_id"), header(pump, "event-id"));
    assert_eq!([header(pump, "from"), header(pump, "trace")], [Some("d@n1"), Some("none")]);
    let same = of("all").into_iter().find(|record| record.value == pump.value).unwrap();
    assert_eq!(header(same, "event-id"), header(pump, "event-id"), "one event, one id");
    let [site] = of("sites")[..] else { panic!("{found:?}") };
    assert_eq!(site.headers, []);
    assert_eq!(json(site)["message"]["payload"], serde_json::json!({"open": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_the_partitions_that_a_route_says() {
    let route = |partition: &str| {
        format!("[[route]]\nhook = \"message.publish\"\nfilter = \"{partition}/+\"\ntopic = \"{partition}\"\nformat = \"raw\"\n")
    };
    let tables = route("key")
        + &route("turns")
        + "partition = \"round-robin\"\n"
        + &route("stuck")
        + "partition = \"sticky\"\n"
        + &route("dice")
        + "partition = \"random\"\n"
        + &route("fixed")
        + "partition = \"${topic[2]}\"\n";
    let binary = Binary::start(&tables);
    let mut device = Device::connect(binary.address, "d").await;
    for number in 0..30 {
        for topic in ["key", "turns", "stuck", "dice"] {
            device.publish(&format!("{topic}/{number}"), number.to_string()).await;
        }
        device.publish(&format!("fixed/{}", number % 2), number.to_string()).await;
    }
    for topic in ["fixed/x", "fixed/3"] {
        assert_eq!(device.publish(topic, "0").await.reason, PubAckReason::ImplementationSpecificError, "{topic}");
    }
    let found = records(&binary.kafka, &["key", "turns", "stuck", "dice", "fixed"], 150).await;
    let partitions = |topic: &str| {
        let number = |record: &StoredRecord| String::from_utf8_lossy(&record.value).parse::<usize>().unwrap();
        let mut of: Vec<(usize, i32)> =
            found.iter().filter(|record| record.topic == topic).map(|record| (number(record), record.partition)).collect();
        of.sort_unstable();
        assert_eq!(of.len(), 30, "{topic}");
        of.into_iter().map(|(_, partition)| partition).collect::<Vec<_>>()
    };
    assert_eq!(partitions("turns"), (0..30).map(|number| number % 3).collect::<Vec<_>>());
    assert_eq!(partitions("fixed"), (0..30).map(|number| number % 2).collect::<Vec<_>>());
    let by_key = partitions("key");
    assert!(by_key.iter().all(|partition| partition == &by_key[0]), "{by_key:?}");
    for topic in ["stuck", "dice"] {
        let of = partitions(topic);
        assert!(of.iter().any(|partition| partition != &of[0]), "{topic}: all 30 in partition {}", of[0]);
    }
}

#[test]
fn the_documented_configurations_are_taken() {
    for page in ["routes.md", "formats.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty());
        for block in blocks {
            let (config, problems) = Config::parse(Path::new("hookgate.toml"), block);
            assert_eq!(problems, [], "{page}:\n{block}");
            assert!(!config.routes.is_empty());
        }
    }
}
