//! Child processes: signals, and waiting for the end.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to a child that was not waited for yet.
///
/// # Errors
/// The system says no.
pub(crate) fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    send(child.id(), signal)
}

/// The same by process id, whose process must not have been waited for.
///
/// # Errors
/// The system says no.
pub(crate) fn send(id: u32, signal: Signal) -> io::Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(id, signal)?)
}

/// Waits for the end, `None` when it does not come within `patience`.
///
/// # Errors
/// The system says no.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its good end.
///
/// # Errors
/// It does not start, or fails; with what it said.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("`{program}` does not start"))?;
    let words = arguments.join(" ");
    ensure!(output.status.success(), "`{program} {words}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
