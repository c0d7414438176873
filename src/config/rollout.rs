//! `[guest.trial]`, `[guest.canary]`, `[guest.shadow]`: what a new version goes through before everybody meets it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{problem::Placed, reader::Table};

/// The way of a new version into service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Sample events that it must answer before anything else; without it, `lifecycle.start` is the whole trial.
    pub trial: Option<Trial>,
    /// A part of the clients meets it first.
    pub canary: Option<Canary>,
    /// It sees copies, and nothing acts on its verdicts.
    pub shadow: Option<Shadow>,
}

/// Sample events for the trial run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// A file of captured or hand-written calls.
    pub samples: Placed<PathBuf>,
    /// Whether its verdicts must be those of the file.
    pub same_verdicts: bool,
}

/// A part of the clients meets the new version first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// Which part of the clients, above 0 to 1; a client stays on its side.
    pub share: f64,
    /// For how long, before everybody meets it.
    pub for_: Duration,
    /// Calls that it must have answered by then; before, the canary goes on.
    pub min_calls: u32,
    /// It is rolled back when a larger part of its calls fails, 0 to 1.
    pub max_failure_ratio: f64,
    /// It is rolled back when the part that it denies or drops exceeds the running version's by more than this, 0 to 1; 1: never.
    pub max_refusal_increase: f64,
}

/// The new version sees copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// Which part of the clients, above 0 to 1.
    pub share: f64,
    /// The Kafka topic that gets each difference; without it they are logged.
    pub topic: Option<String>,
}

impl Rollout {
    pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Self {
        let rollout = Rollout {
            trial: table.table("trial", |trial| Trial::read(trial, folder)).flatten(),
            canary: table.table("canary", Canary::read),
            shadow: table.table("shadow", Shadow::read),
        };
        if let (Some(_), Some(place)) = (&rollout.canary, table.placed("shadow")) {
            let help = "keep one of them: a shadow is promoted by `hookgate guest promote`, a canary by itself";
            table.refuse_at(&place, "shadow", " beside canary: a new version takes one way", help);
        }
        rollout
    }
}

impl Trial {
    fn read(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let samples = table.required_text("samples", "\"samples.jsonl\"");
        let verdicts = table.choice("verdicts", &[("any", false), ("same", true)]);
        let samples = samples?;
        let path = folder.join(&samples.value);
        Some(Trial {
            samples: Placed { value: path, place: samples.place },
            same_verdicts: verdicts.is_some_and(|verdicts| verdicts.value),
        })
    }
}

impl Canary {
    fn read(table: &mut Table<'_>) -> Self {
        let share = table.number("share", 0.0001..=1.0).unwrap_or(0.05);
        if let (true, Some(place)) = (share >= 1.0, table.placed("max_refusal_increase")) {
            let help = "write a smaller share: beside a canary for all clients nobody meets the running version";
            table.refuse_at(&place, "max_refusal_increase", " has nothing to compare with", help);
        }
        Canary {
            share,
            for_: table.duration("for", Duration::from_millis(100)..=Duration::from_secs(7 * 86_400)).unwrap_or(Duration::from_secs(120)),
            min_calls: table.integer("min_calls", 1..=1_000_000, 20) as u32,
            max_failure_ratio: table.number("max_failure_ratio", 0.0..=1.0).unwrap_or(0.01),
            max_refusal_increase: table.number("max_refusal_increase", 0.0..=1.0).unwrap_or(1.0),
        }
    }
}

impl Shadow {
    fn read(table: &mut Table<'_>) -> Self {
        let topic = table.text("topic");
        if let Some(topic) = &topic {
            super::record::check_kafka_topic(table, topic);
        }
        Shadow { share: table.number("share", 0.0001..=1.0).unwrap_or(1.0), topic: topic.map(|topic| topic.value) }
    }
}
