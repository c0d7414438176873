//! The lots of one transaction.

use super::{ledger::Ledger, lot::Lot};
use crate::{
    event::{Outcome, Text},
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

/// Where in a batch a record is: its lot, and its place there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    lot: usize,
    entry: usize,
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

    /// The records, and where in the batch each is.
    pub(super) fn records(&self) -> (Vec<&Record>, Vec<Spot>) {
        let spots = |(lot, it): (usize, &'_ Lot)| (0..it.entries.len()).map(move |entry| Spot { lot, entry });
        (self.lots.iter().flat_map(Lot::records).collect(), self.lots.iter().enumerate().flat_map(spots).collect())
    }

    /// Numbers the lots; `None`: there is nothing to keep the marker with.
    pub(super) fn plan(&self, ledger: &mut Ledger) -> Option<Plan> {
        let topic = match self.lots.first().and_then(|lot| lot.records().next()) {
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

    /// Takes out the lots that fail in any case, each with its first failure. A record that becomes a dead letter does not fail its lot.
    pub(super) fn take_out(&mut self, failed: Vec<Failed>, spots: &[Spot]) -> Vec<(Lot, Failed)> {
        let mut by_lot: Vec<Option<Failed>> = self.lots.iter().map(|_| None).collect();
        for failure in failed {
            let Some(Spot { lot, entry }) = spots.get(failure.index).copied() else { continue };
            let buried = match (&failure.outcome, self.lots.get_mut(lot)) {
                (Outcome::Refused(refusal), Some(lot)) => lot.bury(entry, refusal),
                _ => false,
            };
            if let Some(slot) = by_lot.get_mut(lot).filter(|slot| slot.is_none() && !buried) {
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
