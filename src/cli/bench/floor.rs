//! What producing costs without Hookgate: librdkafka's own producer in a process of its own, the same records at the same rate.
//!
//! The process measures itself, from the end of its warm-up until its last record is confirmed, and prints one line of JSON.

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    command::{Commands, Mark},
    process::{self, CpuTime, MachineTime},
    publisher::client_id,
    report::{Measured, Stage},
    versions::Fates,
};
use crate::{
    config::{Bootstrap, Kafka, Place, Placed},
    event::now_ms,
    kafka::PlainProducer,
};

/// Records handed over and not yet confirmed, at most: as many as Hookgate allows itself.
const OUTSTANDING: usize = 20_000;
/// How often records that are due are handed over.
const PACE: Duration = Duration::from_millis(1);
/// The longest latency that is told from a longer one, microseconds.
const LONGEST_US: u64 = 60_000_000;
/// How long the end waits for what is outstanding.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Floor {
    pub(super) kafka: Option<String>,
    pub(super) properties: Vec<(String, String)>,
    pub(super) topic: String,
    /// Records a second; 0: as fast as it goes.
    pub(super) rate: u64,
    pub(super) clients: u32,
    pub(super) payload_bytes: usize,
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    records: u64,
    seconds: f64,
    cpu: CpuTime,
    busy: f64,
    embedded: bool,
    memory_bytes: (u64, u64),
    /// Microseconds, and how often.
    latencies: Vec<(u64, u64)>,
}

impl Floor {
    /// Runs it.
    ///
    /// # Errors
    /// The process did not start, or Kafka did not confirm every record.
    pub(super) async fn measure(&self) -> anyhow::Result<Measured> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = std::process::Command::new(program);
        command.args(["bench", "--floor-worker"]).arg(serde_json::to_string(self).context("telling the producer what to do")?);
        let running = tokio::task::spawn_blocking(move || command.stderr(Stdio::inherit()).output());
        let output = running.await.context("waiting for the producer")?.context("starting the producer")?;
        ensure!(output.status.success(), "the producer alone ended with {}", output.status);
        let answer: Answer = serde_json::from_slice(&output.stdout).context("reading what the producer measured")?;
        let mut confirmed = Histogram::new_with_max(LONGEST_US, 3).context("a histogram")?;
        answer.latencies.iter().for_each(|(us, times)| confirmed.saturating_record_n(*us, *times));
        let storing = Histogram::new_with_max(LONGEST_US, 3).context("a histogram")?;
        let stage = Stage {
            name: "",
            messages: answer.records,
            seconds: answer.seconds,
            cpu: answer.cpu,
            busy: answer.busy,
            acknowledgement: confirmed,
            storing,
        };
        Ok(Measured {
            scenario: "floor",
            stages: vec![stage],
            guest: None,
            embedded: answer.embedded,
            memory_bytes: answer.memory_bytes.0,
            peak_memory_bytes: answer.memory_bytes.1,
            fates: Fates::default(),
            rate: self.rate,
            verified: 0,
            broken: Vec::new(),
        })
    }

    fn kafka(&self) -> Kafka {
        let place = Place { file: Arc::new(Path::new("command line").to_owned()), line: 1, column: 1 };
        let properties = self.properties.iter();
        let properties = properties.map(|(name, value)| (name.clone(), Placed { value: value.clone(), place: place.clone() })).collect();
        let bootstrap = self.kafka.clone().map_or(Bootstrap::Embedded, Bootstrap::Servers);
        Kafka { bootstrap, properties, ..Kafka::embedded(place) }
    }
}

/// The producing process; `what` is a [`Floor`] as JSON. Blocks.
///
/// # Errors
/// Kafka did not confirm every record.
pub(super) fn work(what: &str) -> anyhow::Result<()> {
    let floor: Floor = serde_json::from_str(what).context("what to produce")?;
    let commands = Commands::new(floor.payload_bytes).map_err(anyhow::Error::msg)?;
    let begun = Instant::now();
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(LONGEST_US, 3).context("a histogram")?));
    let (noting, warm_up_ns) = (Arc::clone(&latencies), floor.warm_up.as_nanos() as u64);
    let producer = PlainProducer::start(&floor.kafka(), &floor.topic, move |sent_ns| {
        if sent_ns >= warm_up_ns {
            noting.lock().saturating_record((begun.elapsed().as_nanos() as u64).saturating_sub(sent_ns) / 1_000);
        }
    })?;
    let mut line = Line { producer: &producer, commands: &commands, clients: floor.clients, begun, sent: 0, value: Vec::new() };
    line.run(floor.rate, floor.warm_up);
    let (before, machine, from, counted) = (CpuTime::of(std::process::id())?, MachineTime::now()?, Instant::now(), producer.answered().0);
    line.run(floor.rate, floor.length);
    line.finish()?;
    let answer = Answer {
        records: producer.answered().0 - counted,
        seconds: from.elapsed().as_secs_f64(),
        cpu: CpuTime::of(std::process::id())?.since(&before),
        busy: MachineTime::now()?.busy_since(&machine),
        embedded: producer.is_embedded(),
        memory_bytes: process::memory_bytes(std::process::id())?,
        latencies: latencies.lock().iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
    };
    println!("{}", serde_json::to_string(&answer).context("writing what was measured")?);
    Ok(())
}

/// Records on their way, one after the other.
struct Line<'a> {
    producer: &'a PlainProducer,
    commands: &'a Commands,
    clients: u32,
    begun: Instant,
    sent: u64,
    value: Vec<u8>,
}

impl Line<'_> {
    fn run(&mut self, rate: u64, length: Duration) {
        let (from, first) = (Instant::now(), self.sent);
        while from.elapsed() < length {
            let due = if rate == 0 { u64::MAX } else { first + (from.elapsed().as_secs_f64() * rate as f64) as u64 };
            while self.sent < due && self.producer.outstanding() < OUTSTANDING && from.elapsed() < length {
                self.send();
            }
            std::thread::sleep(PACE);
        }
    }

    fn send(&mut self) {
        let client = u32::try_from(self.sent % u64::from(self.clients.max(1))).unwrap_or(0);
        let sent_ns = self.begun.elapsed().as_nanos() as u64;
        self.value.clear();
        self.commands.write(Mark { client, sequence: self.sent, sent_ns, time_s: now_ms() / 1_000 }, &mut self.value);
        if self.producer.send(client_id(client).as_bytes(), &self.value, sent_ns) {
            self.sent += 1;
        }
    }

    fn finish(&self) -> anyhow::Result<()> {
        let from = Instant::now();
        while self.producer.outstanding() > 0 && from.elapsed() < PATIENCE {
            std::thread::sleep(PACE);
        }
        let (confirmed, failed) = self.producer.answered();
        ensure!(confirmed == self.sent, "{} records handed to librdkafka, {confirmed} confirmed, {failed} failed", self.sent);
        Ok(())
    }
}
