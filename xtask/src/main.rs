//! What people and CI both run: guests, demo, test, ci, bench.
//!
//! Every verb does its own set-up, so that it works in a fresh clone. Exit code 0 when all went well, else 1.

mod guests;
mod kafka;
mod step;

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::kafka::real_kafka::{ADDRESS, LIBS};

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the guests (adds Rust's wasm32-wasip2 target if it is missing)
    Guests,
    /// Build everything and run `hookgate demo`
    Demo {
        /// For `hookgate demo`: --for 20s, --json …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the guests, then run all tests, with a real Apache Kafka where Java and Maven are installed
    Test {
        /// Leave out the tests that need a real Kafka
        #[arg(long)]
        no_kafka: bool,
    },
    /// What CI runs: format, lints, cargo deny (if installed), tests
    Ci,
    /// Check licences, advisories and sources of all dependencies (cargo install --locked cargo-deny)
    Deny,
    /// Build everything and run `hookgate bench`
    Bench {
        /// embedded, real (started for this run) or host:port; default: $KAFKA or embedded
        #[arg(long)]
        kafka: Option<String>,
        /// For `hookgate bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A real Apache Kafka, one node, in target/kafka
    #[command(subcommand)]
    Kafka(KafkaVerb),
}

#[derive(Subcommand)]
enum KafkaVerb {
    /// Start it, and leave it running
    Start {
        /// On 127.0.0.1
        #[arg(long, default_value_t = 9092)]
        port: u16,
    },
    /// End the one that `start` started
    Stop,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Guests => guests(),
        Verb::Demo { arguments } => demo(&arguments),
        Verb::Test { no_kafka } => test(!no_kafka),
        Verb::Ci => ci(),
        Verb::Deny => deny(),
        Verb::Bench { kafka, arguments } => bench(kafka, &arguments),
        Verb::Kafka(KafkaVerb::Start { port }) => kafka::start(port),
        Verb::Kafka(KafkaVerb::Stop) => kafka::stop(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn guests() -> Result<()> {
    step::timed("guests built", || guests::build(step::root()))
}

fn demo(arguments: &[String]) -> Result<()> {
    guests()?;
    step::run(hookgate("demo").args(arguments))
}

fn test(with_kafka: bool) -> Result<()> {
    guests()?;
    step::timed("guests tested", || guests::test(step::root()))?;
    let mut tests = step::cargo(["test", "--workspace"]);
    let libs = if with_kafka { kafka::libs()? } else { None };
    let mut node = None;
    if let Some(libs) = &libs {
        tests.env(LIBS, libs);
        if std::env::var_os(ADDRESS).is_none() {
            let started = kafka::start_fresh(libs)?;
            tests.env(ADDRESS, started.address());
            node = Some(started);
        }
    } else {
        tests.env_remove(LIBS);
    }
    if !with_kafka {
        tests.env_remove(ADDRESS);
    }
    let result = step::run(&mut tests);
    drop(node);
    if libs.is_none() {
        eprintln!("xtask: ATTENTION: the tests with a real Kafka were SKIPPED");
    }
    result
}

fn ci() -> Result<()> {
    step::run(&mut step::cargo(["fmt", "--all", "--check"]))?;
    step::run(&mut step::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if step::exists("cargo-deny", "--version") {
        deny()?;
    } else {
        eprintln!(
            "xtask: cargo-deny is not installed: dependencies were not checked (cargo install --locked cargo-deny; cargo xtask deny)"
        );
    }
    test(true)
}

fn deny() -> Result<()> {
    step::run(&mut step::cargo(["deny", "--workspace", "check"]))
}

fn bench(kafka: Option<String>, arguments: &[String]) -> Result<()> {
    guests()?;
    let kafka = kafka.or_else(|| std::env::var(ADDRESS).ok()).unwrap_or_else(|| "embedded".to_owned());
    let mut node = None;
    let address = if kafka == "real" {
        let Some(libs) = kafka::libs()? else { anyhow::bail!("--kafka real needs Java and Maven") };
        node.insert(kafka::start_fresh(&libs)?).address()
    } else {
        kafka
    };
    let result = step::run(hookgate("bench").args(["--kafka", &address]).args(arguments));
    drop(node);
    result
}

fn hookgate(verb: &str) -> Command {
    step::cargo(["run", "--quiet", "--bin", "hookgate", "--", verb])
}
