//! `[[key]]`: a key that guests use by name and never see.

use std::{fmt, path::Path};

use super::{problem::Placed, reader::Table, secret::load};

/// A key.
#[derive(Clone, PartialEq)]
pub struct Key {
    /// How guests name it.
    pub name: Placed<String>,
    /// What it is for.
    pub kind: KeyKind,
    /// Its bytes: the HMAC secret, or the public key as `ring` reads it (ed25519: 32 bytes; P-256: uncompressed point; RSA: PKCS #1 DER).
    pub bytes: Vec<u8>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `crypto.hmac-verify`
    Hmac,
    /// `crypto.signature-verify` with `ed25519`
    Ed25519,
    /// `crypto.signature-verify` with `ecdsa-p256-sha256`
    EcdsaP256,
    /// `crypto.signature-verify` with `rsa-pkcs1-sha256`
    Rsa,
}

/// Never prints the bytes.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name.value).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let name = table.required_text("name", "\"lock-hmac\"");
        let kinds = [("hmac", KeyKind::Hmac), ("ed25519", KeyKind::Ed25519), ("ecdsa-p256", KeyKind::EcdsaP256), ("rsa", KeyKind::Rsa)];
        let kind = table.choice("kind", &kinds).map_or(KeyKind::Hmac, |kind| kind.value);
        let sources = ["text", "hex", "file", "env"].map(|source| table.text(source).map(|value| (source, value)));
        let sources: Vec<_> = sources.into_iter().flatten().collect();
        let [(source, value)] = &sources[..] else {
            table.refuse("exactly one of `text`, `hex`, `file`, `env` says where the key comes from", "write env = \"LOCK_KEY\"");
            return None;
        };
        match load(source, &value.value, folder) {
            Ok(bytes) if bytes.is_empty() => {
                table.refuse_at(&value.place, source, ": the key is empty", "a key needs at least one byte");
                None
            }
            Ok(bytes) => Some(Key { name: name?, kind, bytes }),
            Err(error) => {
                table.refuse_at(&value.place, source, format_args!(": {error}"), "the key must be readable when Hookgate starts");
                None
            }
        }
    }
}
