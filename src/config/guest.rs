//! `[[guest]]`: a WebAssembly component, what it may do and how much of it.

use std::path::{Path, PathBuf};

use super::{
    breaker::Breaker,
    limits::Limits,
    problem::{Place, Placed},
    reader::Table,
    rollout::Rollout,
};

/// A component and its walls.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// How routes name it.
    pub name: String,
    /// Where the table stands.
    pub place: Placed<()>,
    /// Whose it is.
    pub tenant: Option<Placed<String>>,
    /// The component; a relative path starts at the configuration's folder.
    pub path: Placed<PathBuf>,
    /// Capabilities that it may import.
    pub grants: Vec<Grant>,
    /// Names of keys that it may use through `crypto`.
    pub keys: Vec<Placed<String>>,
    /// What `settings.get` answers.
    pub settings: Vec<(String, String)>,
    /// How instances are used.
    pub isolation: Isolation,
    /// Where its state is kept.
    pub state: StateBackend,
    /// How much of everything.
    pub limits: Limits,
    /// When a version that fails is left alone.
    pub breaker: Breaker,
    /// The way of a new version into service.
    pub rollout: Rollout,
}

/// What a guest's table is read beside.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The configuration's folder.
    pub(super) folder: &'a Path,
    pub(super) has_data_dir: bool,
    pub(super) has_redis: bool,
}

macro_rules! grants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A capability that a guest may be given: an interface of the WIT package.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Grant { $($(#[$doc])* $variant,)* }

        impl Grant {
            /// All of them.
            pub const ALL: &'static [Grant] = &[$(Grant::$variant,)*];
            /// The interface's name in the WIT package, and the word in `grants = [...]`.
            pub const fn name(self) -> &'static str { match self { $(Grant::$variant => $name,)* } }
        }
    };
}

grants! {
    /// Write to the log.
    Log = "log";
    /// Read its settings.
    Settings = "settings";
    /// Keep keys and values.
    State = "state";
    /// Count and observe.
    Metrics = "metrics";
    /// Verify with keys that it never sees.
    Crypto = "crypto";
}

/// Where a guest's state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateBackend {
    /// In this process; it ends with it.
    Memory,
    /// In this process and in the store of `data_dir`; it is on the disk before a verdict that it led to takes effect.
    Disk,
    /// In the Redis of `[redis]`, for several nodes.
    Redis,
}

impl StateBackend {
    /// What a guest's `state = …` says; `Disk` where there is a `data_dir`, else `Memory`.
    pub(super) fn read(table: &mut Table<'_>, granted: bool, around: Around<'_>) -> Self {
        let default = if around.has_data_dir { StateBackend::Disk } else { StateBackend::Memory };
        let words = [("memory", StateBackend::Memory), ("disk", StateBackend::Disk), ("redis", StateBackend::Redis)];
        let Some(chosen) = table.table("state", |state| {
            state.require("backend", "\"memory\", \"disk\" or \"redis\"");
            state.choice("backend", &words)
        }) else {
            return default;
        };
        let Some(Placed { value, place }) = chosen else { return default };
        let refuse = |message: &str, help: &str| table.refuse_at(&place, "state", message, help);
        match value {
            _ if !granted => refuse(" does nothing without the grant \"state\"", "add \"state\" to grants, or remove state"),
            StateBackend::Disk if !around.has_data_dir => refuse(" on disk wants a folder", "write data_dir = \"data\" in [node]"),
            StateBackend::Redis if !around.has_redis => refuse(" in redis wants a Redis", "write [redis] url = \"redis://host:6379\""),
            _ => {}
        }
        value
    }
}

/// How instances are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// One after another on the same instance: what a guest keeps in its memory, it finds again, sometimes.
    Shared,
    /// A fresh instance for every event.
    PerEvent,
}

impl Isolation {
    pub(super) fn read(table: &Table<'_>) -> Self {
        table
            .choice("isolation", &[("shared", Isolation::Shared), ("per-event", Isolation::PerEvent)])
            .map_or(Isolation::Shared, |word| word.value)
    }
}

impl Guest {
    pub(super) fn read(table: &mut Table<'_>, around: Around<'_>) -> Option<Self> {
        let name = table.required_text("name", "\"verify\"");
        let path = table.required_text("path", "\"verify.wasm\"");
        let known: Vec<&str> = Grant::ALL.iter().map(|grant| grant.name()).collect();
        let mut grants = Vec::new();
        for word in table.texts("grants") {
            match Grant::ALL.iter().find(|grant| grant.name() == word.value) {
                Some(grant) => grants.push(*grant),
                None => {
                    let help = super::problem::did_you_mean(&word.value, &known);
                    table.refuse_at(&word.place, "grants", format_args!(": \"{}\" is no capability", word.value), help);
                }
            }
        }
        let keys = table.texts("keys");
        let settings = table.free_texts("settings").into_iter().map(|(name, value)| (name, value.value)).collect();
        let tenant = table.text("tenant");
        let isolation = Isolation::read(table);
        let state = StateBackend::read(table, grants.contains(&Grant::State), around);
        let limits = table.table("limits", Limits::read).unwrap_or_default();
        let breaker = table.table("breaker", Breaker::read).unwrap_or_default();
        let rollout = Rollout::read(table, around.folder);
        if let (Some(key), false) = (keys.first(), grants.contains(&Grant::Crypto)) {
            table.refuse_at(&key.place, "keys", " do nothing without the grant \"crypto\"", "add \"crypto\" to grants, or remove keys");
        }
        let (name, path) = (name?, path?);
        Some(Guest {
            name: name.value,
            place: Placed { value: (), place: table.place().clone() },
            tenant,
            path: Placed { value: around.folder.join(path.value), place: path.place },
            grants,
            keys,
            settings,
            isolation,
            state,
            limits,
            breaker,
            rollout,
        })
    }

    /// Where its table stands.
    pub fn place(&self) -> &Place {
        &self.place.place
    }
}
