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
fn a_gate_needs_a_door() {
    check("listener = []\n[kafka]\nbootstrap_servers = \"embedded\"", &["h.toml:1:12: listener is empty"]);
}

#[test]
fn the_admin_interface_stays_on_this_machine() {
    let with = |tables: &str| format!("{GOOD}{tables}\n");
    let (config, problems) = Config::parse(Path::new("h.toml"), &with("[admin]\nbind = \"[::1]:18083\"\n[mqtt]\nsys_interval_s = 0"));
    assert_eq!(problems, []);
    assert_eq!(config.admin.map(|admin| admin.bind.value.port()), Some(18083));
    assert_eq!((config.mqtt.sys_interval_s, Config::parse(Path::new("h.toml"), GOOD).0.mqtt.sys_interval_s), (0, 10));
    check(&with("[admin]\nbind = \"0.0.0.0:18083\""), &["h.toml:24:8: admin.bind = \"0.0.0.0:18083\": other machines could reach it"]);
    check(&with("[admin]"), &["h.toml:23:1: admin: `bind` is missing"]);
    check(&with("[mqtt]\nsys_interval_s = 90000"), &["h.toml:24:18: mqtt.sys_interval_s: 90000 does not fit"]);
}
