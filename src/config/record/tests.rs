//! The record part of routes: what is taken, what is refused.

use std::path::Path;

use super::*;
use crate::config::Config;

fn parse(hook: &str, settings: &str) -> (Config, Vec<String>) {
    let text = format!(
        "listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\n[[route]]\nhook = \"{hook}\"\n{settings}"
    );
    let (config, problems) = Config::parse(Path::new("h.toml"), &text);
    (config, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn everything_a_record_can_be_told() {
    let settings = r#"
filter = ["devices/#", "sites/+"]
exclude = ["devices/+/debug"]
topic = "${topic[1]}_${payload.kind:-other}"
key = "${username}"
headers = { site = "north", number = 7, about = "${hook} ${user_property.trace}" }
partition = "${topic[2]}"
timestamp = "${payload.ts}"
format = "raw"
metadata = true
event_id = false
"#;
    let (config, problems) = parse("message.publish", settings);
    assert_eq!(problems, [""; 0]);
    let [route] = &config.routes[..] else { panic!("one route") };
    assert_eq!(route.excluded.iter().map(ToString::to_string).collect::<Vec<_>>(), ["devices/+/debug"]);
    let record = route.record.as_ref().unwrap();
    assert_eq!(record.topic.to_string(), "${topic[1]}_${payload.kind:-other}");
    assert_eq!(record.constant_topic(), None);
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(headers, ["about: ${hook} ${user_property.trace}", "number: 7", "site: north"]);
    assert_eq!(record.partition, PartitionRule::Fixed(Template::parse("${topic[2]}").unwrap()));
    assert_eq!(record.timestamp, TimestampRule::Given(Template::parse("${payload.ts}").unwrap()));
    assert_eq!((record.format, record.metadata, record.event_id), (Format::Raw, true, false));
}

#[test]
fn what_is_not_said_has_a_default() {
    let (config, problems) = parse("client.connected", "topic = \"t\"");
    assert_eq!(problems, [""; 0]);
    let record = config.routes[0].record.clone().unwrap();
    let expected = RecordTemplate {
        topic: Template::parse("t").unwrap(),
        key: Template::parse("${client_id}").unwrap(),
        headers: Vec::new(),
        partition: PartitionRule::Key,
        timestamp: TimestampRule::Event,
        format: Format::Envelope,
        payload: PayloadEncoding::Base64,
        metadata: false,
        event_id: true,
    };
    assert_eq!(record, expected);
    for (format, payload) in [
        ("emqx-bridge", PayloadEncoding::Base64),
        ("emqttd-bridge", PayloadEncoding::Plain),
        ("emq-plugin", PayloadEncoding::Plain),
        ("cloudevents-json", PayloadEncoding::Base64),
    ] {
        let (config, problems) = parse("message.publish", &format!("topic = \"t\"\nformat = \"{format}\""));
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.routes[0].record.as_ref().unwrap().payload, payload, "{format}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_advice() {
    for (hook, settings, expected) in [
        (
            "message.publish",
            "topic = \"t\"\nkey = \"${clientid}\"",
            "key = \"${clientid}\": there is no field `clientid`\n    help: did you mean `client_id`?",
        ),
        (
            "message.publish",
            "topic = \"t\"\nkey = \"${topic[0]}\"",
            "key = \"${topic[0]}\": `topic[0]` is no level of a topic\n    help: the first level is topic[1]",
        ),
        ("message.publish", "topic = \"t\"\nkey = \"${node\"", "key = \"${node\": `${` is not closed"),
        (
            "client.connected",
            "topic = \"t\"\nkey = \"${topic}\"",
            "key = \"${topic}\": client.connected has no `topic`\n    help: it has client_id,",
        ),
        ("client.connected", "topic = \"t-${reason}\"", "topic = \"t-${reason}\": client.connected has no `reason`"),
        (
            "session.created",
            "topic = \"t\"\nheaders = { a = \"${payload.b}\" }",
            "headers.a = \"${payload.b}\": session.created has no `payload.b`",
        ),
        ("message.publish", "topic = \"a b-${topic[1]}\"", "topic = \"a b-${topic[1]}\" is no Kafka topic name"),
        ("message.publish", "topic = \"${topic[1]:-a/b}\"", "topic = \"${topic[1]:-a/b}\" is no Kafka topic name"),
        ("message.publish", "topic = \"t\"\nheaders = { event-id = \"x\" }", "headers: no header can be named \"event-id\" here"),
        (
            "message.publish",
            "topic = \"t\"\nformat = \"cloudevents\"\nheaders = { ce_id = \"x\" }",
            "headers: no header can be named \"ce_id\" here",
        ),
        ("message.publish", "topic = \"t\"\nheaders = { a = [1] }", "headers.a: this array is not a single value"),
        (
            "message.publish",
            "topic = \"t\"\npartition = \"round_robin\"",
            "partition = \"round_robin\" is not known\n    help: did you mean `round-robin`?",
        ),
        (
            "message.publish",
            "topic = \"t\"\npartition = \"strict_round_robin\"",
            "partition = \"strict_round_robin\" is not known\n    help: allowed: key, round-robin,",
        ),
        ("message.publish", "topic = \"t\"\npartition = -1", "partition = \"-1\" is not known"),
        ("message.publish", "topic = \"t\"\ntimestamp = \"later\"", "timestamp = \"later\" is not known"),
        (
            "message.publish",
            "topic = \"t\"\nformat = \"cloudevent\"",
            "format = \"cloudevent\" is not known\n    help: did you mean `cloudevents`?",
        ),
        ("message.publish", "topic = \"t\"\nformat = \"cloudevents\"\npayload = \"json\"", "payload does nothing here"),
        ("client.connected", "topic = \"t\"\npayload = \"json\"", "payload does nothing here"),
        ("client.connected", "topic = \"t\"\nformat = \"raw\"", "format: raw needs a message"),
        ("message.publish", "topic = \"t\"\nmetadata = true", "metadata does nothing here"),
        (
            "message.publish",
            "topic = \"t\"\nfilter = \"a/+\"\nexclude = \"b/#\"",
            "exclude = \"b/#\" does nothing: no topic of `filter` matches it",
        ),
        ("message.publish", "topic = \"t\"\nfilter = [\"a/b\", \"a/+\"]\nexclude = [\"a/#\"]", "exclude: it leaves nothing of `filter`"),
        ("message.publish", "topic = \"t\"\nexclude = \"#\"", "exclude: it leaves nothing of `filter`"),
        ("message.publish", "topic = \"t\"\nexclude = \"a/#/b\"", "exclude = \"a/#/b\" is no topic filter"),
        ("client.connected", "topic = \"t\"\nexclude = \"a\"", "exclude does nothing: client.connected has no topic"),
    ] {
        let (_, problems) = parse(hook, settings);
        let [problem] = &problems[..] else { panic!("{settings}: {problems:#?}") };
        assert!(problem.contains(&format!("route[0].{expected}")), "{settings}\nexpected {expected}\nfound {problem}");
    }
    let nothing = "headers = { a = \"b\" }\npartition = \"random\"\ntimestamp = \"now\"\nmetadata = true\nevent_id = true";
    let (_, problems) = parse("message.publish", nothing);
    assert_eq!(problems.iter().filter(|problem| problem.contains("does nothing without a topic")).count(), 5, "{problems:#?}");
}
