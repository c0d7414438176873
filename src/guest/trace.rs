//! What one call asked of the world and was told, written down when somebody wants to know.
//!
//! Invariants: a call that nobody traces pays one branch per call of `state` and `crypto`; what is written down is bounded, and a record that
//! met its bound says so. What is asked of keys is kept as a digest, never the data itself. Absent: logs, metrics and settings, which do not
//! come back to the guest or come from its configuration; clocks and random numbers.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{
    load,
    stage::{Circumstances, Stage},
    state::{Operation, Reply, StateError, Verb},
};
use crate::event::Text;

/// Questions that one record holds.
const MOST_QUESTIONS: usize = 1_000;
/// Bytes of keys, values and names that one record holds.
const MOST_BYTES: usize = 4 << 20;

/// Where a call leaves its record: given with the question, read after the answer.
#[derive(Debug, Default)]
pub struct Trace {
    rehearsal: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
enum Kept {
    /// Nobody was called yet.
    #[default]
    Nothing,
    /// The stage for the next call.
    Stage(Box<Stage>),
    /// What the last call asked.
    Recorded(Recorded),
}

impl Trace {
    /// Nothing is written down yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// For a call that meets a stage instead of the world.
    pub(super) fn on(stage: Stage) -> Arc<Self> {
        Arc::new(Trace { rehearsal: true, kept: Mutex::new(Kept::Stage(Box::new(stage))) })
    }

    /// What the last call asked; `None`: no guest was called.
    pub fn recorded(&self) -> Option<Recorded> {
        match &*self.kept.lock() {
            Kept::Recorded(recorded) => Some(recorded.clone()),
            Kept::Nothing | Kept::Stage(_) => None,
        }
    }

    /// Whether the call has no consequences.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// What the next call meets.
    pub(super) fn circumstances(&self) -> Circumstances {
        match std::mem::take(&mut *self.kept.lock()) {
            Kept::Stage(stage) => Circumstances::Staged(stage),
            _ if self.rehearsal => Circumstances::Staged(Box::new(Stage::new(&Recorded::default(), None))), // never the world
            Kept::Nothing | Kept::Recorded(_) => Circumstances::Traced(Box::default()),
        }
    }

    pub(super) fn leave(&self, circumstances: Circumstances, duration: Duration) {
        if let Some(recorded) = circumstances.recorded() {
            let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            *self.kept.lock() = Kept::Recorded(Recorded { duration_ns, ..recorded });
        }
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
    pub(super) bytes: usize,
}

/// One call of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCall {
    /// What was done with which key.
    pub operation: Operation,
    /// What came of it.
    pub reply: Result<Reply, StateError>,
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
        let digest = load::hex(&digest.finalize()).into();
        KeyQuestion { function: Text::from_static(function), key: key.into(), digest }
    }
}

impl StateCall {
    fn bytes(&self) -> usize {
        let value = match &self.operation.verb {
            Verb::Put { value, .. } | Verb::PutIfAbsent { value, .. } => value.len(),
            _ => 0,
        };
        let read = if let Ok(Reply::Value(Some(value))) = &self.reply { value.len() } else { 0 };
        self.operation.key.len() + value + read
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
        if self.has_room(call.bytes()) {
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
        let get = |bytes| StateCall {
            operation: Operation { key: "k".to_owned(), verb: Verb::Get },
            reply: Ok(Reply::Value(Some(vec![0; bytes]))),
        };
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
