//! Which faults come when: drawn from the seed alone, a list for each lane.
//!
//! Faults of one lane come one after the other, those of different lanes overlap as they like. So at most one broker is away at a time, and
//! Hookgate is not killed while it is being killed. Times are when a fault is due; on a machine that is busy, or when the fault before it
//! takes longer to heal, it comes later, in the same order.

use std::{str::FromStr, time::Duration};

use fastrand::Rng;

use crate::{
    client::Disturbance,
    dice::dice,
    fault::{Fault, Trouble, Ways},
};

/// What faults are done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The process of Hookgate.
    Gate,
    /// What operators do while it runs.
    Operator,
    /// The brokers.
    Kafka,
    /// Between Hookgate and the brokers.
    Network,
    /// Under Hookgate's `data_dir`.
    Disk,
    /// Between clients and Hookgate.
    Clients,
}

/// All lanes with their names, and each one's part of all faults.
pub(crate) const LANES: &[(Lane, &str, f64)] = &[
    (Lane::Gate, "gate", 0.12),
    (Lane::Operator, "operator", 0.15),
    (Lane::Kafka, "kafka", 0.10),
    (Lane::Network, "network", 0.20),
    (Lane::Disk, "disk", 0.10),
    (Lane::Clients, "clients", 0.33),
];

impl FromStr for Lane {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || LANES.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ");
        LANES.iter().find(|(_, known, _)| *known == name).map(|(lane, ..)| *lane).ok_or_else(|| format!("there are {}", names()))
    }
}

/// A fault and when it is due, counted from the start of the load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) brokers: usize,
    /// The disk can be filled.
    pub(crate) fills: bool,
    /// Writing to the disk can be held up.
    pub(crate) freezes: bool,
}

/// The faults of one lane within `length`; all lanes together have about `per_minute`.
pub(crate) fn plan(seed: u64, lane: Lane, length: Duration, per_minute: f64, targets: Targets) -> Vec<Planned> {
    let Some((at, (_, name, part))) = LANES.iter().enumerate().find(|(_, (known, ..))| *known == lane) else { return Vec::new() };
    let mut dice = dice(seed, name, at as u64);
    let pause_s = 60.0 / (per_minute * part);
    // Half of a pause at least, so that something happens in between.
    let pause = |dice: &mut Rng| Duration::from_secs_f64(pause_s * (0.5 - 0.5 * (1.0 - dice.f64()).max(1e-6).ln()));
    let mut planned = Vec::new();
    let mut at = pause(&mut dice).min(Duration::from_secs(8));
    while at < length {
        let Some(fault) = draw(lane, &mut dice, targets) else { return planned };
        planned.push(Planned { at, fault });
        at += pause(&mut dice);
    }
    planned
}

/// One of `cases` by weight; what stands there only as a weight of 0 is never drawn.
fn choose<T: Copy>(dice: &mut Rng, cases: &[(u32, T)]) -> Option<T> {
    let total: u32 = cases.iter().map(|(weight, _)| weight).sum();
    let mut drawn = if total == 0 { return None } else { dice.u32(0..total) };
    cases.iter().find_map(|(weight, case)| {
        let is_it = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        is_it.then_some(*case)
    })
}

/// Somewhere between; short times are more frequent than long ones.
fn time(dice: &mut Rng, least_ms: u64, most_ms: u64) -> Duration {
    let part = dice.f64();
    Duration::from_millis(least_ms + ((most_ms - least_ms) as f64 * part * part) as u64)
}

fn draw(lane: Lane, dice: &mut Rng, targets: Targets) -> Option<Fault> {
    match lane {
        Lane::Gate => draw_gate(dice),
        Lane::Operator => choose(dice, &[(3, 0), (3, 1), (4, 2)]).map(|case| match case {
            2 => Fault::SwapGuest,
            kafka => Fault::Reload { kafka: kafka == 1, by_signal: dice.bool() },
        }),
        Lane::Kafka => draw_broker(dice, targets),
        Lane::Network => draw_network(dice, targets),
        Lane::Disk => {
            let (full, held) = (u32::from(targets.fills), u32::from(targets.freezes));
            let time = time(dice, 300, 6_000);
            let cases = [(2 * full, Fault::DiskFull { time }), (held, Fault::DiskFrozen { time }), (held, Fault::DiskSlow { time })];
            choose(dice, &cases.each_ref().map(|(weight, fault)| (*weight, fault))).cloned()
        }
        Lane::Clients => {
            let disturbances = [(3, Disturbance::Cut), (1, Disturbance::Goodbye), (2, Disturbance::Takeover)];
            let disturbance = choose(dice, &disturbances)?;
            Some(Fault::Clients { disturbance, percent: *dice.choice(&[5, 10, 20, 50, 100])?, pick: dice.u64(..) })
        }
    }
}

fn draw_gate(dice: &mut Rng) -> Option<Fault> {
    let time = time(dice, 100, 6_000);
    let cases = [(5, Fault::GateKill), (2, Fault::GateTerminate), (3, Fault::GatePause { time })];
    choose(dice, &cases.each_ref().map(|(weight, fault)| (*weight, fault))).cloned()
}

fn draw_broker(dice: &mut Rng, targets: Targets) -> Option<Fault> {
    let node = dice.usize(0..targets.brokers.max(1));
    let time = time(dice, 500, if targets.brokers > 1 { 12_000 } else { 5_000 });
    let (kill, terminate, pause) =
        (Fault::BrokerKill { node, time }, Fault::BrokerTerminate { node, time }, Fault::BrokerPause { node, time });
    choose(dice, &[(2, &kill), (1, &terminate), (3, &pause)]).cloned()
}

fn draw_network(dice: &mut Rng, targets: Targets) -> Option<Fault> {
    let node = (dice.u32(0..3) > 0).then(|| dice.usize(0..targets.brokers.max(1)));
    let time = time(dice, 200, 8_000);
    let ways = choose(dice, &[(1, Ways::Out), (2, Ways::In), (1, Ways::Both)])?;
    let delay = Trouble::Delay { by: Duration::from_millis(*dice.choice(&[5, 20, 80, 300, 1_000])?) };
    let throttle = Trouble::Throttle { bytes_per_s: *dice.choice(&[4_000, 40_000, 400_000])? };
    let cases = [(3, Trouble::Cut), (2, delay), (2, throttle), (2, Trouble::Stall { ways }), (3, Trouble::Swallow { ways })];
    Some(Fault::Network { node, trouble: choose(dice, &cases)?, time })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Targets = Targets { brokers: 3, fills: true, freezes: true };
    const HOUR: Duration = Duration::from_secs(3_600);
    const PER_MINUTE: f64 = 30.0;

    #[test]
    fn a_seed_says_it_all() {
        for (lane, ..) in LANES {
            let planned = plan(1, *lane, HOUR, PER_MINUTE, ALL);
            assert_eq!(planned, plan(1, *lane, HOUR, PER_MINUTE, ALL));
            assert_ne!(planned, plan(2, *lane, HOUR, PER_MINUTE, ALL));
            let shorter = plan(1, *lane, HOUR / 10, PER_MINUTE, ALL);
            assert_eq!(planned[..shorter.len()], shorter, "a shorter run is the beginning of a longer one");
        }
    }

    #[test]
    fn an_hour_has_as_many_faults_as_it_should_of_every_kind_in_order() {
        let mut names = BTreeSet::new();
        let mut count = 0;
        for (lane, ..) in LANES {
            let planned = plan(3, *lane, HOUR, PER_MINUTE, ALL);
            assert!(planned.windows(2).all(|pair| pair[0].at < pair[1].at));
            names.extend(planned.iter().map(|planned| planned.fault.name()));
            count += planned.len();
        }
        assert!((1_600..2_000).contains(&count), "{count}");
        assert_eq!(names.len(), 20, "{names:?}");
    }

    #[test]
    fn what_cannot_be_broken_is_left_alone() {
        let none = Targets { brokers: 1, fills: false, freezes: false };
        assert_eq!(plan(1, Lane::Disk, HOUR, PER_MINUTE, none), []);
        assert!(
            plan(1, Lane::Disk, HOUR, PER_MINUTE, Targets { fills: true, ..none })
                .iter()
                .all(|it| matches!(it.fault, Fault::DiskFull { .. }))
        );
        for planned in plan(1, Lane::Kafka, HOUR, PER_MINUTE, none).into_iter().chain(plan(1, Lane::Network, HOUR, PER_MINUTE, none)) {
            let (Fault::BrokerKill { node, .. } | Fault::BrokerTerminate { node, .. } | Fault::BrokerPause { node, .. }) = planned.fault
            else {
                assert!(matches!(planned.fault, Fault::Network { node: None | Some(0), .. }), "{planned:?}");
                continue;
            };
            assert_eq!(node, 0);
        }
    }
}
