//! What the marker says, and a process that dies at any moment.

use std::collections::BTreeMap;

use super::*;
use crate::store::{Image, Intent, Store};

const OWNER: u64 = 7;

fn marker(number: u64, epoch: u64) -> Marker {
    Marker { number, owner: OWNER, epoch }
}

fn started(epoch: u64) -> Ledger {
    let former = (epoch > 1).then(|| StoredLedger { owner: OWNER, epoch: epoch - 1, topic: Some("t".into()) });
    Ledger::begin("kafka".into(), former, OWNER)
}

/// Marker and highest intent; up to which number intents are in Kafka, whether that is doubted, and the next number.
#[test]
fn what_a_process_finds() {
    for (epoch, found, highest, stored, doubted, next) in [
        (1, None, None, 0, false, 1),
        (3, None, None, 0, false, 1),
        (3, None, Some(5), 0, true, 6),
        (3, Some(marker(9, 2)), Some(12), 9, false, 13),
        (3, Some(marker(9, 2)), Some(4), 9, false, 10),
        (3, Some(marker(9, 1)), Some(12), 9, false, 13), // the process before this one committed nothing
        (3, Some(marker(9, 3)), Some(4), 0, true, 10),   // a process committed that this store does not know
        (3, Some(Marker { owner: 8, ..marker(9, 2) }), Some(4), 0, true, 10),
        (1, Some(Marker { owner: 8, ..marker(9, 2) }), None, 0, true, 10),
    ] {
        let case = format!("{epoch} {found:?} {highest:?}");
        let mut ledger = started(epoch);
        let answer = ledger.find(found, highest);
        assert_eq!((answer.stored, answer.doubt.is_some()), (stored, doubted), "{case}");
        assert_eq!(ledger.take(3), (next, marker(next + 2, epoch)), "{case}");
        assert_eq!(ledger.take(0), (next + 3, marker(next + 3, epoch)), "{case}");
    }
}

#[test]
fn the_marker_tells_the_fate_of_a_transaction() {
    let ledger = started(3);
    for (found, fate) in [
        (None, Fate::Aborted),
        (Some(marker(9, 3)), Fate::Aborted),
        (Some(marker(10, 3)), Fate::Committed),
        (Some(marker(11, 3)), Fate::Committed),
        (Some(marker(10, 2)), Fate::Aborted),
        (Some(marker(10, 4)), Fate::Usurped),
        (Some(Marker { owner: 8, ..marker(10, 3) }), Fate::Usurped),
    ] {
        assert_eq!(ledger.fate(found, 10), fate, "{found:?}");
    }
}

#[test]
fn the_topic_of_the_marker_is_the_first_there_is() {
    let mut ledger = started(1);
    assert_eq!(ledger.keep_with(&"a".into()), "a");
    assert_eq!(ledger.keep_with(&"b".into()), "a");
    ledger.prove();
    ledger.give_up_topic();
    assert!(ledger.is_unproven() && ledger.topic().is_none());
    assert_eq!(ledger.keep_with(&"b".into()), "b");
}

/// Kafka, as far as it matters: what was committed, and the marker that was committed with it.
#[derive(Default)]
struct Kafka {
    marker: Option<Marker>,
    /// How often each publish is there.
    publishes: BTreeMap<u64, u32>,
}

/// A process between its start and its death. Publishes have numbers of their own; each has a session of its own, for its intents.
struct Process {
    ledger: Ledger,
    store: Store,
    /// What is under way, and the marker that will be committed with it.
    open: Option<(Vec<u64>, Marker, crate::store::Ticket)>,
    /// What was aborted, and not sent again.
    aborted: Vec<u64>,
}

impl Process {
    /// Starts on what is on the disk: which publishes Kafka has, as far as this process can know.
    fn start(image: &Image, kafka: &Kafka) -> (Self, Vec<u64>) {
        let restored = image.restore();
        let former = restored.ledgers.first().map(|(_, ledger)| ledger.clone());
        let mut ledger = Ledger::begin("kafka".into(), former, OWNER);
        let topic = ledger.topic().is_some();
        let found = ledger.find(kafka.marker.filter(|_| topic), restored.intents().map(|(_, intent)| intent.number).max());
        let store = Store::detached();
        store.add(ledger.change());
        let mut known = Vec::new();
        for (publish, intent) in restored.intents() {
            if intent.number <= found.stored {
                known.push(publish);
            } else {
                store.add(Change::Forgotten(publish, 1, "kafka".into()));
            }
        }
        (Process { ledger, store, open: None, aborted: Vec::new() }, known)
    }

    fn send(&mut self, publishes: Vec<u64>) {
        let (first, marker) = self.ledger.take(publishes.len());
        self.ledger.keep_with(&"t".into());
        self.store.add(self.ledger.change());
        for publish in self.aborted.drain(..).filter(|publish| !publishes.contains(publish)) {
            self.store.add(Change::Forgotten(publish, 1, "kafka".into()));
        }
        for (publish, number) in publishes.iter().zip(first..) {
            let intent = Intent { id: 1, cluster: "kafka".into(), number, digest: *publish };
            self.store.add(Change::Session(Box::new(session(*publish))));
            self.store.add(Change::Intended(*publish, Box::new(intent)));
        }
        let ticket = self.store.batch().ticket();
        self.open = Some((publishes, marker, ticket));
    }

    /// Whether what is under way was committed; only what is durable is.
    fn commit(&mut self, kafka: &mut Kafka) -> Option<Vec<u64>> {
        let (publishes, marker, _) = self.open.take_if(|(_, _, ticket)| self.store.has_committed(*ticket))?;
        publishes.iter().for_each(|publish| *kafka.publishes.entry(*publish).or_default() += 1);
        kafka.marker = Some(marker);
        Some(publishes)
    }
}

fn session(number: u64) -> crate::store::SessionState {
    let client = crate::event::Client {
        client_id: number.to_string().into(),
        username: None,
        peer: ([127, 0, 0, 1], 1).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    };
    crate::store::SessionState { number, client: std::sync::Arc::new(client), expiry_s: 60, left_at_ms: None }
}

#[test]
fn a_process_that_dies_at_any_moment_stores_everything_once() {
    let mut crashes = 0;
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut kafka, mut image) = (Kafka::default(), Image::default());
        let (mut process, _) = Process::start(&image, &kafka);
        let (mut next, mut unacknowledged) = (1, Vec::new());
        for _ in 0..120 {
            match random.u8(..10) {
                0..4 if process.open.is_none() => {
                    while unacknowledged.len() < random.usize(1..6) {
                        unacknowledged.push(next);
                        next += 1;
                    }
                    let count = random.usize(1..=unacknowledged.len());
                    process.send(unacknowledged[..count].to_vec());
                }
                0..6 => drop(process.store.commit_into(&mut image)),
                6 | 7 => {
                    let stored = process.commit(&mut kafka).unwrap_or_default();
                    if random.bool() {
                        unacknowledged.retain(|publish| !stored.contains(publish));
                    } else if !stored.is_empty() {
                        (process, unacknowledged) = restart(&image, &kafka, unacknowledged);
                        crashes += 1;
                    }
                }
                8 => process.aborted.extend(process.open.take().into_iter().flat_map(|(publishes, ..)| publishes)),
                _ => {
                    (process, unacknowledged) = restart(&image, &kafka, unacknowledged);
                    crashes += 1;
                }
            }
        }
        assert!(kafka.publishes.values().all(|times| *times == 1), "seed {seed}: {:?}", kafka.publishes);
        let missing = (1..next).filter(|publish| !kafka.publishes.contains_key(publish) && !unacknowledged.contains(publish));
        assert_eq!(missing.collect::<Vec<u64>>(), [0; 0], "seed {seed}");
    }
    assert!(crashes > 1_000);
}

/// The process dies and another one starts; the client sends again what was not acknowledged, of which some is known to be stored.
fn restart(image: &Image, kafka: &Kafka, mut unacknowledged: Vec<u64>) -> (Process, Vec<u64>) {
    let (process, known) = Process::start(image, kafka);
    for publish in &known {
        assert!(kafka.publishes.contains_key(publish), "{publish} is taken for stored, and is not");
    }
    unacknowledged.retain(|publish| !known.contains(publish));
    (process, unacknowledged)
}
