//! How much of the machine's processor time one guest may take, all its instances and versions together.
//!
//! What a guest has used is paid for by time that passes: a guest with half of a machine of four cores pays one nanosecond of processor
//! time with half a nanosecond of the clock. It may run ahead by [`AHEAD`]; beyond that it is in debt and waits. Time is an argument.
//! Invariant: one atomic number, so that calls on all cores settle without a lock. Absent: who waits, and how long.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How far a guest may run ahead of its share, time on the clock.
const AHEAD: Duration = Duration::from_millis(500);

/// The account of one guest.
#[derive(Debug)]
pub(super) struct Share {
    began: Instant,
    /// Time on the clock that pays for one second of processor time, as the bits of an `f64`; 0: nothing is owed ever.
    price: AtomicU64,
    /// Until when what was used is paid for, nanoseconds since the beginning.
    paid_until_ns: AtomicU64,
}

impl Share {
    /// `part` of a machine with `cores`; a whole machine is no bound.
    pub(super) fn new(part: f64, cores: usize, now: Instant) -> Self {
        let share = Share { began: now, price: AtomicU64::new(0), paid_until_ns: AtomicU64::new(0) };
        share.set(part, cores);
        share
    }

    /// Sets the part anew; what is owed stays.
    pub(super) fn set(&self, part: f64, cores: usize) {
        let price = if part < 1.0 { (part * cores as f64).recip() } else { 0.0 };
        self.price.store(price.to_bits(), Ordering::Relaxed);
    }

    /// How long the guest must wait before it may run.
    pub(super) fn owes(&self, now: Instant) -> Duration {
        let ahead_ns = self.paid_until_ns.load(Ordering::Relaxed).saturating_sub(self.since_beginning_ns(now));
        Duration::from_nanos(ahead_ns).saturating_sub(AHEAD)
    }

    /// Notes processor time that was used.
    pub(super) fn charge(&self, used: Duration, now: Instant) {
        let price = f64::from_bits(self.price.load(Ordering::Relaxed));
        if price == 0.0 {
            return;
        }
        let (now_ns, cost_ns) = (self.since_beginning_ns(now), (used.as_nanos() as f64 * price) as u64);
        let paid = |until_ns: u64| Some(until_ns.max(now_ns).saturating_add(cost_ns));
        let _ = self.paid_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }

    fn since_beginning_ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The accounts of all guests, by name: a new version goes on with what the old one owes.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<String, Weak<Share>>>);

impl Shares {
    /// The account of a guest, with the part that it has from now on.
    pub(super) fn of(&self, guest: &str, part: f64, now: Instant) -> Arc<Share> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut known = self.0.lock();
        if let Some(share) = known.get(guest).and_then(Weak::upgrade) {
            share.set(part, cores);
            return share;
        }
        known.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share::new(part, cores, now));
        known.insert(guest.to_owned(), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_used_is_paid_for_by_time() {
        let began = Instant::now();
        // A quarter of two cores: 1 ms of work is paid for in 2 ms.
        let share = Share::new(0.25, 2, began);
        for (at_ms, used_ms, owes_ms) in [
            (0, 0, 0),
            (0, 250, 0),     // as far ahead as it may be
            (0, 50, 100),    // and now in debt
            (60, 0, 40),     // which time pays
            (100, 0, 0),     //
            (100, 10, 20),   //
            (120, 0, 0),     //
            (9_000, 0, 0),   // what was not used is not saved up
            (9_000, 250, 0), //
            (9_000, 1, 2),
        ] {
            let now = began + ms(at_ms);
            share.charge(ms(used_ms), now);
            assert_eq!(share.owes(now), ms(owes_ms), "at {at_ms} after {used_ms}");
        }
    }

    #[test]
    fn a_whole_machine_owes_nothing() {
        let began = Instant::now();
        let share = Share::new(1.0, 2, began);
        share.charge(ms(1_000_000), began);
        assert_eq!(share.owes(began), Duration::ZERO);
    }

    #[test]
    fn versions_share_their_debt_and_the_last_part_holds() {
        let (shares, now) = (Shares::default(), Instant::now());
        let old = shares.of("verify", 0.001, now);
        old.charge(ms(10_000), now);
        let new = shares.of("verify", 1.0, now);
        assert!(Arc::ptr_eq(&old, &new));
        let owed = new.owes(now);
        assert!(owed > Duration::ZERO);
        new.charge(ms(10_000), now);
        assert_eq!(new.owes(now), owed, "a whole machine costs nothing more");
        assert_eq!(shares.of("other", 0.5, now).owes(now), Duration::ZERO);
        drop((old, new));
        assert_eq!(shares.of("verify", 0.001, now).owes(now), Duration::ZERO, "nobody has used it since");
        assert_eq!(shares.0.lock().len(), 1);
    }
}
