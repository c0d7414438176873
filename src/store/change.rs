//! What can happen to the durable state, as plain data: [`Change`]s go in while the process runs, [`Restored`] comes out when it starts.
//!
//! Absent: how either is written ([`super::record`]) and where ([`super::disk`]).

use std::sync::Arc;

use super::space::{Owner, Pair, Space, StoredState};
use crate::event::{Client, Message, QoS, Text};

/// One change. Changes of one batch become durable together, in the order in which they were added.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A session begins, goes on with another connection, or is left behind.
    Session(Box<SessionState>),
    /// The will that a session's client left; `None`: it is void, or was published.
    Will(u64, Option<Box<StoredWill>>),
    /// A subscription of a session, new or replaced.
    Subscribed(u64, Box<StoredSubscription>),
    /// A session's subscription to this filter is gone.
    Unsubscribed(u64, Text),
    /// A message waits for a session's client.
    Queued(Place, Box<Parcel>),
    /// It was sent under this packet identifier.
    Sent(Place, u16),
    /// The client has received it (PUBREC); PUBREL and PUBCOMP are left.
    Received(Place, u16),
    /// Nothing of it is left to do.
    Done(Place),
    /// A QoS 2 identifier of a publisher is in use: its message has reached the queues of all receivers.
    Used(u64, u16),
    /// It is free again.
    Released(u64, u16),
    /// A publish of a session is on its way to a cluster that must have it once.
    Intended(u64, Box<Intent>),
    /// There is nothing to remember any more about the publish under this identifier and the cluster of this name.
    Forgotten(u64, u16, Text),
    /// Who produces exactly once into the cluster of this name, from here.
    Ledger(Text, Box<StoredLedger>),
    /// The session is gone with everything that it had.
    Ended(u64),
    /// The message is its topic's retained one now.
    Retained(Arc<Message>),
    /// The topic has no retained message any more.
    Cleared(Text),
    /// Whose a space of state is; `None`: nobody's any more.
    Owned(Space, Option<Box<Owner>>),
    /// A key of a guest's state holds this from now on.
    Kept(Space, Box<Pair>),
    /// A key of a guest's state is gone.
    Gone(Space, Box<str>),
}

/// A delivery: the session's number, and the delivery's in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The session.
    pub session: u64,
    /// Increasing in the order of the queue.
    pub sequence: u64,
}

/// A session's own facts.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// Its number, which no other stored session has.
    pub number: u64,
    /// The client as it last came in.
    pub client: Arc<Client>,
    /// How long it outlives its connection, seconds; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// Since when it waits for its client, milliseconds since the Unix epoch; `None` while there is a connection.
    pub left_at_ms: Option<u64>,
}

/// A will that waits for the end of its connection, or for its delay.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWill {
    /// What is published.
    pub message: Message,
    /// How long after the connection's end, seconds.
    pub delay_s: u32,
}

/// What a session holds under one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// The topic filter.
    pub filter: Text,
    /// The granted QoS.
    pub qos: QoS,
    /// Not to the client that published it.
    pub no_local: bool,
    /// Keep the retain flag as published.
    pub retain_as_published: bool,
    /// The retain handling option: 0, 1 or 2.
    pub retain_handling: u8,
    /// The subscription identifier.
    pub subscription_id: Option<u32>,
}

/// A message in a session's queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// What is delivered.
    pub message: Arc<Message>,
    /// Of this delivery.
    pub qos: QoS,
    /// Of this delivery.
    pub retain: bool,
    /// The subscriptions that it matched.
    pub subscription_ids: Box<[u32]>,
    /// The whole filter of the shared subscription that it came by.
    pub share: Option<Text>,
}

/// A delivery that the client has not finished.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFlight {
    /// Its place in the queue.
    pub sequence: u64,
    /// Its packet identifier.
    pub id: u16,
    /// `None` once it was received: only PUBREL and PUBCOMP are left.
    pub parcel: Option<Parcel>,
}

/// A publish that is, or was, on its way to a cluster in a transaction: whether it arrived is what the cluster's marker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its packet identifier.
    pub id: u16,
    /// The cluster's name.
    pub cluster: Text,
    /// Its number among all that go there; the marker is the highest number that arrived.
    pub number: u64,
    /// Of the message.
    pub digest: u64,
}

/// Who produces exactly once into a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLedger {
    /// Drawn by lot when the store was new: tells apart two stores behind one node name.
    pub owner: u64,
    /// Increased by each start of the process.
    pub epoch: u64,
    /// The topic that the marker is kept for; `None` before the first transaction.
    pub topic: Option<Text>,
}

/// A session as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSession {
    /// Its own facts.
    pub state: SessionState,
    /// Its client's will.
    pub will: Option<StoredWill>,
    /// What it is subscribed to.
    pub subscriptions: Vec<StoredSubscription>,
    /// QoS 2 identifiers in use by its client.
    pub used: Vec<u16>,
    /// What went to clusters that must have it once.
    pub intents: Vec<Intent>,
    /// Deliveries under way, in order.
    pub flights: Vec<StoredFlight>,
    /// What waits, in order; everything in it comes after all flights.
    pub queue: Vec<(u64, Parcel)>,
}

/// Everything that was stored.
#[derive(Debug, Default, PartialEq)]
pub struct Restored {
    /// Sessions, by number.
    pub sessions: Vec<StoredSession>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
    /// Guests' state.
    pub states: Vec<StoredState>,
    /// By the names of clusters.
    pub ledgers: Vec<(Text, StoredLedger)>,
    /// What could not be read, in words; it is left out above.
    pub damaged: Vec<String>,
    /// Another version's format that records are in.
    pub(super) foreign: Option<u8>,
    /// Keys to be removed: of ended sessions, and what could not be read.
    pub(super) leftovers: Vec<Vec<u8>>,
    /// The number of the last commit that the records know of.
    pub(super) commit: u64,
}

impl Restored {
    /// The highest session number in use, or 0.
    pub fn last_session(&self) -> u64 {
        self.sessions.iter().map(|session| session.state.number).max().unwrap_or(0)
    }

    /// Every intent with its session.
    pub fn intents(&self) -> impl Iterator<Item = (u64, &Intent)> {
        self.sessions.iter().flat_map(|session| session.intents.iter().map(|intent| (session.state.number, intent)))
    }
}

impl Change {
    /// About what it takes in memory and on the disk, bytes.
    pub(super) fn weight(&self) -> usize {
        const OVERHEAD_BYTES: usize = 96;
        OVERHEAD_BYTES
            + match self {
                Change::Queued(_, parcel) => parcel.message.payload.len() + parcel.message.topic.len(),
                Change::Retained(message) => message.payload.len() + message.topic.len(),
                Change::Will(_, Some(will)) => will.message.payload.len(),
                Change::Kept(_, pair) => pair.key.len() + pair.value.len(),
                _ => 0,
            }
    }
}
