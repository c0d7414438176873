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

use std::{cell::RefCell, collections::BTreeMap};

use crate::{Client, Context, Message, Qos, log::Level, state::Error};

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
    Message {
        topic: topic.into(),
        payload: payload.into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        expiry_s: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    }
}

/// The capabilities, with the signatures of the generated imports.
pub(crate) mod host {
    pub(crate) mod log {
        use crate::log::Level;

        pub(crate) fn log(level: Level, context: &str, message: &str) {
            let separator = if context.is_empty() { "" } else { ": " };
            super::super::with(|host| host.log.push((level, format!("{context}{separator}{message}"))));
        }
    }

    pub(crate) mod settings {
        pub(crate) fn get(name: &str) -> Option<String> {
            super::super::with(|host| host.settings.get(name).cloned())
        }

        pub(crate) fn get_all() -> Vec<(String, String)> {
            super::super::with(|host| host.settings.clone().into_iter().collect())
        }
    }

    pub(crate) mod state {
        use crate::state::Error;

        pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
            super::super::with(|host| Ok(host.entry(key)?.map(|entry| entry.value.clone())))
        }

        pub(crate) fn put(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<(), Error> {
            super::super::with(|host| {
                host.entry(key)?;
                host.put(key, value, ttl_s);
                Ok(())
            })
        }

        pub(crate) fn put_if_absent(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<bool, Error> {
            super::super::with(|host| {
                let absent = host.entry(key)?.is_none();
                if absent {
                    host.put(key, value, ttl_s);
                }
                Ok(absent)
            })
        }

        pub(crate) fn add(key: &str, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
            super::super::with(|host| {
                let text = host.entry(key)?.map_or("0".into(), |entry| String::from_utf8_lossy(&entry.value).into_owned());
                let number: i64 = text.parse().map_err(|_| Error::Unavailable(format!("`{key}` is not a number")))?;
                let sum = number.wrapping_add(delta);
                host.put(key, sum.to_string().as_bytes(), ttl_s);
                Ok(sum)
            })
        }

        pub(crate) fn remove(key: &str) -> Result<(), Error> {
            super::super::with(|host| {
                host.entry(key)?;
                host.state.remove(key);
                Ok(())
            })
        }
    }

    pub(crate) mod metrics {
        pub(crate) fn count(name: &str, delta: u32) {
            super::super::with(|host| *host.counts.entry(name.to_owned()).or_default() += u64::from(delta));
        }

        pub(crate) fn observe(name: &str, value: f64) {
            super::super::with(|host| host.observed.entry(name.to_owned()).or_default().push(value));
        }
    }

    pub(crate) mod crypto {
        use hmac::{Hmac, Mac};
        use sha2::{Digest, Sha256, Sha512};

        use crate::crypto::{Error, Hash, Scheme};

        pub(crate) fn hmac_verify(key: &str, hash: Hash, data: &[u8], mac: &[u8]) -> Result<bool, Error> {
            let key = super::super::with(|host| host.keys.get(key).cloned()).ok_or(Error::NoSuchKey)?;
            let computed = match hash {
                Hash::Sha256 => Hmac::<Sha256>::new_from_slice(&key).map(|hmac| hmac.chain_update(data).finalize().into_bytes().to_vec()),
                Hash::Sha512 => Hmac::<Sha512>::new_from_slice(&key).map(|hmac| hmac.chain_update(data).finalize().into_bytes().to_vec()),
            };
            let computed = computed.map_err(|error| Error::Malformed(error.to_string()))?;
            match computed.get(..mac.len()) {
                Some(prefix) if !mac.is_empty() => Ok(prefix == mac),
                _ => Err(Error::Malformed(format!("a MAC of {} bytes", mac.len()))),
            }
        }

        pub(crate) fn signature_verify(_key: &str, _scheme: Scheme, _data: &[u8], _signature: &[u8]) -> Result<bool, Error> {
            Err(Error::NoSuchKey)
        }

        pub(crate) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
            match hash {
                Hash::Sha256 => Sha256::digest(data).to_vec(),
                Hash::Sha512 => Sha512::digest(data).to_vec(),
            }
        }
    }
}
