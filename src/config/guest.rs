//! `[[guest]]`: a WebAssembly component, what it may do and how much of it.

use std::path::PathBuf;

use super::{
    problem::{Place, Placed},
    reader::Table,
};

/// A component and its walls.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// How routes name it.
    pub name: String,
    /// Where the table stands.
    pub place: Placed<()>,
    /// The component; a relative path starts at the configuration's folder.
    pub path: Placed<PathBuf>,
    /// Capabilities that it may import.
    pub grants: Vec<Grant>,
    /// Names of keys that it may use through `crypto`.
    pub keys: Vec<Placed<String>>,
    /// What `settings.get` answers.
    pub settings: Vec<(String, String)>,
    /// How much of everything.
    pub limits: Limits,
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

/// Bounds for one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call, milliseconds.
    pub deadline_ms: u64,
    /// Start of one instance (`lifecycle.start`), milliseconds.
    pub start_deadline_ms: u64,
    /// Linear memory of one instance, bytes.
    pub memory_bytes: usize,
    /// What one call may hand to the host (verdict, texts, payloads), bytes.
    pub returned_bytes: usize,
    /// Instances that may exist at once.
    pub instances: usize,
    /// How long an event waits for a free instance before `on_failure`, milliseconds.
    pub instance_wait_ms: u64,
    /// Lines per second that it may log; the rest is counted.
    pub log_lines_per_s: u32,
    /// Keys in its state.
    pub state_keys: usize,
    /// Bytes in its state.
    pub state_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            deadline_ms: 20,
            start_deadline_ms: 1_000,
            memory_bytes: 32 << 20,
            returned_bytes: 2 << 20,
            instances: 16,
            instance_wait_ms: 1_000,
            log_lines_per_s: 100,
            state_keys: 1_000_000,
            state_bytes: 256 << 20,
        }
    }
}

impl Limits {
    #[rustfmt::skip]
    fn read(table: &mut Table<'_>) -> Self {
        let d = Limits::default();
        Limits {
            deadline_ms: table.integer("deadline_ms", 1..=60_000, d.deadline_ms),
            start_deadline_ms: table.integer("start_deadline_ms", 1..=600_000, d.start_deadline_ms),
            memory_bytes: table.integer("memory_bytes", 65_536..=4 << 30, d.memory_bytes as u64) as usize,
            returned_bytes: table.integer("returned_bytes", 1_024..=1 << 30, d.returned_bytes as u64) as usize,
            instances: table.integer("instances", 1..=10_000, d.instances as u64) as usize,
            instance_wait_ms: table.integer("instance_wait_ms", 0..=60_000, d.instance_wait_ms),
            log_lines_per_s: table.integer("log_lines_per_s", 0..=1_000_000, d.log_lines_per_s.into()) as u32,
            state_keys: table.integer("state_keys", 0..=1 << 40, d.state_keys as u64) as usize,
            state_bytes: table.integer("state_bytes", 0..=1 << 40, d.state_bytes as u64) as usize,
        }
    }
}

impl Guest {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
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
        let limits = table.table("limits", Limits::read).unwrap_or_default();
        if let (Some(key), false) = (keys.first(), grants.contains(&Grant::Crypto)) {
            table.refuse_at(&key.place, "keys", " do nothing without the grant \"crypto\"", "add \"crypto\" to grants, or remove keys");
        }
        let (name, path) = (name?, path?);
        Some(Guest {
            name: name.value,
            place: Placed { value: (), place: table.place().clone() },
            path: Placed { value: PathBuf::from(path.value), place: path.place },
            grants,
            keys,
            settings,
            limits,
        })
    }

    /// Where its table stands.
    pub fn place(&self) -> &Place {
        &self.place.place
    }
}
