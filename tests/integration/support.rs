//! What the tests share: a Hookgate in this process or as a process of its own, devices on real sockets, and what Kafka holds.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use hookgate::{
    bridge::Bridge,
    config::Config,
    kafka::{Reader, StoredRecord},
};
use ring::hmac;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Event, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Packet, PubAck, Publish},
        },
    },
};
use tokio::sync::mpsc as channel;

/// Long enough for any single step on a slow machine; nothing waits for it when things are well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Answers and messages that a test may leave unread.
const MOST_WAITING: usize = 100_000;

/// The key of the tests and of the example.
pub const KEY: &str = "the key of the tests";

/// A built guest.
pub fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

/// A component of the same behaviour with another digest: a custom section more.
pub fn another_version(component: &[u8], version: u32) -> Vec<u8> {
    let name = format!("v{version}");
    let mut bytes = component.to_vec();
    bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
    bytes.extend(name.as_bytes());
    bytes
}

/// Puts `bytes` at `path` by rename, as careful deployments do.
pub fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// A command as the flagship guest wants it, signed with `key`.
pub fn command(key: &str, process_id: &str, nonce: &str, ts_s: u64) -> String {
    let text = format!("action=unlock&nonce_str={nonce}&process_id={process_id}&ts={ts_s}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes());
    let sign: String = tag.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!(r#"{{"process_id":"{process_id}","action":"unlock","nonce_str":"{nonce}","ts":{ts_s},"sign":"{sign}"}}"#)
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    hookgate::event::now_ms() / 1000
}

/// A Hookgate in this process, with a folder of its own.
pub struct Gate {
    pub bridge: std::sync::Arc<Bridge>,
    pub folder: tempfile::TempDir,
    pub file: PathBuf,
    follow: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// Starts on `tables` behind a listener on a free port and an embedded Kafka; guests named in `copies` are copied to its folder.
    pub async fn start(tables: &str, copies: &[&str]) -> Gate {
        Gate::start_on("embedded", tables, copies).await
    }

    /// The same on the Kafka at `servers`.
    pub async fn start_on(servers: &str, tables: &str, copies: &[&str]) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        for name in copies {
            fs::copy(guest(name), folder.path().join(format!("{name}.wasm"))).unwrap();
        }
        let file = folder.path().join("hookgate.toml");
        fs::write(&file, configuration(servers, tables)).unwrap();
        let config = Config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let bridge = std::sync::Arc::new(Bridge::start(config).await.unwrap());
        let (following, followed) = (std::sync::Arc::clone(&bridge), file.clone());
        let follow = tokio::spawn(async move { following.follow(&followed).await });
        Gate { bridge, folder, file, follow }
    }

    pub fn address(&self) -> SocketAddr {
        self.bridge.addresses()[0].1
    }

    pub fn kafka(&self) -> String {
        self.bridge.embedded_kafka().unwrap()
    }

    /// How often a guest's new version came into service.
    pub fn swaps(&self, guest: &str) -> u64 {
        self.bridge.metrics().guest_swaps.get_or_create(&guest.into()).get()
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Gate) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

/// A whole configuration around `tables`.
pub fn configuration(servers: &str, tables: &str) -> String {
    format!("[node]\nname = \"n1\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{servers}\"\n{tables}\n")
}

/// A device on a real socket, MQTT 5 by rumqttc.
pub struct Device {
    client: AsyncClient,
    acks: channel::Receiver<PubAck>,
    messages: channel::Receiver<Publish>,
    subscribed: channel::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Device {
    pub async fn connect(address: SocketAddr, id: &str) -> Device {
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(60)).set_credentials("app", "");
        let (client, mut connection) = AsyncClient::new(options, 4096);
        let (ack_in, acks) = channel::channel(MOST_WAITING);
        let (message_in, messages) = channel::channel(MOST_WAITING);
        let (subscribed_in, subscribed) = channel::channel(MOST_WAITING);
        let (connected_in, mut connected) = channel::channel(MOST_WAITING);
        let task = tokio::spawn(async move {
            loop {
                match connection.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => drop(connected_in.send(()).await),
                    Ok(Event::Incoming(Packet::PubAck(ack))) => drop(ack_in.send(ack).await),
                    Ok(Event::Incoming(Packet::Publish(publish))) => drop(message_in.send(publish).await),
                    Ok(Event::Incoming(Packet::SubAck(_) | Packet::UnsubAck(_))) => drop(subscribed_in.send(()).await),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => return, // or the client would connect again
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        tokio::time::timeout(PATIENCE, connected.recv()).await.expect("CONNACK").unwrap();
        Device { client, acks, messages, subscribed, task }
    }

    /// Publishes at QoS 1 and waits for the answer.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> PubAck {
        self.send(topic, payload).await;
        self.answer().await
    }

    /// Publishes at QoS 1.
    pub async fn send(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.into()).await.unwrap();
    }

    /// The next PUBACK.
    pub async fn answer(&mut self) -> PubAck {
        tokio::time::timeout(PATIENCE, self.acks.recv()).await.expect("a PUBACK").unwrap()
    }

    /// The PUBACKs that are there already.
    pub fn answers(&mut self) -> usize {
        std::iter::from_fn(|| self.acks.try_recv().ok()).count()
    }

    /// The PUBACKs that are there already, in their order.
    pub fn answers_so_far(&mut self) -> Vec<PubAck> {
        std::iter::from_fn(|| self.acks.try_recv().ok()).collect()
    }

    pub async fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        tokio::time::timeout(PATIENCE, self.subscribed.recv()).await.expect("SUBACK").unwrap();
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).await.unwrap();
        tokio::time::timeout(PATIENCE, self.subscribed.recv()).await.expect("UNSUBACK").unwrap();
    }

    /// The next message.
    pub async fn message(&mut self) -> Publish {
        tokio::time::timeout(PATIENCE, self.messages.recv()).await.expect("a message").unwrap()
    }

    /// The messages that are there already.
    pub fn messages(&mut self) -> Vec<Publish> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }

    pub async fn disconnect(self) {
        self.client.disconnect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads `topics` until there are `count` records, and a moment longer so that one too many is seen.
pub async fn records(kafka: &str, topics: &[&str], count: usize) -> Vec<StoredRecord> {
    let (kafka, topics) = (kafka.to_owned(), topics.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>());
    let read = move || {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let reader = Reader::open(&kafka, &topics, PATIENCE).unwrap();
        let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while found.len() < count && Instant::now() < deadline {
            found.extend(reader.next(Duration::from_millis(100)).unwrap());
        }
        while let Some(more) = reader.next(Duration::from_millis(300)).unwrap() {
            found.push(more);
        }
        found
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// The JSON of a record's value.
pub fn json(record: &StoredRecord) -> serde_json::Value {
    serde_json::from_slice(&record.value).unwrap_or_else(|error| panic!("{error}: {:?}", record.value))
}

/// `hookgate` as a process of its own.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: VecDeque<String>,
}

impl Process {
    /// Starts `hookgate` with `arguments`; its log is read line by line.
    pub fn start(arguments: &[&str]) -> Process {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_hookgate")).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (line_in, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(line_in.send(line))));
        Process { child, lines, seen: VecDeque::new() }
    }

    /// Waits for a log line that contains `words`.
    pub fn line(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => self.seen.push_back(line),
                Err(error) => panic!("no line with {words:?} ({error}); seen: {:#?}", self.seen),
            }
        }
    }

    /// The value of `field=` in the `ready` line.
    pub fn ready(&mut self) -> String {
        strip_ansi(&self.line("ready"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log lines that nobody has looked at, and those that were passed over.
    pub fn lines(&mut self) -> Vec<String> {
        self.seen.drain(..).chain(self.lines.try_iter()).collect()
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end; the exit code.
    pub fn end(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "hookgate does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without terminal colours.
pub fn strip_ansi(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The word after `name=` in a log line.
pub fn field(line: &str, name: &str) -> String {
    let after = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}")).1;
    after.trim_matches('"').split([' ', '"']).next().unwrap_or_default().to_owned()
}
