//! What the instances of all guests share: room for so many of them, and memory.
//!
//! Invariants: an instance exists only in a slot, and the slot is free when its store is gone; trials of new versions have slots of their
//! own, so that a full house can still be renewed. An instance that nobody uses makes way for one that somebody waits for.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{failure::Failure, limits::Budget, pool::Pool};

/// Trials of new versions that may run at once when all other slots are taken.
pub(super) const TRIALS: usize = 16;

/// The room of one engine.
pub(super) struct Room {
    slots: Arc<Semaphore>,
    trials: Arc<Semaphore>,
    /// Calls that wait for a slot.
    wanted: AtomicUsize,
    pools: Mutex<Vec<Weak<Pool>>>,
    pub(super) memory: Arc<Budget>,
}

/// The right to one instance.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    /// Not to be kept when the trial is over.
    pub(super) is_for_trial: bool,
}

impl Room {
    pub(super) fn new(instances: usize, memory_bytes: usize) -> Arc<Self> {
        Arc::new(Room {
            slots: Arc::new(Semaphore::new(instances.min(Semaphore::MAX_PERMITS))),
            trials: Arc::new(Semaphore::new(TRIALS)),
            wanted: AtomicUsize::new(0),
            pools: Mutex::default(),
            memory: Budget::new(memory_bytes),
        })
    }

    /// Remembers whose instances can make way.
    pub(super) fn note(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Whether somebody waits for a slot.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// A slot for an instance, after a wait if need be.
    pub(super) async fn slot(&self, wait_ms: u64) -> Result<Slot, Failure> {
        if let Some(slot) = self.free_slot() {
            return Ok(slot);
        }
        let none = Failure::NoRoom { waited_ms: wait_ms };
        let _wanted = Wanted::new(&self.wanted);
        let freed = Arc::clone(&self.slots).acquire_owned();
        self.make_way();
        match tokio::time::timeout(Duration::from_millis(wait_ms), freed).await {
            Ok(Ok(permit)) => Ok(Slot { _permit: permit, is_for_trial: false }),
            Ok(Err(_)) | Err(_) => Err(none), // a semaphore of ours is never closed
        }
    }

    /// A slot for the first instance of a new version.
    pub(super) async fn trial(&self) -> Result<Slot, Failure> {
        if let Some(slot) = self.free_slot() {
            return Ok(slot);
        }
        let permit = Arc::clone(&self.trials).acquire_owned().await.map_err(|_| Failure::NoRoom { waited_ms: 0 })?;
        Ok(Slot { _permit: permit, is_for_trial: true })
    }

    fn free_slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Slot { _permit: permit, is_for_trial: false })
    }

    /// Ends an instance that nobody uses, of the guest that has the most of them.
    fn make_way(&self) {
        let pools: Vec<Arc<Pool>> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        let fullest = pools.iter().max_by_key(|pool| pool.idle());
        drop(fullest.and_then(|pool| pool.take_away()));
    }
}

/// Somebody waits.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(wanted: &'a AtomicUsize) -> Self {
        wanted.fetch_add(1, Ordering::Relaxed);
        Wanted(wanted)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("free_slots", &self.slots.available_permits()).finish_non_exhaustive()
    }
}
