//! A session over crashes of the process, in memory: what was committed is all that a new process has.

use std::collections::{HashSet, VecDeque};

use super::*;
use crate::{
    source::mqtt::packet::{Subscribe, Unsubscribe},
    source::mqtt::samples::options,
    store::{Change, Image, Place, Store, StoredSession, Ticket},
};

/// A process with one session, its disk, and the session's client, which keeps its own side.
struct World {
    image: Image,
    store: Store,
    session: Session,
    last: Ticket,
    gate: Ticket,
    /// To the client; each waits for its ticket.
    sent: VecDeque<(Ticket, Outgoing)>,
    /// From the client.
    answers: VecDeque<Incoming>,
    ids: HashSet<u16>,
    seen: Vec<usize>,
    queued: Vec<(usize, QoS, Ticket)>,
    acknowledged: Vec<(usize, QoS)>,
    next: usize,
}

impl World {
    fn new() -> Self {
        let store = Store::detached();
        let mut session = Session::new(1, &client("device"), &terms(connect(Protocol::V311)), &Arc::new(limits()));
        session.keep_in(Some(&store));
        store.add(Change::Session(Box::new(session.state(None))));
        let mut world = World {
            image: Image::default(),
            store,
            session,
            last: Ticket::default(),
            gate: Ticket::default(),
            sent: VecDeque::new(),
            answers: VecDeque::new(),
            ids: HashSet::new(),
            seen: Vec::new(),
            queued: Vec::new(),
            acknowledged: Vec::new(),
            next: 0,
        };
        world.commit();
        world
    }

    fn queue(&mut self, qos: QoS) {
        let message = Arc::new(message("a", qos, &self.next.to_string()));
        let parcel = Parcel { message, qos, retain: false, subscription_ids: Box::default(), share: None };
        let mut batch = self.store.batch();
        self.session.mailbox().push_in(parcel, Some(&mut batch)).expect("there is room");
        self.queued.push((self.next, qos, batch.ticket()));
        drop(batch);
        self.next += 1;
    }

    fn advance(&mut self) {
        let mut out = Vec::new();
        if let Some(packet) = self.answers.pop_front() {
            self.session.handle(packet, 0, EVERYTHING, &mut out).expect("no fault");
        }
        self.session.has_mail();
        self.session.advance(0, 100, EVERYTHING, &mut out).expect("no fault");
        for output in out {
            match output {
                Output::Persist(change) => self.last = self.store.add(change),
                Output::Barrier => self.gate = self.last,
                Output::Send(packet) => self.sent.push_back((self.gate, packet)),
                _ => {}
            }
        }
    }

    fn commit(&mut self) {
        self.store.commit_into(&mut self.image);
        let committed = *self.store.commits().borrow();
        self.queued.retain(|(number, qos, ticket)| {
            if *ticket <= committed {
                self.acknowledged.push((*number, *qos));
            }
            *ticket > committed
        });
    }

    fn receive(&mut self) {
        let committed = *self.store.commits().borrow();
        let Some((_, packet)) = self.sent.pop_front_if(|(gate, _)| *gate <= committed) else { return };
        match packet {
            Outgoing::Publish(forward) => {
                if forward.qos == QoS::AtLeastOnce || self.ids.insert(forward.id) {
                    let payload = String::from_utf8_lossy(&forward.message.payload);
                    self.seen.push(payload.parse().expect("a number"));
                }
                let answer = if forward.qos == QoS::AtLeastOnce { Incoming::PubAck } else { Incoming::PubRec };
                self.answers.push_back(answer(ack(forward.id)));
            }
            Outgoing::PubRel(release) => {
                self.ids.remove(&release.id);
                self.answers.push_back(Incoming::PubComp(ack(release.id)));
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The process dies; another one starts on the same disk, and the client comes back.
    fn crash(&mut self) {
        let stored = self.image.restore();
        assert_eq!(stored.damaged, [""; 0]);
        let [session] = <[StoredSession; 1]>::try_from(stored.sessions).expect("one session");
        self.store = Store::detached();
        let (session, excess) = Session::restore(session, &Arc::new(limits()), Some(&self.store));
        assert_eq!(excess, []);
        self.session = session;
        self.session.attach(&client("device"), &terms(connect(Protocol::V311)), &Arc::new(limits()));
        self.session.keep_in(Some(&self.store));
        (self.last, self.gate) = (Ticket::default(), Ticket::default());
        self.sent.clear();
        self.answers.clear();
        self.queued.clear(); // whether they arrive is open
    }
}

fn limits() -> Mqtt {
    Mqtt { max_inflight: 4, ..Mqtt::default() }
}

#[test]
fn whatever_the_moment_of_a_crash_nothing_committed_is_lost_and_qos_2_arrives_once() {
    let mut crashes = 0;
    for seed in 0..300 {
        let (mut random, mut world) = (fastrand::Rng::with_seed(seed), World::new());
        for _ in 0..400 {
            match random.u8(..100) {
                0..15 => world.queue(QoS::AtLeastOnce),
                15..30 => world.queue(QoS::ExactlyOnce),
                30..55 => world.advance(),
                55..75 => world.receive(),
                75..98 => world.commit(),
                _ => {
                    world.crash();
                    crashes += 1;
                }
            }
        }
        let mut quiet = 0;
        while quiet < 3 {
            let before = (world.seen.len(), world.answers.len(), world.sent.len());
            world.advance();
            world.commit();
            world.receive();
            let idle = before == (world.seen.len(), 0, 0) && world.answers.is_empty() && world.sent.is_empty();
            quiet = if idle { quiet + 1 } else { 0 };
        }
        let mut known = HashSet::new();
        let first: Vec<usize> = world.seen.iter().copied().filter(|number| known.insert(*number)).collect();
        assert!(first.is_sorted(), "seed {seed}: {first:?}");
        for (number, qos) in &world.acknowledged {
            let count = world.seen.iter().filter(|seen| *seen == number).count();
            assert!(count > 0, "seed {seed}: {number} is lost");
            assert!(count == 1 || *qos == QoS::AtLeastOnce, "seed {seed}: {number} arrived {count} times");
        }
        assert_eq!(world.image.restore().sessions.first().map(|session| (session.flights.len(), session.queue.len())), Some((0, 0)));
    }
    assert!(crashes > 500);
}

#[test]
fn a_session_without_an_expiry_persists_nothing() {
    let store = Store::detached();
    let mut desk = Desk::with(Connect { session_expiry_s: 0, ..connect(Protocol::V5) }, Mqtt::default());
    desk.session.keep_in(Some(&store));
    desk.post("a", QoS::ExactlyOnce);
    desk.advance().unwrap();
    assert_eq!(desk.give(Incoming::PubRec(ack(1))), ["message.acked a", "PUBREL 1 0x00"]);
    assert!(!store.commit_into(&mut Image::default()));
}

#[test]
fn what_is_persisted_before_what_is_sent() {
    let store = Store::detached();
    let mut desk = Desk::new(Protocol::V5);
    desk.session.keep_in(Some(&store));
    let filters = vec![("a".into(), options(QoS::AtMostOnce))];
    let subscribed = desk.give(Incoming::Subscribe(Subscribe { id: 1, subscription_id: None, filters }));
    assert_eq!(subscribed[subscribed.len() - 3..], ["persist Subscribed", "barrier", "SUBACK 1 [00]"]);
    let unsubscribed = desk.give(Incoming::Unsubscribe(Unsubscribe { id: 2, filters: vec!["a".into()] }));
    assert_eq!(unsubscribed[unsubscribed.len() - 3..], ["persist Unsubscribed", "barrier", "UNSUBACK 2 [00]"]);
    desk.post("b", QoS::AtMostOnce);
    desk.post("c", QoS::AtLeastOnce);
    desk.post("d", QoS::ExactlyOnce);
    let sent = [
        "PUBLISH b 0 q0",
        "message.delivered b",
        "persist Sent",
        "PUBLISH c 1 q1",
        "message.delivered c",
        "persist Sent",
        "barrier",
        "PUBLISH d 2 q2",
        "message.delivered d",
    ];
    assert_eq!(desk.advance().unwrap(), sent);
    assert_eq!(desk.give(Incoming::PubAck(ack(1))), ["persist Done", "message.acked c"]);
    assert_eq!(desk.give(Incoming::PubRec(ack(2))), ["message.acked d", "persist Received", "barrier", "PUBREL 2 0x00"]);
    assert_eq!(desk.give(Incoming::PubComp(ack(2))), ["persist Done"]);
    desk.publish(QoS::ExactlyOnce, 9, "e");
    desk.store("e");
    assert_eq!(desk.advance().unwrap(), ["PUBREC 9 0x00"]);
    assert_eq!(desk.give(Incoming::PubRel(ack(9))), ["persist Released", "barrier", "PUBCOMP 9 0x00"]);
    desk.publish(QoS::ExactlyOnce, 9, "f");
    desk.settle("f", ACCEPTED, refused());
    assert_eq!(desk.advance().unwrap(), ["persist Released", "barrier", "PUBREC 9 0x97 1 MiB"]);
}

#[test]
fn a_restored_identifier_is_delivered_no_more_but_goes_to_kafka_again() {
    let (store, mut image) = (Store::detached(), Image::default());
    let mut desk = Desk::new(Protocol::V5);
    desk.session.keep_in(Some(&store));
    store.add(Change::Session(Box::new(desk.session.state(None))));
    store.add(Change::Used(1, 9));
    store.add(Change::Received(Place { session: 1, sequence: 3 }, 4));
    store.commit_into(&mut image);
    let stored = image.restore().sessions.remove(0);
    let (session, _) = Session::restore(stored, &Arc::new(Mqtt::default()), Some(&store));
    let mut desk = Desk { session, published: Vec::new(), now_ms: 0 };
    assert_eq!(desk.reconnect(connect(Protocol::V5)), ["PUBREL 4 0x00"]);
    assert_eq!(desk.publish(QoS::ExactlyOnce, 9, "e"), ["publish e"]);
    assert_eq!(desk.publish(QoS::ExactlyOnce, 9, "e"), [""; 0], "it is under way");
    desk.store("e");
    assert_eq!(desk.advance().unwrap(), ["PUBREC 9 0x00"]);
    assert_eq!(desk.publish(QoS::ExactlyOnce, 9, "e"), ["PUBREC 9 0x00"], "it has arrived");
}
