//! Finds the rate at which the machine is as busy as wanted: short runs, each nearer to it.

use std::time::Duration;

use super::{Topic, run::Run, scenario::Scenario};
use crate::cli::Exit;

/// Where the search begins, messages a second.
const FIRST: u64 = 8_000;
/// Near enough, parts of the machine.
const NEAR: f64 = 0.02;
/// Runs at most.
const RUNS: usize = 7;
/// How long each is measured.
const LENGTH: Duration = Duration::from_secs(4);

/// The rate at which the machine is busy to the part `wanted`, publishers and reader included; says on its way what it found.
///
/// # Errors
/// A run fails.
pub(super) async fn rate(run: &Run<'_>, wanted: f64) -> Result<u64, Exit> {
    let mut search = Search::new(wanted);
    for _ in 0..RUNS {
        let topic = Topic::new("calibrate", run.kafka).await?;
        let mut trial = Run { scenario: Scenario::Guest, length: LENGTH, topic: &topic.name, ..*run };
        trial.shape.rate = search.next;
        let measured = trial.measure().await?;
        topic.delete(true).await?;
        let busy = measured.stages.first().map_or(1.0, |stage| stage.busy);
        println!("calibrating: at {} msg/s the machine is busy to {:.0} %", search.next, busy * 100.0);
        if search.note(busy) {
            break;
        }
    }
    println!("calibrated: {} msg/s, for {:.0} % of the machine\n", search.best.0, wanted * 100.0);
    Ok(search.best.0)
}

/// A bisection that takes what it knows to be a straight line through the origin.
#[derive(Debug)]
struct Search {
    wanted: f64,
    next: u64,
    /// The rate that came nearest, and how near.
    best: (u64, f64),
    too_low: u64,
    too_high: u64,
}

impl Search {
    fn new(wanted: f64) -> Self {
        Search { wanted, next: FIRST, best: (FIRST, f64::INFINITY), too_low: 0, too_high: u64::MAX }
    }

    /// Takes how busy the machine was at the rate `next`, and chooses another; whether it was near enough.
    fn note(&mut self, busy: f64) -> bool {
        let distance = (busy - self.wanted).abs();
        if distance < self.best.1 {
            self.best = (self.next, distance);
        }
        if busy < self.wanted {
            self.too_low = self.next
        } else {
            self.too_high = self.next
        }
        let guess = (self.next as f64 * (self.wanted / busy.max(0.01)).clamp(0.25, 4.0)) as u64;
        self.next = if guess > self.too_low && guess < self.too_high { guess } else { self.too_low.midpoint(self.too_high) };
        distance <= NEAR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that spends less per message the more there are, and one that is full early.
    #[test]
    fn it_comes_near_on_machines_of_all_kinds() {
        let machines: [fn(f64) -> f64; 3] = [|rate| rate / 40_000.0, |rate| 0.2 + rate / 80_000.0, |rate| (rate / 3_000.0).min(1.0)];
        for (number, machine) in machines.into_iter().enumerate() {
            let mut search = Search::new(0.7);
            let runs = (0..RUNS).position(|_| search.note(machine(search.next as f64)));
            assert!(runs.is_some(), "machine {number}: {search:?}");
            assert!((machine(search.best.0 as f64) - 0.7).abs() <= NEAR, "machine {number}: {search:?}");
        }
    }
}
