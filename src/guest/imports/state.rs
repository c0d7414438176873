//! `state`: the keys and values of this guest's name.

use crate::guest::{
    bindings::imported::state::{self, Error},
    host::Host,
    state::StateError,
};

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Quota => Error::Quota,
            StateError::TooLarge => Error::TooLarge,
            StateError::NotANumber => Error::Unavailable(error.to_string()),
        }
    }
}

impl state::Host for Host {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let state = &self.capabilities.state;
        Ok(state.get(&key, state.now_ms()))
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<(), Error> {
        let state = &self.capabilities.state;
        Ok(state.put(&key, value, ttl_s, self.capabilities.state_bounds, state.now_ms())?)
    }

    fn put_if_absent(&mut self, key: String, value: Vec<u8>, ttl_s: Option<u32>) -> Result<bool, Error> {
        let state = &self.capabilities.state;
        Ok(state.put_if_absent(&key, value, ttl_s, self.capabilities.state_bounds, state.now_ms())?)
    }

    fn add(&mut self, key: String, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
        let state = &self.capabilities.state;
        Ok(state.add(&key, delta, ttl_s, self.capabilities.state_bounds, state.now_ms())?)
    }

    fn remove(&mut self, key: String) -> Result<(), Error> {
        self.capabilities.state.remove(&key);
        Ok(())
    }
}
