//! The process that is measured: `hookgate run` as a child, followed through its log, ended with SIGTERM.

use std::{
    collections::VecDeque,
    io::BufReader,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::Notify, time::timeout};

use super::{process, versions::Versions};

/// How long it may take to compile its guests and open its doors.
const START: Duration = Duration::from_secs(60);
/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(45);
/// Log lines that are kept to explain a failure.
const KEPT_LINES: usize = 40;
/// The page of metrics at the end is wanted whatever the user's HOOKGATE_LOG says.
const LOG: &str = "info,hookgate::metrics=debug";

/// A running `hookgate run`; killed when dropped.
pub(super) struct Gate {
    child: Child,
    followed: Arc<Followed>,
    /// Where its MQTT listener is.
    pub(super) address: SocketAddr,
    /// Where its embedded Kafka is.
    pub(super) kafka: Option<String>,
    /// Where its interface for operators is.
    admin: Option<String>,
}

/// What its log has said so far.
#[derive(Default)]
struct Followed {
    said: Mutex<Said>,
    news: Notify,
}

#[derive(Default)]
struct Said {
    ready: Option<Ready>,
    page: Option<String>,
    ended: bool,
    lines: VecDeque<String>,
}

#[derive(Clone, Default)]
struct Ready {
    addresses: String,
    kafka: Option<String>,
    admin: Option<String>,
}

impl Gate {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up; the error has the end of its log.
    pub(super) async fn start(config: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.args(["run", "--log-format", "json", "--log", LOG, "--config"]).arg(config);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting hookgate run")?;
        let followed = Arc::new(Followed::default());
        let log = child.stderr.take();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gate = Gate { child, followed: Arc::clone(&followed), address, kafka: None, admin: None };
        let log = log.context("the log of hookgate run")?;
        thread::Builder::new().name("bench-log".into()).spawn(move || follow(BufReader::new(log), &followed))?;
        gate.until("is not ready", START, |said| said.ready.is_some()).await?;
        let Ready { addresses, kafka, admin } = gate.followed.said.lock().ready.clone().unwrap_or_default();
        let address = addresses.split(',').find_map(|listener| listener.split_once('=')?.1.parse().ok());
        gate.address = address.with_context(|| format!("no address in \"{addresses}\""))?;
        (gate.kafka, gate.admin) = (kafka, admin);
        Ok(gate)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What has become of a guest's versions so far.
    ///
    /// # Errors
    /// It does not say: it has no `[admin]`, or has ended.
    pub(super) async fn versions(&self, guest: &'static str) -> anyhow::Result<Versions> {
        let address = self.admin.as_ref().context("hookgate run has no [admin]")?;
        let url = format!("http://{address}/metrics");
        let page = tokio::task::spawn_blocking(move || ureq::get(url).call()?.body_mut().read_to_string()).await?;
        Ok(Versions::read(&page.with_context(|| format!("its metrics; the end of its log:\n{}", self.log()))?, guest))
    }

    /// Ends it with SIGTERM, and returns the last page of its metrics.
    ///
    /// # Errors
    /// It does not end well.
    pub(super) async fn stop(mut self) -> anyhow::Result<String> {
        process::terminate(self.id())?;
        let ended = self.until("does not end", DRAIN, |said| said.ended).await;
        let status = self.status().await?;
        ended?;
        if !status.success() {
            bail!("hookgate run ended with {status}:\n{}", self.log());
        }
        self.followed.said.lock().page.take().context("hookgate run ended without its page of metrics")
    }

    async fn status(&mut self) -> anyhow::Result<ExitStatus> {
        for _ in 0..100 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("hookgate run closed its log and goes on")
    }

    async fn until(&self, trouble: &str, patience: Duration, done: impl Fn(&Said) -> bool) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let news = self.followed.news.notified();
                let (is_done, ended) = {
                    let said = self.followed.said.lock();
                    (done(&said), said.ended)
                };
                match (is_done, ended) {
                    (true, _) => return true,
                    (false, true) => return false,
                    (false, false) => news.await,
                }
            }
        };
        match timeout(patience, waiting).await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("hookgate run ended and {trouble}; the end of its log:\n{}", self.log()),
            Err(_) => bail!("hookgate run {trouble} after {} s; the end of its log:\n{}", patience.as_secs(), self.log()),
        }
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        self.followed.said.lock().lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Of a process that has ended already, neither is an error worth a word.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(log: impl std::io::BufRead, followed: &Followed) {
    for line in log.lines() {
        let Ok(line) = line else { break };
        let mut said = followed.said.lock();
        hear(&mut said, line);
        drop(said);
        followed.news.notify_waiters();
    }
    followed.said.lock().ended = true;
    followed.news.notify_waiters();
}

fn hear(said: &mut Said, line: String) {
    let value: Value = serde_json::from_str(&line).unwrap_or_default(); // a line that is no JSON is kept as it is
    let field = |name: &str| value.pointer(&format!("/fields/{name}")).and_then(Value::as_str);
    if let Some(page) = field("page") {
        said.page = Some(page.to_owned());
        return;
    }
    let text = |name: &str| field(name).map(str::to_owned);
    if field("message") == Some("ready") {
        said.ready = Some(Ready { addresses: text("addresses").unwrap_or_default(), kafka: text("kafka"), admin: text("admin") });
    }
    if said.lines.len() == KEPT_LINES {
        said.lines.pop_front();
    }
    said.lines.push_back(line);
}
