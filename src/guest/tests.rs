//! Guests as they are used: the components of the `guests/` workspace, hostile ones too.

pub(super) mod arbitrary;
mod mirror;
mod mutants;
mod walls;

use std::{path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    config::{Config, Grant, Key, Runtime},
    event::{
        Action, Answer, Bytes, Changes, Client, Closing, Connection, Credentials, Delivery, Denial, Descent, DescentVerdict, Detail,
        Dropping, Event, ExchangeVerdict, Fetched, Header, KafkaRecord, Message, ObserveVerdict, Properties, PublishVerdict, QoS, Round,
        Subscription, Text,
    },
    hook::{DropReason, Hook, Kind},
    metrics::Metrics,
};

mod rehearsal;

/// Longer than any limit used here, on any machine; nothing waits for its end.
const PATIENCE: Duration = Duration::from_secs(60);

fn component(name: &str) -> Arc<[u8]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release").join(name).with_extension("wasm");
    let bytes = std::fs::read(&path);
    bytes.unwrap_or_else(|error| panic!("{}: {error}; run cargo xtask guests", path.display())).into()
}

/// The guest table and keys of a configuration, written as people write it.
fn table(text: &str) -> (crate::config::Guest, Vec<Key>) {
    let text = format!("listener = [{{ bind = \"127.0.0.1:0\" }}]\n[kafka]\nbootstrap_servers = \"embedded\"\n{text}");
    let (config, problems) = Config::parse(Path::new("test.toml"), &text);
    assert_eq!(problems, []);
    (config.guests.into_iter().next().unwrap(), config.keys)
}

/// A loaded guest with what it counts and keeps.
struct Loaded {
    guest: Arc<Guest>,
    metrics: Arc<Metrics>,
}

async fn load(engine: &Engine, name: &str, text: &str) -> Result<Loaded, Vec<LoadError>> {
    let (config, keys) = table(&format!("[[guest]]\nname = \"{name}\"\npath = \"x\"\n{text}"));
    let metrics = Metrics::new();
    let loading = Guest::load(engine, &config, &keys, component(name), State::new(), &metrics);
    Ok(Loaded { guest: tokio::time::timeout(PATIENCE, loading).await.expect("loading ends")?, metrics })
}

async fn hostile(engine: &Engine, mode: &str, limits: &str) -> Result<Loaded, Vec<LoadError>> {
    let grants: Vec<String> = Grant::ALL.iter().map(|grant| format!("\"{}\"", grant.name())).collect();
    let text = format!("grants = [{}]\nsettings = {{ mode = \"{mode}\" }}\nlimits = {{ {limits} }}", grants.join(", "));
    load(engine, "hostile", &text).await
}

fn client() -> Arc<Client> {
    Arc::new(Client {
        client_id: "lock-1".into(),
        username: Some("acme".into()),
        peer: "192.0.2.7:51234".parse().unwrap(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 1_700_000_000_000,
    })
}

fn message() -> Message {
    Message {
        publisher: "lock-1".into(),
        publisher_username: Some("acme".into()),
        topic: "devices/lock-1/state".into(),
        payload: vec![0, 159, 146, 150].into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        received_at_ms: 1_700_000_000_001,
        properties: Some(Box::new(Properties {
            expiry_s: Some(60),
            payload_is_utf8: Some(false),
            content_type: Some("application/octet-stream".into()),
            response_topic: Some("answers/ä".into()),
            correlation_data: Some(vec![1, 2, 3].into()),
            user_properties: vec![Header { name: "k".into(), value: "v".into() }, Header { name: "k".into(), value: "".into() }],
        })),
        annotations: vec![Header { name: "verified".into(), value: "true".into() }],
    }
}

const ASKED: Asked<'_> = Asked::new(9, 1_700_000_000_004, "node-1");

impl Loaded {
    async fn publish(&self) -> Result<PublishVerdict, Failure> {
        let (client, message) = (client(), Arc::new(message()));
        let asking = self.guest.publish(ASKED, &client, &message);
        tokio::time::timeout(PATIENCE, asking).await.expect("a call ends")
    }

    async fn authenticate(&self, password: &[u8]) -> Result<Answer, Failure> {
        let credentials = Credentials { method: None, password: Some(password.to_vec().into()) };
        tokio::time::timeout(PATIENCE, self.guest.authenticate(ASKED, &client(), &credentials)).await.expect("a call ends")
    }

    async fn authorize(&self, action: Action, topic: &str) -> Result<Answer, Failure> {
        tokio::time::timeout(PATIENCE, self.guest.authorize(ASKED, &client(), action, topic)).await.expect("a call ends")
    }

    async fn observe(&self, detail: Detail) -> Result<ObserveVerdict, Failure> {
        let event = Event { id: 8, time_ms: 1_700_000_000_003, client: client(), detail };
        tokio::time::timeout(PATIENCE, self.guest.observe(ASKED, &event)).await.expect("a call ends")
    }
}

#[tokio::test]
async fn the_identity_lets_everything_pass() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let loaded = load(&engine, "identity", "").await.unwrap();
    assert_eq!(loaded.publish().await, Ok(PublishVerdict::Pass));
    let message = Arc::new(message());
    let subscription = Subscription { filter: "a/+".into(), qos: QoS::ExactlyOnce, no_local: true, retain_as_published: false };
    let delivery = Delivery { message: Arc::clone(&message), qos: QoS::AtMostOnce };
    let closing = Closing { reason_code: 0x8e, reason: "taken-over".into() };
    for detail in [
        Detail::ClientConnack(closing.clone()),
        Detail::ClientSubscribe(vec![subscription.clone(), subscription.clone()]),
        Detail::ClientUnsubscribe(vec!["a/+".into(), "b".into()]),
        Detail::SessionCreated,
        Detail::SessionResumed,
        Detail::SessionDiscarded,
        Detail::SessionTakenOver,
        Detail::SessionTerminated(closing),
        Detail::ClientConnect(Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: 0, user_properties: vec![] }),
        Detail::ClientConnected(Connection { clean_start: true, keep_alive_s: 60, session_expiry_s: 0, user_properties: vec![] }),
        Detail::ClientDisconnected(Closing { reason_code: 0, reason: "normal".into() }),
        Detail::SessionSubscribed(subscription.clone()),
        Detail::SessionUnsubscribed(subscription),
        Detail::MessageDelivered(delivery.clone()),
        Detail::MessageAcked(delivery),
        Detail::MessageDropped(Dropping { message: Arc::clone(&message), reason: DropReason::Denied, explanation: "no".into() }),
    ] {
        assert_eq!(loaded.observe(detail.clone()).await, Ok(ObserveVerdict::Pass), "{detail:?}");
    }
    assert_eq!(loaded.observe(Detail::MessagePublish(message)).await, Err(Failure::NotExported("events")));
    assert!(loaded.guest.exports(Kind::Publish) && loaded.guest.exports(Kind::Observe) && !loaded.guest.exports(Kind::Access));
    assert!(loaded.guest.wants(Hook::MessageAcked) && !loaded.guest.wants(Hook::ClientAuthorize));
    assert_eq!(loaded.guest.digest().len(), 64);
    let page = loaded.metrics.render();
    assert!(page.contains("hookgate_guest_calls_total{name=\"identity\"} 17"), "{page}");
}

/// The guest gives back the message with another payload: nothing else may be lost on the way there and back.
#[tokio::test]
async fn a_message_comes_back_as_it_went() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let loaded = hostile(&engine, "change", "").await.unwrap();
    let with_headers = message();
    let plain = Message { properties: None, payload: vec![].into(), publisher_username: None, ..message() };
    for sent in [with_headers, plain] {
        let verdict = loaded.guest.publish(ASKED, &client(), &Arc::new(sent.clone())).await.unwrap();
        let PublishVerdict::Change(changes) = verdict else { panic!("{verdict:?}") };
        assert_eq!(changes.message, Some(Message { payload: "changed".into(), ..sent }));
        assert_eq!(changes.headers, [Header { name: "changed".into(), value: "true".into() }]);
        assert_eq!(changes.records, None);
    }
}

#[tokio::test]
async fn verdicts_arrive_as_they_were_given() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let header = |name: &str| Header { name: name.into(), value: "true".into() };
    let records = vec![
        KafkaRecord { topic: Some("emitted".into()), value: Some("changed".into()), ..KafkaRecord::default() },
        KafkaRecord { value: Some("changed".into()), headers: vec![header("second")], ..KafkaRecord::default() },
    ];
    let emitted = Changes { records: Some(records.clone()), ..Changes::default() };
    let denial = Denial { reason_code: 0x87, reason: "hostile: denied as told".into() };
    let closing = Detail::ClientDisconnected(Closing { reason_code: 0, reason: "normal".into() });
    for (mode, on_publish, on_event) in [
        ("pass", PublishVerdict::Pass, ObserveVerdict::Pass),
        ("emit", PublishVerdict::Change(emitted), ObserveVerdict::Emit(records)),
        ("drop", PublishVerdict::Drop("hostile: dropped as told".into()), ObserveVerdict::Drop("hostile: dropped as told".into())),
        ("deny", PublishVerdict::Deny(denial), ObserveVerdict::Pass),
    ] {
        let loaded = hostile(&engine, mode, "").await.unwrap();
        assert_eq!(loaded.publish().await, Ok(on_publish), "{mode}");
        assert_eq!(loaded.observe(closing.clone()).await, Ok(on_event), "{mode}");
    }
}

#[tokio::test]
async fn misbehaviour_is_a_failure_and_the_guest_goes_on() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    for (mode, limits, reason) in [
        ("loop", "deadline_ms = 10, instances = 1", "deadline"),
        ("block", "deadline_ms = 10, instances = 1", "deadline"),
        ("allocate", "memory_bytes = 4000000, deadline_ms = 60000, instances = 1", "out-of-memory"),
        ("return-64mib", "memory_bytes = 200000000, deadline_ms = 60000, instances = 1", "returned-too-much"),
        ("return-headers", "memory_bytes = 200000000, deadline_ms = 60000, instances = 1", "returned-too-much"),
        ("recurse", "deadline_ms = 60000, instances = 1", "trap"),
        ("trap", "instances = 1", "trap"),
        ("invalid-topic", "instances = 1", "invalid-verdict"),
        ("fault-invalid", "instances = 1", "fault-invalid"),
        ("fault-retry", "instances = 1", "fault-retry"),
        ("fault-internal", "instances = 1", "fault-internal"),
    ] {
        let loaded = hostile(&engine, mode, limits).await.unwrap();
        let closing = Detail::ClientDisconnected(Closing { reason_code: 0, reason: "normal".into() });
        for round in 0..2 {
            let failure = loaded.publish().await.expect_err(mode);
            assert_eq!(failure.reason(), reason, "{mode}, publish, round {round}: {failure}");
            let failure = loaded.observe(closing.clone()).await.expect_err(mode);
            assert_eq!(failure.reason(), reason, "{mode}, event, round {round}: {failure}");
        }
        let page = loaded.metrics.render();
        let counted = format!("hookgate_guest_failures_total{{name=\"hostile\",reason=\"{reason}\"}} 4");
        assert!(page.contains(&counted), "{mode}: {page}");
    }
}

/// It is left alone, tried again, and its state is told to those who wait and to those who look.
#[tokio::test]
async fn the_circuit_to_a_guest_that_fails_opens() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let loaded =
        hostile(&engine, "trap-sometimes", "instances = 1 }\nbreaker = { min_calls = 3, open_for = \"100ms\", probes = 1").await.unwrap();
    let ask = async |payload: &'static str| {
        let message = Message { payload: payload.into(), ..message() };
        loaded.guest.publish(ASKED, &client(), &Arc::new(message)).await.map_err(|failure| failure.reason())
    };
    let page = |line: &str| assert!(loaded.metrics.render().contains(line), "{line}: {}", loaded.metrics.render());
    let mut changes = loaded.guest.circuit_changes();
    page("hookgate_guest_circuit{name=\"hostile\"} 0");
    for payload in ["good", "a trap"] {
        let _ = ask(payload).await;
    }
    assert_eq!((loaded.guest.circuit(), changes.has_changed().unwrap()), (Circuit::Closed, false));
    assert_eq!(ask("a trap").await, Err("trap"));
    changes.changed().await.unwrap();
    assert_eq!((loaded.guest.circuit(), *changes.borrow_and_update()), (Circuit::Open, Circuit::Open));
    page("hookgate_guest_circuit{name=\"hostile\"} 2");
    // Tried again and again until it answers.
    let mut refused = 0;
    while ask("a trap").await == Err("breaker-open") {
        refused += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(loaded.guest.circuit(), Circuit::Open, "the probe failed");
    while ask("good").await == Err("breaker-open") {
        refused += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(loaded.guest.circuit(), Circuit::Closed);
    changes.changed().await.unwrap();
    assert_eq!(*changes.borrow(), Circuit::Closed);
    page("hookgate_guest_circuit{name=\"hostile\"} 0");
    page("hookgate_guest_circuit_openings_total{name=\"hostile\"} 2");
    page(&format!("hookgate_guest_failures_total{{name=\"hostile\",reason=\"breaker-open\"}} {refused}"));
    // A version that leaves service takes its part of the figure along.
    for _ in 0..4 {
        let _ = ask("a trap").await;
    }
    page("hookgate_guest_circuit{name=\"hostile\"} 2");
    let Loaded { guest, metrics } = loaded;
    drop(guest);
    assert!(metrics.render().contains("hookgate_guest_circuit{name=\"hostile\"} 0"));
}

/// The same instance's pool serves before and after.
#[tokio::test]
async fn a_guest_that_traps_sometimes_judges_the_rest() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let loaded = hostile(&engine, "trap-sometimes", "instances = 1").await.unwrap();
    for payload in ["good", "a trap", "good", "a trap", "a trap", "good"] {
        let message = Message { payload: payload.into(), ..message() };
        let verdict = loaded.guest.publish(ASKED, &client(), &Arc::new(message)).await;
        assert_eq!(verdict.as_ref().map_err(Failure::reason), if payload == "good" { Ok(&PublishVerdict::Pass) } else { Err("trap") });
    }
}

#[tokio::test]
async fn a_trap_says_what_the_guest_said() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let loaded = hostile(&engine, "trap", "").await.unwrap();
    let failure = loaded.publish().await.expect_err("it traps").to_string();
    assert!(failure.contains("unreachable") && failure.contains("hostile: trapped as told"), "{failure}");
    assert!(failure.contains("; in ") && failure.contains("hostile"), "functions are named: {failure}");
}

#[tokio::test]
async fn a_flood_of_lines_is_held_back() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    for (mode, least_dropped) in [("log-flood", 9_000), ("stderr-flood", 0)] {
        let loaded = hostile(&engine, mode, "log_lines_per_s = 10, deadline_ms = 60000, host_calls = 10000000").await.unwrap();
        assert_eq!(loaded.publish().await, Ok(PublishVerdict::Pass), "{mode}");
        let dropped = loaded.metrics.guest_log_lines_dropped.get_or_create_owned(&"hostile".into()).get();
        assert!(dropped >= least_dropped, "{mode}: {dropped}");
    }
}

#[tokio::test]
async fn a_guest_that_fails_at_start_is_not_taken() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    for (mode, reason) in [("trap-at-start", "trap"), ("loop-at-start", "deadline"), ("refuse-start", "fault-internal")] {
        let errors = hostile(&engine, mode, "start_deadline_ms = 50").await.err().expect(mode);
        assert!(matches!(&errors[..], [LoadError::Trial(failure)] if failure.reason() == reason), "{mode}: {errors:?}");
    }
}

/// A busy guest takes neither the other tasks' thread nor more instances than it may have.
#[tokio::test(flavor = "current_thread")]
async fn others_go_on_beside_a_loop() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let looping = hostile(&engine, "loop", "deadline_ms = 300, instances = 1, instance_wait_ms = 0").await.unwrap();
    let passing = load(&engine, "identity", "").await.unwrap();
    let looping_call = tokio::spawn(async move {
        let failure = looping.publish().await.expect_err("it loops");
        (looping, failure)
    });
    let mut passed = 0;
    while !looping_call.is_finished() {
        assert_eq!(passing.publish().await, Ok(PublishVerdict::Pass));
        passed += 1;
        tokio::task::yield_now().await;
    }
    let (looping, failure) = looping_call.await.unwrap();
    assert_eq!(failure, Failure::Deadline { limit_ms: 300 });
    assert!(passed > 10, "{passed} calls beside the loop");
    let (first, second) = tokio::join!(looping.publish(), looping.publish());
    assert_eq!((first, second), (Err(Failure::Deadline { limit_ms: 300 }), Err(Failure::NoInstance { waited_ms: 0 })));
}

/// The caller's task may end in the middle of a call.
#[tokio::test]
async fn an_abandoned_call_leaves_the_pool_whole() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let looping = hostile(&engine, "loop", "deadline_ms = 50, instances = 1, instance_wait_ms = 60000").await.unwrap();
    for _ in 0..3 {
        let abandoned = tokio::time::timeout(Duration::from_millis(5), looping.publish()).await;
        assert!(abandoned.is_err());
    }
    assert_eq!(looping.publish().await, Err(Failure::Deadline { limit_ms: 50 }));
}

/// The flagship's command, signed with the key that it names.
fn command(nonce: &str, secret: &[u8]) -> Message {
    let signed = format!("action=unlock&nonce_str={nonce}&process_id=7802441525528958&ts=1700000000");
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), signed.as_bytes());
    let sign: String = tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let payload = format!(
        "{{\"process_id\":\"7802441525528958\",\"action\":\"unlock\",\"nonce_str\":\"{nonce}\",\"ts\":1700000000,\"sign\":\"{sign}\"}}"
    );
    Message { topic: "devices/lock-1/command".into(), payload: payload.into(), ..message() }
}

#[tokio::test]
async fn a_nonce_is_remembered_over_versions() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let (state, metrics) = (State::new(), Metrics::new());
    let (config, keys) = table(
        "[[key]]\nname = \"lock-hmac\"\ntext = \"secret\"\n[[guest]]\nname = \"verify\"\npath = \"x\"\ngrants = [\"settings\", \"crypto\", \"state\"]\nkeys = [\"lock-hmac\"]",
    );
    for (event_id, (nonce, secret, expected)) in (1..).zip([
        ("n1", "secret", None),
        ("n1", "secret", Some("replayed")),
        ("n2", "guessed", Some("bad-signature")),
        ("n2", "secret", None),
        ("n2", "secret", Some("replayed")),
    ]) {
        let component = component("lock_command_verifier");
        let guest = Guest::load(&engine, &config, &keys, component, Arc::clone(&state), &metrics).await.unwrap();
        let verdict = guest
            .publish(Asked { id: event_id, time_ms: 1_700_000_001_000, ..ASKED }, &client(), &Arc::new(command(nonce, secret.as_bytes())))
            .await;
        let verified = Changes { headers: vec![Header { name: "verified".into(), value: "true".into() }], ..Changes::default() };
        let denied = |reason: &str| PublishVerdict::Deny(Denial { reason_code: 0x87, reason: reason.into() });
        assert_eq!(verdict, Ok(expected.map_or(PublishVerdict::Change(verified), denied)), "{nonce} {secret}");
    }
    assert_eq!(state.keys(), 2);
}

#[tokio::test]
async fn what_is_no_guest_is_refused_with_every_reason() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let (config, keys) = table("[[guest]]\nname = \"hostile\"\npath = \"x\"\ngrants = [\"log\"]");
    let refused = async |bytes: &[u8]| {
        let loaded = Guest::load(&engine, &config, &keys, bytes.into(), State::new(), &Metrics::new()).await;
        loaded.expect_err("it is refused")
    };
    assert_eq!(refused(b"\0asm\x01\0\0\0").await, [LoadError::CoreModule]);
    let whole = component("hostile");
    for broken in [&b""[..], b"#!/bin/sh", &whole[..whole.len() / 2]] {
        assert!(matches!(&refused(broken).await[..], [LoadError::Broken(_)]));
    }
    let missing = refused(&component("lock_command_verifier")).await;
    for grant in [Grant::Settings, Grant::State, Grant::Crypto] {
        let import = format!("hookgate:guest/{}@0.1.0", grant.name());
        assert!(missing.contains(&LoadError::Ungranted { import, grant }), "{missing:?}");
    }
    assert_eq!(missing.len(), 3, "{missing:?}");
    // A component without anything inside: the header alone.
    assert_eq!(refused(b"\0asm\x0d\0\x01\0").await, [LoadError::NoHooks]);
}

/// The same walls as around every other call.
#[tokio::test]
async fn questions_about_clients_are_answered_or_fail() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let denial = Answer::Deny(Denial { reason_code: 0x87, reason: "hostile: denied as told".into() });
    for (mode, limits, expected) in [
        ("pass", "", Ok(Answer::Allow)),
        ("deny", "", Ok(denial)),
        ("trap", "", Err("trap")),
        ("loop", "deadline_ms = 10", Err("deadline")),
        ("fault-retry", "", Err("fault-retry")),
        ("invalid-reason-code", "", Err("invalid-verdict")),
        ("return-64mib", "memory_bytes = 200000000, deadline_ms = 60000", Err("returned-too-much")),
    ] {
        let loaded = hostile(&engine, mode, limits).await.unwrap();
        let word = |answer: Result<Answer, Failure>| answer.map_err(|failure| failure.reason());
        assert_eq!(word(loaded.authenticate(b"x").await), expected, "{mode}");
        assert_eq!(word(loaded.authorize(Action::Subscribe(QoS::AtMostOnce), "a/#").await), expected, "{mode}");
    }
    let identity = load(&engine, "identity", "").await.unwrap();
    assert_eq!(identity.authenticate(b"x").await, Err(Failure::NotExported("access")));
    assert!(!identity.guest.knows_methods());
}

#[tokio::test]
async fn an_exchange_is_carried_by_its_memo() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let (config, keys) = table(
        "[[key]]\nname = \"devices\"\ntext = \"secret\"\n[[guest]]\nname = \"example\"\npath = \"x\"\ngrants = [\"crypto\"]\nkeys = [\"devices\"]",
    );
    let guest = Guest::load(&engine, &config, &keys, component("access_example"), State::new(), &Metrics::new()).await.unwrap();
    assert!(guest.knows_methods() && guest.exports(Kind::Access) && !guest.exports(Kind::Publish));
    let client = client();
    let step = async |number, data: Option<&[u8]>, memo: &[u8]| {
        let round = Round { method: "hmac-challenge", data, number, memo, again: false };
        guest.step(ASKED, &client, round).await.unwrap()
    };
    let ExchangeVerdict::Proceed { data: Some(nonce), memo } = step(0, None, b"").await else { panic!("no challenge") };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let mac = ring::hmac::sign(&key, &[b"lock-1", &nonce[..]].concat());
    assert_eq!(step(1, Some(mac.as_ref()), &memo).await, ExchangeVerdict::Allow(Some("welcome".into())));
    assert!(matches!(step(1, Some(mac.as_ref()), b"another nonce").await, ExchangeVerdict::Deny(_)));
    let unknown = Round { method: "SCRAM-SHA-1", data: None, number: 0, memo: b"", again: false };
    assert_eq!(guest.step(ASKED, &client, unknown).await, Ok(ExchangeVerdict::Abstain));
}

/// The pipeline spawns what awaits guests.
#[test]
fn calls_can_move_between_threads() {
    fn sendable<T: Send>(_: impl FnOnce(&'static Guest, &'static Event) -> T) {}
    sendable(|guest, event| guest.observe(ASKED, event));
    fn shared<T: Send + Sync>() {}
    shared::<Guest>();
    shared::<Engine>();
}
