//! The way of a version into service, on the real binary: canary, shadow, trial, rolling back, and what a restart knows of it.

mod ways;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::Value;

use crate::support::{Device, PATIENCE, Process, another_version, configuration, field, guest, replace, strip_ansi};

/// `hookgate run` with a guest that behaves as its file says, asked about every message; what it lets through is in the topic `judged`.
struct Node {
    process: Process,
    address: SocketAddr,
    admin: String,
    kafka: String,
    folder: tempfile::TempDir,
}

/// The hostile guest, behaving as `mode`: a version of its own for each `number`.
fn behaving(mode: &str, number: u32) -> Vec<u8> {
    const MARK: &[u8] = b"hookgate-hostile-mode=";
    let mut bytes = another_version(&fs::read(guest("hostile")).unwrap(), number);
    let at = bytes.windows(MARK.len()).position(|window| window == MARK).unwrap() + MARK.len();
    bytes[at..at + 26].copy_from_slice(format!("{mode:<26}").as_bytes());
    bytes
}

fn tables(more: &str) -> String {
    format!(
        "[admin]\nbind = \"127.0.0.1:0\"\n[[guest]]\nname = \"judge\"\npath = \"judge.wasm\"\ngrants = [\"settings\", \"log\"]\n{more}\n\
         [[route]]\nhook = \"message.publish\"\nguests = [\"judge\"]\ntopic = \"judged\"\nformat = \"raw\"\n"
    )
}

impl Node {
    /// With lines for the guest's table, on its first version.
    fn start(more: &str, first: &[u8]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("judge.wasm"), first).unwrap();
        Node::start_in(folder, more)
    }

    fn start_in(folder: tempfile::TempDir, more: &str) -> Node {
        let text = configuration("embedded", &tables(more)).replace("name = \"n1\"", "name = \"n1\"\ndata_dir = \"data\"");
        fs::write(folder.path().join("hookgate.toml"), text).unwrap();
        let (process, address, admin, kafka) = Node::run(&folder);
        Node { process, address, admin, kafka, folder }
    }

    fn run(folder: &tempfile::TempDir) -> (Process, SocketAddr, String, String) {
        let mut process = Process::start(&["run", "--config", folder.path().join("hookgate.toml").to_str().unwrap()]);
        let ready = process.ready();
        let address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
        (process, address, format!("http://{}", field(&ready, "admin")), field(&ready, "kafka"))
    }

    /// Kills the process, and starts it again in the same folder.
    fn restart(self) -> Node {
        self.process.signal("KILL");
        self.process.end();
        let (process, address, admin, kafka) = Node::run(&self.folder);
        Node { process, address, admin, kafka, folder: self.folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("judge.wasm")
    }

    /// Puts a version in the guest's file; its digest, as the verbs show it.
    fn put(&self, component: &[u8]) -> String {
        replace(&self.path(), component);
        hookgate::guest::digest(component)
    }

    /// Exit code, output and errors of `hookgate guest …`.
    fn verb(&self, arguments: &[&str]) -> (i32, String, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hookgate")).arg("guest").args(arguments).args(["--admin", &self.admin]).output().unwrap();
        let text = |bytes: &[u8]| strip_ansi(&String::from_utf8_lossy(bytes));
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// What `hookgate guest list --json` says of the guest.
    fn judge(&self) -> Value {
        let (code, out, errors) = self.verb(&["list", "--json"]);
        assert_eq!(code, 0, "{errors}");
        let mut list: Vec<Value> = serde_json::from_str(&out).unwrap();
        list.remove(0)
    }

    /// Waits until it says what is wanted.
    fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let judge = self.judge();
            if condition(&judge) {
                return judge;
            }
            assert!(Instant::now() < deadline, "{what} did not happen: {judge}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Devices of their own, which stay.
    async fn devices(&self, count: usize) -> Vec<Device> {
        let mut devices = Vec::new();
        for number in 0..count {
            devices.push(Device::connect(self.address, &format!("device-{number}")).await);
        }
        devices
    }

    fn metric(&self, line: &str) -> u64 {
        let page = ureq::get(format!("{}/metrics", self.admin)).call().unwrap().body_mut().read_to_string().unwrap();
        let found = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {line} in {page}")).parse().unwrap()
    }
}

/// How each device's message was answered; whether it was let through.
async fn publish(devices: &mut [Device], payload: &str) -> Vec<PubAckReason> {
    let mut reasons = Vec::new();
    for device in devices {
        reasons.push(device.publish("a", payload).await.reason);
    }
    reasons
}

fn count(reasons: &[PubAckReason], of: PubAckReason) -> usize {
    reasons.iter().filter(|reason| **reason == of).count()
}

/// What is let through, with nobody subscribed.
const PASSED: PubAckReason = PubAckReason::NoMatchingSubscribers;
