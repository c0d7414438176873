//! From configured routes to records.

use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    access::Access,
    config::Config,
    event::{Bytes, Client, Detail, Event, Message, QoS, Subscription, Text},
    hook::Hook,
    outbox::Outbox,
    pipeline::{Plan, stage::Stage},
};

const NOW: u64 = 1_700_000_000_000;

fn plan(hook: &str, settings: &str) -> Plan {
    let text = format!(
        "listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\n[[route]]\nname = \"r\"\nhook = \"{hook}\"\n{settings}"
    );
    let (config, problems) = Config::parse(Path::new("hookgate.toml"), &text);
    assert_eq!(problems, []);
    Plan::new(&config, &Arc::new(Access::default()), &Outbox::closed(), |_| None).unwrap()
}

fn event(detail: Detail) -> Event {
    let client = Client {
        client_id: "c".into(),
        username: None,
        peer: ([192, 0, 2, 7], 51234).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    };
    Event { id: 255, time_ms: NOW, client: Arc::new(client), detail }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn publish(topic: &str, payload: &str) -> Detail {
    Detail::MessagePublish(Arc::new(Message {
        publisher: "c".into(),
        publisher_username: None,
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: NOW,
        properties: None,
        annotations: vec![header("verified", "true")],
    }))
}

/// What one event becomes on one route of these settings, and the metrics after it.
fn made(settings: &str, detail: Detail, shaping: Shaping) -> (Vec<Made>, String) {
    let (plan, event, node) = (plan(detail.hook().name(), settings), event(detail), Text::from_static("n1"));
    let [route] = plan.routes(event.detail.hook()) else { panic!("one route") };
    let metrics = Metrics::new();
    let made = records(route, &Scope::new(&event, &node), shaping, &metrics).collect();
    (made, metrics.render())
}

#[track_caller]
fn one(settings: &str, topic: &str, payload: &str) -> Record {
    match <[Made; 1]>::try_from(made(settings, publish(topic, payload), Shaping::default()).0) {
        Ok([Ok(record)]) => record,
        other => panic!("{settings}: {other:?}"),
    }
}

#[test]
fn without_settings_a_record_has_the_clients_key_and_the_events_time_and_id() {
    let record = one("topic = \"t\"", "a", "x");
    let RecordId { event, part } = record.id.unwrap();
    assert_eq!((&*record.topic, record.key.as_deref(), record.partition), ("t", Some(&b"c"[..]), Choice::Key));
    assert_eq!((event, part, record.timestamp_ms), (255, 0, NOW));
    assert_eq!(record.headers, [header("verified", "true")]);
    let life = made("topic = \"t\"", Detail::SessionCreated, Shaping::default()).0;
    assert!(matches!(&life[..], [Ok(Record { headers, .. })] if headers.capacity() == 0), "nothing is allocated for no headers");
    assert_eq!(one("topic = \"t\"\nevent_id = false", "a", "x").id, None);
    assert_eq!(one("topic = \"t\"\nkey = \"\"", "a", "x").key, None);
    assert_eq!(one("topic = \"t\"\nkey = \"${username}\"", "a", "x").key, None, "no text is no key");
}

#[test]
fn templates_fill_topic_key_and_headers() {
    let settings = "topic = \"${topic[1]}.${payload.kind:-other}\"\nkey = \"${route}/${topic[2]}\"\nformat = \"raw\"\n\
                    headers = { about = \"${hook} of ${client_id}\", site = \"north\", user = \"${username}\" }";
    let record = one(settings, "plant/7/state", "{\"kind\":\"pump\"}");
    assert_eq!((&*record.topic, record.key.as_deref()), ("plant.pump", Some(&b"r/7"[..])));
    let expected = [header("about", "message.publish of c"), header("site", "north"), header("user", ""), header("verified", "true")];
    assert_eq!(record.headers, expected);
    assert_eq!(&*one(settings, "plant/7/state", "no JSON").topic, "plant.other");
}

#[test]
fn what_is_no_topic_and_no_partition_is_refused_aloud() {
    for (settings, topic, reason, explanation) in [
        ("topic = \"${topic[2]}\"", "a", "illegal-topic", "\"\" is no Kafka topic name"),
        ("topic = \"${topic[2]}\"", "a/b c", "illegal-topic", "\"b c\" is no Kafka topic name"),
        ("topic = \"x${topic[2]}\"", "a/ü", "illegal-topic", "\"xü\" is no Kafka topic name"),
        ("topic = \"t\"\npartition = \"${topic[2]}\"", "a/b", "illegal-partition", "\"b\" is no number of a partition"),
        ("topic = \"t\"\npartition = \"${topic[2]}\"", "a/-1", "illegal-partition", "\"-1\" is no number of a partition"),
        ("topic = \"t\"\npartition = \"${topic[2]}\"", "a", "illegal-partition", "\"\" is no number of a partition"),
    ] {
        let emitted = KafkaRecord { value: Some("x".into()), ..KafkaRecord::default() };
        for shaping in [Shaping::default(), Shaping { records: Some(vec![emitted]), ..Shaping::default() }] {
            let (made, metrics) = made(settings, publish(topic, "x"), shaping);
            let [Err(unmade)] = &made[..] else { panic!("{settings} {topic}: {made:?}") };
            assert_eq!(unmade.refusal, Refusal::Other(explanation.into()));
            let written = if reason == "illegal-topic" { settings.split('"').nth(1).unwrap() } else { "t" };
            assert_eq!((&*unmade.record.topic, unmade.record.key.as_deref()), (written, Some(&b"c"[..])));
            let counted = format!("hookgate_records_unfit_total{{name=\"r\",reason=\"{reason}\"}} 1");
            assert!(metrics.contains(&counted), "{metrics}");
        }
    }
    let elsewhere = KafkaRecord { topic: Some("fine".into()), ..KafkaRecord::default() };
    let shaping = Shaping { records: Some(vec![elsewhere]), ..Shaping::default() };
    let (made, _) = made("topic = \"${topic[2]}\"", publish("a", "x"), shaping);
    assert!(matches!(&made[..], [Ok(record)] if &*record.topic == "fine"), "the guest knows better: {made:?}");
}

#[test]
fn a_template_names_a_bounded_number_of_topics() {
    let (plan, node, metrics) = (plan("message.publish", "topic = \"t${payload}\""), Text::from_static("n1"), Metrics::new());
    let [route] = plan.routes(Hook::MessagePublish) else { panic!("one route") };
    let of = |number: usize| {
        let event = event(publish("a", &number.to_string()));
        records(route, &Scope::new(&event, &node), Shaping::default(), &metrics).next().unwrap()
    };
    assert!((0..10_000).all(|number| of(number).is_ok()));
    assert!(matches!(of(10_000), Err(unmade) if matches!(unmade.refusal, Refusal::Other(_))));
    assert!(of(9_999).is_ok(), "the others go on");
    assert!(metrics.render().contains("hookgate_records_unfit_total{name=\"r\",reason=\"too-many-topics\"} 1"));
}

#[test]
fn partitions_are_chosen_as_configured() {
    for (setting, topic, expected) in [
        ("\"key\"", "a", Choice::Key),
        ("\"round-robin\"", "a", Choice::RoundRobin),
        ("\"sticky\"", "a", Choice::Sticky),
        ("\"random\"", "a", Choice::Random),
        ("\"3\"", "a", Choice::Fixed(3)),
        ("3", "a", Choice::Fixed(3)),
        ("\"${topic[2]}\"", "a/12", Choice::Fixed(12)),
        ("\"${topic[2]:-0}\"", "a", Choice::Fixed(0)),
    ] {
        assert_eq!(one(&format!("topic = \"t\"\npartition = {setting}"), topic, "x").partition, expected, "{setting}");
    }
}

#[test]
fn times_that_cannot_be_meant_are_the_events() {
    for (payload, expected, replaced) in [
        ("{\"ts\":1699999999999}", 1_699_999_999_999, 0),
        ("{\"ts\":\"2023-11-14T22:00:00+00:00\"}", 1_699_999_200_000, 0),
        ("{\"ts\":946684800000}", 946_684_800_000, 0),
        ("{\"ts\":1699999999}", NOW, 1), // seconds
        ("{\"ts\":1700003600000}", 1_700_003_600_000, 0),
        ("{\"ts\":1700003600001}", NOW, 1), // more than an hour ahead
        ("{\"ts\":\"yesterday\"}", NOW, 1),
        ("{}", NOW, 1),
    ] {
        let (made, metrics) = made("topic = \"t\"\ntimestamp = \"${payload.ts}\"", publish("a", payload), Shaping::default());
        let [Ok(record)] = &made[..] else { panic!("{payload}: {made:?}") };
        assert_eq!(record.timestamp_ms, expected, "{payload}");
        assert_eq!(metrics.contains("hookgate_record_timestamps_replaced_total{name=\"r\"} 1"), replaced == 1, "{payload}");
    }
    assert!(one("topic = \"t\"\ntimestamp = \"now\"", "a", "x").timestamp_ms > NOW);
}

#[test]
fn records_of_guests_are_told_apart() {
    let asked = || {
        let record = |topic: Option<&str>, value: Option<&str>, headers| KafkaRecord {
            topic: topic.map(Text::from),
            key: None,
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers,
        };
        let records = vec![record(None, Some("1"), vec![header("n", "1")]), record(Some("other"), None, Vec::new())];
        Shaping { headers: vec![header("g", "x")], records: Some(records) }
    };
    let settings = "topic = \"t\"\nformat = \"cloudevents\"\nheaders = { h = \"${client_id}\" }\npartition = \"round-robin\"";
    let (made, _) = made(settings, publish("a", "p"), asked());
    let records: Vec<&Record> = made.iter().map(|made| made.as_ref().unwrap()).collect();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&*first.topic, &first.value[..], &*second.topic, &second.value[..]), ("t", &b"1"[..], "other", &b"p"[..]));
    for (record, id, more) in [(first, "00000000000000ff-1", &[header("n", "1")][..]), (second, "00000000000000ff-2", &[])] {
        assert_eq!(record.id.unwrap().text().as_str(), id);
        assert!(record.headers.contains(&header("ce_id", id)), "of one source each id is one event: {:?}", record.headers);
        let rest: Vec<&Header> = record.headers.iter().filter(|of| !of.name.starts_with("ce_") && &*of.name != "content-type").collect();
        let expected: Vec<Header> = [header("h", "c"), header("verified", "true"), header("g", "x")].iter().chain(more).cloned().collect();
        assert_eq!(rest, expected.iter().collect::<Vec<_>>());
        assert_eq!((record.key.as_deref(), record.partition, record.timestamp_ms), (Some(&b"c"[..]), Choice::RoundRobin, NOW));
    }
}

#[tokio::test]
async fn records_of_a_route_without_a_topic_need_one_of_their_own() {
    let stage = Stage::new(&["emit"]).await;
    let plan = stage.plan("[[route]]\nname = \"r\"\nhook = \"message.publish\"\nguests = [\"emit\"]\n").await;
    let [route] = plan.routes(Hook::MessagePublish) else { panic!("one route") };
    let (event, node, metrics) = (event(publish("a", "p")), Text::from_static("n1"), Metrics::new());
    let asked = |topic: Option<&str>| KafkaRecord { topic: topic.map(Text::from), ..KafkaRecord::default() };
    let shaping = Shaping { headers: vec![header("g", "x")], records: Some(vec![asked(None), asked(Some("own"))]) };
    let found: Vec<Made> = records(route, &Scope::new(&event, &node), shaping, &metrics).collect();
    let [Ok(record)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*record.topic, record.key.as_deref(), record.headers.len(), record.timestamp_ms), ("own", Some(&b"c"[..]), 0, NOW));
    assert_eq!(record.id.unwrap().text().as_str(), "00000000000000ff-2");
}

#[test]
fn what_is_excluded_belongs_to_no_route() {
    let plan =
        plan("message.publish", "topic = \"t\"\nfilter = [\"devices/#\", \"sites/+\"]\nexclude = [\"devices/+/debug\", \"sites/9\"]");
    let [route] = plan.routes(Hook::MessagePublish) else { panic!("one route") };
    for (topic, expected) in [
        ("devices/1/state", true),
        ("devices/1/debug", false),
        ("devices/1/debug/x", true),
        ("sites/1", true),
        ("sites/1/2", false),
        ("sites/9", false),
        ("a", false),
    ] {
        assert_eq!(route.takes(&publish(topic, "x")), expected, "{topic}");
        assert_eq!(route.takes_topic(topic), expected, "{topic}");
    }
    for (filter, expected) in [("devices/1/debug", false), ("devices/+/debug", false), ("devices/+/+", true), ("#", true)] {
        assert_eq!(route.takes_part_of(filter), expected, "{filter}");
    }
    let plan = self::plan("message.publish", "topic = \"t\"\nexclude = \"$SYS/#\"");
    let [route] = plan.routes(Hook::MessagePublish) else { panic!("one route") };
    assert!(route.takes(&publish("a", "x")) && !route.takes(&publish("$SYS/a", "x")));
    let plan = self::plan("client.subscribe", "topic = \"t\"\nexclude = \"a/#\"");
    let [route] = plan.routes(Hook::ClientSubscribe) else { panic!("one route") };
    let subscribe = |filters: &[&str]| {
        let of =
            |filter: &&str| Subscription { filter: (*filter).into(), qos: QoS::AtMostOnce, no_local: false, retain_as_published: false };
        Detail::ClientSubscribe(filters.iter().map(of).collect())
    };
    assert!(route.takes(&subscribe(&["a/b", "b"])), "one of them is left");
    assert!(!route.takes(&subscribe(&["a/b", "a/c"])));
}
