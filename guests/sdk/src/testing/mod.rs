//! The host's part, played in memory for unit tests on the developer's machine. One host per test thread, empty at first:
//!
//! ```
//! use hookgate_guest::{prelude::*, testing};
//!
//! testing::set("max_age_s", "10");
//! testing::key("lock-hmac", b"secret");
//! assert_eq!(settings::get_or("max_age_s", 30), Ok(10));
//! let message = testing::message("devices/1/state", r#"{"battery":12}"#);
//! ```
//!
//! What it does not do: grants, limits of size and time, `crypto::signature_verify` (there is never such a key).

pub(crate) mod host;

use std::{cell::RefCell, collections::BTreeMap};

use crate::{Client, Context, Fetched, Message, log::Level, state::Error};

#[derive(Default)]
struct Host {
    now_ms: u64,
    settings: BTreeMap<String, String>,
    keys: BTreeMap<String, Vec<u8>>,
    state: BTreeMap<String, Entry>,
    state_failure: Option<Error>,
    log: Vec<(Level, String)>,
    counts: BTreeMap<String, u64>,
    observed: BTreeMap<String, Vec<f64>>,
}

struct Entry {
    value: Vec<u8>,
    until_ms: Option<u64>,
}

impl Host {
    fn entry(&self, key: &str) -> Result<Option<&Entry>, Error> {
        match &self.state_failure {
            Some(error) => Err(error.clone()),
            None => Ok(self.state.get(key).filter(|entry| entry.until_ms.is_none_or(|until_ms| self.now_ms < until_ms))),
        }
    }

    fn put(&mut self, key: &str, value: &[u8], ttl_s: Option<u32>) {
        let until_ms = ttl_s.map(|ttl_s| self.now_ms + u64::from(ttl_s) * 1000);
        self.state.insert(key.to_owned(), Entry { value: value.to_vec(), until_ms });
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn with<T>(call: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(call)
}

/// Sets a setting.
pub fn set(name: &str, value: impl ToString) {
    with(|host| host.settings.insert(name.to_owned(), value.to_string()));
}

/// Names a key.
pub fn key(name: &str, bytes: &[u8]) {
    with(|host| host.keys.insert(name.to_owned(), bytes.to_vec()));
}

/// Sets the time, milliseconds since the Unix epoch: [`context`] carries it and state expires by it.
pub fn set_time(now_ms: u64) {
    with(|host| host.now_ms = now_ms);
}

/// Makes every call of `state` fail, until it is called with `None`.
pub fn fail_state(error: Option<Error>) {
    with(|host| host.state_failure = error);
}

/// The lines logged so far.
pub fn logged() -> Vec<(Level, String)> {
    with(|host| host.log.clone())
}

/// A counter of `metrics::count`.
pub fn counted(name: &str) -> u64 {
    with(|host| host.counts.get(name).copied().unwrap_or_default())
}

/// The values given to `metrics::observe`.
pub fn observed(name: &str) -> Vec<f64> {
    with(|host| host.observed.get(name).cloned().unwrap_or_default())
}

/// A context at the time of [`set_time`]; each has its own id.
pub fn context() -> Context {
    thread_local! {
        static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(1) };
    }
    let id = NEXT.replace(NEXT.get() + 1);
    Context { id, time_ms: with(|host| host.now_ms), node: "test".into() }
}

/// An MQTT 5 client.
pub fn client(client_id: &str) -> Client {
    Client {
        client_id: client_id.into(),
        username: None,
        peer: "192.0.2.7:51234".into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: 0,
    }
}

/// A QoS 1 message without properties.
pub fn message(topic: &str, payload: impl Into<Vec<u8>>) -> Message {
    Message::new(topic, payload)
}

/// A record of partition 0 of the topic `records`, without headers and without a timestamp.
pub fn fetched(offset: u64, key: &str, value: impl Into<Vec<u8>>) -> Fetched {
    let (key, value) = (Some(key.into()), Some(value.into()));
    Fetched { topic: "records".into(), partition: 0, offset, timestamp_ms: None, key, value, headers: Vec::new() }
}

#[cfg(test)]
mod tests;
