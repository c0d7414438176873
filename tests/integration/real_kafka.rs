//! A real Apache Kafka: one KRaft node, started from a folder of jars, that can be killed and started again on the same data.
//!
//! Standard library only: xtask takes this file, too, so that the launcher exists once.

use std::{
    env, fs,
    io::{Error, Read, Result, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The folder of Kafka's jars, as `cargo xtask test` exports it.
pub const LIBS: &str = "HOOKGATE_KAFKA_LIBS";
/// `host:port` of a Kafka that is running already.
pub const ADDRESS: &str = "KAFKA";

/// Any base64 of 16 bytes.
const CLUSTER_ID: &str = "aG9va2dhdGUtdGVzdHMtMQ";
/// Three seconds are usual; a machine that compiles meanwhile needs more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a node has beyond a listener for everybody.
#[derive(Clone, Debug, Default)]
pub struct More {
    /// Further listeners: name, protocol, port.
    pub listeners: Vec<(&'static str, &'static str, u16)>,
    /// Further lines of its properties.
    pub properties: String,
    /// Users, as `StorageTool format --add-scram` wants them.
    pub users: Vec<String>,
}

/// A running node; dropping it kills it.
#[derive(Debug)]
pub struct RealKafka {
    libs: PathBuf,
    folder: PathBuf,
    address: String,
    child: Option<Child>,
}

impl RealKafka {
    /// Starts a node on a free port, with its data in `folder`. `None`, said aloud, when [`LIBS`] is not set.
    #[allow(dead_code)] // xtask knows where the jars are
    pub fn start(folder: &Path) -> Option<Result<RealKafka>> {
        let Some(libs) = env::var_os(LIBS) else {
            eprintln!("SKIPPED: no real Kafka, since {LIBS} is not set; `cargo xtask test` sets it");
            return None;
        };
        Some(free_port().and_then(|port| RealKafka::start_with(Path::new(&libs), folder, port)))
    }

    /// The Kafka that is running already ([`ADDRESS`]), which cannot be killed, else a node of its own as [`RealKafka::start`] does.
    #[allow(dead_code)] // for tests
    pub fn shared_or_start(folder: &Path) -> Option<Result<RealKafka>> {
        match env::var(ADDRESS) {
            Ok(address) => Some(Ok(RealKafka { address, libs: PathBuf::new(), folder: folder.to_owned(), child: None })),
            Err(_) => RealKafka::start(folder),
        }
    }

    /// Starts a node with more than a listener for everybody. `None`, said aloud, when [`LIBS`] is not set.
    #[allow(dead_code)] // for tests
    pub fn start_more(folder: &Path, more: &More) -> Option<Result<RealKafka>> {
        let Some(libs) = env::var_os(LIBS) else {
            eprintln!("SKIPPED: no real Kafka, since {LIBS} is not set; `cargo xtask test` sets it");
            return None;
        };
        Some(free_port().and_then(|port| RealKafka::start_all(Path::new(&libs), folder, port, more)))
    }

    /// Starts a node on `port` from the jars in `libs`, on what is in `folder`, or on nothing.
    pub fn start_with(libs: &Path, folder: &Path, port: u16) -> Result<RealKafka> {
        RealKafka::start_all(libs, folder, port, &More::default())
    }

    fn start_all(libs: &Path, folder: &Path, port: u16, more: &More) -> Result<RealKafka> {
        fs::create_dir_all(folder)?;
        let address = format!("127.0.0.1:{port}");
        let mut kafka = RealKafka { libs: libs.to_owned(), folder: folder.to_owned(), address, child: None };
        fs::write(folder.join("server.properties"), properties(folder, port, free_port()?, more))?;
        fs::write(folder.join("log4j.properties"), LOG4J)?;
        if !folder.join("data/meta.properties").exists() {
            let mut format = vec!["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"];
            format.extend(more.users.iter().flat_map(|user| ["--add-scram", user]));
            let status = kafka.java(&format)?.status()?;
            if !status.success() {
                return Err(kafka.error("its storage cannot be formatted"));
            }
        }
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Starts it on the data and the port that it had, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        self.kill()?;
        if self.libs.as_os_str().is_empty() {
            return Err(Error::other(format!("Kafka at {} was not started here", self.address)));
        }
        self.child = Some(self.java(&["-Xmx512m", "kafka.Kafka", "server.properties"])?.spawn()?);
        let start = Instant::now();
        while !answers(&self.address) {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                return Err(self.error(&format!("it ended with {status}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(self.error("it does not answer"));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// SIGKILL, as a power failure would.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// `host:port`
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Lets it run on after this process, and returns its process id.
    #[allow(dead_code)] // for `cargo xtask kafka start`
    pub fn leave_running(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }

    /// Runs one of Kafka's tools against it, with a heap that leaves room for others.
    #[allow(dead_code)] // for tests
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<()> {
        let address = self.address();
        let mut all = vec!["-Xmx128m", class, "--bootstrap-server", &address];
        all.extend(arguments);
        let status = self.java(&all)?.status()?;
        if status.success() { Ok(()) } else { Err(self.error(&format!("{class} {arguments:?} ended with {status}"))) }
    }

    fn java(&self, arguments: &[&str]) -> Result<Command> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let mut java = Command::new("java");
        java.current_dir(&self.folder)
            .arg("-Dlog4j.configuration=file:log4j.properties")
            .arg("-cp")
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

    fn error(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        Error::other(format!("Kafka does not start: {what}; {} ends with:\n{}", self.log().display(), tail.join("\n")))
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("Kafka at {} may still be running: {error}", self.address);
        }
    }
}

/// A port that nobody uses just now. Kafka must know its port before it binds it, and get the same one again.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether a Kafka answers an ApiVersions request (version 0, without a client id).
pub fn answers(address: &str) -> bool {
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || -> Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&REQUEST)?;
        stream.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

fn properties(folder: &Path, port: u16, controller_port: u16, more: &More) -> String {
    let data = folder.join("data");
    let listeners: String = more.listeners.iter().map(|(name, _, port)| format!(",{name}://127.0.0.1:{port}")).collect();
    let protocols: String = more.listeners.iter().map(|(name, protocol, _)| format!(",{name}:{protocol}")).collect();
    let further = &more.properties;
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listeners}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
         log.dirs={}\n\
         num.partitions=3\n\
         auto.create.topics.enable=true\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n{further}\n",
        data.display()
    )
}

const LOG4J: &str = "log4j.rootLogger=INFO, out\n\
     log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
     log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
     log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n\n";
