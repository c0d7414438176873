//! Keys and values in memory.
//!
//! Entries stand in numbered slots; an index leads from keys to slots, and another from expiries. Expired keys are swept a few at a time by
//! later writes, so that no operation pays for many. The index holds the keys' hashes, so that growing does not visit the keys. Time is an
//! argument of everything but the [`Keeper`].

use std::{
    collections::BTreeSet,
    hash::BuildHasher as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use hashbrown::HashTable;
use parking_lot::Mutex;
use slab::Slab;

use super::{Bounds, ENTRY_BYTES, Held, Keeper, Operation, Performed, Performing, Reply, Stamp, StateError, Verb, Waiting};

/// Expired keys that one write removes at most, unless it needs their room.
const SWEPT_PER_WRITE: usize = 16;
/// The expiry of a key without one.
const NEVER: u64 = u64::MAX;

/// Keys and values in this process's memory; as a [`Keeper`] they end with it.
#[derive(Debug)]
pub struct Local {
    began: Instant,
    kept: Mutex<Kept>,
    /// How much is kept, for those who only look.
    keys: AtomicU64,
    bytes: AtomicU64,
}

/// A change of one key, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted<'a> {
    /// It holds this from now on.
    Kept {
        /// The key.
        key: &'a str,
        /// The whole value.
        value: &'a [u8],
        /// How much longer, milliseconds; for ever without.
        left_ms: Option<u64>,
    },
    /// It is gone: removed, or swept after its expiry.
    Gone {
        /// The key.
        key: &'a str,
    },
}

#[derive(Debug, Default)]
struct Kept {
    slots: Slab<Entry>,
    /// By the key's hash: its hash and slot.
    index: HashTable<(u64, usize)>,
    hasher: foldhash::fast::RandomState,
    /// Expiry and slot of the keys that have one.
    expiring: BTreeSet<(u64, usize)>,
    bytes: usize,
    /// Of the last removal: who finds nothing may rest on it.
    gone: Stamp,
}

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    value: Box<[u8]>,
    expires_ms: u64,
    /// Of its last change.
    stamp: Stamp,
}

impl Default for Local {
    fn default() -> Self {
        Local { began: Instant::now(), kept: Mutex::default(), keys: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }
}

impl Local {
    /// One that begins with these keys, values and times left in milliseconds, whatever today's bounds are: what is too much stays, and
    /// nothing is added until there is room.
    pub fn restored(pairs: impl IntoIterator<Item = (Box<str>, Box<[u8]>, Option<u64>)>) -> Self {
        let local = Local::default();
        let mut kept = local.kept.lock();
        let now_ms = local.now_ms();
        for (key, value, left_ms) in pairs {
            let hash = kept.hash(&key);
            let expires_ms = left_ms.map_or(NEVER, |left_ms| now_ms.saturating_add(left_ms));
            kept.insert(hash, Entry { key, value, expires_ms, stamp: Stamp::default() });
        }
        local.count(&kept);
        drop(kept);
        local
    }

    /// Milliseconds since it began; no wall clock, so that setting one neither revives nor ends a key.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER)
    }

    /// Carries out an operation. `note` hears of every change in the order in which they happen, and says when it outlives the process.
    pub fn perform_at(&self, operation: Operation, bounds: Bounds, now_ms: u64, note: impl FnMut(Noted<'_>) -> Stamp) -> Performed {
        let mut kept = self.kept.lock();
        let hash = kept.hash(&operation.key);
        let mut turn = Turn { kept: &mut kept, bounds, now_ms, note };
        let performed = match operation.verb {
            Verb::Get => turn.get(hash, &operation.key),
            Verb::Put { value, ttl_s } => turn.put(hash, operation.key, value, ttl_s),
            Verb::PutIfAbsent { value, ttl_s } => turn.put_if_absent(hash, operation.key, value, ttl_s),
            Verb::Add { delta, ttl_s } => turn.add(hash, operation.key, delta, ttl_s),
            Verb::Remove => turn.remove(hash, &operation.key),
        };
        self.count(&kept);
        performed
    }

    /// Removes up to `most` expired keys; how many it were.
    pub fn sweep(&self, most: usize, now_ms: u64, mut note: impl FnMut(Noted<'_>) -> Stamp) -> usize {
        let mut kept = self.kept.lock();
        let swept = kept.sweep(now_ms, most, &mut note);
        self.count(&kept);
        swept
    }

    fn count(&self, kept: &Kept) {
        self.keys.store(kept.slots.len() as u64, Ordering::Relaxed);
        self.bytes.store(kept.bytes as u64, Ordering::Relaxed);
    }
}

impl Keeper for Local {
    fn perform(&self, operation: Operation, bounds: Bounds) -> Performing<'_> {
        Performing::Done(self.perform_at(operation, bounds, self.now_ms(), |_| Stamp::default()))
    }

    fn settled(&self, _: Stamp) -> Option<Waiting<'_, ()>> {
        None
    }

    fn held(&self) -> Held {
        Held { keys: self.keys.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

/// One operation, with the time at which it happens.
struct Turn<'a, N> {
    kept: &'a mut Kept,
    bounds: Bounds,
    now_ms: u64,
    note: N,
}

impl<N: FnMut(Noted<'_>) -> Stamp> Turn<'_, N> {
    fn get(&mut self, hash: u64, key: &str) -> Performed {
        match self.live(hash, key) {
            Some(entry) => Performed { reply: Ok(Reply::Value(Some(entry.value.to_vec()))), stamp: entry.stamp },
            None => Performed { reply: Ok(Reply::Value(None)), stamp: self.kept.gone },
        }
    }

    fn put(&mut self, hash: u64, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Performed {
        let expires_ms = self.expiry(ttl_s);
        self.write(hash, key, value, expires_ms, Reply::Done)
    }

    fn put_if_absent(&mut self, hash: u64, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Performed {
        if let Some(entry) = self.live(hash, &key) {
            return Performed { reply: Ok(Reply::New(false)), stamp: entry.stamp };
        }
        let expires_ms = self.expiry(ttl_s);
        self.write(hash, key, value, expires_ms, Reply::New(true))
    }

    fn add(&mut self, hash: u64, key: String, delta: i64, ttl_s: Option<u32>) -> Performed {
        let (before, expires_ms) = match self.live(hash, &key) {
            None => (0, self.expiry(ttl_s)),
            Some(entry) => match <[u8; 8]>::try_from(&*entry.value) {
                Ok(bytes) => (i64::from_le_bytes(bytes), entry.expires_ms),
                Err(_) => return Performed { reply: Err(StateError::NotANumber), stamp: entry.stamp },
            },
        };
        let sum = before.saturating_add(delta);
        self.write(hash, key, sum.to_le_bytes().to_vec(), expires_ms, Reply::Sum(sum))
    }

    fn remove(&mut self, hash: u64, key: &str) -> Performed {
        if self.kept.remove(hash, key).is_some() {
            self.kept.gone = (self.note)(Noted::Gone { key });
        }
        Performed { reply: Ok(Reply::Done), stamp: self.kept.gone }
    }

    fn live(&self, hash: u64, key: &str) -> Option<&Entry> {
        self.kept.slots.get(self.kept.slot(hash, key)?).filter(|entry| entry.expires_ms > self.now_ms)
    }

    fn expiry(&self, ttl_s: Option<u32>) -> u64 {
        ttl_s.map_or(NEVER, |seconds| self.now_ms.saturating_add(u64::from(seconds) * 1_000))
    }

    fn write(&mut self, hash: u64, key: String, value: Vec<u8>, expires_ms: u64, reply: Reply) -> Performed {
        self.kept.sweep(self.now_ms, SWEPT_PER_WRITE, &mut self.note);
        let replaced = loop {
            let replaced = self.kept.slot(hash, &key);
            if self.kept.has_room(replaced, cost(&key, &value), self.bounds) {
                break replaced;
            }
            if self.kept.sweep(self.now_ms, SWEPT_PER_WRITE, &mut self.note) == 0 {
                return Performed { reply: Err(StateError::Quota), stamp: Stamp::default() };
            }
        };
        let left_ms = (expires_ms != NEVER).then(|| expires_ms.saturating_sub(self.now_ms));
        let stamp = (self.note)(Noted::Kept { key: &key, value: &value, left_ms });
        let entry = Entry { key: key.into(), value: value.into(), expires_ms, stamp };
        match replaced {
            Some(slot) => self.kept.replace(slot, entry),
            None => self.kept.insert(hash, entry),
        }
        Performed { reply: Ok(reply), stamp }
    }
}

impl Kept {
    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn slot(&self, hash: u64, key: &str) -> Option<usize> {
        self.index.find(hash, |place| is_at(&self.slots, *place, hash, key)).map(|(_, slot)| *slot)
    }

    /// The key must not be there.
    fn insert(&mut self, hash: u64, entry: Entry) {
        self.bytes += cost(&entry.key, &entry.value);
        let expires_ms = entry.expires_ms;
        let slot = self.slots.insert(entry);
        if expires_ms != NEVER {
            self.expiring.insert((expires_ms, slot));
        }
        self.index.insert_unique(hash, (hash, slot), |(hash, _)| *hash);
    }

    fn remove(&mut self, hash: u64, key: &str) -> Option<Entry> {
        let slots = &self.slots;
        let place = self.index.find_entry(hash, |place| is_at(slots, *place, hash, key)).ok()?;
        let ((_, slot), _) = place.remove();
        let entry = self.slots.try_remove(slot)?;
        self.bytes = self.bytes.saturating_sub(cost(&entry.key, &entry.value));
        if entry.expires_ms != NEVER {
            self.expiring.remove(&(entry.expires_ms, slot));
        }
        Some(entry)
    }

    /// Puts another value in the place of a key.
    fn replace(&mut self, slot: usize, entry: Entry) {
        let Some(old) = self.slots.get_mut(slot) else { return };
        self.bytes = (self.bytes + cost(&entry.key, &entry.value)).saturating_sub(cost(&old.key, &old.value));
        if old.expires_ms != entry.expires_ms {
            self.expiring.remove(&(old.expires_ms, slot));
            if entry.expires_ms != NEVER {
                self.expiring.insert((entry.expires_ms, slot));
            }
        }
        *old = entry;
    }

    fn has_room(&self, replaced: Option<usize>, added_bytes: usize, bounds: Bounds) -> bool {
        let replaced = replaced.and_then(|slot| self.slots.get(slot));
        let (replaced_keys, replaced_bytes) = replaced.map_or((0, 0), |entry| (1, cost(&entry.key, &entry.value)));
        self.slots.len() + 1 - replaced_keys <= bounds.keys && self.bytes + added_bytes - replaced_bytes <= bounds.bytes
    }

    /// Removes up to `most` expired keys, the longest expired first; returns how many it were.
    fn sweep(&mut self, now_ms: u64, most: usize, note: &mut impl FnMut(Noted<'_>) -> Stamp) -> usize {
        let mut swept = 0;
        while swept < most {
            let Some((expires_ms, slot)) = self.expiring.first().copied() else { break };
            if expires_ms > now_ms {
                break;
            }
            self.expiring.pop_first();
            let Some(entry) = self.slots.try_remove(slot) else { continue };
            let hash = self.hash(&entry.key);
            if let Ok(place) = self.index.find_entry(hash, |place| *place == (hash, slot)) {
                place.remove();
            }
            self.bytes = self.bytes.saturating_sub(cost(&entry.key, &entry.value));
            // That it is gone needs no stamp: an expired key is not seen whether it is there or not.
            note(Noted::Gone { key: &entry.key });
            swept += 1;
        }
        swept
    }
}

fn is_at(slots: &Slab<Entry>, place: (u64, usize), hash: u64, key: &str) -> bool {
    place.0 == hash && slots.get(place.1).is_some_and(|entry| *entry.key == *key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { keys: 1_000, bytes: 1 << 20 };

    fn held(local: &Local) -> (usize, usize, usize) {
        let kept = local.kept.lock();
        assert_eq!((kept.index.len(), local.held().bytes), (kept.slots.len(), kept.bytes as u64));
        (kept.slots.len(), kept.expiring.len(), kept.bytes)
    }

    fn reply(local: &Local, key: &str, verb: Verb, bounds: Bounds, now_ms: u64) -> Result<Reply, StateError> {
        local.perform_at(Operation { key: key.to_owned(), verb }, bounds, now_ms, |_| Stamp::default()).reply
    }

    fn put(
        local: &Local,
        key: &str,
        value: impl Into<Vec<u8>>,
        ttl_s: Option<u32>,
        bounds: Bounds,
        now_ms: u64,
    ) -> Result<Reply, StateError> {
        reply(local, key, Verb::Put { value: value.into(), ttl_s }, bounds, now_ms)
    }

    fn add(local: &Local, delta: i64, ttl_s: Option<u32>, now_ms: u64) -> Result<Reply, StateError> {
        reply(local, "n", Verb::Add { delta, ttl_s }, WIDE, now_ms)
    }

    #[test]
    fn a_nonce_is_new_once_until_it_expires() {
        let local = Local::default();
        for (now_ms, expected) in [(0, true), (1, false), (29_999, false), (30_000, true), (30_001, false)] {
            let verb = Verb::PutIfAbsent { value: vec![], ttl_s: Some(30) };
            assert_eq!(reply(&local, "nonce", verb, WIDE, now_ms), Ok(Reply::New(expected)), "{now_ms}");
        }
    }

    #[test]
    fn numbers_keep_their_first_expiry() {
        let local = Local::default();
        assert_eq!(add(&local, 5, Some(10), 0), Ok(Reply::Sum(5)));
        assert_eq!(add(&local, -7, Some(10), 9_000), Ok(Reply::Sum(-2)));
        assert_eq!(add(&local, 1, None, 10_000), Ok(Reply::Sum(1)));
        assert_eq!(add(&local, i64::MAX, None, 10_000), Ok(Reply::Sum(i64::MAX)));
    }

    #[test]
    fn bounds_hold_and_expired_keys_make_room() {
        let local = Local::default();
        let bounds = Bounds { keys: 2, bytes: 2 * ENTRY_BYTES + 20 };
        for (key, value_bytes, ttl_s, now_ms, expected) in [
            ("a", 5, Some(1), 0, Ok(Reply::Done)),
            ("b", 5, None, 0, Ok(Reply::Done)),
            ("c", 0, None, 999, Err(StateError::Quota)),
            ("b", 100, None, 999, Err(StateError::Quota)),
            ("b", 6, None, 999, Ok(Reply::Done)),
            ("c", 0, None, 1_000, Ok(Reply::Done)),
        ] {
            assert_eq!(put(&local, key, vec![0; value_bytes], ttl_s, bounds, now_ms), expected, "{key} at {now_ms}");
        }
        assert_eq!(reply(&local, "a", Verb::Get, bounds, 0), Ok(Reply::Value(None)), "swept");
    }

    #[test]
    fn nothing_is_left_behind() {
        let local = Local::default();
        for round in 0..3 {
            for key in 0..100 {
                let ttl_s = (key % 2 == 0).then_some(1);
                assert_eq!(put(&local, &key.to_string(), [7; 10], ttl_s, WIDE, round), Ok(Reply::Done));
            }
            assert_eq!((held(&local).0, held(&local).1), (100, 50));
        }
        assert_eq!((local.sweep(30, 2_000, |_| Stamp::default()), local.sweep(30, 2_000, |_| Stamp::default())), (30, 20));
        assert_eq!((held(&local).0, held(&local).1), (50, 0));
        for key in 0..100 {
            assert_eq!(reply(&local, &key.to_string(), Verb::Remove, WIDE, 3), Ok(Reply::Done));
        }
        assert_eq!(held(&local), (0, 0, 0));
    }

    #[test]
    fn who_sees_a_change_rests_on_it() {
        let local = Local::default();
        let mut stamps = 0;
        let mut stamp = |key: &str, verb: Verb| {
            let note = |_: Noted<'_>| {
                stamps += 1;
                Stamp(stamps)
            };
            local.perform_at(Operation { key: key.to_owned(), verb }, WIDE, 0, note).stamp.0
        };
        let value = || vec![0; 8];
        assert_eq!(stamp("a", Verb::Get), 0);
        assert_eq!(stamp("a", Verb::Put { value: value(), ttl_s: None }), 1);
        assert_eq!(stamp("b", Verb::PutIfAbsent { value: value(), ttl_s: None }), 2);
        assert_eq!((stamp("a", Verb::Get), stamp("b", Verb::PutIfAbsent { value: value(), ttl_s: None })), (1, 2), "seen, not changed");
        assert_eq!((stamp("b", Verb::Add { delta: 1, ttl_s: None }), stamp("a", Verb::Remove)), (3, 4));
        assert_eq!((stamp("a", Verb::Get), stamp("b", Verb::Get)), (4, 3), "that it is gone is seen too");
    }

    /// Who hears of every change knows what is kept: what is restored from that is the same.
    #[test]
    fn what_was_noted_is_what_is_restored() {
        let (local, mut heard) = (Local::default(), HashMap::new());
        let mut random = fastrand::Rng::with_seed(11);
        for now_ms in 0..3_000 {
            let key = random.u8(..40).to_string();
            let ttl_s = [None, Some(1)][random.usize(..2)];
            let verb = match random.u8(..4) {
                0 => Verb::Put { value: vec![7; random.usize(..20)], ttl_s },
                1 => Verb::PutIfAbsent { value: vec![8; 8], ttl_s },
                2 => Verb::Add { delta: random.i64(..), ttl_s },
                _ => Verb::Remove,
            };
            let note = |noted: Noted<'_>| {
                match noted {
                    Noted::Kept { key, value, left_ms } => {
                        heard.insert(key.to_owned(), (value.to_vec(), left_ms.map(|left| left + now_ms)))
                    }
                    Noted::Gone { key } => heard.remove(key),
                };
                Stamp::default()
            };
            local.perform_at(Operation { key, verb }, Bounds { keys: 30, bytes: 6_000 }, now_ms, note);
        }
        let pairs = heard.iter().map(|(key, (value, expires_ms))| {
            (key.as_str().into(), value.as_slice().into(), expires_ms.map(|expires_ms| expires_ms.saturating_sub(3_000)))
        });
        let restored = Local::restored(pairs);
        assert_eq!(held(&restored), held(&local));
        for key in heard.keys() {
            assert_eq!(reply(&restored, key, Verb::Get, WIDE, 0), reply(&local, key, Verb::Get, WIDE, 3_000), "{key}");
        }
    }

    proptest! {
        /// Against a map that knows nothing of bounds or sweeping.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec((0u8..4, 0u8..4, 0u32..3, 0u64..1_500), 0..60)) {
            let local = Local::default();
            let mut model: HashMap<String, (Vec<u8>, u64)> = HashMap::new();
            let mut now_ms = 0;
            for (operation, key, ttl_s, wait_ms) in operations {
                now_ms += wait_ms;
                model.retain(|_, (_, expires_ms)| *expires_ms > now_ms);
                let key = key.to_string();
                let value = now_ms.to_le_bytes().to_vec();
                let expires_ms = if ttl_s > 0 { now_ms + u64::from(ttl_s) * 1_000 } else { NEVER };
                let ttl_s = (ttl_s > 0).then_some(ttl_s);
                match operation {
                    0 => {
                        prop_assert_eq!(put(&local, &key, value.clone(), ttl_s, WIDE, now_ms), Ok(Reply::Done));
                        model.insert(key, (value, expires_ms));
                    }
                    1 => {
                        let (absent, verb) = (!model.contains_key(&key), Verb::PutIfAbsent { value: value.clone(), ttl_s });
                        prop_assert_eq!(reply(&local, &key, verb, WIDE, now_ms), Ok(Reply::New(absent)));
                        model.entry(key).or_insert((value, expires_ms));
                    }
                    2 => {
                        prop_assert_eq!(reply(&local, &key, Verb::Remove, WIDE, now_ms), Ok(Reply::Done));
                        model.remove(&key);
                    }
                    _ => {
                        let expected = model.get(&key).map(|(value, _)| value.clone());
                        prop_assert_eq!(reply(&local, &key, Verb::Get, WIDE, now_ms), Ok(Reply::Value(expected)));
                    }
                }
                let kept = local.kept.lock();
                prop_assert_eq!(kept.bytes, kept.slots.iter().map(|(_, entry)| cost(&entry.key, &entry.value)).sum::<usize>());
            }
        }
    }
}
