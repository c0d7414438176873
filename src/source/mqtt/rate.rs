//! How often something may happen: a bucket that fills steadily and may be emptied at once. No clock: the time is an argument.

use std::time::{Duration, Instant};

use crate::config::Mqtt;

/// So much per second, after a burst. What is spent beyond is a debt that time pays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_s: u64,
    /// How far the debt may reach into the future.
    burst: Duration,
    /// When everything spent so far is paid.
    paid: Instant,
}

impl Rate {
    /// A full bucket; `None`: any rate. `burst` is how much may happen at one moment.
    pub(super) fn new(per_s: u64, burst: u64, now: Instant) -> Option<Self> {
        (per_s > 0).then(|| Rate { per_s, burst: time_of(burst, per_s), paid: now })
    }

    /// Spends what has happened already; the debt may grow beyond the burst.
    pub(super) fn spend(&mut self, amount: u64, now: Instant) {
        self.paid = self.paid.max(now) + time_of(amount, self.per_s);
    }

    /// Spends one if the burst allows; whether it did.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let paid = self.paid.max(now) + time_of(1, self.per_s);
        let allowed = paid <= now + self.burst;
        if allowed {
            self.paid = paid;
        }
        allowed
    }

    /// When more may happen, unless that is now.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
        // The debt is worked off to within the burst, so that rates hold from second to second.
        self.paid.checked_sub(self.burst).filter(|ready| *ready > now)
    }
}

/// The longest that a single amount is taken to last: arithmetic stays within what an `Instant` can say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn time_of(amount: u64, per_s: u64) -> Duration {
    let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(per_s.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(LONGEST)
}

/// What one client may send.
#[derive(Debug)]
pub(super) struct Rates {
    messages: Option<Rate>,
    bytes: Option<Rate>,
}

impl Rates {
    /// `None`: any number of messages and bytes.
    pub(super) fn new(limits: &Mqtt, now: Instant) -> Option<Box<Self>> {
        let rate = |per_s| Rate::new(per_s, per_s, now);
        let rates = Rates { messages: rate(limits.messages_per_s), bytes: rate(limits.bytes_per_s) };
        (rates.messages.is_some() || rates.bytes.is_some()).then(|| Box::new(rates))
    }

    /// A PUBLISH was taken.
    pub(super) fn message(&mut self, now: Instant) {
        self.messages.iter_mut().for_each(|rate| rate.spend(1, now));
    }

    /// Bytes were read.
    pub(super) fn bytes(&mut self, bytes: usize, now: Instant) {
        self.bytes.iter_mut().for_each(|rate| rate.spend(bytes as u64, now));
    }

    /// Until when nothing more is to be taken, unless it may be now.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
        [&self.messages, &self.bytes].into_iter().flatten().filter_map(|rate| rate.ready_at(now)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut rate = Rate::new(10, 3, start).expect("a rate");
        assert_eq!([rate.take(at(0)), rate.take(at(0)), rate.take(at(0)), rate.take(at(0))], [true, true, true, false]);
        assert_eq!([rate.take(at(99)), rate.take(at(100)), rate.take(at(100))], [false, true, false]);
        let taken = (0..10_000).filter(|ms| rate.take(at(100 + ms))).count();
        assert_eq!(taken, 99, "ten in each of ten seconds, but for the last");
        assert!(Rate::new(0, 5, start).is_none());
    }

    #[test]
    fn what_happened_already_is_paid_by_waiting() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut rate = Rate::new(1_000, 1_000, start).expect("a rate");
        rate.spend(1_000, start);
        assert_eq!(rate.ready_at(start), None, "the burst");
        rate.spend(500, start);
        assert_eq!(rate.ready_at(start), Some(at(500)));
        assert_eq!(rate.ready_at(at(500)), None);
        rate.spend(u64::MAX, at(500));
        assert!(rate.ready_at(at(600)).is_some(), "an absurd amount is a long wait, not an overflow");
    }

    #[test]
    fn a_client_waits_for_the_slower_of_both() {
        let start = Instant::now();
        assert!(Rates::new(&Mqtt::default(), start).is_none());
        let limits = Mqtt { messages_per_s: 10, bytes_per_s: 1_000, ..Mqtt::default() };
        let mut rates = Rates::new(&limits, start).expect("rates");
        (0..11).for_each(|_| rates.message(start));
        assert_eq!(rates.ready_at(start), Some(start + Duration::from_millis(100)));
        rates.bytes(3_000, start);
        assert_eq!(rates.ready_at(start), Some(start + Duration::from_secs(2)));
    }
}
