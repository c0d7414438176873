//! Exactly once, with a real Kafka: whatever dies, each message becomes one record, each publisher's in their order.
//!
//! `HOOKGATE_KILLS` and `HOOKGATE_KILL_EVERY_MS` make it longer.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use hookgate::kafka::{Reader, StoredRecord};
use parking_lot::Mutex;

use super::{
    Node,
    client::{Hello, Wire},
    kills::{Publisher, Stage, WINDOW, number},
};
use crate::{kafka::create_topic, real_kafka::RealKafka, support::PATIENCE};

const ROUTE: &str =
    "[[route]]\nhook = \"message.publish\"\nfilter = \"load/#\"\ntopic = \"once\"\nformat = \"raw\"\ndelivery = \"exactly-once\"\n";

/// A Kafka with the topic, and a Hookgate on it; `None` where there is no Kafka.
fn start(name: &str, options: &[(&str, &str)]) -> Option<(tempfile::TempDir, RealKafka, Node)> {
    let folder = tempfile::tempdir().unwrap();
    let kafka = RealKafka::start(folder.path())?.unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create_topic(&kafka.address(), "once", options));
    let node = Node::start_on(&kafka.address(), &format!("name = \"{name}\""), ROUTE);
    Some((folder, kafka, node))
}

/// What read_committed consumers see until `count` records have come, and a moment longer.
fn committed(kafka: &str, count: usize) -> Vec<StoredRecord> {
    let reader = Reader::open(kafka, &["once"], PATIENCE).unwrap();
    let (mut found, mut last) = (Vec::new(), Instant::now());
    while last.elapsed() < if found.len() < count { PATIENCE } else { Duration::from_secs(1) } {
        if let Some(record) = reader.next(Duration::from_millis(100)).unwrap() {
            found.push(record);
            last = Instant::now();
        }
    }
    found
}

fn numbers(records: &[StoredRecord], client: &str) -> Vec<usize> {
    let of_client = records.iter().filter(|record| record.key.as_deref() == Some(client.as_bytes()));
    of_client.map(|record| std::str::from_utf8(&record.value).unwrap().parse().unwrap()).collect()
}

#[test]
fn ten_kills_and_many_reconnects_store_every_message_once() {
    let Some((_folder, mut kafka, mut node)) = start("kills", &[]) else { return };
    let stage = Stage { address: Arc::new(Mutex::new(node.address)), enough: Arc::default(), acked: Arc::default() };
    let publishers: Vec<_> = [("p1", 1), ("p2", 2), ("p3", 1), ("p4", 2)]
        .into_iter()
        .map(|(id, qos)| {
            let leave_after = if qos == 1 { 130 } else { 170 };
            let publisher = Publisher { qos, topic: format!("load/{id}"), next: 0, open: BTreeMap::new(), leave_after: Some(leave_after) };
            let stage = stage.clone();
            (id, thread::spawn(move || publisher.run(&stage, id)))
        })
        .collect();
    let kills = number("HOOKGATE_KILLS", 10);
    for kill in 0..kills {
        let (before, deadline) = (stage.acked.load(Ordering::Relaxed), Instant::now() + 2 * PATIENCE);
        thread::sleep(Duration::from_millis(number("HOOKGATE_KILL_EVERY_MS", 300) as u64));
        while stage.acked.load(Ordering::Relaxed) < before + 2 * WINDOW {
            assert!(Instant::now() < deadline, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(10));
        }
        if kill == kills / 2 {
            kafka.kill().unwrap();
        }
        node.restart("KILL");
        *stage.address.lock() = node.address;
        if kill == kills / 2 {
            kafka.start_again().unwrap();
        }
    }
    stage.enough.store(true, Ordering::Relaxed);
    let published: Vec<_> = publishers.into_iter().map(|(id, thread)| (id, thread.join().unwrap())).collect();
    let total: usize = published.iter().map(|(_, count)| count).sum();
    let records = committed(&kafka.address(), total);
    for (id, count) in &published {
        let found = numbers(&records, id);
        assert!(*count > 5 * WINDOW, "{published:?}");
        assert_eq!(found.len(), *count, "{id}: {}", faults(&found, *count));
        assert_eq!(found, (0..*count).collect::<Vec<_>>(), "{id}: {}", faults(&found, *count));
    }
    println!("{kills} kills: {total} messages, each once: {published:?}");
}

fn faults(found: &[usize], count: usize) -> String {
    let mut times = vec![0; count];
    found.iter().for_each(|number| times[*number] += 1);
    let of = |times: &[usize], wanted: fn(usize) -> bool| {
        times.iter().enumerate().filter(|(_, times)| wanted(**times)).map(|(number, _)| number).take(10).collect::<Vec<_>>()
    };
    format!("missing {:?}, more than once {:?}", of(&times, |times| times == 0), of(&times, |times| times > 1))
}

#[test]
fn a_message_that_kafka_refuses_fails_alone() {
    let Some((_folder, kafka, node)) = start("refusal", &[("max.message.bytes", "2000")]) else { return };
    let mut wire = node.wire(&Hello::five("device"));
    wire.patience(2 * PATIENCE).unwrap(); // two transactions are given up, which a busy Kafka takes its time for
    let large = "x".repeat(5000);
    for (id, payload) in [(1, "1"), (2, large.as_str()), (3, "3"), (4, "4"), (5, large.as_str()), (6, "6")] {
        let bytes = wire.publish_bytes(4, id, "load/device", payload);
        wire.send(&bytes).unwrap();
    }
    for id in 1..=6 {
        let (first, body) = wire.receive().unwrap();
        assert_eq!((first >> 4, u16::from_be_bytes([body[0], body[1]])), (5, id));
        let refused = body.get(2).is_some_and(|code| *code >= 0x80);
        assert_eq!(refused, id == 2 || id == 5, "{id}: {body:x?}");
    }
    assert_eq!(numbers(&committed(&kafka.address(), 4), "device"), [1, 3, 4, 6]);
}

/// QoS 1 over a lost PUBACK, in one process and over its death; and the same message anew.
#[test]
fn a_repetition_after_a_lost_answer_is_no_second_record() {
    let Some((_folder, kafka, mut node)) = start("lost", &[]) else { return };
    let hello = Hello::five("device");
    let mut wire = node.wire(&hello);
    wire.publish(2, 7, "load/device", "1");
    wire.expect_ack(4, 7);
    wire.publish(4, 8, "load/device", "2");
    wire.expect_ack(5, 8);
    drop(wire); // as if neither answer had arrived
    let repeat = |wire: &mut Wire| {
        wire.publish(8 | 2, 7, "load/device", "1");
        wire.expect_ack(4, 7);
        wire.publish(8 | 4, 8, "load/device", "2");
        wire.expect_ack(5, 8);
    };
    repeat(&mut node.wire(&hello));
    for signal in ["KILL", "KILL", "TERM"] {
        node.restart(signal);
        let (mut wire, present) = node.connect(&hello);
        assert!(present);
        repeat(&mut wire);
    }
    let mut wire = node.wire(&hello);
    wire.ack(6, 8).unwrap();
    wire.expect_ack(7, 8);
    drop(wire);
    node.restart("KILL");
    let mut wire = node.wire(&hello);
    wire.publish(2, 7, "load/device", "1"); // the same once more, and new
    wire.expect_ack(4, 7);
    wire.publish(4, 8, "load/device", "2");
    wire.expect_ack(5, 8);
    assert_eq!(numbers(&committed(&kafka.address(), 4), "device"), [1, 2, 1, 2]);
}

#[test]
fn two_processes_of_one_name_are_told_so() {
    let Some((_folder, kafka, mut node)) = start("twins", &[]) else { return };
    let mut wire = node.wire(&Hello::five("one"));
    wire.publish(2, 1, "load/one", "1");
    wire.expect_ack(4, 1);
    let other = Node::start_on(&kafka.address(), "name = \"twins\"", ROUTE);
    let mut second = other.wire(&Hello::five("two"));
    second.publish(2, 1, "load/two", "1");
    second.expect_ack(4, 1);
    wire.publish(2, 2, "load/one", "2");
    let line = node.process.as_mut().unwrap().line("[node] name");
    assert!(line.contains("hookgate-twins"), "{line}");
}

/// `HOOKGATE_MEASURE=once` or `least`: prints records and processor time.
#[test]
fn the_price() {
    let Ok(kind) = std::env::var("HOOKGATE_MEASURE") else { return };
    let folder = tempfile::tempdir().unwrap();
    let kafka = RealKafka::start(folder.path()).unwrap().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(create_topic(&kafka.address(), "once", &[]));
    let route = if kind == "once" { ROUTE.to_owned() } else { ROUTE.replace("exactly-once", "at-least-once") };
    let node = Node::start_on(&kafka.address(), "name = \"price\"", &route);
    let stage = Stage { address: Arc::new(Mutex::new(node.address)), enough: Arc::default(), acked: Arc::default() };
    let publishers: Vec<_> = (0..number("HOOKGATE_PUBLISHERS", 8))
        .map(|client| {
            let publisher = Publisher { qos: 2, topic: format!("load/{client}"), next: 0, open: BTreeMap::new(), leave_after: None };
            let stage = stage.clone();
            thread::spawn(move || publisher.run(&stage, &format!("c{client}")))
        })
        .collect();
    thread::sleep(Duration::from_secs(3));
    let look = || (Instant::now(), stage.acked.load(Ordering::Relaxed), ticks(node.process.as_ref().unwrap().id()));
    let before = look();
    thread::sleep(Duration::from_secs(number("HOOKGATE_SECONDS", 10) as u64));
    let after = look();
    stage.enough.store(true, Ordering::Relaxed);
    let total: usize = publishers.into_iter().map(|thread| thread.join().unwrap()).sum();
    let messages = (after.1 - before.1) as f64;
    let cpu_us = (after.2 - before.2) as f64 * 10_000.0;
    let rate = messages / (after.0 - before.0).as_secs_f64();
    println!("{kind}: {rate:.0} messages/s, {:.1} µs of processor each; {total} in all", cpu_us / messages);
}

/// User and system time of a process, in hundredths of a second.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn what_exactly_once_needs_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookgate.toml");
    let doors = "[[listener]]\nbind = \"127.0.0.1:0\"\n";
    for (kafka, words) in [
        ("bootstrap_servers = \"embedded\"", "needs a real Kafka"),
        ("bootstrap_servers = \"127.0.0.1:1\"\nacks = \"1\"", "needs acks = \\\"all\\\""),
        ("bootstrap_servers = \"127.0.0.1:1\"\nproperties = { \"max.in.flight\" = \"10\" }", "max.in.flight"),
    ] {
        fs::write(&file, format!("[node]\ndata_dir = \"data\"\n{doors}[kafka]\n{kafka}\n{ROUTE}")).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookgate")).args(["check", "--config"]).arg(&file).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(&words.replace("\\\"", "\"")), "{kafka}: {said}");
    }
}
