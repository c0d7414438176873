//! The harness runs, breaks things, and finds every promise kept: a short run against a real Kafka, where there is one.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Asks for it: it takes minutes, and finds what docs/chaos.md says is still open.
const ASKED: &str = "HOOKGATE_CHAOS";
/// The folder of Kafka's jars, as `cargo xtask test` exports it.
const LIBS: &str = "HOOKGATE_KAFKA_LIBS";

#[test]
fn a_short_run_keeps_every_promise() {
    let harness = Path::new(env!("CARGO_BIN_EXE_hookgate-chaos"));
    let hookgate = harness.with_file_name("hookgate");
    let guest: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../guests/target/wasm32-wasip2/release/identity.wasm"].iter().collect();
    if env::var_os(ASKED).is_none() {
        return eprintln!("SKIPPED: no chaos unless {ASKED} is set; `cargo xtask chaos` runs it, too");
    }
    for (what, is_there) in [(LIBS, env::var_os(LIBS).is_some()), ("hookgate", hookgate.exists()), ("the guest", guest.exists())] {
        if !is_there {
            return eprintln!("SKIPPED: no chaos, since {what} is missing; `cargo xtask test` has it");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let arguments =
        ["--minutes", "0.3", "--seed", "6", "--kafka-nodes", "1", "--clients", "8", "--rate", "1000", "--faults-per-minute", "60"];
    let mut command = Command::new(harness);
    command.args(arguments).arg("--folder").arg(folder.path()).arg("--hookgate").arg(hookgate).arg("--guest").arg(guest);
    let output = command.arg("--json").arg(&json).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert!(report["faults"].as_u64() > Some(5) && report["acknowledged"].as_u64() > Some(1_000), "{report:#}");
    assert!(!folder.path().join("6").exists(), "what is good leaves nothing behind");
}
