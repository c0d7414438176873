//! `capture = {…}` of a route: real calls of its guests, recorded for `hookgate replay`.

use std::path::{Path, PathBuf};

use super::reader::Table;

/// Which calls are recorded, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// Which part of the route's events, above 0 to 1.
    pub sample: f64,
    /// The files of this route take no more, bytes; the oldest go.
    pub max_bytes: u64,
    /// Where the files are.
    pub folder: PathBuf,
}

impl Capture {
    pub(super) fn read(table: &mut Table<'_>, folder: &Path, data_dir: Option<&Path>) -> Option<Self> {
        let named = table.text("folder").map(|named| folder.join(named.value));
        let folder = named.or_else(|| data_dir.map(|data_dir| data_dir.join("captures")));
        let sample = table.number("sample", 0.000_001..=1.0).unwrap_or(0.01);
        let max_bytes = table.integer("max_bytes", 64 << 10..=1 << 40, 64 << 20);
        if folder.is_none() {
            table.refuse("there is no folder for the files", "write folder = \"captures\" here, or data_dir = \"data\" in [node]");
        }
        Some(Capture { sample, max_bytes, folder: folder? })
    }
}
