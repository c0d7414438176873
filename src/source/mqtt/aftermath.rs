//! What happens where no connection is at hand to raise it: drops for absent receivers, wills that come due, sessions that end.
//!
//! One task does it in order. Its queue is bounded: when the line to Kafka is slow, those who add to it wait.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use super::{Shared, publish::publish};
use crate::event::{Client, Detail, DropReason, Dropping, Message, Receipt, Text};

/// Entries that may wait.
const QUEUE: usize = 1024;

/// Something to do later.
#[derive(Debug)]
enum Late {
    Observe(Arc<Client>, Detail),
    Publish(Arc<Client>, Box<Message>),
    Done(tokio::sync::oneshot::Sender<()>),
}

/// The way to the task; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Aftermath {
    queue: mpsc::Sender<Late>,
}

/// The task's end of the queue, until the broker is complete.
#[derive(Debug)]
pub(super) struct Pending(mpsc::Receiver<Late>);

impl Aftermath {
    /// A queue, and its end for [`Pending::run`].
    pub(super) fn new() -> (Self, Pending) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Aftermath { queue }, Pending(receiver))
    }

    /// Raises `message.dropped` for `client`; the pipeline counts and logs it.
    pub(super) async fn dropped(&self, client: Arc<Client>, message: Arc<Message>, reason: DropReason) {
        let detail = Detail::MessageDropped(Dropping { message, reason, explanation: Text::new() });
        self.add(Late::Observe(client, detail)).await;
    }

    /// Publishes a will.
    pub(super) async fn publish(&self, client: Arc<Client>, message: Message) {
        self.add(Late::Publish(client, Box::new(message))).await;
    }

    /// Waits until everything added before is done.
    pub(super) async fn flush(&self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.add(Late::Done(done)).await;
        let _ = wait.await; // an error: the task has ended, so nothing is left to wait for
    }

    async fn add(&self, late: Late) {
        if self.queue.send(late).await.is_err() {
            tracing::debug!("the broker is gone; an event after its end is not raised");
        }
    }
}

impl Pending {
    /// The reasons of the drops that wait to be raised.
    #[cfg(test)]
    pub(super) fn drops(&mut self) -> Vec<DropReason> {
        let mut reasons = Vec::new();
        while let Ok(late) = self.0.try_recv() {
            if let Late::Observe(_, Detail::MessageDropped(dropping)) = late {
                reasons.push(dropping.reason);
            }
        }
        reasons
    }

    /// Does what is added until nobody can add any more, or the broker is gone.
    pub(super) async fn run(mut self, shared: Weak<Shared>) {
        while let Some(late) = self.0.recv().await {
            let Some(shared) = shared.upgrade() else { return };
            match late {
                Late::Observe(client, detail) => shared.pipeline.observe(&client, detail).await,
                Late::Publish(client, message) => {
                    if let (_, Some(routed)) = publish(&shared, &client, *message, Receipt::nobody()).await {
                        shared.bus.send(&client.client_id, &mut vec![routed]).await;
                    }
                }
                Late::Done(done) => {
                    let _ = done.send(()); // an error: nobody waits any more
                }
            }
        }
    }
}
