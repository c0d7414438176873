//! What is said about a configuration without opening a door.

use std::path::Path;

use anyhow::Context as _;

use super::read_access;
use crate::{
    config::{Config, Problem},
    kafka::Inspection,
    metrics::Metrics,
    outbox::Outbox,
    registry::{Guests, Registry},
    source::{downlink::Downlinks, mqtt::Broker},
};

/// Every problem of a configuration file, its guests included, without opening a door.
///
/// # Errors
/// The engine that tries guests cannot start.
pub async fn check(file: &Path) -> anyhow::Result<Vec<Problem>> {
    let (config, mut problems) = match Config::inspect(file) {
        Ok(read) => read,
        Err(problems) => return Ok(problems),
    };
    let registry = Registry::for_trial(&config.runtime, &Metrics::new()).context("starting the guest engine")?;
    if let Err(more) = registry.load(&config, &Guests::default()).await {
        problems.extend(more);
    }
    problems.extend(read_access(&config).await.err().unwrap_or_default());
    problems.extend(Broker::check(&config));
    problems.extend(Downlinks::check(&config));
    problems.extend(Outbox::check(&config).err().into_iter().flatten().filter_map(|error| error.problem()));
    problems.sort();
    problems.dedup();
    Ok(problems)
}

/// What works in a configuration file, and should not be so; and what its clusters say to it, if they are to be asked.
///
/// # Errors
/// The file cannot be read, or librdkafka does not take what it says.
pub async fn look_closer(file: &Path, connect: bool) -> anyhow::Result<(Vec<Problem>, Vec<Inspection>)> {
    let Ok((config, _)) = Config::inspect(file) else { return Ok((Vec::new(), Vec::new())) };
    let warnings = config.warnings();
    if !connect {
        return Ok((warnings, Vec::new()));
    }
    let inspections = tokio::task::spawn_blocking(move || Outbox::inspect(&config)).await.context("asking Kafka")??;
    Ok((warnings, inspections))
}
