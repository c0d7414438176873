//! TLS: versions, client certificates and their names, certificates that change under open connections.

use std::{fs, process::Command};

use hookgate::source::mqtt::Broker;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;

use super::{
    House,
    certificates::{Authority, Pair, here, quoted, shown},
    come_in, parse, ping, rest, say,
};
use crate::support::{Gate, PATIENCE, json, records, replace};

#[tokio::test]
async fn both_versions_come_in_and_the_oldest_can_be_set() {
    let authority = Authority::new();
    let tls = authority.sign("server", None, &[]).settings();
    let house = House::start(&format!(
        "[[listener]]\nname = \"any\"\nprotocol = \"mqtts\"\nbind = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n\
         [[listener]]\nname = \"new\"\nprotocol = \"mqtts\"\nbind = \"127.0.0.1:0\"\ntls = {{ {tls}, min_version = \"1.3\" }}\n"
    ))
    .await;
    for (door, version, comes_in) in [("any", &TLS12, true), ("any", &TLS13, true), ("new", &TLS12, false), ("new", &TLS13, true)] {
        let connector = authority.client(&[version], None);
        match connector.connect(here(), house.knock(door).await).await {
            Ok(mut stream) => {
                assert!(comes_in, "{door} {version:?}");
                come_in(&mut stream, "device").await;
                // More than one TLS record and more than a socket takes at once, there and back.
                say(&mut stream, &[0xC0, 0].repeat(50_000)).await;
                super::expect(&mut stream, &[0xD0, 0].repeat(50_000)).await;
            }
            Err(error) => assert!(!comes_in, "{door} {version:?}: {error}"),
        }
    }
    house.until("one refusal", |house| house.refused("tls-handshake") == 1).await;
    let mut plain = house.knock("any").await;
    say(&mut plain, &super::connect(4, "plain", 0)).await;
    rest(&mut plain).await;
    house.until("another refusal", |house| house.refused("tls-handshake") == 2).await;
}

/// mosquitto_pub through a door; whether it says that it succeeded. `None`, said aloud, when it is not installed.
async fn mosquitto(port: u16, authority: &Authority, own: Option<&Pair>, words: &str) -> Option<bool> {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--cafile"]).arg(authority.file());
    if let Some(pair) = own {
        command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key);
    }
    command.args(words.split_whitespace());
    match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Ok(output) => Some(output.status.success()),
        Err(error) => {
            eprintln!("SKIPPED: mosquitto_pub does not start: {error}; install it to have this test");
            None
        }
    }
}

const CONNECTED: &str = "[[route]]\nhook = \"client.connected\"\ntopic = \"connected\"\n";

#[tokio::test]
async fn the_name_in_a_client_certificate_reaches_hooks_and_may_be_the_user_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.sign("server", None, &[]).settings();
    let named = authority.sign("named", Some("lock-7"), &["other.example"]);
    let by_dns = authority.sign("by-dns", None, &["lock-8.example"]);
    let nameless = authority.sign("nameless", None, &[]);
    let foreign = stranger.sign("foreign", Some("lock-7"), &[]);
    let ca = quoted(&authority.file());
    let door = |name: &str, more: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nprotocol = \"mqtts\"\nbind = \"127.0.0.1:0\"\ntls = {{ {server}, client_ca = {ca}{more} }}\n"
        )
    };
    let doors = [
        door("required", ""),
        door("optional", ", client_certificate = \"optional\""),
        door("username", ", username = \"certificate-name\""),
    ];
    let gate = Gate::start(&format!("{}{CONNECTED}", doors.concat()), &[]).await;
    let port = |name: &str| gate.bridge.addresses().iter().find(|(door, _)| door == name).unwrap().1.port();
    let cases = [
        ("required", None, false),
        ("required", Some(&foreign), false),
        ("required", Some(&named), true),
        ("optional", None, true),
        ("optional", Some(&foreign), false),
        ("username", Some(&nameless), false),
        ("username", Some(&named), true),
        ("username", Some(&by_dns), true),
    ];
    for (index, (name, own, succeeds)) in cases.into_iter().enumerate() {
        for version in ["tlsv1.2", "tlsv1.3"] {
            let words = format!("--tls-version {version} -i {name}-{index} -u claimed -q 1 -t a -m x");
            let Some(success) = mosquitto(port(name), &authority, own, &words).await else { return };
            assert_eq!(success, succeeds, "{name} {index} {version}");
        }
    }
    let found = records(&gate.kafka(), &["connected"], 8).await;
    let mut clients: Vec<String> = Vec::new();
    for record in &found {
        let client = &json(record)["client"];
        clients.push(format!("{} {} {}", client["client_id"], client["username"], client["certificate_name"]).replace('"', ""));
    }
    clients.sort();
    clients.dedup();
    assert_eq!(found.len(), 8);
    assert_eq!(
        clients,
        ["optional-3 claimed null", "required-2 claimed lock-7", "username-6 lock-7 lock-7", "username-7 lock-8.example lock-8.example",]
    );
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_new_connections_and_disturbs_nobody() {
    let authority = Authority::new();
    let (first, second) = (authority.sign("server", Some("first"), &[]), authority.sign("second", Some("second"), &[]));
    let door = "[[listener]]\nname = \"tls\"\nprotocol = \"mqtts\"\nbind = \"127.0.0.1:0\"\n";
    let gate = Gate::start(&format!("{door}tls = {{ {} }}\n", first.settings()), &[]).await;
    let address = gate.bridge.addresses()[1].1;
    let connector = authority.client(&[&TLS13], None);
    let enter = async || connector.connect(here(), TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut old = enter().await;
    come_in(&mut old, "old").await;

    replace(&first.key, &fs::read(&second.key).unwrap());
    replace(&first.certificate, &fs::read(&second.certificate).unwrap());
    let metrics = gate.bridge.metrics();
    let wait = async {
        while shown(&enter().await) == shown(&old) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the new certificate is shown");
    ping(&mut old).await;
    let new = shown(&enter().await);

    let refusals = metrics.listener_certificate_reloads_refused.get_or_create(&"tls".into()).clone();
    let before = refusals.get();
    replace(&first.certificate, b"no certificate");
    gate.until("the refusal", |_| refusals.get() > before).await;
    let mut late = enter().await;
    assert_eq!(shown(&late), new);
    come_in(&mut late, "late").await;
    ping(&mut old).await;
    let refused = gate.bridge.reload(hookgate::config::Config::load(&gate.file).unwrap()).await;
    assert!(refused.is_err_and(|problems| problems[0].to_string().contains("there is no certificate in it")));
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let authority = Authority::new();
    let (good, other) = (authority.sign("good", None, &[]), authority.sign("other", None, &[]));
    let junk = authority.folder.path().join("junk.pem");
    fs::write(&junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let absent = authority.folder.path().join("absent.pem");
    let tables = |certificate, key, more: &str| {
        format!(
            "[[listener]]\nprotocol = \"mqtts\"\nbind = \"127.0.0.1:0\"\n[listener.tls]\ncertificate = {}\nkey = {}\n{more}\n",
            quoted(certificate),
            quoted(key)
        )
    };
    for (tables, place, words) in [
        (tables(&absent, &good.key, ""), "7:15", "absent.pem: there is no such file"),
        (tables(&good.key, &good.key, ""), "7:15", "there is no certificate in it"),
        (tables(&junk, &good.key, ""), "7:15", "junk.pem"),
        (tables(&good.certificate, &good.certificate, ""), "8:7", "there is no private key in it"),
        (tables(&good.certificate, &other.key, ""), "8:7", "does not match the certificate"),
        (tables(&good.certificate, &good.key, &format!("client_ca = {}", quoted(&absent))), "9:13", "the clients' authorities"),
        (tables(&good.certificate, &good.key, &format!("client_ca = {}", quoted(&junk))), "9:13", "the clients' authorities"),
    ] {
        let (config, problems) = parse(&tables);
        assert!(problems.is_empty(), "{problems:?}");
        let problems = Broker::check(&config);
        let text = problems.iter().map(ToString::to_string).collect::<String>();
        assert!(problems.len() == 1 && text.starts_with(&format!("test.toml:{place}: ")) && text.contains(words), "{words}: {text}");
    }
}
