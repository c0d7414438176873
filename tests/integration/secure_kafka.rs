//! A real Apache Kafka that asks who comes: TLS, client certificates, SCRAM, PLAIN, OAUTHBEARER, rights. Right credentials work from the
//! device to the record; each wrong one is a clear line in the log and in `hookgate check --connect`, and the device is told properly.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hookgate::event::now_ms;
use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::{
    doors::certificates::{Authority, Pair, quoted},
    kafka::{create_topic, read_all},
    real_kafka::{More, RealKafka, free_port},
    support::{Device, Process, field, strip_ansi},
};

const TOPICS: &str = "\
[[route]]\nhook = \"message.publish\"\nfilter = \"free\"\ntopic = \"free\"\nformat = \"raw\"\n\
[[route]]\nhook = \"message.publish\"\nfilter = \"forbidden\"\ntopic = \"forbidden\"\nformat = \"raw\"\n\
[[route]]\nhook = \"message.publish\"\nfilter = \"small\"\ntopic = \"small\"\nformat = \"raw\"\n\
[[route]]\nhook = \"message.publish\"\nfilter = \"missing\"\ntopic = \"missing\"\nformat = \"raw\"\n";
const FREE: &str = "[[route]]\nhook = \"message.publish\"\nfilter = \"free\"\ntopic = \"free\"\nformat = \"raw\"\n";

/// Where the secured listeners are, and what opens them.
struct Secured {
    kafka: RealKafka,
    sasl: String,
    mutual: String,
    authority: Authority,
    client: Pair,
    _folder: tempfile::TempDir,
}

impl Secured {
    async fn start() -> Option<Secured> {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let server = authority.sign("broker", Some("broker"), &["localhost"]);
        let client = authority.sign("gate", Some("gate"), &[]);
        let store = folder.path().join("broker-store.pem");
        let both = fs::read_to_string(&server.key).unwrap() + &fs::read_to_string(&server.certificate).unwrap();
        fs::write(&store, both).unwrap();
        let (sasl, mutual) = (free_port().unwrap(), free_port().unwrap());
        let module = |name: &str| format!("org.apache.kafka.common.security.{name}LoginModule required");
        let properties = format!(
            "auto.create.topics.enable=false\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             listener.name.mutual.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER\n\
             listener.name.sasl.scram-sha-256.sasl.jaas.config={};\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={};\n\
             listener.name.sasl.plain.sasl.jaas.config={} user_gate=\"plain secret\";\n\
             listener.name.sasl.oauthbearer.sasl.jaas.config={} unsecuredLoginStringClaim_sub=\"unused\";\n",
            store.display(),
            authority.file().display(),
            module("scram.Scram"),
            module("scram.Scram"),
            module("plain.Plain"),
            module("oauthbearer.OAuthBearer"),
        );
        let users = [
            "SCRAM-SHA-512=[name=gate,password=right]",
            "SCRAM-SHA-256=[name=gate,password=right]",
            "SCRAM-SHA-512=[name=nobody,password=right]",
        ];
        let more = More {
            listeners: vec![("SASL", "SASL_SSL", sasl), ("MUTUAL", "SSL", mutual)],
            properties,
            users: users.map(str::to_owned).to_vec(),
        };
        let kafka = RealKafka::start_more(&folder.path().join("kafka"), &more)?.unwrap();
        for (topic, settings) in [("free", &[][..]), ("forbidden", &[]), ("small", &[("max.message.bytes", "2000")])] {
            create_topic(&kafka.address(), topic, settings).await;
        }
        for topic in ["free", "small", "missing"] {
            let grant =
                ["--add", "--allow-principal", "User:gate", "--allow-principal", "User:CN=gate", "--operation", "Write", "--topic", topic];
            kafka.tool("org.apache.kafka.tools.AclCommand", &grant).unwrap();
        }
        let grant = ["--add", "--allow-principal", "User:gate", "--operation", "DescribeConfigs", "--topic", "*"];
        kafka.tool("org.apache.kafka.tools.AclCommand", &grant).unwrap();
        let address = |port: u16| format!("127.0.0.1:{port}");
        Some(Secured { kafka, sasl: address(sasl), mutual: address(mutual), authority, client, _folder: folder })
    }

    /// `tls = …` that trusts the brokers.
    fn tls(&self) -> String {
        format!("tls = {{ ca = {} }}", quoted(&self.authority.file()))
    }

    /// `[kafka]` for a SCRAM user.
    fn scram(&self, mechanism: &str, user: &str, password: &str) -> String {
        let sasl = format!("mechanism = \"{mechanism}\", username = \"{user}\", password = {{ text = \"{password}\" }}");
        format!("bootstrap_servers = \"{}\"\n{}\nsasl = {{ {sasl} }}\n", self.sasl, self.tls())
    }

    /// How many records a topic holds.
    fn count(&self, topic: &str) -> usize {
        tokio::task::block_in_place(|| read_all(&self.kafka.address(), topic).len())
    }
}

/// A configuration, and what is done with it.
struct Gate {
    folder: tempfile::TempDir,
}

impl Gate {
    fn new(kafka: &str, routes: &str) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\n{kafka}{routes}");
        fs::write(folder.path().join("hookgate.toml"), text).unwrap();
        Gate { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hookgate.toml")
    }

    fn run(&self) -> (Process, SocketAddr) {
        let mut process = Process::start(&["run", "--config", self.file().to_str().unwrap()]);
        let address = field(&process.ready(), "addresses").trim_start_matches("mqtt=").parse().unwrap();
        (process, address)
    }

    /// `hookgate check --connect`: its exit code, its JSON, and what it says to people.
    fn check(&self) -> (i32, serde_json::Value, String) {
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hookgate"));
            command.args(["check", "--connect", "--config"]).arg(self.file()).args(arguments).output().unwrap()
        };
        let json = ask(&["--json"]);
        let plain = ask(&[]);
        assert_eq!(json.status.code(), plain.status.code());
        let text = String::from_utf8(plain.stdout).unwrap() + &String::from_utf8(plain.stderr).unwrap();
        (json.status.code().unwrap(), serde_json::from_slice(&json.stdout).unwrap(), text)
    }

    /// Runs, publishes one message, and gives the answer.
    async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> (PubAckReason, Process) {
        let (process, address) = self.run();
        let mut device = Device::connect(address, "d").await;
        (device.publish(topic, payload).await.reason, process)
    }
}

/// Acknowledged; that nobody subscribes does not matter.
fn is_stored(reason: PubAckReason) -> bool {
    matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_asks_who_comes() {
    let Some(secured) = Secured::start().await else { return };
    right_credentials_reach_kafka(&secured).await;
    what_may_not_be_is_said_to_the_device(&secured).await;
    what_is_wrong_is_said_to_the_operator(&secured).await;
    tokens_open_the_door(&secured).await;
    topics_are_created_on_request(&secured).await;
    new_credentials_come_in_without_a_restart(&secured).await;
}

async fn right_credentials_reach_kafka(secured: &Secured) {
    let plain = "sasl = { mechanism = \"PLAIN\", username = \"gate\", password = { text = \"plain secret\" } }";
    let ways = [
        ("SCRAM-SHA-512", secured.scram("SCRAM-SHA-512", "gate", "right")),
        ("SCRAM-SHA-256", secured.scram("SCRAM-SHA-256", "gate", "right")),
        ("PLAIN", format!("bootstrap_servers = \"{}\"\n{}\n{plain}\n", secured.sasl, secured.tls())),
        (
            "mutual TLS",
            format!(
                "bootstrap_servers = \"{}\"\ntls = {{ ca = {}, {} }}\n",
                secured.mutual,
                quoted(&secured.authority.file()),
                secured.client.settings()
            ),
        ),
    ];
    for (index, (way, kafka)) in ways.into_iter().enumerate() {
        let gate = Gate::new(&kafka, FREE);
        let (code, _, text) = gate.check();
        assert_eq!(code, 0, "{way}: {text}");
        assert!(text.contains("free: partitions 3, copies 1") && text.contains("may be written"), "{way}: {text}");
        assert_eq!(secured.count("free"), index, "{way}: the check writes nothing");
        let (reason, _process) = gate.publish("free", way).await;
        assert!(is_stored(reason), "{way}: {reason:?}");
        assert_eq!(secured.count("free"), index + 1, "{way}");
    }
}

async fn what_may_not_be_is_said_to_the_device(secured: &Secured) {
    let gate = Gate::new(&secured.scram("SCRAM-SHA-512", "gate", "right"), TOPICS);
    let (mut process, address) = gate.run();
    let mut device = Device::connect(address, "d").await;
    let cases = [
        ("forbidden", 10, PubAckReason::NotAuthorized, "give the Kafka user WRITE"),
        ("small", 5_000, PubAckReason::QuotaExceeded, "too large"),
        ("missing", 10, PubAckReason::ImplementationSpecificError, "no topic missing"),
    ];
    for (topic, bytes, reason, words) in cases {
        let answer = device.publish(topic, vec![b'x'; bytes]).await;
        assert_eq!(answer.reason, reason, "{topic}");
        let said = answer.properties.and_then(|properties| properties.reason_string).unwrap_or_default();
        assert!(said.contains(words), "{topic}: {said}");
        assert!(strip_ansi(&process.line("did not confirm a record")).contains(topic), "{topic}");
    }
    assert!(is_stored(device.publish("small", "fits").await.reason), "later records go on");
    // Who may write nothing at all gets no producer id, and that is no reason to wait for ever.
    let gate = Gate::new(&secured.scram("SCRAM-SHA-512", "nobody", "right"), FREE);
    let (reason, _process) = gate.publish("free", "x").await;
    assert_eq!(reason, PubAckReason::NotAuthorized);
}

async fn what_is_wrong_is_said_to_the_operator(secured: &Secured) {
    let finding = |document: &serde_json::Value, topic: Option<&str>| -> String {
        let findings = document["clusters"][0]["findings"].as_array().unwrap().clone();
        let found = findings.iter().find(|finding| finding["topic"].as_str() == topic);
        found.unwrap_or_else(|| panic!("nothing about {topic:?} in {document}")).to_string()
    };
    let gate = Gate::new(&secured.scram("SCRAM-SHA-512", "gate", "right"), TOPICS);
    let (code, document, text) = gate.check();
    assert_eq!(code, 1, "{text}");
    let topics: Vec<_> = document["clusters"][0]["topics"].as_array().unwrap().iter().map(|it| (&it["name"], &it["may_write"])).collect();
    assert!(topics.contains(&(&"free".into(), &true.into())), "{document}");
    assert!(finding(&document, Some("missing")).contains("kafka-topics.sh"), "{document}");
    assert!(finding(&document, Some("forbidden")).contains("User:gate"), "{document}");
    assert!(finding(&document, Some("small")).contains("at most 2000 bytes"), "{document}");

    let wrong = Gate::new(&secured.scram("SCRAM-SHA-512", "gate", "wrong"), FREE);
    let (code, document, text) = wrong.check();
    assert_eq!(code, 1, "{text}");
    assert!(finding(&document, None).contains("sasl.password"), "{document}");
    is_logged(&wrong, "sasl.password");

    let stranger = Authority::new();
    let kafka = secured.scram("SCRAM-SHA-512", "gate", "right");
    let distrusted = Gate::new(&kafka.replace(&secured.tls(), &format!("tls = {{ ca = {} }}", quoted(&stranger.file()))), FREE);
    let (code, document, text) = distrusted.check();
    assert_eq!(code, 1, "{text}");
    assert!(finding(&document, None).contains("tls.ca"), "{document}");
    is_logged(&distrusted, "tls.ca");

    // A certificate and a key that do not belong together are a problem of the configuration.
    let other = stranger.sign("other", Some("gate"), &[]);
    let pair = Pair { certificate: secured.client.certificate.clone(), key: other.key };
    let kafka = format!(
        "bootstrap_servers = \"{}\"\ntls = {{ ca = {}, {} }}\n",
        secured.mutual,
        quoted(&secured.authority.file()),
        pair.settings()
    );
    let (code, document, text) = Gate::new(&kafka, FREE).check();
    assert_eq!(code, 64, "{text}");
    assert!(document["problems"][0]["message"].as_str().unwrap().contains("key"), "{document}");
}

/// A Hookgate that starts with this says so in its log before it is ready.
fn is_logged(gate: &Gate, words: &str) {
    let (mut process, _) = gate.run();
    let lines = process.lines();
    assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:#?}");
}

/// A token endpoint that gives unsigned tokens for `sub`, which this Kafka believes.
fn token_endpoint(sub: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&request).contains("grant_type=client_credentials") {
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break,
                }
            }
            let now = now_ms() / 1_000;
            let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
            let claims = format!("{{\"sub\":\"{sub}\",\"iat\":{now},\"exp\":{},\"scope\":\"kafka\"}}", now + 20);
            let token = format!("{}.{}.", part("{\"alg\":\"none\"}".to_owned()), part(claims));
            let body = format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":20}}");
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

async fn tokens_open_the_door(secured: &Secured) {
    let before = secured.count("free");
    let sasl =
        |url: &str| format!("mechanism = \"OAUTHBEARER\", token_url = \"{url}\", client_id = \"gate\", client_secret = {{ text = \"s\" }}");
    let kafka = |url: &str| format!("bootstrap_servers = \"{}\"\n{}\nsasl = {{ {} }}\n", secured.sasl, secured.tls(), sasl(url));
    let gate = Gate::new(&kafka(&token_endpoint("gate")), FREE);
    let (code, _, text) = gate.check();
    assert_eq!(code, 0, "{text}");
    let (reason, _process) = gate.publish("free", "with a token").await;
    assert!(is_stored(reason), "{reason:?}");
    assert_eq!(secured.count("free"), before + 1);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, document, text) = Gate::new(&kafka(&format!("http://{nobody}/token")), FREE).check();
    assert_eq!(code, 1, "{text}");
    assert!(document["clusters"][0]["findings"][0]["message"].as_str().unwrap().contains("no token"), "{document}");
}

async fn topics_are_created_on_request(secured: &Secured) {
    let kafka = format!("bootstrap_servers = \"{}\"\n", secured.kafka.address());
    let route = FREE.replace("topic = \"free\"", "topic = \"fresh\"");
    let (reason, _process) = Gate::new(&kafka, &route).publish("free", "x").await;
    assert_eq!(reason, PubAckReason::ImplementationSpecificError, "nobody asked for it");
    let gate = Gate::new(&format!("{kafka}create_topics = {{ partitions = 2, replication = 1 }}\n"), &route);
    let (reason, mut process) = gate.publish("free", "x").await;
    assert!(is_stored(reason), "{reason:?}");
    let logged: Vec<String> = process.lines().iter().map(|line| strip_ansi(line)).collect();
    assert!(logged.iter().any(|line| line.contains("Kafka had no topic fresh: created it")), "{logged:#?}");
    let (_, document, _) = gate.check();
    assert_eq!(document["clusters"][0]["topics"][0]["partitions"], 2, "{document}");
}

async fn new_credentials_come_in_without_a_restart(secured: &Secured) {
    let before = secured.count("free");
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "right\n").unwrap();
    let text = secured.scram("SCRAM-SHA-512", "gate", "right");
    let text = text.replace("{ text = \"right\" }", &format!("{{ file = {} }}", quoted(password.path())));
    let gate = Gate::new(&text, FREE);
    let (mut process, address) = gate.run();
    let mut device = Device::connect(address, "d").await;
    assert!(is_stored(device.publish("free", "one").await.reason));
    // A wrong password is refused, and the old one goes on.
    fs::write(password.path(), "wrong\n").unwrap();
    process.line("does not answer with these settings");
    assert!(is_stored(device.publish("free", "two").await.reason));
    let alter = ["--alter", "--entity-type", "users", "--entity-name", "gate", "--add-config", "SCRAM-SHA-512=[password=other]"];
    secured.kafka.tool("kafka.admin.ConfigCommand", &alter).unwrap();
    fs::write(password.path(), "other\n").unwrap();
    process.line("configuration reloaded");
    assert!(is_stored(device.publish("free", "three").await.reason));
    assert_eq!(secured.count("free"), before + 3);
}
