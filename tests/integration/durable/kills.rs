//! kill -9 under load, again and again: what was acknowledged arrives, QoS 2 arrives once, each publisher's messages in their order.
//!
//! `HOOKGATE_KILLS` and `HOOKGATE_KILL_EVERY_MS` make it longer.

use std::{
    collections::{BTreeMap, HashSet},
    env, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Node,
    client::{Hello, Wire, ack_bytes},
};
use crate::support::PATIENCE;

/// Publishes of one publisher under way.
pub(super) const WINDOW: usize = 40;

#[derive(Clone)]
pub(super) struct Stage {
    pub(super) address: Arc<Mutex<SocketAddr>>,
    /// Nothing new is published any more.
    pub(super) enough: Arc<AtomicBool>,
    pub(super) acked: Arc<AtomicUsize>,
}

impl Stage {
    /// Connects, trying until it works.
    fn connect(&self, hello: &Hello<'_>) -> Wire {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let address = *self.address.lock();
            match Wire::connect(address, hello) {
                Ok((wire, _)) => return wire,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", hello.id),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The publisher's side of its deliveries.
pub(super) struct Publisher {
    pub(super) qos: u8,
    pub(super) topic: String,
    pub(super) next: usize,
    /// By number: the packet identifier, and whether only PUBREL is left.
    pub(super) open: BTreeMap<usize, (u16, bool)>,
    /// After so many packets the connection is lost, and another one follows.
    pub(super) leave_after: Option<usize>,
}

impl Publisher {
    /// Publishes until it is enough and everything is acknowledged; how many there were.
    pub(super) fn run(mut self, stage: &Stage, id: &str) -> usize {
        loop {
            let mut wire = stage.connect(&Hello::old(id));
            let done = self.serve(&mut wire, stage);
            if done.unwrap_or(false) {
                return self.next;
            }
        }
    }

    fn serve(&mut self, wire: &mut Wire, stage: &Stage) -> io::Result<bool> {
        for (number, (id, released)) in &self.open {
            if *released {
                wire.ack(6, *id)?;
            } else {
                let bytes = wire.publish_bytes(8 | self.qos << 1, *id, &self.topic, &number.to_string());
                wire.send(&bytes)?;
            }
        }
        let mut received = 0;
        loop {
            if self.leave_after.is_some_and(|most| received >= most) {
                return Ok(false);
            }
            while self.open.len() < WINDOW && !stage.enough.load(Ordering::Relaxed) {
                let id = (self.next % 60_000 + 1) as u16;
                let bytes = wire.publish_bytes(self.qos << 1, id, &self.topic, &self.next.to_string());
                self.open.insert(self.next, (id, false)); // before the attempt: it may have arrived
                self.next += 1;
                wire.send(&bytes)?;
            }
            if self.open.is_empty() {
                return Ok(true);
            }
            let (first, body) = wire.receive()?;
            received += 1;
            let id = u16::from_be_bytes([body[0], body[1]]);
            let number = self.open.iter().find(|(_, (open, _))| *open == id).map(|(number, _)| *number);
            match (first >> 4, number) {
                (4 | 7, Some(number)) => {
                    self.open.remove(&number);
                    stage.acked.fetch_add(1, Ordering::Relaxed);
                }
                (5, Some(number)) => {
                    self.open.insert(number, (id, true));
                    wire.ack(6, id)?;
                }
                other => panic!("unexpected {other:?} for {id}"),
            }
        }
    }
}

/// The subscriber's side; sends on what its application sees.
fn subscribe(stage: &Stage, id: &str, seen: &mpsc::Sender<(String, usize)>, stop: &AtomicBool) {
    let mut received = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let mut wire = stage.connect(&Hello::old(id));
        let _ = consume(&mut wire, &mut received, seen, stop); // an error: the process was killed
    }
}

fn consume(wire: &mut Wire, received: &mut HashSet<u16>, seen: &mpsc::Sender<(String, usize)>, stop: &AtomicBool) -> io::Result<()> {
    wire.patience(Duration::from_millis(500))?;
    let mut answers = Vec::new();
    loop {
        let (first, body) = match wire.receive() {
            Ok(packet) => packet,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        match first >> 4 {
            3 => {
                let publish = wire.read_publish(first, &body);
                if publish.qos == 1 || received.insert(publish.id) {
                    let _ = seen.send((publish.topic.clone(), publish.payload.parse().unwrap()));
                }
                answers.extend(ack_bytes(if publish.qos == 1 { 4 } else { 5 }, publish.id));
            }
            6 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                received.remove(&id);
                answers.extend(ack_bytes(7, id));
            }
            other => panic!("unexpected packet {other}"),
        }
        if !wire.has_packet() {
            wire.send(&std::mem::take(&mut answers))?;
        }
    }
}

pub(super) fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn ten_kills_lose_nothing_acknowledged_and_deliver_qos_2_once() {
    let mut node = Node::start("[store]\nsync = \"always\"");
    let stage = Stage { address: Arc::new(Mutex::new(node.address)), enough: Arc::default(), acked: Arc::default() };
    let stop = Arc::new(AtomicBool::new(false));
    let subscribers: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|id| {
            let mut wire = stage.connect(&Hello::old(id));
            wire.subscribe("load/#", 2, None);
            drop(wire);
            let (stage, stop, (sender, seen)) = (stage.clone(), Arc::clone(&stop), mpsc::channel());
            (thread::spawn(move || subscribe(&stage, id, &sender, &stop)), seen)
        })
        .collect();
    let publishers: Vec<_> = [("p1", 1), ("p2", 2), ("p3", 2)]
        .into_iter()
        .map(|(id, qos)| {
            let (stage, publisher) =
                (stage.clone(), Publisher { qos, topic: format!("load/{id}"), next: 0, open: BTreeMap::new(), leave_after: None });
            (id, qos, thread::spawn(move || publisher.run(&stage, id)))
        })
        .collect();
    for _ in 0..number("HOOKGATE_KILLS", 10) {
        let (before, deadline) = (stage.acked.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        thread::sleep(Duration::from_millis(number("HOOKGATE_KILL_EVERY_MS", 300) as u64));
        while stage.acked.load(Ordering::Relaxed) < before + 2 * WINDOW {
            assert!(Instant::now() < deadline, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(10));
        }
        node.restart("KILL");
        *stage.address.lock() = node.address;
    }
    stage.enough.store(true, Ordering::Relaxed);
    let published: Vec<_> = publishers.into_iter().map(|(id, qos, thread)| (id, qos, thread.join().unwrap())).collect();
    assert!(published.iter().all(|(_, _, count)| *count > 10 * WINDOW), "{published:?}");
    let mut lists = Vec::new();
    for (_, seen) in &subscribers {
        lists.push(collect(seen, &published));
    }
    stop.store(true, Ordering::Relaxed);
    for ((thread, seen), mut list) in subscribers.into_iter().zip(lists) {
        thread.join().unwrap();
        seen.try_iter().for_each(|(topic, number)| list.entry(topic).or_default().push(number));
        for (id, qos, count) in &published {
            judge(*qos, *count, &list[&format!("load/{id}")], id);
        }
    }
}

/// Reads until the last message of each publisher was seen.
fn collect(seen: &mpsc::Receiver<(String, usize)>, published: &[(&str, u8, usize)]) -> BTreeMap<String, Vec<usize>> {
    let mut lists: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let complete = |lists: &BTreeMap<String, Vec<usize>>| {
        published.iter().all(|(id, _, count)| lists.get(&format!("load/{id}")).is_some_and(|list| list.contains(&(count - 1))))
    };
    let mut last = Instant::now();
    while !(complete(&lists) && last.elapsed() > Duration::from_millis(500)) {
        match seen.recv_timeout(Duration::from_millis(250)) {
            Ok((topic, number)) => {
                lists.entry(topic).or_default().push(number);
                last = Instant::now();
            }
            Err(_) => assert!(last.elapsed() < PATIENCE, "what was published does not arrive: {published:?}"),
        }
        while let Ok((topic, number)) = seen.try_recv() {
            lists.entry(topic).or_default().push(number);
            last = Instant::now();
        }
    }
    lists
}

/// Everything arrived, first arrivals in order; at QoS 2 nothing else did.
fn judge(qos: u8, count: usize, list: &[usize], publisher: &str) {
    let mut known = HashSet::new();
    let first: Vec<usize> = list.iter().copied().filter(|number| known.insert(*number)).collect();
    let missing: Vec<usize> = (0..count).filter(|number| !known.contains(number)).take(20).collect();
    assert!(missing.is_empty(), "{publisher}: missing {missing:?} of {count}");
    let turned: Vec<_> = first.windows(2).filter(|pair| pair[0] > pair[1]).take(20).collect();
    assert!(turned.is_empty(), "{publisher}: out of order {turned:?}");
    if qos == 2 {
        let mut again: Vec<usize> = list.to_vec();
        again.sort_unstable();
        let again: Vec<usize> = again.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).take(20).collect();
        assert!(again.is_empty(), "{publisher}: {} arrived twice: {again:?}", again.len());
    }
}
