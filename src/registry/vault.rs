//! Where former versions are kept: `data_dir/guests/versions/NAME/`, a file per component and an index; without a `data_dir`, in memory.
//!
//! Invariants: the index is replaced whole and names only components that are on the disk; a component is given out only if it has the digest
//! that it is kept under. Absent: the clean-up of guests that left the configuration; their folders stay until somebody removes them.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::ledger::{Kept, Ledger};
use crate::{config::Runtime, guest};

/// Raised when the index changes its meaning.
const FORMAT: u32 = 1;
/// The fewest versions that are kept: the running one and the one before.
const IN_MEMORY: usize = 2;
/// The longest name that is a folder's as it is.
const MAX_FOLDER_BYTES: usize = 200;

/// What could not be kept or found again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
    /// The disk says no.
    #[error("{path} cannot be used: {error}; see to its permissions and room, or remove it", path = .path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// In the system's words.
        error: String,
    },
    /// The index is not one of ours.
    #[error("{path} is not an index of versions: {error}; remove it, and the guest's file is taken as if it were the first", path = .path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The component is not there any more, or not what it was.
    #[error("version {0} is not kept any more, or was damaged")]
    Component(String),
}

/// Keeps versions.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    folder: Option<PathBuf>,
    keep: usize,
}

#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    #[serde(flatten)]
    ledger: Ledger,
}

impl Vault {
    pub(super) fn new(settings: &Runtime) -> Self {
        match &settings.folder {
            Some(folder) if settings.history > 0 => Vault { folder: Some(folder.join("versions")), keep: settings.history.max(IN_MEMORY) },
            _ => Vault { folder: None, keep: IN_MEMORY },
        }
    }

    /// Versions of each guest that are kept.
    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    /// What an earlier process wrote about a guest; empty when there is nothing.
    pub(super) async fn read(&self, name: &str) -> Result<Ledger, VaultError> {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(escaped(name))) else { return Ok(Ledger::default()) };
        off_thread(&folder, {
            let folder = folder.clone();
            move || read(&folder)
        })
        .await
    }

    /// Makes a guest's versions durable; those that the ledger does not name any more are removed. What is on disk then leaves the memory.
    pub(super) async fn write(&self, name: &str, ledger: &mut Ledger) -> Result<(), VaultError> {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(escaped(name))) else { return Ok(()) };
        let written = ledger.clone();
        let writing = {
            let folder = folder.clone();
            move || write(&folder, written)
        };
        off_thread(&folder, writing).await?;
        ledger.versions.iter_mut().for_each(|kept| kept.bytes = None);
        Ok(())
    }

    /// The component of a version.
    pub(super) async fn component(&self, name: &str, kept: &Kept) -> Result<Arc<[u8]>, VaultError> {
        if let Some(bytes) = &kept.bytes {
            return Ok(Arc::clone(bytes));
        }
        let Some(folder) = &self.folder else { return Err(VaultError::Component(kept.digest.clone())) };
        let (path, digest) = (component_file(&folder.join(escaped(name)), &kept.digest), kept.digest.clone());
        off_thread(&path.clone(), move || {
            let bytes: Arc<[u8]> = fs::read(&path).map_err(|_gone| VaultError::Component(digest.clone()))?.into();
            if guest::digest(&bytes) == digest { Ok(bytes) } else { Err(VaultError::Component(digest)) }
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(VaultError::Disk { path: path.to_owned(), error: error.to_string() }))
}

fn read(folder: &Path) -> Result<Ledger, VaultError> {
    let path = folder.join("index.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
        Err(error) => return Err(VaultError::Disk { path, error: error.to_string() }),
    };
    let wrong = |error: String| VaultError::Index { path: path.clone(), error };
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if index.format != FORMAT {
        return Err(wrong(format!("its format is {}, and this is a Hookgate that knows {FORMAT}", index.format)));
    }
    Ok(index.ledger)
}

fn write(folder: &Path, ledger: Ledger) -> Result<(), VaultError> {
    let disk = |path: &Path, error: &dyn std::fmt::Display| VaultError::Disk { path: path.to_owned(), error: error.to_string() };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| disk(folder, &error))?;
    for kept in &ledger.versions {
        let path = component_file(folder, &kept.digest);
        match &kept.bytes {
            Some(bytes) if !path.exists() => replace(&path, bytes).map_err(|error| disk(&path, &error))?,
            _ => {}
        }
    }
    let digests: Vec<String> = ledger.versions.iter().map(|kept| kept.digest.clone()).collect();
    let index = folder.join("index.json");
    let json = serde_json::to_vec_pretty(&Index { format: FORMAT, ledger }).map_err(|error| disk(&index, &error))?;
    replace(&index, &json).map_err(|error| disk(&index, &error))?;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let gone =
            name.to_str().and_then(|name| name.strip_suffix(".wasm")).is_some_and(|digest| !digests.iter().any(|kept| kept == digest));
        if gone {
            let _ = fs::remove_file(entry.path()); // it is looked for again with the next change
        }
    }
    Ok(())
}

/// Puts `bytes` at `path`, whole and on the disk, or not at all; readable by this user alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

fn component_file(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("{digest}.wasm"))
}

/// A guest's name as a folder's: everything but the plainest characters percent-encoded, very long ones by their digest.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let text: String = name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect();
    if text.len() > MAX_FOLDER_BYTES { format!("%{}", guest::digest(name.as_bytes())) } else { text }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::registry::ledger::Cause;

    fn vault(folder: &Path, keep: usize) -> Vault {
        Vault { folder: Some(folder.join("guests/versions")), keep }
    }

    fn enter(ledger: &mut Ledger, component: &str, now_ms: u64) -> String {
        let digest = guest::digest(component.as_bytes());
        ledger.enter(&digest, Some(component.as_bytes().into()), now_ms, 2);
        digest
    }

    #[tokio::test]
    async fn versions_outlive_the_process_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let vault = vault(folder.path(), 2);
        let mut ledger = vault.read("a/../b").await.unwrap();
        assert_eq!(ledger, Ledger::default());
        let digests: Vec<String> =
            ["one", "two", "three"].into_iter().enumerate().map(|(at, text)| enter(&mut ledger, text, at as u64)).collect();
        ledger.refuse("beef", Cause::Circuit, "it failed", 7);
        vault.write("a/../b", &mut ledger).await.unwrap();
        assert!(ledger.versions.iter().all(|kept| kept.bytes.is_none()));

        let again = vault.read("a/../b").await.unwrap();
        assert_eq!((&again, again.refuses("beef"), again.versions.len()), (&ledger, true, 2));
        assert_eq!(&*vault.component("a/../b", &again.versions[1]).await.unwrap(), b"two");
        let inside = folder.path().join("guests/versions/a%2F%2E%2E%2Fb");
        let mut files: Vec<String> =
            fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut expected = vec![format!("{}.wasm", digests[1]), format!("{}.wasm", digests[2]), "index.json".to_owned()];
        expected.sort();
        assert_eq!(files, expected);
        for path in [inside.clone(), inside.join("index.json")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn what_was_damaged_is_not_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let vault = vault(folder.path(), 2);
        let mut ledger = Ledger::default();
        let digest = enter(&mut ledger, "one", 0);
        vault.write("g", &mut ledger).await.unwrap();
        let inside = folder.path().join("guests/versions/g");
        fs::write(inside.join(format!("{digest}.wasm")), "another").unwrap();
        assert!(matches!(vault.component("g", &ledger.versions[0]).await, Err(VaultError::Component(_))));
        for text in ["{", "{\"format\": 2, \"versions\": [], \"refused\": null}"] {
            fs::write(inside.join("index.json"), text).unwrap();
            assert!(matches!(vault.read("g").await, Err(VaultError::Index { .. })), "{text}");
        }
    }

    #[test]
    fn names_are_folders() {
        for (name, expected) in [("verify-2_b", "verify-2_b"), ("..", "%2E%2E"), ("a/b", "a%2Fb"), ("ä", "%C3%A4")] {
            assert_eq!(escaped(name), expected);
        }
        assert_eq!(escaped(&"/".repeat(300)).len(), 65);
    }
}
