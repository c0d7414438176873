//! The way of one route's records.

use super::Cluster;
use crate::{
    config::{Ack, Delivery},
    event::{Outcome, Receipt, Text},
    kafka::{Producer, Record},
};

/// How the records of one route leave.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where to; `None`: nowhere, a broker alone.
    producer: Option<Producer>,
    ack: Ack,
    dead_letter_topic: Text,
}

impl Way {
    pub(super) fn new(cluster: &Cluster, delivery: &Delivery) -> Self {
        let Cluster { producer, dead_letter_topic } = cluster;
        Way { producer: Some(producer.clone()), ack: delivery.ack, dead_letter_topic: dead_letter_topic.clone() }
    }

    /// Every record counts as stored, and is nowhere.
    pub(super) fn nowhere() -> Self {
        Way { producer: None, ack: Ack::None, dead_letter_topic: Text::default() }
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
