//! `crypto`: verifying with keys that never enter the guest. A guest reaches the keys that its configuration lists, and no others.

use std::collections::HashMap;

use ring::{digest, hmac, signature};

use crate::{
    config::{self, KeyKind},
    guest::{
        bindings::imported::crypto::{self, Error, Hash, Scheme},
        host::Host,
        trace::KeyQuestion,
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
    Hmac(Box<HmacKeys>),
    Public { scheme: Scheme, bytes: Vec<u8> },
}

/// One secret, prepared for both hashes.
#[derive(Debug)]
struct HmacKeys {
    sha256: hmac::Key,
    sha512: hmac::Key,
}

impl Keys {
    /// Of `keys`, those that the guest's configuration names.
    pub(in crate::guest) fn new(listed: &[config::Placed<String>], keys: &[config::Key]) -> Self {
        let named = keys.iter().filter(|key| listed.iter().any(|name| name.value == key.name.value));
        Keys(named.map(|key| (key.name.value.clone(), Key::new(key))).collect())
    }

    fn hmac_verify(&self, key: &str, hash: Hash, data: &[u8], mac: &[u8]) -> Result<bool, Error> {
        let key = match (self.0.get(key).ok_or(Error::NoSuchKey)?, hash) {
            (Key::Hmac(keys), Hash::Sha256) => &keys.sha256,
            (Key::Hmac(keys), Hash::Sha512) => &keys.sha512,
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
            KeyKind::Hmac => Key::Hmac(Box::new(HmacKeys {
                sha256: hmac::Key::new(hmac::HMAC_SHA256, &key.bytes),
                sha512: hmac::Key::new(hmac::HMAC_SHA512, &key.bytes),
            })),
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
        let function = match hash {
            Hash::Sha256 => "hmac-verify sha256",
            Hash::Sha512 => "hmac-verify sha512",
        };
        let keys = &self.capabilities.keys;
        let question = || KeyQuestion::new(function, &key, &data, &mac);
        self.circumstances.verify(question, || keys.hmac_verify(&key, hash, &data, &mac))
    }

    fn signature_verify(&mut self, key: String, scheme: Scheme, data: Vec<u8>, signature: Vec<u8>) -> Result<bool, Error> {
        let function = match scheme {
            Scheme::Ed25519 => "signature-verify ed25519",
            Scheme::EcdsaP256Sha256 => "signature-verify ecdsa-p256-sha256",
            Scheme::RsaPkcs1Sha256 => "signature-verify rsa-pkcs1-sha256",
        };
        let keys = &self.capabilities.keys;
        let question = || KeyQuestion::new(function, &key, &data, &signature);
        self.circumstances.verify(question, || keys.signature_verify(&key, scheme, &data, &signature))
    }

    fn digest(&mut self, hash: Hash, data: Vec<u8>) -> Vec<u8> {
        let algorithm = match hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, &data).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
    };

    use super::*;

    fn keys(listed: &[&str], all: &[(&str, KeyKind, &[u8])]) -> Keys {
        let place = config::Place { file: std::sync::Arc::default(), line: 1, column: 1 };
        let placed = |value: &str| config::Placed { value: value.to_owned(), place: place.clone() };
        let listed: Vec<_> = listed.iter().map(|name| placed(name)).collect();
        let key = |(name, kind, bytes): &(&str, KeyKind, &[u8])| config::Key { name: placed(name), kind: *kind, bytes: bytes.to_vec() };
        Keys::new(&listed, &all.iter().map(key).collect::<Vec<_>>())
    }

    /// RFC 4231, test case 2.
    #[test]
    fn macs_are_verified_whole_and_truncated() {
        let keys = keys(&["jefe"], &[("jefe", KeyKind::Hmac, b"Jefe"), ("other", KeyKind::Hmac, b"x")]);
        let data = b"what do ya want for nothing?";
        let mac = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d,
            0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
        ];
        let verify = |key, hash, data: &[u8], mac: &[u8]| keys.hmac_verify(key, hash, data, mac).map_err(|error| format!("{error:?}"));
        let mut forged = mac;
        forged[7] ^= 1;
        for (mac, expected) in
            [(&mac[..], true), (&mac[..8], true), (&mac[..31], true), (&forged[..], false), (&forged[..8], false), (&mac[1..], false)]
        {
            assert_eq!(verify("jefe", Hash::Sha256, data, mac), Ok(expected), "{mac:?}");
        }
        assert_eq!(verify("jefe", Hash::Sha256, b"other", &mac), Ok(false));
        assert_eq!(verify("jefe", Hash::Sha512, data, &mac), Ok(false));
        for length in [0, 1, 7, 33] {
            let mac = vec![0; length];
            assert!(verify("jefe", Hash::Sha256, data, &mac).is_err_and(|error| error.contains("8 to 32 bytes")), "{length}");
        }
        for name in ["other", "nobody"] {
            assert!(verify(name, Hash::Sha256, data, &mac).is_err_and(|error| error.contains("NoSuchKey")), "{name} is not listed");
        }
    }

    #[test]
    fn signatures_are_verified_under_their_own_scheme() {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let p256 = |algorithm, pkcs8: &[u8]| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random).unwrap();
        let fixed_pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let (fixed, asn1) =
            (p256(&ECDSA_P256_SHA256_FIXED_SIGNING, fixed_pkcs8.as_ref()), p256(&ECDSA_P256_SHA256_ASN1_SIGNING, fixed_pkcs8.as_ref()));
        let keys = keys(
            &["ed", "p256", "mac"],
            &[
                ("ed", KeyKind::Ed25519, ed25519.public_key().as_ref()),
                ("p256", KeyKind::EcdsaP256, fixed.public_key().as_ref()),
                ("mac", KeyKind::Hmac, b"secret"),
            ],
        );
        let data = b"unlock";
        for (key, scheme, signature) in [
            ("ed", Scheme::Ed25519, ed25519.sign(data).as_ref().to_vec()),
            ("p256", Scheme::EcdsaP256Sha256, fixed.sign(&random, data).unwrap().as_ref().to_vec()),
            ("p256", Scheme::EcdsaP256Sha256, asn1.sign(&random, data).unwrap().as_ref().to_vec()),
        ] {
            let verify =
                |data: &[u8], signature: &[u8]| keys.signature_verify(key, scheme, data, signature).map_err(|error| error.to_string());
            assert_eq!(verify(data, &signature), Ok(true), "{key}");
            assert_eq!(verify(b"lock", &signature), Ok(false), "{key}");
            assert_eq!(verify(data, &[]), Ok(false), "{key}");
        }
        for (key, scheme) in [("ed", Scheme::EcdsaP256Sha256), ("mac", Scheme::Ed25519)] {
            assert!(matches!(keys.signature_verify(key, scheme, data, &[0; 64]), Err(Error::Malformed(_))), "{key}");
        }
        assert!(matches!(keys.signature_verify("nobody", Scheme::Ed25519, data, &[0; 64]), Err(Error::NoSuchKey)));
    }
}
