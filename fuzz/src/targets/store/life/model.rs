//! The naive model: maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Act, qos, topic};
use crate::{
    event::{Client, Message, QoS, Text},
    store::{Change, Parcel, Place, SessionState, StoredFlight, StoredSession, StoredSubscription, StoredWill},
};

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
pub(super) struct Model {
    sessions: BTreeMap<u8, Session>,
    retained: BTreeMap<Text, Arc<Message>>,
    last: u64,
}

impl Model {
    pub(super) fn act(&mut self, act: &Act, group: &mut Vec<Change>) {
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
    pub(super) fn stored(&self) -> (Vec<StoredSession>, Vec<Arc<Message>>) {
        let mut sessions: Vec<_> = self.sessions.values().map(Session::stored).collect();
        sessions.sort_by_key(|session| session.state.number);
        (sessions, self.retained.values().cloned().collect())
    }

    /// Everything at once.
    pub(super) fn changes(&self) -> Vec<Change> {
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
                (parcel, Some(id)) => flights.push(StoredFlight { sequence: *sequence, id: *id, parcel: parcel.clone() }),
                (Some(parcel), None) => queue.push((*sequence, parcel.clone())),
                (None, None) => {}
            }
        }
        StoredSession {
            state: self.state.clone(),
            will: self.will.clone(),
            subscriptions: self.subscriptions.values().cloned().collect(),
            used: self.used.iter().copied().collect(),
            intents: Vec::new(),
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
