//! Moving averages per minute over one, five and fifteen minutes, as mosquitto and Unix' load averages make them. Time is an argument.

use std::time::Duration;

/// What is averaged, in mosquitto's names below `$SYS/broker/load/`.
pub(super) const SERIES: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

/// The averages' names, and their minutes.
const WINDOWS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Loads {
    at: Duration,
    totals: [u64; SERIES.len()],
    averages: [[f64; WINDOWS.len()]; SERIES.len()],
}

impl Loads {
    /// Takes the totals at a time since the start.
    pub(super) fn add(&mut self, totals: &[u64; SERIES.len()], at: Duration) {
        let passed_s = at.saturating_sub(self.at).as_secs_f64();
        if passed_s < 0.001 {
            return;
        }
        for ((total, last), averages) in totals.iter().zip(&mut self.totals).zip(&mut self.averages) {
            let per_minute = total.saturating_sub(*last) as f64 * 60.0 / passed_s;
            for (average, (_, minutes)) in averages.iter_mut().zip(WINDOWS) {
                let keep = (-passed_s / (60.0 * minutes)).exp();
                *average = per_minute * (1.0 - keep) + *average * keep;
            }
            *last = *total;
        }
        self.at = at;
    }

    /// Series, window and value.
    pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, &'static str, f64)> {
        let of = |(series, averages): (&'static str, &[f64; WINDOWS.len()])| {
            let averages = *averages;
            WINDOWS.iter().zip(averages).map(move |((window, _), average)| (series, *window, average))
        };
        SERIES.into_iter().zip(&self.averages).flat_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_reached_and_forgotten() {
        let mut loads = Loads::default();
        let first = |loads: &Loads| loads.values().take(3).map(|(_, _, average)| average).collect::<Vec<_>>();
        let mut totals = [0; SERIES.len()];
        for ten in 1..=600 {
            totals[0] += 100; // 600 a minute
            loads.add(&totals, Duration::from_secs(10 * ten));
        }
        assert!(first(&loads).iter().all(|average| (average - 600.0).abs() < 1.0), "{:?}", first(&loads));
        for ten in 601..=606 {
            loads.add(&totals, Duration::from_secs(10 * ten));
        }
        let averages = first(&loads);
        assert!((averages[0] - 600.0 / std::f64::consts::E).abs() < 1.0 && averages[1] > 480.0 && averages[2] > 555.0, "{averages:?}");
        assert_eq!(loads.values().count(), 27);
    }
}
