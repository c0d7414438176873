//! What happens where no connection is at hand to raise it: drops for absent receivers, wills that come due, sessions that end.
//!
//! Two tasks do it, each in order: one raises events, one publishes wills. They are two because a will waits for the bus, the bus for room
//! among the events, and the events must wait for neither. Both queues are bounded: when the line to Kafka is slow, those who add wait.

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};

use super::{Shared, publish::publish, session::Trace};
use crate::{
    event::{Client, Detail, DropReason, Dropping, Message, Receipt, Text},
    pipeline::Permissions,
};

/// Entries of each queue that may wait.
const QUEUE: usize = 1024;

/// Something to do later.
#[derive(Debug)]
enum Late<T> {
    Do(Arc<Client>, T),
    Done(oneshot::Sender<()>),
}

/// The way to the tasks; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Aftermath {
    events: mpsc::Sender<Late<Detail>>,
    wills: mpsc::Sender<Late<Box<Message>>>,
}

/// The tasks' ends of the queues, until the broker is complete.
#[derive(Debug)]
pub(super) struct Pending {
    events: mpsc::Receiver<Late<Detail>>,
    wills: mpsc::Receiver<Late<Box<Message>>>,
}

impl Aftermath {
    /// The queues, and their ends for [`Pending::start`].
    pub(super) fn new() -> (Self, Pending) {
        let (events, pending_events) = mpsc::channel(QUEUE);
        let (wills, pending_wills) = mpsc::channel(QUEUE);
        (Aftermath { events, wills }, Pending { events: pending_events, wills: pending_wills })
    }

    /// Raises `message.dropped` for `client`; the pipeline counts and logs it.
    pub(super) async fn dropped(&self, client: Arc<Client>, message: Arc<Message>, reason: DropReason) {
        self.raise(client, Detail::MessageDropped(Dropping { message, reason, explanation: Text::new() })).await;
    }

    /// The same if there is room for it; says whether there was.
    pub(super) fn try_dropped(&self, client: &Arc<Client>, message: Message, reason: DropReason) -> bool {
        let dropping = Dropping { message: Arc::new(message), reason, explanation: Text::new() };
        self.events.try_send(Late::Do(Arc::clone(client), Detail::MessageDropped(dropping))).is_ok()
    }

    /// Raises an event of `client`.
    pub(super) async fn raise(&self, client: Arc<Client>, detail: Detail) {
        add(&self.events, Late::Do(client, detail)).await;
    }

    /// Publishes a will.
    pub(super) async fn publish(&self, client: Arc<Client>, message: Message) {
        add(&self.wills, Late::Do(client, Box::new(message))).await;
    }

    /// Waits until everything added before is done.
    pub(super) async fn flush(&self) {
        let (wills, wait_wills) = oneshot::channel();
        add(&self.wills, Late::Done(wills)).await;
        let _ = wait_wills.await; // an error: the task has ended, so nothing is left to wait for
        let (events, wait_events) = oneshot::channel();
        add(&self.events, Late::Done(events)).await;
        let _ = wait_events.await;
    }
}

async fn add<T>(queue: &mpsc::Sender<Late<T>>, late: Late<T>) {
    if queue.send(late).await.is_err() {
        tracing::debug!("the broker is gone; what came after its end is not raised");
    }
}

impl Pending {
    /// Starts the tasks; they end with the queues or the broker.
    pub(super) fn start(self, shared: &Arc<Shared>) {
        tokio::spawn(raise(self.events, Arc::downgrade(shared)));
        tokio::spawn(publish_wills(self.wills, Arc::downgrade(shared)));
    }

    /// The reasons of the drops that wait to be raised.
    #[cfg(test)]
    pub(super) fn drops(&mut self) -> Vec<DropReason> {
        let mut reasons = Vec::new();
        while let Ok(late) = self.events.try_recv() {
            if let Late::Do(_, Detail::MessageDropped(dropping)) = late {
                reasons.push(dropping.reason);
            }
        }
        reasons
    }
}

async fn raise(mut events: mpsc::Receiver<Late<Detail>>, shared: Weak<Shared>) {
    while let Some(late) = events.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        match late {
            Late::Do(client, detail) => shared.pipeline.observe(&client, detail).await,
            Late::Done(done) => answer(done),
        }
    }
}

async fn publish_wills(mut wills: mpsc::Receiver<Late<Box<Message>>>, shared: Weak<Shared>) {
    while let Some(late) = wills.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        match late {
            Late::Do(client, message) => {
                let mut permissions = Permissions::default();
                let published = publish(&shared, &client, *message, Receipt::nobody(), Trace::None, &mut permissions);
                if let (_, Some(routed)) = published.await {
                    shared.bus.send(&client.client_id, &mut vec![routed]).await;
                }
            }
            Late::Done(done) => answer(done),
        }
    }
}

fn answer(done: oneshot::Sender<()>) {
    let _ = done.send(()); // an error: nobody waits any more
}
