//! Apache Kafka: one node of a KRaft cluster as a child process, that can be killed, ended, stopped and started again on its data.
//!
//! Three listeners: PROXIED for Hookgate, whose advertised address is the proxy's; DIRECT for the other brokers and for the judge; and
//! CONTROLLER. So the network is broken between Hookgate and Kafka only.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::process::{self, wait};

/// Any base64 of 16 bytes.
const CLUSTER_ID: &str = "aG9va2dhdGUtY2hhb3MtMQ";
/// Five seconds are usual; a machine that is busy needs more.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// An orderly end; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(30);
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// Of the Java machine.
const HEAP: &str = "-Xmx400m";

const LOG4J: &str = "log4j.rootLogger=INFO, out\n\
     log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
     log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
     log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n\n";

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) proxied: u16,
    pub(crate) direct: u16,
    pub(crate) controller: u16,
}

impl Ports {
    /// Ports that nobody uses just now, for so many nodes: Kafka must know them before it binds them, and get the same ones again.
    ///
    /// # Errors
    /// There are not so many.
    pub(crate) fn free(nodes: usize) -> Result<Vec<Self>> {
        // Below those that the system gives to outgoing connections: while a broker is away, nobody may take its port, least of all the
        // connection that looks for it.
        let attempts = (0..10_000).map(|_| fastrand::u16(12_000..32_000));
        let held: Vec<TcpListener> = attempts.flat_map(|port| TcpListener::bind(("127.0.0.1", port))).take(nodes * 3).collect();
        let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        let ports: Vec<Ports> = ports
            .as_chunks()
            .0
            .iter()
            .map(|[proxied, direct, controller]| Ports { proxied: *proxied, direct: *direct, controller: *controller })
            .collect();
        ensure!(ports.len() == nodes, "no free ports between 12000 and 32000");
        Ok(ports)
    }
}

/// One node; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Broker {
    libs: PathBuf,
    folder: PathBuf,
    ports: Ports,
    child: Option<Child>,
}

impl Broker {
    /// Writes the configuration of node `index` of `all`, and formats its storage. `advertised`: its proxy.
    ///
    /// # Errors
    /// Java does not start, or Kafka says no.
    pub(crate) fn prepare(libs: &Path, folder: &Path, index: usize, all: &[Ports], advertised: SocketAddr) -> Result<Self> {
        let ports = *all.get(index).context("a node without ports")?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("server.properties"), properties(folder, index, all, ports, advertised))?;
        fs::write(folder.join("log4j.properties"), LOG4J)?;
        let broker = Broker { libs: libs.to_owned(), folder: folder.to_owned(), ports, child: None };
        let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"];
        if !broker.java(&format)?.status().context("java does not start")?.success() {
            bail!("Kafka's storage cannot be formatted: {}", broker.last_words());
        }
        Ok(broker)
    }

    /// For the other brokers and for the judge.
    pub(crate) fn direct(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.direct).into()
    }

    /// Starts it on what it has; it is not up yet.
    ///
    /// # Errors
    /// Java does not start.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.kill()?;
        self.child = Some(self.java(&[HEAP, "kafka.Kafka", "server.properties"])?.spawn().context("java does not start")?);
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer.
    pub(crate) fn await_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while !answers(self.direct()) {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("Kafka in {} ended with {status}: {}", self.folder.display(), self.last_words());
            }
            if Instant::now() > deadline {
                bail!("Kafka in {} does not answer: {}", self.folder.display(), self.last_words());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            wait(&mut child, KILL_PATIENCE)?;
        }
        Ok(())
    }

    /// SIGTERM, and SIGKILL when that is not enough.
    ///
    /// # Errors
    /// The system says no.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if let Some(child) = &mut self.child {
            wait(child, END_PATIENCE)?;
        }
        self.kill()
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

    fn java(&self, arguments: &[&str]) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut java = Command::new("java");
        java.current_dir(&self.folder)
            .process_group(0) // Ctrl-C is for the harness
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j.configuration=file:log4j.properties", "-cp"])
            .arg(self.libs.join("*"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(java)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("kafka.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("chaos: {error:#}");
        }
    }
}

/// Whether a Kafka answers an ApiVersions request (version 0, without a client id).
fn answers(address: SocketAddr) -> bool {
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&REQUEST)?;
        stream.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

fn properties(folder: &Path, index: usize, all: &[Ports], ports: Ports, advertised: SocketAddr) -> String {
    let voters = all.iter().enumerate().map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller));
    let voters = voters.collect::<Vec<_>>().join(",");
    let (copies, in_sync) = safety(all.len());
    let Ports { proxied, direct, controller } = ports;
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         listeners=PROXIED://127.0.0.1:{proxied},DIRECT://127.0.0.1:{direct},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PROXIED://{advertised},DIRECT://127.0.0.1:{direct}\n\
         inter.broker.listener.name=DIRECT\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PROXIED:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={data}\n\
         num.partitions=3\n\
         default.replication.factor={copies}\n\
         min.insync.replicas={in_sync}\n\
         unclean.leader.election.enable=false\n\
         auto.create.topics.enable=true\n\
         log.retention.ms=-1\n\
         log.cleaner.dedupe.buffer.size=16777216\n\
         broker.session.timeout.ms=5000\n\
         broker.heartbeat.interval.ms=1000\n\
         replica.lag.time.max.ms=5000\n\
         offsets.topic.replication.factor={copies}\n\
         offsets.topic.num.partitions=3\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=6\n\
         group.initial.rebalance.delay.ms=0\n",
        node = index + 1,
        data = folder.join("data").display(),
    )
}

/// Copies of each record, and how many must be in sync.
pub(crate) fn safety(brokers: usize) -> (usize, usize) {
    if brokers >= 3 { (3, 2) } else { (1, 1) }
}
