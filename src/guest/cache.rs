//! Compiled code, kept in a folder of this process's own so that a restart need not compile: `guests/compiled/` of the `data_dir`.
//!
//! # Why this may be trusted
//! `Component::deserialize` takes machine code: whoever can choose its bytes runs in this process. Therefore
//! - files are named by the SHA-256 of the component and wasmtime's compatibility hash, and hold the output of our own compiler for exactly
//!   these, written whole by rename, readable and writable by this user alone, in a folder that only this user can enter;
//! - before it is used, a file must be a plain file (no link), belong to this user, be closed to everybody else, and so must its folder; these
//!   are asked of the open file, so that nothing can be put in its place between the question and the use;
//! - it begins with a SHA-256 of the rest, so that a damaged or cut file is noticed.
//!
//! Whoever can write here as this user can as well change the binary or the guests: the checksum is against damage, not against them. Anything
//! odd is logged, and the component is compiled as if there were no file.
#![allow(unsafe_code, reason = "the one place where compiled components are loaded; the reasoning is above")]

use std::{
    fs,
    hash::{Hash, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use prometheus_client::metrics::counter::Counter;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::{config::Runtime, metrics::Metrics};

/// SHA-256 of what follows it.
const CHECKSUM_BYTES: usize = 32;
/// The longest file that is read; compiled code is a few times as long as its component.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// What others must not have: anything.
const OTHERS: u32 = 0o077;
/// Files that are kept beyond one for each kept version: canaries, and versions that were refused after they were compiled.
const SPARE: usize = 8;

/// Compiles, or finds compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    /// `None`: there is no folder, everything is compiled.
    folder: Option<Arc<PathBuf>>,
    compilations: Counter,
    hits: Counter,
}

impl Cache {
    pub(super) fn new(settings: &Runtime, metrics: &Metrics) -> Self {
        Cache {
            folder: settings.folder.as_ref().map(|folder| Arc::new(folder.join("compiled"))),
            compilations: metrics.guest_compilations.clone(),
            hits: metrics.guest_cache_hits.clone(),
        }
    }

    /// The compiled component. Blocks, for as long as compiling takes if need be.
    pub(super) fn component(&self, engine: &wasmtime::Engine, digest: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let path = self.folder.as_ref().map(|folder| folder.join(name(engine, digest)));
        if let Some(found) = path.as_deref().and_then(|path| find(engine, path)) {
            self.hits.inc();
            return Ok(found);
        }
        self.compilations.inc();
        let component = Component::from_binary(engine, bytes)?;
        if let Some(path) = path
            && let Err(error) = keep(&path, &component)
        {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept; a restart will compile again");
        }
        Ok(component)
    }

    /// Removes the files that were not used for longest, beyond what `guests` with `versions` each can need. Blocks.
    pub(super) fn prune(&self, guests: usize, versions: usize) {
        let Some(folder) = &self.folder else { return };
        let entries = fs::read_dir(&**folder).into_iter().flatten().flatten();
        let compiled = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"));
        let used = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut files: Vec<(SystemTime, PathBuf)> = compiled.map(|entry| (used(&entry), entry.path())).collect();
        files.sort_by(|one, other| other.cmp(one));
        for (_, path) in files.into_iter().skip(guests.saturating_mul(versions).saturating_add(SPARE)) {
            let _ = fs::remove_file(path); // it is tried again next time
        }
    }
}

/// `<sha256 of the component>-<compatibility hash>.cwasm`
fn name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut compatibility = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    format!("{}-{:016x}.cwasm", digest, compatibility.finish())
}

/// A hasher that is the same in every build of Hookgate, unlike the standard library's.
struct Stable(Sha256);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// What is kept there, if it can be used.
fn find(engine: &wasmtime::Engine, path: &Path) -> Option<Component> {
    match load(engine, path) {
        Ok(component) => component,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = format!("{error:#}"), "compiled code cannot be used; compiling again");
            None
        }
    }
}

fn load(engine: &wasmtime::Engine, path: &Path) -> wasmtime::Result<Option<Component>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let (checksum, compiled) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or_else(|| wasmtime::Error::msg("the file is cut off"))?;
    if Sha256::digest(compiled).as_slice() != checksum {
        return Err(wasmtime::Error::msg("the file was damaged"));
    }
    // SAFETY: the bytes are what `Component::serialize` gave this program for this component and this engine's settings: see the head of
    // this file for who could have written them. wasmtime itself checks its version and settings in what it wrote.
    let component = unsafe { Component::deserialize(engine, compiled) }?;
    Ok(Some(component))
}

/// The file's bytes, if it is ours alone; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let ours = |what: &str, metadata: &fs::Metadata| {
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & OTHERS != 0 {
            return Err(io::Error::other(format!("the {what} does not belong to this user alone")));
        }
        Ok(())
    };
    let open = |path: &Path, flags: rustix::fs::OFlags| {
        fs::OpenOptions::new().read(true).custom_flags((flags | rustix::fs::OFlags::NOFOLLOW).bits().cast_signed()).open(path)
    };
    let folder = match open(path.parent().unwrap_or(Path::new(".")), rustix::fs::OFlags::DIRECTORY) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = match open(path, rustix::fs::OFlags::empty()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    ours("folder", &folder.metadata()?)?;
    let metadata = file.metadata()?;
    ours("file", &metadata)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is no plain file, or too long"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let _ = file.set_modified(SystemTime::now()); // when it was used; what was not is removed first
    Ok(Some(bytes))
}

/// Writes the file whole, or not at all.
fn keep(path: &Path, component: &Component) -> wasmtime::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let compiled = component.serialize()?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // readable and writable by this user alone
    file.write_all(&Sha256::digest(&compiled))?;
    file.write_all(&compiled)?;
    file.persist(path)?; // not synced: after a loss of power the checksum tells, and it is compiled again
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        time::Instant,
    };

    use super::*;
    use crate::guest::{Engine, load};

    struct Try {
        folder: tempfile::TempDir,
        engine: Engine,
        cache: Cache,
    }

    impl Try {
        fn new() -> Try {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache { folder: Some(Arc::new(folder.path().join("compiled"))), ..Cache::default() };
            Try { folder, engine: Engine::new(&Runtime::default()).unwrap(), cache }
        }

        /// Compilations and hits of one load.
        fn load(&self, bytes: &[u8]) -> (u64, u64) {
            let before = (self.cache.compilations.get(), self.cache.hits.get());
            self.cache.component(self.engine.wasmtime(), &load::digest(bytes), bytes).unwrap();
            (self.cache.compilations.get() - before.0, self.cache.hits.get() - before.1)
        }

        fn file(&self) -> PathBuf {
            fs::read_dir(self.folder.path().join("compiled")).unwrap().next().unwrap().unwrap().path()
        }
    }

    /// A component with one core module of many functions.
    fn large(functions: u32) -> Vec<u8> {
        fn number(mut value: u32) -> Vec<u8> {
            let mut bytes = Vec::new();
            loop {
                let byte = (value & 0x7f) as u8;
                value >>= 7;
                bytes.push(if value == 0 { byte } else { byte | 0x80 });
                if value == 0 {
                    return bytes;
                }
            }
        }
        fn section(id: u8, content: &[u8]) -> Vec<u8> {
            [&[id], &*number(content.len() as u32), content].concat()
        }
        let types = section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]); // one type: (i32) -> i32
        let mut declared = number(functions);
        declared.extend(std::iter::repeat_n(0, functions as usize));
        let mut bodies = number(functions);
        for index in 0..functions {
            let mut body = vec![0]; // no locals
            for round in 0..40 {
                // local.get 0; i32.const …; i32.mul; local.get 0; i32.xor; local.set 0
                body.extend([0x20, 0, 0x41, ((index + round) % 60) as u8, 0x6c, 0x20, 0, 0x73, 0x21, 0]);
            }
            body.extend([0x20, 0, 0x0b]); // local.get 0; end
            bodies.extend(number(body.len() as u32));
            bodies.extend(body);
        }
        let module = [b"\0asm\x01\0\0\0".to_vec(), types, section(3, &declared), section(10, &bodies)].concat();
        [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
    }

    #[test]
    fn what_was_compiled_is_found_and_what_is_odd_is_not_used() {
        let tried = Try::new();
        let bytes = large(3);
        assert_eq!((tried.load(&bytes), tried.load(&bytes)), ((1, 0), (0, 1)));
        assert_eq!(tried.load(&large(4)), (1, 0));
        let other = tried.cache.folder.as_ref().unwrap().join(name(tried.engine.wasmtime(), &load::digest(&large(4))));
        fs::remove_file(other).unwrap();

        let file = tried.file();
        let good = fs::read(&file).unwrap();
        let permissions = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let mut damaged = good.clone();
        damaged[good.len() / 2] ^= 1;
        for (what, bytes_there) in [
            ("damaged", &*damaged),
            ("cut", &good[..good.len() / 2]),
            ("empty", &[]),
            ("foreign", b"no code at all, and longer than a checksum"),
        ] {
            fs::write(&file, bytes_there).unwrap();
            assert_eq!((tried.load(&bytes), tried.load(&bytes)), ((1, 0), (0, 1)), "{what}");
        }
        // A right checksum over what wasmtime did not write.
        let foreign = b"\x7fELF and nothing else";
        fs::write(&file, [Sha256::digest(foreign).as_slice(), foreign].concat()).unwrap();
        assert_eq!(tried.load(&bytes), (1, 0));
        // Others can write it, or the folder; or it is a link.
        permissions(&file, 0o620);
        assert_eq!((tried.load(&bytes), tried.load(&bytes)), ((1, 0), (0, 1)));
        permissions(file.parent().unwrap(), 0o770);
        assert_eq!((tried.load(&bytes), tried.load(&bytes)), ((1, 0), (1, 0)));
        permissions(file.parent().unwrap(), 0o700);
        fs::rename(&file, tried.folder.path().join("elsewhere")).unwrap();
        symlink(tried.folder.path().join("elsewhere"), &file).unwrap();
        assert_eq!((tried.load(&bytes), tried.load(&bytes)), ((1, 0), (0, 1)));
    }

    #[test]
    fn the_folder_is_bounded_and_what_was_used_stays() {
        let tried = Try::new();
        for functions in 1..=12 {
            tried.load(&large(functions));
        }
        let oldest = tried.cache.folder.as_ref().unwrap().join(name(tried.engine.wasmtime(), &load::digest(&large(2))));
        fs::File::open(&oldest).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        tried.load(&large(1));
        tried.cache.prune(1, 2);
        assert_eq!(fs::read_dir(tried.folder.path().join("compiled")).unwrap().count(), 2 + SPARE);
        assert!(!oldest.exists());
        assert_eq!(tried.load(&large(1)), (0, 1));
    }

    /// A large guest; how long both ways take is printed, for whoever runs it with `--nocapture`.
    #[test]
    fn a_large_component_is_not_compiled_twice() {
        let tried = Try::new();
        let bytes = large(5_000);
        let timed = || {
            let start = Instant::now();
            (tried.load(&bytes), start.elapsed())
        };
        let ((compiled, first), (found, second)) = (timed(), timed());
        let kept = fs::metadata(tried.file()).unwrap().len();
        println!("{} bytes of component, {kept} compiled: {first:?} to compile and keep, {second:?} to find", bytes.len());
        assert_eq!((compiled, found), ((1, 0), (0, 1)));
    }
}
