//! Guests' state as the store knows it: a space for each guest, with keys and values in it.
//!
//! Times are written so that no clock can make a key outlive its time: what is stored is when it was written and how much longer it had
//! then. Absent: what guests mean by it, and quotas.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::event::Text;

/// Which guest's state: the digest of its tenant and name, so that no names make two of them one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(pub(super) [u8; Space::BYTES]);

/// Whose a space is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The guest's tenant.
    pub tenant: Option<Text>,
    /// The guest.
    pub guest: Text,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Box<str>,
    /// The value.
    pub value: Box<[u8]>,
    /// When it was written, milliseconds since the Unix epoch.
    pub written_at_ms: u64,
    /// How much longer it had then, milliseconds; for ever without.
    pub left_ms: Option<u64>,
}

/// A space as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Which.
    pub space: Space,
    /// Whose; `None`: that was damaged.
    pub owner: Option<Owner>,
    /// What is in it, expired keys included.
    pub pairs: Vec<Pair>,
}

/// Its digest in hexadecimal.
impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Space {
    pub(super) const BYTES: usize = 16;
}

impl Owner {
    /// The guest `guest` of `tenant`.
    pub fn new(tenant: Option<&str>, guest: &str) -> Self {
        Owner { tenant: tenant.map(Text::from), guest: guest.into() }
    }

    /// Where its state is.
    pub fn space(&self) -> Space {
        let mut hasher = Sha256::new();
        if let Some(tenant) = &self.tenant {
            hasher.update((tenant.len() as u64).to_le_bytes());
            hasher.update(tenant.as_bytes());
        }
        hasher.update([0]);
        hasher.update(self.guest.as_bytes());
        let mut half = [0; Space::BYTES];
        half.iter_mut().zip(hasher.finalize()).for_each(|(half, whole)| *half = whole);
        Space(half)
    }
}

impl Pair {
    /// How much longer it has at `now_ms` since the Unix epoch, milliseconds: `Some(0)` is over. A clock that went backwards since it was
    /// written gives it what it had then, and not more.
    pub fn left_at(&self, now_ms: u64) -> Option<u64> {
        self.left_ms.map(|left_ms| left_ms.saturating_sub(now_ms.saturating_sub(self.written_at_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_can_only_shorten_what_is_left() {
        let pair = Pair { key: "k".into(), value: [].into(), written_at_ms: 1_000, left_ms: Some(300) };
        for (now_ms, left_ms) in [(1_000, 300), (1_200, 100), (1_300, 0), (u64::MAX, 0), (999, 300), (0, 300)] {
            assert_eq!(pair.left_at(now_ms), Some(left_ms), "{now_ms}");
        }
        assert_eq!(Pair { left_ms: None, ..pair }.left_at(u64::MAX), None);
    }

    #[test]
    fn owners_have_spaces_of_their_own() {
        let spaces = [(None, "a"), (Some("a"), ""), (Some(""), "a"), (None, "a\0"), (Some("a"), "b"), (Some("ab"), ""), (None, "")];
        for (at, (tenant, guest)) in spaces.iter().enumerate() {
            for (other_tenant, other_guest) in &spaces[at + 1..] {
                assert_ne!(Owner::new(*tenant, guest).space(), Owner::new(*other_tenant, other_guest).space());
            }
        }
    }
}
