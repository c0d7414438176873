//! The numbers of what goes to one cluster exactly once, and what the marker in Kafka says about them. Pure: no Kafka, no disk, no clock.
//!
//! Every publish on its way has a number, stored as an intent before its transaction commits; the transaction commits the highest of its
//! numbers as the marker. So an intent is in Kafka exactly if its number is not above the marker that the *next* process finds; from then
//! on that is settled, because that process has every intent above the marker removed, durably before its own first commit, and goes on
//! with higher numbers. In the same way a living process has those intents removed that an aborted transaction left, before the commit of
//! one that does not renew them.
//!
//! A marker says this only about the store whose intents went with it. It carries the store's `owner`, drawn by lot, and the `epoch`, the
//! number of the start: a marker of another owner, or of an epoch that this store has not seen (it was restored from a backup, or lost its
//! end with the machine's power), says nothing. Then every intent counts as not stored: a record may come twice, none is lost.

use crate::{
    event::Text,
    kafka::Marker,
    store::{Change, StoredLedger},
};

/// The numbers of one cluster.
#[derive(Debug)]
pub(super) struct Ledger {
    cluster: Text,
    state: StoredLedger,
    /// The epoch of the process before this one.
    former_epoch: u64,
    next: u64,
    /// Whether a transaction of this process has committed the marker to its topic.
    proven: bool,
}

/// What a process finds when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Intents of former processes up to this number are in Kafka, and no others.
    pub(super) stored: u64,
    /// Why that is not what the marker says.
    pub(super) doubt: Option<&'static str>,
}

/// What became of a transaction whose end nobody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    Aborted,
    /// Another store writes the marker now.
    Usurped,
}

impl Ledger {
    /// The ledger of a process that starts; `lot` makes it somebody's if it is new.
    pub(super) fn begin(cluster: Text, former: Option<StoredLedger>, lot: u64) -> Self {
        let former = former.unwrap_or(StoredLedger { owner: lot, epoch: 0, topic: None });
        let state = StoredLedger { epoch: former.epoch + 1, ..former.clone() };
        Ledger { cluster, state, former_epoch: former.epoch, next: 1, proven: false }
    }

    /// The cluster's name.
    pub(super) fn cluster(&self) -> &Text {
        &self.cluster
    }

    /// The topic that the marker is kept for.
    pub(super) fn topic(&self) -> Option<&Text> {
        self.state.topic.as_ref()
    }

    /// What holds for the intents that former processes left, whose highest number is `highest`, if there are any.
    pub(super) fn find(&mut self, marker: Option<Marker>, highest: Option<u64>) -> Found {
        let found = match marker {
            None if self.state.topic.is_none() || highest.is_none() => Found { stored: 0, doubt: None },
            None => Found { stored: 0, doubt: Some("there is no marker (never was, or see offsets.retention.minutes of the brokers)") },
            Some(marker) if marker.owner != self.state.owner => Found { stored: 0, doubt: Some("the marker is another data_dir's") },
            Some(marker) if marker.epoch > self.former_epoch => {
                Found { stored: 0, doubt: Some("the marker is newer than this data_dir, which lost its end or came from a backup") }
            }
            Some(marker) => Found { stored: marker.number, doubt: None },
        };
        let used = marker.map_or(0, |marker| marker.number).max(highest.unwrap_or(0));
        self.next = self.next.max(used + 1);
        found
    }

    /// Numbers for so many publishes: the first of them, and the marker of the transaction that brings them all.
    pub(super) fn take(&mut self, count: usize) -> (u64, Marker) {
        let first = self.next;
        self.next += count.max(1) as u64;
        (first, self.marker_at(self.next - 1))
    }

    /// Where the marker is kept from now on, unless that is settled: with the first topic there is.
    pub(super) fn keep_with(&mut self, topic: &Text) -> Text {
        self.state.topic.get_or_insert_with(|| Text::from(topic.to_string())).clone()
    }

    /// There is no such topic: another one may do.
    pub(super) fn give_up_topic(&mut self) {
        self.state.topic = None;
        self.proven = false;
    }

    /// A transaction has committed.
    pub(super) fn prove(&mut self) {
        self.proven = true;
    }

    /// What must be durable before anything else of this ledger is, and again for each new topic.
    pub(super) fn change(&self) -> Change {
        Change::Ledger(self.cluster.clone(), Box::new(self.state.clone()))
    }

    /// Whether the topic has not held a marker yet, as far as this process knows.
    pub(super) fn is_unproven(&self) -> bool {
        !self.proven
    }

    /// What became of the transaction that would have committed `last`.
    pub(super) fn fate(&self, marker: Option<Marker>, last: u64) -> Fate {
        match marker {
            Some(marker) if marker.owner != self.state.owner || marker.epoch > self.state.epoch => Fate::Usurped,
            Some(marker) if marker.number >= last && marker.epoch == self.state.epoch => Fate::Committed,
            _ => Fate::Aborted,
        }
    }

    fn marker_at(&self, number: u64) -> Marker {
        Marker { number, owner: self.state.owner, epoch: self.state.epoch }
    }
}

#[cfg(test)]
mod tests;
