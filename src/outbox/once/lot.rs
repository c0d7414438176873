//! One publish on its way to one cluster.

use std::{sync::Arc, time::Instant};

use super::Shared;
use crate::{
    event::{Outcome, Receipt},
    kafka::Record,
};

/// The records that a publish becomes in one cluster, and the share in its acknowledgement. Dropping it gives its room back, and its share
/// counts as unknown.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) records: Vec<Record>,
    pub(super) since: Instant,
    bytes: usize,
    receipt: Option<Receipt>,
    shared: Arc<Shared>,
}

impl Lot {
    pub(super) fn new(records: Vec<Record>, bytes: usize, receipt: Receipt, shared: &Arc<Shared>) -> Self {
        shared.metrics.records_outstanding.inc_by(i64::try_from(records.len()).unwrap_or(0));
        Lot { records, since: Instant::now(), bytes, receipt: Some(receipt), shared: Arc::clone(shared) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The size of its largest record.
    pub(super) fn largest(&self) -> usize {
        self.records.iter().map(Record::bytes).max().unwrap_or(0)
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
        self.shared.metrics.records_outstanding.dec_by(i64::try_from(self.records.len()).unwrap_or(0));
        self.shared.bounds.leave(self.bytes);
    }
}
