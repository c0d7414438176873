//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::{class::ClassId, schedule::Lane};

/// Break everything under load, then prove from Kafka itself that no promise was broken.
///
/// docs/chaos.md says what is done and what must hold. Exit code 0 when all promises were kept.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask chaos")]
pub(crate) struct Arguments {
    /// How long faults and load go on
    #[arg(long, default_value_t = 2.0, value_parser = minutes)]
    pub(crate) minutes: f64,
    /// Replays the faults and the messages of the run that printed it; without, a new one is drawn and printed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Brokers: 3, each record on all of them, or 1; without, 3 where 4 GB of memory are free
    #[arg(long, value_parser = nodes)]
    pub(crate) kafka_nodes: Option<usize>,
    /// Writes the results to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Kinds of messages: qos1, qos2, spool, once, strict, once1, fan; all of them by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) classes: Vec<ClassId>,
    /// What faults are done to: gate, operator, kafka, network, disk, clients; all of them by default, `none` for none
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = lane)]
    pub(crate) faults: Vec<Option<Lane>>,
    /// Of all kinds together; fewer where one takes longer than the next one is away
    #[arg(long, default_value_t = 20.0, value_name = "N", value_parser = per_minute)]
    pub(crate) faults_per_minute: f64,
    /// MQTT clients, each with a session of its own
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// Messages that a client has in flight
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250))]
    pub(crate) window: u16,
    /// Messages a second of all clients together, what an outage held up is caught up on; 0: as fast as it goes
    #[arg(long, default_value_t = 6_000)]
    pub(crate) rate: u32,
    /// Keeps the folder of the run also when all is well
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where the folder of each run is made; removed when all is well
    #[arg(long, default_value = "target/chaos", value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The binary of Hookgate
    #[arg(long, default_value = "target/debug/hookgate", value_name = "FILE")]
    pub(crate) hookgate: PathBuf,
    /// A guest that lets everything pass
    #[arg(long, default_value = "guests/target/wasm32-wasip2/release/identity.wasm", value_name = "FILE")]
    pub(crate) guest: PathBuf,
    /// Kafka's jars
    #[arg(long, env = "HOOKGATE_KAFKA_LIBS", value_name = "DIR")]
    pub(crate) kafka_libs: PathBuf,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes, for example 30 or 0.5")?;
    if (0.05..=10_000.0).contains(&minutes) { Ok(minutes) } else { Err("between 0.05 and 10000".to_owned()) }
}

fn per_minute(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number, for example 20")?;
    if (0.1..=600.0).contains(&number) { Ok(number) } else { Err("between 0.1 and 600".to_owned()) }
}

fn nodes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3".to_owned()),
    }
}

fn lane(text: &str) -> Result<Option<Lane>, String> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_refused() {
        let read = |line: &str| Arguments::try_parse_from(["chaos", "--kafka-libs", "libs"].into_iter().chain(line.split_whitespace()));
        let all = read("").unwrap();
        assert!((all.seed, all.kafka_nodes, all.classes.len(), all.faults.len()) == (None, None, 0, 0));
        let some = read("--minutes 0.5 --seed 7 --kafka-nodes 1 --classes qos2,once --faults gate,disk").unwrap();
        assert_eq!((some.seed, some.kafka_nodes, some.minutes), (Some(7), Some(1), 0.5));
        assert_eq!(some.classes, [ClassId(1), ClassId(3)]);
        assert_eq!(some.faults, [Some(Lane::Gate), Some(Lane::Disk)]);
        assert_eq!(read("--faults none").unwrap().faults, [None]);
        for line in ["--minutes 0", "--minutes x", "--kafka-nodes 2", "--classes qos3", "--faults rain", "--clients 0", "--window 300"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
