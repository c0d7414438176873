//! The way of one route's records.

use super::{Cluster, kept::Kept, once::Once, spooled::Spooled};
use crate::{
    config::{Ack, Delivery, OnRefusal},
    event::{Origin, Outcome, Receipt, Refusal, Text},
    kafka::{Producer, Record},
};

/// How the records of one route leave.
#[derive(Clone, Debug)]
pub struct Way {
    out: Out,
    /// Whether the device is told before Kafka has answered.
    told_at_once: bool,
    dead_letter_topic: Text,
    /// Whether a record that Kafka refuses becomes a dead letter.
    buries: bool,
    /// Where its records go together with those of other such routes, by [`super::Together`].
    once: Option<Once>,
}

/// Where a record goes first.
#[derive(Clone, Debug)]
enum Out {
    /// A broker alone: every record counts as stored, and is nowhere.
    Nowhere,
    /// To Kafka, as many as there is room for.
    Straight(Producer),
    /// To Kafka, and kept in sight until it has answered.
    Kept(Kept),
    /// Onto this machine's disk, and from there to Kafka; what cannot be made is kept in sight.
    Spooled(Spooled, Kept),
}

impl Way {
    pub(super) fn new(cluster: &Cluster, delivery: &Delivery, once: Option<Once>) -> Self {
        let plain = delivery.max_in_flight.is_none() && delivery.on_refusal == OnRefusal::Report;
        let out = match &cluster.spooled {
            Some(spooled) if delivery.ack == Ack::Spool => Out::Spooled(spooled.clone(), Kept::new(cluster, delivery)),
            _ if plain => Out::Straight(cluster.producer.clone()),
            _ => Out::Kept(Kept::new(cluster, delivery)),
        };
        let buries = delivery.on_refusal == OnRefusal::DeadLetter;
        Way { out, told_at_once: delivery.ack == Ack::None, dead_letter_topic: cluster.dead_letter_topic.clone(), buries, once }
    }

    /// Every record counts as stored, and is nowhere.
    pub(super) fn nowhere() -> Self {
        Way { out: Out::Nowhere, told_at_once: false, dead_letter_topic: Text::default(), buries: false, once: None }
    }

    /// The same through transactions.
    #[cfg(test)]
    pub(super) fn through(self, once: Once) -> Self {
        Way { once: Some(once), ..self }
    }

    /// Sends a record on its way, after waiting for room. `receipt` is settled when the record is as safe as the route wants it. One
    /// caller's records keep the order of its calls.
    pub async fn send(&self, record: Record, receipt: Receipt) {
        if self.told_at_once && receipt.is_awaited() {
            self.leave(record, Receipt::nobody()).await;
            receipt.settle(Outcome::Stored);
        } else {
            self.leave(record, receipt).await;
        }
    }

    async fn leave(&self, record: Record, receipt: Receipt) {
        match &self.out {
            Out::Nowhere => receipt.settle(Outcome::Stored),
            Out::Straight(producer) => producer.send(record, receipt).await,
            // Boxed: a connection's task stays small.
            Out::Kept(kept) => Box::pin(kept.send(record, receipt)).await,
            Out::Spooled(spooled, _) => Box::pin(spooled.send(record, receipt)).await,
        }
    }

    /// Whether every publish becomes a record once; then [`super::Together`] sends its records.
    pub fn is_once(&self) -> bool {
        self.once.is_some()
    }

    /// Where a record goes that Kafka refuses, if it becomes a dead letter.
    pub(super) fn grave(&self) -> Option<&Text> {
        self.buries.then_some(&self.dead_letter_topic)
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

    /// Ends a record that could not be made as its route says, as if Kafka had refused it.
    pub fn refuse(&self, record: Record, refusal: Refusal, receipt: Receipt) {
        match &self.out {
            _ if self.told_at_once => receipt.settle(Outcome::Stored),
            Out::Nowhere | Out::Straight(_) => receipt.settle(Outcome::Refused(refusal)),
            Out::Kept(kept) | Out::Spooled(_, kept) => kept.refuse(record, refusal, receipt),
        }
    }

    /// Where dead letters go.
    pub fn dead_letter_topic(&self) -> &Text {
        &self.dead_letter_topic
    }

    /// Sends a dead letter; the receipt is settled when Kafka has it, or the spool.
    pub async fn bury(&self, record: Record, receipt: Receipt) {
        match &self.out {
            Out::Nowhere => receipt.settle(Outcome::Stored),
            Out::Straight(producer) => producer.send(record, receipt).await,
            Out::Kept(kept) => kept.producer().send(record, receipt).await,
            Out::Spooled(spooled, _) => Box::pin(spooled.send(record, receipt)).await,
        }
    }
}
