//! What outlives the process: the binary is killed or told to end, and started again on the same folder.

mod client;
mod kills;
mod once;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use self::client::{Hello, Wire};
use crate::support::{PATIENCE, Process, field};

/// `hookgate` with a folder that stays.
struct Node {
    process: Option<Process>,
    file: PathBuf,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Node {
    /// With lines for the tables after `[node]`.
    fn start(tables: &str) -> Node {
        Node::start_on("embedded", tables, "")
    }

    /// The same on the Kafka at `servers`, with more tables at the end.
    fn start_on(servers: &str, tables: &str, more: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hookgate.toml");
        let head = "[node]\ndata_dir = \"data\"\n";
        let doors = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"{servers}\"\n");
        fs::write(&file, format!("{head}{tables}\n{doors}{more}")).unwrap();
        let mut node = Node { process: None, file, address: ([127, 0, 0, 1], 0).into(), _folder: folder };
        node.begin();
        node
    }

    fn begin(&mut self) {
        let mut process = Process::start(&["run", "--config", self.file.to_str().unwrap()]);
        let addresses = field(&process.ready(), "addresses");
        self.address = addresses.trim_matches('"').trim_start_matches("mqtt=").parse().unwrap();
        self.process = Some(process);
    }

    /// Ends the process by `signal` and starts it again.
    fn restart(&mut self, signal: &str) {
        let process = self.process.take().unwrap();
        process.signal(signal);
        let code = process.end();
        assert_eq!(code, if signal == "TERM" { 0 } else { -1 });
        self.begin();
    }

    fn connect(&self, hello: &Hello<'_>) -> (Wire, bool) {
        Wire::connect(self.address, hello).unwrap()
    }

    fn wire(&self, hello: &Hello<'_>) -> Wire {
        self.connect(hello).0
    }

    fn clean(&self, id: &str) -> Wire {
        self.wire(&Hello { clean: true, expiry_s: 0, ..Hello::five(id) })
    }
}

#[test]
fn a_session_survives_the_process_with_all_that_it_has() {
    for (signal, sync) in [("KILL", "always"), ("TERM", "never"), ("KILL", "never")] {
        let mut node = Node::start(&format!("[store]\nsync = \"{sync}\""));
        let (mut subscriber, present) = node.connect(&Hello::five("subscriber"));
        assert!(!present);
        subscriber.subscribe("a/#", 2, Some(7));
        subscriber.subscribe("gone", 1, None);
        subscriber.send(&[0xA2, 9, 0, 1, 0, 0, 4, b'g', b'o', b'n', b'e']).unwrap();
        assert_eq!(subscriber.receive().unwrap().0, 0xB0);
        let mut publisher = node.wire(&Hello::five("publisher"));
        for (number, qos) in [(1, 1), (2, 2), (3, 2)] {
            publisher.publish(qos << 1, number, &format!("a/{number}"), "flight");
            publisher.expect_ack(if qos == 1 { 4 } else { 5 }, number);
            assert_eq!(subscriber.expect_publish().id, number);
        }
        subscriber.ack(5, 3).unwrap();
        subscriber.expect_ack(6, 3); // and PUBCOMP is never sent
        drop(subscriber);
        publisher.publish(2, 4, "a/4", "queued");
        publisher.expect_ack(4, 4);
        publisher.publish(4, 5, "a/5", "queued");
        publisher.expect_ack(5, 5);
        publisher.publish(2, 6, "gone", "nobody wants this");
        publisher.expect_ack(4, 6);
        publisher.publish(3, 7, "r/1", "kept");
        publisher.expect_ack(4, 7);
        publisher.publish(3, 8, "r/2", "cleared");
        publisher.expect_ack(4, 8);
        publisher.publish(3, 9, "r/2", "");
        publisher.expect_ack(4, 9);

        node.restart(signal);

        let (mut subscriber, present) = node.connect(&Hello::five("subscriber"));
        assert!(present, "{signal} {sync}");
        let first = subscriber.expect_publish();
        assert_eq!((&*first.topic, first.id, first.qos, first.dup), ("a/1", 1, 1, true));
        assert_eq!(first.properties, [0x0B, 7], "the subscription identifier");
        let second = subscriber.expect_publish();
        assert_eq!((&*second.topic, second.id, second.qos, second.dup), ("a/2", 2, 2, true));
        subscriber.expect_ack(6, 3);
        for (topic, qos) in [("a/4", 1), ("a/5", 2)] {
            let queued = subscriber.expect_publish();
            assert_eq!((&*queued.topic, queued.qos, queued.dup, &*queued.payload), (topic, qos, false, "queued"));
            assert!(queued.id > 3, "identifiers in use are not given again");
        }
        subscriber.expect_quiet();

        let (mut publisher, present) = node.connect(&Hello::five("publisher"));
        assert!(present);
        publisher.publish(8 | 4, 5, "a/5", "queued"); // PUBREC might have been lost
        publisher.expect_ack(5, 5);
        for id in [2, 3, 5] {
            publisher.ack(6, id).unwrap();
            publisher.expect_ack(7, id);
        }
        subscriber.expect_quiet();
        publisher.publish(4, 5, "a/6", "new under an identifier that is free again");
        publisher.expect_ack(5, 5);
        assert_eq!(subscriber.expect_publish().topic, "a/6");

        let mut late = node.clean("late");
        late.subscribe("r/#", 1, None);
        let retained = late.expect_publish();
        assert_eq!((&*retained.topic, &*retained.payload, retained.retain), ("r/1", "kept", true));
        late.expect_quiet();
    }
}

#[test]
fn sessions_end_over_a_restart_as_they_would_have_without() {
    let mut node = Node::start("");
    drop(node.wire(&Hello { expiry_s: 1, ..Hello::five("short") }));
    drop(node.wire(&Hello::five("long")));
    drop(node.wire(&Hello::five("cleaned")));
    drop(node.wire(&Hello { clean: true, ..Hello::five("cleaned") }));
    let mut ended = node.wire(&Hello::five("ended"));
    ended.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).unwrap(); // DISCONNECT with a session expiry of 0
    assert!(ended.receive().is_err(), "the connection is closed");
    let connected = node.wire(&Hello { expiry_s: 0, ..Hello::five("connected") });
    node.clean("barrier").expect_quiet();
    node.restart("KILL");
    drop(connected);
    let deadline = Instant::now() + PATIENCE;
    while node.connect(&Hello { expiry_s: 1, ..Hello::five("short") }).1 {
        assert!(Instant::now() < deadline, "it never expires");
        thread::sleep(Duration::from_millis(1_500));
    }
    for (id, expected) in [("long", true), ("cleaned", true), ("ended", false), ("connected", false)] {
        assert_eq!(node.connect(&Hello::five(id)).1, expected, "{id}");
    }
}

#[test]
fn wills_are_published_after_the_restart_when_they_are_due() {
    let mut node = Node::start("");
    let mut watcher = node.wire(&Hello::five("watcher"));
    watcher.subscribe("will/#", 1, None);
    let with = |will| Hello { will: Some(will), ..Hello::five("") };
    let now = node.wire(&Hello { id: "now", ..with(("at once", 0)) });
    let later = node.wire(&Hello { id: "later", ..with(("delayed", 2)) });
    let mut left = node.wire(&Hello { id: "left", ..with(("void", 0)) });
    left.send(&[0xE0, 0]).unwrap();
    assert!(left.receive().is_err());
    let returning = node.wire(&Hello { id: "returning", ..with(("void", 3)) });
    watcher.expect_quiet();
    node.restart("KILL");
    drop((now, later, returning));
    let start = Instant::now();
    let returned = node.wire(&Hello::five("returning"));
    let (mut watcher, present) = node.connect(&Hello::five("watcher"));
    assert!(present);
    for payload in ["at once", "delayed"] {
        let publish = watcher.expect_publish();
        assert_eq!(publish.payload, payload);
        if publish.qos > 0 {
            watcher.ack(4, publish.id).unwrap();
        }
    }
    assert!(start.elapsed() > Duration::from_secs(1), "the delayed will came at once");
    thread::sleep(Duration::from_millis(1_500));
    watcher.expect_quiet();
    drop(returned);
    node.restart("KILL");
    let mut watcher = node.wire(&Hello::five("watcher"));
    watcher.expect_quiet(); // nothing is published twice
}

#[test]
fn what_a_member_of_a_shared_subscription_leaves_goes_to_another_also_after_a_kill() {
    let mut node = Node::start("");
    let join = |id| {
        let mut member = node.wire(&Hello::five(id));
        member.subscribe("$share/g/job", 1, None);
    };
    join("one");
    let mut publisher = node.clean("publisher");
    for id in 1..=3 {
        publisher.publish(2, id, "job", &id.to_string());
        publisher.expect_ack(4, id);
    }
    join("two");
    node.restart("KILL");
    drop(node.wire(&Hello { clean: true, expiry_s: 0, ..Hello::five("one") })); // its session ends: three messages are another's
    node.clean("barrier").expect_quiet();
    node.restart("KILL");
    let mut two = node.wire(&Hello::five("two"));
    let got: Vec<_> = (0..3).map(|_| two.expect_publish().payload).collect();
    assert_eq!(got, ["1", "2", "3"]);
    two.expect_quiet();
    assert!(!node.connect(&Hello::five("one")).1);
}

#[test]
fn a_queue_of_a_hundred_thousand_is_delivered_whole_after_a_kill() {
    const COUNT: usize = 100_000;
    let mut node = Node::start("");
    let mut subscriber = node.wire(&Hello::old("subscriber"));
    subscriber.subscribe("queue", 1, None);
    drop(subscriber);
    let mut publisher = node.wire(&Hello::old("publisher"));
    let (mut sent, mut acked) = (0, 0);
    while acked < COUNT {
        let mut bytes = Vec::new();
        while sent < COUNT && sent - acked < 2_000 {
            bytes.extend(publisher.publish_bytes(2, (sent % 60_000 + 1) as u16, "queue", &sent.to_string()));
            sent += 1;
        }
        publisher.send(&bytes).unwrap();
        loop {
            assert_eq!(publisher.receive().unwrap().0, 0x40);
            acked += 1;
            if !publisher.has_packet() {
                break;
            }
        }
    }
    node.restart("KILL");
    let (mut subscriber, present) = node.connect(&Hello::old("subscriber"));
    assert!(present);
    let mut acks = Vec::new();
    for number in 0..COUNT {
        let publish = subscriber.expect_publish();
        assert_eq!(publish.payload, number.to_string());
        acks.extend(client::ack_bytes(4, publish.id));
        if !subscriber.has_packet() {
            subscriber.send(&std::mem::take(&mut acks)).unwrap();
        }
    }
    subscriber.expect_quiet();
}

#[test]
fn two_processes_do_not_share_a_store() {
    let node = Node::start("");
    let mut second = Process::start(&["run", "--config", node.file.to_str().unwrap()]);
    second.line("in use by another process");
    assert_ne!(second.end(), 0);
}
