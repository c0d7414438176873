//! Hookgate: the real binary as a child process that is killed, told to end, stopped, and always started again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::sync::watch;

use crate::{
    process::{self, wait},
    trouble::Troubles,
};

/// How long a start may take before it is called a failure; Kafka may be away meanwhile, and the disk held up.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Beside `drain_timeout_ms`, until an orderly end.
const END_PATIENCE: Duration = Duration::from_secs(45);
/// Until a killed process is gone: one that waits for a frozen disk is not until that thaws.
const KILL_PATIENCE: Duration = Duration::from_secs(60);
/// Between two starts when the first one failed.
const BACKOFF: Duration = Duration::from_millis(300);
/// The log that is kept, bytes; what comes then is left out.
const MOST_LOG_BYTES: u64 = 512 << 20;

/// Hookgate; dropping it kills it.
pub(crate) struct Gate {
    binary: PathBuf,
    configuration: PathBuf,
    log: Arc<Mutex<Log>>,
    child: Option<Child>,
    /// For those who may send it signals: its id, from `ready` until it is killed or told to end.
    ready: Arc<Mutex<Option<u32>>>,
    address: watch::Sender<Option<SocketAddr>>,
    troubles: Troubles,
    /// How often a start failed because something was broken.
    pub(crate) failed_starts: u64,
}

struct Log {
    file: File,
    bytes: u64,
}

impl Gate {
    pub(crate) fn new(binary: &Path, configuration: &Path, log: &Path, troubles: Troubles) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        Ok(Gate {
            binary: binary.to_owned(),
            configuration: configuration.to_owned(),
            log: Arc::new(Mutex::new(Log { file, bytes: 0 })),
            child: None,
            ready: Arc::default(),
            address: watch::Sender::new(None),
            troubles,
            failed_starts: 0,
        })
    }

    /// Where it is; `None` while it is not.
    pub(crate) fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    /// Its process, for signals; hold the lock while sending one.
    pub(crate) fn ready(&self) -> Arc<Mutex<Option<u32>>> {
        Arc::clone(&self.ready)
    }

    /// Starts it, again and again until it is ready or `give_up` says so. A start may fail while something is broken.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub(crate) fn start(&mut self, mut give_up: impl FnMut() -> bool) -> Result<()> {
        loop {
            match self.start_once()? {
                None => return Ok(()),
                Some(why) if give_up() => bail!("Hookgate does not start: {why}"),
                Some(_) => {
                    self.failed_starts += 1;
                    thread::sleep(BACKOFF);
                }
            }
        }
    }

    /// `None` when it is ready, else why it is not.
    fn start_once(&mut self) -> Result<Option<String>> {
        self.note("---- hookgate is started");
        let mut command = Command::new(&self.binary);
        command.args(["run", "--config"]).arg(&self.configuration).env("NO_COLOR", "1");
        // Ctrl-C is for the harness, which then ends everything in good order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} does not start", self.binary.display()))?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (found, address) = mpsc::sync_channel(1);
        let (log, troubles) = (Arc::clone(&self.log), self.troubles.clone());
        thread::Builder::new().name("gate-log".into()).spawn(move || follow(stderr, &log, &found, &troubles))?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(address) = address.recv_timeout(Duration::from_millis(50)) {
                *self.ready.lock() = Some(child.id());
                self.child = Some(child);
                self.address.send_replace(Some(address));
                return Ok(None);
            }
            if let Some(status) = child.try_wait()? {
                return Ok(Some(format!("it ended with {status}")));
            }
            if Instant::now() > deadline {
                child.kill()?;
                wait(&mut child, KILL_PATIENCE)?;
                return Ok(Some(format!("not ready after {START_PATIENCE:?}")));
            }
        }
    }

    /// How it ended, if it did so by itself.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        self.away();
        self.child = None;
        Ok(Some(status.to_string()))
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.away();
        self.note("---- hookgate is killed");
        let Some(child) = &mut self.child else { return Ok(()) };
        child.kill()?;
        if wait(child, KILL_PATIENCE)?.is_none() {
            bail!("Hookgate was killed and is still there");
        }
        self.child = None;
        Ok(())
    }

    /// SIGTERM, and waits for the end. One that does not come, or with another code than 0, is noted as trouble.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.away();
        self.note("---- hookgate is told to end");
        let Some(child) = &mut self.child else { return Ok(()) };
        process::signal(child, Signal::TERM)?;
        match wait(child, END_PATIENCE)? {
            Some(status) if status.success() => self.child = None,
            Some(status) => {
                self.troubles.note(format!("Hookgate was told to end and ended with {status}"));
                self.child = None;
            }
            None => {
                self.troubles.note(format!("Hookgate was told to end and had not after {END_PATIENCE:?}"));
                self.kill()?;
            }
        }
        Ok(())
    }

    /// Nobody may send signals any more, and clients need not come.
    fn away(&mut self) {
        *self.ready.lock() = None;
        self.address.send_replace(None);
    }

    /// Sends it a signal if it runs.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(child) = &self.child {
            process::signal(child, signal)?;
        }
        Ok(())
    }

    fn note(&self, line: &str) {
        self.log.lock().write(line);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("chaos: {error:#}");
        }
    }
}

impl Log {
    fn write(&mut self, line: &str) {
        self.bytes += line.len() as u64 + 1;
        if self.bytes < MOST_LOG_BYTES {
            let _ = writeln!(self.file, "{line}"); // a log that cannot be written is no reason to stop
        }
    }
}

/// Copies the log, and looks for what matters in it.
fn follow(stderr: ChildStderr, log: &Mutex<Log>, found: &mpsc::SyncSender<SocketAddr>, troubles: &Troubles) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains("ready")
            && let Some(address) = address(&line)
        {
            let _ = found.try_send(address); // nobody waits any more
        }
        if line.contains("panicked at") {
            troubles.note(format!("Hookgate panicked: {line}"));
        }
        log.lock().write(&line);
    }
}

/// The address in `addresses="mqtt=127.0.0.1:1883"`.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("mqtt=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log() {
        for (line, expected) in [
            ("INFO hookgate: ready addresses=\"mqtt=127.0.0.1:41883\"", Some("127.0.0.1:41883")),
            ("ready addresses=mqtt=127.0.0.1:1,ws=127.0.0.1:2 kafka=None", Some("127.0.0.1:1")),
            ("ready addresses=\"ws=127.0.0.1:2\"", None),
        ] {
            assert_eq!(address(line), expected.map(|text| text.parse().unwrap()));
        }
    }
}
