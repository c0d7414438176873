//! The fault harness: real Kafka, real Hookgate, real MQTT clients; faults drawn from a seed; and a judge that reads Kafka itself.
//!
//! ```text
//!  schedule ─▶ injector ──┬──────────┬──────────┬──────────────┐
//!   (seed)                ▼          ▼          ▼              ▼
//!              client ─▶ gate ─▶ proxy ─▶ broker ◀─ verify   disk
//!                │     (Hookgate)                     │     (under it)
//!                └──── books ─────────▶ judge ◀───────┘
//! ```
//! Invariants: what a client counts as acknowledged it has read from its socket; the judge knows only books and records; every decision
//! comes from the seed. Absent: any share in Hookgate's own code.

mod arguments;
mod books;
mod broker;
mod class;
mod client;
mod configuration;
mod dice;
mod disk;
mod fault;
mod gate;
mod injector;
mod judge;
mod packet;
mod payload;
mod process;
mod proxy;
mod ranges;
mod report;
mod run;
mod schedule;
mod session;
mod stage;
mod topics;
mod trouble;
mod verify;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;

use self::arguments::Arguments;

fn main() -> ExitCode {
    match go(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn go(arguments: Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("chaos: seed {seed}");
    let folder = std::path::absolute(arguments.folder.join(seed.to_string()))?;
    disk::Disk::clear(&folder.join("disk"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    let (keep, json) = (arguments.keep, arguments.json.clone());
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(run::run(arguments, seed, &folder));
    runtime.shutdown_background();
    let report = result.with_context(|| format!("logs are in {}; the seed is {seed}", folder.display()))?;
    report.print();
    if let Some(file) = json {
        fs::write(&file, serde_json::to_vec_pretty(&report)?).with_context(|| format!("writing {}", file.display()))?;
    }
    if !report.is_good() {
        println!("replay with --seed {seed}; logs and data are in {}", folder.display());
    } else if !keep {
        fs::remove_dir_all(&folder)?;
    }
    Ok(report.is_good())
}
