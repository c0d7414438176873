//! `cargo xtask chaos`: builds Hookgate and the fault harness, fetches Apache Kafka, and lets the harness run.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{OPTIMISED, guests, kafka, kafka::real_kafka::LIBS, step};

/// Runs the harness with `arguments`; Hookgate is optimised, so that there is a load.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        step::run(&mut build(&["hookgate-chaos"]))?;
        return step::run(harness()?.args(arguments));
    }
    guests()?;
    let Some(libs) = kafka::libs()? else { bail!("the harness needs Java and Maven: only a real Kafka can be broken") };
    step::run(&mut build(&["hookgate", "hookgate-chaos"]))?;
    step::run(harness()?.args(arguments).env(LIBS, libs))
}

/// Both packages are named, so that their dependencies have the features that they have everywhere, and are not built a second time.
fn build(binaries: &[&str]) -> Command {
    let mut build = step::cargo(["build", "--quiet", "--config", OPTIMISED, "--package", "hookgate", "--package", "hookgate-chaos"]);
    build.args(binaries.iter().flat_map(|binary| ["--bin", binary])).env("CARGO_INCREMENTAL", "0");
    build
}

/// It lies beside this program.
fn harness() -> Result<Command> {
    let program = std::env::current_exe()?;
    let mut harness = Command::new(program.parent().context("a program without a folder")?.join("hookgate-chaos"));
    harness.current_dir(step::root());
    Ok(harness)
}
