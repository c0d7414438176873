//! What waits to be committed: filled from everywhere without waiting, emptied by the writer in groups.
//!
//! The lock of the open group may be held while mailboxes are locked, never the other way round. It is bounded through [`Queue::is_full`]:
//! those who bring new messages wait while it is, so that it is exceeded by what is under way only.

use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use super::change::Change;
use crate::event::Receipt;

/// Changes of one group together, about, bytes; who brings more waits.
const MAX_BYTES: usize = 16 << 20;

/// When something is durable: the number of the commit that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Changes that become durable together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) changes: Vec<Change>,
    pub(super) receipts: Vec<Receipt>,
}

/// What the writer does next.
pub(super) enum Next {
    Group(Group),
    /// Nothing came in time.
    Later,
    /// Nothing comes any more.
    Closed,
}

#[derive(Debug)]
struct Open {
    group: Group,
    bytes: usize,
    closed: bool,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.group.changes.is_empty() && self.group.receipts.is_empty()
    }
}

/// The queue to the writer.
#[derive(Debug)]
pub(super) struct Queue {
    open: Mutex<Open>,
    filled: Condvar,
    committed: watch::Sender<Ticket>,
}

impl Queue {
    /// An empty one whose last commit was `commit`.
    pub(super) fn new(commit: u64) -> Self {
        let group = Group { number: commit + 1, changes: Vec::new(), receipts: Vec::new() };
        Queue {
            open: Mutex::new(Open { group, bytes: 0, closed: false }),
            filled: Condvar::new(),
            committed: watch::Sender::new(Ticket(commit)),
        }
    }

    /// Opens the group that is gathered now.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { open: self.open.lock(), queue: self }
    }

    /// The last commit, and those to come.
    pub(super) fn commits(&self) -> watch::Receiver<Ticket> {
        self.committed.subscribe()
    }

    /// The last commit.
    pub(super) fn last(&self) -> Ticket {
        *self.committed.borrow()
    }

    /// Whether new messages must wait.
    pub(super) fn is_full(&self) -> bool {
        self.open.lock().bytes >= MAX_BYTES
    }

    /// The next group, waiting for it until `deadline`.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Next {
        let mut open = self.open.lock();
        loop {
            if !open.is_empty() {
                return Next::Group(take(&mut open));
            }
            if open.closed {
                return Next::Closed;
            }
            match deadline {
                None => self.filled.wait(&mut open),
                Some(deadline) => {
                    if self.filled.wait_until(&mut open, deadline).timed_out() && open.is_empty() {
                        return Next::Later;
                    }
                }
            }
        }
    }

    /// A group is durable, and every one before it.
    pub(super) fn committed(&self, number: u64) {
        self.committed.send_replace(Ticket(number));
    }

    /// What is in is still written, and nothing else.
    pub(super) fn close(&self) {
        self.open.lock().closed = true;
        self.filled.notify_all();
    }

    /// Whether the process ends.
    pub(super) fn is_closed(&self) -> bool {
        self.open.lock().closed
    }
}

fn take(open: &mut Open) -> Group {
    open.bytes = 0;
    let number = open.group.number;
    std::mem::replace(&mut open.group, Group { number: number + 1, changes: Vec::new(), receipts: Vec::new() })
}

/// The group that is gathered now, held open: what is added while it is held becomes durable together.
#[derive(Debug)]
pub struct Batch<'a> {
    open: MutexGuard<'a, Open>,
    queue: &'a Queue,
}

impl Batch<'_> {
    /// Adds a change.
    pub fn add(&mut self, change: Change) {
        if self.open.is_empty() {
            self.queue.filled.notify_one();
        }
        self.open.bytes += change.weight();
        self.open.group.changes.push(change);
    }

    /// Adds a share in an acknowledgement, to be settled when the group is durable.
    pub fn share(&mut self, receipt: Receipt) {
        if self.open.is_empty() {
            self.queue.filled.notify_one();
        }
        self.open.group.receipts.push(receipt);
    }

    /// When what is in is durable.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.open.group.number)
    }
}
