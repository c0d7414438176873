//! One scenario from start to end: the gate as a child, load on it, the reader behind it, and the stages that are measured.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    child::Gate,
    command::Commands,
    course::{Course, Mark},
    load::{Load, Shape},
    process,
    report::{GuestTime, Measured, Stage},
    scenario::{GUEST, Scenario, SetUp},
    verify::Verification,
    versions::{Fates, Kind},
};
use crate::cli::Exit;

/// How often `swaps` asks what became of a version.
const ASK: Duration = Duration::from_millis(30);
/// How long a version's fate may take.
const FATE: Duration = Duration::from_secs(60);

/// What is measured, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) scenario: Scenario,
    pub(super) shape: Shape,
    pub(super) payload_bytes: usize,
    pub(super) warm_up: Duration,
    /// The length of a stage; ignored when the number of messages is given.
    pub(super) length: Duration,
    /// New versions that `swaps` brings, the bad ones included.
    pub(super) swaps: usize,
    /// How many of them are broken files; as many trap on first use, and as many fail their canary.
    pub(super) bad: usize,
    pub(super) guests: &'a Path,
    /// `host:port` of a real Kafka; `None`: the embedded one.
    pub(super) kafka: Option<&'a str>,
    /// librdkafka's properties beyond the defaults.
    pub(super) kafka_properties: &'a [(String, String)],
    pub(super) topic: &'a str,
}

impl Run<'_> {
    /// Runs it; broken promises are part of what it returns.
    ///
    /// # Errors
    /// Something did not start, or broke down under way.
    pub(super) async fn measure(&self) -> Result<Measured, Exit> {
        let commands = Commands::new(self.payload_bytes).map_err(Exit::Usage)?;
        let mut set_up = SetUp::new(self)?;
        let gate = Gate::start(&set_up.config()).await?;
        let kafka = self.kafka.map(str::to_owned).or_else(|| gate.kafka.clone()).context("hookgate run did not say where its Kafka is")?;
        let load = Arc::new(Load::new(self.shape, commands, self.stage_names().len())?);
        let verification = Verification::start(kafka, self.topic.to_owned(), Arc::clone(&load)).await?;
        let mut course = Course::start(self.scenario.name().to_owned(), &gate, &load);
        course.watch("warming up", self.warm_up).await?;
        course.begin(0)?;
        let length = if self.shape.messages.is_some() { Duration::MAX } else { self.length };
        course.watch("measuring", length).await?;
        let mut fates = Fates::default();
        if self.scenario == Scenario::Swaps {
            course.begin(1)?;
            fates = self.swap(&mut course, &mut set_up).await?;
        }
        let (marks, published) = course.end().await?;
        let ledger = verification.finish()?;
        let (memory_bytes, peak_memory_bytes) = process::memory_bytes(gate.id())?;
        let page = gate.stop().await?;
        let mut broken = ledger.broken_promises(&published);
        broken.extend_from_slice(fates.wrong());
        Ok(Measured {
            scenario: self.scenario.name(),
            stages: stages(&marks, &load, self.stage_names())?,
            guest: GuestTime::read(&page, GUEST),
            embedded: self.kafka.is_none(),
            memory_bytes,
            peak_memory_bytes,
            fates,
            rate: self.shape.rate,
            verified: load.stored.load(Ordering::Relaxed),
            broken,
        })
    }

    fn stage_names(&self) -> &'static [&'static str] {
        if self.scenario == Scenario::Swaps { &["before swaps", "during swaps"] } else { &[""] }
    }

    /// Brings one new version after the other, each when the fate of the one before is decided; what became of them.
    async fn swap(&self, course: &mut Course<'_>, set_up: &mut SetUp) -> anyhow::Result<Fates> {
        let pause = self.length / u32::try_from(self.swaps.max(1)).unwrap_or(u32::MAX);
        let mut fates = Fates::default();
        for (kind, number) in Kind::plan(self.swaps, self.bad).into_iter().zip(1..) {
            let (begun, before) = (Instant::now(), course.gate.versions(GUEST).await?);
            set_up.swap(kind)?;
            let label = format!("version {number} of {} ({})", self.swaps, kind.name());
            let change = loop {
                course.watch(&label, ASK).await?;
                let change = course.gate.versions(GUEST).await? - before;
                if kind.is_decided(change) {
                    break change;
                }
                if begun.elapsed() > FATE {
                    bail!("{label}: hookgate run does not decide its fate ({change:?}); the end of its log:\n{}", course.gate.log());
                }
            };
            fates.note(number, kind, change);
            course.watch(&label, pause.saturating_sub(begun.elapsed())).await?;
        }
        Ok(fates)
    }
}

fn stages(marks: &[Mark], load: &Load, names: &[&'static str]) -> anyhow::Result<Vec<Stage>> {
    let (acknowledgements, storing) = load.take_latencies()?;
    let latencies = acknowledgements.into_stages().into_iter().zip(storing.into_stages());
    let between = marks.iter().zip(marks.iter().skip(1));
    let stages = between.zip(latencies).zip(names).map(|(((from, to), (acknowledgement, storing)), name)| Stage {
        name,
        messages: to.confirmed - from.confirmed,
        seconds: (to.at - from.at).as_secs_f64(),
        cpu: to.cpu.since(&from.cpu),
        busy: to.machine.busy_since(&from.machine),
        acknowledgement,
        storing,
    });
    Ok(stages.collect())
}
