//! Every guest of the hostile suite in one process, beside a neighbour of another tenant under a light, steady load.
//!
//! What is hostile meets its limits and `on_failure`, in the right words; the neighbour's messages are acknowledged, and in Kafka once and
//! in order; memory and log stay within their bounds.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::support::{Device, Process, configuration, field, guest, json, records, strip_ansi};
use Meets::{Fails, Passes, Sometimes};

/// Times that each is called.
const CALLS: usize = 4;
/// `[guests] memory_bytes`: what all instances may take.
const GUESTS_BYTES: u64 = 512 << 20;
/// What the process may take beside it: its code, the compiled guests, the broker, the embedded Kafka.
const BASE_BYTES: u64 = 256 << 20;
/// `limits.log_lines_per_s` of each guest.
const LINES_PER_S: usize = 20;

/// What comes of its calls.
#[derive(Clone, Copy, Debug)]
enum Meets {
    /// All are answered.
    Passes,
    /// None is, for this reason; or for one of these, between `|`.
    Fails(&'static str),
    /// Some are; the others are not for this reason.
    Sometimes(&'static str),
}

/// A way to misbehave.
struct Case {
    component: &'static str,
    mode: &'static str,
    limits: &'static [(&'static str, u64)],
    meets: Meets,
}

const fn case(component: &'static str, mode: &'static str, meets: Meets) -> Case {
    Case { component, mode, limits: &[], meets }
}

/// Room and time enough to make what may not be handed over.
const GIANT: &[(&str, u64)] = &[("memory_bytes", 256 << 20), ("deadline_ms", 5_000)];
/// Time enough for what is not about time.
const PATIENT: &[(&str, u64)] = &[("deadline_ms", 2_000)];

/// The same, and host calls enough for what is not about them.
const TALKATIVE: &[(&str, u64)] = &[("deadline_ms", 2_000), ("host_calls", 100_000)];

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("hostile", "loop", Fails("deadline")),
    case("hostile", "block", Fails("deadline")),
    case("hostile", "watch-clock", Fails("too-many-host-calls")),
    Case { limits: PATIENT, ..case("hostile", "allocate", Fails("out-of-memory")) },
    Case { limits: PATIENT, ..case("hostile", "leak", Passes) },
    Case { limits: PATIENT, ..case("hostile", "recurse", Fails("trap")) },
    case("hostile", "trap", Fails("trap")),
    case("hostile", "trap-nth", Sometimes("trap")),
    case("hostile", "exit", Fails("trap")),
    Case { limits: GIANT, ..case("hostile", "return-64mib", Fails("returned-too-much")) },
    Case { limits: GIANT, ..case("hostile", "return-headers", Fails("returned-too-much")) },
    Case { limits: GIANT, ..case("hostile", "return-records", Fails("too-many-records")) },
    case("hostile", "invalid-topic", Fails("invalid-verdict")),
    case("hostile", "invalid-reason-code", Fails("invalid-verdict")),
    Case { limits: TALKATIVE, ..case("hostile", "log-flood", Passes) },
    case("hostile", "stderr-flood", Fails("too-many-host-calls")),
    case("hostile", "fault-invalid", Fails("fault-invalid")),
    case("hostile", "fault-retry", Fails("fault-retry")),
    case("hostile", "fault-internal", Fails("fault-internal")),
    case("hostile", "fault-nth", Sometimes("fault-retry")),
    case("greedy", "read-state", Fails("too-many-host-calls|deadline")),
    case("greedy", "write-state", Fails("too-many-host-calls|deadline")),
    Case { limits: PATIENT, ..case("greedy", "fill-state", Fails("fault-retry")) },
    case("greedy", "read-settings", Fails("too-many-host-calls")),
    case("greedy", "digest", Fails("deadline")),
    case("greedy", "log", Fails("too-many-host-calls")),
    case("greedy", "count", Fails("too-many-host-calls")),
    case("greedy", "random", Fails("deadline")),
    Case { limits: PATIENT, ..case("greedy", "hold-alarms", Fails("trap")) },
    case("greedy", "trap-at-restart", Fails("trap")),
    Case { limits: PATIENT, ..case("hostile_tables", "grow-tables", Fails("table-too-large")) },
];

/// Modes of the guest `hostile` that are no case: harmless, or the matter of other tests.
const OTHERS: [&str; 11] =
    ["pass", "change", "move", "emit", "drop", "deny", "sleep", "trap-sometimes", "trap-at-start", "loop-at-start", "refuse-start"];

impl Case {
    fn tables(&self) -> String {
        let Case { component, mode, .. } = self;
        let mut limits: Vec<(&str, u64)> = self.limits.to_vec();
        let usual = [
            ("deadline_ms", 30),
            ("memory_bytes", 16 << 20),
            ("returned_bytes", 1 << 20),
            ("host_calls", 5_000),
            ("instances", 2),
            ("log_lines_per_s", LINES_PER_S as u64),
            ("state_keys", 1_000),
            ("state_bytes", 1 << 20),
        ];
        for (name, value) in usual {
            if !limits.iter().any(|(given, _)| *given == name) {
                limits.push((name, value));
            }
        }
        let limits: Vec<String> = limits.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!(
            r#"
[[guest]]
name = "{mode}"
tenant = "a"
path = "{component}.wasm"
grants = ["settings", "log", "state", "metrics", "crypto"]
settings = {{ mode = "{mode}" }}
limits = {{ {} }}
breaker = {{ max_failure_ratio = 1.0 }}
[[route]]
hook = "message.publish"
filter = "bad/{mode}"
guests = ["{mode}"]
topic = "bad"
"#,
            limits.join(", ")
        )
    }
}

fn tables() -> String {
    let mut tables = format!(
        r#"
[guests]
memory_bytes = {GUESTS_BYTES}
[[tenant]]
id = "a"
[[tenant]]
id = "b"
[[guest]]
name = "neighbour"
tenant = "b"
path = "identity.wasm"
[[route]]
hook = "message.publish"
filter = "good/#"
guests = ["neighbour"]
topic = "good"
format = "raw"
[[route]]
hook = "message.dropped"
filter = "bad/#"
reasons = ["guest-failed"]
topic = "dropped"
format = "emqx-bridge"
"#
    );
    tables.extend(CASES.iter().map(Case::tables));
    tables
}

/// Publishes until it is told to stop, one message after the other; how many it was.
async fn neighbour(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut device = Device::connect(address, "neighbour").await;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let ack = device.publish("good/x", number.to_string()).await;
        assert_eq!(ack.reason, PubAckReason::NoMatchingSubscribers, "{number}");
        number += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    number
}

/// Has a case called; how many messages were refused.
async fn provoke(address: std::net::SocketAddr, case: &Case) -> usize {
    let mut device = Device::connect(address, case.mode).await;
    let mut refused = 0;
    for _ in 0..CALLS {
        match device.publish(&format!("bad/{}", case.mode), "x").await.reason {
            PubAckReason::NoMatchingSubscribers => {}
            PubAckReason::ImplementationSpecificError => refused += 1,
            other => panic!("{}: {other:?}", case.mode),
        }
    }
    refused
}

/// Compares what became of a case's calls with what should; what differs is told in words.
fn compare(case: &Case, refused: usize, dropped: &[serde_json::Value]) -> Option<String> {
    let topic = format!("bad/{}", case.mode);
    let own: Vec<&serde_json::Value> = dropped.iter().filter(|record| record["topic"] == topic).collect();
    let (least, most, words) = match case.meets {
        Passes => (0, 0, ""),
        Fails(words) => (CALLS, CALLS, words),
        Sometimes(words) => (1, CALLS - 1, words),
    };
    let is_told = |record: &&&serde_json::Value| {
        record["reason"] == "guest-failed"
            && words.split('|').any(|words| record["explanation"].as_str().is_some_and(|explanation| explanation.contains(words)))
    };
    let is_fine = (least..=most).contains(&refused) && own.len() == refused && own.iter().filter(is_told).count() == refused;
    let told: Vec<&str> = own.iter().filter_map(|record| record["explanation"].as_str()).collect();
    (!is_fine).then(|| format!("{}: expected {:?}; {refused} of {CALLS} refused: {told:?}", case.mode, case.meets))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_hostile_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["hostile", "greedy", "hostile_tables", "identity"] {
        fs::copy(guest(name), folder.path().join(format!("{name}.wasm"))).unwrap();
    }
    let file = folder.path().join("hookgate.toml");
    // With a folder, in which each component is compiled once, and state is on the disk.
    let text = configuration("embedded", &tables()).replace("[node]\n", "[node]\ndata_dir = \"data\"\n");
    fs::write(&file, text).unwrap();
    let mut process = Process::start(&["run", "--config", file.to_str().unwrap()]);
    let ready = process.ready();
    let address = field(&ready, "addresses").trim_start_matches("mqtt=").parse().unwrap();
    let kafka = field(&ready, "kafka");
    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let honest = tokio::spawn(neighbour(address, Arc::clone(&stop)));

    let mut refused = Vec::new();
    for case in CASES {
        refused.push(provoke(address, case).await);
    }
    stop.store(true, Ordering::Relaxed);
    let published = honest.await.unwrap();
    let seconds = began.elapsed().as_secs() as usize + 1;

    let good = records(&kafka, &["good"], published).await;
    let numbers: Vec<usize> = good.iter().map(|record| String::from_utf8_lossy(&record.value).parse().unwrap()).collect();
    assert_eq!(numbers, (0..published).collect::<Vec<_>>(), "each once, in order");

    let dropped = records(&kafka, &["dropped"], refused.iter().sum()).await;
    let dropped: Vec<serde_json::Value> = dropped.iter().map(json).collect();
    let wrong: Vec<String> = CASES.iter().zip(&refused).filter_map(|(case, refused)| compare(case, *refused, &dropped)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let peak = peak_bytes(process.id());
    assert!(peak <= GUESTS_BYTES + BASE_BYTES, "{peak} bytes are more than {GUESTS_BYTES} of the guests and {BASE_BYTES} beside");
    let lines: Vec<String> = process.lines().iter().map(|line| strip_ansi(line)).collect();
    for mode in ["log-flood", "stderr-flood", "log"] {
        let name = format!("guest=\"{mode}\"");
        let own = lines.iter().filter(|line| line.contains(&name)).count();
        // A second's worth may have been saved up, and each failure is told once by its route.
        let bound = LINES_PER_S * (seconds + 1) + CALLS;
        assert!(own > 0 && own <= bound, "{own} lines of {mode}, and not {bound}");
    }
    process.signal("TERM");
    assert_eq!(process.end(), 0, "it drains in good order");
}

/// The most memory that a process ever had, bytes; 0 where nobody says.
fn peak_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    peak.unwrap_or_default() << 10
}

/// The guests themselves say which modes they have.
#[tokio::test]
async fn no_mode_is_forgotten() {
    for component in ["hostile", "greedy"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        let path = guest(component);
        let tables = format!(
            "[[guest]]\nname = \"g\"\npath = {path:?}\ngrants = [\"settings\", \"log\", \"state\", \"metrics\", \"crypto\"]\n\
             settings = {{ mode = \"none of them\" }}"
        );
        fs::write(&file, configuration("embedded", &tables)).unwrap();
        let problems = hookgate::bridge::check(&file).await.unwrap();
        let text = problems.first().map(ToString::to_string).unwrap_or_default();
        let (_, modes) = text.split_once("there are ").unwrap_or_else(|| panic!("{text}"));
        let modes = modes.lines().next().unwrap_or_default();
        for mode in modes.split(", ") {
            let is_known = CASES.iter().any(|case| (case.component, case.mode) == (component, mode)) || OTHERS.contains(&mode);
            assert!(is_known, "{component} has a mode {mode:?} that nobody tests");
        }
    }
}
