//! `[guest.breaker]`: when a version that fails too often is left alone, and whether the one before it comes back.

use std::time::Duration;

use super::reader::Table;

/// When the circuit to a guest's version opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// How far back calls are counted.
    pub window: Duration,
    /// Fewer calls within the window open nothing.
    pub min_calls: u32,
    /// It opens when a larger part of the calls fails, 0 to 1; 1: never.
    pub max_failure_ratio: f64,
    /// How long it stays open before calls are tried again.
    pub open_for: Duration,
    /// Calls that are tried then; it closes when all of them go well.
    pub probes: u32,
    /// Whether the version before comes back when this one's circuit opens during its probation.
    pub rollback: bool,
    /// How long after it came into service a version is on probation.
    pub probation: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            window: Duration::from_secs(10),
            min_calls: 20,
            max_failure_ratio: 0.5,
            open_for: Duration::from_secs(5),
            probes: 3,
            rollback: true,
            probation: Duration::from_secs(600),
        }
    }
}

impl Breaker {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let d = Breaker::default();
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(3_600));
        let rollback = table.boolean("rollback").unwrap_or(d.rollback);
        let probation = table.duration("probation", short..=Duration::from_secs(30 * 86_400));
        if let (false, Some(place)) = (rollback, table.placed("probation")) {
            table.refuse_at(&place, "probation", " does nothing without rollback", "remove it, or rollback = false");
        }
        Breaker {
            window: table.duration("window", short..=long).unwrap_or(d.window),
            min_calls: table.integer("min_calls", 1..=1_000_000, d.min_calls.into()) as u32,
            max_failure_ratio: table.number("max_failure_ratio", 0.0..=1.0).unwrap_or(d.max_failure_ratio),
            open_for: table.duration("open_for", short..=long).unwrap_or(d.open_for),
            probes: table.integer("probes", 1..=1_000, d.probes.into()) as u32,
            rollback,
            probation: probation.unwrap_or(d.probation),
        }
    }
}
