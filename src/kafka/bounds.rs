//! How much may be outstanding.
//!
//! Records and bytes are bounded by number, and records by time, too: no more are let in than Kafka answers in the time that
//! [`Pace`] is given, so that a record does not wait long behind others when Kafka is slow.
//!
//! The bounds are first come, first served: a caller that waits keeps its place, and is woken by the delivery report that makes room.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, TryAcquireError};

use super::pace::Pace;

/// The clock is read once for so many answers.
const LOOK_EVERY: u64 = 32;

/// The room for records that Kafka has not confirmed.
#[derive(Debug)]
pub(crate) struct Bounds {
    records: Semaphore,
    bytes: Semaphore,
    most_bytes: u32,
    outstanding: AtomicUsize,
    empty: Notify,
    timed: Option<Timed>,
}

/// The bound by time.
#[derive(Debug)]
struct Timed {
    pace: Mutex<Pace>,
    answered: AtomicU64,
    /// Room for so many records is withdrawn when it is given back.
    withdrawn: AtomicUsize,
    /// Somebody had to wait since the last look.
    waited: AtomicBool,
}

/// The producer is being drained: nobody comes in any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Bounds {
    /// `patience` zero: by number only.
    pub(crate) fn new(records: usize, bytes: usize, patience: Duration) -> Self {
        let records = records.min(Semaphore::MAX_PERMITS);
        let most_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let timed = || Timed {
            pace: Mutex::new(Pace::new(records, patience)),
            answered: AtomicU64::new(0),
            withdrawn: AtomicUsize::new(0),
            waited: AtomicBool::new(false),
        };
        Bounds {
            records: Semaphore::new(records),
            bytes: Semaphore::new(most_bytes as usize),
            most_bytes,
            outstanding: AtomicUsize::new(0),
            empty: Notify::new(),
            timed: (!patience.is_zero()).then(timed),
        }
    }

    /// Waits for room for one record. A record that is bigger than the whole bound takes all of it, alone.
    pub(crate) async fn enter(&self, bytes: usize) -> Result<(), Closed> {
        let record = match self.records.try_acquire() {
            Ok(record) => record,
            Err(TryAcquireError::Closed) => return Err(Closed),
            Err(TryAcquireError::NoPermits) => {
                if let Some(timed) = &self.timed {
                    timed.waited.store(true, Ordering::Relaxed);
                }
                self.records.acquire().await.map_err(|_| Closed)?
            }
        };
        let room = self.bytes.acquire_many(self.weight(bytes)).await.map_err(|_| Closed)?;
        record.forget();
        room.forget();
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what [`Bounds::enter`] took.
    pub(crate) fn leave(&self, bytes: usize) {
        let left = self.outstanding.fetch_sub(1, Ordering::AcqRel) - 1; // before the permits, so that it never exceeds the bound
        self.bytes.add_permits(self.weight(bytes) as usize);
        match &self.timed {
            None => self.records.add_permits(1),
            Some(timed) => {
                if !timed.withdraws() {
                    self.records.add_permits(1);
                }
                if (timed.answered.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LOOK_EVERY) {
                    self.look(Instant::now());
                }
            }
        }
        if left == 0 {
            self.empty.notify_waiters();
        }
    }

    /// Fits the bound by time to what Kafka answers. Called with every so many answers, and now and then when there are none.
    pub(super) fn look(&self, now: Instant) {
        let Some(timed) = &self.timed else { return };
        let Some(mut pace) = timed.pace.try_lock() else { return }; // somebody else is at it
        let before = pace.limit();
        let is_full = timed.waited.swap(false, Ordering::Relaxed) || self.records.available_permits() == 0;
        let after = pace.observe(now, timed.answered.load(Ordering::Relaxed), is_full);
        if after > before {
            let more = after - before;
            let owed = timed.withdrawn.fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| Some(owed.saturating_sub(more)));
            self.records.add_permits(more.saturating_sub(owed.unwrap_or_default()));
        } else if after < before {
            let taken = self.records.forget_permits(before - after);
            timed.withdrawn.fetch_add(before - after - taken, Ordering::AcqRel);
        }
    }

    /// Lets nobody in any more, those who wait neither.
    pub(crate) fn close(&self) {
        self.records.close();
        self.bytes.close();
    }

    fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most_bytes)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.records.is_closed()
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until nothing is outstanding.
    pub(crate) async fn until_empty(&self) {
        loop {
            let mut empty = std::pin::pin!(self.empty.notified());
            empty.as_mut().enable();
            if self.outstanding() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Timed {
    /// Whether the room that one record gives back is withdrawn.
    fn withdraws(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed) > 0
            && self.withdrawn.fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| owed.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_room_follows_the_pace() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let bounds = Bounds::new(1_000, 1 << 20, Duration::from_secs(1));
        bounds.look(at(0));
        for _ in 0..1_000 {
            bounds.enter(1).await.expect("room by number");
        }
        bounds.look(at(1_000)); // from here on it is full
        for _ in 0..10 {
            bounds.leave(1);
        }
        for _ in 0..10 {
            bounds.enter(1).await.expect("as many as left");
        }
        bounds.look(at(2_000));
        assert_eq!(bounds.timed.as_ref().map(|timed| timed.pace.lock().limit()), Some(256), "ten a second: the least");
        for left in 1..=745 {
            bounds.leave(1);
            assert_eq!(bounds.records.available_permits(), left.max(744) - 744, "after {left}");
        }
        let answered = |count: u64| bounds.timed.as_ref().map(|timed| timed.answered.fetch_add(count, Ordering::Relaxed));
        for (second, left) in [(3_000, 1), (4_000, 745)] {
            answered(1_000);
            bounds.look(at(second));
            assert!(bounds.records.available_permits() >= left, "it answers 1 000 a second again");
        }
        assert_eq!(bounds.records.available_permits(), 1_000 - 255);
        for _ in 0..255 {
            bounds.leave(1);
        }
        assert_eq!((bounds.outstanding(), bounds.records.available_permits()), (0, 1_000));
    }
}
