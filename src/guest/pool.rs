//! The places of one guest version: each takes one call at a time and keeps what the next call can use again.
//!
//! Invariants: no more places than `limits.instances`; only an instance whose call has ended well comes back; a call that is abandoned
//! half-way takes its instance along, and its place is free for a new one. Those who wait are served in order.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    call::Ended,
    failure::Failure,
    instance::Instance,
    overrun::{Slice, Work},
    room::Room,
};

/// What a place keeps between calls.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) instance: Option<Box<Instance>>,
    /// The box of the last call, for the next.
    pub(super) work: Option<Work<Ended>>,
    pub(super) slice: Arc<Slice>,
    /// The node's name as the last call gave it.
    pub(super) node: Arc<str>,
}

/// The right to one place; whoever drops it gives the place up.
pub(super) struct Place {
    pool: Arc<Pool>,
    given_back: bool,
}

/// A place on loan with what it keeps.
pub(super) struct Lease {
    pub(super) seat: Seat,
    pub(super) place: Place,
}

/// The places of one guest version.
pub(super) struct Pool {
    places: Mutex<Places>,
    most: usize,
    wait: Duration,
    room: Arc<Room>,
    idle_instances: Gauge,
    waits: Counter,
}

#[derive(Default)]
struct Places {
    /// The last used on top, because its memory is the warmest.
    idle: Vec<Seat>,
    /// On loan or idle.
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Lease>>,
}

impl Pool {
    /// A pool of at most `most` places. `idle_instances` counts for all versions of a guest.
    pub(super) fn new(most: usize, wait_ms: u64, room: &Arc<Room>, idle_instances: Gauge, waits: Counter) -> Arc<Self> {
        let wait = Duration::from_millis(wait_ms);
        let pool = Arc::new(Pool { places: Mutex::default(), most, wait, room: Arc::clone(room), idle_instances, waits });
        room.note(&pool);
        pool
    }

    /// A place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut places = self.places.lock();
        let seat = match places.idle.pop() {
            Some(seat) => Some(seat),
            None if places.taken < self.most => {
                places.taken += 1;
                None
            }
            None => return None,
        };
        drop(places);
        if seat.as_ref().is_some_and(|seat| seat.instance.is_some()) {
            self.idle_instances.dec();
        }
        Some(Lease { seat: seat.unwrap_or_default(), place: Place { pool: Arc::clone(self), given_back: false } })
    }

    /// The wait for a place.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<Lease, Failure> {
        self.waits.inc();
        let ends_at = Instant::now() + self.wait;
        let (give, mut take) = oneshot::channel();
        self.places.lock().waiting.push_back(give);
        // One may have become free before anybody could see this one waiting.
        if let Some(lease) = self.take() {
            lease.give_back();
        }
        let waited = timeout_at(ends_at.into(), &mut take).await;
        if let Ok(Ok(lease)) = waited {
            return Ok(lease);
        }
        take.close();
        let last = take.try_recv();
        self.places.lock().waiting.retain(|waiting| !waiting.is_closed());
        last.map_err(|_| Failure::NoInstance { waited_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX) })
    }

    /// How many instances nobody uses.
    pub(super) fn idle(&self) -> usize {
        self.places.lock().idle.iter().filter(|seat| seat.instance.is_some()).count()
    }

    /// Takes the instance away that was idle the longest.
    pub(super) fn take_away(&self) -> Option<Box<Instance>> {
        let instance = self.places.lock().idle.iter_mut().find_map(|seat| seat.instance.take());
        if instance.is_some() {
            self.idle_instances.dec();
        }
        instance
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.idle_instances.dec_by(self.idle() as i64);
    }
}

impl Lease {
    /// Brings the place back for the next call, with its instance unless others need the room.
    pub(super) fn give_back(self) {
        let Lease { mut seat, mut place } = self;
        if place.pool.room.is_wanted() {
            seat.instance = None;
        }
        loop {
            let mut places = place.pool.places.lock();
            let Some(next) = places.waiting.pop_front() else {
                if seat.instance.is_some() {
                    place.pool.idle_instances.inc();
                }
                places.idle.push(seat);
                drop(places);
                place.given_back = true;
                return;
            };
            drop(places);
            match next.send(Lease { seat, place }) {
                Ok(()) => return,
                Err(unwanted) => Lease { seat, place } = unwanted,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        let mut places = self.pool.places.lock();
        if places.waiting.is_empty() {
            places.taken = places.taken.saturating_sub(1);
            return;
        }
        drop(places);
        let place = Place { pool: Arc::clone(&self.pool), given_back: false };
        Lease { seat: Seat::default(), place }.give_back();
    }
}

/// On loan.
impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(most: usize, wait_ms: u64) -> Arc<Pool> {
        Pool::new(most, wait_ms, &Room::new(10, 1 << 20), Gauge::default(), Counter::default())
    }

    #[tokio::test]
    async fn those_who_wait_are_served_in_order() {
        let pool = pool(1, 60_000);
        let first = pool.take().unwrap();
        assert!(pool.take().is_none());
        let served = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..3)
            .map(|number| {
                let (pool, served) = (Arc::clone(&pool), Arc::clone(&served));
                tokio::spawn(async move {
                    let lease = pool.wait().await.unwrap();
                    served.lock().push(number);
                    // Brought back, given up: the next is served either way.
                    if number == 1 { drop(lease) } else { lease.give_back() }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        first.give_back();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*served.lock(), [0, 1, 2]);
        let places = pool.places.lock();
        assert_eq!((places.taken, places.idle.len()), (1, 1));
    }

    #[tokio::test]
    async fn a_wait_ends_and_leaves_nothing() {
        let pool = pool(1, 1);
        let lease = pool.take().unwrap();
        assert_eq!(pool.wait().await.err(), Some(Failure::NoInstance { waited_ms: 1 }));
        assert_eq!(pool.places.lock().waiting.len(), 0);
        // Nobody takes what was handed over: it goes on to the next, or back.
        let waiting = Box::pin(pool.wait());
        tokio::select! { biased; _ = waiting => {}, () = std::future::ready(()) => {} }
        drop(lease);
        assert!(pool.take().is_some());
    }
}
