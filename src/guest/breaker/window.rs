//! Calls and failures of the last while, counted without a lock: a ring of buckets, each an atomic word.

use std::sync::atomic::{AtomicU64, Ordering};

/// Parts of the window; the oldest is forgotten as a whole.
const BUCKETS: usize = 10;

/// Calls and failures of the last while.
#[derive(Debug)]
pub(super) struct Window {
    bucket_ms: u64,
    buckets: [Bucket; BUCKETS],
}

/// One part of the window in one word: which part it is (20 bits), its calls and its failures (22 bits each).
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

const COUNT_BITS: u32 = 22;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const CALL: u64 = 1 << COUNT_BITS;
const FAILURE: u64 = 1;
const TAG_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;
/// Calls from which on a bucket halves what it has, so that no count runs over; their ratio stays, and more than `min_calls` can ask for.
pub(super) const MOST_CALLS: u64 = 1 << (COUNT_BITS - 1);

impl Window {
    pub(super) fn new(window_ms: u64) -> Self {
        Window { bucket_ms: (window_ms / BUCKETS as u64).max(1), buckets: std::array::from_fn(|_| Bucket::default()) }
    }

    pub(super) fn add(&self, now_ms: u64, failed: bool) {
        let number = now_ms / self.bucket_ms;
        if let Some(bucket) = self.buckets.get(number as usize % BUCKETS) {
            bucket.add(number & TAG_MASK, if failed { CALL + FAILURE } else { CALL });
        }
    }

    /// Calls and failures of the window that ends now.
    pub(super) fn sum(&self, now_ms: u64) -> (u64, u64) {
        let number = now_ms / self.bucket_ms;
        let in_window =
            self.buckets.iter().map(|bucket| bucket.0.load(Ordering::Relaxed)).filter(|word| age(*word, number) < BUCKETS as u64);
        in_window.fold((0, 0), |(calls, failures), word| (calls + calls_of(word), failures + (word & COUNT_MASK)))
    }

    pub(super) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.0.store(0, Ordering::Relaxed));
    }
}

impl Bucket {
    fn add(&self, tag: u64, one: u64) {
        let word = self.0.load(Ordering::Relaxed);
        if word >> (2 * COUNT_BITS) == tag && calls_of(word) < MOST_CALLS {
            self.0.fetch_add(one, Ordering::Relaxed);
            return;
        }
        let next = |word: u64| match age(word, tag) {
            0 if calls_of(word) < MOST_CALLS => Some(word + one),
            0 => Some((tag << (2 * COUNT_BITS)) + ((calls_of(word) / 2) << COUNT_BITS) + (word & COUNT_MASK) / 2 + one),
            age if age > TAG_MASK / 2 => None, // the caller was held up for so long that its bucket is gone
            _ => Some((tag << (2 * COUNT_BITS)) + one),
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next); // an error: nothing to count
    }
}

fn calls_of(word: u64) -> u64 {
    (word >> COUNT_BITS) & COUNT_MASK
}

/// By how many buckets a word is older than a bucket's number. The numbers go round after a million buckets: what has not been touched
/// for exactly so long counts once more.
fn age(word: u64, number: u64) -> u64 {
    number.wrapping_sub(word >> (2 * COUNT_BITS)) & TAG_MASK
}
