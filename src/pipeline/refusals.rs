//! Messages whose record Kafka refuses for good and whose publisher nobody can tell (QoS 0, or a record of a later moment: delivered, acked):
//! raised as `message.dropped` with the reason `kafka-refused`.
//!
//! Only while a route wants that: a witness rides along with each such event then. A refused record of a `message.dropped` route raises
//! nothing, so that there is no loop; Kafka's own counters have it.

use std::sync::{Arc, Weak};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::{Pipeline, Plan};
use crate::{
    event::{Client, Detail, DropReason, Dropping, Event, Message, Outcome, Receipt, Text},
    hook::Hook,
};

/// Refusals that wait to be raised; beyond, they are only counted.
const QUEUE: usize = 1_024;

/// The way to the task that raises them.
#[derive(Debug)]
pub(super) struct Refusals {
    queue: mpsc::Sender<Refused>,
    /// Counts those that find no room.
    missed: Option<Counter>,
}

/// A message whose record Kafka refused.
#[derive(Debug)]
struct Refused {
    client: Arc<Client>,
    message: Arc<Message>,
    explanation: Text,
}

impl Refusals {
    fn add(&self, refused: Refused) {
        if self.queue.try_send(refused).is_err()
            && let Some(missed) = &self.missed
        {
            missed.inc();
        }
    }
}

impl Pipeline {
    /// From now on refusals that nobody is told of are raised, for routes that want them. Must be called in a runtime.
    pub fn raise_refusals(self: &Arc<Self>) {
        let (queue, refused) = mpsc::channel(QUEUE);
        let missed = self.counted.drops.get(DropReason::KafkaRefused as usize).cloned();
        if self.refusals.set(Arc::new(Refusals { queue, missed })).is_ok() {
            tokio::spawn(raise(Arc::downgrade(self), refused));
        }
    }

    /// The receipt for an event's records: `receipt` itself, unless nobody waits for it and somebody wants to know of a refusal.
    pub(super) fn witnessed(&self, plan: &Plan, event: &Event, receipt: Receipt) -> Receipt {
        if !plan.wants_refusals || !receipt.is_nobodys() || event.detail.hook() == Hook::MessageDropped {
            return receipt;
        }
        let (Some(message), Some(refusals)) = (event.detail.message(), self.refusals.get()) else { return receipt };
        let (client, message, refusals) = (Arc::clone(&event.client), Arc::clone(message), Arc::clone(refusals));
        Receipt::witness(move |outcome| {
            if let Outcome::Refused(refusal) = outcome {
                refusals.add(Refused { client, message, explanation: refusal.text().clone() });
            }
        })
    }
}

async fn raise(pipeline: Weak<Pipeline>, mut refused: mpsc::Receiver<Refused>) {
    while let Some(Refused { client, message, explanation }) = refused.recv().await {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let dropping = Dropping { message, reason: DropReason::KafkaRefused, explanation };
        pipeline.observe(&client, Detail::MessageDropped(dropping)).await;
    }
}
