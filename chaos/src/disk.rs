//! The disk under Hookgate's `data_dir`: a small file system of its own that can be filled, and held up.
//!
//! An ext4 in a file, where this process may mount one; `fsfreeze` makes whoever writes wait, for a slow disk again and again for a part of
//! a second. Else a tmpfs, which can only be filled. Else a plain folder, to which nothing is done.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, fallocate};

use crate::process::run;

/// Room for the store, the spool and their growth while Kafka is away.
const BYTES: u64 = 768 << 20;
/// Of a slow disk: how long a writer waits, and how long it may then write.
const SLOW: (Duration, Duration) = (Duration::from_millis(90), Duration::from_millis(15));

/// The disk; dropping it heals and unmounts it.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ext4,
    Tmpfs,
    Plain,
}

impl Disk {
    /// Makes the best one that this machine allows, at `folder`; says aloud what is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for kind in [Kind::Ext4, Kind::Tmpfs] {
            let mounted = if kind == Kind::Ext4 { mount_ext4(folder) } else { mount_tmpfs(folder) };
            match mounted {
                Ok(()) => return Ok(Disk { folder: folder.to_owned(), kind }),
                Err(error) => {
                    let lost = if kind == Kind::Ext4 { "the disk cannot be slow" } else { "the disk cannot be full" };
                    eprintln!("chaos: ATTENTION: {lost} in this run: {error:#} (root may; so may `unshare -rm` for a full disk)");
                }
            }
        }
        Ok(Disk { folder: folder.to_owned(), kind: Kind::Plain })
    }

    /// Ends what a run left that was killed.
    pub(crate) fn clear(folder: &Path) {
        if let Some(folder) = folder.to_str().filter(|_| folder.exists()) {
            // Where nothing is mounted, both say so, and that is well.
            let _ = run("fsfreeze", &["-u", folder]);
            let _ = run("umount", &[folder]);
        }
    }

    pub(crate) fn fills(&self) -> bool {
        self.kind != Kind::Plain
    }

    pub(crate) fn freezes(&self) -> bool {
        self.kind == Kind::Ext4
    }

    /// Takes the last byte.
    ///
    /// # Errors
    /// The system says no, for another reason than that it is full.
    pub(crate) fn fill(&self) -> Result<()> {
        let filler = File::create(self.filler())?;
        let mut piece = 64 << 20;
        let mut taken = 0;
        while piece >= 4_096 {
            match fallocate(&filler, FallocateFlags::empty(), taken, piece) {
                Ok(()) => taken += piece,
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        Ok(())
    }

    /// Gives it all back.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn free(&self) -> Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Holds writers up.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.fsfreeze("-f")
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.fsfreeze("-u")
    }

    /// Holds writers up and lets them go, until `end`.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn slow(&self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.freeze()?;
            thread::sleep(SLOW.0);
            self.thaw()?;
            thread::sleep(SLOW.1);
        }
        Ok(())
    }

    fn fsfreeze(&self, what: &str) -> Result<()> {
        run("fsfreeze", &[what, &self.folder.to_string_lossy()])
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.kind != Kind::Plain {
            Disk::clear(&self.folder);
        }
    }
}

fn mount_ext4(folder: &Path) -> Result<()> {
    let image = folder.with_extension("img");
    File::create(&image)?.set_len(BYTES)?;
    let (image, folder) = (image.to_string_lossy(), folder.to_string_lossy());
    run("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
    run("mount", &["-o", "loop", &image, &folder])?;
    let frozen = run("fsfreeze", &["-f", &folder]).and_then(|()| run("fsfreeze", &["-u", &folder]));
    if frozen.is_err() {
        run("umount", &[&folder])?;
    }
    frozen
}

fn mount_tmpfs(folder: &Path) -> Result<()> {
    let size = format!("size={BYTES}");
    run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &folder.to_string_lossy()])
}
