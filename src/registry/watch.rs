//! Files that may change while the process runs: written in place, written slowly, replaced by rename, or behind a link that moves.
//!
//! What counts is a file's [`Fingerprint`]; the operating system's notices only say when to look. They are taken from the folders, not
//! the files, because a replaced file is another file; and a look is taken now and then without a notice, for the file systems that give
//! none.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A file is taken as written when nothing about it has changed for so long.
const QUIET: Duration = Duration::from_millis(100);
/// Between two looks, however many notices a busy folder gives.
const BREATH: Duration = Duration::from_millis(10);
/// A look without a notice.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one content of a file from the next, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Where links lead.
    target: Option<PathBuf>,
    inode: u64,
}

impl Fingerprint {
    /// `None` when there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Fingerprint {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            target: path.canonicalize().ok(),
            inode: inode(&metadata),
        })
    }
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &std::fs::Metadata) -> u64 {
    0
}

/// Watches files.
#[derive(Debug)]
pub struct Watch {
    seen: BTreeMap<PathBuf, Option<Fingerprint>>,
    folders: BTreeSet<PathBuf>,
    notices: Arc<Notify>,
    /// `None` when the system gives no notices; looking every [`LOOK_EVERY`] is what remains.
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches these files; a file that does not exist is watched for.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let notices = Arc::new(Notify::new());
        let noticed = Arc::clone(&notices);
        let watcher = notify::recommended_watcher(move |_event| noticed.notify_one());
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "files are looked at every {LOOK_EVERY:?} only")).ok();
        let mut watch = Watch { seen: BTreeMap::new(), folders: BTreeSet::new(), notices, watcher };
        watch.set_paths(paths);
        watch
    }

    /// Watches these files from now on, those that were watched before with what was known of them.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut known = std::mem::take(&mut self.seen);
        for path in paths {
            let seen = known.remove(&path).unwrap_or_else(|| Fingerprint::of(&path));
            self.seen.insert(path, seen);
        }
        self.watch_folders();
    }

    /// Waits until some of the files have changed and are quiet again; returns those. Cancel-safe: what was not returned is found again.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            let now = self.look();
            if now == self.seen {
                // A notice, or the time for a look without one.
                let _ = tokio::time::timeout(LOOK_EVERY, self.notices.notified()).await;
                tokio::time::sleep(BREATH).await;
                continue;
            }
            tokio::time::sleep(QUIET).await;
            if self.look() != now {
                continue;
            }
            let changed = now.iter().filter(|(path, fingerprint)| self.seen.get(*path) != Some(fingerprint));
            let changed: Vec<PathBuf> = changed.map(|(path, _)| path.clone()).collect();
            self.seen = now;
            self.watch_folders();
            return changed;
        }
    }

    fn look(&self) -> BTreeMap<PathBuf, Option<Fingerprint>> {
        self.seen.keys().map(|path| (path.clone(), Fingerprint::of(path))).collect()
    }

    /// Asks for notices from the folders in which the files stand, by name and, through links, in fact.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let named = self.seen.keys().map(|path| folder(path));
        let linked = self.seen.values().flatten().filter_map(|fingerprint| fingerprint.target.as_deref().map(folder));
        let wanted: BTreeSet<PathBuf> = named.chain(linked).collect();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone); // the folder may be gone itself
        }
        let mut watched = BTreeSet::new();
        for path in wanted {
            let known = self.folders.contains(&path);
            match if known { Ok(()) } else { watcher.watch(&path, RecursiveMode::NonRecursive) } {
                Ok(()) => {
                    watched.insert(path);
                }
                Err(error) => tracing::warn!(%error, folder = %path.display(), "files here are looked at every {LOOK_EVERY:?} only"),
            }
        }
        self.folders = watched;
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    /// Long enough for any machine; nothing waits for its end.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn changed(watch: &mut Watch) -> Vec<PathBuf> {
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("the change is seen")
    }

    #[tokio::test]
    async fn files_written_replaced_removed_and_made_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "1").unwrap();
        let mut watch = Watch::new([one.clone(), two.clone()]);

        fs::write(&one, "22").unwrap();
        assert_eq!(changed(&mut watch).await, std::slice::from_ref(&one));
        fs::write(folder.path().join("new"), "33").unwrap();
        fs::rename(folder.path().join("new"), &one).unwrap();
        assert_eq!(changed(&mut watch).await, std::slice::from_ref(&one));
        fs::write(&two, "").unwrap();
        fs::remove_file(&one).unwrap();
        assert_eq!(changed(&mut watch).await, [one.clone(), two.clone()]);

        let other = tempfile::tempdir().unwrap();
        let three = other.path().join("three");
        watch.set_paths([two.clone(), three.clone()]);
        fs::write(&one, "not watched any more").unwrap();
        fs::write(&three, "").unwrap();
        assert_eq!(changed(&mut watch).await, [three]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_moves_is_seen() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("guest.wasm"), version).unwrap();
        }
        symlink("v1", path("data")).unwrap();
        symlink("data/guest.wasm", path("guest.wasm")).unwrap();
        let mut watch = Watch::new([path("guest.wasm")]);
        symlink("v2", path("next")).unwrap();
        fs::rename(path("next"), path("data")).unwrap();
        assert_eq!(changed(&mut watch).await, [path("guest.wasm")]);
        fs::write(path("v2").join("guest.wasm"), "changed where the link leads").unwrap();
        assert_eq!(changed(&mut watch).await, [path("guest.wasm")]);
    }

    #[tokio::test]
    async fn a_file_written_slowly_is_seen_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slow");
        let mut watch = Watch::new([path.clone()]);
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut file = fs::File::create(path).unwrap();
                for _ in 0..20 {
                    file.write_all(b"0123456789").unwrap();
                    std::thread::sleep(QUIET / 10);
                }
            })
        };
        let mut seen_bytes = 0;
        while seen_bytes < 200 {
            assert_eq!(changed(&mut watch).await, std::slice::from_ref(&path));
            seen_bytes = fs::metadata(&path).unwrap().len();
        }
        writer.join().unwrap();
    }
}
