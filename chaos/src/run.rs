//! One run: set the stage, load and break it, heal it, let it settle, and judge.

use std::{
    fs::{self, File},
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    arguments::Arguments,
    books::Books,
    broker::Broker,
    class::ClassId,
    disk::Disk,
    gate::Gate,
    injector::{Around, Enough, FaultLog},
    judge::{Judge, Wrong},
    report::Report,
    schedule::{self, LANES, Lane, Targets},
    stage::{Fleet, Stage},
    trouble::Troubles,
    verify,
};

/// Between progress lines.
const PROGRESS: Duration = Duration::from_secs(10);
/// How often the clients' counts are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long clients wait for their last answers, when everything is well again.
const SETTLE_PATIENCE: Duration = Duration::from_secs(120);
/// How long what is spooled may take.
const SPOOL_PATIENCE: Duration = Duration::from_secs(180);
/// Free memory for three brokers and all the rest, KiB.
const MEMORY_FOR_THREE: u64 = 4 << 20;

/// The lanes at work, and what they will hand back.
struct Lanes {
    gate: JoinHandle<Gate>,
    kafka: JoinHandle<Vec<Broker>>,
    disk: JoinHandle<Disk>,
    others: Vec<JoinHandle<()>>,
}

/// Runs it all.
///
/// # Errors
/// The harness itself cannot go on; what is wrong with Hookgate is in the report.
pub(crate) async fn run(arguments: Arguments, seed: u64, folder: &Path) -> Result<Report> {
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let classes: Vec<ClassId> = if arguments.classes.is_empty() { ClassId::all().collect() } else { arguments.classes.clone() };
    let nodes = arguments.kafka_nodes.unwrap_or_else(|| if free_memory_kib() >= MEMORY_FOR_THREE { 3 } else { 1 });
    let troubles = Troubles::default();
    let stage = Stage::set(&arguments, nodes, &classes, folder, &troubles).await?;
    let Stage { gate, configuration, brokers, proxies, disk, bootstrap } = stage;
    let fleet = Fleet::start(&arguments, seed, &classes, &gate.address());
    let start = Instant::now();
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    let log = Arc::new(FaultLog::new(start, File::create(folder.join("faults.log"))?));
    let around = Around { start, enough: Enough::default(), log: Arc::clone(&log), troubles: troubles.clone() };
    let targets = Targets { brokers: brokers.len(), fills: disk.fills(), freezes: disk.freezes() };
    let is_wanted = |lane| arguments.faults.is_empty() || arguments.faults.contains(&Some(lane));
    let plan = |lane| if is_wanted(lane) { schedule::plan(seed, lane, length, arguments.faults_per_minute, targets) } else { Vec::new() };
    fs::write(
        folder.join("schedule.txt"),
        LANES.iter().flat_map(|(lane, ..)| plan(*lane)).map(|it| format!("{it:?}\n")).collect::<String>(),
    )?;
    let ready = gate.ready();
    let lanes = Lanes {
        gate: around.clone().gate(plan(Lane::Gate), gate)?,
        kafka: around.clone().kafka(plan(Lane::Kafka), brokers)?,
        disk: around.clone().disk(plan(Lane::Disk), disk)?,
        others: vec![
            around.clone().operator(plan(Lane::Operator), configuration, ready)?,
            around.clone().network(plan(Lane::Network), proxies.clone())?,
            around.clone().clients(plan(Lane::Clients), fleet.disturbances.clone())?,
        ],
    };
    let longest_silence = watch(&fleet, &log, start, length, &mut signals).await;
    let seconds = start.elapsed().as_secs_f64();
    around.enough.say();
    eprintln!("chaos: no more faults; everything is healed, and what is open is waited for");
    let (gate, brokers, disk) = spawn_blocking(move || lanes.heal()).await??;
    let books = fleet.settle(SETTLE_PATIENCE).await;
    let report = Report {
        seed,
        seconds,
        brokers: nodes,
        faults: log.total(),
        faults_by_kind: log.counts(),
        classes: Vec::new(),
        sent: 0,
        acknowledged: 0,
        refused: 0,
        records: 0,
        repeats: 0,
        connections: books.iter().map(|books| books.connections).sum(),
        failed_starts: gate.failed_starts,
        longest_silence: longest_silence.as_secs_f64(),
        violations: Vec::new(),
    };
    let judged = spawn_blocking(move || -> Result<Report> {
        let mut report = report;
        judge(&mut report, gate, &books, &classes, &bootstrap, &troubles)?;
        drop((brokers, proxies, disk));
        Ok(report)
    });
    judged.await?
}

impl Lanes {
    /// Waits until each has healed what it broke.
    fn heal(self) -> Result<(Gate, Vec<Broker>, Disk)> {
        fn join<T>(handle: JoinHandle<T>) -> Result<T> {
            handle.join().map_err(|_| anyhow!("a thread of the harness ended"))
        }
        // The disk first: nobody can end on a frozen one.
        let disk = join(self.disk)?;
        self.others.into_iter().try_for_each(join)?;
        let brokers = join(self.kafka)?;
        Ok((join(self.gate)?, brokers, disk))
    }
}

/// Prints how it goes until the time is over or somebody ends it; the longest time without any acknowledgement.
async fn watch(fleet: &Fleet, log: &FaultLog, start: Instant, length: Duration, signals: &mut [Signal; 2]) -> Duration {
    let [interrupt, terminate] = signals;
    let (mut acknowledged, mut heard, mut longest) = (0, Instant::now(), Duration::ZERO);
    let (mut told, mut told_count) = (Instant::now(), 0);
    while start.elapsed() < length {
        tokio::select! {
            () = sleep(LOOK) => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
        let count = fleet.counts.acknowledged.load(Ordering::Relaxed);
        if count > acknowledged {
            (acknowledged, heard) = (count, Instant::now());
        }
        longest = longest.max(heard.elapsed());
        if told.elapsed() >= PROGRESS {
            let sent = fleet.counts.sent.load(Ordering::Relaxed);
            let refused = fleet.counts.refused.load(Ordering::Relaxed);
            let per_s = (count - told_count) as f64 / told.elapsed().as_secs_f64();
            eprintln!(
                "chaos: {:5.0} s  {} faults  {sent} sent  {count} acknowledged ({per_s:.0}/s)  {} open  {refused} refused",
                start.elapsed().as_secs_f64(),
                log.total(),
                sent - count.min(sent) - refused.min(sent - count.min(sent)),
            );
            (told, told_count) = (Instant::now(), count);
        }
    }
    longest
}

/// Drains Hookgate, reads Kafka, and enters what is wrong.
fn judge(report: &mut Report, mut gate: Gate, books: &[Books], classes: &[ClassId], bootstrap: &str, troubles: &Troubles) -> Result<()> {
    verify::await_quiet(bootstrap, classes, SPOOL_PATIENCE).context("waiting for the last records")?;
    gate.terminate()?;
    drop(gate);
    let open = verify::await_committed(bootstrap, classes).context("waiting for the last transactions")?;
    let mut judge = Judge::new(report.seed, books, report.faults > 0);
    let start = Instant::now();
    verify::read(bootstrap, classes, &mut judge).context("reading Kafka")?;
    let records = judge.records;
    eprintln!("chaos: {records} records read in {:.1} s", start.elapsed().as_secs_f64());
    let (mut findings, tallies) = judge.finish();
    for trouble in troubles.all() {
        findings.note(Wrong::Trouble, 1, || trouble);
    }
    for partition in open {
        findings.note(Wrong::Trouble, 1, || format!("a transaction in {partition} stays open"));
    }
    report.judged(&findings, tallies, records);
    Ok(())
}

/// What Linux says is available; elsewhere nothing.
fn free_memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
