//! What waits for one session: filled by the bus, emptied by the session's connection, bounded in messages and bytes.
//!
//! A durable session's messages go into the store in the same order as into its mailbox, under the same lock; QoS 0 stays in memory.
//!
//! It outlives connections, so that a persistent session collects while its client is away, and carries the verdicts of publishes that a
//! former connection is still finishing. Absent: what was sent and not yet acknowledged; that is the session's outbound window.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{figures::Figures, session::Verdict};
use crate::{
    config::Mqtt,
    event::{Client, DropReason, Message, QoS, Text},
    store::{self, Batch, Change, Place, Store},
};

/// What a message weighs beside its payload and topic, bytes.
const OVERHEAD_BYTES: usize = 128;

/// A message on its way to one session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parcel {
    pub(super) message: Arc<Message>,
    /// The lower of the publisher's and the subscription's.
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: Box<[u32]>,
    /// The whole filter of the shared subscription that it came by: another member gets it if this session ends.
    pub(super) share: Option<Arc<str>>,
}

impl Parcel {
    /// About what it takes in memory and on the wire, bytes.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD_BYTES + self.message.payload.len() + self.message.topic.len()
    }
}

impl From<store::Parcel> for Parcel {
    fn from(store::Parcel { message, qos, retain, subscription_ids, share }: store::Parcel) -> Self {
        Parcel { message, qos, retain, subscription_ids, share: share.map(|share| Arc::from(&*share)) }
    }
}

impl From<&Parcel> for store::Parcel {
    fn from(parcel: &Parcel) -> Self {
        let Parcel { message, qos, retain, subscription_ids, share } = parcel.clone();
        store::Parcel { message, qos, retain, subscription_ids, share: share.map(|share| Text::from(&*share)) }
    }
}

/// A parcel in its place of the queue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queued {
    /// Increasing in the order of the queue, without an end.
    pub(super) sequence: u64,
    pub(super) parcel: Parcel,
}

/// A parcel that was not taken.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) parcel: Parcel,
    pub(super) reason: DropReason,
    /// The receiver.
    pub(super) client: Arc<Client>,
}

/// What waits for one session.
#[derive(Debug)]
pub(super) struct Mailbox {
    client_id: Text,
    max_messages: usize,
    max_bytes: usize,
    /// What operators may see of the session.
    pub(super) figures: Figures,
    /// Whether its client is in.
    connected: AtomicBool,
    /// Where what waits is stored too.
    store: OnceLock<(Store, u64)>,
    durable: AtomicBool,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    parcels: VecDeque<Queued>,
    next_sequence: u64,
    bytes: usize,
    verdicts: Vec<(u64, Verdict)>,
    open: bool,
}

impl Mailbox {
    /// An empty one for the session of `client`, who is not in yet.
    pub(super) fn new(client: &Arc<Client>, limits: &Mqtt) -> Arc<Self> {
        Arc::new(Mailbox {
            client_id: client.client_id.clone(),
            max_messages: limits.max_queued_messages,
            max_bytes: limits.max_queued_bytes,
            figures: Figures::default(),
            connected: AtomicBool::new(false),
            store: OnceLock::new(),
            durable: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                client: Arc::clone(client),
                parcels: VecDeque::new(),
                next_sequence: 0,
                bytes: 0,
                verdicts: Vec::new(),
                open: true,
            }),
            wake: Notify::new(),
        })
    }

    /// Whose it is.
    pub(super) fn client_id(&self) -> &Text {
        &self.client_id
    }

    /// The client as it last came in.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.inner.lock().client)
    }

    /// The client came in.
    pub(super) fn attach(&self, client: &Arc<Client>) {
        self.inner.lock().client = Arc::clone(client);
        self.connected.store(true, Ordering::Relaxed);
    }

    /// The client is gone.
    pub(super) fn detach(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }

    /// Whether the client is in: shared subscriptions prefer those who are.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// From now on what comes in is stored for session number `session`.
    pub(super) fn keep_in(&self, store: &Store, session: u64) {
        let _ = self.store.set((store.clone(), session)); // an error: it was kept there before
        self.durable.store(true, Ordering::Relaxed);
    }

    /// Where the session is stored.
    pub(super) fn store(&self) -> Option<&Store> {
        self.store.get().map(|(store, _)| store)
    }

    /// Nothing is stored from now on.
    pub(super) fn forget_store(&self) {
        self.durable.store(false, Ordering::Relaxed);
    }

    /// Puts back what was stored, before anything else comes in; what exceeds the bounds comes back.
    pub(super) fn restore(&self, queue: impl IntoIterator<Item = Queued>, next_sequence: u64) -> Vec<Queued> {
        let mut inner = self.inner.lock();
        let mut excess = Vec::new();
        for queued in queue {
            let bytes = inner.bytes + queued.parcel.weight();
            if inner.parcels.len() >= self.max_messages || bytes > self.max_bytes {
                excess.push(queued);
            } else {
                inner.bytes = bytes;
                inner.parcels.push_back(queued);
            }
        }
        inner.next_sequence = next_sequence;
        excess
    }

    /// Whether a delivery of `qos` is stored.
    pub(super) fn stores(&self, qos: QoS) -> bool {
        qos != QoS::AtMostOnce && self.durable.load(Ordering::Relaxed)
    }

    /// Adds a message, or gives it back when there is no room or no session any more.
    pub(super) fn push(&self, parcel: Parcel) -> Result<(), Box<Rejected>> {
        match self.store.get() {
            Some((store, _)) if self.stores(parcel.qos) => self.push_in(parcel, Some(&mut store.batch())),
            _ => self.push_in(parcel, None),
        }
    }

    /// The same within a batch of the store, which a durable session's message becomes part of.
    pub(super) fn push_in(&self, parcel: Parcel, batch: Option<&mut Batch<'_>>) -> Result<(), Box<Rejected>> {
        let mut inner = self.inner.lock();
        let bytes = inner.bytes + parcel.weight();
        let reason = if !inner.open {
            DropReason::SessionEnded
        } else if inner.parcels.len() >= self.max_messages || bytes > self.max_bytes {
            DropReason::QueueFull
        } else {
            inner.bytes = bytes;
            let sequence = inner.next_sequence;
            inner.next_sequence += 1;
            if let (Some((_, session)), Some(batch), true) = (self.store.get(), batch, self.stores(parcel.qos)) {
                batch.add(Change::Queued(Place { session: *session, sequence }, Box::new((&parcel).into())));
            }
            inner.parcels.push_back(Queued { sequence, parcel });
            let first = inner.parcels.len() == 1;
            drop(inner);
            if first {
                self.wake.notify_one();
            }
            return Ok(());
        };
        Err(Box::new(Rejected { parcel, reason, client: Arc::clone(&inner.client) }))
    }

    /// Moves up to `count` messages of together about `bytes` into `into`, oldest first, at least one; whether more are left.
    pub(super) fn take(&self, count: usize, bytes: usize, into: &mut Vec<Queued>) -> bool {
        let mut inner = self.inner.lock();
        let (mut taken, mut weight) = (0, 0);
        while taken < count && weight < bytes {
            let Some(queued) = inner.parcels.pop_front() else { break };
            taken += 1;
            weight += queued.parcel.weight();
            into.push(queued);
        }
        inner.bytes -= weight;
        !inner.parcels.is_empty()
    }

    /// How many messages wait, and what they weigh in bytes.
    pub(super) fn backlog(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.parcels.len(), inner.bytes)
    }

    /// A verdict that a former connection of the session still brings.
    pub(super) fn bring(&self, number: u64, verdict: Verdict) {
        self.inner.lock().verdicts.push((number, verdict));
        self.wake.notify_one();
    }

    /// The verdicts that were brought.
    pub(super) fn verdicts(&self) -> Vec<(u64, Verdict)> {
        std::mem::take(&mut self.inner.lock().verdicts)
    }

    /// The session ended: what waited, and nothing is taken any more.
    pub(super) fn close(&self) -> impl Iterator<Item = Parcel> + use<> {
        let mut inner = self.inner.lock();
        inner.open = false;
        inner.bytes = 0;
        std::mem::take(&mut inner.parcels).into_iter().map(|queued| queued.parcel)
    }

    /// Waits until something may have been added to an empty mailbox; cancel-safe.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }
}
