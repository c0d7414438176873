//! What one question to a guest costs: the crossing alone, and the flagship's work. Criterion compares runs; what it does not give, the
//! median and the slowest calls one by one, is printed after it.
//!
//! `cargo xtask guests`, then `cargo bench --bench hook_call --profile dev --config profile.dev.package.hookgate.opt-level=3`; with
//! `-- latency` behind it the second part alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group};
use hdrhistogram::Histogram;
use hookgate::{
    config::{self, Config},
    event::{Client, Delivery, Detail, Event, Header, Message, Properties, QoS},
    guest::{Asked, Engine, Guest, State},
    metrics::Metrics,
};
use ring::hmac;
use tokio::runtime::Runtime;

const TIME_MS: u64 = 1_700_000_001_000;
const SECRET: &str = "secret";
/// Calls that are timed alone.
const CALLS: u64 = 100_000;

fn load(runtime: &Runtime, name: &str) -> Arc<Guest> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release").join(name).with_extension("wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run cargo xtask guests", path.display()));
    let text = format!(
        "listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\nkey = [{{ name = \"lock-hmac\", text = \"{SECRET}\" }}]\n\
         guest = [{{ name = \"{name}\", path = \"x\", grants = [\"settings\", \"crypto\", \"state\"], keys = [\"lock-hmac\"], limits = {{ state_keys = 100000000, state_bytes = 10000000000 }} }}]"
    );
    let (config, problems) = Config::parse(Path::new("bench.toml"), &text);
    assert_eq!(problems, []);
    let (engine, metrics) = (Engine::new(&config::Runtime::default()).unwrap(), Metrics::new());
    let loading = Guest::load(&engine, config.guests.first().unwrap(), &config.keys, bytes.into(), State::new(), &metrics);
    runtime.block_on(loading).unwrap()
}

fn client() -> Client {
    Client {
        client_id: "10083618796833171".into(),
        username: Some("acme-lock".into()),
        peer: "192.0.2.7:51234".parse().unwrap(),
        protocol_version: 5,
        certificate_name: Some("lock-10083618796833171.acme.example".into()),
        connected_at_ms: TIME_MS,
    }
}

fn message(payload: impl Into<bytes::Bytes>, properties: Option<Properties>) -> Arc<Message> {
    Arc::new(Message {
        publisher: "10083618796833171".into(),
        publisher_username: Some("acme-lock".into()),
        topic: "devices/10083618796833171/command".into(),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at_ms: TIME_MS,
        properties: properties.map(Box::new),
        annotations: vec![],
    })
}

/// Properties that make, with the client, the node and the topic, fourteen texts of an event.
fn properties() -> Properties {
    let header = |name: &str| Header { name: name.to_owned().into(), value: "value".into() };
    Properties {
        content_type: Some("application/json".into()),
        response_topic: Some("answers/1".into()),
        user_properties: vec![header("one"), header("two"), header("three")],
        ..Properties::default()
    }
}

/// The flagship's command, with a nonce of its own and a note that makes it `bytes` long, if it is shorter.
fn command(key: &hmac::Key, nonce: u64, bytes: usize) -> String {
    let write = |note: &str| {
        let signed = format!("action=unlock&nonce_str={nonce}&note={note}&process_id=7802441525528958&ts=1700000000");
        let tag = hmac::sign(key, signed.as_bytes());
        let sign: String = tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{{\"process_id\":\"7802441525528958\",\"action\":\"unlock\",\"nonce_str\":\"{nonce}\",\"ts\":1700000000,\"note\":\"{note}\",\"sign\":\"{sign}\"}}")
    };
    write(&"n".repeat(bytes.saturating_sub(write("").len())))
}

/// Asks about each of `messages` in turn, on a task of a runtime with workers, as connections do.
fn time(runtime: &Runtime, guest: &Arc<Guest>, messages: Vec<Arc<Message>>) -> Duration {
    let guest = Arc::clone(guest);
    let asking = runtime.spawn(async move {
        let client = Arc::new(client());
        let began = Instant::now();
        for (message, id) in messages.iter().zip(0..) {
            guest.publish(Asked::new(id, TIME_MS, "node-1"), &client, message).await.unwrap();
        }
        began.elapsed()
    });
    runtime.block_on(asking).unwrap()
}

fn hook_call(criterion: &mut Criterion) {
    let runtime = runtime();
    let identity = load(&runtime, "identity");
    for (name, payload_bytes, properties) in [
        ("188 bytes", 188, None),
        ("1 KiB", 1 << 10, None),
        ("64 KiB", 64 << 10, None),
        ("1 KiB, 14 texts", 1 << 10, Some(properties())),
    ] {
        criterion.bench_function(&format!("publish, identity, {name}"), |bencher| {
            bencher.iter_custom(|rounds| {
                time(&runtime, &identity, vec![message(vec![b'x'; payload_bytes], properties.clone()); rounds as usize])
            });
        });
    }
    criterion.bench_function("message.acked, identity, 188 bytes", |bencher| {
        let delivery = Delivery { message: message(vec![b'x'; 188], None), qos: QoS::AtLeastOnce };
        let event = Event { id: 1, time_ms: TIME_MS, client: Arc::new(client()), detail: Detail::MessageAcked(delivery) };
        bencher.iter_custom(|rounds| {
            let (guest, event) = (Arc::clone(&identity), event.clone());
            let asking = runtime.spawn(async move {
                let began = Instant::now();
                for _ in 0..rounds {
                    guest.observe(Asked::new(1, TIME_MS, "node-1"), &event).await.unwrap();
                }
                began.elapsed()
            });
            runtime.block_on(asking).unwrap()
        });
    });
    let verifier = load(&runtime, "lock_command_verifier");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut nonce = 0;
    for (name, bytes) in [("short", 0), ("1 KiB", 1 << 10)] {
        criterion.bench_function(&format!("publish, lock-command-verifier, {name}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let messages = (0..rounds).map(|_| {
                    nonce += 1;
                    message(command(&key, nonce, bytes), None)
                });
                time(&runtime, &verifier, messages.collect())
            });
        });
    }
}

/// Prints the median and the slowest calls, each timed alone.
fn latency() {
    let runtime = runtime();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let event = message(vec![b'x'; 1 << 10], Some(properties()));
    print_latency(&runtime, "identity, 1 KiB, 14 texts", &load(&runtime, "identity"), vec![event; CALLS as usize]);
    let commands = (0..CALLS).map(|nonce| message(command(&key, nonce, 1 << 10), None));
    print_latency(&runtime, "lock-command-verifier, 1 KiB", &load(&runtime, "lock_command_verifier"), commands.collect());
}

fn print_latency(runtime: &Runtime, name: &str, guest: &Arc<Guest>, messages: Vec<Arc<Message>>) {
    let guest = Arc::clone(guest);
    let asking = runtime.spawn(async move {
        let client = Arc::new(client());
        let mut nanoseconds = Histogram::<u64>::new(3).unwrap();
        for (message, id) in messages.iter().zip(0..) {
            let began = Instant::now();
            guest.publish(Asked { id, time_ms: TIME_MS, node: "node-1" }, &client, message).await.unwrap();
            nanoseconds.record(began.elapsed().as_nanos() as u64).unwrap();
        }
        nanoseconds
    });
    let nanoseconds = runtime.block_on(asking).unwrap();
    let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1000.0;
    println!("{name}: median {:.2} µs, p90 {:.2} µs, p99 {:.2} µs, p99.9 {:.2} µs of {CALLS} calls", us(0.5), us(0.9), us(0.99), us(0.999));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = hook_call
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    latency();
}
