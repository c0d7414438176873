//! The brokers that are measured, each a process of its own with its queues wide open.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::super::{child::Gate, process};

/// Bounds that no scenario reaches: what is measured is delivery, not dropping.
const HOOKGATE: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n\
    [mqtt]\nreceive_maximum = 1000\nmax_inflight = 65535\nmax_subscriptions = 1000000\n\
    max_queued_messages = 10000000\nmax_queued_bytes = 4294967296\n\
    [kafka]\nbootstrap_servers = \"embedded\"\n";
/// The same for mosquitto, whose 0 means no bound.
const MOSQUITTO: &str = "allow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type error\n\
    max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n";
/// Where Debian keeps it, which is in no user's PATH.
const MOSQUITTO_PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// A running broker; killed when dropped.
pub(super) struct Broker {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

enum Process {
    Hookgate(Box<Gate>),
    Mosquitto(Mosquitto),
}

impl Broker {
    /// Starts this program.
    pub(super) async fn hookgate() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the benchmark")?;
        let config = folder.path().join("hookgate.toml");
        fs::write(&config, HOOKGATE).context("writing the configuration")?;
        let gate = Gate::start(&config).await?;
        Ok(Broker { name: "hookgate", address: gate.address, process: Process::Hookgate(Box::new(gate)), _folder: folder })
    }

    /// Starts mosquitto; `None` when it is not installed.
    pub(super) async fn mosquitto() -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir().context("a folder for the benchmark")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let config = folder.path().join("mosquitto.conf");
        fs::write(&config, format!("listener {} 127.0.0.1\n{MOSQUITTO}", address.port())).context("writing the configuration")?;
        for program in MOSQUITTO_PROGRAMS {
            let started = Command::new(program).arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
            let Ok(child) = started else { continue };
            let broker = Broker { name: "mosquitto", address, process: Process::Mosquitto(Mosquitto(child)), _folder: folder };
            broker.until_open().await?;
            return Ok(Some(broker));
        }
        Ok(None)
    }

    async fn until_open(&self) -> anyhow::Result<()> {
        for _ in 0..250 {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{} does not listen on {}", self.name, self.address)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        match &self.process {
            Process::Hookgate(gate) => gate.id(),
            Process::Mosquitto(mosquitto) => mosquitto.0.id(),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// It does not end well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.process {
            Process::Hookgate(gate) => gate.stop().await.map(drop),
            Process::Mosquitto(mosquitto) => {
                process::terminate(mosquitto.0.id()).map(drop) // its drop waits for the end
            }
        }
    }
}

/// Killed when dropped.
struct Mosquitto(Child);

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Of a process that has ended already, neither is an error worth a word.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has; mosquitto cannot be asked which one it took.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?.local_addr()?.port())
}
