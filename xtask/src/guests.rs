//! Builds the guests' workspace into WebAssembly components, and runs its native tests.
//!
//! Makes sure of the target `wasm32-wasip2` first, so that a fresh machine needs nothing but rustup. Absent: any tool beside cargo;
//! rustc's own linker for that target makes components, and those written as text (`guest.wat`) are assembled here.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// What guests are built for.
const TARGET: &str = "wasm32-wasip2";

/// Builds every guest and prints a line for each component, with its size.
///
/// # Errors
/// The target cannot be installed, or a guest does not compile.
pub(crate) fn build(root: &Path) -> Result<()> {
    ensure_target(root)?;
    cargo(root, &["build", "--release", "--target", TARGET])?;
    let mut components = components(root)?;
    components.extend(assemble(root)?);
    components.sort();
    for component in components {
        let missing = || format!("{} was not built: is its folder in `members` of guests/Cargo.toml?", component.display());
        let size = component.metadata().with_context(missing)?.len();
        println!("{:>7.1} KiB  {}", size as f64 / 1024.0, component.strip_prefix(root).unwrap_or(&component).display());
    }
    Ok(())
}

/// Runs the guests' unit tests on this machine, with the SDK playing the host.
///
/// # Errors
/// A test fails.
pub(crate) fn test(root: &Path) -> Result<()> {
    cargo(root, &["test"])
}

/// Where a guest's component lies after [`build`].
pub(crate) fn component(root: &Path, guest: &str) -> PathBuf {
    folder(root).join(guest.replace('-', "_")).with_extension("wasm")
}

fn folder(root: &Path) -> PathBuf {
    root.join("guests/target").join(TARGET).join("release")
}

/// One for each member of the workspace that is a component; leftovers of guests that are gone do not count.
fn components(root: &Path) -> Result<Vec<PathBuf>> {
    let guests = root.join("guests");
    let mut components = Vec::new();
    for entry in guests.read_dir().with_context(|| guests.display().to_string())? {
        let path = entry?.path();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
        if manifest.contains("\"cdylib\"") {
            let name = path.file_name().and_then(OsStr::to_str).context("a guest's folder has an unreadable name")?;
            components.push(component(root, name));
        }
    }
    Ok(components)
}

/// Assembles the guests that are written as text; the components that they became.
fn assemble(root: &Path) -> Result<Vec<PathBuf>> {
    let mut components = Vec::new();
    for entry in root.join("guests").read_dir()? {
        let folder = entry?.path();
        let text = folder.join("guest.wat");
        if text.exists() {
            let name = folder.file_name().and_then(OsStr::to_str).context("a guest's folder has an unreadable name")?;
            let component = component(root, name);
            let bytes = wat::parse_file(&text)?;
            std::fs::write(&component, bytes).with_context(|| component.display().to_string())?;
            components.push(component);
        }
    }
    Ok(components)
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // The outer cargo's choices of folders and flags are not the guests'.
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = command.args(arguments).arg("--manifest-path").arg(root.join("guests/Cargo.toml")).current_dir(root).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "`cargo {}` failed in guests/ ({status})", arguments.join(" "));
    Ok(())
}

/// Installs the target's standard library if it is not there. Without rustup it must come with the system's Rust.
fn ensure_target(root: &Path) -> Result<()> {
    if has_target(root)? {
        return Ok(());
    }
    println!("installing the target {TARGET}");
    match Command::new("rustup").args(["target", "add", TARGET]).current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`rustup target add {TARGET}` failed ({status}); guests cannot be built without it"),
        Err(error) => bail!(
            "guests are built for {TARGET}, which this Rust does not have, and rustup cannot be run ({error}).\n\
             Install Rust from https://rustup.rs, or your system's package of the standard library for {TARGET}."
        ),
    }
}

/// Asks rustc itself, so that a Rust that did not come from rustup counts too.
fn has_target(root: &Path) -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).current_dir(root).output();
    let output = output.context("cannot run rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.status.success() && folder.is_dir())
}
