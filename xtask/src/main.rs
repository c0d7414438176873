//! What people and CI both run: guests, demo, test, ci, bench, chaos, fuzz.
//!
//! Every verb does its own set-up, so that it works in a fresh clone. Exit code 0 when all went well, else 1.

mod chaos;
mod fuzz;
mod guests;
mod kafka;
mod step;

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Result, bail};
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
        /// For `hookgate bench`: --json …; --kafka embedded, real (an Apache Kafka for this run) or host:port, else $KAFKA or embedded
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build everything, then break Kafka, Hookgate, network, disk and clients under load, and prove that nothing acknowledged was lost
    #[command(disable_help_flag = true)]
    Chaos {
        /// For the harness: --help says which, docs/chaos.md what for
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzz everything that reads bytes from outside; fuzz/README.md says how and what for
    Fuzz {
        /// Only this one
        #[arg(long)]
        target: Option<String>,
        /// Each for so long
        #[arg(long = "for", default_value = "10m", value_parser = fuzz::duration)]
        time: Duration,
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
        Verb::Bench { arguments } => bench(arguments),
        Verb::Chaos { arguments } => chaos::run(&arguments),
        Verb::Fuzz { target, time } => fuzz::run(target.as_deref(), time),
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
    paho();
    mqtt_js();
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

/// Fetches Python's paho-mqtt into target/paho, for the test with it; without pip that test is skipped.
fn paho() {
    let folder = step::root().join("target/paho");
    if folder.join("paho").exists() {
        return;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--target"]).arg(folder);
    if let Err(error) = step::run(pip.arg("paho-mqtt>=2,<3")) {
        eprintln!("xtask: ATTENTION: the test with paho will be SKIPPED: {error:#}");
    }
}

/// Fetches MQTT.js into target/mqttjs, for the test with it; without npm that test is skipped.
fn mqtt_js() {
    let folder = step::root().join("target/mqttjs");
    if folder.join("node_modules/mqtt").exists() {
        return;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder);
    if let Err(error) = step::run(npm.arg("mqtt@5")) {
        eprintln!("xtask: ATTENTION: the test with MQTT.js will be SKIPPED: {error:#}");
    }
}

fn ci() -> Result<()> {
    step::run(&mut step::cargo(["fmt", "--all", "--check"]))?;
    step::run(&mut lints())?;
    if step::exists("cargo-deny", "--version") {
        deny()?;
    } else {
        eprintln!(
            "xtask: cargo-deny is not installed: dependencies were not checked (cargo install --locked cargo-deny; cargo xtask deny)"
        );
    }
    fuzz::check()?;
    test(true)
}

/// Clippy, for a build rather than a check: what `cargo clippy` does, but the dependencies that it needs are those that the tests need.
/// A check of them alone takes ten minutes of a small machine.
fn lints() -> Command {
    let mut build = step::cargo(["build", "--workspace", "--all-targets"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    build.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__"); // how cargo-clippy hands over `-D warnings`
    build
}

fn deny() -> Result<()> {
    step::run(&mut step::cargo(["deny", "--workspace", "check"]))
}

fn bench(mut arguments: Vec<String>) -> Result<()> {
    guests()?;
    let kafka = take_option(&mut arguments, "--kafka")?;
    let kafka = kafka.or_else(|| std::env::var(ADDRESS).ok()).unwrap_or_else(|| "embedded".to_owned());
    let mut node = None;
    let address = if kafka == "real" {
        let Some(libs) = kafka::libs()? else { bail!("--kafka real needs Java and Maven") };
        node.insert(kafka::start_fresh(&libs)?).address()
    } else {
        kafka
    };
    let result = step::run(optimised().args(["--kafka", &address]).args(arguments));
    drop(node);
    result
}

/// Takes an option with its value out of arguments that are meant for another program.
fn take_option(arguments: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(index) = arguments.iter().position(|argument| argument == name) else { return Ok(None) };
    if index + 1 == arguments.len() {
        bail!("{name} needs a value");
    }
    Ok(arguments.drain(index..index + 2).nth(1))
}

fn hookgate(verb: &str) -> Command {
    step::cargo(["run", "--quiet", "--bin", "hookgate", "--", verb])
}

/// Hookgate itself as fast as it gets, with the profile of all the rest.
const OPTIMISED: &str = "profile.dev.package.hookgate.opt-level=3";

/// `hookgate bench` with Hookgate itself optimised like its dependencies, which are then not built a second time. Not incremental: what is
/// compiled in many small parts is not inlined over their borders.
fn optimised() -> Command {
    let mut run = step::cargo(["run", "--quiet", "--config", OPTIMISED, "--bin", "hookgate", "--", "bench"]);
    run.env("CARGO_INCREMENTAL", "0");
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_hookgate_go_through() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["xtask", "demo", "--for", "20s"], &["--for", "20s"]),
            (&["xtask", "bench", "--json", "--kafka", "real", "-n", "3"], &["--json", "--kafka", "real", "-n", "3"]),
            (&["xtask", "bench"], &[]),
            (&["xtask", "chaos", "--seed", "7", "--classes", "qos2,once"], &["--seed", "7", "--classes", "qos2,once"]),
            (&["xtask", "chaos", "--help"], &["--help"]),
        ];
        for (line, expected) in cases {
            match Arguments::try_parse_from(line).unwrap().verb {
                Verb::Demo { arguments } | Verb::Bench { arguments } | Verb::Chaos { arguments } => assert_eq!(arguments, expected),
                _ => panic!("{line:?}"),
            }
        }
    }

    #[test]
    fn an_option_is_taken_with_its_value() {
        let taken = |line: &str| {
            let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            take_option(&mut arguments, "--kafka").map(|value| (value.unwrap_or_default(), arguments.join(" "))).ok()
        };
        assert_eq!(taken("--json --kafka real -n 3"), Some(("real".to_owned(), "--json -n 3".to_owned())));
        assert_eq!(taken("--json"), Some((String::new(), "--json".to_owned())));
        assert_eq!(taken("--kafka"), None);
    }
}
