//! `hookgate replay`: recorded calls through another version of their guest, and what it would have answered differently.
//!
//! Files are read twice: once to see that every line is in order and whose calls they are, once to run them, one after the other.

mod report;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;

use self::report::Report;
use super::{ConfigFile, Exit};
use crate::{
    config::{self, Config, nearest},
    guest::{Beneath, Engine, Guest, SampleError, Samples, State},
    metrics::Metrics,
};

/// Arguments of `hookgate replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Captures, or samples written by hand: one call to a line.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The version to run them through.
    #[arg(long, value_name = "WASM")]
    guest: PathBuf,
    #[command(flatten)]
    file: ConfigFile,
    /// The guest of the configuration whose keys, settings, grants and limits it gets, and whose calls are run; by default the one that the
    /// files name.
    #[arg(long)]
    name: Option<String>,
    /// A setting, instead of what the configuration says; may be given several times.
    #[arg(long = "set", value_name = "SETTING=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Show at most so many samples that differ; all are counted.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.filter(|(name, _)| !name.is_empty()).ok_or_else(|| format!("\"{text}\" sets nothing; write max_age_s=60"))
}

/// What is in the files.
#[derive(Default)]
struct Inventory {
    samples: usize,
    /// Samples by the guest that they name; `None`: they name none.
    guests: BTreeMap<Option<String>, usize>,
    /// Files whose last line a killed process left unfinished, with its number.
    cut_off: Vec<(PathBuf, usize)>,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    let (config, problems) = Config::inspect(&args.file.config).map_err(Exit::Problems)?;
    if !problems.is_empty() {
        return Err(Exit::Problems(problems));
    }
    let inventory = take_inventory(&args.files).map_err(wrong_file)?;
    let name = name(&args, &config, &inventory)?;
    let guest = load(&args, &config, &name).await?;
    let mut report = Report::new(&name, guest.digest(), args.limit, args.json, inventory.samples)?;
    for (file, line) in &inventory.cut_off {
        report.note(format!("{}:{line} was cut off while it was written; passed over", file.display()));
    }
    for file in &args.files {
        for numbered in Samples::open(file).map_err(wrong_file)? {
            let numbered = numbered.map_err(wrong_file)?;
            let sample = &numbered.sample;
            if sample.guest.as_ref().is_some_and(|of| **of != *name) {
                report.pass_over_another_guests();
                continue;
            }
            match guest.rehearse(sample, Beneath::Nothing).await {
                Some(rehearsed) => report.take(file, numbered.line, sample, &rehearsed),
                None => report.pass_over_incomplete(),
            }
        }
    }
    report.end()
}

/// Reads every file to its end.
fn take_inventory(files: &[PathBuf]) -> Result<Inventory, SampleError> {
    let mut inventory = Inventory::default();
    for file in files {
        let mut samples = Samples::open(file)?;
        for numbered in samples.by_ref() {
            let guest = numbered?.sample.guest.map(|guest| guest.to_string());
            *inventory.guests.entry(guest).or_default() += 1;
            inventory.samples += 1;
        }
        inventory.cut_off.extend(samples.cut_off().map(|line| (file.clone(), line)));
    }
    Ok(inventory)
}

fn wrong_file(error: SampleError) -> Exit {
    Exit::Usage(error.to_string())
}

/// Which guest's calls are run.
fn name(args: &Args, config: &Config, inventory: &Inventory) -> Result<String, Exit> {
    let named: Vec<&String> = inventory.guests.keys().flatten().collect();
    let known: Vec<&str> = config.guests.iter().map(|guest| guest.name.as_str()).collect();
    let usage = |message: String| Err(Exit::Usage(message));
    let name = match (&args.name, named.as_slice(), known.as_slice()) {
        _ if inventory.samples == 0 => return usage("there is no sample in these files".to_owned()),
        (Some(name), ..) => name.clone(),
        (None, [name], _) => (*name).clone(),
        (None, [], [name]) => (*name).to_owned(),
        (None, [], _) => return usage(format!("the samples name no guest; choose one with --name: {}", known.join(", "))),
        (None, many, _) => {
            let many = many.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return usage(format!("the samples are of several guests; choose one with --name: {many}"));
        }
    };
    let own = [None, Some(name.clone())].iter().filter_map(|guest| inventory.guests.get(guest)).sum::<usize>();
    if own == 0 {
        let named = named.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        return usage(format!("no sample in these files is of the guest \"{name}\"; they are of: {named}"));
    }
    Ok(name)
}

/// Loads the component as the configured guest of that name.
async fn load(args: &Args, config: &Config, name: &str) -> Result<Arc<Guest>, Exit> {
    let Some(configured) = config.guests.iter().find(|guest| guest.name == name) else {
        let known = config.guests.iter().map(|guest| guest.name.as_str());
        let near = nearest(name, known).map_or_else(|| "choose one with --name".to_owned(), |near| format!("did you mean --name {near}?"));
        return Err(Exit::Usage(format!("{} has no guest \"{name}\"; {near}", args.file.config.display())));
    };
    let configured = for_replay(configured, &args.settings);
    let bytes = read(&args.guest)?;
    let metrics = Metrics::new();
    let engine = Engine::new(&config.runtime).context("starting the guest engine")?;
    let loaded = Guest::load(&engine, &configured, &config.keys, bytes, State::new(), &metrics).await;
    loaded.map_err(|errors| {
        let file = args.guest.display();
        let lines: Vec<String> = errors.iter().map(|error| format!("{file}: {error}\n    help: {}", error.help())).collect();
        Exit::Usage(lines.join("\n"))
    })
}

fn for_replay(configured: &config::Guest, settings: &[(String, String)]) -> config::Guest {
    let mut configured = configured.clone();
    configured.limits.cpu_share = 1.0; // there is nobody beside it
    for (name, value) in settings {
        configured.settings.retain(|(other, _)| other != name);
        configured.settings.push((name.clone(), value.clone()));
    }
    configured
}

fn read(file: &Path) -> Result<Arc<[u8]>, Exit> {
    std::fs::read(file).map(Arc::from).map_err(|error| Exit::Usage(format!("{}: {error}; name a component with --guest", file.display())))
}
