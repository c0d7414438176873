//! What outlives the process is opened before anything else, because guests and sessions begin with what is in it.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    config::Config,
    metrics::Metrics,
    store::{Restored, Store},
};

/// Opens the store, if there is one; with what was in it.
pub(super) async fn open(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Option<(Store, Restored)>> {
    let Some(config) = config.store.clone() else {
        tracing::info!("no data_dir: sessions, retained messages and guests' state live in memory and end with the process");
        return Ok(None);
    };
    let metrics = Arc::clone(metrics);
    let opened = tokio::task::spawn_blocking(move || Store::open(&config, &metrics)).await;
    let (store, restored) = opened.context("the store's opening stopped")?.context("opening the store")?;
    let queued: usize = restored.sessions.iter().map(|session| session.queue.len() + session.flights.len()).sum();
    tracing::info!(sessions = restored.sessions.len(), queued, retained = restored.retained.len(), "restored from the store");
    Ok(Some((store, restored)))
}

/// Commits what is left and closes it; nobody adds anything any more.
pub(super) async fn close(store: Option<Store>) {
    if let Some(store) = store {
        let _ = tokio::task::spawn_blocking(move || store.close()).await; // an error: it has panicked, and said so
    }
}
