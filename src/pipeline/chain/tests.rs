//! Chains of real guests, told as a table: routes and their guests on the left, what becomes of the message on the right.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::*;
use crate::{
    access::Access,
    config::Config,
    event::{Client, Detail, QoS, now_ms},
    metrics::Metrics,
    registry::{Guests, Registry},
};

/// Guests by name: the hostile one in a mode, with what it puts in.
const GUESTS: [(&str, &str, &str); 10] = [
    ("pass", "pass", ""),
    ("one", "change", "one"),
    ("two", "change", "two"),
    ("to-trap", "change", "a trap"),
    ("trap-on-it", "trap-sometimes", ""),
    ("to-b", "move", "b"),
    ("emit", "emit", "emitted"),
    ("drop", "drop", ""),
    ("deny", "deny", ""),
    ("trap", "trap", ""),
];

/// A pipeline without Kafka, with real guests.
struct Stage {
    pipeline: Arc<Pipeline>,
    registry: Registry,
    names: Vec<&'static str>,
    guests: Guests,
}

fn config(names: &[&str], routes: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release/hostile.wasm");
    let mut text = "listener = [{ bind = \"127.0.0.1:0\" }]\nkafka = { bootstrap_servers = \"embedded\" }\n".to_owned();
    for (name, mode, payload) in GUESTS.into_iter().filter(|(name, ..)| names.contains(name)) {
        let settings = format!("{{ mode = \"{mode}\", payload = \"{payload}\" }}");
        let (path, limits) = (path.display(), "{ instances = 2, deadline_ms = 10000 }");
        writeln!(
            text,
            "[[guest]]\nname = \"{name}\"\npath = \"{path}\"\ngrants = [\"settings\", \"log\"]\nsettings = {settings}\nlimits = {limits}\n\
             breaker = {{ max_failure_ratio = 1.0 }}"
        )
        .unwrap();
    }
    let (config, problems) = Config::parse(Path::new("hookgate.toml"), &format!("{text}{routes}"));
    assert_eq!(problems, []);
    config
}

/// Routes as `filter: guest guest on-failure; …`, each named after its number.
fn routes(text: &str) -> String {
    let mut tables = String::new();
    for (number, route) in text.split(';').enumerate() {
        let (filter, words) = route.split_once(':').unwrap();
        let (mut guests, mut on_failure) = (Vec::new(), "deny");
        for word in words.split_whitespace() {
            match word.strip_prefix("on-failure=") {
                Some(policy) => on_failure = policy,
                None => guests.push(format!("\"{word}\"")),
            }
        }
        let (filter, guests) = (filter.trim(), guests.join(", "));
        writeln!(tables, "[[route]]\nname = \"r{number}\"\nhook = \"message.publish\"\nfilter = \"{filter}\"\ntopic = \"t{number}\"")
            .unwrap();
        if !guests.is_empty() {
            writeln!(tables, "guests = [{guests}]\non_failure = \"{on_failure}\"").unwrap();
        }
    }
    tables
}

impl Stage {
    /// With these guests: compiling each takes its time.
    async fn new(names: &[&'static str]) -> Self {
        let metrics = Metrics::new();
        let registry = Registry::for_trial(&metrics).unwrap();
        let guests = registry.load(&config(names, &routes("a:")), &Guests::default()).await.unwrap();
        Stage { pipeline: Pipeline::open(metrics), registry, names: names.to_vec(), guests }
    }

    async fn plan(&self, tables: &str) -> Plan {
        let config = config(&self.names, tables);
        let guests = self.registry.load(&config, &self.guests).await.unwrap();
        Plan::new(&config, &Arc::new(Access::default()), |name| guests.get(name).cloned()).unwrap()
    }

    /// What becomes of a message on topic `a`, in words.
    async fn outcome(&self, tables: &str) -> String {
        let plan = self.plan(tables).await;
        let message = Arc::new(message());
        let event = Event { id: 7, time_ms: now_ms(), client: client(), detail: Detail::MessagePublish(Arc::clone(&message)) };
        describe(judge(&self.pipeline, &plan, &event, message).await, &event)
    }

    fn calls(&self, guest: &str) -> u64 {
        self.pipeline.metrics.guest_calls.get_or_create(&guest.into()).get()
    }
}

fn describe(judgement: Judgement<'_>, event: &Event) -> String {
    match judgement {
        Judgement::Through(message, matched) => {
            let routes: Vec<String> = matched
                .iter()
                .map(|(route, shaping)| {
                    let records = shaping.records.as_ref().map_or(String::new(), |records| format!("+{}", records.len()));
                    format!("{}{records}", route.name)
                })
                .collect();
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            format!("{} on {} with {} headers to {}", payload, message.topic, message.annotations.len(), routes.join(" "))
        }
        Judgement::Ended(end) => {
            let decision = match &end.decision {
                Decision::Accept(_) => "accept".to_owned(),
                Decision::Swallow => "swallow".to_owned(),
                Decision::Deny(denial) => format!("deny {:#x}", denial.reason_code),
            };
            let payload = String::from_utf8_lossy(&end.message.payload).into_owned();
            let letter = end.letter.map_or(String::new(), |letter| {
                let record = letter.record(&"dead".into(), event, "n");
                let header = |name: &str| record.headers.iter().find(|header| &*header.name == name).map(|header| header.value.to_string());
                format!(", letter of {} by {}", header("guest").unwrap(), header("route").unwrap())
            });
            format!("{decision}: {} of {payload} ({}){letter}", end.reason.name(), end.explanation)
        }
    }
}

fn client() -> Arc<Client> {
    Arc::new(Client {
        client_id: "c".into(),
        username: None,
        peer: "192.0.2.7:51234".parse().unwrap(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    })
}

fn message() -> Message {
    Message {
        publisher: "c".into(),
        publisher_username: None,
        topic: "a".into(),
        payload: "original".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: 0,
        properties: None,
        annotations: Vec::new(),
    }
}

const DENIED: &str = "deny 0x87: denied of original (hostile: denied as told)";
const DROPPED: &str = "swallow: filtered of original (hostile: dropped as told)";

#[tokio::test]
async fn the_strictest_verdict_holds_in_any_order() {
    let stage = Stage::new(&["pass", "one", "two", "to-trap", "trap-on-it", "to-b", "emit", "drop", "deny"]).await;
    for (routes_text, expected) in [
        // One guest.
        ("a: pass", "original on a with 0 headers to r0"),
        ("a: one", "one on a with 1 headers to r0"),
        ("a: drop", DROPPED),
        ("a: deny", DENIED),
        // Guests of one route, in order.
        ("a: one two", "two on a with 2 headers to r0"),
        ("a: two one", "one on a with 2 headers to r0"),
        ("a: one one", "one on a with 1 headers to r0"),
        ("a: drop deny", DENIED),
        ("a: deny drop", DENIED),
        ("a: drop one", DROPPED),
        ("a: one drop", "swallow: filtered of one (hostile: dropped as told)"),
        ("a: emit one", "one on a with 1 headers to r0+2"),
        // Each sees what the one before left.
        ("a: to-trap trap-on-it", "deny 0x83: guest-failed of a trap (guest trap-on-it: trap)"),
        ("a: trap-on-it to-trap", "a trap on a with 1 headers to r0"),
        ("a: to-trap one trap-on-it", "one on a with 2 headers to r0"),
        ("a: drop to-trap trap-on-it", "deny 0x83: guest-failed of a trap (guest trap-on-it: trap)"),
        // Routes.
        ("a: one; #: two; b: pass", "two on a with 2 headers to r0 r1"),
        ("a: emit; a: pass", "original on a with 0 headers to r0+2 r1"),
        ("a: drop; #: deny", DENIED),
        ("a: deny; #: drop", DENIED),
        ("a: pass; #: drop", DROPPED),
        ("a:; #: drop", DROPPED),
        ("b: deny; a: one", "one on a with 1 headers to r1"),
        // A guest that two routes name is asked by the first.
        ("a: emit; #: emit", "original on a with 0 headers to r0+2 r1"),
        // A route meets the topic as it is by then.
        ("a: to-b; b: one; a: deny", "one on b with 1 headers to r0 r1"),
        ("b: deny; a: to-b", "original on b with 0 headers to r1"),
        ("a: drop to-b; b: deny", "deny 0x87: denied of original (hostile: denied as told)"),
    ] {
        assert_eq!(stage.outcome(&routes(routes_text)).await, expected, "{routes_text}");
    }
}

#[tokio::test]
async fn a_failure_counts_as_its_policy_says() {
    let stage = Stage::new(&["trap", "one", "drop", "deny"]).await;
    let failed = "guest-failed of original (guest trap: trap";
    for (routes_text, expected) in [
        ("a: trap on-failure=deny", format!("deny 0x83: {failed})")),
        ("a: trap on-failure=drop", format!("swallow: {failed})")),
        ("a: trap on-failure=pass", "original on a with 0 headers to r0".to_owned()),
        ("a: trap on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap one on-failure=pass", "one on a with 1 headers to r0".to_owned()),
        // deny > dead letter > drop > pass, whatever comes first
        ("a: drop trap on-failure=deny", format!("deny 0x83: {failed})")),
        ("a: drop trap on-failure=pass", DROPPED.to_owned()),
        ("a: drop trap on-failure=drop", DROPPED.to_owned()),
        ("a: trap drop on-failure=drop", format!("swallow: {failed})")),
        ("a: drop trap on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap drop on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap on-failure=dead-letter; #: deny", DENIED.to_owned()),
        ("a: trap on-failure=drop; #: deny", DENIED.to_owned()),
        // The policy is of the route that asks.
        ("b: trap on-failure=deny; a: trap on-failure=pass", "original on a with 0 headers to r1".to_owned()),
        ("#: trap on-failure=pass; a: trap on-failure=deny", "original on a with 0 headers to r0 r1".to_owned()),
    ] {
        assert_eq!(stage.outcome(&routes(routes_text)).await, expected, "{routes_text}");
    }
}

#[tokio::test]
async fn nobody_is_asked_after_a_denial_and_everybody_after_a_drop() {
    let stage = Stage::new(&["deny", "drop", "pass", "two"]).await;
    for (routes_text, asked) in [("a: deny pass; #: two", 0), ("a: drop pass; #: two", 1), ("a: pass; #: pass two", 1)] {
        let before = (stage.calls("pass"), stage.calls("two"));
        stage.outcome(&routes(routes_text)).await;
        assert_eq!((stage.calls("pass") - before.0, stage.calls("two") - before.1), (asked, asked), "{routes_text}");
    }
}

#[tokio::test]
async fn a_guest_is_asked_again_as_often_as_the_route_says() {
    let stage = Stage::new(&["trap", "deny", "pass"]).await;
    let retry = "{ retry = 2, backoff = \"1ms\", then = \"dead-letter\" }";
    let table = |guest: &str| {
        format!("[[route]]\nname = \"r\"\nhook = \"message.publish\"\nfilter = \"a\"\nguests = [\"{guest}\"]\non_failure = {retry}\n")
    };
    for (guest, calls, retries) in [("trap", 3, 2), ("deny", 1, 0), ("pass", 1, 0)] {
        let before = stage.calls(guest);
        let outcome = stage.outcome(&table(guest)).await;
        assert_eq!(stage.calls(guest) - before, calls, "{outcome}");
        assert_eq!(stage.pipeline.metrics.guest_retries.get_or_create(&guest.into()).get(), retries, "{guest}");
        assert_eq!(outcome.contains("letter"), guest == "trap", "{outcome}");
    }
}

#[tokio::test]
async fn a_dead_letter_says_who_failed_how_and_where() {
    let stage = Stage::new(&["one", "trap"]).await;
    let plan = stage.plan(&routes("a: one trap on-failure=dead-letter")).await;
    let message = Arc::new(message());
    let event = Event { id: 255, time_ms: 1_700_000_000_000, client: client(), detail: Detail::MessagePublish(Arc::clone(&message)) };
    let Judgement::Ended(end) = judge(&stage.pipeline, &plan, &event, message).await else { panic!("it traps") };
    let record = end.letter.unwrap().record(&"dead".into(), &event, "n1");
    let header = |name: &str| {
        let found: Vec<&str> = record.headers.iter().filter(|header| &*header.name == name).map(|header| &*header.value).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    };
    for (name, value) in [
        ("route", "r0"),
        ("hook", "message.publish"),
        ("guest", "trap"),
        ("version", stage.guests.get("trap").unwrap().current().digest()),
        ("failure", "trap"),
        ("event-id", "00000000000000ff"),
        ("attempts", "1"),
    ] {
        assert_eq!(header(name), value, "{name}");
    }
    assert!(header("time").parse::<u64>().unwrap() > event.time_ms);
    assert!(header("error").contains("hostile: trapped as told"), "{}", header("error"));
    assert!(header("backtrace").lines().count() > 1 && header("backtrace").contains("Hostile"), "{}", header("backtrace"));
    assert_eq!((&*record.topic, record.key.as_deref()), ("dead", Some(&b"c"[..])));
    let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(value["message"]["payload"], "b3JpZ2luYWw=", "as the client published it: {value}");
}
