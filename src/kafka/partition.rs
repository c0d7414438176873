//! Which partition a record goes to, for routes that do not leave it to the key.
//!
//! Only the key and a fixed number keep the records of one client in one partition, and so in order. How many partitions a topic has is
//! asked before the doors open, and again while such records come; until Kafka has said so (topics that a template or a guest names), the
//! key chooses.

use std::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::event::now_ms;

/// How long records without regard to their keys stay with one partition: about a batch, so that batches are full.
const STICKY: Duration = Duration::from_millis(10);
/// How long a count is believed.
const REFRESH: Duration = Duration::from_secs(30);

/// How the partition of a record is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By the hash of its key (murmur2, as Java's producer does); without a key, any.
    #[default]
    Key,
    /// One after the other.
    RoundRobin,
    /// One for all records of about a batch, then another.
    Sticky,
    /// Any.
    Random,
    /// This one.
    Fixed(i32),
}

/// What a choice may depend on beside the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    /// Milliseconds since the Unix epoch.
    now_ms: u64,
    /// Any number.
    draw: u64,
}

impl Chance {
    /// From the clock and the dice.
    pub(super) fn now() -> Self {
        Chance { now_ms: now_ms(), draw: fastrand::u64(..) }
    }
}

/// What is known about the partitions of one topic.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// How many there are; 0: not known.
    count: AtomicI32,
    learned_ms: AtomicU64,
    /// Whether anybody wants to know.
    wanted: AtomicBool,
    /// The turn of [`Choice::RoundRobin`].
    next: AtomicU32,
    /// So that not all topics of all nodes stick to the same partition at the same time.
    salt: u64,
}

impl Partitions {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Partitions { salt: fastrand::u64(..), ..Partitions::default() }
    }

    /// The partition of the next record; `None` leaves it to librdkafka, which goes by the key.
    pub(super) fn choose(&self, choice: Choice, chance: impl FnOnce() -> Chance) -> Option<i32> {
        match choice {
            Choice::Key => return None,
            Choice::Fixed(number) => return Some(number),
            Choice::RoundRobin | Choice::Sticky | Choice::Random => {}
        }
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
        let count = u64::try_from(self.count.load(Ordering::Relaxed)).ok().filter(|count| *count > 0)?;
        let number = match choice {
            Choice::RoundRobin => u64::from(self.next.fetch_add(1, Ordering::Relaxed)),
            Choice::Sticky => mix(self.salt.wrapping_add(chance().now_ms / STICKY.as_millis() as u64)),
            _ => chance().draw,
        };
        i32::try_from(number % count).ok()
    }

    /// Kafka said how many there are.
    pub(super) fn learn(&self, count: usize, now_ms: u64) {
        if let Some(count) = i32::try_from(count).ok().filter(|count| *count > 0) {
            self.count.store(count, Ordering::Relaxed);
            self.learned_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// No more than these, whatever was learned before.
    pub(super) fn limit(&self, most: usize) {
        if let Some(most) = i32::try_from(most).ok().filter(|most| *most > 0) {
            self.count.fetch_min(most, Ordering::Relaxed);
        }
    }

    /// Whether Kafka should be asked; then not again for a while, whatever it answers. An unknown count is asked for each time.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        if !self.wanted.load(Ordering::Relaxed) {
            return false;
        }
        if self.count.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let due = now_ms.saturating_sub(self.learned_ms.load(Ordering::Relaxed)) >= REFRESH.as_millis() as u64;
        if due {
            self.learned_ms.store(now_ms, Ordering::Relaxed);
        }
        due
    }
}

/// Spreads neighbouring numbers (splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now_ms: u64, draw: u64) -> impl FnOnce() -> Chance {
        move || Chance { now_ms, draw }
    }

    #[test]
    fn the_key_and_a_fixed_number_need_no_count() {
        let partitions = Partitions::default();
        assert_eq!(partitions.choose(Choice::Key, at(0, 0)), None);
        assert_eq!(partitions.choose(Choice::Fixed(7), at(0, 0)), Some(7));
        assert!(!partitions.is_due(u64::MAX), "nobody wants to know");
    }

    #[test]
    fn without_a_count_the_key_chooses_and_kafka_is_asked() {
        let partitions = Partitions::default();
        for choice in [Choice::RoundRobin, Choice::Sticky, Choice::Random] {
            assert_eq!(partitions.choose(choice, at(5, 5)), None, "{choice:?}");
        }
        assert!(partitions.is_due(1) && partitions.is_due(2), "until it is known");
        partitions.learn(0, 3);
        assert!(partitions.is_due(3), "none is no answer");
        partitions.learn(3, 1_000);
        assert!(!partitions.is_due(30_999));
        assert!(partitions.is_due(31_000));
        assert!(!partitions.is_due(31_001), "once");
    }

    #[test]
    fn each_choice_keeps_its_word() {
        let partitions = Partitions::default();
        partitions.learn(3, 0);
        let turns: Vec<_> = (0..7).filter_map(|_| partitions.choose(Choice::RoundRobin, at(0, 0))).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
        partitions.learn(4, 0);
        assert_eq!(partitions.choose(Choice::RoundRobin, at(0, 0)), Some(3), "a topic may grow");
        let of = |draw| partitions.choose(Choice::Random, at(0, draw));
        assert_eq!([of(0), of(7), of(u64::MAX)], [Some(0), Some(3), Some(3)]);
        let sticky: Vec<_> = (0..4_000).filter_map(|ms| partitions.choose(Choice::Sticky, at(ms, ms))).collect();
        assert!(sticky.chunks(10).all(|batch| batch.iter().all(|number| number == &batch[0])), "ten milliseconds together");
        for number in 0..4 {
            let share = sticky.iter().filter(|other| **other == number).count();
            assert!((600..=1_400).contains(&share), "partition {number}: {share} of 4000");
        }
    }
}
