//! `[guests]`: what all guests of the process share.

use std::path::{Path, PathBuf};

use super::reader::Table;

/// The engine that runs guests; it is made once, so that a change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Instances of all guests and versions that may exist at once; room for them is set aside at the start.
    pub instances: usize,
    /// Linear memory of all instances together, bytes.
    pub memory_bytes: usize,
    /// Stack of one guest, bytes.
    pub stack_bytes: usize,
    /// Versions of each guest that are kept on disk, the running one included; 0: none, the one before is in memory.
    pub history: usize,
    /// Where versions and compiled code are kept; `None`: in memory only.
    pub folder: Option<PathBuf>,
}

/// Without a table and without a folder.
impl Default for Runtime {
    fn default() -> Self {
        Runtime::new(None)
    }
}

impl Runtime {
    /// Without a table.
    pub(super) fn new(data_dir: Option<&Path>) -> Self {
        Runtime {
            instances: 1_000,
            memory_bytes: 4 << 30,
            stack_bytes: 512 << 10,
            history: 5,
            folder: data_dir.map(|folder| folder.join("guests")),
        }
    }

    pub(super) fn read(table: &mut Table<'_>, data_dir: Option<&Path>) -> Self {
        let d = Runtime::new(data_dir);
        if let (Some(place), None) = (table.placed("history"), data_dir) {
            table.refuse_at(&place, "history", " does nothing without a folder to keep it in", "write data_dir = \"data\" in [node]");
        }
        let history = table.integer("history", 0..=1_000, d.history as u64) as usize;
        if let (1, Some(place)) = (history, table.placed("history")) {
            table.refuse_at(&place, "history", " = 1 keeps nothing to go back to", "write 2 or more, or 0");
        }
        Runtime {
            instances: table.integer("instances", 1..=10_000, d.instances as u64) as usize,
            memory_bytes: table.integer("memory_bytes", 1 << 20..=1 << 40, d.memory_bytes as u64) as usize,
            stack_bytes: table.integer("stack_bytes", 64 << 10..=16 << 20, d.stack_bytes as u64) as usize,
            history,
            folder: d.folder,
        }
    }
}
