//! The store without a disk: bytes that claim to be records, and changes that must come back as they were.
//!
//! The first byte of the input says how:
//! - 0: the rest is a key (its length in front) and a value; reading them is total, and what can be read is written and read back to the
//!   same. Format and checksum are put right before, so that the body is reached; 1: as they are.
//! - else: the rest is an [`arbitrary`] life of some sessions in groups of changes, against a naive model of maps; then the restored state is
//!   stored again and must restore to the same, and one record is damaged, which may only cost what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arbitrary::{Arbitrary, Unstructured};

use crate::{
    event::{Bytes, Client, Header, Message, Properties, QoS, Text},
    store::{self, Change, Image, Parcel, Place, Record, Restored, SessionState, StoredSession, StoredSubscription, StoredWill},
};

/// Any bytes.
pub fn run(input: &[u8]) {
    match input {
        [0, length, rest @ ..] => record(usize::from(*length), rest, true),
        [1, length, rest @ ..] => record(usize::from(*length), rest, false),
        [_, rest @ ..] => {
            if let Ok(life) = Life::arbitrary_take_rest(Unstructured::new(rest)) {
                life.live();
            }
        }
        [] => {}
    }
}

fn record(length: usize, bytes: &[u8], mend: bool) {
    let Some((key, body)) = bytes.split_at_checked(length) else { return };
    let mut value = body.to_vec();
    if mend {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(key);
        hasher.update(body);
        value = [&[1], &hasher.finalize().to_le_bytes()[..], body].concat();
    }
    let Ok(record) = store::decode(key, &value) else { return };
    let mut image = Image::default();
    image.apply(&[change(&record)]);
    let (_, again) = image.records_mut().find(|(written, _)| *written == key).expect("it is written under its own key");
    assert_eq!(store::decode(key, again), Ok(record));
}

/// The change that writes a record.
fn change(record: &Record) -> Change {
    match record.clone() {
        Record::Commit(_) => Change::Cleared("nothing".into()), // every group writes its number
        Record::Session(state) => Change::Session(Box::new(state)),
        Record::Will(session, will) => Change::Will(session, Some(Box::new(will))),
        Record::Subscription(session, subscription) => Change::Subscribed(session, Box::new(subscription)),
        Record::Used(session, id) => Change::Used(session, id),
        Record::Flight(session, sequence, id, false) => Change::Sent(Place { session, sequence }, id),
        Record::Flight(session, sequence, id, true) => Change::Received(Place { session, sequence }, id),
        Record::Queued(session, sequence, parcel) => Change::Queued(Place { session, sequence }, Box::new(parcel)),
        Record::Retained(message) => Change::Retained(message),
    }
}

/// What happens to some clients' sessions, in small numbers; `which` counts through what there is.
#[derive(Debug, Arbitrary)]
struct Life {
    damage: (u16, u16, u8),
    acts: Vec<Act>,
}

#[derive(Debug, Arbitrary)]
enum Act {
    /// A client comes in, to its session or, afresh, to a new one.
    Begin {
        client: u8,
        afresh: bool,
        expiry_s: u32,
        left_at_ms: Option<u64>,
    },
    End {
        client: u8,
    },
    Will {
        client: u8,
        is_there: bool,
        delay_s: u32,
        message: Sketch,
    },
    Subscribe {
        client: u8,
        filter: u8,
        options: u8,
        subscription_id: Option<u32>,
    },
    Unsubscribe {
        client: u8,
        filter: u8,
    },
    Queue {
        client: u8,
        message: Sketch,
        retain: bool,
        subscription_ids: Vec<u32>,
    },
    /// The first of the queue that was not sent.
    Send {
        client: u8,
        id: u16,
    },
    Receive {
        client: u8,
        which: u8,
    },
    Finish {
        client: u8,
        which: u8,
    },
    Use {
        client: u8,
        id: u8,
    },
    Release {
        client: u8,
        id: u8,
    },
    Retain {
        message: Sketch,
    },
    Clear {
        topic: u8,
    },
    /// The group ends.
    Commit,
}

#[derive(Clone, Debug, Arbitrary)]
struct Sketch {
    topic: u8,
    qos: u8,
    payload: Vec<u8>,
    received_at_ms: u64,
    properties: Option<(Option<u32>, Option<bool>, Option<String>, Option<Vec<u8>>)>,
    headers: Vec<(String, String)>,
}

const TOPICS: [&str; 4] = ["a", "a/b", "", "devices/ü/state"];

fn topic(which: u8) -> Text {
    Text::from_static(TOPICS[usize::from(which) % TOPICS.len()])
}

fn qos(which: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(which % 3)]
}

impl Sketch {
    fn message(&self) -> Message {
        let properties = self.properties.clone().map(|(expiry_s, payload_is_utf8, content_type, correlation_data)| {
            Box::new(Properties {
                expiry_s,
                payload_is_utf8,
                content_type: content_type.map(Text::from),
                correlation_data: correlation_data.map(Bytes::from),
                ..Properties::default()
            })
        });
        Message {
            publisher: "publisher".into(),
            publisher_username: None,
            topic: topic(self.topic),
            payload: self.payload.clone().into(),
            qos: qos(self.qos),
            retain: self.qos & 4 != 0,
            received_at_ms: self.received_at_ms,
            properties,
            annotations: self
                .headers
                .iter()
                .map(|(name, value)| Header { name: name.as_str().into(), value: value.as_str().into() })
                .collect(),
        }
    }
}

/// A delivery: the parcel, until it was received; the packet identifier, once it was sent.
type Delivery = (Option<Parcel>, Option<u16>);

/// The naive model of a session.
#[derive(Clone, Debug)]
struct Session {
    state: SessionState,
    will: Option<StoredWill>,
    subscriptions: BTreeMap<Text, StoredSubscription>,
    used: BTreeSet<u16>,
    deliveries: BTreeMap<u64, Delivery>,
    next: u64,
}

/// The naive model of everything.
#[derive(Clone, Debug, Default)]
struct Model {
    sessions: BTreeMap<u8, Session>,
    retained: BTreeMap<Text, Arc<Message>>,
    last: u64,
}

impl Life {
    fn live(&self) {
        let (mut model, mut committed, mut image, mut group) = (Model::default(), Model::default(), Image::default(), Vec::new());
        for act in &self.acts {
            if let Act::Commit = act {
                image.apply(&std::mem::take(&mut group));
                committed = model.clone();
            } else {
                model.act(act, &mut group);
            }
        }
        let restored = image.restore();
        assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
        assert_eq!(sorted(restored), committed.stored());
        let mut copy = Image::default();
        copy.apply(&committed.changes());
        assert_eq!(sorted(copy.restore()), committed.stored());
        self.damage(&mut image);
    }

    /// One byte of one record is another one.
    fn damage(&self, image: &mut Image) {
        let whole = image.restore();
        let (record, byte, flip) = self.damage;
        let count = image.records_mut().count();
        let Some((_, value)) = image.records_mut().nth(usize::from(record) % count.max(1)) else { return };
        let index = usize::from(byte) % value.len();
        value[index] ^= flip.max(1);
        let damaged = image.restore();
        assert!(!damaged.damaged.is_empty(), "nobody noticed");
        assert!(damaged.sessions.len() + 1 >= whole.sessions.len() && damaged.retained.len() + 1 >= whole.retained.len());
    }
}

impl Model {
    fn act(&mut self, act: &Act, group: &mut Vec<Change>) {
        match act {
            Act::Begin { client, afresh, expiry_s, left_at_ms } => self.begin(client % 3, *afresh, *expiry_s, *left_at_ms, group),
            Act::End { client } => self.end(client % 3, group),
            Act::Retain { message } => {
                let message = Arc::new(message.message());
                self.retained.insert(message.topic.clone(), Arc::clone(&message));
                group.push(Change::Retained(message));
            }
            Act::Clear { topic: which } => {
                self.retained.remove(&topic(*which));
                group.push(Change::Cleared(topic(*which)));
            }
            Act::Commit => {}
            Act::Will { client, .. }
            | Act::Subscribe { client, .. }
            | Act::Unsubscribe { client, .. }
            | Act::Queue { client, .. }
            | Act::Send { client, .. }
            | Act::Receive { client, .. }
            | Act::Finish { client, .. }
            | Act::Use { client, .. }
            | Act::Release { client, .. } => {
                if let Some(session) = self.sessions.get_mut(&(client % 3)) {
                    session.act(act, group);
                }
            }
        }
    }

    fn begin(&mut self, client: u8, afresh: bool, expiry_s: u32, left_at_ms: Option<u64>, group: &mut Vec<Change>) {
        if afresh {
            self.end(client, group);
        }
        let last = &mut self.last;
        let session = self.sessions.entry(client).or_insert_with(|| {
            *last += 1;
            Session::new(*last, client)
        });
        session.state.expiry_s = expiry_s;
        session.state.left_at_ms = left_at_ms;
        group.push(Change::Session(Box::new(session.state.clone())));
    }

    fn end(&mut self, client: u8, group: &mut Vec<Change>) {
        group.extend(self.sessions.remove(&client).map(|session| Change::Ended(session.state.number)));
    }

    /// What a store holds of it.
    fn stored(&self) -> (Vec<StoredSession>, Vec<Arc<Message>>) {
        let mut sessions: Vec<_> = self.sessions.values().map(Session::stored).collect();
        sessions.sort_by_key(|session| session.state.number);
        (sessions, self.retained.values().cloned().collect())
    }

    /// Everything at once.
    fn changes(&self) -> Vec<Change> {
        let mut group: Vec<_> = self.retained.values().cloned().map(Change::Retained).collect();
        for session in self.sessions.values() {
            session.changes(&mut group);
        }
        group
    }
}

impl Session {
    fn new(number: u64, client: u8) -> Self {
        let client = Client {
            client_id: format!("client {client}").into(),
            username: (client == 1).then(|| "user".into()),
            peer: ([127, 0, 0, 1], 1).into(),
            protocol_version: 5,
            certificate_name: (client == 2).then(|| "name".into()),
            connected_at_ms: number,
        };
        let state = SessionState { number, client: Arc::new(client), expiry_s: 0, left_at_ms: None };
        Session { state, will: None, subscriptions: BTreeMap::new(), used: BTreeSet::new(), deliveries: BTreeMap::new(), next: 0 }
    }

    fn act(&mut self, act: &Act, group: &mut Vec<Change>) {
        let number = self.state.number;
        match act {
            Act::Will { is_there, delay_s, message, .. } => {
                self.will = is_there.then(|| StoredWill { message: message.message(), delay_s: *delay_s });
                group.push(Change::Will(number, self.will.clone().map(Box::new)));
            }
            Act::Subscribe { filter, options, subscription_id, .. } => {
                let subscription = StoredSubscription {
                    filter: topic(*filter),
                    qos: qos(*options),
                    no_local: options & 8 != 0,
                    retain_as_published: options & 16 != 0,
                    retain_handling: (options >> 5) % 3,
                    subscription_id: *subscription_id,
                };
                self.subscriptions.insert(topic(*filter), subscription.clone());
                group.push(Change::Subscribed(number, Box::new(subscription)));
            }
            Act::Unsubscribe { filter, .. } => {
                self.subscriptions.remove(&topic(*filter));
                group.push(Change::Unsubscribed(number, topic(*filter)));
            }
            Act::Queue { message, retain, subscription_ids, .. } => {
                let message = Arc::new(message.message());
                let qos = if message.qos == QoS::AtMostOnce { QoS::AtLeastOnce } else { message.qos };
                let parcel = Parcel { message, qos, retain: *retain, subscription_ids: subscription_ids.clone().into(), share: None };
                group.push(Change::Queued(self.place(self.next), Box::new(parcel.clone())));
                self.deliveries.insert(self.next, (Some(parcel), None));
                self.next += 1;
            }
            Act::Use { id, .. } => {
                self.used.insert(u16::from(*id));
                group.push(Change::Used(number, u16::from(*id)));
            }
            Act::Release { id, .. } => {
                self.used.remove(&u16::from(*id));
                group.push(Change::Released(number, u16::from(*id)));
            }
            _ => self.deliver(act, group),
        }
    }

    fn deliver(&mut self, act: &Act, group: &mut Vec<Change>) {
        let nth = |which: u8, of: &BTreeMap<u64, Delivery>| Some(*of.keys().nth(usize::from(which).checked_rem(of.len())?)?);
        match act {
            Act::Send { id, .. } => {
                let Some((sequence, delivery)) = self.deliveries.iter_mut().find(|(_, (_, sent))| sent.is_none()) else { return };
                let (sequence, id) = (*sequence, (*id).max(1));
                delivery.1 = Some(id);
                group.push(Change::Sent(self.place(sequence), id));
            }
            Act::Receive { which, .. } => {
                let Some(sequence) = nth(*which, &self.deliveries) else { return };
                let Some((parcel @ Some(_), Some(id))) = self.deliveries.get_mut(&sequence) else { return };
                *parcel = None;
                let id = *id;
                group.push(Change::Received(self.place(sequence), id));
            }
            Act::Finish { which, .. } => {
                let Some(sequence) = nth(*which, &self.deliveries) else { return };
                self.deliveries.remove(&sequence);
                group.push(Change::Done(self.place(sequence)));
            }
            _ => {}
        }
    }

    fn place(&self, sequence: u64) -> Place {
        Place { session: self.state.number, sequence }
    }

    fn stored(&self) -> StoredSession {
        let (mut flights, mut queue) = (Vec::new(), Vec::new());
        for (sequence, (parcel, id)) in &self.deliveries {
            match (parcel, id) {
                (parcel, Some(id)) => flights.push(store::StoredFlight { sequence: *sequence, id: *id, parcel: parcel.clone() }),
                (Some(parcel), None) => queue.push((*sequence, parcel.clone())),
                (None, None) => {}
            }
        }
        StoredSession {
            state: self.state.clone(),
            will: self.will.clone(),
            subscriptions: self.subscriptions.values().cloned().collect(),
            used: self.used.iter().copied().collect(),
            flights,
            queue,
        }
    }

    fn changes(&self, group: &mut Vec<Change>) {
        let number = self.state.number;
        group.push(Change::Session(Box::new(self.state.clone())));
        group.push(Change::Will(number, self.will.clone().map(Box::new)));
        group.extend(self.subscriptions.values().map(|subscription| Change::Subscribed(number, Box::new(subscription.clone()))));
        group.extend(self.used.iter().map(|id| Change::Used(number, *id)));
        for (sequence, (parcel, id)) in &self.deliveries {
            let place = self.place(*sequence);
            group.extend(parcel.clone().map(|parcel| Change::Queued(place, Box::new(parcel))));
            group.extend(id.map(|id| if parcel.is_some() { Change::Sent(place, id) } else { Change::Received(place, id) }));
        }
    }
}

/// With the order of digests taken out.
fn sorted(restored: Restored) -> (Vec<StoredSession>, Vec<Arc<Message>>) {
    let Restored { mut sessions, mut retained, .. } = restored;
    sessions.iter_mut().for_each(|session| session.subscriptions.sort_by(|a, b| a.filter.cmp(&b.filter)));
    retained.sort_by(|a, b| a.topic.cmp(&b.topic));
    (sessions, retained)
}
