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
    assert_eq!(
        (route.on_failure, route.delivery.ack, route.name.as_str()),
        (OnFailure::Deny, Ack::Kafka, "message.publish devices/+/state")
    );
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
fn the_guests_runtime_is_checked() {
    let guests = r#"
[[listener]]
bind = "127.0.0.1:0"
[kafka]
bootstrap_servers = "embedded"
[guests]
instances = 0
history = 3
[redis]
url = "redis://127.0.0.1"
[[tenant]]
id = "acme"
ceilings = { cpu_share = 0.5, instances = 20 }
[[tenant]]
id = "acme"
[[guest]]
name = "g"
tenant = "acme"
path = "g.wasm"
isolation = "fresh"
state = { backend = "disk" }
limits = { cpu_share = 1.5, instances = 21, recycle_at_bytes = 100000000 }
breaker = { window = 10, rollback = false, probation = "1m" }
canary = { share = 0.05, for = "soon" }
shadow = { topic = "a b" }
trial = { verdicts = "same" }
[[guest]]
name = "h"
tenant = "acne"
path = "h.wasm"
grants = ["state"]
state = { backend = "disk" }
[[route]]
hook = "message.publish"
topic = "t"
on_failure = { retry = 3 }
capture = { sample = 0.1 }
[[route]]
hook = "message.publish"
guests = ["g"]
on_failure = { backoff = "1m", then = "explode" }
"#;
    check(
        guests,
        &[
            "h.toml:7:13: guests.instances: 0 does not fit",
            "h.toml:8:11: guests.history does nothing without a folder to keep it in",
            "h.toml:9:1: [redis] does nothing: no guest keeps its state there",
            "h.toml:12:6: the guests of tenant \"acme\" may take 21 instances together, and its ceiling is 20",
            "h.toml:15:6: name: a second tenant is named \"acme\"",
            "h.toml:20:13: guest[0].isolation = \"fresh\" is not known",
            "h.toml:21:21: guest[0].state does nothing without the grant \"state\"",
            "h.toml:22:24: guest[0].limits.cpu_share: 1.5 does not fit",
            "h.toml:22:64: guest[0].limits.recycle_at_bytes: 100000000 does not fit",
            "h.toml:23:22: guest[0].breaker.window: 10 is no length of time",
            "h.toml:23:56: guest[0].breaker.probation does nothing without rollback",
            "h.toml:24:32: guest[0].canary.for: \"soon\" is no length of time",
            "h.toml:25:10: guest[0].shadow beside canary: a new version takes one way",
            "h.toml:25:20: guest[0].shadow.topic = \"a b\" is no Kafka topic name",
            "h.toml:26:9: guest[0].trial: `samples` is missing",
            "h.toml:29:10: there is no tenant \"acne\"",
            "h.toml:32:21: guest[1].state on disk wants a folder",
            "h.toml:36:14: route[0].on_failure does nothing without guests",
            "h.toml:37:11: route[0].capture does nothing without guests: it records their calls",
            "h.toml:37:11: route[0].capture: there is no folder for the files",
            "h.toml:41:14: route[1].on_failure: `retry` is missing",
            "h.toml:41:26: route[1].on_failure.backoff: \"1m\" is no length of time",
            "h.toml:41:39: route[1].on_failure.then = \"explode\" is not known",
        ],
    );
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
ack = "none"
delivery = "exactly-once"
cluster = "eu"
[[route]]
hook = "client.connected"
filter = "a"
max_in_flight = 1
[spool]
max_bytes = 1048576
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
            "h.toml:29:7: route[1].ack = \"none\" does nothing here",
            "h.toml:30:12: route[1].delivery = \"exactly-once\" needs ack = \"kafka\"",
            "h.toml:30:12: route[1].delivery = \"exactly-once\": only what a client publishes",
            "h.toml:31:11: there is no cluster \"eu\"",
            "h.toml:32:1: route[2]: neither `guests` nor `topic`",
            "h.toml:34:10: route[2].filter does nothing: client.connected has no topic",
            "h.toml:35:17: route[2].max_in_flight does nothing without a topic",
            "h.toml:36:1: spool: does nothing without a `data_dir`",
            "h.toml:37:13: spool.segment_bytes = 16777216 is more than half of max_bytes",
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
    let at = |folder: &str, sync| Some(Store { folder: folder.into(), sync, forget_state: Vec::new() });
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

/// What `[access]` and its surroundings come to.
fn access(tables: &str) -> Access {
    let text = format!("listener = [{{ bind = \"127.0.0.1:0\" }}]\nkafka = {{ bootstrap_servers = \"embedded\" }}\n{tables}");
    let (config, problems) = Config::parse(Path::new("/etc/h.toml"), &text);
    assert_eq!(problems, [], "{tables}");
    config.access
}

const GUEST: &str = "[[guest]]\nname = \"g\"\npath = \"g.wasm\"\n[[route]]\nguests = [\"g\"]\nhook = ";
const RULE: &str = "[[acl]]\npermission = \"allow\"\ntopics = \"a/%c/#\"\n";

#[test]
fn who_is_asked_follows_from_what_is_there() {
    let (open, closed) = (Permission::Allow, Permission::Deny);
    let guests = |hook: &str| format!("{GUEST}\"{hook}\"\n");
    let file = "[access]\npassword_file = \"p\"\n";
    let both = guests("client.authenticate") + file;
    for (tables, authenticate, authorize, anonymous, default) in [
        (String::new(), vec![], vec![], true, open),
        (file.into(), vec![Authenticator::PasswordFile], vec![], false, open),
        (guests("client.authenticate"), vec![Authenticator::Guests], vec![], false, open),
        (guests("client.authorize"), vec![], vec![Authorizer::Guests], true, closed),
        (RULE.into(), vec![], vec![Authorizer::Acl], true, closed),
        (format!("{RULE}[access]\ndefault = \"allow\"\nanonymous = false"), vec![], vec![Authorizer::Acl], false, open),
        (both.clone(), vec![Authenticator::Guests, Authenticator::PasswordFile], vec![], false, open),
        (
            both + "authenticate = [\"password-file\", \"guests\"]",
            vec![Authenticator::PasswordFile, Authenticator::Guests],
            vec![],
            false,
            open,
        ),
    ] {
        let access = access(&tables);
        assert_eq!((access.authenticate, access.authorize), (authenticate, authorize), "{tables}");
        assert_eq!((access.anonymous, access.default), (anonymous, default), "{tables}");
    }
    assert_eq!(access(file).password_file.map(|file| file.value), Some("/etc/p".into()));
    assert_eq!(access(&format!("{RULE}[access]\ncache_ms = 0")).cache_ms, 0);
}

#[test]
fn access_that_would_do_nothing_or_harm_is_refused() {
    check(
        r##"listener = [{ bind = "127.0.0.1:0" }]
kafka = { bootstrap_servers = "embedded" }
[access]
password_file = "p"
authenticate = ["guests", "guest"]
authorize = ["acl", "acl"]
anonymous = "no"
default = "ask"
cache_ms = 86400001
colour = "red"
[[acl]]
permission = "perhaps"
peer = "10.0.0.1/8"
action = "connect"
topics = ["a/#/b", "$share/g/a", "%c/%u/#", "eq #"]
[[acl]]
username = []
[[route]]
hook = "client.authorize"
filter = "a/#"
topic = "audit"
on_failure = "pass"
[[guest]]
name = "g"
path = "g.wasm"
[[route]]
hook = "client.authenticate"
filter = "a"
guests = ["g"]
on_failure = "drop"
"##,
        &[
            "h.toml:5:16: access.authenticate: \"password-file\" is left out",
            "h.toml:5:27: access.authenticate: \"guest\" is not known\n    help: did you mean `guests`?",
            "h.toml:6:21: access.authorize: \"acl\" stands here twice",
            "h.toml:7:13: access.anonymous: \"no\" does not fit",
            "h.toml:8:11: access.default = \"ask\" is not known",
            "h.toml:9:12: access.cache_ms: 86400001 does not fit",
            "h.toml:10:1: unknown key `access.colour`",
            "h.toml:12:14: acl[0].permission = \"perhaps\" is not known",
            "h.toml:13:8: acl[0].peer = \"10.0.0.1/8\": the address has bits",
            "h.toml:14:10: acl[0].action = \"connect\" is not known",
            "h.toml:15:11: acl[0].topics = \"a/#/b\" is no topic filter",
            "h.toml:15:20: acl[0].topics = \"$share/g/a\" is no topic filter",
            "h.toml:16:1: acl[1]: `permission` is missing",
            "h.toml:16:1: acl[1]: `topics` is missing",
            "h.toml:17:12: acl[1].username is empty",
            "h.toml:22:14: route[0].on_failure does nothing without guests",
            "h.toml:28:10: route[1].filter does nothing: client.authenticate has no topic",
            "h.toml:30:14: route[1].on_failure: on client.authenticate somebody waits",
        ],
    );
    check(
        "listener = [{ bind = \"127.0.0.1:0\" }]\nkafka = { bootstrap_servers = \"embedded\" }\n[access]\ncache_ms = 5",
        &["h.toml:4:12: access.cache_ms does nothing: nobody is asked"],
    );
}

#[test]
fn listeners_take_what_is_not_said_from_mqtt() {
    let text = r#"
[mqtt]
max_inflight = 7
messages_per_s = 5
[[listener]]
bind = "[::]:0"
limits = { max_inflight = 9, connects_per_s = 10, max_connections = 3 }
[[listener]]
protocol = "wss"
bind = "127.0.0.1:0"
path = "/things"
proxy_protocol = "required"
proxy_from = ["10.0.0.0/8", "::1"]
tls = { certificate = "a.pem", key = "a.key", client_ca = "ca.pem", username = "certificate-name", min_version = "1.3" }
[kafka]
bootstrap_servers = "embedded"
"#;
    let (config, problems) = Config::parse(Path::new("/etc/h.toml"), text);
    assert_eq!(problems, []);
    let [first, second] = &config.listeners[..] else { panic!("two listeners") };
    assert_eq!((first.name.as_str(), first.protocol, &first.tls, &first.proxy_from), ("mqtt", DoorProtocol::Mqtt, &None, &None));
    assert_eq!((first.max_connections, first.connects_per_s, first.connects_burst), (3, 10, 10));
    assert_eq!((first.limits.max_inflight, first.limits.messages_per_s), (9, 5));
    assert_eq!((second.name.as_str(), second.path.as_str(), second.limits.max_inflight), ("wss", "/things", 7));
    assert_eq!(second.proxy_from.as_ref().map(Vec::len), Some(2));
    let tls = second.tls.as_ref().expect("a table");
    let files: Vec<_> = tls.files().collect();
    assert_eq!(files, [Path::new("/etc/a.pem"), Path::new("/etc/a.key"), Path::new("/etc/ca.pem")]);
    let clients = tls.clients.as_ref().map(|clients| (clients.required, clients.name_is_username));
    assert_eq!((clients, tls.min_version), (Some((true, true)), TlsVersion::V13));
}

#[test]
fn settings_that_do_nothing_for_a_listener_are_refused() {
    check(
        r#"
[kafka]
bootstrap_servers = "embedded"
[[listener]]
bind = "127.0.0.1:0"
tls = { certificate = "a.pem", key = "a.key" }
path = "/mqtt"
[[listener]]
bind = "127.0.0.1:1"
limits = { connects_burst = 5, max_retained_messages = 1, max_topic_levels = 1000 }
[[listener]]
protocol = "mqtts"
bind = "127.0.0.1:2"
[[listener]]
protocol = "ws"
bind = "127.0.0.1:3"
path = "mqtt"
proxy_from = ["10.0.0.1/8"]
[[listener]]
name = "a"
protocol = "wss"
bind = "127.0.0.1:4"
proxy_protocol = "required"
tls = { certificate = "a.pem", key = "a.key", client_certificate = "optional", username = "certificate-name" }
[[listener]]
name = "b"
protocol = "mqtts"
bind = "127.0.0.1:5"
[listener.tls]
key = "a.key"
client_ca = "ca.pem"
client_certificate = "optional"
username = "certificate-name"
min_version = "1.1"
"#,
        &[
            "h.toml:6:7: listener[0].tls does nothing with protocol \"mqtt\"",
            "h.toml:7:8: listener[0].path does nothing with protocol \"mqtt\"",
            "h.toml:9:8: a second listener is named \"mqtt\"",
            "h.toml:10:29: listener[1].limits.connects_burst does nothing without",
            "h.toml:10:32: unknown key `listener[1].limits.max_retained_messages`",
            "h.toml:10:78: listener[1].limits.max_topic_levels: 1000 does not fit",
            "h.toml:11:1: listener[2]: `tls` is missing",
            "h.toml:17:8: listener[3].path = \"mqtt\" is no path",
            "h.toml:18:15: listener[3].proxy_from = \"10.0.0.1/8\": the address has bits beyond its prefix; this range begins at 10.0.0.0",
            "h.toml:18:15: listener[3].proxy_from does nothing without",
            "h.toml:23:18: listener[4].proxy_protocol: whoever may send the header",
            "h.toml:24:68: listener[4].tls.client_certificate does nothing without `client_ca`",
            "h.toml:24:91: listener[4].tls.username does nothing without `client_ca`",
            "h.toml:29:1: listener[5].tls: `certificate` is missing",
            "h.toml:33:12: listener[5].tls.username would let a client without",
            "h.toml:34:15: listener[5].tls.min_version = \"1.1\" is not known",
        ],
    );
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
