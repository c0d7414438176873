//! What waits to be written: filled from everywhere, emptied by the writer in groups.
//!
//! Two bounds, both first come, first served: bytes that wait for the disk, and bytes on it. Both are taken before a frame goes in, so that
//! nothing is in that has no room.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::{
    frame::{HEAD_BYTES, MOST_BODY_BYTES},
    group::Group,
};
use crate::{
    config::WhenFull,
    event::{Outcome, Receipt, Refusal, Text},
};

/// Bytes that may wait for the disk; a longer frame takes all of it, alone.
const PENDING_BYTES: u32 = 8 << 20;

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Writes these frames, and gives so much room back.
    Group(Group, usize),
    /// Looks around.
    Later,
    /// Ends: nothing comes any more.
    Closed,
}

/// How far the reader's side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The first sequence that is not confirmed.
    pub(super) confirmed: u64,
    /// When the oldest record that is not confirmed was appended, as far as that is known.
    pub(super) oldest_ms: Option<u64>,
}

#[derive(Debug)]
struct Open {
    group: Group,
    /// Room in `pending` that the group took.
    pending: usize,
    progress: Progress,
    /// The progress changed since the writer noted it.
    moved: bool,
    /// Somebody wants the writer to look around.
    nudged: bool,
    closed: bool,
}

/// The queue to the writer.
#[derive(Debug)]
pub(super) struct Queue {
    open: Mutex<Open>,
    filled: Condvar,
    pending: Semaphore,
    room: Semaphore,
    /// Who waits for room on the disk.
    waiting: AtomicUsize,
    /// The disk does not take anything now.
    failing: AtomicBool,
    refused: AtomicU64,
    when_full: WhenFull,
    most_bytes: u64,
}

/// Why a record did not get in.
enum Outside {
    Full,
    Closed,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// An empty one, behind a log that ends before `next` and has room for `room` bytes of `most_bytes`.
    pub(super) fn new(next: u64, progress: Progress, room: u64, most_bytes: u64, when_full: WhenFull) -> Self {
        let open = Open { group: Group::new(next), pending: 0, progress, moved: false, nudged: false, closed: false };
        Queue {
            open: Mutex::new(open),
            filled: Condvar::new(),
            pending: Semaphore::new(PENDING_BYTES as usize),
            room: Semaphore::new(usize::try_from(room).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            when_full,
            most_bytes,
        }
    }

    /// Adds a record after waiting for room; its receipt is settled when it is durable, or cannot become so.
    pub(super) async fn append(&self, time_ms: u64, body: &[u8], receipt: Receipt) {
        let bytes = HEAD_BYTES + body.len();
        if body.len() > MOST_BODY_BYTES || bytes as u64 > self.most_bytes {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let text = format!("a record of {bytes} bytes does not fit into the spool: raise max_bytes in [spool]");
            return receipt.settle(Outcome::Refused(Refusal::TooLarge(text.into())));
        }
        match self.enter(bytes).await {
            Ok(pending) => {
                let mut open = self.open.lock();
                if open.closed {
                    return; // the receipt is dropped, which is no acknowledgement
                }
                if open.group.is_empty() {
                    self.filled.notify_one();
                }
                open.group.push(time_ms, body, receipt);
                open.pending += pending;
            }
            Err(Outside::Full) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                receipt.settle(Outcome::Refused(Refusal::Quota(Text::from_static("the spool is full: Kafka has been away for too long"))));
            }
            Err(Outside::Closed) => receipt.settle(Outcome::Unknown(Text::from_static("the spool is being closed"))),
        }
    }

    /// Takes room for a frame; what it took of the room in memory. Cancelled, it takes none.
    async fn enter(&self, bytes: usize) -> Result<usize, Outside> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.on_disk(bytes).await?;
        let weight = bytes.min(PENDING_BYTES);
        let pending = match self.pending.try_acquire_many(weight) {
            Ok(pending) => pending,
            Err(TryAcquireError::NoPermits) if self.when_full == WhenFull::Refuse && self.failing.load(Ordering::Relaxed) => {
                return Err(Outside::Full);
            }
            Err(_) => self.pending.acquire_many(weight).await.map_err(|_| Outside::Closed)?,
        };
        room.forget();
        pending.forget();
        Ok(weight as usize)
    }

    async fn on_disk(&self, bytes: u32) -> Result<SemaphorePermit<'_>, Outside> {
        match self.room.try_acquire_many(bytes) {
            Ok(room) => Ok(room),
            Err(TryAcquireError::Closed) => Err(Outside::Closed),
            Err(TryAcquireError::NoPermits) if self.when_full == WhenFull::Refuse => Err(Outside::Full),
            Err(TryAcquireError::NoPermits) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&self.waiting);
                self.nudge();
                self.room.acquire_many(bytes).await.map_err(|_| Outside::Closed)
            }
        }
    }

    /// The next group, waiting for it until `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Next {
        let mut open = self.open.lock();
        loop {
            if !open.group.is_empty() {
                let following = Group::new(open.group.end());
                let pending = std::mem::take(&mut open.pending);
                return Next::Group(std::mem::replace(&mut open.group, following), pending);
            }
            if open.closed {
                return Next::Closed;
            }
            if std::mem::take(&mut open.nudged) || self.filled.wait_until(&mut open, deadline).timed_out() {
                return Next::Later;
            }
        }
    }

    /// Waits until `deadline`, less when the queue is closed or somebody nudges.
    pub(super) fn pause(&self, deadline: Instant) {
        let mut open = self.open.lock();
        while !open.closed && !std::mem::take(&mut open.nudged) && !self.filled.wait_until(&mut open, deadline).timed_out() {}
    }

    /// Everything before `end` is durable; `pending` bytes of room in memory come back.
    pub(super) fn wrote(&self, group: &Group, pending: usize) {
        let mut open = self.open.lock();
        if open.progress.oldest_ms.is_none() {
            open.progress.oldest_ms = group.oldest_ms();
        }
        drop(open);
        self.pending.add_permits(pending);
    }

    /// So many bytes on the disk are free again.
    pub(super) fn freed(&self, bytes: u64) {
        self.room.add_permits(usize::try_from(bytes).unwrap_or_default());
    }

    /// Everything before `confirmed` is done with; `oldest_ms`: when the first of the others was appended.
    pub(super) fn confirm(&self, progress: Progress) {
        let is_wanted = self.waiting.load(Ordering::Relaxed) > 0 || self.failing.load(Ordering::Relaxed);
        let mut open = self.open.lock();
        open.progress = progress;
        let is_first = !std::mem::replace(&mut open.moved, true);
        if is_first || is_wanted {
            open.nudged = true;
            self.filled.notify_one();
        }
    }

    /// How far the reader is.
    pub(super) fn progress(&self) -> Progress {
        self.open.lock().progress
    }

    /// Whether that changed since [`Queue::noted`].
    pub(super) fn has_moved(&self) -> bool {
        self.open.lock().moved
    }

    /// The progress was written down.
    pub(super) fn noted(&self) {
        self.open.lock().moved = false;
    }

    /// Whether somebody waits for room on the disk.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether the disk takes anything.
    pub(super) fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed)
    }

    /// Records that were refused since the last question.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// What is in is still written, and nothing else.
    pub(super) fn close(&self) {
        self.open.lock().closed = true;
        self.filled.notify_all();
        self.pending.close();
        self.room.close();
    }

    /// Whether the process ends.
    pub(super) fn is_closed(&self) -> bool {
        self.open.lock().closed
    }

    fn nudge(&self) {
        self.open.lock().nudged = true;
        self.filled.notify_one();
    }
}
