//! The flagship's replay check outlives the process: the binary is killed between a command and its replay, on the disk and with two
//! processes on one Redis.

mod redis;

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hookgate::config::Config;
use rumqttc::v5::mqttbytes::v5::{PubAck, PubAckReason};

use self::redis::Redis;
use crate::{
    smart_lock,
    support::{Device, KEY, Process, command, configuration, field, guest, json, now_s, records, strip_ansi},
};

const TOPIC: &str = "devices/1/command";

/// `hookgate` with the smart lock's configuration, in a folder that stays.
struct Node {
    process: Option<Process>,
    file: PathBuf,
    address: SocketAddr,
    kafka: String,
    folder: tempfile::TempDir,
}

impl Node {
    /// The verifier's table gets `state`, the whole `tables` more.
    fn start(state: &str, tables: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lock_command_verifier", "low_battery"] {
            fs::copy(guest(name), folder.path().join(format!("{name}.wasm"))).unwrap();
        }
        let file = folder.path().join("hookgate.toml");
        let mut node = Node { process: None, file, address: ([127, 0, 0, 1], 0).into(), kafka: String::new(), folder };
        node.write(state, tables);
        node.begin();
        node
    }

    fn write(&self, state: &str, tables: &str) {
        let lock = smart_lock::tables()
            .replace("path = \"lock_command_verifier.wasm\"", &format!("path = \"lock_command_verifier.wasm\"\n{state}"))
            .replace("max_age_s = 30", "max_age_s = 600");
        let text = configuration("embedded", &format!("{lock}\n{tables}")).replace("[node]", "[node]\ndata_dir = \"data\"");
        fs::write(&self.file, text).unwrap();
    }

    fn begin(&mut self) {
        let mut process = Process::start(&["run", "--config", self.file.to_str().unwrap()]);
        let ready = process.ready();
        self.address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
        self.kafka = field(&ready, "kafka");
        self.process = Some(process);
    }

    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal("KILL");
        process.end();
    }

    fn restart(&mut self) {
        self.kill();
        self.begin();
    }

    async fn app(&self) -> Device {
        Device::connect(self.address, "app").await
    }
}

/// What the answer to a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Accepted,
    Replayed,
    /// The guest could not judge.
    Failed,
}

fn said(ack: &PubAck) -> Said {
    let reason = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    match (ack.reason, reason) {
        (PubAckReason::Success | PubAckReason::NoMatchingSubscribers, _) => Said::Accepted,
        (PubAckReason::NotAuthorized, Some("replayed")) => Said::Replayed,
        (PubAckReason::ImplementationSpecificError, _) => Said::Failed,
        other => panic!("{other:?}"),
    }
}

async fn send(app: &mut Device, nonce: &str, ts_s: u64) -> Said {
    said(&app.publish(TOPIC, command(KEY, "1", nonce, ts_s)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_refused_after_kill_9() {
    let mut node = Node::start("", "");
    let ts_s = now_s();
    assert_eq!(send(&mut node.app().await, "n-1", ts_s).await, Said::Accepted);
    for signal in ["KILL", "TERM"] {
        let process = node.process.take().unwrap();
        process.signal(signal);
        process.end();
        node.begin();
        let mut app = node.app().await;
        assert_eq!(send(&mut app, "n-1", ts_s).await, Said::Replayed, "after {signal}");
        assert_eq!(send(&mut app, signal, ts_s).await, Said::Accepted);
    }
    assert!(node.folder.path().join("data/store").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_refused_by_the_state_that_another_backend_left() {
    let mut node = Node::start("state = { backend = \"memory\" }", "");
    let ts_s = now_s();
    assert_eq!(send(&mut node.app().await, "in memory", ts_s).await, Said::Accepted);
    let reload = |node: &mut Node, state| {
        node.write(state, "");
        let process = node.process.as_mut().unwrap();
        process.signal("HUP");
        // Once for each change, whether the signal or the watch takes it up.
        while !strip_ansi(&process.line("configuration reloaded")).contains("lock-command-verifier") {}
    };
    reload(&mut node, "state = { backend = \"disk\" }");
    let mut app = node.app().await;
    assert_eq!(send(&mut app, "in memory", ts_s).await, Said::Accepted, "the disk has not seen it");
    assert_eq!(send(&mut app, "in memory", ts_s).await, Said::Replayed);
    reload(&mut node, "state = { backend = \"memory\" }");
    reload(&mut node, "state = { backend = \"disk\" }");
    assert_eq!(send(&mut app, "in memory", ts_s).await, Said::Replayed, "the disk still has it");
    node.restart();
    assert_eq!(send(&mut node.app().await, "in memory", ts_s).await, Said::Replayed);
}

/// Ten kills under load: whatever was accepted is refused from then on, and nothing is accepted twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_nonce_is_accepted_twice_over_ten_kills() {
    const DEVICES: usize = 3;
    const COMMANDS: usize = 300;
    let mut node = Node::start("", "");
    let (mut accepted, mut in_flight, ts_s) = (HashSet::new(), 0, now_s());
    for round in 0..10 {
        let nonces: Vec<Vec<String>> =
            (0..DEVICES).map(|device| (0..COMMANDS).map(|number| format!("{round}-{device}-{number}")).collect()).collect();
        let mut devices = Vec::new();
        for (number, nonces) in nonces.iter().enumerate() {
            let mut device = Device::connect(node.address, &format!("app-{number}")).await;
            for nonce in nonces {
                device.send(TOPIC, command(KEY, "1", nonce, ts_s)).await;
            }
            devices.push(device);
        }
        // Some are answered, some are on their way.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..150))).await;
        node.kill();
        tokio::time::sleep(Duration::from_millis(300)).await; // answers that were on their way
        for (device, nonces) in devices.iter_mut().zip(&nonces) {
            let answers = device.answers_so_far();
            in_flight += nonces.len() - answers.len();
            for (nonce, ack) in nonces.iter().zip(answers) {
                assert_eq!(said(&ack), Said::Accepted, "{nonce}");
                assert!(accepted.insert(nonce.clone()), "{nonce} was accepted twice");
            }
        }
        drop(devices);
        node.begin();
        let mut app = node.app().await;
        for nonce in nonces.iter().flatten() {
            app.send(TOPIC, command(KEY, "1", nonce, ts_s)).await;
        }
        for nonce in nonces.iter().flatten() {
            match said(&app.answer().await) {
                Said::Accepted => assert!(accepted.insert(nonce.clone()), "{nonce} was accepted twice"),
                Said::Replayed => {}
                Said::Failed => panic!("{nonce}: the guest could not judge"),
            }
        }
    }
    assert!(in_flight > 0, "every kill came too late");
    let mut app = node.app().await;
    let all: Vec<&String> = accepted.iter().collect();
    for nonce in &all {
        app.send(TOPIC, command(KEY, "1", nonce, ts_s)).await;
    }
    let mut tally = HashMap::new();
    for _ in &all {
        *tally.entry(format!("{:?}", said(&app.answer().await))).or_insert(0) += 1;
    }
    assert_eq!(tally, HashMap::from([("Replayed".to_owned(), all.len())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_their_nonces_in_redis() {
    let Some(redis) = Redis::start() else { return };
    let failed = "[[route]]\nhook = \"message.dropped\"\nreasons = [\"guest-failed\"]\ntopic = \"failed\"\nformat = \"emqx-bridge\"";
    let tables = format!("[redis]\nurl = \"redis://127.0.0.1:{}\"\ntimeout = \"500ms\"\n{failed}", redis.port);
    let start = || Node::start("state = { backend = \"redis\" }", &tables);
    let (mut first, second) = (start(), start());
    let ts_s = now_s();
    let (mut one, mut other) = (first.app().await, second.app().await);
    accept(&mut one, "n-1", ts_s).await;
    assert_eq!(send(&mut other, "n-1", ts_s).await, Said::Replayed);
    assert_eq!(send(&mut other, "n-2", ts_s).await, Said::Accepted);
    assert_eq!(send(&mut one, "n-2", ts_s).await, Said::Replayed);
    drop(one);
    first.kill();
    assert_eq!(send(&mut other, "n-1", ts_s).await, Said::Replayed, "the process that accepted it is dead");
    first.begin();
    let mut one = first.app().await;
    for nonce in ["n-1", "n-2"] {
        assert_eq!(send(&mut one, nonce, ts_s).await, Said::Replayed, "after kill -9");
    }

    let port = redis.port;
    drop(redis);
    assert_eq!(send(&mut one, "n-3", ts_s).await, Said::Failed);
    let report = one.publish("devices/1/state", "{\"battery\":1.5}").await;
    assert!(matches!(report.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers), "others go on: {report:?}");
    let failed = json(&records(&first.kafka, &["failed"], 1).await[0]);
    assert_eq!(failed["explanation"], "guest lock-command-verifier: state-unavailable", "{failed}");
    first.process.as_mut().unwrap().line(&format!("Redis at 127.0.0.1:{port} has not answered within 500ms"));

    let _redis = Redis::start_at(port);
    accept(&mut one, "n-4", ts_s).await;
    assert_eq!(judged(&mut other, "n-4", ts_s).await, Said::Replayed);
}

/// What is said of a command once it can be judged: a Redis that has just been started is given time to come up.
async fn judged(app: &mut Device, nonce: &str, ts_s: u64) -> Said {
    for _ in 0..100 {
        match send(app, nonce, ts_s).await {
            Said::Failed => tokio::time::sleep(Duration::from_millis(100)).await,
            said => return said,
        }
    }
    panic!("the guest never judged");
}

/// Sends a new command. Where it could not be judged at first, its nonce may have been noted nevertheless.
async fn accept(app: &mut Device, nonce: &str, ts_s: u64) {
    let first = send(app, nonce, ts_s).await;
    let said = if first == Said::Failed { judged(app, nonce, ts_s).await } else { first };
    assert!(said == Said::Accepted || (first == Said::Failed && said == Said::Replayed), "{first:?}, {said:?}");
}

#[test]
fn the_documented_configurations_can_be_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/state.md")).unwrap();
    let whole: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|text| text.split("```").next()).collect();
    let whole: Vec<&str> = whole.into_iter().filter(|text| text.contains("[[listener]]")).collect();
    assert_eq!(whole.len(), 2);
    for text in whole {
        let (config, problems) = Config::parse(&root.join("hookgate.toml"), text);
        assert_eq!(problems, [], "{text}");
        assert_eq!(config.guests.len(), 1);
    }
}
