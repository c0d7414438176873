//! `crypto`: verifying with keys that never enter the guest. A guest reaches the keys that its configuration lists, and no others.

use std::collections::HashMap;

use ring::{digest, hmac, signature};

use crate::{
    config::{self, KeyKind},
    guest::{
        bindings::imported::crypto::{self, Error, Hash, Scheme},
        host::Host,
    },
};

/// The shortest truncated MAC that is accepted, bytes: 64 bits, as NIST SP 800-107 (5.3.4) allows where guesses are limited.
const MIN_MAC_BYTES: usize = 8;
/// Length of an ECDSA P-256 signature as r and s in a row; any other length is read as ASN.1 DER.
const P256_FIXED_BYTES: usize = 64;

/// The keys of one guest, by name.
#[derive(Debug)]
pub(in crate::guest) struct Keys(HashMap<String, Key>);

#[derive(Debug)]
enum Key {
    Hmac { sha256: hmac::Key, sha512: hmac::Key },
    Public { scheme: Scheme, bytes: Vec<u8> },
}

impl Keys {
    /// Of `keys`, those that the guest's configuration names.
    pub(in crate::guest) fn new(guest: &config::Guest, keys: &[config::Key]) -> Self {
        let named = keys.iter().filter(|key| guest.keys.iter().any(|name| name.value == key.name.value));
        Keys(named.map(|key| (key.name.value.clone(), Key::new(key))).collect())
    }

    fn hmac_verify(&self, key: &str, hash: Hash, data: &[u8], mac: &[u8]) -> Result<bool, Error> {
        let key = match (self.0.get(key).ok_or(Error::NoSuchKey)?, hash) {
            (Key::Hmac { sha256, .. }, Hash::Sha256) => sha256,
            (Key::Hmac { sha512, .. }, Hash::Sha512) => sha512,
            (Key::Public { .. }, _) => return Err(Error::Malformed(format!("the key \"{key}\" is not of the kind hmac"))),
        };
        let tag = hmac::sign(key, data);
        match tag.as_ref().get(..mac.len()) {
            Some(expected) if mac.len() >= MIN_MAC_BYTES => Ok(equal_in_constant_time(expected, mac)),
            _ => {
                let longest = tag.as_ref().len();
                Err(Error::Malformed(format!("a MAC has {MIN_MAC_BYTES} to {longest} bytes here, not {}", mac.len())))
            }
        }
    }

    fn signature_verify(&self, key: &str, scheme: Scheme, data: &[u8], signature: &[u8]) -> Result<bool, Error> {
        let bytes = match self.0.get(key).ok_or(Error::NoSuchKey)? {
            Key::Public { scheme: of_key, bytes } if *of_key == scheme => bytes,
            _ => return Err(Error::Malformed(format!("the key \"{key}\" is for another scheme"))),
        };
        let algorithm: &dyn signature::VerificationAlgorithm = match scheme {
            Scheme::Ed25519 => &signature::ED25519,
            Scheme::EcdsaP256Sha256 if signature.len() == P256_FIXED_BYTES => &signature::ECDSA_P256_SHA256_FIXED,
            Scheme::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Scheme::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        Ok(signature::UnparsedPublicKey::new(algorithm, bytes).verify(data, signature).is_ok())
    }
}

impl Key {
    fn new(key: &config::Key) -> Self {
        let public = |scheme| Key::Public { scheme, bytes: key.bytes.clone() };
        match key.kind {
            KeyKind::Hmac => {
                Key::Hmac { sha256: hmac::Key::new(hmac::HMAC_SHA256, &key.bytes), sha512: hmac::Key::new(hmac::HMAC_SHA512, &key.bytes) }
            }
            KeyKind::Ed25519 => public(Scheme::Ed25519),
            KeyKind::EcdsaP256 => public(Scheme::EcdsaP256Sha256),
            KeyKind::Rsa => public(Scheme::RsaPkcs1Sha256),
        }
    }
}

/// Compares without stopping at the first difference, so that the time taken says nothing about where it is.
fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    one.len() == other.len() && difference == 0
}

impl crypto::Host for Host {
    fn hmac_verify(&mut self, key: String, hash: Hash, data: Vec<u8>, mac: Vec<u8>) -> Result<bool, Error> {
        self.capabilities.keys.hmac_verify(&key, hash, &data, &mac)
    }

    fn signature_verify(&mut self, key: String, scheme: Scheme, data: Vec<u8>, signature: Vec<u8>) -> Result<bool, Error> {
        self.capabilities.keys.signature_verify(&key, scheme, &data, &signature)
    }

    fn digest(&mut self, hash: Hash, data: Vec<u8>) -> Vec<u8> {
        let algorithm = match hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, &data).as_ref().to_vec()
    }
}
