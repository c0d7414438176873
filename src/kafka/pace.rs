//! How many records may be outstanding so that each is answered in time. Pure: the time is an argument.
//!
//! What Kafka can answer is learnt while the bound is reached: only then is the rate of its answers all that it can do, and not all that it
//! is asked for. So the bound grows whenever answers come faster, and shrinks only when records have been waiting at it.

use std::time::{Duration, Instant};

/// However slow Kafka is, so many may be outstanding: batches are made of them.
const LEAST: usize = 256;
/// Answers are counted over so long at least; they come in batches.
const WINDOW: Duration = Duration::from_millis(250);

/// The pace of Kafka's answers.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    patience: Duration,
    limit: usize,
    /// Answers per second; `None` until the bound was reached once.
    rate: Option<f64>,
    window: Option<Window>,
}

/// A stretch of time over which answers are counted.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: Instant,
    /// In all, when it began.
    answered: u64,
    /// Whether somebody had to wait in it, and in the one before.
    is_busy: bool,
    follows_busy: bool,
}

impl Pace {
    /// At most `most`, and no more than are answered within `patience`.
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        Pace { most, patience, limit: most, rate: None, window: None }
    }

    /// So many may be outstanding.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// `answered` records in all by now; `is_full`: somebody had to wait since the last call, or would have to now. Returns the new limit.
    pub(super) fn observe(&mut self, now: Instant, answered: u64, is_full: bool) -> usize {
        let window = self.window.get_or_insert(Window { begin: now, answered, is_busy: false, follows_busy: false });
        window.is_busy |= is_full;
        let Window { begin, answered: before, is_busy, follows_busy } = *window;
        let elapsed = now.saturating_duration_since(begin);
        if elapsed < WINDOW {
            return self.limit;
        }
        self.window = Some(Window { begin: now, answered, is_busy: false, follows_busy: is_busy });
        let current = answered.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let was_busy = follows_busy && is_busy; // a window may begin with a time in which nothing came
        self.rate = match self.rate {
            None => was_busy.then_some(current),
            Some(rate) if was_busy => Some(f64::midpoint(rate, current)),
            Some(rate) => Some(rate.max(current)),
        };
        if let Some(rate) = self.rate {
            let in_time = (rate * self.patience.as_secs_f64()) as usize;
            self.limit = in_time.max(LEAST).min(self.most);
        }
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Kafka that answers so many a second, under a load that always wants more (or only so many a second).
    struct Simulation {
        pace: Pace,
        now: Instant,
        outstanding: usize,
        answered: u64,
    }

    impl Simulation {
        fn new(most: usize, patience_ms: u64) -> Self {
            let pace = Pace::new(most, Duration::from_millis(patience_ms));
            Simulation { pace, now: Instant::now(), outstanding: 0, answered: 0 }
        }

        fn run(&mut self, seconds: usize, per_second: usize, offered: Option<usize>) -> usize {
            for _ in 0..seconds * 100 {
                let room = self.pace.limit().saturating_sub(self.outstanding);
                self.outstanding += offered.map_or(room, |offered| (offered / 100).min(room));
                let done = (per_second / 100).min(self.outstanding);
                let is_full = self.outstanding >= self.pace.limit(); // as the answers begin to come
                self.outstanding -= done;
                self.answered += done as u64;
                self.now += Duration::from_millis(10);
                self.pace.observe(self.now, self.answered, is_full);
            }
            self.pace.limit()
        }
    }

    #[test]
    fn under_full_load_a_record_is_answered_in_time() {
        let mut kafka = Simulation::new(20_000, 500);
        for (per_second, expected) in [(100_000, 20_000), (10_000, 5_000), (2_000, 1_000), (0, LEAST), (20_000, 10_000), (100_000, 20_000)]
        {
            let limit = kafka.run(10, per_second, None);
            assert!(limit.abs_diff(expected) <= expected / 20, "{per_second} a second: {limit}");
        }
    }

    #[test]
    fn a_light_load_teaches_nothing() {
        let mut kafka = Simulation::new(20_000, 500);
        assert_eq!(kafka.run(60, 50_000, Some(100)), 20_000, "the bound was never reached");
        kafka.run(10, 10_000, None);
        let learnt = kafka.pace.limit();
        assert_eq!(kafka.run(60, 10_000, Some(100)), learnt, "what was learnt stays");
    }

    #[test]
    fn the_number_holds_whatever_the_time() {
        assert_eq!(Simulation::new(50, 60_000).run(10, 1_000, None), 50);
        assert_eq!(Simulation::new(50, 1).run(10, 1_000, None), 50, "below the least there is only the number");
    }
}
