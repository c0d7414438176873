//! What happens to an event between its source and Kafka: guests are asked, records are made, the verdict goes back.

use std::sync::Arc;

use crate::{
    event::{Client, Denial, Detail, Message, Outcome, Receipt},
    hook::Hook,
    metrics::Metrics,
};

/// What the broker does with a message that was published.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Retain it, hand it to its subscribers; this is the message from here on.
    Accept(Arc<Message>),
    /// Acknowledge it, and nothing else.
    Swallow,
    /// Tell the client.
    Deny(Denial),
}

/// The line from a source to Kafka.
#[derive(Debug)]
pub struct Pipeline {
    metrics: Arc<Metrics>,
}

impl Pipeline {
    /// A pipeline without routes: everything is accepted, nothing is produced.
    pub fn open(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Pipeline { metrics })
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether any route wants this hook's events; the broker need not make the others.
    pub fn wants(&self, _hook: Hook) -> bool {
        false
    }

    /// `message.publish`: asks the guests, hands the records to Kafka (waiting for room when it is slow), and says what the broker
    /// does. `receipt` is settled when everything that had to be stored is stored, also for a message that was refused.
    pub async fn publish(&self, _client: &Arc<Client>, message: Message, receipt: Receipt) -> Decision {
        receipt.settle(Outcome::Stored);
        Decision::Accept(Arc::new(message))
    }

    /// Any hook that observes; waits for room when Kafka is slow.
    pub async fn observe(&self, _client: &Arc<Client>, _detail: Detail) {}
}
