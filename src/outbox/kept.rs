//! Records that are kept in sight until Kafka has answered: those whose order is strict, and those that become dead letters when they
//! are refused.
//!
//! What follows the answer rides along with the record, so that there is no task and no table entry for it. Invariant: a record's receipt
//! is settled before its lane is left, so that who is let in next sees what became of it.

use std::sync::Arc;

use super::{
    Cluster,
    lane::{Lanes, Pass},
    refused::Letters,
};
use crate::{
    config::{Delivery, OnRefusal},
    event::{Outcome, Receipt, Refusal, Text},
    kafka::{End, Producer, Record},
};

/// The way of a route that asks for order, or for dead letters.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    producer: Producer,
    /// Records of a key at once.
    most: Option<usize>,
    lanes: Arc<Lanes>,
    letters: Option<Letters>,
}

/// What a record holds until it is settled. Dropped in this order.
#[derive(Debug)]
pub(super) struct Stay {
    receipt: Receipt,
    pass: Option<Pass>,
}

impl Stay {
    /// Settles the receipt, then leaves the lane.
    pub(super) fn settle(self, outcome: Outcome) {
        let Stay { receipt, pass } = self;
        receipt.settle(outcome);
        drop(pass);
    }
}

impl Kept {
    pub(super) fn new(cluster: &Cluster, delivery: &Delivery) -> Self {
        let letters = (delivery.on_refusal == OnRefusal::DeadLetter).then(|| cluster.letters());
        Kept { producer: cluster.producer.clone(), most: delivery.max_in_flight, lanes: Arc::clone(&cluster.lanes), letters }
    }

    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Ends a record that is refused before it is sent.
    pub(super) fn refuse(&self, record: Record, refusal: Refusal, receipt: Receipt) {
        match &self.letters {
            Some(letters) => letters.add(record, refusal, Stay { receipt, pass: None }),
            None => receipt.settle(Outcome::Refused(refusal)),
        }
    }

    /// Sends a record when its lane has room.
    pub(super) async fn send(&self, record: Record, receipt: Receipt) {
        let pass = match self.most {
            Some(most) => self.lanes.enter(&record, most).await,
            None => None,
        };
        let stay = Stay { receipt, pass };
        if stay.receipt.overtakes() {
            return stay.settle(Outcome::Unknown(Text::from_static("a message before it is not stored, and comes again first")));
        }
        let end: End = match &self.letters {
            None => End::Call(Box::new(move |outcome| stay.settle(outcome))),
            Some(letters) => {
                let (letters, copy) = (letters.clone(), record.clone());
                End::Call(Box::new(move |outcome| match outcome {
                    Outcome::Refused(refusal) => letters.add(copy, refusal, stay),
                    outcome => stay.settle(outcome),
                }))
            }
        };
        self.producer.send(record, end).await;
    }
}
