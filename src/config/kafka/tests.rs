use std::path::Path;

use super::{Kafka, NewTopics, Sasl};
use crate::config::Config;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

/// Reads `[kafka]` with these lines (the first is line 5), in a folder with certificates and a password.
fn read(lines: &str) -> (Kafka, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("ca.pem", CERTIFICATE), ("client.pem", CERTIFICATE), ("client.key", KEY), ("password", "geheim\n"), ("empty", "\n")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"kafka:9092\"\n{lines}\n");
    let (config, problems) = Config::parse(&folder.path().join("h.toml"), &text);
    let prefix = format!("{}/", folder.path().display());
    (config.kafka, problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect())
}

fn fine(lines: &str) -> Kafka {
    let (kafka, problems) = read(lines);
    assert_eq!(problems, Vec::<String>::new(), "{lines}");
    kafka
}

#[test]
fn tls_is_read_with_its_files() {
    assert_eq!(fine("").tls, None);
    assert_eq!(fine("tls = false").tls, None);
    let system = fine("tls = true").tls.unwrap().value;
    assert!(system.authorities.is_none() && system.identity.is_none() && system.verify_hostname);
    let kafka = fine(
        "tls = { ca = \"ca.pem\", certificate = \"client.pem\", key = \"client.key\", key_password = { file = \"password\" }, verify_hostname = false }",
    );
    let names: Vec<&str> = kafka.files().map(Path::file_name).map(|name| name.unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["ca.pem", "client.pem", "client.key", "password"]);
    let tls = kafka.tls.clone().unwrap().value;
    let identity = tls.identity.unwrap();
    assert_eq!(tls.authorities.unwrap().text(), CERTIFICATE);
    assert_eq!((identity.key.reveal(), identity.key_password.unwrap().reveal()), (KEY, "geheim"));
    assert!(!tls.verify_hostname && kafka.warnings().len() == 1);
}

#[test]
fn who_hookgate_is() {
    let scram = "mechanism = \"SCRAM-SHA-512\", username = \"u\", password = { text = \"geheim\" }";
    let kafka = fine(&format!("sasl = {{ {scram} }}"));
    let Some(Sasl::ScramSha512(credentials)) = kafka.sasl.as_ref().map(|sasl| &sasl.value) else { panic!("{kafka:?}") };
    assert_eq!((credentials.username.as_str(), credentials.password.reveal()), ("u", "geheim"));
    assert_eq!(kafka.warnings(), [], "SCRAM proves without showing");
    let plain = fine("sasl = { mechanism = \"PLAIN\", username = \"u\", password = { file = \"password\" } }");
    assert!(plain.warnings()[0].message.contains("PLAIN without TLS"), "{:?}", plain.warnings());
    let token = "mechanism = \"OAUTHBEARER\", token_url = \"https://id/token\", client_id = \"c\", client_secret = { text = \"geheim\" }";
    let token = fine(&format!("tls = true\nsasl = {{ {token}, scope = \"kafka\" }}"));
    assert_eq!(token.warnings(), []);
    for kafka in [kafka, plain, token] {
        assert!(!format!("{kafka:?}").contains("geheim"), "{kafka:?}");
    }
}

#[test]
fn how_records_are_produced() {
    let kafka = fine(
        "acks = \"all\"\ncompression = \"lz4\"\ncompression_level = 9\nbatch_bytes = 200000\nbatch_records = 500\nmax_in_flight_requests = 2\n\
         request_timeout_ms = 5000\nconnect_timeout_ms = 3000\nreconnect_backoff_ms = 50\nreconnect_backoff_max_ms = 50\n\
         metadata_max_age_ms = 60000\ncreate_topics = { partitions = 3, replication = 2 }",
    );
    assert_eq!((kafka.tuning.compression_level, kafka.tuning.max_in_flight_requests), (Some(9), Some(2)));
    assert_eq!(kafka.create_topics, Some(NewTopics { partitions: 3, replication: 2 }));
    assert_eq!(fine("").tuning, Default::default());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let scram = "mechanism = \"SCRAM-SHA-256\", username = \"u\"";
    let cases: &[(&str, &[&str])] = &[
        ("tls = \"ca.pem\"", &["h.toml:5:7: kafka.tls: \"ca.pem\" does not fit"]),
        ("tls = { ca = \"none.pem\" }", &["h.toml:5:14: kafka.tls.ca: none.pem: No such file"]),
        ("tls = { ca = \"password\" }", &["h.toml:5:14: kafka.tls.ca: password is no PEM file with a certificate"]),
        ("tls = { certificate = \"client.pem\" }", &["h.toml:5:23: kafka.tls.certificate needs its private key"]),
        ("tls = { key = \"client.key\" }", &["h.toml:5:15: kafka.tls.key needs its certificate"]),
        ("tls = { key_password = { text = \"x\" } }", &["h.toml:5:24: kafka.tls.key_password does nothing without a `key`"]),
        ("tls = { verify = true }", &["h.toml:5:9: unknown key `kafka.tls.verify`"]),
        ("sasl = { mechanism = \"SCRAM\", username = \"u\" }", &["h.toml:5:22: kafka.sasl.mechanism = \"SCRAM\" is not known"]),
        ("sasl = { username = \"u\" }", &["h.toml:5:8: kafka.sasl: `mechanism` is missing"]),
        (&format!("sasl = {{ {scram} }}"), &["h.toml:5:8: kafka.sasl: `password` is missing"]),
        (&format!("sasl = {{ {scram}, password = \"geheim\" }}"), &["h.toml:5:66: kafka.sasl.password does not say where"]),
        (
            &format!("sasl = {{ {scram}, password = {{ file = \"empty\" }} }}"),
            &["h.toml:5:75: kafka.sasl.password.file: the secret is empty"],
        ),
        (&format!("sasl = {{ {scram}, password = {{ text = \"a\", env = \"B\" }} }}"), &["h.toml:5:66: kafka.sasl.password: exactly one"]),
        (
            &format!("sasl = {{ {scram}, password = {{ env = \"HOOKGATE_NOT_SET\" }} }}"),
            &["h.toml:5:74: kafka.sasl.password.env: HOOKGATE_NOT_SET"],
        ),
        ("acks = \"1\"\nmax_in_flight_requests = 2", &["h.toml:6:26: kafka.max_in_flight_requests: without acks"]),
        ("max_in_flight_requests = 6", &["h.toml:5:26: kafka.max_in_flight_requests: 6 does not fit"]),
        ("compression_level = 1", &["h.toml:5:21: kafka.compression_level does nothing"]),
        ("compression = \"gzip\"\ncompression_level = 10", &["h.toml:6:21: kafka.compression_level: 10 does not fit"]),
        ("reconnect_backoff_ms = 2000", &["h.toml:5:24: kafka.reconnect_backoff_ms = 2000 is more than"]),
        ("create_topics = { partitions = 3 }", &["h.toml:5:17: kafka.create_topics: `replication` is missing"]),
        (
            "properties = { \"batch.size\" = 1 }",
            &["h.toml:5:31: kafka.properties.\"batch.size\" is set by Hookgate\n    help: use `batch_bytes`"],
        ),
        ("properties = { \"sasl.password\" = \"geheim\" }", &["h.toml:5:34: kafka.properties.\"sasl.password\" is set by Hookgate"]),
    ];
    for (lines, expected) in cases {
        let (_, problems) = read(lines);
        assert_eq!(problems.len(), expected.len(), "{lines}: {problems:#?}");
        for (problem, expected) in problems.iter().zip(*expected) {
            assert!(problem.starts_with(expected), "{lines}: {problem}");
            assert!(!problem.contains("geheim"), "{problem}");
        }
    }
}

#[cfg(not(feature = "gssapi"))]
#[test]
fn kerberos_needs_its_feature() {
    let (_, problems) = read("sasl = { mechanism = \"GSSAPI\", principal = \"p\" }");
    assert!(problems.len() == 1 && problems[0].contains("feature `gssapi`"), "{problems:?}");
}

#[test]
fn the_embedded_cluster_needs_no_protection() {
    let text = "[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"embedded\"\ntls = true\n";
    let (_, problems) = Config::parse(Path::new("h.toml"), text);
    assert!(problems.len() == 1 && problems[0].message.contains("tls does nothing"), "{problems:?}");
}

#[test]
fn the_examples_of_the_documentation_are_fine() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kafka.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", CERTIFICATE), ("cloud-ca.pem", CERTIFICATE), ("hookgate.pem", CERTIFICATE), ("hookgate.key", KEY)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut examples = 0;
    for block in page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).filter(|block| block.contains("[[route]]")) {
        // What a test machine does not have.
        let text = block.replace("{ env = ", "{ text = ").replace("{ file = ", "{ text = ");
        let (_, problems) = Config::parse(&folder.path().join("h.toml"), &text);
        assert!(problems.is_empty(), "{block}\n{problems:#?}");
        examples += 1;
    }
    assert_eq!(examples, 3);
}
