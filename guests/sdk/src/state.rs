//! Keys and values that outlive the instance (grant `state`): bounded, with time to live, shared by all instances of this guest.
//!
//! A failure becomes a [`Fault::Retry`] by `?`: the route's `on_failure` decides what happens to the event.

pub use crate::bindings::capabilities::hookgate::guest::state::Error;
use crate::{Fault, host};

/// The value of a key.
///
/// # Errors
/// The store cannot answer.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::state::get(key)
}

/// Sets a key; without `ttl_s` (seconds) it stays until it is removed.
///
/// # Errors
/// No room, too large, or the store cannot answer.
pub fn put(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<(), Error> {
    host::state::put(key, value, ttl_s)
}

/// Sets a key that does not exist: whether it was new. One step for all instances, so of two that race one is told `true`.
///
/// # Errors
/// No room, too large, or the store cannot answer.
pub fn put_if_absent(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<bool, Error> {
    host::state::put_if_absent(key, value, ttl_s)
}

/// Adds to a number and returns the sum, which stays within `i64`; a key that does not exist counts as 0, and takes `ttl_s` then, so
/// that it counts a window of time. [`get`] sees the sum's eight bytes, little-endian.
///
/// # Errors
/// No room, not a number, or the store cannot answer.
pub fn add(key: &str, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
    host::state::add(key, delta, ttl_s)
}

/// Removes a key.
///
/// # Errors
/// The store cannot answer.
pub fn remove(key: &str) -> Result<(), Error> {
    host::state::remove(key)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Retry(match error {
            Error::Quota => "state: the quota is used up; raise limits.state_keys or limits.state_bytes".into(),
            Error::TooLarge => "state: the key or value is too large".into(),
            Error::Unavailable(why) => format!("state: {why}"),
        })
    }
}
