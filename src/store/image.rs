//! From changes to records and back, without a disk.
//!
//! [`write`] turns a group of changes into one operation per key; [`restore`] turns records, in the order of their keys, into sessions,
//! retained messages and guests' state. Both are pure. An [`Image`] is the two together in memory: what the disk would hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    change::{
        Change, Intent, Parcel, Place, Restored, SessionState, StoredFlight, StoredLedger, StoredSession, StoredSubscription, StoredWill,
    },
    record::{self, Damage, Record, key},
    space::{Owner, Pair, Space, StoredState},
};
use crate::event::{Message, Text};

/// What one key becomes: a value, or nothing.
pub(super) type Operation = (Vec<u8>, Option<Vec<u8>>);

/// What a key is to hold, before it is written.
enum Value<'a> {
    Nothing,
    Session(&'a SessionState),
    Will(&'a StoredWill),
    Subscription(&'a StoredSubscription),
    Used,
    Flight(u16, bool),
    Intent(&'a Intent),
    Ledger(&'a StoredLedger),
    Parcel(&'a Parcel),
    Message(&'a Message),
    Owner(&'a Owner),
    Pair(&'a Pair),
}

impl Value<'_> {
    fn bytes(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self {
            Value::Nothing => None,
            Value::Session(state) => Some(record::session_value(key, state)),
            Value::Will(will) => Some(record::will_value(key, will)),
            Value::Subscription(subscription) => Some(record::subscription_value(key, subscription)),
            Value::Used => Some(record::used_value(key)),
            Value::Flight(id, received) => Some(record::flight_value(key, *id, *received)),
            Value::Intent(intent) => Some(record::intent_value(key, intent)),
            Value::Ledger(ledger) => Some(record::ledger_value(key, ledger)),
            Value::Parcel(parcel) => Some(record::parcel_value(key, parcel)),
            Value::Message(message) => Some(record::message_value(key, message)),
            Value::Owner(owner) => Some(record::owner_value(key, owner)),
            Value::Pair(pair) => Some(record::pair_value(key, pair)),
        }
    }
}

/// What a key stands for; keys are made of those that are left in the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    Session(u64),
    Will(u64),
    Subscription(u64, &'a str),
    Used(u64, u16),
    Flight(Place),
    Queued(Place),
    Intent(u64, u16, &'a str),
    Ledger(&'a str),
    Retained(&'a str),
    Owner(Space),
    Pair(Space, &'a str),
}

impl Name<'_> {
    fn key(self) -> Vec<u8> {
        match self {
            Name::Session(session) => key::session(session),
            Name::Will(session) => key::will(session),
            Name::Subscription(session, filter) => key::subscription(session, filter),
            Name::Used(session, id) => key::used(session, id),
            Name::Flight(place) => key::flight(place.session, place.sequence),
            Name::Queued(place) => key::queued(place.session, place.sequence),
            Name::Intent(session, id, cluster) => key::intent(session, id, cluster),
            Name::Ledger(cluster) => key::ledger(cluster),
            Name::Retained(topic) => key::retained(topic),
            Name::Owner(space) => key::owner(space),
            Name::Pair(space, key) => key::pair(space, key),
        }
    }
}

type Values<'a> = HashMap<Name<'a>, Value<'a>>;

/// One operation for each key that `changes` touch, the last word on it. What came and went within the group is not written at all:
/// deliveries to clients that are quicker than the disk cost nothing on it.
pub(super) fn write(changes: &[Change], commit: u64) -> Vec<Operation> {
    let mut values = Values::with_capacity(changes.len());
    for change in changes {
        put(change, &mut values);
    }
    let mut operations: Vec<Operation> = Vec::with_capacity(values.len() + 1);
    operations.extend(values.into_iter().map(|(name, value)| {
        let key = name.key();
        let bytes = value.bytes(&key);
        (key, bytes)
    }));
    operations.push((record::commit_key(), Some(record::commit_value(commit))));
    operations
}

fn put<'a>(change: &'a Change, values: &mut Values<'a>) {
    let (name, value) = match change {
        Change::Session(state) => (Name::Session(state.number), Value::Session(state)),
        Change::Will(session, Some(will)) => (Name::Will(*session), Value::Will(will)),
        Change::Will(session, None) => (Name::Will(*session), Value::Nothing),
        Change::Subscribed(session, subscription) => {
            (Name::Subscription(*session, &subscription.filter), Value::Subscription(subscription))
        }
        Change::Unsubscribed(session, filter) => (Name::Subscription(*session, filter), Value::Nothing),
        Change::Queued(place, parcel) => (Name::Queued(*place), Value::Parcel(parcel)),
        Change::Sent(place, id) => (Name::Flight(*place), Value::Flight(*id, false)),
        Change::Received(place, id) => {
            unqueue(*place, values);
            (Name::Flight(*place), Value::Flight(*id, true))
        }
        Change::Done(place) => {
            if unqueue(*place, values) {
                values.remove(&Name::Flight(*place));
                return;
            }
            (Name::Flight(*place), Value::Nothing)
        }
        Change::Used(session, id) => (Name::Used(*session, *id), Value::Used),
        Change::Released(session, id) => (Name::Used(*session, *id), Value::Nothing),
        Change::Intended(session, intent) => (Name::Intent(*session, intent.id, &intent.cluster), Value::Intent(intent)),
        Change::Forgotten(session, id, cluster) => (Name::Intent(*session, *id, cluster), Value::Nothing),
        Change::Ledger(cluster, ledger) => (Name::Ledger(cluster), Value::Ledger(ledger)),
        // The rest of what it had is recognised by its absence, and removed later.
        Change::Ended(session) => (Name::Session(*session), Value::Nothing),
        Change::Retained(message) => (Name::Retained(&message.topic), Value::Message(message)),
        Change::Cleared(topic) => (Name::Retained(topic), Value::Nothing),
        Change::Owned(space, Some(owner)) => (Name::Owner(*space), Value::Owner(owner)),
        Change::Owned(space, None) => (Name::Owner(*space), Value::Nothing),
        Change::Kept(space, pair) => (Name::Pair(*space, &pair.key), Value::Pair(pair)),
        Change::Gone(space, key) => (Name::Pair(*space, key), Value::Nothing),
    };
    values.insert(name, value);
}

/// Takes a message out of its queue; whether it came into it within this group. Places are never used twice, so then nothing is stored.
fn unqueue(place: Place, values: &mut Values<'_>) -> bool {
    match values.remove(&Name::Queued(place)) {
        Some(Value::Parcel(_)) => true,
        _ => {
            values.insert(Name::Queued(place), Value::Nothing);
            false
        }
    }
}

/// Puts records together, which must come in the order of their keys. What cannot be read, or has lost what it belongs to, is left out and
/// said.
pub(super) fn restore<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: impl IntoIterator<Item = (K, V)>) -> Restored {
    let mut builder = Builder::default();
    for (key, value) in records {
        builder.take(key.as_ref(), value.as_ref());
    }
    builder.finish()
}

#[derive(Default)]
struct Builder {
    restored: Restored,
    current: Option<StoredSession>,
    sent: HashMap<u64, u16>,
}

impl Builder {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        let record = match record::decode(key, value) {
            Ok(record) => record,
            Err(damage) => return self.leave_out(key, damage),
        };
        let session = record::session_of(key);
        match (record, &mut self.current) {
            (Record::Commit(number), _) => self.restored.commit = number,
            (Record::Retained(message), _) => {
                self.close();
                self.restored.retained.push(message);
            }
            (Record::Session(state), _) => {
                self.close();
                self.current = Some(StoredSession {
                    state,
                    will: None,
                    subscriptions: Vec::new(),
                    used: Vec::new(),
                    intents: Vec::new(),
                    flights: Vec::new(),
                    queue: Vec::new(),
                });
            }
            (Record::Owner(owner), _) => {
                self.restored.states.push(StoredState { space: owner.space(), owner: Some(owner), pairs: Vec::new() })
            }
            (Record::Pair(space, pair), _) => self.keep(space, pair),
            (Record::Ledger(cluster, ledger), _) => self.restored.ledgers.push((cluster, ledger)),
            (record, Some(current)) if session == Some(current.state.number) => add(record, current, &mut self.sent),
            _ => self.restored.leftovers.push(key.to_vec()),
        }
    }

    /// All owners have come already, in the order of their spaces.
    fn keep(&mut self, space: Space, pair: Pair) {
        let states = &mut self.restored.states;
        let at = states.binary_search_by_key(&space, |state| state.space).unwrap_or_else(|at| {
            states.insert(at, StoredState { space, owner: None, pairs: Vec::new() });
            at
        });
        if let Some(state) = states.get_mut(at) {
            state.pairs.push(pair);
        }
    }

    fn leave_out(&mut self, key: &[u8], damage: Damage) {
        if let Damage::Format(format) = damage {
            self.restored.foreign = Some(format);
        }
        self.restored.damaged.push(format!("record {}: {damage}", hex(key)));
        self.restored.leftovers.push(key.to_vec());
    }

    /// The current session is complete.
    fn close(&mut self) {
        let Some(mut session) = self.current.take() else { return };
        let number = session.state.number;
        for (sequence, id) in self.sent.drain() {
            let client = &session.state.client.client_id;
            self.restored.damaged.push(format!("the message of delivery {sequence} (packet {id}) to client {client} is missing"));
            self.restored.leftovers.push(key::flight(number, sequence));
        }
        session.flights.sort_by_key(|flight| flight.sequence);
        self.restored.sessions.push(session);
    }

    fn finish(mut self) -> Restored {
        self.close();
        self.keep_latest();
        self.restored
    }

    /// Of two sessions of one client the later is the one.
    fn keep_latest(&mut self) {
        let mut latest: HashMap<Text, u64> = HashMap::new();
        for session in &self.restored.sessions {
            latest.insert(session.state.client.client_id.clone(), session.state.number);
        }
        let Restored { sessions, leftovers, .. } = &mut self.restored;
        sessions.retain(|session| {
            let keep = latest.get(&session.state.client.client_id) == Some(&session.state.number);
            if !keep {
                leftovers.push(key::session(session.state.number));
            }
            keep
        });
    }
}

fn add(record: Record, session: &mut StoredSession, sent: &mut HashMap<u64, u16>) {
    match record {
        Record::Will(_, will) => session.will = Some(will),
        Record::Subscription(_, subscription) => session.subscriptions.push(subscription),
        Record::Used(_, id) => session.used.push(id),
        Record::Intent(_, intent) => session.intents.push(intent),
        Record::Flight(_, sequence, id, true) => session.flights.push(StoredFlight { sequence, id, parcel: None }),
        Record::Flight(_, sequence, id, false) => drop(sent.insert(sequence, id)),
        Record::Queued(_, sequence, parcel) => match sent.remove(&sequence) {
            Some(id) => session.flights.push(StoredFlight { sequence, id, parcel: Some(parcel) }),
            None => session.queue.push((sequence, parcel)),
        },
        Record::Commit(_) | Record::Session(_) | Record::Retained(_) | Record::Owner(_) | Record::Pair(..) | Record::Ledger(..) => {}
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Durable state in memory: for simulations, which crash and restore without a disk.
#[derive(Clone, Debug, Default)]
pub struct Image {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    commit: u64,
}

impl Image {
    /// Takes a group of changes, as one.
    pub fn apply(&mut self, changes: &[Change]) {
        self.commit += 1;
        for (key, value) in write(changes, self.commit) {
            match value {
                Some(value) => drop(self.records.insert(key, value)),
                None => drop(self.records.remove(&key)),
            }
        }
        for change in changes {
            if let Change::Ended(session) = change {
                let prefix = record::session_prefix(*session);
                self.records.retain(|key, _| !key.starts_with(&prefix));
            }
        }
    }

    /// What a process that starts on it finds.
    pub fn restore(&self) -> Restored {
        restore(&self.records)
    }

    /// Every record, for damaging them.
    pub fn records_mut(&mut self) -> impl Iterator<Item = (&Vec<u8>, &mut Vec<u8>)> {
        self.records.iter_mut()
    }

    /// The retained messages, for comparing.
    pub fn retained(&self) -> Vec<Arc<Message>> {
        self.restore().retained
    }
}
