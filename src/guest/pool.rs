//! The instances of one guest version: made on demand up to a bound, lent to one call at a time.
//!
//! Invariant: only an instance whose call has ended well comes back; one that failed, or whose call was abandoned half-way (the caller's
//! task ended), is dropped with its store, and its place is free for a new one.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::{
    failure::Failure,
    instance::{Instance, Program},
};

/// Idle instances, the last used on top, because its memory is the warmest.
pub(super) struct Pool {
    idle: Mutex<Vec<Instance>>,
    places: Semaphore,
    wait_ms: u64,
}

/// An instance on loan.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    pub(super) instance: Instance,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    /// A pool of at most `instances`, with one made already.
    pub(super) fn new(first: Instance, instances: usize, wait_ms: u64) -> Self {
        Pool { idle: Mutex::new(vec![first]), places: Semaphore::new(instances.min(Semaphore::MAX_PERMITS)), wait_ms }
    }

    /// An idle instance, or a new one, or the wait for one.
    pub(super) async fn take(&self, program: &Program) -> Result<Lease<'_>, Failure> {
        let place = self.place().await?;
        let idle = self.idle.lock().pop();
        let instance = match idle {
            Some(instance) => instance,
            None => Box::pin(program.instantiate()).await?.0, // boxed: rare, and large
        };
        Ok(Lease { pool: self, instance, _place: place })
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let none = Failure::NoInstance { waited_ms: self.wait_ms };
        match self.places.try_acquire() {
            Ok(place) => Ok(place),
            Err(TryAcquireError::Closed) => Err(none), // never closed
            Err(TryAcquireError::NoPermits) => {
                let waited = tokio::time::timeout(Duration::from_millis(self.wait_ms), self.places.acquire()).await;
                waited.map_err(|_elapsed| none.clone())?.map_err(|_closed| none)
            }
        }
    }
}

impl Lease<'_> {
    /// Brings the instance back for the next call.
    pub(super) fn give_back(self) {
        self.pool.idle.lock().push(self.instance);
    }
}
