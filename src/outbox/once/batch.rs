//! The lots of one transaction.

use super::{lot::Lot, ledger::Ledger};
use crate::{
    event::Text,
    kafka::{Failed, Marker, Record},
    store::{Change, Intent},
};

/// Publishes of one transaction, at most.
const MOST_LOTS: usize = 1_000;
/// Bytes of one transaction, about.
const MOST_BYTES: usize = 8 << 20;

/// Lots in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lots: Vec<Lot>,
    bytes: usize,
}

/// What a transaction needs beside its records.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) marker: Marker,
    pub(super) topic: Text,
    /// What must be durable before it commits.
    pub(super) changes: Vec<Change>,
}

impl Batch {
    pub(super) fn push(&mut self, lot: Lot) {
        self.bytes += lot.bytes();
        self.lots.push(lot);
    }

    pub(super) fn is_full(&self) -> bool {
        self.lots.len() >= MOST_LOTS || self.bytes >= MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    /// Leaves the first half; the later one.
    pub(super) fn split_in_half(&mut self) -> Batch {
        self.split(self.lots.len() / 2)
    }

    /// Leaves what comes before the lot with the largest record; that lot, and what comes after it.
    pub(super) fn split_at_largest(&mut self) -> (Batch, Batch) {
        let largest = |(_, lot): &(usize, &Lot)| lot.largest();
        let at = self.lots.iter().enumerate().max_by_key(largest).map_or(0, |(at, _)| at);
        let mut rest = self.split(at);
        let after = rest.split(1);
        (rest, after)
    }

    fn split(&mut self, at: usize) -> Batch {
        Batch { lots: self.lots.split_off(at), bytes: 0 }
    }

    /// The records, with the index of the lot of each.
    pub(super) fn records(&self) -> (Vec<&Record>, Vec<usize>) {
        let all = self.lots.iter().enumerate().flat_map(|(lot, Lot { records, .. })| records.iter().map(move |record| (record, lot)));
        all.unzip()
    }

    /// Numbers the lots; `None`: there is nothing to keep the marker with.
    pub(super) fn plan(&self, ledger: &mut Ledger) -> Option<Plan> {
        let topic = match self.lots.first().and_then(|lot| lot.records.first()) {
            Some(record) => ledger.keep_with(&record.topic),
            None => ledger.topic()?.clone(),
        };
        let (first, marker) = ledger.take(self.lots.len());
        let mut changes = Vec::with_capacity(self.lots.len() + 1);
        if ledger.is_unproven() {
            changes.push(ledger.change());
        }
        for (lot, number) in self.lots.iter().zip(first..) {
            let Some(origin) = lot.receipt().and_then(|receipt| receipt.origin()) else { continue };
            origin.is_underway(ledger.cluster());
            let intent = Intent { id: origin.id, cluster: ledger.cluster().clone(), number, digest: origin.digest };
            changes.push(Change::Intended(origin.session, Box::new(intent)));
        }
        Some(Plan { marker, topic, changes })
    }

    /// Takes out the lots that fail in any case, each with its first failure.
    pub(super) fn take_out(&mut self, failed: Vec<Failed>, owners: &[usize]) -> Vec<(Lot, Failed)> {
        let mut by_lot: Vec<Option<Failed>> = self.lots.iter().map(|_| None).collect();
        for failure in failed {
            let lot = owners.get(failure.index).and_then(|lot| by_lot.get_mut(*lot));
            if let Some(slot) = lot.filter(|slot| slot.is_none()) {
                *slot = Some(failure);
            }
        }
        let (mut out, mut left) = (Vec::new(), Vec::new());
        for (lot, failure) in self.lots.drain(..).zip(by_lot) {
            match failure {
                Some(failure) => out.push((lot, failure)),
                None => left.push(lot),
            }
        }
        self.lots = left;
        out
    }
}
