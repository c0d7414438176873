//! How much may be outstanding.
//!
//! Both bounds are first come, first served: a caller that waits keeps its place, and is woken by the delivery report that makes room.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore};

/// The room for records that Kafka has not confirmed.
#[derive(Debug)]
pub(crate) struct Bounds {
    records: Semaphore,
    bytes: Semaphore,
    most_bytes: u32,
    outstanding: AtomicUsize,
    empty: Notify,
}

/// The producer is being drained: nobody comes in any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Bounds {
    pub(crate) fn new(records: usize, bytes: usize) -> Self {
        let most_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Bounds {
            records: Semaphore::new(records.min(Semaphore::MAX_PERMITS)),
            bytes: Semaphore::new(most_bytes as usize),
            most_bytes,
            outstanding: AtomicUsize::new(0),
            empty: Notify::new(),
        }
    }

    /// Waits for room for one record. A record that is bigger than the whole bound takes all of it, alone.
    pub(crate) async fn enter(&self, bytes: usize) -> Result<(), Closed> {
        let record = self.records.acquire().await.map_err(|_| Closed)?;
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
        self.records.add_permits(1);
        if left == 0 {
            self.empty.notify_waiters();
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
