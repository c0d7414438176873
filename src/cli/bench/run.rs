//! One scenario from start to end: the gate as a child, load on it, the reader behind it, and the marks between which is measured.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::{
    child::Gate,
    command::Commands,
    load::{Load, Shape},
    process::{self, CpuTime},
    publisher::{Published, publish},
    report::{GuestTime, Measured, Stage},
    scenario::{GUEST, Scenario, SetUp},
    verify::Verification,
};
use crate::cli::Exit;

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long the reader waits for another record before it takes Kafka to hold no more.
const QUIET: Duration = Duration::from_secs(5);
/// How long it goes on after the last record that must be there: a second copy would come now.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What is measured, and for how long.
pub(super) struct Run<'a> {
    pub(super) scenario: Scenario,
    pub(super) shape: Shape,
    pub(super) payload_bytes: usize,
    pub(super) warm_up: Duration,
    /// The length of a stage; ignored when the number of messages is given.
    pub(super) length: Duration,
    pub(super) swaps: usize,
    pub(super) guests: &'a Path,
    /// `host:port` of a real Kafka; `None`: the embedded one.
    pub(super) kafka: Option<&'a str>,
    /// librdkafka's properties beyond the defaults.
    pub(super) kafka_properties: &'a [(String, String)],
    pub(super) topic: &'a str,
}

/// The state of things between two stages.
struct Mark {
    at: Instant,
    cpu: CpuTime,
    confirmed: u64,
}

type Publishers = JoinSet<anyhow::Result<(u32, Published)>>;

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
        let load = Arc::new(Load::new(self.shape, commands)?);
        let verification = Verification::start(kafka, self.topic.to_owned(), Arc::clone(&load)).await?;
        let mut publishers: Publishers = JoinSet::new();
        for client in 0..self.shape.clients {
            let (address, load) = (gate.address, Arc::clone(&load));
            publishers.spawn(async move { publish(address, load, client).await.map(|published| (client, published)) });
        }
        let (marks, published) = self.conduct(&gate, &load, &mut set_up, &mut publishers).await?;
        await_records(&load).await;
        let ledger = verification.finish()?;
        let (memory_bytes, peak_memory_bytes) = process::memory_bytes(gate.id())?;
        let swaps = gate.swaps();
        let page = gate.stop().await?;
        progress("");
        Ok(Measured {
            scenario: self.scenario.name(),
            stages: stages(&marks, &load, self.stage_names())?,
            guest: GuestTime::read(&page, GUEST),
            embedded: self.kafka.is_none(),
            memory_bytes,
            peak_memory_bytes,
            swaps,
            rate: self.shape.rate,
            verified: load.stored.load(Ordering::Relaxed),
            broken: ledger.broken_promises(&published),
        })
    }

    fn stage_names(&self) -> &'static [&'static str] {
        if self.scenario == Scenario::Swaps { &["before swaps", "during swaps"] } else { &[""] }
    }

    /// Lets the load go through its stages.
    async fn conduct(
        &self,
        gate: &Gate,
        load: &Load,
        set_up: &mut SetUp,
        publishers: &mut Publishers,
    ) -> anyhow::Result<(Vec<Mark>, Vec<(u32, Published)>)> {
        let mut ended = Vec::new();
        let mut marks = Vec::new();
        let is_over = || load.is_over();
        self.watch("warming up", load, publishers, &mut ended, self.warm_up, &is_over).await?;
        marks.push(mark(gate, load)?);
        load.begin(0);
        let length = if self.shape.messages.is_some() { Duration::MAX } else { self.length };
        self.watch("measuring", load, publishers, &mut ended, length, &is_over).await?;
        if self.scenario == Scenario::Swaps {
            marks.push(mark(gate, load)?);
            load.begin(1);
            let pause = self.length / u32::try_from(self.swaps.max(1)).unwrap_or(u32::MAX);
            for number in 1..=self.swaps {
                let (begun, before) = (Instant::now(), gate.swaps());
                set_up.swap()?;
                gate.swapped(before).await?;
                let label = format!("swap {number} of {}", self.swaps);
                self.watch(&label, load, publishers, &mut ended, pause.saturating_sub(begun.elapsed()), &|| false).await?;
            }
        }
        load.end();
        while let Some(end) = publishers.join_next().await {
            ended.push(end.context("a publisher's task ended")??);
        }
        marks.push(mark(gate, load)?);
        Ok((marks, ended))
    }

    /// Waits, shows the progress, and notices publishers that end; those that fail end everything.
    async fn watch(
        &self,
        doing: &str,
        load: &Load,
        publishers: &mut Publishers,
        ended: &mut Vec<(u32, Published)>,
        length: Duration,
        done: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let left = length.saturating_sub(begun.elapsed());
            if left.is_zero() || done() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                Some(end) = publishers.join_next() => ended.push(end.context("a publisher's task ended")??),
            }
            let [sent, acknowledged, stored] = [&load.sent, &load.acknowledged, &load.stored].map(|count| count.load(Ordering::Relaxed));
            progress(&format!(
                "{}: {doing} · {:.0} s · sent {sent} · acknowledged {acknowledged} · verified in Kafka {stored}",
                self.scenario.name(),
                begun.elapsed().as_secs_f64()
            ));
        }
    }
}

/// Waits until Kafka holds what was acknowledged, or nothing more comes.
async fn await_records(load: &Load) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let (stored, acknowledged) = (load.stored.load(Ordering::Relaxed), load.acknowledged.load(Ordering::Relaxed));
        if stored != seen {
            (seen, since) = (stored, Instant::now());
        }
        let patience = if stored >= acknowledged { AFTERWARDS } else { QUIET };
        if since.elapsed() >= patience {
            return;
        }
        tokio::time::sleep(LOOK / 4).await;
    }
}

fn mark(gate: &Gate, load: &Load) -> anyhow::Result<Mark> {
    // At QoS 0 nothing is confirmed to the publishers: what the reader has seen is done.
    let confirmed = if load.shape.qos == 0 { &load.stored } else { &load.acknowledged };
    Ok(Mark { at: Instant::now(), cpu: CpuTime::of(gate.id())?, confirmed: confirmed.load(Ordering::Relaxed) })
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
        acknowledgement,
        storing,
    });
    Ok(stages.collect())
}

/// Overwrites the line of progress, when somebody looks.
fn progress(line: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let mut text = String::new();
        let _ = write!(text, "\r\x1b[2K{line}");
        let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()); // a line of progress is not worth an error
    }
}
