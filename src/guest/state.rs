//! What a guest keeps between calls: keys and values with time to live, bounded, in memory.
//!
//! Invariants: an operation is atomic; an expired key is never seen, and is swept a few at a time by later writes, so that no operation
//! pays for many; both bounds count what is really held. Time is an argument. Absent: what outlives the process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

/// The longest key, bytes.
pub(super) const MAX_KEY_BYTES: usize = 1 << 10;
/// The largest value, bytes.
pub(super) const MAX_VALUE_BYTES: usize = 1 << 20;
/// What a key costs beside its own bytes and its value's: map entry, expiry entry, allocations.
const ENTRY_BYTES: usize = 128;
/// Expired keys that one write removes at most, unless it needs their room.
const SWEPT_PER_WRITE: usize = 16;
/// The expiry of a key without one.
const NEVER: u64 = u64::MAX;

/// A state operation that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// `limits.state_keys` or `limits.state_bytes` is reached.
    #[error("the state is full (limits.state_keys, limits.state_bytes)")]
    Quota,
    /// The key is longer than 1 KiB or the value is larger than 1 MiB.
    #[error("the key exceeds 1 KiB or the value 1 MiB")]
    TooLarge,
    /// `add` on a key whose value is not eight bytes.
    #[error("the value is no number: add wants the eight bytes that an earlier add has written")]
    NotANumber,
    /// Whoever keeps it does not answer, or cannot; why.
    #[error("{0}")]
    Unavailable(String),
}

/// What a guest does with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which key.
    pub key: String,
    /// What is done with it.
    pub verb: Verb,
}

/// The functions of the interface `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read it.
    Get,
    /// Write it, whatever was there.
    Put {
        /// What it holds from now on.
        value: Vec<u8>,
        /// How long, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Write it unless it is there.
    PutIfAbsent {
        /// What it holds from now on.
        value: Vec<u8>,
        /// How long, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Add to the number in it, within the range of i64; a key that was there keeps its expiry.
    Add {
        /// What is added.
        delta: i64,
        /// How long a new key is kept, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Forget it.
    Remove,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Get`: what the key holds.
    Value(Option<Vec<u8>>),
    /// To `Put` and `Remove`.
    Done,
    /// To `PutIfAbsent`: whether the key was new.
    New(bool),
    /// To `Add`.
    Sum(i64),
}

/// How much a guest may keep; its present configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

/// The keys and values of one guest name; shared by all its instances and versions.
#[derive(Debug)]
pub struct State {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Arc<str>, Entry>,
    expiring: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    expires_ms: u64,
}

impl Default for State {
    fn default() -> Self {
        State { began: Instant::now(), kept: Mutex::default() }
    }
}

impl State {
    /// An empty state.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many keys are held, expired ones that are not yet swept included.
    pub fn keys(&self) -> usize {
        self.kept.lock().entries.len()
    }

    /// Milliseconds since the state began; no wall clock, so that setting one neither revives nor ends a key.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER)
    }

    pub(super) fn get(&self, key: &str, now_ms: u64) -> Option<Vec<u8>> {
        self.kept.lock().live(key, now_ms).map(|entry| entry.value.to_vec())
    }

    pub(super) fn put(&self, key: &str, value: Vec<u8>, ttl_s: Option<u32>, bounds: Bounds, now_ms: u64) -> Result<(), StateError> {
        self.kept.lock().insert(key, value.into(), expiry(ttl_s, now_ms), bounds, now_ms)
    }

    pub(super) fn put_if_absent(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_s: Option<u32>,
        bounds: Bounds,
        now_ms: u64,
    ) -> Result<bool, StateError> {
        let mut kept = self.kept.lock();
        if kept.live(key, now_ms).is_some() {
            return Ok(false);
        }
        kept.insert(key, value.into(), expiry(ttl_s, now_ms), bounds, now_ms).map(|()| true)
    }

    /// Adds to a number and returns the sum, which stays within the range of i64; a key that was there keeps its expiry.
    pub(super) fn add(&self, key: &str, delta: i64, ttl_s: Option<u32>, bounds: Bounds, now_ms: u64) -> Result<i64, StateError> {
        let mut kept = self.kept.lock();
        let (before, expires_ms) = match kept.live(key, now_ms) {
            Some(entry) => {
                let bytes: [u8; 8] = entry.value.as_ref().try_into().map_err(|_| StateError::NotANumber)?;
                (i64::from_le_bytes(bytes), entry.expires_ms)
            }
            None => (0, expiry(ttl_s, now_ms)),
        };
        let sum = before.saturating_add(delta);
        kept.insert(key, sum.to_le_bytes().into(), expires_ms, bounds, now_ms).map(|()| sum)
    }

    /// Carries out an operation.
    pub(super) fn perform(&self, operation: Operation, bounds: Bounds, now_ms: u64) -> Result<Reply, StateError> {
        let Operation { key, verb } = operation;
        match verb {
            Verb::Get => Ok(Reply::Value(self.get(&key, now_ms))),
            Verb::Put { value, ttl_s } => self.put(&key, value, ttl_s, bounds, now_ms).map(|()| Reply::Done),
            Verb::PutIfAbsent { value, ttl_s } => self.put_if_absent(&key, value, ttl_s, bounds, now_ms).map(Reply::New),
            Verb::Add { delta, ttl_s } => self.add(&key, delta, ttl_s, bounds, now_ms).map(Reply::Sum),
            Verb::Remove => {
                self.remove(&key);
                Ok(Reply::Done)
            }
        }
    }

    pub(super) fn remove(&self, key: &str) {
        self.kept.lock().remove(key);
    }
}

fn expiry(ttl_s: Option<u32>, now_ms: u64) -> u64 {
    ttl_s.map_or(NEVER, |seconds| now_ms.saturating_add(u64::from(seconds) * 1_000))
}

fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl Kept {
    fn live(&self, key: &str, now_ms: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires_ms > now_ms)
    }

    fn insert(&mut self, key: &str, value: Box<[u8]>, expires_ms: u64, bounds: Bounds, now_ms: u64) -> Result<(), StateError> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(StateError::TooLarge);
        }
        self.sweep(now_ms, SWEPT_PER_WRITE);
        while !self.has_room(key, &value, bounds) {
            if self.sweep(now_ms, SWEPT_PER_WRITE) == 0 {
                return Err(StateError::Quota);
            }
        }
        self.remove(key);
        let key: Arc<str> = key.into();
        self.bytes += cost(&key, &value);
        if expires_ms != NEVER {
            self.expiring.insert((expires_ms, Arc::clone(&key)));
        }
        self.entries.insert(key, Entry { value, expires_ms });
        Ok(())
    }

    fn has_room(&self, key: &str, value: &[u8], bounds: Bounds) -> bool {
        let (replaced_keys, replaced_bytes) = self.entries.get(key).map_or((0, 0), |entry| (1, cost(key, &entry.value)));
        let keys = self.entries.len() + 1 - replaced_keys;
        let bytes = self.bytes + cost(key, value) - replaced_bytes;
        keys <= bounds.keys && bytes <= bounds.bytes
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.bytes = self.bytes.saturating_sub(cost(&key, &entry.value));
            if entry.expires_ms != NEVER {
                self.expiring.remove(&(entry.expires_ms, key));
            }
        }
    }

    /// Removes up to `most` expired keys, the longest expired first; returns how many it were.
    fn sweep(&mut self, now_ms: u64, most: usize) -> usize {
        let mut swept = 0;
        while swept < most {
            let Some((expires_ms, key)) = self.expiring.first() else { break };
            if *expires_ms > now_ms {
                break;
            }
            let key = Arc::clone(key);
            self.remove(&key);
            swept += 1;
        }
        swept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { keys: 1_000, bytes: 1 << 20 };

    fn held(state: &State) -> (usize, usize, usize) {
        let kept = state.kept.lock();
        (kept.entries.len(), kept.expiring.len(), kept.bytes)
    }

    #[test]
    fn a_nonce_is_new_once_until_it_expires() {
        let state = State::new();
        for (now_ms, expected) in [(0, true), (1, false), (29_999, false), (30_000, true), (30_001, false)] {
            assert_eq!(state.put_if_absent("nonce", vec![], Some(30), WIDE, now_ms), Ok(expected), "{now_ms}");
        }
    }

    #[test]
    fn numbers_add_up_and_keep_their_first_expiry() {
        let state = State::new();
        assert_eq!(state.add("n", 5, Some(10), WIDE, 0), Ok(5));
        assert_eq!(state.add("n", -7, Some(10), WIDE, 9_000), Ok(-2));
        assert_eq!(state.add("n", 1, None, WIDE, 10_000), Ok(1));
        assert_eq!(state.add("n", i64::MAX, None, WIDE, 10_000), Ok(i64::MAX));
        assert_eq!(state.put("text", b"seven".to_vec(), None, WIDE, 0), Ok(()));
        assert_eq!(state.add("text", 1, None, WIDE, 0), Err(StateError::NotANumber));
    }

    #[test]
    fn bounds_hold_and_expired_keys_make_room() {
        let state = State::new();
        let bounds = Bounds { keys: 2, bytes: 2 * ENTRY_BYTES + 20 };
        assert_eq!(state.put("a", vec![0; 5], Some(1), bounds, 0), Ok(()));
        assert_eq!(state.put("b", vec![0; 5], None, bounds, 0), Ok(()));
        assert_eq!(state.put("c", vec![], None, bounds, 999), Err(StateError::Quota));
        assert_eq!(state.put("b", vec![0; 100], None, bounds, 999), Err(StateError::Quota));
        assert_eq!(state.put("b", vec![1; 6], None, bounds, 999), Ok(()));
        assert_eq!(state.put("c", vec![], None, bounds, 1_000), Ok(()));
        assert_eq!(state.get("a", 0), None, "swept");
        assert_eq!(state.put(&"k".repeat(MAX_KEY_BYTES + 1), vec![], None, WIDE, 0), Err(StateError::TooLarge));
        assert_eq!(state.put("v", vec![0; MAX_VALUE_BYTES + 1], None, WIDE, 0), Err(StateError::TooLarge));
    }

    #[test]
    fn nothing_is_left_behind() {
        let state = State::new();
        for round in 0..3 {
            for key in 0..100 {
                let ttl_s = (key % 2 == 0).then_some(1);
                assert_eq!(state.put(&key.to_string(), vec![7; 10], ttl_s, WIDE, round), Ok(()));
            }
            assert_eq!((held(&state).0, held(&state).1), (100, 50));
        }
        (0..100).for_each(|key| state.remove(&key.to_string()));
        assert_eq!(held(&state), (0, 0, 0));
    }

    proptest! {
        /// Against a map that knows nothing of bounds or sweeping.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec((0u8..4, 0u8..4, 0u32..3, 0u64..1_500), 0..60)) {
            let state = State::new();
            let mut model: HashMap<String, (Vec<u8>, u64)> = HashMap::new();
            let mut now_ms = 0;
            for (operation, key, ttl_s, wait_ms) in operations {
                now_ms += wait_ms;
                model.retain(|_, (_, expires_ms)| *expires_ms > now_ms);
                let key = key.to_string();
                let value = now_ms.to_le_bytes().to_vec();
                let ttl_s = (ttl_s > 0).then_some(ttl_s);
                match operation {
                    0 => {
                        prop_assert_eq!(state.put(&key, value.clone(), ttl_s, WIDE, now_ms), Ok(()));
                        model.insert(key, (value, expiry(ttl_s, now_ms)));
                    }
                    1 => {
                        let absent = !model.contains_key(&key);
                        prop_assert_eq!(state.put_if_absent(&key, value.clone(), ttl_s, WIDE, now_ms), Ok(absent));
                        model.entry(key).or_insert((value, expiry(ttl_s, now_ms)));
                    }
                    2 => {
                        state.remove(&key);
                        model.remove(&key);
                    }
                    _ => prop_assert_eq!(state.get(&key, now_ms), model.get(&key).map(|(value, _)| value.clone())),
                }
                let kept = state.kept.lock();
                prop_assert_eq!(kept.bytes, kept.entries.iter().map(|(key, entry)| cost(key, &entry.value)).sum::<usize>());
            }
        }
    }
}
