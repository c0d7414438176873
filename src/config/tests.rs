use std::path::Path;

use super::*;

const GOOD: &str = r#"
[node]
name = "n1"
[[listener]]
bind = "127.0.0.1:0"
[kafka]
bootstrap_servers = "embedded"
[[key]]
name = "lock-hmac"
text = "secret"
[[guest]]
name = "verify"
path = "verify.wasm"
grants = ["crypto", "state"]
keys = ["lock-hmac"]
settings = { max_age_s = 30 }
[[route]]
hook = "message.publish"
filter = "devices/+/state"
guests = ["verify"]
topic = "message_state"
format = "emqx-bridge"
"#;

#[test]
fn a_good_file_becomes_checked_types() {
    let (config, problems) = Config::parse(Path::new("/etc/hookgate.toml"), GOOD);
    assert_eq!(problems, []);
    assert_eq!(config.node, "n1");
    assert_eq!(config.guests[0].path.value, Path::new("/etc/verify.wasm"));
    assert_eq!(config.guests[0].settings, [("max_age_s".to_owned(), "30".to_owned())]);
    let route = &config.routes[0];
    assert_eq!((route.on_failure, route.ack, route.name.as_str()), (OnFailure::Deny, Ack::Kafka, "message.publish devices/+/state"));
    assert_eq!(route.record.as_ref().map(|record| record.key.to_string()), Some("${client_id}".to_owned()));
}

/// Each line of `expected` must begin one problem, in order.
fn check(text: &str, expected: &[&str]) {
    let (_, problems) = Config::parse(Path::new("h.toml"), text);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let agree = problems.len() == expected.len() && problems.iter().zip(expected).all(|(problem, start)| problem.starts_with(start));
    assert!(agree, "expected {expected:#?}\nfound {problems:#?}");
}

#[test]
fn every_problem_is_named_at_once_with_its_place() {
    check(
        r#"
[[listener]]
bind = "nowhere"
colour = "red"
[kafka]
bootstrap_server = "embedded"
acks = "most"
linger_ms = -1
properties = { "bootstrap.servers" = "x" }
[[key]]
name = "k"
[[guest]]
name = "g"
path = "g.wasm"
grants = ["filesystem"]
keys = ["kk"]
[[guest]]
name = "g"
path = 7
[[route]]
hook = "message.publish"
filter = ["a/#/b", "ok"]
guests = ["h"]
topic = "bad topic"
key = "${clientid}"
[[route]]
hook = "client.authenticate"
topic = "t"
ack = "kafka"
[[route]]
hook = "client.connected"
filter = "a"
"#,
        &[
            "h.toml:3:8: listener[0].bind = \"nowhere\"",
            "h.toml:4:1: unknown key `listener[0].colour`",
            "h.toml:5:1: kafka: `bootstrap_servers` is missing",
            "h.toml:6:1: unknown key `kafka.bootstrap_server`\n    help: did you mean `bootstrap_servers`?",
            "h.toml:7:8: kafka.acks = \"most\" is not known",
            "h.toml:8:13: kafka.linger_ms: -1 does not fit",
            "h.toml:9:38: kafka.properties.\"bootstrap.servers\" is set by Hookgate",
            "h.toml:10:1: key[0]: exactly one of",
            "h.toml:15:11: guest[0].grants: \"filesystem\" is no capability",
            "h.toml:16:9: guest[0].keys do nothing without the grant",
            "h.toml:16:9: there is no key \"kk\"",
            "h.toml:18:8: guest[1].name: a second guest is named \"g\"",
            "h.toml:19:8: guest[1].path: 7 is not a text",
            "h.toml:22:11: route[0].filter = \"a/#/b\" is no topic filter",
            "h.toml:23:11: there is no guest \"h\"",
            "h.toml:24:9: route[0].topic = \"bad topic\" is no Kafka topic name",
            "h.toml:25:7: route[0].key = \"${clientid}\": there is no field `clientid`",
            "h.toml:27:8: route[1].hook: this version does not raise client.authenticate",
            "h.toml:29:7: route[1].ack does nothing here",
            "h.toml:30:1: route[2]: neither `guests` nor `topic`",
            "h.toml:32:10: route[2].filter does nothing: client.connected has no topic",
        ],
    );
}

#[test]
fn a_file_that_is_no_toml_says_only_that() {
    check("[kafka\nacks = 1", &["h.toml:1:7: "]);
}

#[test]
fn the_store_needs_a_folder_and_an_interval_its_policy() {
    let around = |tables: &str| format!("{tables}\n[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"embedded\"");
    let store = |tables: &str| Config::parse(Path::new("/etc/hookgate.toml"), &around(tables)).0.store;
    let at = |folder: &str, sync| Some(Store { folder: folder.into(), sync });
    assert_eq!(store(""), None);
    assert_eq!(store("[node]\ndata_dir = \"data\""), at("/etc/data", SyncPolicy::Always));
    assert_eq!(store("[node]\ndata_dir = \"/var\"\n[store]\nsync = \"never\""), at("/var", SyncPolicy::Never));
    assert_eq!(store("[node]\ndata_dir = \"d\"\n[store]\nsync = \"interval\""), at("/etc/d", SyncPolicy::Interval(1_000)));
    let slow = "[node]\ndata_dir = \"d\"\n[store]\nsync = \"interval\"\nsync_interval_ms = 50";
    assert_eq!(store(slow), at("/etc/d", SyncPolicy::Interval(50)));
    check(&around("[store]\nsync = \"always\""), &["h.toml:1:1: store: does nothing without a `data_dir`"]);
    check(
        &around("[node]\ndata_dir = \"d\"\n[store]\nsync = \"often\"\nsync_interval_ms = 0"),
        &[
            "h.toml:4:8: store.sync = \"often\" is not known",
            "h.toml:5:20: store.sync_interval_ms does nothing with this `sync`",
            "h.toml:5:20: store.sync_interval_ms: 0 does not fit",
        ],
    );
}

#[test]
fn a_gate_needs_a_door() {
    check("listener = []\n[kafka]\nbootstrap_servers = \"embedded\"", &["h.toml:1:12: listener is empty"]);
}
