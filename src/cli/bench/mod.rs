//! `hookgate bench`: publishers over real sockets, a guest, Kafka, and a reader that verifies every record.
//!
//! What is measured is a `hookgate run` of its own process, so that the price of the load is not in its figures; its CPU time is what the
//! kernel counts from the end of the warm-up until the last acknowledgement. Publishers and reader share the machine with it, so the rate
//! is that of all three together. The scenarios of [`broker`] measure deliveries to subscribers instead; [`neighbour`] measures what one
//! tenant notices of another's hostile guest.

mod broker;
mod calibrate;
mod child;
mod command;
mod course;
mod floor;
mod ledger;
mod load;
mod neighbour;
mod packet;
mod process;
mod publisher;
mod report;
mod run;
mod scenario;
mod socket;
mod verify;
mod versions;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::{floor::Floor, load::Shape, packet::Protocol, process::Machine, run::Run, scenario::Scenario};
use super::Exit;
use crate::{event::now_ms, kafka};

/// How long each stage is measured when no time is given.
const LENGTH: Duration = Duration::from_secs(10);
/// Partitions of the topics made on a real Kafka; those of the embedded one are as many.
const PARTITIONS: u32 = 3;

/// Arguments of `hookgate bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure, in one go.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::Guest, Scenario::NoGuest])]
    scenario: Vec<Scenario>,
    /// Publishers, each on a connection of its own.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    clients: u32,
    /// How long each stage is measured; by default 10s, and 2s for neighbour.
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    length: Option<Duration>,
    /// Messages to measure, of all publishers together, instead of a time.
    #[arg(long, conflicts_with = "length", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// How long it runs before it is measured.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = super::duration)]
    warm_up: Duration,
    /// Size of each message's payload, bytes: a signed command, padded.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    payload: usize,
    /// Quality of service of the messages.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages of one publisher that wait for their acknowledgement, at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// Messages a second of all publishers together; 0: as fast as it goes. By default 0; for swaps what keeps the machine as busy as
    /// --busy says; for neighbour 2000.
    #[arg(long, value_name = "MSG/S")]
    rate: Option<u64>,
    /// How busy the machine is to be during swaps, per cent; the rate for it is found out before.
    #[arg(long, value_name = "PERCENT", default_value_t = 70, value_parser = clap::value_parser!(u8).range(10..=95))]
    busy: u8,
    /// New versions that `swaps` brings, one after the other; it takes at least the time of a stage.
    #[arg(long, value_name = "VERSIONS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    swaps: u32,
    /// How many of them are broken files; as many trap on first use, and as many fail their canary.
    #[arg(long, value_name = "VERSIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    bad: u32,
    /// Pairs of runs of `neighbour`, alone and beside a hostile guest, for each such guest.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// Keeps the state of the guests of `neighbour` on the disk (data_dir), not in memory.
    #[arg(long)]
    disk: bool,
    /// Only these hostile guests.
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    hostile: Vec<String>,
    /// MQTT version of the publishers.
    #[arg(long, value_enum, default_value = "5")]
    protocol: Protocol,
    /// A real Kafka; the embedded one when not given. A topic is created there for each scenario, and deleted when all is well.
    #[arg(long, value_name = "HOST:PORT", env = "KAFKA")]
    kafka: Option<String>,
    /// A librdkafka property of the measured process, for example socket.nagle.disable=true; can be repeated.
    #[arg(long = "kafka-property", value_name = "NAME=VALUE", value_parser = property)]
    kafka_properties: Vec<(String, String)>,
    /// Clients of `fleet`; the broker and each process of 10 000 clients need as many open files (ulimit -n).
    #[arg(long, value_name = "CLIENTS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    fleet: u32,
    /// What a process with some of the fleet's clients is told; not for people.
    #[arg(long, hide = true)]
    fleet_worker: Option<String>,
    /// What the process with librdkafka's producer alone is told; not for people.
    #[arg(long, hide = true)]
    floor_worker: Option<String>,
    /// Where the guests were built (`cargo xtask guests`).
    #[arg(long, value_name = "FOLDER", default_value = "guests/target/wasm32-wasip2/release")]
    guests: PathBuf,
    /// Writes every figure with its unit to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    if let Some(what) = &args.fleet_worker {
        return Ok(broker::worker(what).await?);
    }
    if let Some(what) = args.floor_worker {
        return Ok(tokio::task::spawn_blocking(move || floor::work(&what)).await.context("producing")??);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        end = measure(&args) => end,
        // Only an orderly end takes the measured process along.
        _ = terminate.recv() => Err(Exit::Failed(anyhow::anyhow!("interrupted"))),
        _ = interrupt.recv() => Err(Exit::Failed(anyhow::anyhow!("interrupted"))),
    }
}

async fn measure(args: &Args) -> Result<(), Exit> {
    let kafka = args.kafka.as_deref().filter(|servers| !servers.is_empty() && *servers != "embedded");
    let machine = Machine::describe(if kafka.is_some() { "outside the process" } else { "embedded, librdkafka's mock cluster" }.to_owned());
    println!("{}", machine.in_words());
    println!("{}\n", args.in_words());
    let mut measured = Vec::new();
    for scenario in Scenario::resolve(&args.scenario) {
        let topic = Topic::new(scenario.name(), kafka).await?;
        let mut run = args.run(scenario, kafka, &topic.name);
        if let (Scenario::Swaps, None) = (scenario, args.rate) {
            run.shape.rate = calibrate::rate(&run, f64::from(args.busy) / 100.0).await?;
        }
        let result = run.measure().await?;
        topic.delete(result.broken.is_empty()).await?;
        measured.push(result);
    }
    if Scenario::resolve_floor(&args.scenario) {
        measured.push(args.floor(kafka, &measured).await?);
    }
    let neighbours = if Scenario::resolve_neighbour(&args.scenario) { args.neighbours(kafka).await? } else { Vec::new() };
    let plan = broker::Plan { warm_up: args.warm_up, length: args.length.unwrap_or(LENGTH), fleet: args.fleet };
    let mut alone = Vec::new();
    for scenario in Scenario::resolve_broker(&args.scenario) {
        alone.extend(plan.measure(scenario).await?);
    }
    print!("{}{}{}", report::table(&measured), neighbour::table(&neighbours), broker::table(&alone));
    if let Some(file) = &args.json {
        let mut entries: Vec<serde_json::Value> = Vec::new();
        for entry in measured.iter().flat_map(report::Measured::entries) {
            entries.push(serde_json::to_value(entry).context("writing the figures")?);
        }
        entries.extend(neighbours.iter().map(neighbour::Measured::entry));
        entries.extend(alone.iter().map(broker::Measured::entry));
        let text = serde_json::json!({ "machine": machine, "load": args.load(), "results": entries });
        let text = serde_json::to_string_pretty(&text).context("writing the figures")?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    let promises = measured.iter().map(|result| (result.scenario.to_owned(), result.verified, &result.broken));
    let promises = promises.chain(neighbours.iter().map(|result| (result.name(), result.verified, &result.broken)));
    let mut is_broken = false;
    for (scenario, verified, broken) in promises.filter(|(scenario, ..)| *scenario != Scenario::Floor.name()) {
        if broken.is_empty() {
            println!("✓ {scenario}: {verified} records verified, none lost, none twice, in order per client");
        }
        for broken in broken {
            is_broken = true;
            println!("✗ {scenario}: {broken}");
        }
    }
    if is_broken { Err(Exit::Failed(anyhow::anyhow!("a promise was broken"))) } else { Ok(()) }
}

/// A Kafka topic of one run; on the embedded Kafka it comes by itself and goes with the process.
struct Topic<'a> {
    name: String,
    servers: Option<&'a str>,
}

impl<'a> Topic<'a> {
    async fn new(scenario: &str, servers: Option<&'a str>) -> anyhow::Result<Self> {
        let name = format!("bench_{}_{}", scenario.replace('-', "_"), now_ms());
        if let Some(servers) = servers {
            kafka::create_topic(servers, &name, PARTITIONS).await.context("preparing Kafka")?;
        }
        Ok(Topic { name, servers })
    }

    /// Deletes it, unless somebody will want to look at it.
    async fn delete(self, all_well: bool) -> anyhow::Result<()> {
        match self.servers {
            Some(servers) if all_well => kafka::delete_topic(servers, &self.name).await.context("tidying up Kafka"),
            _ => Ok(()),
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("\"{text}\" is no property; write name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Args {
    fn run<'a>(&'a self, scenario: Scenario, kafka: Option<&'a str>, topic: &'a str) -> Run<'a> {
        let swaps = scenario == Scenario::Swaps;
        let shape = Shape {
            clients: self.clients,
            qos: self.qos,
            protocol: self.protocol,
            in_flight: self.in_flight,
            rate: self.rate.unwrap_or(0),
            messages: self.messages.filter(|_| !swaps), // its stages are equally long
        };
        Run {
            scenario,
            shape,
            payload_bytes: self.payload,
            warm_up: self.warm_up,
            length: self.length.unwrap_or(LENGTH),
            swaps: self.swaps as usize,
            bad: self.bad as usize,
            guests: &self.guests,
            kafka,
            kafka_properties: &self.kafka_properties,
            topic,
        }
    }

    /// librdkafka's producer alone, at the rate that was asked for, or at which the verifier ran, or as fast as it goes.
    async fn floor(&self, kafka: Option<&str>, measured: &[report::Measured]) -> anyhow::Result<report::Measured> {
        let topic = Topic::new(Scenario::Floor.name(), kafka).await?;
        let reached = measured.iter().find(|measured| measured.scenario == Scenario::Guest.name());
        let reached = reached.and_then(|measured| measured.stages.first()).map_or(0, |stage| stage.rate() as u64);
        let floor = Floor {
            kafka: kafka.map(str::to_owned),
            properties: self.kafka_properties.clone(),
            topic: topic.name.clone(),
            rate: self.rate.filter(|rate| *rate > 0).unwrap_or(reached),
            clients: self.clients,
            payload_bytes: self.payload,
            warm_up: self.warm_up,
            length: self.length.unwrap_or(LENGTH),
        };
        let measured = floor.measure().await?;
        topic.delete(true).await?;
        Ok(measured)
    }

    /// One tenant beside the hostile guests of another, one after the other.
    async fn neighbours(&self, kafka: Option<&str>) -> Result<Vec<neighbour::Measured>, Exit> {
        let mut measured = Vec::new();
        for attack in neighbour::attacks(&self.hostile).map_err(Exit::Usage)? {
            let topic = Topic::new("neighbour", kafka).await?;
            let mut shape = self.run(Scenario::Neighbour, kafka, &topic.name).shape;
            shape.rate = self.rate.unwrap_or(neighbour::RATE);
            shape.messages = None;
            let plan = neighbour::Plan {
                shape,
                payload_bytes: self.payload,
                warm_up: self.warm_up,
                length: self.length.unwrap_or(neighbour::LENGTH),
                pairs: self.pairs as usize,
                disk: self.disk,
                guests: &self.guests,
                kafka,
                kafka_properties: &self.kafka_properties,
                topic: &topic.name,
            };
            let result = plan.measure(attack).await?;
            topic.delete(result.broken.is_empty()).await?;
            measured.push(result);
        }
        Ok(measured)
    }

    fn load(&self) -> serde_json::Value {
        let measure = match self.messages {
            Some(messages) => serde_json::json!({ "name": "messages", "value": messages, "unit": "messages" }),
            None => serde_json::json!({ "name": "time per stage", "value": self.length.unwrap_or(LENGTH).as_secs_f64(), "unit": "s" }),
        };
        serde_json::json!([
            { "name": "publishers", "value": self.clients, "unit": "connections" },
            measure,
            { "name": "warm-up", "value": self.warm_up.as_secs_f64(), "unit": "s" },
            { "name": "payload", "value": self.payload, "unit": "bytes" },
            { "name": "QoS", "value": self.qos, "unit": "" },
            { "name": "in flight per publisher", "value": self.in_flight, "unit": "messages" },
            { "name": "Kafka acknowledgements", "value": "all", "unit": "" },
            { "name": "further Kafka properties", "value": self.kafka_properties, "unit": "" },
        ])
    }

    fn in_words(&self) -> String {
        let rate = match self.rate {
            None => format!("as fast as it goes (swaps: {} % of the machine, neighbour: {} msg/s)", self.busy, neighbour::RATE),
            Some(0) => "as fast as it goes".to_owned(),
            Some(rate) => format!("{rate} msg/s"),
        };
        let version = if self.protocol == Protocol::V5 { "5" } else { "3.1.1" };
        format!(
            "{} publishers, MQTT {version}, QoS {}, {} bytes, {} in flight each, {rate}; Kafka acks=all",
            self.clients, self.qos, self.payload, self.in_flight
        )
    }
}
