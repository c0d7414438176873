//! Whether a new version that a part of the clients meets goes on, takes over or goes back; and which clients these are.
//!
//! Pure: what was counted and how long it has run are arguments. Invariants: a client stays on its side as long as the version's digest and
//! the share are the same, on every node and over restarts; once it must go back, no later count makes it go on.

use std::{fmt, time::Duration};

use super::ledger::Cause;
use crate::config;

/// What was counted of one version's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls that came to an end.
    pub calls: u64,
    /// Those that gave no verdict.
    pub failures: u64,
    /// Those that denied or dropped.
    pub refusals: u64,
}

/// What becomes of a canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Not decided.
    Continue,
    /// Everybody meets it.
    Promote,
    /// Nobody does any more.
    RollBack(Reason),
}

/// Why a canary goes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reason {
    /// Too many of its calls failed.
    Failures { failures: u64, calls: u64, allowed: f64 },
    /// It refuses too much more than the running version.
    Refusals { own: f64, running: f64, allowed: f64 },
}

impl Reason {
    pub(super) const fn cause(self) -> Cause {
        match self {
            Reason::Failures { .. } => Cause::Failures,
            Reason::Refusals { .. } => Cause::Refusals,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Failures { failures, calls, allowed } => {
                write!(f, "{failures} of its {calls} calls failed (canary.max_failure_ratio = {allowed})")
            }
            Reason::Refusals { own, running, allowed } => {
                write!(
                    f,
                    "it refused {:.1} % of its calls, the running version {:.1} % (canary.max_refusal_increase = {allowed})",
                    own * 100.0,
                    running * 100.0
                )
            }
        }
    }
}

/// Decides. It goes back as soon as more calls have failed than may fail of `min_calls`, or of all calls when there were more: an early
/// failure of many is chance, but what can only end badly ends now. Refusals are compared once both versions had `min_calls`.
pub(super) fn verdict(settings: &config::Canary, new: Figures, running: Figures, age: Duration) -> Verdict {
    let min_calls = u64::from(settings.min_calls);
    let judged = new.calls.max(min_calls);
    if new.failures as f64 > settings.max_failure_ratio * judged as f64 {
        let (failures, calls, allowed) = (new.failures, new.calls, settings.max_failure_ratio);
        return Verdict::RollBack(Reason::Failures { failures, calls, allowed });
    }
    let compares = settings.max_refusal_increase < 1.0;
    let comparable = new.calls >= min_calls && running.calls >= min_calls;
    if compares && comparable {
        let (own, before) = (ratio(new.refusals, new.calls), ratio(running.refusals, running.calls));
        if own - before > settings.max_refusal_increase {
            return Verdict::RollBack(Reason::Refusals { own, running: before, allowed: settings.max_refusal_increase });
        }
    }
    let seen_enough = new.calls >= min_calls && (comparable || !compares);
    if age >= settings.for_ && seen_enough { Verdict::Promote } else { Verdict::Continue }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Which clients meet a version: those whose hash lies in the first `share` of all hashes.
///
/// The hash is fixed, so that every node and every later process puts a client on the same side: FNV-1a with 64 bits over the digest (as
/// hexadecimal text) and the client id, then the finalizer of MurmurHash3. Another version has another seed: not always the same clients
/// go first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    seed: u64,
    last: u64,
}

impl Side {
    pub(super) fn new(digest: &str, share: f64) -> Self {
        // A share of 1 saturates to every hash.
        Side { seed: fnv(0xcbf2_9ce4_8422_2325, digest.as_bytes()), last: (share * 18_446_744_073_709_551_616.0) as u64 }
    }

    /// Whether this client meets it.
    pub(super) fn takes(&self, client_id: &str) -> bool {
        mix(fnv(self.seed, client_id.as_bytes())) <= self.last
    }
}

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// FNV's upper bits hardly depend on the last characters, in which client ids differ most.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn settings(min_calls: u32, max_failure_ratio: f64, max_refusal_increase: f64) -> config::Canary {
        config::Canary { share: 0.1, for_: MINUTE, min_calls, max_failure_ratio, max_refusal_increase }
    }

    fn figures(calls: u64, failures: u64, refusals: u64) -> Figures {
        Figures { calls, failures, refusals }
    }

    #[test]
    fn canaries_go_on_take_over_or_go_back() {
        let (late, early) = (MINUTE, Duration::from_secs(1));
        let busy = figures(1000, 0, 100);
        for (settings, new, running, age, expected) in [
            (settings(20, 0.01, 1.0), figures(0, 0, 0), busy, early, "Continue"),
            (settings(20, 0.01, 1.0), figures(19, 0, 0), busy, late, "Continue"),
            (settings(20, 0.01, 1.0), figures(20, 0, 20), busy, late, "Promote"),
            (settings(20, 0.01, 1.0), figures(20, 0, 0), busy, early, "Continue"),
            (settings(20, 0.01, 1.0), figures(1, 1, 0), busy, early, "Failures"),
            (settings(20, 0.0, 1.0), figures(5000, 1, 0), busy, early, "Failures"),
            (settings(20, 0.5, 1.0), figures(10, 10, 0), busy, early, "Continue"),
            (settings(20, 0.5, 1.0), figures(11, 11, 0), busy, early, "Failures"),
            (settings(20, 1.0, 1.0), figures(100, 100, 0), busy, late, "Promote"),
            (settings(20, 0.01, 0.05), figures(20, 0, 3), busy, late, "Promote"),
            (settings(20, 0.01, 0.05), figures(20, 0, 4), busy, early, "Refusals"),
            (settings(20, 0.01, 0.05), figures(19, 0, 19), busy, late, "Continue"),
            (settings(20, 0.01, 0.05), figures(20, 0, 20), figures(19, 0, 0), late, "Continue"),
        ] {
            let found = verdict(&settings, new, running, age);
            assert!(format!("{found:?}").contains(expected), "{settings:?} {new:?} {age:?}: {found:?}, not {expected}");
        }
    }

    proptest! {
        /// One outcome after the other, as they come: the decision to go back is never taken back by more failures, is taken before
        /// `min_calls` only when it is certain, and without failures and refusals never.
        #[test]
        fn going_back_is_certain(
            outcomes in prop::collection::vec((any::<bool>(), 0..3_u8), 0..400),
            min_calls in 1..50_u32,
            allowed in 0.0..1.0_f64,
            increase in 0.0..=1.0_f64,
        ) {
            let settings = settings(min_calls, allowed, increase);
            let (mut new, mut running) = (Figures::default(), Figures::default());
            for (is_new, outcome) in outcomes {
                let counted = if is_new { &mut new } else { &mut running };
                counted.calls += 1;
                counted.failures += u64::from(outcome == 1);
                counted.refusals += u64::from(outcome == 2);
                match verdict(&settings, new, running, Duration::ZERO) {
                    Verdict::Promote => prop_assert!(false, "before its time"),
                    Verdict::RollBack(Reason::Failures { .. }) => {
                        let (worst, rest) = (new.failures as f64, u64::from(min_calls).saturating_sub(new.calls));
                        prop_assert!(worst / (new.calls + rest) as f64 > allowed, "it might still come right");
                    }
                    Verdict::RollBack(Reason::Refusals { .. }) => {
                        prop_assert!(new.calls.min(running.calls) >= u64::from(min_calls) && new.refusals > 0 && increase < 1.0);
                    }
                    Verdict::Continue => prop_assert!(new.failures as f64 <= allowed * new.calls.max(min_calls.into()) as f64),
                }
            }
        }

        #[test]
        fn a_client_is_on_one_side(id in ".{0,40}", digest in "[0-9a-f]{64}", share in 0.0001..=1.0_f64) {
            let side = Side::new(&digest, share);
            prop_assert_eq!(side.takes(&id), Side::new(&digest, share).takes(&id));
            prop_assert!(!side.takes(&id) || Side::new(&digest, (share * 1.5).min(1.0)).takes(&id), "a larger share keeps its clients");
            prop_assert!(Side::new(&digest, 1.0).takes(&id));
        }
    }

    /// Known answers: a change would move clients to the other side in the middle of a rolling update.
    #[test]
    fn the_hash_is_fixed() {
        let hash = |digest: &str, id: &str| mix(fnv(fnv(0xcbf2_9ce4_8422_2325, digest.as_bytes()), id.as_bytes()));
        assert_eq!(fnv(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c, "FNV-1a's published value");
        assert_eq!(hash("aa", "lock-1"), 0x6bf6_c48e_ccac_86e4);
        assert_ne!(hash("aa", "lock-1"), hash("ab", "lock-1"));
    }

    #[test]
    fn shares_are_met_by_client_ids_as_they_are() {
        for share in [0.01, 0.05, 0.5] {
            for digest in ["aa", "ab"] {
                let side = Side::new(digest, share);
                let met = (0..20_000).filter(|number| side.takes(&format!("10083618796833{number:05}"))).count() as f64 / 20_000.0;
                assert!((met - share).abs() < 0.01, "{digest}: {met} instead of {share}");
            }
        }
    }
}
