//! Calls are captured by a running Hookgate, and run through other versions by `hookgate replay`: the binary does both.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::Value;

use crate::support::{Device, KEY, Process, command, configuration, field, guest, now_s, strip_ansi};

/// A folder with a configuration, after a run that captured something.
struct Captured {
    folder: tempfile::TempDir,
}

impl Captured {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        self.path("hookgate.toml").to_str().unwrap().to_owned()
    }

    /// The capture files, oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("captures")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Runs `hookgate replay` on `file`: exit code, output, errors.
    fn replay(&self, file: &Path, component: &str, more: &[&str]) -> (i32, String, String) {
        let component = guest(component);
        let arguments = ["replay", file.to_str().unwrap(), "--guest", component.to_str().unwrap(), "--config", &self.config()];
        let output = Command::new(env!("CARGO_BIN_EXE_hookgate")).args(arguments).args(more).output().unwrap();
        let text = |bytes: &[u8]| strip_ansi(&String::from_utf8_lossy(bytes));
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The same with `--json`.
    fn report(&self, file: &Path, component: &str, more: &[&str]) -> (i32, Value) {
        let (code, output, errors) = self.replay(file, component, &[more, &["--json"]].concat());
        (code, serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}")))
    }
}

/// Runs the gate on `tables` while `devices` do something, and ends it in order.
async fn run(tables: &str, devices: impl AsyncFnOnce(std::net::SocketAddr)) -> Captured {
    let captured = Captured { folder: tempfile::tempdir().unwrap() };
    fs::write(captured.config(), configuration("embedded", tables)).unwrap();
    let mut process = Process::start(&["run", "--config", &captured.config()]);
    let address = field(&process.ready(), "addresses").trim_matches('"').trim_start_matches("mqtt=").parse().unwrap();
    devices(address).await;
    process.signal("TERM");
    assert_eq!(process.end(), 0);
    captured
}

/// The flagship's route, captured whole.
fn commands() -> String {
    format!(
        r#"
[[key]]
name = "lock-hmac"
text = "{KEY}"
[[guest]]
name = "verifier"
path = {path:?}
grants = ["settings", "state", "crypto"]
keys = ["lock-hmac"]
settings = {{ max_age_s = 30 }}
limits = {{ deadline_ms = 2000 }}
[[route]]
name = "commands"
hook = "message.publish"
filter = "devices/+/command"
guests = ["verifier"]
capture = {{ sample = 1.0, max_bytes = 1_000_000, folder = "captures" }}
"#,
        path = guest("lock_command_verifier"),
    )
}

fn counts(report: &Value) -> [u64; 4] {
    ["samples", "same", "different", "failures"].map(|name| report[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_commands_are_run_through_other_versions() {
    let publish = async |address| {
        let mut app = Device::connect(address, "app-1").await;
        let fresh = command(KEY, "1", "n-1", now_s());
        let older = command(KEY, "2", "n-2", now_s() - 15);
        let forged = command("another key", "3", "n-3", now_s());
        for (payload, accepted) in [(&fresh, true), (&older, true), (&fresh, false), (&forged, false)] {
            let answer = app.publish("devices/1/command", payload.clone()).await.reason;
            assert_eq!(answer, if accepted { PubAckReason::NoMatchingSubscribers } else { PubAckReason::NotAuthorized });
        }
    };
    let captured = run(&commands(), publish).await;
    let [file] = &captured.files()[..] else { panic!("one file: {:?}", captured.files()) };
    assert_eq!(file.file_name().unwrap(), "commands-000001.jsonl");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 5, "a header and four calls: {text}");
    assert!(!text.contains(KEY), "keys stay where they are");

    // The same component: everything as it was, the nonces too.
    let (code, report) = captured.report(file, "lock_command_verifier", &[]);
    assert_eq!((code, counts(&report)), (0, [4, 4, 0, 0]), "{report:#}");
    assert!(report["duration_ns"]["then"]["p99"].as_u64().unwrap() >= report["duration_ns"]["then"]["median"].as_u64().unwrap());

    // Another setting: the older command is stale now.
    let (code, report) = captured.report(file, "lock_command_verifier", &["--set", "max_age_s=10"]);
    assert_eq!((code, counts(&report)), (1, [4, 3, 1, 0]), "{report:#}");
    let expected = serde_json::json!([
        {"what": "verdict", "before": "change", "after": "deny 0x87 \"stale\""},
        {"what": "headers", "before": "verified: true", "after": null},
    ]);
    let [difference] = report["differences"].as_array().unwrap().as_slice() else { panic!("one: {report:#}") };
    assert_eq!(difference["differences"], expected);
    assert_eq!(
        (&difference["line"], &difference["topic"], &difference["client_id"]),
        (&3.into(), &"devices/1/command".into(), &"app-1".into())
    );

    // Another guest, for people to read: everything passes.
    let (code, output, errors) = captured.replay(file, "identity", &["--limit", "3"]);
    assert_eq!(code, 1, "{output}{errors}");
    for line in [
        "    verdict: change → pass",
        "    verdict: deny 0x87 \"replayed\" → pass",
        "  different          4",
        "(shown: 3 of 4; --limit shows more)",
    ] {
        assert!(output.contains(line), "no {line:?} in {output}");
    }
    assert!(errors.contains("of 4 samples, 4 got another answer and 0 got none"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_replay_is_said_with_its_place() {
    let captured = run(&commands(), async |address| {
        let mut app = Device::connect(address, "app-1").await;
        app.publish("devices/1/command", command(KEY, "1", "n-1", now_s())).await;
    })
    .await;
    let good = fs::read_to_string(&captured.files()[0]).unwrap();
    let written = |name: &str, text: String| {
        fs::write(captured.path(name), text).unwrap();
        captured.path(name)
    };
    let (code, output, errors) =
        captured.replay(&written("cut.jsonl", format!("{good}{}", &good.lines().last().unwrap()[..99])), "lock_command_verifier", &[]);
    assert_eq!(code, 0, "{output}{errors}");
    assert!(errors.contains("cut.jsonl:3 was cut off while it was written; passed over"), "{errors}");

    let letters =
        written("letters.jsonl", r#"{"hook":"message.publish","message":{"topic":"devices/1/command","payload":"{}"}}"#.to_owned());
    let (code, report) = captured.report(&letters, "lock_command_verifier", &[]);
    assert_eq!((code, counts(&report), &report["unanswered"]), (0, [1, 0, 0, 0], &1.into()), "{report:#}");

    for (name, text, more, component, said) in [
        ("a", format!("{good}nonsense\n{good}"), &[][..], "identity", "a:3: this is no sample"),
        ("b", String::new(), &[], "identity", "there is no sample in these files"),
        (
            "c",
            good.clone(),
            &["--name", "verifire"],
            "identity",
            "no sample in these files is of the guest \"verifire\"; they are of: verifier",
        ),
        (
            "d",
            good.replace("\"guest\":\"verifier\"", "\"guest\":\"verfier\""),
            &[],
            "identity",
            "has no guest \"verfier\"; did you mean --name verifier?",
        ),
        ("e", good.clone(), &["--set", "max_age_s"], "identity", "\"max_age_s\" sets nothing"),
        ("f", good.clone(), &["--set", "max_age_s=soon"], "lock_command_verifier", "its trial run failed"),
        ("g", good.clone(), &[], "hostile", "which it was not granted"),
    ] {
        let (code, output, errors) = captured.replay(&written(name, text), component, more);
        assert!(code == 64 && errors.contains(said), "{name}: {code} {output} {errors}");
    }
}

/// Passwords are for the guest, and for nobody who reads files.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_never_captured() {
    let tables = format!(
        r#"
[[key]]
name = "devices"
text = "{KEY}"
[[guest]]
name = "devices"
path = {path:?}
grants = ["crypto"]
keys = ["devices"]
[access]
authenticate = ["guests"]
[[route]]
name = "who"
hook = "client.authenticate"
guests = ["devices"]
on_failure = "deny"
capture = {{ sample = 1.0, folder = "captures" }}
[[route]]
name = "what"
hook = "client.authorize"
guests = ["devices"]
capture = {{ sample = 1.0, folder = "captures" }}
"#,
        path = guest("access_example"),
    );
    let captured = run(&tables, async |address: std::net::SocketAddr| {
        let mut wire = std::net::TcpStream::connect(address).unwrap();
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.as_bytes()), b"d");
        let password: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        login(&mut wire, "d", &password);
    })
    .await;
    let [what, who] = &captured.files()[..] else { panic!("{:?}", captured.files()) };
    let text = fs::read_to_string(who).unwrap();
    assert!(text.contains("\"credentials\":\"withheld\"") && text.contains("\"verdict\":\"allow\""), "{text}");
    assert!(!text.contains("password"), "{text}");
    let (code, report) = captured.report(who, "access_example", &[]);
    assert_eq!((code, counts(&report), &report["incomplete"]), (0, [0, 0, 0, 0], &1.into()), "{report:#}");
    let (code, report) = captured.report(what, "access_example", &[]);
    assert_eq!((code, counts(&report)), (0, [1, 1, 0, 0]), "{report:#}");
}

/// CONNECT with a password, then a QoS 1 PUBLISH to `devices/{id}/x`; returns once that is acknowledged.
fn login(wire: &mut std::net::TcpStream, id: &str, password: &str) {
    use std::io::{Read as _, Write as _};
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let connect = [text("MQTT"), vec![4, 0b1100_0010, 0, 60], text(id), text(id), text(password)].concat();
    let publish = [text(&format!("devices/{id}/x")), vec![0, 1]].concat();
    for (head, packet, answer) in [(0x10, connect, &[0x20, 2, 0, 0][..]), (0x32, publish, &[0x40, 2, 0, 1])] {
        let length = u8::try_from(packet.len()).unwrap();
        assert!(length < 128);
        wire.write_all(&[&[head, length], packet.as_slice()].concat()).unwrap();
        let mut heard = vec![0; answer.len()];
        wire.read_exact(&mut heard).unwrap();
        assert_eq!(heard, answer);
    }
}
