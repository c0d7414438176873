use std::path::Path;

use super::*;
use crate::config::Config;

const HEAD: &str = r#"[node]
name = "n1"
[[listener]]
bind = "127.0.0.1:0"
[kafka]
bootstrap_servers = "embedded"
[[cluster]]
name = "eu"
bootstrap_servers = "eu:9092"
[[guest]]
name = "verify"
path = "verify.wasm"
"#;

fn read(tables: &str) -> (Config, Vec<String>) {
    let (config, problems) = Config::parse(Path::new("h.toml"), &format!("{HEAD}{tables}"));
    (config, problems.iter().map(ToString::to_string).collect())
}

/// Each of `expected` must begin one problem, in order.
fn check(tables: &str, expected: &[&str]) {
    let (_, problems) = read(tables);
    let agree = problems.len() == expected.len() && problems.iter().zip(expected).all(|(problem, start)| problem.starts_with(start));
    assert!(agree, "expected {expected:#?}\nfound {problems:#?}");
}

#[test]
fn a_downlink_is_read_with_its_defaults() {
    let (config, problems) = read("[[downlink]]\nname = \"commands\"\ntopics = \"device_commands\"\ntopic = \"devices/${key}/command\"\n");
    assert_eq!(problems, [""; 0]);
    let [downlink] = &config.downlinks[..] else { panic!("one downlink") };
    assert_eq!((downlink.name.as_str(), downlink.group.as_str(), downlink.cluster()), ("commands", "hookgate-n1-commands", "kafka"));
    assert_eq!((downlink.start, downlink.max_in_flight, downlink.on_refusal), (Start::Latest, 1_000, OnUnfit::DeadLetter));
    assert!(downlink.buries());
    let message = downlink.message.as_ref().unwrap();
    assert_eq!((message.qos, message.retain, message.expiry, &message.payload), (1, false, None, &None));
}

#[test]
fn every_setting_of_a_downlink_is_read() {
    let (config, problems) = read(
        r#"[[downlink]]
name = "commands"
cluster = "eu"
topics = ["device_commands", "^fleet-.*"]
group = "g"
start = "earliest"
max_in_flight = 7
guests = ["verify"]
topic = "devices/${key}/command"
payload = "${value.command}"
qos = 2
retain = true
expiry = "1h"
content_type = "application/json"
response_topic = "answers/${key}"
correlation_data = "${header.id}"
headers = ["id"]
on_failure = { retry = 2, backoff = "1ms", then = "drop" }
on_refusal = "drop"
properties = { "fetch.wait.max.ms" = 10 }
[[downlink]]
name = "free"
topics = ["other"]
guests = ["verify"]
on_failure = "pass"
on_refusal = "drop"
"#,
    );
    assert_eq!(problems, [""; 0]);
    let [commands, free] = &config.downlinks[..] else { panic!("two downlinks") };
    let topics: Vec<&str> = commands.topics.iter().map(|topic| topic.value.as_str()).collect();
    assert_eq!((commands.cluster(), commands.group.as_str(), &topics[..]), ("eu", "g", &["device_commands", "^fleet-.*"][..]));
    assert_eq!((commands.start, commands.max_in_flight, commands.on_failure), (Start::Earliest, 7, OnFailure::Drop));
    assert_eq!(commands.retry.map(|retry| retry.times), Some(2));
    assert!(!commands.buries() && !free.buries() && free.message.is_none());
    let message = commands.message.as_ref().unwrap();
    assert_eq!((message.qos, message.retain, message.expiry), (2, true, Some(Duration::from_secs(3600))));
    assert_eq!(message.user_properties, UserProperties::Named(vec!["id".to_owned()]));
    assert_eq!(commands.properties[0].1.value, "10");
}

#[test]
fn what_a_downlink_cannot_have_is_refused() {
    check(
        r#"[[downlink]]
name = "a"
topics = []
topic = "devices/${client_id}"
qos = 3
headers = "all"
on_failure = "drop"
properties = { "group.id" = "x" }
[[downlink]]
topics = ["a b", "^a b"]
cluster = "us"
guests = ["verfy"]
retain = true
expiry = "0s"
on_failure = "deny"
[[downlink]]
name = "a"
topics = ["x"]
topic = "t"
group = ""
"#,
        &[
            "h.toml:15:10: downlink[0].topics is empty",
            "h.toml:16:9: downlink[0].topic = \"devices/${client_id}\": there is no field `client_id`",
            "h.toml:17:7: downlink[0].qos: 3 does not fit",
            "h.toml:18:11: downlink[0].headers = \"all\" is not known",
            "h.toml:19:14: downlink[0].on_failure does nothing without guests",
            "h.toml:20:29: downlink[0].properties.\"group.id\" is set by Hookgate",
            "h.toml:21:1: downlink[1]: `name` is missing",
            "h.toml:22:11: downlink[1].topic = \"a b\" is no Kafka topic name",
            "h.toml:25:10: downlink[1].retain does nothing without a topic",
            "h.toml:26:10: downlink[1].expiry does nothing without a topic",
            "h.toml:26:10: downlink[1].expiry: \"0s\" is no length of time",
            "h.toml:27:14: downlink[1].on_failure: nobody waits for an answer",
            "h.toml:29:8: downlink[2].name: a second downlink is named \"a\"",
            "h.toml:32:9: downlink[2].group is empty",
        ],
    );
}

#[test]
fn names_of_clusters_guests_and_groups_are_compared() {
    check(
        "[[downlink]]\nname = \"a\"\ntopics = [\"x\"]\ntopic = \"t\"\ncluster = \"us\"\nguests = [\"verfy\"]\n\
         [[downlink]]\nname = \"b\"\ntopics = [\"x\"]\ntopic = \"t\"\ngroup = \"g\"\n\
         [[downlink]]\nname = \"c\"\ntopics = [\"y\"]\ntopic = \"t\"\ngroup = \"g\"\n\
         [[downlink]]\nname = \"d\"\ntopics = [\"y\"]\ntopic = \"t\"\ngroup = \"g\"\ncluster = \"eu\"\n",
        &[
            "h.toml:17:11: there is no cluster \"us\"",
            "h.toml:18:11: there is no guest \"verfy\"",
            "h.toml:26:11: the downlinks \"b\" and \"c\" have one group",
        ],
    );
}
