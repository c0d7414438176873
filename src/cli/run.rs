//! `hookgate run`: start, say `ready`, follow files and signals, drain.

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, Exit};
use crate::{
    bridge::{self, Bridge, StartError},
    config::Config,
};

/// Arguments of `hookgate run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) async fn run(args: Args) -> Result<(), Exit> {
    let file = args.file.config;
    let config = match Config::inspect(&file) {
        Ok((config, problems)) if problems.is_empty() => config,
        _ => return Err(Exit::Problems(bridge::check(&file).await?)), // with those of the guests
    };
    for warning in config.warnings() {
        tracing::warn!(%warning, "the configuration works, and should not be so");
    }
    allow_many_files();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let bridge = match Bridge::start(config).await {
        Ok(bridge) => bridge,
        Err(StartError::Problems(problems)) => return Err(Exit::Problems(problems)),
        Err(StartError::Failed(error)) => return Err(Exit::Failed(error)),
    };
    announce(&bridge);
    {
        let hangups = async {
            loop {
                hangup.recv().await;
                bridge.reload_file(&file).await;
            }
        };
        // Side by side, and nothing is waited for in a branch: a reload that waits there for another one, which nobody polls meanwhile,
        // would wait for ever, and SIGTERM behind it.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangups => {}
            () = bridge.follow(&file) => {}
        }
    }
    drain(bridge).await;
    Ok(())
}

/// Every connection is an open file, and the usual soft limit of 1 024 is meant for programs that use select(2).
fn allow_many_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files, and so connections, that the system allows"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is: connections beyond it will be refused (ulimit -n)"),
    }
}

/// Says `ready` once, with the bound addresses.
fn announce(bridge: &Bridge) {
    let addresses: Vec<String> = bridge.addresses().iter().map(|(name, address)| format!("{name}={address}")).collect();
    let admin = bridge.admin_address().map(tracing::field::display);
    tracing::info!(addresses = addresses.join(","), kafka = bridge.embedded_kafka(), admin, "ready");
}

async fn drain(bridge: Bridge) {
    tracing::info!("draining: no new connections, settling what is in flight");
    let metrics = std::sync::Arc::clone(bridge.metrics());
    match bridge.drain().await {
        0 => tracing::info!("drained"),
        unknown => tracing::warn!(unknown, "drained; these records were not confirmed by Kafka in time, and not acknowledged"),
    }
    tracing::debug!(target: "hookgate::metrics", page = metrics.render(), "metrics at the end");
}
