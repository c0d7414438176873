//! A pipeline with real guests and without Kafka, for the tests beside the code.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{Pipeline, Plan};
use crate::{
    access::Access,
    config::Config,
    event::{Client, Detail, Event, Message, QoS},
    metrics::Metrics,
    outbox::Outbox,
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
pub(super) struct Stage {
    pub(super) pipeline: Arc<Pipeline>,
    registry: Registry,
    names: Vec<&'static str>,
    pub(super) guests: Guests,
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

/// Routes of `message.publish` as `filter: guest guest on-failure=drop; …`, each named after its number.
pub(super) fn routes(text: &str) -> String {
    routes_of("message.publish", text)
}

/// The same for any hook.
pub(super) fn routes_of(hook: &str, text: &str) -> String {
    let mut tables = String::new();
    for (number, route) in text.split(';').enumerate() {
        let (filter, words) = route.split_once(':').unwrap();
        let (mut guests, mut on_failure) = (Vec::new(), None);
        for word in words.split_whitespace() {
            match word.strip_prefix("on-failure=") {
                Some(policy) => on_failure = Some(format!("on_failure = \"{policy}\"")),
                None => guests.push(format!("\"{word}\"")),
            }
        }
        let (filter, guests) = (filter.trim(), guests.join(", "));
        writeln!(tables, "[[route]]\nname = \"r{number}\"\nhook = \"{hook}\"\nfilter = \"{filter}\"\ntopic = \"t{number}\"").unwrap();
        if !guests.is_empty() {
            writeln!(tables, "guests = [{guests}]\n{}", on_failure.unwrap_or_default()).unwrap();
        }
    }
    tables
}

impl Stage {
    /// With these guests: compiling each takes its time.
    pub(super) async fn new(names: &[&'static str]) -> Self {
        let metrics = Metrics::new();
        let config = config(names, &routes("a:"));
        let registry = Registry::for_trial(&config.runtime, &metrics).unwrap();
        let guests = registry.load(&config, &Guests::default()).await.unwrap();
        Stage { pipeline: Pipeline::open(metrics), registry, names: names.to_vec(), guests }
    }

    pub(super) async fn plan(&self, tables: &str) -> Plan {
        let config = config(&self.names, tables);
        let guests = self.registry.load(&config, &self.guests).await.unwrap();
        Plan::new(&config, &Arc::new(Access::default()), &Outbox::closed(), |name| guests.get(name).cloned()).unwrap()
    }

    pub(super) fn calls(&self, guest: &str) -> u64 {
        self.pipeline.metrics.guest_calls.get_or_create(&guest.into()).get()
    }
}

pub(super) fn client() -> Arc<Client> {
    Arc::new(Client {
        client_id: "c".into(),
        username: None,
        peer: "192.0.2.7:51234".parse().unwrap(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    })
}

pub(super) fn message() -> Message {
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

pub(super) fn event(detail: Detail) -> Event {
    Event { id: 255, time_ms: 1_700_000_000_000, client: client(), detail }
}
