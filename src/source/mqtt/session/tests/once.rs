//! Repetitions of what some cluster must have once: over reconnects, and over deaths of the process at every moment, against a model of
//! the way to Kafka.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{
    event::{Knowledge, Origin},
    store::{Change, Image, Intent, Store, StoredSession, Ticket},
};

const QOS1: QoS = QoS::AtLeastOnce;
const QOS2: QoS = QoS::ExactlyOnce;
const ONCE: Wanted = Wanted { delivered: false, acked: false, authorize: false, once: true };
const KAFKA: Text = Text::from_static("kafka");
/// Identifiers of the client: so few that each is used again soon.
const IDS: u16 = 6;

fn desk() -> Desk {
    let mut desk = Desk::new(Protocol::V5);
    desk.session.keep_in(Some(&Store::detached()));
    desk
}

fn again(qos: QoS, id: u16, topic: &str, dup: bool) -> Incoming {
    let Incoming::Publish(publish) = publish(qos, id, topic) else { unreachable!("it is one") };
    Incoming::Publish(Box::new(Publish { dup, ..*publish }))
}

#[test]
fn a_repetition_is_answered_and_not_published() {
    for qos in [QOS1, QOS2] {
        let answer = if qos == QOS1 { "PUBACK 1 0x00" } else { "PUBREC 1 0x00" };
        let mut desk = desk();
        assert_eq!(desk.take_as(again(qos, 1, "a", false), ONCE).unwrap(), ["publish a"]);
        desk.reconnect(connect(Protocol::V5));
        assert_eq!(desk.take_as(again(qos, 1, "a", true), ONCE).unwrap(), [""; 0], "it is under way");
        assert_eq!(desk.take_as(again(qos, 1, "a", true), ONCE).unwrap(), [""; 0], "and was claimed");
        desk.store("a");
        assert_eq!(desk.advance().unwrap(), [answer]);
        desk.reconnect(connect(Protocol::V5));
        assert_eq!(desk.take_as(again(qos, 1, "a", true), ONCE).unwrap(), [answer], "the answer was lost");
    }
}

#[test]
fn an_answer_that_nobody_could_be_told_is_kept() {
    let mut desk = desk();
    desk.take_as(again(QOS1, 1, "a", false), ONCE).unwrap();
    desk.take_as(again(QOS1, 2, "b", false), ONCE).unwrap();
    desk.session.detach();
    desk.store("a");
    desk.settle("b", Verdict::Denied(crate::event::Denial { reason_code: reason::NOT_AUTHORIZED, reason: "no".into() }), Outcome::Stored);
    desk.session.catch_up();
    desk.session.attach(&client("device"), &terms(connect(Protocol::V5)), &Arc::default());
    assert_eq!(desk.take_as(again(QOS1, 1, "a", true), ONCE).unwrap(), ["PUBACK 1 0x00"]);
    assert_eq!(desk.take_as(again(QOS1, 2, "b", true), ONCE).unwrap(), ["PUBACK 2 0x87 no"]);
}

#[test]
fn other_messages_are_published() {
    let mut desk = desk();
    desk.take_as(again(QOS1, 1, "a", false), ONCE).unwrap();
    desk.store("a");
    desk.advance().unwrap();
    assert_eq!(desk.take_as(again(QOS1, 1, "a", false), ONCE).unwrap(), ["publish a"], "the client has its PUBACK");
    desk.store("a");
    desk.advance().unwrap();
    assert_eq!(desk.take_as(again(QOS1, 1, "b", true), ONCE).unwrap(), ["publish b"]);
    desk.settle("b", ACCEPTED, unknown());
    assert_eq!(desk.advance().map_err(|fault| fault.code), Err(reason::IMPLEMENTATION_SPECIFIC));
    desk.reconnect(connect(Protocol::V5));
    assert_eq!(desk.take_as(again(QOS1, 1, "b", true), ONCE).unwrap(), ["publish b"], "it was not stored");
    let (_, _, receipt) = desk.published.first().unwrap();
    assert_eq!(receipt.origin().map(|origin| origin.id), Some(1));
}

#[test]
fn nothing_is_remembered_where_nobody_asks_or_nothing_can_be_resumed() {
    let mut plain = desk();
    plain.take_as(again(QOS1, 1, "a", false), EVERYTHING).unwrap();
    let mut fleeting = Desk::with(Connect { session_expiry_s: 0, ..connect(Protocol::V5) }, Mqtt::default());
    fleeting.session.keep_in(Some(&Store::detached()));
    fleeting.take_as(again(QOS1, 1, "a", false), ONCE).unwrap();
    for desk in [plain, fleeting] {
        assert!(desk.published.iter().all(|(_, _, receipt)| receipt.origin().is_none()));
    }
}

#[test]
fn the_store_forgets_before_an_identifier_is_free() {
    let mut desk = desk();
    desk.take_as(again(QOS2, 9, "a", false), ONCE).unwrap();
    let origin = Arc::clone(desk.published[0].2.origin().unwrap());
    origin.is_underway(&KAFKA);
    desk.store("a");
    desk.advance().unwrap();
    assert_eq!(desk.give(Incoming::PubRel(ack(9))), ["persist Released", "persist Forgotten", "barrier", "PUBCOMP 9 0x00"]);
}

/// What the client has under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    payload: u64,
    qos: QoS,
    released: bool,
}

/// Kafka: the payloads that were committed, in order, and the marker that was committed with them.
#[derive(Default)]
struct Kafka {
    payloads: Vec<u64>,
    marker: u64,
}

/// Publishes of an open transaction, its last intent, and what must be committed in the store before it.
type Transaction = (Vec<(u64, Receipt)>, u64, Ticket);

struct World {
    image: Image,
    kafka: Kafka,
    // The process.
    store: Store,
    session: Session,
    found: u64,
    next_number: u64,
    queue: VecDeque<(u64, Receipt)>,
    open: Option<Transaction>,
    last: Ticket,
    gate: Ticket,
    to_client: VecDeque<(Ticket, Outgoing)>,
    // The client.
    to_server: VecDeque<Incoming>,
    flights: BTreeMap<u64, (u16, Flight)>,
    next_payload: u64,
    next_id: u16,
    done: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let store = Store::detached();
        let mut session = Session::new(1, &client("device"), &terms(connect(Protocol::V5)), &Arc::default());
        session.keep_in(Some(&store));
        store.add(Change::Session(Box::new(session.state(None))));
        let mut world = World {
            image: Image::default(),
            kafka: Kafka::default(),
            store,
            session,
            found: 0,
            next_number: 1,
            queue: VecDeque::new(),
            open: None,
            last: Ticket::default(),
            gate: Ticket::default(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            flights: BTreeMap::new(),
            next_payload: 1,
            next_id: 0,
            done: Vec::new(),
        };
        world.store.commit_into(&mut world.image);
        world
    }

    /// The client publishes something new.
    fn publish(&mut self, qos: QoS) {
        let free = (1..=IDS).map(|step| (self.next_id + step) % IDS + 1).find(|id| self.flights.values().all(|(used, _)| used != id));
        let Some(id) = free.filter(|_| self.flights.len() < 4) else { return };
        (self.next_id, self.next_payload) = (id, self.next_payload + 1);
        let flight = Flight { payload: self.next_payload, qos, released: false };
        self.flights.insert(flight.payload, (id, flight));
        self.send(id, flight, false);
    }

    fn send(&mut self, id: u16, flight: Flight, dup: bool) {
        let packet = if flight.released { Incoming::PubRel(ack(id)) } else { again(flight.qos, id, &flight.payload.to_string(), dup) };
        self.to_server.push_back(packet);
    }

    /// The client takes an answer.
    fn receive(&mut self) {
        let committed = *self.store.commits().borrow();
        let Some((_, packet)) = self.to_client.pop_front_if(|(gate, _)| *gate <= committed) else { return };
        let (id, is_end) = match &packet {
            Outgoing::PubAck(ack) | Outgoing::PubComp(ack) => (ack.id, true),
            Outgoing::PubRec(ack) => (ack.id, false),
            other => panic!("unexpected {other:?}"),
        };
        let Some((payload, (_, flight))) = self.flights.iter().find(|(_, (used, _))| *used == id).map(|(key, value)| (*key, *value)) else {
            return; // an answer again
        };
        if is_end {
            self.flights.remove(&payload);
            self.done.push(payload);
        } else {
            let flight = Flight { released: true, ..flight };
            self.flights.insert(payload, (id, flight));
            self.send(id, flight, false);
        }
    }

    /// The process takes a packet and does what follows.
    fn take(&mut self) {
        let mut out = Vec::new();
        if let Some(packet) = self.to_server.pop_front() {
            self.session.handle(packet, 0, ONCE, &mut out).expect("no fault");
        }
        self.session.advance(0, 1000, ONCE, &mut out).expect("no fault");
        for output in out {
            match output {
                Output::Persist(change) => self.last = self.store.add(change),
                Output::Barrier => self.gate = self.last,
                Output::Send(packet) => self.to_client.push_back((self.gate, packet)),
                Output::Publish { message, number, receipt, trace } => self.lane(&message, number.expect("it has one"), receipt, trace),
                _ => {}
            }
        }
    }

    fn lane(&mut self, message: &Message, number: u64, receipt: Receipt, trace: Trace) {
        if let Trace::With(change) = trace {
            let mut batch = self.store.batch();
            batch.add(change);
            batch.share(receipt.clone());
        }
        let has = |origin: &Arc<Origin>| match origin.knows(&KAFKA) {
            Some(Knowledge::Former(number)) => number <= self.found,
            Some(Knowledge::Stored) => true,
            Some(Knowledge::Underway) | None => false,
        };
        if !receipt.origin().is_some_and(has) {
            self.queue.push_back((message.topic.parse().expect("a number"), receipt.clone()));
        }
        receipt.settle(Outcome::Stored);
        self.session.decided(number, ACCEPTED);
    }

    fn begin(&mut self) {
        if self.open.is_some() || self.queue.is_empty() {
            return;
        }
        let batch: Vec<_> = self.queue.drain(..).collect();
        let mut changes = self.store.batch();
        for (_, receipt) in &batch {
            let origin = receipt.origin().expect("it has one");
            origin.is_underway(&KAFKA);
            let intent = Intent { id: origin.id, cluster: KAFKA, number: self.next_number, digest: origin.digest };
            changes.add(Change::Intended(1, Box::new(intent)));
            self.next_number += 1;
        }
        self.open = Some((batch, self.next_number - 1, changes.ticket()));
    }

    /// Commits what is open, if it is durable; whether the process lives to see it.
    fn commit(&mut self, survives: bool) {
        let Some((batch, marker, _)) = self.open.take_if(|(.., ticket)| self.store.has_committed(*ticket)) else { return };
        self.kafka.payloads.extend(batch.iter().map(|(payload, _)| *payload));
        self.kafka.marker = marker;
        if survives {
            for (_, receipt) in batch {
                receipt.origin().expect("it has one").is_stored(&KAFKA);
                receipt.settle(Outcome::Stored);
            }
        } else {
            self.crash();
        }
    }

    fn disconnect(&mut self) {
        self.session.catch_up();
        self.session.detach();
        self.come_back();
    }

    fn crash(&mut self) {
        let stored = self.image.restore();
        self.found = self.kafka.marker;
        self.next_number = stored.intents().map(|(_, intent)| intent.number).max().unwrap_or(0).max(self.found) + 1;
        self.store = Store::detached();
        for (session, intent) in stored.intents().filter(|(_, intent)| intent.number > self.found) {
            self.store.add(Change::Forgotten(session, intent.id, intent.cluster.clone()));
        }
        let [session] = <[StoredSession; 1]>::try_from(stored.sessions).expect("one session");
        self.session = Session::restore(session, &Arc::default(), Some(&self.store)).0;
        (self.open, self.last, self.gate) = (None, Ticket::default(), Ticket::default());
        self.queue.clear();
        self.come_back();
    }

    fn come_back(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
        self.session.attach(&client("device"), &terms(connect(Protocol::V5)), &Arc::default());
        self.session.keep_in(Some(&self.store));
        for (id, flight) in self.flights.values().copied().collect::<Vec<_>>() {
            self.send(id, flight, true);
        }
    }

    fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.to_server.is_empty() && self.to_client.is_empty()
    }
}

#[test]
fn whatever_the_moment_of_a_crash_every_message_is_stored_once_and_in_order() {
    let (mut crashes, mut stored) = (0, 0);
    for seed in 0..400 {
        let (mut random, mut world) = (fastrand::Rng::with_seed(seed), World::new());
        for _ in 0..500 {
            match random.u8(..100) {
                0..20 => world.publish(if random.bool() { QOS1 } else { QOS2 }),
                20..45 => world.take(),
                45..60 => world.receive(),
                60..75 => drop(world.store.commit_into(&mut world.image)),
                75..83 => world.begin(),
                83..92 => world.commit(true),
                92..94 => world.commit(false),
                94..97 => world.disconnect(),
                _ => {
                    world.crash();
                    crashes += 1;
                }
            }
        }
        for _ in 0..200 {
            world.take();
            world.begin();
            world.store.commit_into(&mut world.image);
            world.commit(true);
            world.receive();
        }
        assert!(world.is_quiet(), "seed {seed}");
        assert!(world.kafka.payloads.is_sorted_by(|one, other| one < other), "seed {seed}: {:?}", world.kafka.payloads);
        world.done.sort_unstable();
        assert_eq!(world.done, world.kafka.payloads, "seed {seed}");
        stored += world.done.len();
    }
    assert!(crashes > 1_000 && stored > 5_000, "{crashes} {stored}");
}
