//! Kinds of new versions that `swaps` brings, and what the measured process says became of them.

use std::ops::Sub;

/// What has become of the versions of a guest, as the measured process counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    /// Came into service.
    pub(super) swaps: u64,
    /// Were refused.
    pub(super) refused: u64,
    /// Were taken out of service, and the one before came back.
    pub(super) rolled_back: u64,
}

impl Versions {
    /// Reads them from a page of metrics.
    pub(super) fn read(page: &str, guest: &str) -> Self {
        let sum = |family: &str| {
            let name = format!("hookgate_{family}_total{{name=\"{guest}\"");
            let values = page.lines().filter_map(|line| line.strip_prefix(name.as_str())?.rsplit_once(' ')?.1.parse::<u64>().ok());
            values.sum()
        };
        Versions { swaps: sum("guest_swaps"), refused: sum("guest_swaps_refused"), rolled_back: sum("guest_rollbacks") }
    }
}

impl Sub for Versions {
    type Output = Versions;

    fn sub(self, before: Versions) -> Versions {
        Versions {
            swaps: self.swaps.saturating_sub(before.swaps),
            refused: self.refused.saturating_sub(before.refused),
            rolled_back: self.rolled_back.saturating_sub(before.rolled_back),
        }
    }
}

/// What is the matter with a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: the same logic under another digest.
    Good,
    /// Its file is broken off.
    Broken,
    /// It traps at every call.
    Trapping,
    /// It answers, but cannot judge every second message.
    Faulting,
}

impl Kind {
    /// Those that must not stay.
    pub(super) const BAD: [Kind; 3] = [Kind::Broken, Kind::Trapping, Kind::Faulting];

    /// The order in which `versions` come: `bad` of each bad kind, spread evenly among the good.
    pub(super) fn plan(versions: usize, bad: usize) -> Vec<Kind> {
        let bad = (bad * Kind::BAD.len()).min(versions);
        let until = |index: usize| (index * bad).checked_div(versions).unwrap_or_default();
        let kind = |index: usize| {
            let is_bad = until(index + 1) > until(index);
            if is_bad { Kind::BAD.into_iter().cycle().nth(until(index)).unwrap_or(Kind::Good) } else { Kind::Good }
        };
        (0..versions).map(kind).collect()
    }

    /// For progress.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Broken => "broken file",
            Kind::Trapping => "traps on first use",
            Kind::Faulting => "fails its canary",
        }
    }

    /// Whether `change` since it came says that its fate is decided.
    pub(super) fn is_decided(self, change: Versions) -> bool {
        match self {
            Kind::Good => change.swaps + change.refused + change.rolled_back > 0,
            Kind::Broken => change.swaps + change.refused > 0,
            Kind::Trapping | Kind::Faulting => change.rolled_back + change.refused > 0,
        }
    }

    /// Whether this is what had to become of it.
    pub(super) fn is_well(self, change: Versions) -> bool {
        match self {
            Kind::Good => change.swaps > 0 && change.refused + change.rolled_back == 0,
            Kind::Broken => change.refused > 0 && change.swaps + change.rolled_back == 0,
            Kind::Trapping | Kind::Faulting => change.rolled_back == 1,
        }
    }
}

/// How many of each kind came, and what went wrong, in words.
#[derive(Debug, Default)]
pub(super) struct Fates {
    counts: Vec<(Kind, usize)>,
    wrong: Vec<String>,
}

impl Fates {
    pub(super) fn note(&mut self, number: usize, kind: Kind, change: Versions) {
        match self.counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((kind, 1)),
        }
        if !kind.is_well(change) {
            self.wrong.push(format!("version {number} ({}) had another fate than it should: {change:?}", kind.name()));
        }
    }

    /// Versions of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.counts.iter().find(|(known, _)| *known == kind).map_or(0, |(_, count)| *count)
    }

    /// What went wrong.
    pub(super) fn wrong(&self) -> &[String] {
        &self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_versions_are_spread_among_the_good() {
        let plan = Kind::plan(1_000, 20);
        assert_eq!(plan.len(), 1_000);
        for bad in Kind::BAD {
            assert_eq!(plan.iter().filter(|kind| **kind == bad).count(), 20, "{bad:?}");
        }
        let longest_good = plan.split(|kind| *kind != Kind::Good).map(<[Kind]>::len).max();
        assert!(longest_good <= Some(16), "{longest_good:?}");
        assert_eq!(Kind::plan(3, 0), [Kind::Good; 3]);
        assert_eq!(Kind::plan(3, 1), Kind::BAD);
        assert_eq!(Kind::plan(0, 20), []);
    }

    #[test]
    fn versions_are_read_from_the_page() {
        let page = "hookgate_guest_swaps_total{name=\"g\"} 4\nhookgate_guest_swaps_refused_total{name=\"g\"} 2\n\
            hookgate_guest_rollbacks_total{name=\"g\",reason=\"canary\"} 1\n\
            hookgate_guest_rollbacks_total{name=\"g\",reason=\"breaker\"} 2\nhookgate_guest_swaps_total{name=\"h\"} 9\n";
        assert_eq!(Versions::read(page, "g"), Versions { swaps: 4, refused: 2, rolled_back: 3 });
        assert_eq!(Versions::read(page, "i"), Versions::default());
    }
}
