//! `state`: the keys and values of this guest's name.
//!
//! The functions are asynchronous for the keepers that ask another process; a guest that waits for one does not run, and its time goes on.

use crate::guest::{
    bindings::imported::state::{self, Error},
    host::Host,
    stage::Circumstances,
    state::{Operation, Performing, Reply, StateError, Verb},
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
    async fn perform(&mut self, key: String, verb: Verb) -> Result<Reply, Error> {
        let operation = Operation { key, verb };
        match &mut self.circumstances {
            Circumstances::Real => Ok(self.perform_really(operation).await?),
            Circumstances::Traced(_) => {
                let reply = self.perform_really(operation.clone()).await;
                self.circumstances.note_state(StateCall { operation, reply: reply.clone() });
                Ok(reply?)
            }
            Circumstances::Staged(stage) => Ok(stage.perform(operation).await?),
        }
    }

    async fn perform_really(&mut self, operation: Operation) -> Result<Reply, StateError> {
        let capabilities = &self.capabilities;
        let performed = match capabilities.state.perform(operation, capabilities.state_bounds) {
            Performing::Done(performed) => performed,
            Performing::Waiting(waiting) => waiting.await,
        };
        self.rests_on = self.rests_on.max(performed.stamp);
        performed.reply
    }
}

/// A keeper that answers something else than it was asked.
fn odd() -> Error {
    Error::Unavailable("the state gave an answer to another question".to_owned())
}

impl state::Host for Host {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        if let Reply::Value(value) = self.perform(key, Verb::Get).await? { Ok(value) } else { Err(odd()) }
    }

    async fn put(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<(), Error> {
        self.perform(key, Verb::Put { value, ttl_s }).await.map(drop)
    }

    async fn put_if_absent(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<bool, Error> {
        if let Reply::New(new) = self.perform(key, Verb::PutIfAbsent { value, ttl_s }).await? { Ok(new) } else { Err(odd()) }
    }

    async fn add(&mut self, key: String, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
        if let Reply::Sum(sum) = self.perform(key, Verb::Add { delta, ttl_s }).await? { Ok(sum) } else { Err(odd()) }
    }

    async fn remove(&mut self, key: String) -> Result<(), Error> {
        self.perform(key, Verb::Remove).await.map(drop)
    }
}
