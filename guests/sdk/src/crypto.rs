//! Verification with keys that the guest never sees (grant `crypto`, and the key's name in `keys = [...]`).
//!
//! A failure becomes a [`Fault::Internal`] by `?`: the configuration and the guest disagree about a key.

pub use crate::bindings::capabilities::hookgate::guest::crypto::{Error, Hash, Scheme};
use crate::{Fault, host};

/// Whether `mac` is the HMAC of `data` under the named key, or the first bytes of it, eight or more. In constant time.
///
/// # Errors
/// There is no such key, it is of another kind, or `mac` is too short or too long.
pub fn hmac_verify(key: &str, hash: Hash, data: &[u8], mac: &[u8]) -> Result<bool, Error> {
    host::crypto::hmac_verify(key, hash, data, mac)
}

/// Whether `signature` over `data` verifies under the named public key.
///
/// # Errors
/// There is no such key, or it is not one for this scheme.
pub fn signature_verify(key: &str, scheme: Scheme, data: &[u8], signature: &[u8]) -> Result<bool, Error> {
    host::crypto::signature_verify(key, scheme, data, signature)
}

/// The digest of `data`.
pub fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    host::crypto::digest(hash, data)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Internal(match error {
            Error::NoSuchKey => "crypto: no such key; name it in the guest's `keys`".into(),
            Error::Malformed(why) => format!("crypto: {why}"),
        })
    }
}
