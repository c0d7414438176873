//! What one call asked of the world and was told, written down when somebody wants to know.
//!
//! Invariants: a call that nobody traces pays one branch per call of `state` and `crypto`; what is written down is bounded, and a record that
//! met its bound says so. What is asked of keys is kept as a digest, never the data itself. Absent: logs, metrics and settings, which do not
//! come back to the guest or come from its configuration; clocks and random numbers.

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::event::{Bytes, Text};

/// Questions that one record holds.
const MOST_QUESTIONS: usize = 1_000;
/// Bytes of keys, values and names that one record holds.
const MOST_BYTES: usize = 4 << 20;

/// Where a call leaves its record: given with the question, read after the answer.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Recorded>);

impl Trace {
    /// Nothing is written down yet.
    pub fn new() -> Self {
        Trace::default()
    }

    /// What was written down; nothing is left.
    pub fn take(&self) -> Recorded {
        std::mem::take(&mut self.0.lock())
    }

    pub(super) fn leave(&self, recorded: Recorded) {
        *self.0.lock() = recorded;
    }
}

/// What one call asked, in order, and what it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Of `state`.
    pub state: Vec<StateCall>,
    /// Of `crypto`; digests, and questions about keys that do not exist or do not fit, are left out.
    pub crypto: Vec<KeyCall>,
    /// How long the call took, without the wait for an instance, nanoseconds.
    pub duration_ns: u64,
    /// Whether it asked for more than a record holds; the rest is missing.
    pub truncated: bool,
    bytes: usize,
}

/// One call of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCall {
    /// The key.
    pub key: Text,
    /// What was done, and the answer.
    pub operation: Operation,
}

/// What was done with a key, with the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `get`
    Get(Result<Option<Bytes>, NoState>),
    /// `put`
    Put {
        /// The new value.
        value: Bytes,
        /// Its time to live, seconds.
        ttl_s: Option<u32>,
        /// The answer.
        answer: Result<(), NoState>,
    },
    /// `put-if-absent`
    PutIfAbsent {
        /// The value for a new key.
        value: Bytes,
        /// Its time to live, seconds.
        ttl_s: Option<u32>,
        /// The answer: whether the key was new.
        answer: Result<bool, NoState>,
    },
    /// `add`
    Add {
        /// What was added.
        delta: i64,
        /// The time to live of a new key, seconds.
        ttl_s: Option<u32>,
        /// The answer: the sum.
        answer: Result<i64, NoState>,
    },
    /// `remove`
    Remove(Result<(), NoState>),
}

/// Why the state did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoState {
    /// A bound on keys or bytes is reached.
    Quota,
    /// This key or value is too large.
    TooLarge,
    /// Anything else.
    Unavailable(Text),
}

/// One question about a key of `crypto`, answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCall {
    /// The question.
    pub question: KeyQuestion,
    /// The answer.
    pub answer: bool,
}

/// What was asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyQuestion {
    /// Function and algorithm: `hmac-verify sha256`.
    pub function: Text,
    /// The key's name.
    pub key: Text,
    /// SHA-256 over what was to be verified, in lower-case hexadecimal.
    pub digest: Text,
}

impl KeyQuestion {
    /// About `data` and what is said to prove it.
    pub(super) fn new(function: &'static str, key: &str, data: &[u8], proof: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update((data.len() as u64).to_be_bytes()); // so that no byte moves between the two
        digest.update(data);
        digest.update(proof);
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        KeyQuestion { function: Text::from_static(function), key: key.into(), digest: digest.into() }
    }
}

impl Operation {
    /// The name in `wit/guest.wit`.
    pub const fn name(&self) -> &'static str {
        match self {
            Operation::Get(_) => "get",
            Operation::Put { .. } => "put",
            Operation::PutIfAbsent { .. } => "put-if-absent",
            Operation::Add { .. } => "add",
            Operation::Remove(_) => "remove",
        }
    }

    /// Why it did not happen.
    pub const fn failure(&self) -> Option<&NoState> {
        match self {
            Operation::Get(Err(why))
            | Operation::Put { answer: Err(why), .. }
            | Operation::PutIfAbsent { answer: Err(why), .. }
            | Operation::Add { answer: Err(why), .. }
            | Operation::Remove(Err(why)) => Some(why),
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Operation::Get(Ok(Some(value))) | Operation::Put { value, .. } | Operation::PutIfAbsent { value, .. } => value.len(),
            _ => 0,
        }
    }
}

impl Recorded {
    /// Of these questions, as read from a file.
    pub(super) fn of(state: Vec<StateCall>, crypto: Vec<KeyCall>, duration_ns: u64) -> Self {
        let mut recorded = Recorded { duration_ns, ..Recorded::default() };
        state.into_iter().for_each(|call| recorded.note_state(call));
        crypto.into_iter().for_each(|call| recorded.note_key(call));
        recorded
    }

    /// What it takes in memory, roughly, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn note_state(&mut self, call: StateCall) {
        if self.has_room(call.key.len() + call.operation.bytes()) {
            self.state.push(call);
        }
    }

    pub(super) fn note_key(&mut self, call: KeyCall) {
        let KeyQuestion { function, key, digest } = &call.question;
        if self.has_room(function.len() + key.len() + digest.len()) {
            self.crypto.push(call);
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let all = self.bytes.saturating_add(bytes).saturating_add(size_of::<StateCall>());
        if all > MOST_BYTES || self.state.len() + self.crypto.len() >= MOST_QUESTIONS {
            self.truncated = true;
            return false;
        }
        self.bytes = all;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_bounded_and_says_so() {
        let get = |bytes| StateCall { key: "k".into(), operation: Operation::Get(Ok(Some(vec![0; bytes].into()))) };
        let mut recorded = Recorded::default();
        (0..MOST_QUESTIONS).for_each(|_| recorded.note_state(get(1)));
        assert!(!recorded.truncated);
        recorded.note_state(get(1));
        assert!(recorded.truncated && recorded.state.len() == MOST_QUESTIONS);
        let mut recorded = Recorded::default();
        (0..5).for_each(|_| recorded.note_state(get(1 << 20)));
        assert_eq!((recorded.truncated, recorded.state.len()), (true, 3));
    }

    #[test]
    fn data_and_proof_do_not_run_into_each_other() {
        let question = |data: &[u8], proof: &[u8]| KeyQuestion::new("hmac-verify sha256", "k", data, proof);
        assert_ne!(question(b"ab", b"c"), question(b"a", b"bc"));
        assert_eq!(question(b"ab", b"c"), question(b"ab", b"c"));
    }
}
