//! Where a recorded call is played again: state and keys answer as they did then, and nothing that is written leaves the stage.
//!
//! What a key held before the call is concluded from the record: what `get` saw, what `add` came to, whether `put-if-absent` found it new. A key
//! that is only known to have been there is there and empty. What failed for want of room or of an answer fails again. Keys that the record
//! does not speak of are absent, or read through from the real state. A question about a key of `crypto` that the record answers is
//! answered so; others go to the configured keys. Time does not pass on a stage.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    state::{Bounds, Local, Operation, Performing, Reply, Stamp, State, StateError, Verb},
    trace::{KeyCall, KeyQuestion, Recorded, StateCall},
};

/// What the running call's questions meet.
#[derive(Debug, Default)]
pub(super) enum Circumstances {
    /// The world.
    #[default]
    Real,
    /// The world, and a record is kept.
    Traced(Box<Recorded>),
    /// A stage.
    Staged(Box<Stage>),
}

impl Circumstances {
    /// Whether nothing may leave.
    pub(super) fn is_staged(&self) -> bool {
        matches!(self, Circumstances::Staged(_))
    }

    pub(super) fn note_state(&mut self, call: StateCall) {
        if let Circumstances::Traced(recorded) = self {
            recorded.note_state(call);
        }
    }

    /// What was written down, on a stage too.
    pub(super) fn recorded(self) -> Option<Recorded> {
        match self {
            Circumstances::Real => None,
            Circumstances::Traced(recorded) => Some(*recorded),
            Circumstances::Staged(stage) => Some(stage.asked),
        }
    }

    /// Answers a question about a key of `crypto`; `really` asks the configured one.
    pub(super) fn verify<E>(
        &mut self,
        question: impl FnOnce() -> KeyQuestion,
        really: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (answer, recorded, question) = match self {
            Circumstances::Real => return really(),
            Circumstances::Traced(recorded) => (really(), &mut **recorded, question()),
            Circumstances::Staged(stage) => {
                let question = question();
                let known = stage.crypto.iter().find(|call| call.question == question).map(|call| call.answer);
                (known.map_or_else(really, Ok), &mut stage.asked, question)
            }
        };
        if let Ok(answer) = answer {
            recorded.note_key(KeyCall { question, answer });
        }
        answer
    }
}

/// Recorded circumstances for one call.
#[derive(Debug)]
pub(super) struct Stage {
    state: Local,
    /// The keys of which is known what they hold, or that they are absent.
    known: HashSet<String>,
    /// The recorded calls whose like has not come yet.
    awaited: Vec<StateCall>,
    crypto: Vec<KeyCall>,
    beneath: Option<Arc<State>>,
    asked: Recorded,
}

impl Stage {
    /// As `recorded` knows it; keys that it does not speak of are read from `beneath`.
    pub(super) fn new(recorded: &Recorded, beneath: Option<Arc<State>>) -> Self {
        let before = before(&recorded.state);
        let known = before.keys().cloned().collect();
        let held = before.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into(), None)));
        Stage {
            state: Local::restored(held),
            known,
            awaited: recorded.state.clone(),
            crypto: recorded.crypto.clone(),
            beneath,
            asked: Recorded::default(),
        }
    }

    pub(super) async fn perform(&mut self, operation: Operation) -> Result<Reply, StateError> {
        let reply = match self.awaited_failure(&operation).map(Err).or_else(|| operation.oversized()) {
            Some(reply) => reply,
            None => self.play(operation.clone()).await,
        };
        self.asked.note_state(StateCall { operation, reply: reply.clone() });
        reply
    }

    /// The n-th operation of a kind on a key fails if the n-th recorded one did, and not by itself.
    fn awaited_failure(&mut self, operation: &Operation) -> Option<StateError> {
        let like = |call: &StateCall| {
            let (then, now) = (&call.operation, operation);
            then.key == now.key && std::mem::discriminant(&then.verb) == std::mem::discriminant(&now.verb)
        };
        let call = self.awaited.remove(self.awaited.iter().position(like)?);
        call.reply.err().filter(|why| matches!(why, StateError::Quota | StateError::Unavailable(_)))
    }

    async fn play(&mut self, operation: Operation) -> Result<Reply, StateError> {
        if self.known.insert(operation.key.clone())
            && let Some(value) = self.read_beneath(&operation.key).await
        {
            let _ = self.perform_here(Operation { key: operation.key.clone(), verb: Verb::Put { value, ttl_s: None } });
        }
        self.perform_here(operation)
    }

    fn perform_here(&self, operation: Operation) -> Result<Reply, StateError> {
        const ROOM: Bounds = Bounds { keys: usize::MAX, bytes: usize::MAX }; // what there was no room for is in the record
        self.state.perform_at(operation, ROOM, 0, |_| Stamp::default()).reply
    }

    async fn read_beneath(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.beneath.as_ref()?;
        let performed = match state.look(key.to_owned()) {
            Performing::Done(performed) => performed,
            Performing::Waiting(waiting) => waiting.await,
        };
        if let Ok(Reply::Value(value)) = performed.reply { value } else { None }
    }
}

/// What is known of a key before the call.
enum Known {
    Absent,
    /// It was there; with what, is not known yet.
    There,
    Holding(Vec<u8>),
    /// It was written before anybody looked.
    Never,
}

/// What the keys held before these calls, as far as they tell.
fn before(calls: &[StateCall]) -> HashMap<String, Option<Vec<u8>>> {
    let mut keys: HashMap<&str, Known> = HashMap::new();
    for StateCall { operation, reply } in calls {
        let there = match keys.get(operation.key.as_str()) {
            None => false,
            Some(Known::There) => true,
            Some(_) => continue, // what came later does not speak of the time before
        };
        let known = match (&operation.verb, reply) {
            (_, Ok(Reply::Value(None)) | Ok(Reply::New(true))) => Known::Absent,
            (_, Ok(Reply::Value(Some(value)))) => Known::Holding(value.clone()),
            (Verb::Add { delta, .. }, Ok(Reply::Sum(sum))) => match sum.saturating_sub(*delta) {
                0 if !there => Known::Absent,
                number => Known::Holding(number.to_le_bytes().to_vec()),
            },
            (_, Ok(Reply::New(false)) | Err(StateError::NotANumber)) => Known::There,
            (Verb::Put { .. } | Verb::Remove, Ok(_)) if there => Known::Holding(Vec::new()), // it will not be known better
            (Verb::Put { .. } | Verb::Remove, Ok(_)) => Known::Never,
            _ => continue,
        };
        keys.insert(&operation.key, known);
    }
    let held = |known| match known {
        Known::Absent | Known::Never => None,
        Known::There => Some(Vec::new()), // no number either
        Known::Holding(value) => Some(value),
    };
    keys.into_iter().map(|(key, known)| (key.to_owned(), held(known))).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::guest::state::Bounds;

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let value = || prop_oneof![Just(vec![]), Just(b"text".to_vec()), any::<i64>().prop_map(|number| number.to_le_bytes().to_vec())];
        let ttl_s = || prop::option::of(1u32..9);
        let delta = || prop_oneof![any::<i64>(), -3i64..4];
        let verb = prop_oneof![
            Just(Verb::Get),
            (value(), ttl_s()).prop_map(|(value, ttl_s)| Verb::Put { value, ttl_s }),
            (value(), ttl_s()).prop_map(|(value, ttl_s)| Verb::PutIfAbsent { value, ttl_s }),
            (delta(), ttl_s()).prop_map(|(delta, ttl_s)| Verb::Add { delta, ttl_s }),
            Just(Verb::Remove),
        ];
        prop::collection::vec(("[a-d]", verb).prop_map(|(key, verb)| Operation { key, verb }), 0..24)
    }

    fn done(state: &State, operation: Operation, bounds: Bounds) -> Result<Reply, StateError> {
        let Performing::Done(performed) = state.perform(operation, bounds) else { panic!("memory waits for nobody") };
        performed.reply
    }

    fn played(stage: &mut Stage, operation: Operation) -> Result<Reply, StateError> {
        stage.perform(operation).now_or_never().expect("memory waits for nobody")
    }

    fn call(state: &State, operation: Operation, bounds: Bounds) -> StateCall {
        StateCall { reply: done(state, operation.clone(), bounds), operation }
    }

    proptest! {
        /// Whatever was there before, and however little room there is: the same questions get the same answers.
        #[test]
        fn the_same_questions_get_the_same_answers(earlier in operations(), traced in operations(), keys in 1usize..6) {
            let state = State::new();
            let bounds = Bounds { keys, bytes: 4_000 };
            for operation in earlier {
                let _ = done(&state, operation, bounds);
            }
            let mut recorded = Recorded::default();
            traced.into_iter().for_each(|operation| recorded.note_state(call(&state, operation, bounds)));
            let mut stage = Stage::new(&recorded, None);
            for StateCall { operation, reply } in &recorded.state {
                prop_assert_eq!(&played(&mut stage, operation.clone()), reply, "{:?}", operation);
            }
            prop_assert_eq!(&stage.asked, &recorded);
        }

        /// A stage over a state behaves as the state would.
        #[test]
        fn a_stage_reads_through(earlier in operations(), later in operations()) {
            let (state, twin) = (State::new(), State::new());
            let bounds = Bounds { keys: 100, bytes: 1 << 20 };
            for operation in earlier {
                prop_assert_eq!(done(&state, operation.clone(), bounds), done(&twin, operation, bounds));
            }
            let mut stage = Stage::new(&Recorded::default(), Some(Arc::clone(&state)));
            for operation in later {
                prop_assert_eq!(played(&mut stage, operation.clone()), done(&twin, operation, bounds));
            }
        }
    }

    #[test]
    fn a_stage_leaves_the_state_as_it_was() {
        let state = State::new();
        let bounds = Bounds { keys: 10, bytes: 10_000 };
        let operation = |verb| Operation { key: "k".to_owned(), verb };
        let put = |value: &str| Verb::Put { value: value.into(), ttl_s: None };
        assert_eq!(done(&state, operation(put("real")), bounds), Ok(Reply::Done));
        let mut stage = Stage::new(&Recorded::default(), Some(Arc::clone(&state)));
        for (verb, expected) in [
            (Verb::Get, Reply::Value(Some(b"real".to_vec()))),
            (put("played"), Reply::Done),
            (Verb::Get, Reply::Value(Some(b"played".to_vec()))),
            (Verb::Remove, Reply::Done),
            (Verb::Get, Reply::Value(None)),
        ] {
            assert_eq!(played(&mut stage, operation(verb)), Ok(expected));
        }
        assert_eq!(done(&state, operation(Verb::Get), bounds), Ok(Reply::Value(Some(b"real".to_vec()))));
    }

    #[test]
    fn keys_answer_as_they_did() {
        let question = |data: &[u8]| KeyQuestion::new("hmac-verify sha256", "k", data, b"mac");
        let mut traced = Circumstances::Traced(Box::default());
        assert_eq!(traced.verify(|| question(b"known"), || Ok::<_, ()>(true)), Ok(true));
        assert_eq!(traced.verify(|| question(b"refused"), || Err(())), Err(()));
        let recorded = traced.recorded().unwrap_or_default();
        assert_eq!(recorded.crypto.len(), 1);
        let mut staged = Circumstances::Staged(Box::new(Stage::new(&recorded, None)));
        assert_eq!(staged.verify(|| question(b"known"), || Err(())), Ok(true), "the key is not needed");
        assert_eq!(staged.verify(|| question(b"new"), || Ok::<_, ()>(false)), Ok(false), "the key is asked");
    }
}
