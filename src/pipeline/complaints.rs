//! The log of what devices may do wrong at any rate: of each kind a line once in ten seconds, with the number of those that were none.

use parking_lot::Mutex;

/// How often one kind may speak.
const QUIET_MS: u64 = 10_000;

/// Complaints by kind; there are few kinds.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Vec<Kind>>);

#[derive(Debug)]
struct Kind {
    name: &'static str,
    spoke_ms: u64,
    unspoken: u64,
}

impl Complaints {
    /// `Some` when it may be a line, with the number of those before it that were none.
    pub(super) fn about(&self, name: &'static str, now_ms: u64) -> Option<u64> {
        let mut kinds = self.0.lock();
        let Some(kind) = kinds.iter_mut().find(|kind| kind.name == name) else {
            kinds.push(Kind { name, spoke_ms: now_ms, unspoken: 0 });
            return Some(0);
        };
        if now_ms.saturating_sub(kind.spoke_ms) < QUIET_MS {
            kind.unspoken += 1;
            return None;
        }
        kind.spoke_ms = now_ms;
        Some(std::mem::take(&mut kind.unspoken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_speaks_once_in_a_while() {
        let complaints = Complaints::default();
        assert_eq!(complaints.about("topic", 1), Some(0));
        assert_eq!(complaints.about("timestamp", 2), Some(0));
        assert_eq!([complaints.about("topic", 3), complaints.about("topic", 10_000)], [None, None]);
        assert_eq!(complaints.about("topic", 10_001), Some(2));
        assert_eq!(complaints.about("topic", 20_001), Some(0));
    }
}
