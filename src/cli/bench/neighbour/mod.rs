//! What one tenant notices of another's hostile guest.
//!
//! Tenant B publishes signed commands through the verifier at a steady rate that leaves the machine room; a device of tenant A publishes to
//! a guest that misbehaves. Per hostile guest there is one process, in which stages alone and stages beside it alternate, the order turning
//! with every pair, so that what drifts does not count for either. The measure is the median over the pairs of B's p99 beside A to its p99
//! alone; how far two stages alone differ says what such a figure is worth.

mod attack;
mod intruder;
mod report;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use self::{attack::Attack, intruder::Intruder};
pub(super) use self::{
    attack::attacks,
    report::{Measured, table},
};
use super::{
    child::Gate,
    command::Commands,
    course::Course,
    load::{Load, Shape},
    process,
    scenario::built,
    verify::Verification,
};
use crate::cli::Exit;
use report::Pair;

/// Messages a second of tenant B when no rate is given.
pub(super) const RATE: u64 = 2_000;
/// The length of a stage when none is given.
pub(super) const LENGTH: Duration = Duration::from_secs(2);
/// Between two stages: what the one before has left behind ends here, and is not measured.
const BETWEEN: Duration = Duration::from_millis(500);

/// How a hostile guest is measured.
pub(super) struct Plan<'a> {
    pub(super) shape: Shape,
    pub(super) payload_bytes: usize,
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    pub(super) pairs: usize,
    /// Whether state is kept on the disk.
    pub(super) disk: bool,
    pub(super) guests: &'a Path,
    pub(super) kafka: Option<&'a str>,
    pub(super) kafka_properties: &'a [(String, String)],
    pub(super) topic: &'a str,
}

impl Plan<'_> {
    /// Measures one hostile guest.
    ///
    /// # Errors
    /// Something did not start, or broke down under way.
    pub(super) async fn measure(&self, attack: &'static Attack) -> Result<Measured, Exit> {
        let commands = Commands::new(self.payload_bytes).map_err(Exit::Usage)?;
        let folder = tempfile::tempdir().context("a folder for the benchmark")?;
        for (file, component) in [("guest.wasm", "lock_command_verifier.wasm"), ("hostile.wasm", attack.component)] {
            std::fs::write(folder.path().join(file), built(self.guests, component)?).context("copying a guest")?;
        }
        let config = folder.path().join("hookgate.toml");
        std::fs::write(&config, attack.configuration(self)).context("writing the configuration")?;
        let gate = Gate::start(&config).await?;
        let kafka = self.kafka.map(str::to_owned).or_else(|| gate.kafka.clone()).context("hookgate run did not say where its Kafka is")?;
        // Every stage has one before it that is not measured.
        let load = Arc::new(Load::new(self.shape, commands, self.pairs * 4)?);
        let verification = Verification::start(kafka, self.topic.to_owned(), Arc::clone(&load)).await?;
        let intruder = Intruder::start(gate.address);
        let mut course = Course::start(format!("neighbour of {}", attack.mode), &gate, &load);
        course.watch("warming up", self.warm_up).await?;
        for (stage, beside) in self.stages().enumerate() {
            intruder.let_publish(beside);
            course.begin(stage * 2)?;
            course.watch("between two stages", BETWEEN).await?;
            course.begin(stage * 2 + 1)?;
            course.watch(if beside { "beside it" } else { "alone" }, self.length).await?;
        }
        let answered = intruder.end().await?;
        let (_, published) = course.end().await?;
        let ledger = verification.finish()?;
        let (_, peak_memory_bytes) = process::memory_bytes(gate.id())?;
        let page = gate.stop().await?;
        Ok(Measured {
            mode: attack.mode,
            pairs: self.pairs(load.take_latencies()?.0.into_stages()),
            rate: self.shape.rate,
            answered,
            failures: report::failures(&page),
            peak_memory_bytes,
            bound_bytes: attack::BOUND_BYTES,
            verified: load.stored.load(Ordering::Relaxed),
            broken: ledger.broken_promises(&published),
        })
    }

    /// Whether each stage is beside the hostile guest.
    fn stages(&self) -> impl Iterator<Item = bool> {
        (0..self.pairs).flat_map(|pair| if pair % 2 == 0 { [false, true] } else { [true, false] })
    }

    /// The p99 of the stages, by pair.
    fn pairs(&self, latencies: Vec<Histogram<u64>>) -> Vec<Pair> {
        let p99_us: Vec<u64> = latencies.iter().skip(1).step_by(2).map(|stage| stage.value_at_quantile(0.99)).collect();
        let beside: Vec<bool> = self.stages().collect();
        let of = |pair: (&[u64], &[bool]), wanted| pair.0.iter().zip(pair.1).find(|(_, beside)| **beside == wanted).map(|(us, _)| *us);
        let pairs = p99_us.chunks(2).zip(beside.chunks(2));
        pairs.filter_map(|pair| Some(Pair { alone_us: of(pair, false)?, beside_us: of(pair, true)? })).collect()
    }
}
