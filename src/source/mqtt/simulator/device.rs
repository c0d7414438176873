//! A simulated device: it connects, publishes at every QoS, subscribes, acknowledges late and out of order, resends after it came back,
//! leaves with and without a word, and comes again while its old connection is still up.

mod inbox;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    ledger::{GROUP, Key, Ledger, WILL},
    stage::{Event, Stage},
    wire::{self, Ack, Connect, Publish},
};

/// Publishes that a device without a receive maximum has under way.
const WINDOW: u16 = 20;
/// How long a device waits for an answer, milliseconds.
const PATIENCE_MS: u64 = 30_000;
/// Its mean pause between two acts, milliseconds.
const PAUSE_MS: u64 = 300_000;

/// A publish that the broker has not finished with.
struct Flight {
    key: Key,
    publish: Publish,
    /// PUBREC came: PUBREL is left.
    received: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Away,
    Connecting,
    In,
}

/// One device.
pub(super) struct Device {
    pub(super) index: usize,
    five: bool,
    /// 0: its sessions end with their connections.
    expiry_s: u32,
    receive_maximum: u16,
    max_packet_bytes: u32,
    state: State,
    link: Option<u64>,
    input: Vec<u8>,
    incarnation: u64,
    next_key: u32,
    next_id: u16,
    flights: VecDeque<Flight>,
    /// QoS 2 deliveries received, by packet identifier, until PUBREL.
    received: BTreeSet<u16>,
    /// Deliveries of this connection that it has not finished.
    unfinished: BTreeSet<u16>,
    filters: BTreeMap<String, u16>,
    window: u16,
    unanswered: BTreeSet<u16>,
    heard_ms: u64,
}

impl Device {
    pub(super) fn new(index: usize, stage: &mut Stage) -> Self {
        let five = stage.rng.u32(0..3) > 0;
        let forever = if five { 3000 } else { u32::MAX };
        let expiry_s = match stage.rng.u32(0..10) {
            0..3 => 0,
            3..6 if five => stage.rng.u32(10..600),
            _ => forever,
        };
        Device {
            index,
            five,
            expiry_s,
            receive_maximum: if five { stage.rng.u16(1..10) } else { u16::MAX },
            max_packet_bytes: if five && stage.rng.u32(0..8) == 0 { 200 } else { 1 << 20 },
            state: State::Away,
            link: None,
            input: Vec::new(),
            incarnation: 0,
            next_key: 0,
            next_id: stage.rng.u16(..),
            flights: VecDeque::new(),
            received: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            filters: BTreeMap::new(),
            window: WINDOW,
            unanswered: BTreeSet::new(),
            heard_ms: 0,
        }
    }

    /// Does something, and says when it will do something again.
    pub(super) fn act(&mut self, stage: &mut Stage, ledger: &mut Ledger) {
        if stage.calm {
            return;
        }
        let pause_ms = stage.rng.u64(1..2 * PAUSE_MS);
        stage.after(pause_ms, Event::Act(self.index));
        match (self.state, stage.rng.u32(0..100)) {
            (State::Away, _) => self.connect(stage, ledger),
            (State::Connecting, 0..50) => self.connect(stage, ledger),
            (State::Connecting, _) => {}
            (State::In, 0..45) => {
                for _ in 0..stage.rng.u32(1..4) {
                    self.publish(stage, ledger);
                }
            }
            (State::In, 45..65) => self.subscribe(stage),
            (State::In, 65..70) => self.unsubscribe(stage),
            (State::In, 70..76) => self.say_goodbye(stage),
            (State::In, 76..84) => self.hang_up(stage),
            (State::In, 84..90) => self.connect(stage, ledger), // the old connection is still up
            (State::In, 90..94) => self.link.into_iter().for_each(|link| stage.kill(link)),
            (State::In, _) => self.send(stage, &[0xC0, 0]),
        }
        self.doubt_later(stage);
    }

    /// Comes back, whatever it was doing, over a link that is good.
    pub(super) fn come_back(&mut self, stage: &mut Stage, ledger: &mut Ledger) {
        self.hang_up(stage);
        self.connect(stage, ledger);
    }

    fn connect(&mut self, stage: &mut Stage, ledger: &mut Ledger) {
        let link = stage.connect(self.index);
        self.link = Some(link);
        self.state = State::Connecting;
        self.input.clear();
        self.unfinished.clear();
        self.unanswered.clear();
        let will = stage.mishap(30).then(|| {
            let qos = stage.rng.u8(0..3);
            let (_, publish) = self.message(stage, WILL, ledger);
            (Publish { qos, retain: false, ..publish }, if self.five { stage.rng.u32(0..100) } else { 0 })
        });
        let clean = self.expiry_s == 0 || stage.mishap(10);
        let connect = Connect {
            five: self.five,
            client_id: format!("d{}", self.index),
            clean,
            keep_alive_s: if stage.calm { 0 } else { 300 },
            // A clean session of 3.1.1 has no expiry.
            expiry_s: self.expiry_s,
            receive_maximum: self.receive_maximum,
            max_packet_bytes: self.max_packet_bytes,
            will,
        };
        stage.up(link, Some(&connect.bytes()));
        self.doubt_later(stage);
    }

    fn send(&mut self, stage: &mut Stage, bytes: &[u8]) {
        if let Some(link) = self.link {
            stage.up(link, Some(bytes));
        }
    }

    fn hang_up(&mut self, stage: &mut Stage) {
        if let Some(link) = self.link.take() {
            stage.up(link, None);
        }
        self.state = State::Away;
    }

    fn say_goodbye(&mut self, stage: &mut Stage) {
        let code = if stage.rng.bool() { 0 } else { 4 };
        let expiry_s = (self.expiry_s > 0 && stage.rng.u32(0..4) == 0).then(|| stage.rng.u32(0..100));
        self.send(stage, &wire::disconnect(self.five, code, expiry_s));
        self.hang_up(stage);
    }

    fn doubt_later(&mut self, stage: &mut Stage) {
        if let Some(link) = self.link.filter(|_| !stage.calm) {
            stage.after(PATIENCE_MS, Event::Doubt(self.index, link));
        }
    }

    /// It hung up, or was hung up on, or has waited for too long.
    pub(super) fn doubt(&mut self, link: u64, stage: &mut Stage) {
        if self.link == Some(link) && !stage.calm && stage.now_ms - self.heard_ms >= PATIENCE_MS {
            // Sometimes it forgets to close.
            if stage.rng.bool() {
                self.hang_up(stage);
            }
            (self.link, self.state) = (None, State::Away);
        }
    }

    /// A new message, about its group's topics.
    fn message(&mut self, stage: &mut Stage, qos: u8, ledger: &mut Ledger) -> (Key, Publish) {
        let key = (self.index, self.next_key);
        self.next_key += 1;
        ledger.published(key, qos);
        let padding = if stage.rng.u32(0..10) == 0 { 300 } else { stage.rng.usize(0..20) };
        let publish = Publish {
            topic: format!("g{}/{}/{}", self.index / GROUP, stage.rng.choice(["a", "b", "c"]).unwrap_or("a"), stage.rng.u8(0..2)),
            payload: format!("{}.{}.{}", key.0, key.1, "x".repeat(padding)).into_bytes(),
            expiry_s: (self.five && stage.rng.u32(0..6) == 0).then(|| stage.rng.u32(1..300)),
            ..Publish::default()
        };
        (key, publish)
    }

    fn publish(&mut self, stage: &mut Stage, ledger: &mut Ledger) {
        let qos = stage.rng.u8(0..3);
        if qos > 0 && self.flights.len() >= usize::from(self.window) {
            return;
        }
        let (key, mut publish) = self.message(stage, qos, ledger);
        publish.qos = qos;
        publish.retain = stage.rng.u32(0..6) == 0;
        if qos == 0 && publish.retain && stage.rng.u32(0..4) == 0 {
            publish.payload.clear(); // clears what is retained
        }
        if qos > 0 {
            publish.id = self.free_id();
            self.flights.push_back(Flight { key, publish: publish.clone(), received: false });
        }
        self.send(stage, &publish.bytes(self.five));
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let taken = self.flights.iter().any(|flight| flight.publish.id == self.next_id);
            if !taken && !self.unanswered.contains(&self.next_id) {
                return self.next_id;
            }
        }
    }

    fn filter(&self, stage: &mut Stage) -> String {
        let rng = &mut stage.rng;
        let level = rng.choice(["a", "b", "c", "+"]).unwrap_or("+");
        let group = self.index / GROUP;
        match rng.u32(0..10) {
            0..6 => format!("g{group}/{level}/{}", rng.choice(["0", "1", "+"]).unwrap_or("+")),
            6..9 => format!("g{group}/{level}/#"),
            _ => format!("g{group}/#"),
        }
    }

    fn subscribe(&mut self, stage: &mut Stage) {
        let (filter, id) = (self.filter(stage), self.free_id());
        let rng = &mut stage.rng;
        let mut options = rng.u8(0..3);
        if self.five {
            options |= u8::from(rng.u32(0..5) == 0) << 2 | u8::from(rng.u32(0..5) == 0) << 3 | rng.u8(0..3) << 4;
        }
        let subscription_id = (self.five && rng.bool()).then(|| rng.u32(1..1000));
        self.unanswered.insert(id);
        self.filters.insert(filter.clone(), id);
        let bytes = wire::subscribe(self.five, id, &filter, options, subscription_id);
        self.send(stage, &bytes);
    }

    fn unsubscribe(&mut self, stage: &mut Stage) {
        let Some((filter, _)) = self.filters.pop_first() else { return };
        let id = self.free_id();
        self.unanswered.insert(id);
        self.send(stage, &wire::unsubscribe(self.five, id, &filter));
    }

    /// What its session still waits for, in words.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let flights = self.flights.iter().map(|flight| format!("publish {:?}, received: {}", flight.publish, flight.received));
        let received = self.received.iter().map(|id| format!("delivery {id}, PUBREL is missing"));
        flights.chain(received).chain(self.unfinished.iter().map(|id| format!("delivery {id}"))).collect()
    }
}

impl Flight {
    fn again(&mut self, five: bool) -> Vec<u8> {
        if self.received {
            return Ack { kind: 6, id: self.publish.id, code: 0 }.bytes(five);
        }
        self.publish.dup = true;
        self.publish.bytes(five)
    }
}
