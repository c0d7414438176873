//! The way of one route's records.

use super::{Cluster, once::Once};
use crate::{
    config::{Ack, Delivery},
    event::{Origin, Outcome, Receipt, Text},
    kafka::{Producer, Record},
};

/// How the records of one route leave.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where to; `None`: nowhere, a broker alone.
    producer: Option<Producer>,
    ack: Ack,
    dead_letter_topic: Text,
    /// Where its records go together with those of other such routes, by [`super::Together`].
    once: Option<Once>,
}

impl Way {
    pub(super) fn new(cluster: &Cluster, delivery: &Delivery, once: Option<Once>) -> Self {
        let Cluster { producer, dead_letter_topic, .. } = cluster;
        Way { producer: Some(producer.clone()), ack: delivery.ack, dead_letter_topic: dead_letter_topic.clone(), once }
    }

    /// Every record counts as stored, and is nowhere.
    pub(super) fn nowhere() -> Self {
        Way { producer: None, ack: Ack::None, dead_letter_topic: Text::default(), once: None }
    }

    /// The same through transactions.
    #[cfg(test)]
    pub(super) fn through(self, once: Once) -> Self {
        Way { once: Some(once), ..self }
    }

    /// Sends a record on its way, after waiting for room. `receipt` is settled when the record is as safe as the route wants it. One
    /// caller's records keep the order of its calls.
    pub async fn send(&self, record: Record, receipt: Receipt) {
        match (&self.producer, self.ack) {
            (None, _) => receipt.settle(Outcome::Stored),
            (Some(producer), Ack::None) => {
                producer.send(record, Receipt::nobody()).await;
                receipt.settle(Outcome::Stored);
            }
            (Some(producer), Ack::Kafka | Ack::Spool) => producer.send(record, receipt).await,
        }
    }

    /// Whether every publish becomes a record once; then [`super::Together`] sends its records.
    pub fn is_once(&self) -> bool {
        self.once.is_some()
    }

    pub(super) fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// Whether the cluster is known to have a publish already, and must not get it again. Waits where only Kafka knows.
    pub async fn has(&self, origin: &Origin) -> bool {
        match &self.once {
            Some(once) => once.has(origin).await,
            None => false,
        }
    }

    /// Where dead letters go.
    pub fn dead_letter_topic(&self) -> &Text {
        &self.dead_letter_topic
    }

    /// Sends a dead letter; the receipt is settled when Kafka has it.
    pub async fn bury(&self, record: Record, receipt: Receipt) {
        match &self.producer {
            None => receipt.settle(Outcome::Stored),
            Some(producer) => producer.send(record, receipt).await,
        }
    }
}
