//! One publish on its way to one cluster.

use std::{sync::Arc, time::Instant};

use super::Shared;
use crate::{
    event::{Outcome, Receipt, Refusal, Text, now_ms},
    kafka::Record,
    metrics::ReasonLabel,
    outbox::refused::dead,
};

/// A record of a lot.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    /// Where it goes if Kafka refuses it and it becomes a dead letter.
    pub(super) grave: Option<Text>,
}

/// The records that a publish becomes in one cluster, and the share in its acknowledgement. Dropping it gives its room back, and its share
/// counts as unknown.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) entries: Vec<Entry>,
    pub(super) since: Instant,
    bytes: usize,
    receipt: Option<Receipt>,
    shared: Arc<Shared>,
}

impl Lot {
    pub(super) fn new(entries: Vec<Entry>, bytes: usize, receipt: Receipt, shared: &Arc<Shared>) -> Self {
        shared.metrics.records_outstanding.inc_by(i64::try_from(entries.len()).unwrap_or(0));
        Lot { entries, since: Instant::now(), bytes, receipt: Some(receipt), shared: Arc::clone(shared) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The size of its largest record.
    pub(super) fn largest(&self) -> usize {
        self.records().map(Record::bytes).max().unwrap_or(0)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.entries.iter().map(|entry| &entry.record)
    }

    /// Puts the dead letter in the place of a record that Kafka refuses, so that it goes with the others; false if there is to be none.
    pub(super) fn bury(&mut self, entry: usize, refusal: &Refusal) -> bool {
        let Some(entry) = self.entries.get_mut(entry) else { return false };
        let Some(grave) = entry.grave.take() else { return false };
        let record = std::mem::take(&mut entry.record);
        let label = ReasonLabel { name: record.topic.to_string(), reason: refusal.word().to_owned() };
        self.shared.metrics.records_dead_lettered.get_or_create(&label).inc();
        entry.record = dead(record, refusal, &grave, now_ms());
        true
    }

    pub(super) fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// The room is given back afterwards, by `drop`: when nothing is outstanding, every receipt is settled.
    pub(super) fn settle(mut self, outcome: Outcome) {
        if let Some(receipt) = self.receipt.take() {
            receipt.settle(outcome);
        }
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        drop(self.receipt.take());
        self.shared.metrics.records_outstanding.dec_by(i64::try_from(self.entries.len()).unwrap_or(0));
        self.shared.bounds.leave(self.bytes);
    }
}
