//! A load under way: publishers that are watched, the stages that they pass, and the marks between which is measured.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::{
    child::Gate,
    load::Load,
    process::{CpuTime, MachineTime},
    publisher::{Published, publish},
};

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long the reader waits for another record before it takes Kafka to hold no more.
const QUIET: Duration = Duration::from_secs(5);
/// How long it goes on after the last record that must be there: a second copy would come now.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// The state of things between two stages.
pub(super) struct Mark {
    pub(super) at: Instant,
    pub(super) cpu: CpuTime,
    pub(super) machine: MachineTime,
    pub(super) confirmed: u64,
}

/// What each publisher knows at its end.
pub(super) type AllPublished = Vec<(u32, Published)>;

/// A load on its way through its stages.
pub(super) struct Course<'a> {
    /// For progress.
    name: String,
    pub(super) gate: &'a Gate,
    load: Arc<Load>,
    publishers: JoinSet<anyhow::Result<(u32, Published)>>,
    ended: AllPublished,
    marks: Vec<Mark>,
}

impl<'a> Course<'a> {
    /// Lets the publishers begin.
    pub(super) fn start(name: String, gate: &'a Gate, load: &Arc<Load>) -> Self {
        let mut publishers = JoinSet::new();
        for client in 0..load.shape.clients {
            let (address, load) = (gate.address, Arc::clone(load));
            publishers.spawn(async move { publish(address, load, client).await.map(|published| (client, published)) });
        }
        Course { name, gate, load: Arc::clone(load), publishers, ended: Vec::new(), marks: Vec::new() }
    }

    /// Begins a stage.
    ///
    /// # Errors
    /// The measured process has ended.
    pub(super) fn begin(&mut self, stage: usize) -> anyhow::Result<()> {
        self.mark()?;
        self.load.begin(stage);
        Ok(())
    }

    /// Waits for so long, or until all has been sent, and shows the progress; publishers that fail end everything.
    ///
    /// # Errors
    /// A publisher failed.
    pub(super) async fn watch(&mut self, doing: &str, length: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let left = length.saturating_sub(begun.elapsed());
            if left.is_zero() || self.load.is_over() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                Some(end) = self.publishers.join_next() => self.ended.push(end.context("a publisher's task ended")??),
            }
            let load = &self.load;
            let [sent, acknowledged, stored] = [&load.sent, &load.acknowledged, &load.stored].map(|count| count.load(Ordering::Relaxed));
            progress(&format!("{}: {doing} · sent {sent} · acknowledged {acknowledged} · verified in Kafka {stored}", self.name));
        }
    }

    /// Ends the sending, and waits for what is in flight and for the reader.
    ///
    /// # Errors
    /// A publisher failed, or the measured process has ended.
    pub(super) async fn end(mut self) -> anyhow::Result<(Vec<Mark>, AllPublished)> {
        self.load.end();
        while let Some(end) = self.publishers.join_next().await {
            self.ended.push(end.context("a publisher's task ended")??);
        }
        self.mark()?;
        self.await_records().await;
        progress("");
        Ok((self.marks, self.ended))
    }

    fn mark(&mut self) -> anyhow::Result<()> {
        // At QoS 0 nothing is confirmed to the publishers: what the reader has seen is done.
        let confirmed = if self.load.shape.qos == 0 { &self.load.stored } else { &self.load.acknowledged };
        self.marks.push(Mark {
            at: Instant::now(),
            cpu: CpuTime::of(self.gate.id())?,
            machine: MachineTime::now()?,
            confirmed: confirmed.load(Ordering::Relaxed),
        });
        Ok(())
    }

    /// Waits until Kafka holds what was acknowledged, or nothing more comes.
    async fn await_records(&self) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let (stored, acknowledged) = (self.load.stored.load(Ordering::Relaxed), self.load.acknowledged.load(Ordering::Relaxed));
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
