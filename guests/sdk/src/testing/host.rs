//! The capabilities, with the signatures of the generated imports.

pub(crate) mod log {
    use crate::{log::Level, testing::with};

    pub(crate) fn log(level: Level, context: &str, message: &str) {
        let separator = if context.is_empty() { "" } else { ": " };
        with(|host| host.log.push((level, format!("{context}{separator}{message}"))));
    }
}

pub(crate) mod settings {
    use crate::testing::with;

    pub(crate) fn get(name: &str) -> Option<String> {
        with(|host| host.settings.get(name).cloned())
    }

    pub(crate) fn get_all() -> Vec<(String, String)> {
        with(|host| host.settings.clone().into_iter().collect())
    }
}

pub(crate) mod state {
    use crate::{
        state::Error,
        testing::{Entry, with},
    };

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        with(|host| Ok(host.entry(key)?.map(|entry| entry.value.clone())))
    }

    pub(crate) fn put(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<(), Error> {
        with(|host| {
            host.entry(key)?;
            host.put(key, value, ttl_s);
            Ok(())
        })
    }

    pub(crate) fn put_if_absent(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<bool, Error> {
        with(|host| {
            let absent = host.entry(key)?.is_none();
            if absent {
                host.put(key, value, ttl_s);
            }
            Ok(absent)
        })
    }

    pub(crate) fn add(key: &str, delta: i64, ttl_s: Option<u32>) -> Result<i64, Error> {
        with(|host| {
            let before = host.entry(key)?.map(|entry| (entry.value.as_slice().try_into().map(i64::from_le_bytes), entry.until_ms));
            let (number, until_ms) = match before {
                None => (0, ttl_s.map(|ttl_s| host.now_ms + u64::from(ttl_s) * 1000)),
                Some((number, until_ms)) => {
                    (number.map_err(|_| Error::Unavailable(format!("`{key}` is not a number of eight bytes")))?, until_ms)
                }
            };
            let sum = number.saturating_add(delta);
            host.state.insert(key.to_owned(), Entry { value: sum.to_le_bytes().to_vec(), until_ms });
            Ok(sum)
        })
    }

    pub(crate) fn remove(key: &str) -> Result<(), Error> {
        with(|host| {
            host.entry(key)?;
            host.state.remove(key);
            Ok(())
        })
    }
}

pub(crate) mod metrics {
    use crate::testing::with;

    pub(crate) fn count(name: &str, delta: u32) {
        with(|host| *host.counts.entry(name.to_owned()).or_default() += u64::from(delta));
    }

    pub(crate) fn observe(name: &str, value: f64) {
        with(|host| host.observed.entry(name.to_owned()).or_default().push(value));
    }
}

pub(crate) mod crypto {
    use hmac::{Hmac, Mac};
    use sha2::{Digest, Sha256, Sha512};

    use crate::{
        crypto::{Error, Hash, Scheme},
        testing::with,
    };

    pub(crate) fn hmac_verify(key: &str, hash: Hash, data: &[u8], mac: &[u8]) -> Result<bool, Error> {
        let key = with(|host| host.keys.get(key).cloned()).ok_or(Error::NoSuchKey)?;
        let computed = match hash {
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(&key).map(|hmac| hmac.chain_update(data).finalize().into_bytes().to_vec()),
            Hash::Sha512 => Hmac::<Sha512>::new_from_slice(&key).map(|hmac| hmac.chain_update(data).finalize().into_bytes().to_vec()),
        };
        let computed = computed.map_err(|error| Error::Malformed(error.to_string()))?;
        match computed.get(..mac.len()) {
            Some(prefix) if mac.len() >= 8 => Ok(prefix == mac),
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
