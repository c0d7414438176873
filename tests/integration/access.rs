//! Who comes in and what they may do, over real sockets: password file, rules, guests, and what a refused client cannot break.

mod raw;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use self::raw::{Connect, Raw};
use crate::support::{Gate, KEY, json, records, replace};

/// `hookgate password …` with a password on standard input.
fn hookgate_password(verb: &str, file: &Path, user: &str, password: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hookgate"))
        .args(["password", verb])
        .arg(file)
        .arg(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A folder with a password file in which `lock` has the password `right`.
fn passwords() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    assert!(hookgate_password("add", &file, "lock", "right").status.success());
    let named = file.display().to_string();
    (folder, named)
}

fn refusals(gate: &Gate, hook: &str, by: &str) -> u64 {
    let label = hookgate::metrics::ReasonLabel { name: hook.to_owned(), reason: by.to_owned() };
    gate.bridge.metrics().access_refusals.get_or_create(&label).get()
}

async fn connack(gate: &Gate, connect: Connect) -> u8 {
    Raw::connect(gate.address(), &connect).await.1
}

fn v5(id: &str) -> Connect {
    Connect::v5(id)
}

fn v4(id: &str) -> Connect {
    Connect { level: 4, ..Connect::v5(id) }
}

#[test]
fn the_verb_keeps_a_password_file() {
    let (folder, file) = passwords();
    let file = Path::new(&file);
    for (verb, user, password, code, said) in [
        ("check", "lock", "right", 0, "this is the password"),
        ("check", "lock", "wrong", 1, "not the password"),
        ("check", "nobody", "right", 64, "no user \"nobody\""),
        ("add", "lock", "other", 0, "password changed"),
        ("check", "lock", "right", 1, "not the password"),
        ("add", "#x", "other", 64, "cannot stand in a password file"),
        ("remove", "lock", "", 0, "removed"),
        ("remove", "lock", "", 64, "no user"),
    ] {
        let output = hookgate_password(verb, file, user, password);
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{verb} {user} {password}: {words}");
        assert!(words.contains(said), "{verb} {user} {password}: {words}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_decide_who_comes_in() {
    let (_folder, file) = passwords();
    let gate = Gate::start(&format!("[access]\npassword_file = {file:?}"), &[]).await;
    for (user, password, five, older) in [
        (Some("lock"), Some("right"), 0, 0),
        (Some("lock"), Some("wrong"), 0x86, 4),
        (Some("lock"), None, 0x86, 4),
        (Some("nobody"), Some("right"), 0x86, 4),
        (None, None, 0x87, 5),
    ] {
        let with = |connect: Connect| Connect { user: user.map(str::to_owned), password: password.map(str::to_owned), ..connect };
        assert_eq!(connack(&gate, with(v5("d"))).await, five, "{user:?} {password:?}");
        assert_eq!(connack(&gate, with(v4("d"))).await, older, "{user:?} {password:?}");
    }
    assert_eq!(refusals(&gate, "client.authenticate", "password-file"), 4);
    let refused = |word: &str| gate.bridge.metrics().connections_refused.get_or_create(&word.into()).get();
    assert_eq!((refused("bad-user-name-or-password"), refused("not-authorized")), (6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_brings_a_password() {
    let (_folder, file) = passwords();
    let gate = Gate::start(&format!("[access]\npassword_file = {file:?}"), &[]).await;
    for (version, password, success) in
        [("mqttv311", "right", true), ("mqttv5", "right", true), ("mqttv311", "wrong", false), ("mqttv5", "wrong", false)]
    {
        let port = gate.address().port().to_string();
        let arguments = ["-p", &port, "-V", version, "-u", "lock", "-P", password, "-q", "1", "-t", "a", "-m", "x"].map(str::to_owned);
        let run = tokio::task::spawn_blocking(move || Command::new("mosquitto_pub").args(arguments).output());
        match run.await.unwrap() {
            Ok(output) => assert_eq!(output.status.success(), success, "{version} {password}: {output:?}"),
            Err(error) => return eprintln!("SKIPPED: mosquitto_pub does not start: {error}; install it to have this test"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_is_followed_and_a_broken_one_refused() {
    let (_folder, file) = passwords();
    let gate = Gate::start(&format!("[access]\npassword_file = {file:?}"), &[]).await;
    let lock = |password: &str| Connect { user: Some("lock".into()), password: Some(password.into()), ..v5("d") };
    assert_eq!(connack(&gate, lock("right")).await, 0);
    let refused = || gate.bridge.metrics().config_reloads_refused.get();
    replace(Path::new(&file), b"lock:plain text\n");
    gate.until("the refusal", |_| refused() == 1).await;
    assert_eq!(connack(&gate, lock("right")).await, 0, "the users that are known go on");

    fs::remove_file(&file).unwrap();
    assert!(hookgate_password("add", Path::new(&file), "lock", "new").status.success());
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while connack(&gate, lock("new")).await != 0 {
        assert!(std::time::Instant::now() < deadline, "the new password is not taken");
    }
    assert_eq!(connack(&gate, lock("right")).await, 0x86);
}

#[test]
fn check_names_the_lines_of_a_broken_password_file() {
    let folder = tempfile::tempdir().unwrap();
    let (config, users) = (folder.path().join("hookgate.toml"), folder.path().join("users"));
    fs::write(&users, "# fine\nlock:plain\nnobody\n").unwrap();
    fs::write(&config, crate::support::configuration("embedded", "[access]\npassword_file = \"users\"")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hookgate")).args(["check", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    for place in ["users:2:1", "users:3:1", "hookgate password add"] {
        assert!(said.contains(place), "{said}");
    }
}

/// The whole example of the documentation is taken as it stands.
#[test]
fn the_documented_example_is_a_configuration() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    let text = fs::read_to_string(&docs).unwrap();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (config, problems) = hookgate::config::Config::parse(&docs, example);
    assert_eq!(problems, []);
    assert_eq!((config.access.rules.len(), config.access.anonymous), (2, false));
}

const RULES: &str = r##"
[access]
default = "deny"
[[acl]]
permission = "allow"
topics = "devices/%c/#"
[[acl]]
permission = "allow"
username = "root"
topics = ["#", "$SYS/#"]
[[route]]
hook = "message.dropped"
topic = "dropped"
[[route]]
hook = "client.authorize"
topic = "audit"
"##;

#[tokio::test(flavor = "multi_thread")]
async fn rules_decide_about_topics() {
    let gate = Gate::start(RULES, &[]).await;
    let (mut five, _) = Raw::connect(gate.address(), &v5("d1")).await;
    assert_eq!(five.publish(1, 7, "devices/d1/state").await, Some(0x10));
    assert_eq!(five.publish(1, 8, "devices/d2/state").await, Some(0x87));
    assert_eq!(five.publish(2, 9, "devices/d2/state").await, Some(0x87), "PUBREC");
    five.send_publish(0, 0, "devices/d2/state").await;
    let filters = ["devices/d1/#", "devices/+/state", "#", "$share/g/devices/d1/a", "a/#/b"];
    let codes = five.subscribe(10, &filters).await;
    assert_eq!((codes[0], codes[1], codes[2], codes[4]), (1, 0x87, 0x87, 0x8F));

    let (mut older, _) = Raw::connect(gate.address(), &v4("d3")).await;
    assert_eq!(older.subscribe(1, &["devices/d3/a", "#"]).await, [1, 0x80]);
    assert_eq!(older.publish(1, 2, "devices/d1/state").await, Some(0), "3.1.1 has no other answer");
    assert_eq!(five.expect_quiet().await, 0, "what was denied reached nobody");

    let dropped = records(&gate.kafka(), &["dropped"], 4).await;
    let denied: Vec<_> = dropped.iter().map(json).filter(|value| value["reason"] == "denied").collect();
    assert_eq!(denied.len(), 4, "{denied:?}");
    let audit: Vec<_> = records(&gate.kafka(), &["audit"], 5).await.iter().map(json).collect();
    assert!(audit.iter().any(|value| value["topic"] == "#" && value["result"] == "deny" && value["by"] == "default"), "{audit:?}");
    assert!(audit.iter().any(|value| value["topic"] == "devices/d1/state" && value["result"] == "allow" && value["by"] == "acl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_needs_the_same_right_as_a_publish() {
    let gate = Gate::start(RULES, &[]).await;
    let (mut watcher, _) = Raw::connect(gate.address(), &Connect { user: Some("root".into()), ..v5("w") }).await;
    assert_eq!(watcher.subscribe(1, &["#"]).await, [1]);
    for (id, topic) in [("d1", "devices/d2/will"), ("d2", "devices/d2/will")] {
        let (dying, code) = Raw::connect(gate.address(), &Connect { will: Some(topic.into()), ..v5(id) }).await;
        assert_eq!(code, 0);
        drop(dying);
    }
    let will = watcher.receive().await;
    assert!(will.body.windows(4).any(|part| part == b"gone"), "{will:x?}");
    gate.until("the other will is dropped", |gate| gate.bridge.metrics().messages_dropped.get_or_create(&"denied".into()).get() == 1).await;
    assert_eq!(watcher.expect_quiet().await, 0);
}

fn example(more: &str) -> String {
    format!(
        r#"
[[key]]
name = "devices"
text = "{KEY}"
[[guest]]
name = "access"
path = "access_example.wasm"
grants = ["crypto"]
keys = ["devices"]
[[route]]
hook = "client.authenticate"
guests = ["access"]
[[route]]
hook = "client.authorize"
guests = ["access"]
{more}"#
    )
}

fn mac(parts: &[&[u8]]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.as_bytes());
    ring::hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

fn device(id: &str) -> Connect {
    let password = mac(&[id.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    Connect { user: Some(id.into()), password: Some(password), ..v5(id) }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_decide_and_abstain() {
    let (_folder, file) = passwords();
    let more = format!("[access]\npassword_file = {file:?}\ndefault = \"allow\"");
    let gate = Gate::start(&example(&more), &["access_example"]).await;
    let (mut own, code) = Raw::connect(gate.address(), &device("d1")).await;
    assert_eq!(code, 0);
    assert_eq!(connack(&gate, Connect { password: Some("guessed".into()), ..device("d1") }).await, 0x86);
    let lock = |password: &str| Connect { user: Some("lock".into()), password: Some(password.into()), ..v5("other") };
    assert_eq!(connack(&gate, lock("right")).await, 0, "the guest abstains, the password file knows it");
    assert_eq!(connack(&gate, lock("wrong")).await, 0x86);
    assert_eq!(connack(&gate, v5("anonymous")).await, 0x87);

    assert_eq!(own.publish(1, 1, "devices/d1/state").await, Some(0x10));
    assert_eq!(own.publish(1, 2, "devices/d2/state").await, Some(0x87));
    assert_eq!(own.publish(1, 3, "news").await, Some(0x10), "the guest abstains, the default allows");
    assert_eq!(own.subscribe(4, &["devices/d1/+", "devices/#", "news"]).await, [1, 0x87, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_topics_are_remembered_until_the_next_reload() {
    let gate = Gate::start(&example(""), &["access_example"]).await;
    let calls = || gate.bridge.metrics().guest_calls.get_or_create(&"access".into()).get();
    let (mut own, _) = Raw::connect(gate.address(), &device("d1")).await;
    let before = calls();
    for id in 1..=10 {
        assert_eq!(own.publish(1, id, "devices/d1/state").await, Some(0x10));
        assert_eq!(own.publish(1, 100 + id, "devices/d2/state").await, Some(0x87));
    }
    assert_eq!(calls() - before, 2);
    let text = fs::read_to_string(&gate.file).unwrap();
    let config = hookgate::config::Config::parse(&gate.file, &format!("{text}[access]\ncache_ms = 0\n"));
    assert_eq!(config.1, []);
    gate.bridge.reload(config.0).await.unwrap();
    for id in 1..=10 {
        assert_eq!(own.publish(1, id, "devices/d1/state").await, Some(0x10));
    }
    assert_eq!(calls() - before, 12);
}

fn hostile(on_failure: &str) -> String {
    let guest = "[[guest]]\nname = \"hostile\"\npath = \"hostile.wasm\"\ngrants = [\"settings\", \"log\", \"state\"]\nsettings = { mode = \"trap\" }\n";
    let route = |hook: &str| format!("[[route]]\nhook = \"{hook}\"\nguests = [\"hostile\"]\non_failure = \"{on_failure}\"\n");
    format!("{guest}{}{}[access]\nanonymous = true\ndefault = \"allow\"", route("client.authenticate"), route("client.authorize"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_fails_denies_unless_the_route_passes() {
    let gate = Gate::start(&hostile("deny"), &["hostile"]).await;
    assert_eq!(connack(&gate, v5("d")).await, 0x83);
    assert_eq!(connack(&gate, v4("d")).await, 3, "server unavailable");
    assert_eq!(refusals(&gate, "client.authenticate", "hostile"), 2);

    let gate = Gate::start(&hostile("pass"), &["hostile"]).await;
    let (mut device, code) = Raw::connect(gate.address(), &v5("d")).await;
    assert_eq!(code, 0);
    assert_eq!(device.publish(1, 1, "a").await, Some(0x10));

    let only_topics = hostile("deny").replace("client.authenticate", "client.authorize");
    let gate = Gate::start(&only_topics, &["hostile"]).await;
    let (mut device, code) = Raw::connect(gate.address(), &v5("d")).await;
    assert_eq!(code, 0);
    assert_eq!(device.publish(1, 1, "a").await, Some(0x83));
    assert_eq!(device.subscribe(2, &["a"]).await, [0x83]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_takes_nobodys_session() {
    let (_folder, file) = passwords();
    let gate = Gate::start(&format!("[access]\npassword_file = {file:?}"), &[]).await;
    let lock = |password: &str| Connect { user: Some("lock".into()), password: Some(password.into()), ..v5("same") };
    let (mut first, code) = Raw::connect(gate.address(), &lock("right")).await;
    assert_eq!(code, 0);
    assert_eq!(first.subscribe(1, &["a"]).await, [1]);
    for _ in 0..3 {
        assert_eq!(connack(&gate, lock("wrong")).await, 0x86);
    }
    assert_eq!(first.publish(1, 2, "a").await, Some(0));
    assert_eq!(gate.bridge.metrics().sessions.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_their_ends_keep_their_order() {
    let gate = Gate::start(&example("[access]\ndefault = \"allow\""), &["access_example"]).await;
    let (mut own, _) = Raw::connect(gate.address(), &device("d1")).await;
    let mut bytes = Vec::new();
    for id in 1..=40_u16 {
        bytes.extend(own.subscribe_bytes(2 * id, &["devices/d1/a"]));
        bytes.extend(own.unsubscribe_bytes(2 * id + 1, "devices/d1/a"));
    }
    own.send(&bytes).await;
    for id in 1..=40_u16 {
        for (kind, id) in [(0x90, 2 * id), (0xB0, 2 * id + 1)] {
            let packet = own.receive().await;
            assert_eq!((packet.first, &packet.body[..2]), (kind, &id.to_be_bytes()[..]));
            assert_eq!(packet.body.last(), Some(&u8::from(kind == 0x90)), "{packet:x?}");
        }
    }
    assert_eq!(gate.bridge.metrics().subscriptions.get(), 0);
}

const METHOD: &str = "hmac-challenge";

/// Authentication method and data as properties.
fn proof(method: &str, data: Option<&[u8]>) -> Vec<u8> {
    let data = data.map(|data| [vec![0x16], raw::text(data)].concat());
    [vec![0x15], raw::text(method), data.unwrap_or_default()].concat()
}

/// The authentication data of an AUTH with this code and the method.
fn challenge(packet: &raw::Packet, code: u8) -> Vec<u8> {
    assert_eq!((packet.first, packet.body[0]), (0xF0, code), "{packet:x?}");
    let rest = packet.body[2..].strip_prefix(&proof(METHOD, None)[..]).expect("the method comes first");
    rest.get(3..).unwrap_or_default().to_vec()
}

async fn begin(gate: &Gate, id: &str) -> (Raw, Vec<u8>) {
    let mut raw = Raw::open(gate.address(), &Connect { properties: proof(METHOD, None), ..v5(id) }).await;
    let nonce = challenge(&raw.receive().await, 0x18);
    assert_eq!(nonce.len(), 16);
    (raw, nonce)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_answered_before_the_client_is_in_and_again() {
    let gate = Gate::start(&example(""), &["access_example"]).await;
    let (mut device, nonce) = begin(&gate, "d1").await;
    device.auth(0x18, &proof(METHOD, Some(&mac(&[b"d1", &nonce])))).await;
    let connack = device.receive().await;
    assert_eq!((connack.first, connack.body[1]), (0x20, 0));
    for text in [&proof(METHOD, None)[..], b"welcome"] {
        assert!(connack.body.windows(text.len()).any(|part| part == text), "{connack:x?}");
    }
    assert_eq!(device.publish(1, 1, "devices/d1/state").await, Some(0x10));

    device.auth(0x19, &proof(METHOD, None)).await;
    let nonce = challenge(&device.receive().await, 0x18);
    assert_eq!(device.publish(1, 2, "devices/d1/state").await, Some(0x10), "everything else goes on");
    device.auth(0x18, &proof(METHOD, Some(&mac(&[b"d1", &nonce])))).await;
    assert_eq!(challenge(&device.receive().await, 0), b"welcome");

    device.auth(0x19, &proof(METHOD, None)).await;
    device.receive().await;
    device.auth(0x18, &proof(METHOD, Some(&mac(&[b"d1", &nonce])))).await;
    let end = device.receive().await;
    assert_eq!((end.first, end.body[0]), (0xE0, 0x87), "an old answer to a new challenge: {end:x?}");
    assert!(device.receive_or_end().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_that_go_wrong_let_nobody_in() {
    let gate = Gate::start(&example("[access]\nanonymous = true"), &["access_example"]).await;
    let wrong = proof(METHOD, Some(&[0; 32]));
    let other = proof("SCRAM-SHA-1", Some(&[0; 32]));
    for (what, code, properties, expected) in
        [("a wrong answer", 0x18, &wrong, 0x87), ("another method", 0x18, &other, 0x82), ("another reason code", 0x19, &wrong, 0x82)]
    {
        let (mut raw, _) = begin(&gate, "d1").await;
        raw.auth(code, properties).await;
        let connack = raw.receive().await;
        assert_eq!((connack.first, connack.body[1]), (0x20, expected), "{what}: {connack:x?}");
    }
    let (mut raw, _) = begin(&gate, "d1").await;
    raw.send(&[0xC0, 0]).await;
    assert_eq!(raw.receive().await.body[1], 0x82, "PINGREQ before the client is in");
    for (properties, expected) in [(proof("SCRAM-SHA-1", None), 0x8C), ([vec![0x16], raw::text(b"x")].concat(), 0x82)] {
        assert_eq!(connack(&gate, Connect { properties, ..v5("d1") }).await, expected);
    }
    // Of those who are in.
    for (properties, begins) in [(vec![], proof(METHOD, None)), (proof(METHOD, None), proof("SCRAM-SHA-1", None))] {
        let (mut raw, nonce) =
            if properties.is_empty() { (Raw::connect(gate.address(), &v5("d2")).await.0, vec![]) } else { begin(&gate, "d2").await };
        if !nonce.is_empty() {
            raw.auth(0x18, &proof(METHOD, Some(&mac(&[b"d2", &nonce])))).await;
            assert_eq!(raw.receive().await.body[1], 0);
        }
        raw.auth(0x19, &begins).await;
        let end = raw.receive().await;
        assert_eq!((end.first, end.body[0]), (0xE0, 0x82), "{end:x?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_exchange_takes_nobodys_session() {
    let gate = Gate::start(&example(""), &["access_example"]).await;
    let (mut first, code) = Raw::connect(gate.address(), &device("d1")).await;
    assert_eq!(code, 0);
    let (second, _) = begin(&gate, "d1").await;
    assert_eq!(first.publish(1, 1, "devices/d1/state").await, Some(0x10));
    drop(second);
    assert_eq!(first.publish(1, 2, "devices/d1/state").await, Some(0x10));
}
