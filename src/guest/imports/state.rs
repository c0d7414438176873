//! `state`: the keys and values of this guest's name.

use crate::guest::{
    bindings::imported::state::{self, Error},
    host::Host,
    stage::Circumstances,
    state::{Operation, Reply, StateError, Verb},
    trace::StateCall,
};

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Quota => Error::Quota,
            StateError::TooLarge => Error::TooLarge,
            StateError::NotANumber => Error::Unavailable(error.to_string()),
            StateError::Unavailable(why) => Error::Unavailable(why),
        }
    }
}

impl Host {
    fn perform(&mut self, key: String, verb: Verb) -> Result<Reply, Error> {
        let operation = Operation { key, verb };
        match &mut self.circumstances {
            Circumstances::Real => Ok(self.perform_really(operation)?),
            Circumstances::Traced(_) => {
                let reply = self.perform_really(operation.clone());
                self.circumstances.note_state(StateCall { operation, reply: reply.clone() });
                Ok(reply?)
            }
            Circumstances::Staged(stage) => Ok(stage.perform(operation)?),
        }
    }

    fn perform_really(&mut self, operation: Operation) -> Result<Reply, StateError> {
        let state = &self.capabilities.state;
        state.perform(operation, self.capabilities.state_bounds, state.now_ms())
    }
}

/// A keeper that answers something else than it was asked.
fn odd() -> Error {
    Error::Unavailable("the state gave an answer to another question".to_owned())
}

impl state::Host for Host {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        if let Reply::Value(value) = self.perform(key, Verb::Get)? { Ok(value) } else { Err(odd()) }
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<(), Error> {
        self.perform(key, Verb::Put { value, ttl_s }).map(drop)
    }

    fn put_if_absent(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<bool, Error> {
        if let Reply::New(new) = self.perform(key, Verb::PutIfAbsent { value, ttl_s })? { Ok(new) } else { Err(odd()) }
    }

    fn add(&mut self, key: String, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
        if let Reply::Sum(sum) = self.perform(key, Verb::Add { delta, ttl_s })? { Ok(sum) } else { Err(odd()) }
    }

    fn remove(&mut self, key: String) -> Result<(), Error> {
        self.perform(key, Verb::Remove).map(drop)
    }
}
