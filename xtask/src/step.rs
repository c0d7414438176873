//! A step is a command that says what it is, and how long it took.

use std::{ffi::OsStr, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// A cargo command in the root of the repository.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    // `cargo xtask` says which cargo it is.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    at_root(command)
}

/// The cargo of another toolchain, in the root of the repository.
pub(crate) fn cargo_of(toolchain: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo"]).env_remove("CARGO");
    at_root(command)
}

fn at_root(mut command: Command) -> Command {
    command.current_dir(root());
    // What cargo says about xtask is not true of what runs next, and makes build scripts run again.
    let about_xtask =
        |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| about_xtask(name)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    let program = |word: String| Path::new(&word).file_name().map_or(word.clone(), |name| name.to_string_lossy().into_owned());
    let line = words.enumerate().map(|(index, word)| if index == 0 { program(word.into_owned()) } else { word.into_owned() });
    let line = line.collect::<Vec<_>>().join(" ");
    eprintln!("xtask: {line}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("`{line}` does not start"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("`{line}` failed after {seconds:.1} s ({status})");
    }
    eprintln!("xtask: {line}: {seconds:.1} s");
    Ok(())
}

/// Does something and says how long it took.
pub(crate) fn timed(what: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    step()?;
    eprintln!("xtask: {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Whether a program can be started.
pub(crate) fn exists(program: &str, version: &str) -> bool {
    Command::new(program).arg(version).output().is_ok_and(|output| output.status.success())
}
