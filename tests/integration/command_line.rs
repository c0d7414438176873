//! The binary: what is wrong is named all at once, and exit codes are kept.

use std::{fs, process::Command};

use crate::support::{Process, configuration, field, guest, strip_ansi};

fn hookgate(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hookgate")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| strip_ansi(&String::from_utf8_lossy(bytes));
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A configuration in which everything is wrong that can be.
fn everything_wrong(folder: &std::path::Path) -> String {
    fs::write(folder.join("broken.wasm"), b"no wasm").unwrap();
    let verifier = guest("lock_command_verifier");
    let tables = format!(
        r#"colour = "red"
[[guest]]
name = "missing"
path = "missing.wasm"
[[guest]]
name = "broken"
path = "broken.wasm"
[[guest]]
name = "ungranted"
path = {verifier:?}
grants = ["settings"]
[[guest]]
name = "plain"
path = {plain:?}
grants = ["settings"]
[[route]]
hook = "message.publish"
filter = "a/#/b"
guests = ["plain"]
[[route]]
hook = "client.connected"
guests = ["plain"]
"#,
        plain = guest("template"),
    );
    let file = folder.join("hookgate.toml");
    fs::write(&file, configuration("embedded", &tables)).unwrap();
    file.display().to_string()
}

#[test]
fn check_and_run_name_every_problem_at_once_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = everything_wrong(folder.path());
    for verb in ["check", "run"] {
        let (code, _, errors) = hookgate(&[verb, "--config", &file]);
        assert_eq!(code, 64, "{errors}");
        for (line, words) in [
            (7, vec!["unknown key `kafka.colour`"]),
            (10, vec!["missing.wasm"]),
            (13, vec!["broken.wasm", "WebAssembly"]),
            (16, vec!["state"]),
            (16, vec!["crypto"]),
            (24, vec!["a/#/b", "topic filter"]),
            (28, vec!["plain", "events"]),
        ] {
            let place = format!("{file}:{line}:");
            let found = errors.lines().any(|problem| problem.starts_with(&place) && words.iter().all(|word| problem.contains(word)));
            assert!(found, "`{verb}` names no problem with {words:?} at {place}:\n{errors}");
        }
    }
}

#[test]
fn check_prints_json_and_usage_errors_exit_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = everything_wrong(folder.path());
    let (code, out, _) = hookgate(&["check", "--json", "--config", &file]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["ok"].as_bool()), (64, Some(false)));
    assert!(document["problems"].as_array().is_some_and(|problems| problems.len() >= 6));
    assert_eq!(hookgate(&["check", "--config", "nowhere.toml"]).0, 64);
    assert_eq!(hookgate(&["--colour"]).0, 64);
    assert_eq!(hookgate(&["--help"]).0, 0);
}

#[test]
fn run_says_ready_with_its_addresses_and_drains_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookgate.toml");
    fs::write(&file, configuration("embedded", "")).unwrap();
    let mut process = Process::start(&["run", "--config", &file.display().to_string()]);
    let ready = process.ready();
    let address = field(&ready, "addresses");
    let address = address.strip_prefix("mqtt=").unwrap_or_else(|| panic!("{ready}"));
    std::net::TcpStream::connect(address).unwrap();
    process.signal("TERM");
    process.line("drained");
    assert_eq!(process.end(), 0);
}
