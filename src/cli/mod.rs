//! The command line: a file per verb.
//!
//! Exit codes: 0 fine, 64 (`EX_USAGE` of sysexits.h) bad usage or configuration, 1 anything else.

mod bench;
mod check;
mod clients;
mod demo;
mod kick;
mod operators;
mod password;
mod replay;
mod retained;
mod run;
mod sessions;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Problem;

/// Bad usage or configuration (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// The gate between devices and Kafka: an MQTT broker whose every hook asks WebAssembly guests.
///
/// Devices publish over MQTT; at each hook of their life the guests named in `hookgate.toml` decide, rewrite and enrich; what they let
/// through is produced to Kafka; and only when Kafka has it is the device told so.
#[derive(Debug, Parser)]
#[command(
    name = "hookgate",
    version,
    max_term_width = 120,
    after_help = "Exit codes: 0 fine, 64 bad usage or configuration, 1 anything else."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged, as `tracing` filters: "info", "hookgate=debug,warn". HOOKGATE_LOG does the same.
    /// By default "info,rumqttd=off" for run, and "warn" for the verbs that have more to show than their log.
    #[arg(long, global = true, env = "HOOKGATE_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gate until SIGTERM or Ctrl-C; SIGHUP reloads.
    Run(run::Args),
    /// Check a configuration and its guests: every problem at once, with its place and advice.
    Check(check::Args),
    /// List the clients that are connected to a running Hookgate.
    Clients(clients::Args),
    /// Disconnect a client.
    Kick(kick::Args),
    /// List sessions, also those that wait for their client; or show one with its subscriptions.
    Sessions(sessions::Args),
    /// List retained messages, or have one forgotten.
    Retained(retained::Args),
    /// Show the main job with simulated locks, everything embedded.
    Demo(demo::Args),
    /// Add, remove or check users of a password file.
    Password(password::Args),
    /// Run recorded calls of a guest through another version of it, and show what it answers differently.
    Replay(replay::Args),
    /// Measure: publishers over real sockets, a guest, Kafka, and a reader that verifies every record.
    Bench(bench::Args),
}

/// The configuration to work on.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "hookgate.toml")]
    config: PathBuf,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; if even printing fails there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let log =
        cli.log.as_deref().unwrap_or(if matches!(cli.verb, Verb::Run(_)) { "info,rumqttd=off" } else { "warn,rumqttc=error,rumqttd=off" });
    let filter = match EnvFilter::try_new(log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: --log {log}: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(async {
        match cli.verb {
            Verb::Run(args) => run::run(args).await,
            Verb::Check(args) => check::run(args).await,
            Verb::Clients(args) => clients::run(&args),
            Verb::Kick(args) => kick::run(&args),
            Verb::Sessions(args) => sessions::run(&args),
            Verb::Retained(args) => retained::run(&args),
            Verb::Demo(args) => demo::run(args).await,
            Verb::Password(args) => password::run(&args),
            Verb::Replay(args) => replay::run(args).await,
            Verb::Bench(args) => bench::run(args).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit::Problems(problems)) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("{}", count(problems.len()));
            ExitCode::from(EXIT_USAGE)
        }
        Err(Exit::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Exit::Failed(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why a verb did not end well, by exit code.
#[derive(Debug)]
enum Exit {
    /// The configuration is wrong: 64.
    Problems(Vec<Problem>),
    /// The arguments are: 64.
    Usage(String),
    /// Anything else: 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Exit {
    fn from(error: E) -> Self {
        Exit::Failed(error.into())
    }
}

/// Reads `20s`, `2m`, `1h` or `500ms`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("\"{text}\" is no duration; write 20s, 2m, 1h or 500ms"))?;
    let unit_ms = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1_000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        _ => return Err(format!("\"{text}\" has no unit; write 20s, 2m, 1h or 500ms")),
    };
    Ok(std::time::Duration::from_millis(number.saturating_mul(unit_ms)))
}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    }
}
