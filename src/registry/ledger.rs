//! What is known of one guest's versions: the one in service, those before, and the one that stays out.
//!
//! Pure; written to disk by [`super::vault`]. Invariants: the first version is in service; a digest stands in the list once; the version that
//! stays out is never the one in service.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// One guest's versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The newest first; the first is in service.
    pub(super) versions: Vec<Kept>,
    /// Stays out as long as the guest's file holds it.
    pub(super) refused: Option<Refused>,
}

/// A version that is, or was, in service for everybody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// SHA-256 of the component, lower-case hexadecimal.
    pub digest: String,
    /// When it came into service the last time, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When it left service.
    pub until_ms: Option<u64>,
    /// Why it left service; absent while it is in service.
    pub left: Option<String>,
    /// Whether it left because it was bad: it is not what one rolls back to, unless by its digest.
    #[serde(default)]
    pub rolled_back: bool,
    /// Whether it came back after another, and had proved itself before or was chosen by an operator: it is not on probation.
    #[serde(default)]
    pub returned: bool,
    /// The component, where it is not on disk.
    #[serde(skip)]
    pub(super) bytes: Option<Arc<[u8]>>,
}

/// Two entries are the same when they say the same, wherever the component is.
impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        let said = |kept: &Self| (kept.since_ms, kept.until_ms, kept.rolled_back, kept.returned);
        self.digest == other.digest && self.left == other.left && said(self) == said(other)
    }
}

/// The version of the file that stays out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// SHA-256 of the component, lower-case hexadecimal.
    pub digest: String,
    /// Which kind of reason.
    pub cause: Cause,
    /// The reason in words.
    pub why: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// Why a version went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// As a canary, it failed too often.
    Failures,
    /// As a canary, it refused too much.
    Refusals,
    /// Its circuit opened while it was on probation.
    Circuit,
    /// An operator rolled it back.
    Operator,
    /// An operator discarded it before it was in service.
    Discarded,
}

impl Cause {
    /// A stable word, for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Failures => "failures",
            Cause::Refusals => "refusals",
            Cause::Circuit => "circuit",
            Cause::Operator => "operator",
            Cause::Discarded => "discarded",
        }
    }
}

/// Why no former version was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    /// Nothing is kept that one could go back to.
    #[error("no former version is kept")]
    None,
    /// No version has this digest.
    #[error("no version that is kept has a digest that begins with \"{0}\"")]
    Unknown(String),
    /// Several versions have.
    #[error("several versions have digests that begin with \"{0}\"")]
    Ambiguous(String),
    /// It is in service.
    #[error("this version is in service already")]
    InService,
}

impl Ledger {
    /// The version in service.
    pub(super) fn running(&self) -> Option<&Kept> {
        self.versions.first()
    }

    /// The version to go back to: by the beginning of its digest, else the newest that was not rolled back itself.
    pub(super) fn former(&self, digest: Option<&str>) -> Result<&Kept, NoVersion> {
        let Some(wanted) = digest else {
            return self.versions.iter().skip(1).find(|kept| !kept.rolled_back).ok_or(NoVersion::None);
        };
        let wanted = wanted.to_ascii_lowercase();
        let mut found = self.versions.iter().enumerate().filter(|(_, kept)| kept.digest.starts_with(&wanted));
        match (found.next(), found.next()) {
            (None, _) => Err(NoVersion::Unknown(wanted)),
            (Some(_), Some(_)) => Err(NoVersion::Ambiguous(wanted)),
            (Some((0, _)), None) => Err(NoVersion::InService),
            (Some((_, kept)), None) => Ok(kept),
        }
    }

    /// Whether this version was in service for so long before.
    pub(super) fn is_proven(&self, digest: &str, probation: Duration) -> bool {
        let kept = self.versions.iter().find(|kept| kept.digest == digest);
        kept.is_some_and(|kept| {
            let served_ms = kept.until_ms.unwrap_or(kept.since_ms).saturating_sub(kept.since_ms);
            kept.returned || Duration::from_millis(served_ms) >= probation
        })
    }

    /// A version comes into service for everybody; of all, the newest `keep` are kept.
    pub(super) fn enter(&mut self, digest: &str, bytes: Option<Arc<[u8]>>, now_ms: u64, keep: usize) {
        let words = format!("replaced by {}", short(digest));
        self.change(digest, bytes, now_ms, words, false);
        self.versions.truncate(keep.max(1));
    }

    /// A former version comes back, because of what is wrong with the one in service, which is not taken again from the file that holds it.
    ///
    /// One that is `proven` is not on probation again.
    pub(super) fn go_back(&mut self, digest: &str, proven: bool, (cause, why): (Cause, &str), now_ms: u64) {
        let Some(bad) = self.running().map(|kept| kept.digest.clone()) else { return };
        let in_the_file = self.refused.is_none(); // else the file holds what was refused before
        self.change(digest, None, now_ms, format!("rolled back: {why}"), true);
        if let Some(running) = self.versions.first_mut() {
            running.returned = proven;
        }
        if in_the_file {
            self.refuse(&bad, cause, why, now_ms);
        }
    }

    /// A version that the file holds stays out.
    pub(super) fn refuse(&mut self, digest: &str, cause: Cause, why: &str, now_ms: u64) {
        if self.running().is_none_or(|kept| kept.digest != digest) {
            self.refused = Some(Refused { digest: digest.to_owned(), cause, why: why.to_owned(), at_ms: now_ms });
        }
    }

    /// The file holds this digest now: another version that stayed out is forgotten.
    pub(super) fn saw(&mut self, digest: &str) {
        if self.refused.as_ref().is_some_and(|refused| refused.digest != digest) {
            self.refused = None;
        }
    }

    /// Whether the file's version stays out.
    pub(super) fn refuses(&self, digest: &str) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.digest == digest)
    }

    fn change(&mut self, digest: &str, bytes: Option<Arc<[u8]>>, now_ms: u64, left: String, back: bool) {
        let known = self.versions.iter().position(|kept| kept.digest == digest);
        if known == Some(0) {
            return;
        }
        let known = known.map(|at| self.versions.remove(at));
        if let Some(before) = self.versions.first_mut() {
            before.until_ms = Some(now_ms);
            before.left = Some(left);
            before.rolled_back = back;
        }
        let bytes = bytes.or_else(|| known.and_then(|kept| kept.bytes));
        let digest = digest.to_owned();
        self.versions.insert(0, Kept { digest, since_ms: now_ms, until_ms: None, left: None, rolled_back: false, returned: false, bytes });
        if self.versions.first().is_some_and(|running| self.refuses(&running.digest)) {
            self.refused = None;
        }
    }
}

/// A digest as people read it.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests(ledger: &Ledger) -> Vec<&str> {
        ledger.versions.iter().map(|kept| kept.digest.as_str()).collect()
    }

    #[test]
    fn versions_come_go_and_come_back() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.former(None), Err(NoVersion::None));
        for (at, digest) in ["aa", "ab", "ba", "bb"].into_iter().enumerate() {
            ledger.enter(digest, None, at as u64, 3);
        }
        assert_eq!(digests(&ledger), ["bb", "ba", "ab"]);
        assert_eq!(ledger.former(None).map(|kept| kept.digest.as_str()), Ok("ba"));
        for (wanted, expected) in [
            ("BA", Ok("ba")),
            ("a", Ok("ab")),
            ("b", Err(NoVersion::Ambiguous("b".into()))),
            ("bb", Err(NoVersion::InService)),
            ("aa", Err(NoVersion::Unknown("aa".into()))),
        ] {
            assert_eq!(ledger.former(Some(wanted)).map(|kept| kept.digest.as_str()), expected, "{wanted}");
        }
        ledger.go_back("ba", true, (Cause::Circuit, "it failed"), 9);
        assert_eq!(digests(&ledger), ["ba", "bb", "ab"]);
        assert!(ledger.refuses("bb") && ledger.versions[0].returned && ledger.versions[1].rolled_back);
        assert_eq!(ledger.versions[1].left.as_deref(), Some("rolled back: it failed"));
        // Back once more passes over the bad one; by its digest it can be had, and is then not refused any more.
        assert_eq!(ledger.former(None).map(|kept| kept.digest.as_str()), Ok("ab"));
        assert!(ledger.is_proven("ba", Duration::from_secs(1)) && !ledger.is_proven("bb", Duration::from_millis(7)));
        assert!(ledger.is_proven("bb", Duration::from_millis(6)));
        ledger.go_back("ab", false, (Cause::Operator, "by an operator"), 10);
        assert!(!ledger.versions[0].returned);
        assert!(ledger.refuses("bb"), "the file holds it still");
        ledger.go_back("bb", true, (Cause::Operator, "by an operator"), 11);
        assert_eq!((digests(&ledger), ledger.refused.is_none()), (vec!["bb", "ab", "ba"], true));
        ledger.refuse("cc", Cause::Failures, "as a canary", 12);
        ledger.saw("cc");
        assert!(ledger.refuses("cc"));
        ledger.saw("dd");
        assert_eq!(ledger.refused, None);
    }

    proptest! {
        #[test]
        fn the_invariants_hold(steps in prop::collection::vec((0..4_u8, 0..6_u8), 0..60), keep in 1..5_usize) {
            let mut ledger = Ledger::default();
            for (now_ms, (step, digest)) in steps.into_iter().enumerate() {
                let digest = format!("d{digest}");
                match step {
                    0 => ledger.enter(&digest, None, now_ms as u64, keep),
                    1 => ledger.refuse(&digest, Cause::Failures, "why", now_ms as u64),
                    2 => ledger.saw(&digest),
                    _ => if let Ok(former) = ledger.former(None).map(|kept| kept.digest.clone()) {
                        ledger.go_back(&former, true, (Cause::Operator, "why"), now_ms as u64);
                    }
                }
                let mut seen = digests(&ledger);
                prop_assert!(seen.len() <= keep);
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), ledger.versions.len());
                prop_assert!(ledger.running().is_none_or(|kept| !ledger.refuses(&kept.digest) && kept.left.is_none()));
                prop_assert!(ledger.versions.iter().skip(1).all(|kept| kept.left.is_some() && kept.until_ms.is_some()));
            }
        }
    }
}
