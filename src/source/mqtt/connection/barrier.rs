//! What was encoded and must not leave yet: bytes that say something which is not durable.
//!
//! The session's [`Output::Barrier`](crate::source::mqtt::session::Output::Barrier) puts a gate into the output: what follows waits until
//! everything persisted before is committed. The order of bytes never changes. A connection without gates pays one branch.

use std::{collections::VecDeque, future::pending};

use tokio::sync::watch;

use super::Connection;
use crate::store::{Change, Store, StoredWill, Ticket};

/// The gates in one connection's output.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    commits: Option<watch::Receiver<Ticket>>,
    /// What was persisted last.
    last: Ticket,
    /// Where gates are, counted from the connection's first byte, and what opens them.
    gates: VecDeque<(u64, Ticket)>,
    written: u64,
}

impl Barrier {
    pub(super) fn new(store: Option<&Store>) -> Self {
        Barrier { commits: store.map(Store::commits), ..Barrier::default() }
    }

    /// Something was persisted.
    pub(super) fn note(&mut self, ticket: Ticket) {
        self.last = self.last.max(ticket);
    }

    /// What follows the `length` bytes of output waits for what was persisted so far.
    pub(super) fn put(&mut self, length: usize) {
        let position = self.written + length as u64;
        match self.gates.back_mut() {
            Some((last, ticket)) if *last == position => *ticket = self.last,
            _ => self.gates.push_back((position, self.last)),
        }
    }

    /// How many of the `length` bytes of output may leave.
    pub(super) fn ready(&mut self, length: usize) -> usize {
        if self.gates.is_empty() {
            return length;
        }
        let committed = self.commits.as_ref().map_or(self.last, |commits| *commits.borrow());
        while self.gates.front().is_some_and(|(_, ticket)| *ticket <= committed) {
            self.gates.pop_front();
        }
        let free = |(position, _): &(u64, Ticket)| usize::try_from(position - self.written).unwrap_or(usize::MAX).min(length);
        self.gates.front().map_or(length, free)
    }

    /// So many bytes have left, or were thrown away.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Waits until the next gate opens; for ever when there is none. Cancel-safe.
    pub(super) async fn opened(&mut self) {
        match (self.gates.front(), &mut self.commits) {
            (Some((_, ticket)), Some(commits)) => {
                if commits.wait_for(|committed| committed >= ticket).await.is_err() {
                    pending::<()>().await; // the store is gone, and with it the process
                }
            }
            _ => pending().await,
        }
    }
}

impl Connection {
    /// A client is in: its session and will are durable before it is told, and so is the end of the session that it displaced.
    pub(super) fn persist_session(&mut self, displaced: bool) {
        let (Some(store), Some(session)) = (&self.shared.store, &mut self.session) else { return };
        session.keep_in(Some(store));
        if !session.is_durable() {
            if displaced {
                self.barrier.note(store.add(Change::Ended(session.number())));
                self.barrier.put(self.output.len());
            }
            return;
        }
        let will = self.terms.will.as_ref();
        let will = will.map(|will| Box::new(StoredWill { message: will.message.clone(), delay_s: will.delay_s }));
        let mut batch = store.batch();
        batch.add(Change::Session(Box::new(session.state(None))));
        batch.add(Change::Will(session.number(), will));
        self.barrier.note(batch.ticket());
        drop(batch);
        self.barrier.put(self.output.len());
    }

    /// Hands over what the session wants durable.
    pub(super) fn persist_changes(&mut self) {
        if let Some(store) = self.shared.store.as_ref().filter(|_| !self.changes.is_empty()) {
            let mut batch = store.batch();
            self.changes.drain(..).for_each(|change| batch.add(change));
            self.barrier.note(batch.ticket());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Image;

    #[test]
    fn bytes_behind_a_gate_leave_when_its_ticket_is_committed() {
        let store = Store::detached();
        let mut barrier = Barrier::new(Some(&store));
        let (mut image, mut length) = (Image::default(), 10);
        assert_eq!(barrier.ready(length), 10);
        barrier.note(store.add(Change::Ended(1)));
        barrier.put(length); // a gate after ten bytes
        length += 5;
        barrier.put(length); // another after fifteen, of the same commit
        length += 5;
        assert_eq!(barrier.ready(length), 10);
        barrier.wrote(4);
        assert_eq!(barrier.ready(length - 4), 6);
        assert!(store.commit_into(&mut image));
        barrier.note(store.add(Change::Ended(2)));
        assert_eq!(barrier.ready(length - 4), 16, "what was persisted later holds back nothing that was encoded before");
        barrier.wrote(16);
        barrier.put(0);
        assert_eq!(barrier.ready(7), 0);
        assert!(store.commit_into(&mut image));
        assert_eq!(barrier.ready(7), 7);
    }
}
