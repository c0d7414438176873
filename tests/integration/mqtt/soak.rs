//! A soak: random clients on real sockets, and books that must balance to the last message.
//!
//! Clients connect, vanish, take over their own connections, say goodbye, subscribe, publish at every QoS, leave acknowledgements out and
//! come back. Every hook is routed to Kafka. At the end everybody is given what it is owed; then what the clients saw, the records of all
//! hooks and the counters are compared, exactly. `HOOKGATE_SOAK=10m` soaks for so long, round after round; `HOOKGATE_SOAK_SEED` repeats the
//! decisions of a round (their interleaving is the machine's).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use hookgate::hook::{Hook, Kind};
use serde_json::Value;

use super::wire::{Connect, Packet, Publish, Wire, packet, properties, text};
use crate::support::{Gate, json, records};

const CLIENTS: usize = 12;
const TOPICS: [&str; 5] = ["s/a/0", "s/a/1", "s/b/0", "s/b/1", "lonely"];
const FILTERS: [&str; 5] = ["s/a/0", "s/+/1", "s/b/#", "s/#", "s/a/+"];
/// Publishes under way, at most.
const WINDOW: usize = 50;
/// Sees everything under `s/`, and always acknowledges.
const AUDITOR: &str = "auditor";

/// What a client received: in which life of its session, and what.
type Seen = (u32, Publish);

#[derive(Default)]
struct Books {
    connected: u64,
    refused: u64,
    resumed: u64,
    seen: Vec<Seen>,
    /// Publishes of QoS 1 and 2 that were acknowledged.
    acknowledged: BTreeMap<String, u8>,
    /// Publishes that were sent more than once.
    resent: BTreeSet<String>,
    /// Wills, and whether they are due.
    wills: BTreeMap<String, bool>,
}

/// A publish that is not finished.
struct Flight {
    id: u16,
    qos: u8,
    payload: String,
    /// The packet, for sending it again.
    bytes: Vec<u8>,
    received: bool,
}

struct Client {
    name: String,
    address: SocketAddr,
    random: Rng,
    level: u8,
    wire: Option<Wire>,
    life: u32,
    next: u32,
    next_id: u16,
    flights: Vec<Flight>,
    received: BTreeSet<u16>,
    will: Option<String>,
    books: Books,
}

impl Client {
    fn new(name: String, address: SocketAddr, seed: u64, level: u8) -> Self {
        let random = Rng::with_seed(seed);
        let (wire, will, books) = (None, None, Books::default());
        let (flights, received) = (Vec::new(), BTreeSet::new());
        Client { name, address, random, level, wire, life: 0, next: 0, next_id: 0, flights, received, will, books }
    }

    async fn live(mut self, calm: Arc<AtomicBool>, quiet: Arc<AtomicBool>) -> Self {
        while !calm.load(Ordering::Relaxed) {
            self.act().await;
            let pause_ms = self.random.u64(5..40);
            self.pump(pause_ms, true).await;
        }
        self.connect(false, 3600, false).await;
        while !quiet.load(Ordering::Relaxed) {
            self.pump(50, false).await;
        }
        self
    }

    async fn audit(mut self, quiet: Arc<AtomicBool>) -> Self {
        self.connect(true, 3600, false).await;
        self.subscribe("s/#", 2).await;
        while !quiet.load(Ordering::Relaxed) {
            self.pump(50, false).await;
        }
        self
    }

    async fn act(&mut self) {
        if self.wire.is_none() {
            let (clean, expiry_s, will) =
                (self.random.u8(..3) == 0, self.random.choice([0, 1, 3600]).unwrap_or(0), self.random.u8(..3) == 0);
            return self.connect(clean, expiry_s, will).await;
        }
        match self.random.u8(..100) {
            0..50 => {
                for _ in 0..self.random.u8(1..6) {
                    self.publish().await;
                }
            }
            50..70 => {
                let (filter, qos) = (self.random.choice(FILTERS).unwrap_or("s/#"), self.random.u8(..3));
                self.subscribe(filter, qos).await;
            }
            70..75 => {
                let filter = self.random.choice(FILTERS).unwrap_or("s/#");
                let given = if self.level == 5 { properties(&[]) } else { Vec::new() };
                let id = self.free_id();
                self.send(&packet(0xA2, &[&id.to_be_bytes(), &given, &text(filter)])).await;
            }
            75..82 => self.lose(), // the socket is dropped, with what was not read
            82..88 => {
                let keep_will = self.level == 5 && self.random.bool();
                self.say_goodbye(keep_will).await;
            }
            88..93 => {
                // The old connection is still up.
                let (old, clean) = (self.wire.take(), self.random.u8(..4) == 0);
                self.owe_will();
                self.connect(clean, 3600, false).await;
                drop(old);
            }
            93..96 => self.try_in_vain().await,
            _ => self.send(&[0xC0, 0]).await,
        }
    }

    async fn connect(&mut self, clean: bool, expiry_s: u32, with_will: bool) {
        self.owe_will();
        self.wire = None;
        let mut connect = Connect { level: self.level, clean, ..Connect::v5(&self.name) };
        if self.level == 5 {
            connect.properties = [&[0x11][..], &expiry_s.to_be_bytes()].concat();
        }
        if with_will {
            let payload = format!("{}.{}.will", self.name, self.next);
            self.next += 1;
            connect.will = Some(("s/a/0".into(), payload.clone().into(), 1, false, Vec::new()));
            self.books.wills.insert(payload.clone(), false);
            self.will = Some(payload);
        }
        let (mut wire, connack) = Wire::connect_at(self.address, connect).await;
        self.books.connected += 1;
        let present = connack.body[0] & 1 == 1;
        self.books.resumed += u64::from(present);
        if !present {
            self.life += 1;
            self.received.clear();
            self.flights.clear();
        }
        for flight in &mut self.flights {
            let bytes = if flight.received {
                [&[0x62, 2][..], &flight.id.to_be_bytes()].concat()
            } else {
                self.books.resent.insert(flight.payload.clone());
                flight.bytes[0] |= 8; // DUP
                flight.bytes.clone()
            };
            wire.try_send(&bytes).await;
        }
        self.wire = Some(wire);
    }

    /// A CONNECT that is refused: its will is for a topic of the server.
    async fn try_in_vain(&mut self) {
        let will = Some(("$SYS/x".into(), Vec::new(), 0, false, Vec::new()));
        let mut wire = Wire::open_at(self.address).await;
        wire.send(&Connect { level: self.level, will, ..Connect::v5(&self.name) }.bytes()).await;
        while wire.receive_or_end().await.is_some() {}
        self.books.refused += 1;
    }

    /// The connection ended, or will, without a goodbye.
    fn owe_will(&mut self) {
        if let Some(will) = self.will.take() {
            self.books.wills.insert(will, true);
        }
    }

    fn lose(&mut self) {
        self.owe_will();
        self.wire = None;
    }

    async fn say_goodbye(&mut self, keep_will: bool) {
        self.send(if keep_will { &[0xE0, 1, 4] } else { &[0xE0, 0] }).await;
        if keep_will {
            self.owe_will();
        }
        self.will = None;
        if let Some(mut wire) = self.wire.take() {
            while wire.receive_or_end().await.is_some() {}
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        if let Some(wire) = &mut self.wire {
            wire.try_send(bytes).await;
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if self.flights.iter().all(|flight| flight.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) {
        let id = self.free_id();
        if let Some(wire) = &mut self.wire {
            let bytes = wire.subscribe_bytes(id, &[], filter, qos);
            wire.try_send(&bytes).await;
        }
    }

    async fn publish(&mut self) {
        let (qos, retain) = (self.random.u8(..3), self.random.u8(..12) == 0);
        if qos > 0 && self.flights.len() >= WINDOW {
            return;
        }
        let topic = self.random.choice(TOPICS).unwrap_or("s/a/0");
        let payload = format!("{}.{}", self.name, self.next);
        self.next += 1;
        let id = if qos > 0 { self.free_id() } else { 0 };
        let given: &[u8] = if self.level == 5 && self.random.u8(..10) == 0 { &[2, 0, 0, 0, 1] } else { &[] };
        let Some(wire) = &mut self.wire else { return };
        let bytes = wire.publish_bytes(qos << 1 | u8::from(retain), id, topic, given, &payload);
        wire.try_send(&bytes).await;
        if qos > 0 {
            self.flights.push(Flight { id, qos, payload, bytes, received: false });
        }
    }

    /// Reads for a while, and answers, or not.
    async fn pump(&mut self, ms: u64, moody: bool) {
        let until = tokio::time::Instant::now() + Duration::from_millis(ms);
        while let Some(wire) = &mut self.wire {
            match tokio::time::timeout_at(until, wire.receive_or_end()).await {
                Ok(Some(packet)) => self.take(&packet, moody).await,
                Ok(None) => self.lose(),
                Err(_) => return,
            }
        }
        tokio::time::sleep_until(until).await;
    }

    async fn take(&mut self, packet: &Packet, moody: bool) {
        let id = packet.body.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
        let code = packet.body.get(2).copied().unwrap_or(0);
        match packet.kind() {
            3 => {
                let publish = packet.publish(self.level == 5);
                let (id, qos) = (publish.id, publish.qos);
                if qos < 2 || self.received.insert(id) {
                    self.books.seen.push((self.life, publish));
                }
                match self.random.u8(..100) {
                    _ if qos == 0 => {}
                    0..15 if moody => {}
                    15..18 if moody && self.level == 5 && qos == 1 => {
                        let [high, low] = id.to_be_bytes();
                        self.send(&[0x40, 3, high, low, 0x97]).await;
                    }
                    _ => self.ack(3 + qos, id).await,
                }
            }
            kind @ (4 | 5 | 7) => {
                let Some(index) = self.flights.iter().position(|flight| flight.id == id) else { return };
                // A PUBREL that is sent again may find its identifier free.
                assert!(code == 0 || code == if kind == 7 { 0x92 } else { 0x10 }, "{}: {packet:x?}", self.name);
                let flight = &mut self.flights[index];
                self.books.acknowledged.insert(flight.payload.clone(), flight.qos);
                flight.received = true;
                if kind == 5 {
                    self.ack(6, id).await;
                } else {
                    self.flights.remove(index);
                }
            }
            6 => {
                self.received.remove(&id);
                self.ack(7, id).await;
            }
            14 => panic!("{}: the broker disconnects: {packet:x?}", self.name),
            _ => {}
        }
    }

    async fn ack(&mut self, kind: u8, id: u16) {
        if let Some(wire) = &mut self.wire {
            let [high, low] = id.to_be_bytes();
            wire.try_send(&[kind << 4 | if kind == 6 { 2 } else { 0 }, 2, high, low]).await;
        }
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One round: the books of all clients.
async fn soak(seed: u64, time: Duration) {
    println!("soaking for {time:?}; the decisions again: HOOKGATE_SOAK_SEED={seed}");
    let hooks = || Hook::ALL.iter().copied().filter(|hook| hook.kind() != Kind::Access);
    let topic = |hook: Hook| hook.name().replace('.', "_"); // the embedded Kafka keeps 5 MB of each
    let route = |hook: Hook| {
        let payload = if hook.name().starts_with("message.") { "payload = \"plain\"\n" } else { "" };
        format!("[[route]]\nhook = \"{hook}\"\ntopic = \"{}\"\n{payload}", topic(hook))
    };
    let tables: String = hooks().map(route).collect();
    let gate = Gate::start(&format!("[mqtt]\nmax_inflight = 16\nmax_queued_messages = 150\n{tables}"), &[]).await;
    let (calm, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let auditor = tokio::spawn(Client::new(AUDITOR.into(), gate.address(), seed, 5).audit(Arc::clone(&quiet)));
    let metrics = gate.bridge.metrics();
    until("the auditor is there", || metrics.subscriptions.get() == 1).await;
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let level = if index % 3 == 0 { 4 } else { 5 };
            let client = Client::new(format!("c{index}"), gate.address(), seed.wrapping_add(index as u64), level);
            tokio::spawn(client.live(Arc::clone(&calm), Arc::clone(&quiet)))
        })
        .collect();
    tokio::time::sleep(time).await;
    calm.store(true, Ordering::Relaxed);
    let count = |hook: Hook| metrics.hook_events.get_or_create(&hook.name().into()).get();
    let online = i64::try_from(CLIENTS).unwrap() + 1;
    let mut before = 0;
    until("everything is delivered and acknowledged", || {
        let sum: u64 = hooks().map(count).sum();
        let still = metrics.connections.get() == online && metrics.records_outstanding.get() == 0 && sum == before;
        before = sum;
        still && count(Hook::ClientConnected) - count(Hook::ClientDisconnected) == u64::try_from(online).unwrap()
    })
    .await;
    // Deliveries to clients make no event until they are answered: a moment for those.
    tokio::time::sleep(Duration::from_millis(500)).await;
    quiet.store(true, Ordering::Relaxed);
    let mut clients = vec![auditor.await.unwrap()];
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    let topics: Vec<String> = hooks().map(topic).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let total: u64 = hooks().map(count).sum();
    let events: Vec<Value> = records(&gate.kafka(), &topics, usize::try_from(total).unwrap()).await.iter().map(json).collect();
    for hook in hooks() {
        let found = events.iter().filter(|event| event["hook"] == hook.name()).count();
        assert_eq!(found as u64, count(hook), "records of {hook}, and its count");
    }
    balance(&clients, &count, metrics.sessions.get());
    deliveries(&clients, &events);
    publishes(&clients, &events);
    let resent: BTreeSet<String> = clients.iter().flat_map(|client| client.books.resent.iter().cloned()).collect();
    for client in &clients {
        sights(client, &resent);
    }
    println!("{total} events of {} clients balance", clients.len());
}

/// Connections and sessions.
fn balance(clients: &[Client], count: &impl Fn(Hook) -> u64, alive: i64) {
    let sum = |of: fn(&Books) -> u64| clients.iter().map(|client| of(&client.books)).sum::<u64>();
    let (connected, refused, resumed) = (sum(|books| books.connected), sum(|books| books.refused), sum(|books| books.resumed));
    assert_eq!(count(Hook::ClientConnect), connected + refused, "connects = connected + refused");
    assert_eq!(count(Hook::ClientConnack), connected + refused);
    assert_eq!(count(Hook::ClientConnected), connected);
    assert_eq!(count(Hook::SessionResumed), resumed);
    assert_eq!(count(Hook::SessionCreated) + resumed, connected, "created + resumed = connected");
    let ended = count(Hook::SessionTerminated) + count(Hook::SessionDiscarded);
    assert_eq!(ended + u64::try_from(alive).unwrap(), count(Hook::SessionCreated), "terminated + discarded + alive = created");
    assert!(resumed > 0 && refused > 0 && count(Hook::SessionTakenOver) > 0 && count(Hook::SessionDiscarded) > 0, "all of it happened");
}

/// Every QoS 1 or 2 delivery was acknowledged, or refused, or its session ended.
fn deliveries(clients: &[Client], events: &[Value]) {
    type Counts = HashMap<(String, String), i64>;
    let (mut open, mut ended, mut delivered): (Counts, Counts, Counts) = Default::default();
    for event in events {
        let (hook, reason) = (event["hook"].as_str().unwrap(), event["reason"].as_str().unwrap_or_default());
        let Some(payload) = event["message"]["payload"].as_str() else { continue };
        let key = (event["client"]["client_id"].as_str().unwrap().to_owned(), payload.to_owned());
        match (hook, reason) {
            ("message.delivered", _) => {
                *delivered.entry(key.clone()).or_default() += 1;
                *open.entry(key).or_default() += i64::from(event["delivery_qos"] != 0);
            }
            ("message.acked", _) | ("message.dropped", "refused") => *open.entry(key).or_default() -= 1,
            ("message.dropped", "session-ended") => *ended.entry(key).or_default() += 1,
            _ => {}
        }
    }
    for (key, open) in open {
        let ended = ended.get(&key).copied().unwrap_or(0);
        assert!(
            (0..=ended).contains(&open),
            "{key:?}: {open} deliveries are neither acknowledged nor refused; dropped with sessions: {ended}"
        );
    }
    for client in clients {
        let mut seen: Counts = Counts::default();
        for (_, publish) in client.books.seen.iter().filter(|(_, publish)| !publish.dup) {
            *seen.entry((client.name.clone(), String::from_utf8(publish.payload.clone()).unwrap())).or_default() += 1;
        }
        for (key, seen) in seen {
            let delivered = delivered.get(&key).copied().unwrap_or(0);
            assert!(seen <= delivered, "{key:?} was seen {seen} times, and delivered {delivered} times");
        }
    }
}

/// Every publish was delivered or dropped with a reason; QoS 2 was published once; wills exactly when they were due.
fn publishes(clients: &[Client], events: &[Value]) {
    let payload = |event: &Value| event["message"]["payload"].as_str().unwrap().to_owned();
    let of = |hook: &'static str| events.iter().filter(move |event| event["hook"] == hook);
    let mut published: HashMap<String, (i64, u64)> = HashMap::new();
    let mut kept = BTreeSet::new();
    for event in of("message.publish") {
        published.entry(payload(event)).or_insert((0, event["message"]["qos"].as_u64().unwrap())).0 += 1;
        if event["message"]["retain"] == true && event["message"]["topic"] == "lonely" {
            kept.insert(payload(event)); // nobody gets it, and it is not lost
        }
    }
    let mut fates: HashMap<String, i64> = HashMap::new();
    for event in of("message.delivered").chain(of("message.dropped")) {
        let to_nobody = event["reason"] == "no-subscribers";
        if to_nobody || event["client"]["client_id"] == AUDITOR {
            *fates.entry(payload(event)).or_default() += 1;
        }
    }
    for (payload, (times, qos)) in &published {
        assert!(*times == 1 || *qos == 1, "{payload} of QoS {qos} was published {times} times");
        let fate = fates.get(payload).copied().unwrap_or(0);
        assert!(
            fate == if kept.contains(payload) { 0 } else { *times },
            "{payload} was published {times} times, and delivered to the auditor or dropped {fate} times"
        );
    }
    for books in clients.iter().map(|client| &client.books) {
        for (payload, qos) in &books.acknowledged {
            assert!(published.contains_key(payload), "{payload} of QoS {qos} was acknowledged, and never published");
        }
        for (payload, due) in &books.wills {
            let times = published.get(payload).map_or(0, |(times, _)| *times);
            assert_eq!(times, i64::from(*due), "will {payload}");
        }
    }
}

/// What one client saw: QoS 2 once in a session's life, and one publisher's messages on one topic in order.
fn sights(client: &Client, resent: &BTreeSet<String>) {
    let mut once = BTreeSet::new();
    let mut last: HashMap<(u32, &str, &str), u32> = HashMap::new();
    for (life, publish) in client.books.seen.iter().filter(|(_, publish)| !publish.retain) {
        let payload = std::str::from_utf8(&publish.payload).unwrap();
        let new = once.insert((*life, payload));
        assert!(new || publish.qos < 2, "{}: {payload} came twice at QoS 2", client.name);
        let mut parts = payload.split('.');
        let (publisher, number, will) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap(), parts.next());
        if !new || publish.dup || will.is_some() || resent.contains(payload) {
            continue;
        }
        let before = last.insert((*life, publisher, &publish.topic), number).unwrap_or(0);
        assert!(before <= number, "{}: {payload} on {} after {publisher}.{before}", client.name, publish.topic);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_balance_whatever_clients_do() {
    const ROUND: Duration = Duration::from_secs(4); // longer, and the embedded Kafka forgets the first records
    let seed = std::env::var("HOOKGATE_SOAK_SEED").ok().map(|seed| seed.parse().expect("HOOKGATE_SOAK_SEED is a number"));
    let Ok(long) = std::env::var("HOOKGATE_SOAK") else { return soak(seed.unwrap_or(1), ROUND).await };
    let minutes: u64 = long.strip_suffix('m').and_then(|minutes| minutes.parse().ok()).expect("HOOKGATE_SOAK is like 10m");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end {
        soak(seed.unwrap_or_else(|| fastrand::u64(..)), ROUND).await;
    }
}
