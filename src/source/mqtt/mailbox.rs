//! What waits for one session: filled by the bus, emptied by the session's connection, bounded in messages and bytes.
//!
//! It outlives connections, so that a persistent session collects while its client is away, and carries the verdicts of publishes that a
//! former connection is still finishing. Absent: what was sent and not yet acknowledged; that is the session's outbound window.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{figures::Figures, session::Verdict};
use crate::{
    config::Mqtt,
    event::{Client, DropReason, Message, QoS, Text},
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
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    parcels: VecDeque<Parcel>,
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
            inner: Mutex::new(Inner { client: Arc::clone(client), parcels: VecDeque::new(), bytes: 0, verdicts: Vec::new(), open: true }),
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

    /// Adds a message, or gives it back when there is no room or no session any more.
    pub(super) fn push(&self, parcel: Parcel) -> Result<(), Box<Rejected>> {
        let mut inner = self.inner.lock();
        let bytes = inner.bytes + parcel.weight();
        let reason = if !inner.open {
            DropReason::SessionEnded
        } else if inner.parcels.len() >= self.max_messages || bytes > self.max_bytes {
            DropReason::QueueFull
        } else {
            inner.bytes = bytes;
            inner.parcels.push_back(parcel);
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
    pub(super) fn take(&self, count: usize, bytes: usize, into: &mut Vec<Parcel>) -> bool {
        let mut inner = self.inner.lock();
        let (mut taken, mut weight) = (0, 0);
        while taken < count && weight < bytes {
            let Some(parcel) = inner.parcels.pop_front() else { break };
            taken += 1;
            weight += parcel.weight();
            into.push(parcel);
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
    pub(super) fn close(&self) -> VecDeque<Parcel> {
        let mut inner = self.inner.lock();
        inner.open = false;
        inner.bytes = 0;
        std::mem::take(&mut inner.parcels)
    }

    /// Waits until something may have been added to an empty mailbox; cancel-safe.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }
}
