//! The simulated clock, what happens when, and the links between devices and broker.
//!
//! A link is a TCP connection: bytes arrive in order, late, and in other pieces than they were sent. It can be cut at any byte in either
//! direction, noticed or not by its ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::wire::Ack;
use crate::{
    event::{Client, Message, Outcome, Receipt},
    source::mqtt::mailbox::{Mailbox, Parcel},
};

/// Something that happens at its time.
pub(super) enum Event {
    /// A device does something.
    Act(usize),
    /// A device answers, if it still has this link.
    Answer(usize, u64, Ack),
    /// A device looks whether this link is still good.
    Doubt(usize, u64),
    /// Bytes reach the broker; `None`: the end.
    Up(u64, Option<Vec<u8>>),
    /// Bytes reach the device.
    Down(u64, Option<Vec<u8>>),
    /// The pipeline has decided about the next publish of a connection.
    Judged(u64),
    /// Kafka has answered.
    Settled(usize, Receipt, Outcome),
    /// The bus has carried a message to a mailbox.
    Arrived(usize, Arc<Mailbox>, Parcel),
    /// A will is published.
    Will(Arc<Client>, Box<Message>),
    /// A connection looks whether its client is silent for too long.
    KeepAlive(u64),
    /// A connection of this device may have been evicted, or may be let in.
    Look(usize),
    /// A session or will may be due.
    Agenda,
}

struct Entry(Reverse<(u64, u64)>, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[derive(Default)]
struct Way {
    last_ms: u64,
    /// Bytes until the cut.
    left: Option<usize>,
    closed: bool,
}

struct Link {
    device: usize,
    latency_ms: u64,
    up: Way,
    down: Way,
    /// Nothing arrives any more, and nobody is told.
    dead: bool,
}

/// Clock, chance, agenda and links.
pub(super) struct Stage {
    pub(super) rng: Rng,
    pub(super) now_ms: u64,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    start: Instant,
    agenda: BinaryHeap<Entry>,
    sequence: u64,
    links: BTreeMap<u64, Link>,
}

impl Stage {
    pub(super) fn new(seed: u64) -> Self {
        Stage {
            rng: Rng::with_seed(seed),
            now_ms: 1_000_000_000,
            calm: false,
            start: Instant::now(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            links: BTreeMap::new(),
        }
    }

    /// The simulated time, for those who want an instant.
    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    pub(super) fn millis_until(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.now()).as_millis()).unwrap_or(u64::MAX) + 1
    }

    pub(super) fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Lets something happen after `ms`; what happens at one time does so in the order of these calls.
    pub(super) fn after(&mut self, ms: u64, event: Event) {
        let entry = Entry(Reverse((self.now_ms + ms, self.number())), event);
        self.agenda.push(entry);
    }

    /// The next thing, if it happens until `end_ms`.
    pub(super) fn next(&mut self, end_ms: u64) -> Option<Event> {
        let Reverse((at_ms, _)) = self.agenda.peek()?.0;
        if at_ms > end_ms {
            return None;
        }
        self.now_ms = at_ms;
        self.agenda.pop().map(|Entry(_, event)| event)
    }

    /// True with `percent`; never when calm.
    pub(super) fn mishap(&mut self, percent: u32) -> bool {
        !self.calm && self.rng.u32(0..100) < percent
    }

    /// Mostly short, sometimes up to `long_ms`.
    pub(super) fn delay(&mut self, long_ms: u64) -> u64 {
        let most = if self.mishap(10) { long_ms } else { 5 };
        self.rng.u64(0..=most)
    }

    /// A new link, with its fate.
    pub(super) fn connect(&mut self, device: usize) -> u64 {
        let mut link = Link { device, latency_ms: self.rng.u64(1..100), up: Way::default(), down: Way::default(), dead: false };
        if self.mishap(30) {
            link.up.left = Some(self.rng.usize(0..1500));
        } else if self.mishap(30) {
            link.down.left = Some(self.rng.usize(0..3000));
        }
        let number = self.number();
        self.links.insert(number, link);
        number
    }

    /// The device at the end of a link.
    pub(super) fn owner(&self, number: u64) -> Option<usize> {
        self.links.get(&number).map(|link| link.device)
    }

    /// From the device to the broker; `None` closes.
    pub(super) fn up(&mut self, number: u64, bytes: Option<&[u8]>) {
        self.carry(number, bytes, |link| &mut link.up, Event::Up);
    }

    /// From the broker to the device.
    pub(super) fn down(&mut self, number: u64, bytes: Option<&[u8]>) {
        self.carry(number, bytes, |link| &mut link.down, Event::Down);
    }

    /// The network forgets the link without a word.
    pub(super) fn kill(&mut self, number: u64) {
        if let Some(link) = self.links.get_mut(&number) {
            link.dead = true;
        }
    }

    fn carry(&mut self, number: u64, bytes: Option<&[u8]>, way: fn(&mut Link) -> &mut Way, event: fn(u64, Option<Vec<u8>>) -> Event) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.dead || way(link).closed {
            return;
        }
        let Some(mut bytes) = bytes else {
            way(link).closed = true;
            return self.arrive(number, None, way, event);
        };
        let mut cut = false;
        if let Some(left) = &mut way(link).left {
            cut = bytes.len() > *left;
            bytes = &bytes[..bytes.len().min(*left)];
            *left -= bytes.len();
        }
        while !bytes.is_empty() {
            let piece = if self.rng.u32(0..4) == 0 { self.rng.usize(1..=bytes.len()) } else { bytes.len() };
            self.arrive(number, Some(bytes[..piece].to_vec()), way, event);
            bytes = &bytes[piece..];
        }
        if cut {
            // Its ends hear of it, or only one, or none.
            if self.rng.bool() {
                self.arrive(number, None, |link| &mut link.up, Event::Up);
            }
            if self.rng.bool() {
                self.arrive(number, None, |link| &mut link.down, Event::Down);
            }
            self.kill(number);
        }
    }

    fn arrive(&mut self, number: u64, piece: Option<Vec<u8>>, way: fn(&mut Link) -> &mut Way, event: fn(u64, Option<Vec<u8>>) -> Event) {
        let jitter_ms = self.delay(3000);
        let now_ms = self.now_ms;
        let Some(link) = self.links.get_mut(&number) else { return };
        let earliest_ms = now_ms + link.latency_ms + jitter_ms;
        let way = way(link);
        way.last_ms = way.last_ms.max(earliest_ms);
        let after_ms = way.last_ms - now_ms;
        self.after(after_ms, event(number, piece));
    }
}
