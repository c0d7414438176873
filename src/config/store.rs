//! `[store]`: how durable sessions, retained messages and guests' state are, where there is a `data_dir`.

use std::path::PathBuf;

use super::{problem::Placed, reader::Table};

/// Where and how durable state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `[node] data_dir`
    pub folder: PathBuf,
    /// When what is written reaches the disk itself.
    pub sync: SyncPolicy,
    /// Guests, as `guest` or `tenant/guest`, whose state is removed at the start unless they are there and use it.
    pub forget_state: Vec<String>,
}

/// When what is written reaches the disk itself; the death of the process alone loses nothing under any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before anything that depends on it is acknowledged.
    Always,
    /// Every so many milliseconds: a loss of power may cost what was acknowledged since.
    Interval(u64),
    /// When the system likes.
    Never,
}

impl Store {
    /// Reads `[store]` of the top table.
    pub(super) fn read(table: &Table<'_>, folder: Option<PathBuf>) -> Option<Self> {
        let read = table.table("store", |store| {
            if folder.is_none() {
                let text = "does nothing without a `data_dir`: sessions live in memory only";
                store.refuse(text, "write data_dir = \"data\" in [node], or remove [store]");
            }
            let forget_state = store.texts("forget_state").into_iter().map(|name| name.value).collect();
            (SyncPolicy::read(store), forget_state)
        });
        let (sync, forget_state) = read.unwrap_or((SyncPolicy::Always, Vec::new()));
        Some(Store { folder: folder?, sync, forget_state })
    }
}

impl SyncPolicy {
    /// The default interval.
    const INTERVAL_MS: u64 = 1_000;

    fn read(table: &Table<'_>) -> Self {
        let words = [("always", SyncPolicy::Always), ("interval", SyncPolicy::Interval(0)), ("never", SyncPolicy::Never)];
        let sync = table.choice("sync", &words).map_or(SyncPolicy::Always, |Placed { value, .. }| value);
        let interval_ms = table.integer("sync_interval_ms", 1..=3_600_000, Self::INTERVAL_MS);
        match (sync, table.placed("sync_interval_ms")) {
            (SyncPolicy::Interval(_), _) => SyncPolicy::Interval(interval_ms),
            (sync, None) => sync,
            (sync, Some(place)) => {
                table.refuse_at(&place, "sync_interval_ms", " does nothing with this `sync`", "write sync = \"interval\", or remove it");
                sync
            }
        }
    }
}
