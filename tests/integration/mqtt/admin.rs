//! The interface for operators over real sockets, and the verbs that use it.

use std::{process::Command, time::Duration};

use serde_json::Value;

use super::wire::{Connect, PATIENCE, Wire};
use crate::support::Gate;

struct Desk {
    gate: Gate,
    url: String,
    agent: ureq::Agent,
}

impl Desk {
    async fn open(tables: &str) -> Desk {
        let gate = Gate::start(&format!("[admin]\nbind = \"127.0.0.1:0\"\n{tables}"), &[]).await;
        let url = format!("http://{}", gate.bridge.admin_address().expect("an admin interface"));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        Desk { gate, url, agent }
    }

    async fn enter(&self, connect: Connect) -> Wire {
        Wire::connect_at(self.gate.address(), connect).await.0
    }

    /// Status and document.
    async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let (agent, url, method) = (self.agent.clone(), format!("{}{path}", self.url), method.to_owned());
        let asking = move || {
            let answer = if method == "DELETE" { agent.delete(&url).call() } else { agent.get(&url).call() };
            let mut answer = answer.expect("an answer");
            (answer.status().as_u16(), answer.body_mut().read_json().expect("JSON"))
        };
        tokio::task::spawn_blocking(asking).await.expect("asked")
    }

    async fn get(&self, path: &str) -> Value {
        let (status, document) = self.ask("GET", path).await;
        assert_eq!(status, 200, "{path}: {document}");
        document
    }

    /// Exit code, output, errors of a verb.
    async fn verb(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookgate"));
        command.args(arguments).args(["--admin", &self.url]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("run").expect("a process");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    async fn until(&self, what: &str, path: &str, condition: impl Fn(&Value) -> bool) {
        let wait = async {
            while !condition(&self.get(path).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    fn count(&self, hook: &str) -> u64 {
        self.gate.bridge.metrics().hook_events.get_or_create(&hook.into()).get()
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("items").iter().map(|item| item["client_id"].as_str().expect("an id")).collect()
}

fn kept(name: &str) -> Connect {
    Connect { keep_alive_s: 60, ..Connect::v5(name).keep_session() }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_sessions_are_listed_in_pages_with_what_waits_in_them() {
    let desk = Desk::open("").await;
    let mut wires = Vec::new();
    for name in ["c/1", "a", "b"] {
        wires.push(desk.enter(kept(name)).await);
    }
    let mut sleeper = wires.remove(1);
    sleeper.subscribe(1, "t/+", 1).await;
    sleeper.subscribe(2, "u", 2).await;
    sleeper.subscribe(3, "v/#", 0).await;
    let mut sender = wires.remove(1);
    sender.publish(2, 1, "t/1", "in flight").await;
    sleeper.expect_publish().await;
    drop(sleeper);
    desk.until("it is gone", "/api/v1/clients", |page| ids(page) == ["b", "c/1"]).await;
    sender.publish(2, 2, "t/1", "queued").await;
    desk.until("it is queued", "/api/v1/sessions/a", |session| session["queued_messages"] == 1).await;

    let client = desk.get("/api/v1/clients/c%2F1").await;
    assert_eq!((client["protocol_version"].as_u64(), client["keep_alive_s"].as_u64()), (Some(5), Some(60)));
    assert!(client["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    let session = desk.get("/api/v1/sessions/a").await;
    for (field, expected) in [("connected", Value::from(false)), ("in_flight", 1.into()), ("subscriptions", 3.into())] {
        assert_eq!(session[field], expected, "{session}");
    }
    assert!(session["ends_in_s"].as_u64().is_some_and(|left| (3500..=3600).contains(&left)), "{session}");
    let filters: Vec<_> = session["filters"].as_array().expect("filters").iter().map(|of| (&of["filter"], &of["qos"])).collect();
    assert_eq!(format!("{filters:?}").replace("String(", "").replace("Number(", "").replace(')', ""), r#"[("t/+", 1, ("u", 2, ("v/#", 0]"#);

    let first = desk.get("/api/v1/sessions?limit=2").await;
    assert_eq!((ids(&first), first["next"].as_str()), (vec!["a", "b"], Some("b")));
    let second = desk.get("/api/v1/sessions?limit=2&after=b").await;
    assert_eq!((ids(&second), second["next"].as_str()), (vec!["c/1"], None));
    assert_eq!(ids(&desk.get("/api/v1/sessions?prefix=c").await), ["c/1"]);
    assert_eq!(ids(&desk.get("/api/v1/clients?username=nobody").await), [""; 0]);

    let (code, out, errors) = desk.verb(&["clients"]).await;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{out}{errors}");
    assert!(lines[0].starts_with("CLIENT  USER  ADDRESS") && lines[1].starts_with("b  ") && lines[2].starts_with("c/1  "), "{out}");
    let (_, out, _) = desk.verb(&["sessions", "--json", "--prefix", "a"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")[0]["queued_messages"], 1);
    let (_, out, _) = desk.verb(&["sessions", "a"]).await;
    assert!(out.contains("t/+     1"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_end_connections_and_sessions() {
    let desk = Desk::open("").await;
    // The connection only: the session waits, its will with a delay too.
    let will = Some(("will".to_owned(), b"gone".to_vec(), 0, false, vec![0x18, 0, 0, 0, 200]));
    let mut wire = desk.enter(Connect { will, ..kept("a") }).await;
    let mut heir = desk.enter(Connect::v5("heir")).await;
    heir.subscribe(1, "will", 0).await;
    assert_eq!(desk.ask("DELETE", "/api/v1/clients/a").await.0, 200);
    wire.expect_end(0x98).await;
    assert_eq!((desk.count("client.disconnected"), desk.count("session.terminated")), (1, 0));
    assert_eq!(desk.get("/api/v1/sessions/a").await["connected"], false);
    heir.expect_quiet().await;
    // It is not connected any more.
    let (status, problem) = desk.ask("DELETE", "/api/v1/clients/a").await;
    assert!(status == 404 && problem["error"].as_str().is_some_and(|text| text.contains("\"a\"")), "{problem}");
    // Back in its session, then with the session, by the verb.
    let (mut wire, connack) = Wire::connect_at(desk.gate.address(), kept("a")).await;
    assert_eq!(connack.body[0], 1, "session present");
    assert_eq!(desk.verb(&["kick", "a", "--session"]).await, (0, "a: disconnected, its session ended\n".into(), String::new()));
    wire.expect_end(0x98).await;
    assert_eq!((desk.count("session.resumed"), desk.count("session.terminated")), (1, 1));
    assert_eq!(desk.ask("GET", "/api/v1/sessions/a").await.0, 404);
    let (code, _, errors) = desk.verb(&["kick", "a"]).await;
    assert!(code == 1 && errors.contains("no client \"a\" is connected") && errors.contains("help:"), "{errors}");
    // A session that waits for its client, and its will with it.
    let will = Some(("will".to_owned(), b"gone".to_vec(), 0, false, vec![0x18, 0, 0, 0, 200]));
    drop(desk.enter(Connect { will, ..kept("b") }).await);
    desk.until("it waits", "/api/v1/sessions/b", |session| session["connected"] == false).await;
    assert_eq!(desk.ask("DELETE", "/api/v1/sessions/b").await.0, 200);
    assert_eq!(heir.expect_publish().await.payload, b"gone");
    let sessions = desk.gate.bridge.metrics().sessions.get();
    assert_eq!((sessions, desk.get("/api/v1/sessions").await["items"].as_array().map(Vec::len)), (1, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_while_it_is_kicked_is_let_in() {
    let desk = Desk::open("").await;
    for round in 0..20 {
        let wire = desk.enter(kept("a")).await;
        let kicked = desk.ask("DELETE", if round % 2 == 0 { "/api/v1/clients/a" } else { "/api/v1/sessions/a" });
        let (answer, back) = tokio::join!(kicked, desk.enter(kept("a")));
        assert!(matches!(answer.0, 200 | 404), "{answer:?}");
        drop((wire, back));
    }
    desk.until("all are gone", "/api/v1/clients", |page| ids(page).is_empty()).await;
    let (created, resumed, connected) = (desk.count("session.created"), desk.count("session.resumed"), desk.count("client.connected"));
    let (discarded, terminated) = (desk.count("session.discarded"), desk.count("session.terminated"));
    assert_eq!((connected, created + resumed), (40, 40));
    let alive = u64::try_from(desk.gate.bridge.metrics().sessions.get()).expect("not negative");
    assert_eq!(terminated + discarded + alive, created);
    assert_eq!(desk.get("/api/v1/sessions").await["items"].as_array().map(|items| items.len() as u64), Some(alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_are_listed_and_forgotten() {
    let desk = Desk::open("").await;
    let mut wire = desk.enter(Connect::v4("sender")).await;
    for (id, topic) in [(1, "b/1"), (2, "a/1"), (3, "/slash"), (4, "a/2")] {
        wire.publish(3, id, topic, "x").await;
        assert_eq!(wire.receive().await.kind(), 4);
    }
    let topics = |page: &Value| {
        page["items"].as_array().expect("items").iter().map(|item| item["topic"].as_str().expect("a topic").to_owned()).collect::<Vec<_>>()
    };
    let page = desk.get("/api/v1/retained?limit=3").await;
    assert_eq!((topics(&page), &page["items"][1]["payload"]), (vec!["/slash".into(), "a/1".into(), "a/2".into()], &Value::from("eA==")));
    assert_eq!(topics(&desk.get("/api/v1/retained?limit=3&after=a%2F2").await), ["b/1"]);
    assert_eq!(topics(&desk.get("/api/v1/retained?filter=a%2F%2B").await), ["a/1", "a/2"]);
    assert_eq!(desk.ask("GET", "/api/v1/retained?filter=a%23").await.0, 400);
    assert_eq!(desk.ask("DELETE", "/api/v1/retained//slash").await.0, 200);
    assert_eq!(desk.ask("DELETE", "/api/v1/retained//slash").await.0, 404);
    assert_eq!(desk.verb(&["retained", "--forget", "a/2"]).await.1, "a/2: forgotten\n");
    let (code, out, _) = desk.verb(&["retained", "--filter", "#"]).await;
    assert_eq!((code, out.lines().count(), out.contains("a/1    1    1")), (0, 3, true), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_refusals() {
    let desk = Desk::open("").await;
    assert_eq!(desk.get("/health").await["ok"], true);
    desk.until("Kafka answers", "/health", |_| desk.gate.bridge.metrics().kafka_reachable.get_or_create(&"kafka".into()).get() == 1).await;
    assert_eq!(desk.get("/ready").await["ok"], true);
    let url = format!("{}/metrics", desk.url);
    let agent = desk.agent.clone();
    let page = tokio::task::spawn_blocking(move || agent.get(&url).call().unwrap().body_mut().read_to_string().unwrap()).await.unwrap();
    assert!(page.contains("hookgate_hook_events_total{name=\"client.connect\"} 0") && page.ends_with("# EOF\n"), "{page}");
    for (method, path, status) in [
        ("GET", "/", 404),
        ("DELETE", "/api/v1/clients", 405),
        ("GET", "/api/v1/clients?limit=0", 400),
        ("GET", "/api/v1/clients?colour=red", 400),
        ("GET", "/api/v1/clients/nobody", 404),
    ] {
        let (found, problem) = desk.ask(method, path).await;
        assert_eq!(found, status, "{method} {path}: {problem}");
        assert!(problem["error"].is_string() && problem["help"].is_string(), "{problem}");
    }
    // A web page that reaches us under its own name.
    let (agent, url) = (desk.agent.clone(), format!("{}/api/v1/clients", desk.url));
    let foreign = tokio::task::spawn_blocking(move || agent.get(url).header("Host", "evil.example").call().unwrap().status().as_u16());
    assert_eq!(foreign.await.unwrap(), 421);
    let hookgate = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_hookgate")).args(arguments).output().unwrap().status.code();
    assert_eq!(hookgate(&["clients", "--config", &desk.gate.file.display().to_string()]), Some(64), "the port is 0");
    assert_eq!(hookgate(&["clients", "--admin", "http://127.0.0.1:1"]), Some(1), "nobody is there");
}
