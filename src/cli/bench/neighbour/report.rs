//! What the neighbour noticed: a table for people, figures with their units for machines.

use std::collections::BTreeMap;

use super::attack::HOSTILE;

/// How much longer than alone, the p99 beside a hostile guest may be.
const MOST: f64 = 1.1;

/// Two stages, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// The p99 to the acknowledgement alone, microseconds.
    pub(super) alone_us: u64,
    /// The same beside the hostile guest.
    pub(super) beside_us: u64,
}

/// One hostile guest.
pub(in crate::cli::bench) struct Measured {
    pub(super) mode: &'static str,
    pub(super) pairs: Vec<Pair>,
    /// Messages a second of the neighbour.
    pub(super) rate: u64,
    /// Messages of the hostile tenant's device that were answered, whatever the answer.
    pub(super) answered: u64,
    /// Calls of the hostile guest that gave no verdict, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) peak_memory_bytes: u64,
    pub(super) bound_bytes: u64,
    /// The neighbour's records compared with what was sent.
    pub(in crate::cli::bench) verified: u64,
    /// Broken promises to the neighbour, in words.
    pub(in crate::cli::bench) broken: Vec<String>,
}

/// Reads from a page of metrics why the hostile guest gave no verdicts.
pub(super) fn failures(page: &str) -> BTreeMap<String, u64> {
    let start = format!("hookgate_guest_failures_total{{name=\"{HOSTILE}\",reason=\"");
    let read = |line: &str| {
        let (reason, count) = line.strip_prefix(start.as_str())?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().ok()?))
    };
    page.lines().filter_map(read).filter(|(_, count)| *count > 0).collect()
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) } else { at(middle) }
}

impl Measured {
    /// For lists.
    pub(in crate::cli::bench) fn name(&self) -> String {
        format!("neighbour of {}", self.mode)
    }

    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.pairs.iter().map(|pair| pair.beside_us as f64 / pair.alone_us.max(1) as f64)
    }

    /// The median over the pairs.
    fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    fn alone_us(&self) -> f64 {
        median(self.pairs.iter().map(|pair| pair.alone_us as f64))
    }

    /// How far stages alone differ from the one before, the greater to the smaller: what a ratio says by mere chance.
    fn spread(&self) -> f64 {
        let alone = |pair: &Pair| pair.alone_us.max(1) as f64;
        let both =
            self.pairs.iter().zip(self.pairs.iter().skip(1)).map(|(one, next)| alone(one).max(alone(next)) / alone(one).min(alone(next)));
        median(both)
    }

    /// Whether the neighbour noticed too little to matter, and the memory held.
    fn holds(&self) -> (bool, bool) {
        (self.ratio() <= MOST, self.peak_memory_bytes <= self.bound_bytes)
    }

    /// Every figure, in the shape of the other scenarios' entries.
    pub(in crate::cli::bench) fn entry(&self) -> serde_json::Value {
        let figure = |name: &str, value: f64, unit: &str| serde_json::json!({ "name": name, "value": value, "unit": unit });
        let beside = median(self.pairs.iter().map(|pair| pair.beside_us as f64));
        let mut figures = vec![
            figure("rate of the neighbour", self.rate as f64, "messages/s"),
            figure("publish to acknowledgement alone, p99, median of the stages", self.alone_us(), "us"),
            figure("publish to acknowledgement beside, p99, median of the stages", beside, "us"),
            figure("p99 beside to p99 alone, median of the pairs", self.ratio(), "times"),
            figure("p99 of a stage alone to the next alone, the greater to the smaller, median", self.spread(), "times"),
            figure("resident memory at its peak", self.peak_memory_bytes as f64, "bytes"),
            figure("bound of the memory", self.bound_bytes as f64, "bytes"),
            figure("messages to the hostile guest that were answered", self.answered as f64, "messages"),
            figure("records verified", self.verified as f64, "records"),
        ];
        figures.extend(
            self.ratios().enumerate().map(|(pair, ratio)| figure(&format!("p99 beside to p99 alone, pair {}", pair + 1), ratio, "times")),
        );
        figures.extend(
            self.failures.iter().map(|(reason, count)| figure(&format!("hostile calls that failed, {reason}"), *count as f64, "calls")),
        );
        serde_json::json!({ "name": self.name(), "figures": figures, "broken": self.broken })
    }
}

/// The table.
pub(in crate::cli::bench) fn table(all: &[Measured]) -> String {
    let Some(first) = all.first() else { return String::new() };
    let mut text = format!(
        "{:<16} {:>8} {:>8} {:>7}   {:>7} {:>7}   {:>9}  hostile calls that failed\n{:<16} {:>8} {:>8} {:>7}   {:>7} {:>7}\n",
        "neighbour of", "alone", "beside", "ratio", "chance", "memory", "answered", "", "p99, ms", "p99, ms", "", "", "MiB"
    );
    let mark = |held| if held { "✓" } else { "✗" };
    for measured in all {
        let (quiet, bounded) = measured.holds();
        let failures: Vec<String> = measured.failures.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        text += &format!(
            "{:<16} {:>8.2} {:>8.2} {:>7.2} {} {:>7.2} {:>7.0} {} {:>9}  {}\n",
            measured.mode,
            measured.alone_us() / 1_000.0,
            median(measured.pairs.iter().map(|pair| pair.beside_us as f64)) / 1_000.0,
            measured.ratio(),
            mark(quiet),
            measured.spread(),
            measured.peak_memory_bytes as f64 / f64::from(1 << 20),
            mark(bounded),
            measured.answered,
            failures.join(", "),
        );
    }
    text += &format!(
        "\np99: publish to acknowledgement of the neighbour at {} msg/s, median of {} stages. ratio: beside to alone, median of the pairs, at \
         most {MOST}.\nchance: the same of a stage alone to the next alone, the greater to the smaller. memory: of the whole process at its \
         peak, at most {} MiB.\n",
        first.rate,
        first.pairs.len(),
        first.bound_bytes >> 20,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_pairs_decides() {
        let pairs = [(100, 90), (100, 105), (200, 210), (100, 500), (100, 100)];
        let measured = Measured {
            mode: "loop",
            pairs: pairs.map(|(alone_us, beside_us)| Pair { alone_us, beside_us }).to_vec(),
            rate: 1,
            answered: 7,
            failures: failures(
                "x\nhookgate_guest_failures_total{name=\"hostile\",reason=\"deadline\"} 7\n\
                hookgate_guest_failures_total{name=\"hostile\",reason=\"trap\"} 0\n",
            ),
            peak_memory_bytes: 2,
            bound_bytes: 1,
            verified: 0,
            broken: Vec::new(),
        };
        assert_eq!(measured.failures.len(), 1);
        assert!((measured.ratio() - 1.05).abs() < 1e-9);
        assert!((measured.spread() - 1.5).abs() < 1e-9);
        assert_eq!(measured.holds(), (true, false));
        let table = table(&[measured]);
        assert!(table.contains("deadline 7"), "{table}");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!(median([]).is_nan());
        for (values, expected) in [(&[3.0][..], 3.0), (&[1.0, 2.0], 1.5), (&[9.0, 1.0, 2.0], 2.0)] {
            assert!((median(values.iter().copied()) - expected).abs() < 1e-9);
        }
    }
}
