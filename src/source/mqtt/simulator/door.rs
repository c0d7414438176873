//! How simulated connections begin and end: the counterpart of `connection::handshake` and `connection::closing`.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    broker::{Broker, Conn, End, Guest, Phase, fail, flush},
    ledger::{Ledger, key_of},
    stage::{Event, Stage},
};
use crate::{
    event::{Client, Receipt},
    source::mqtt::{
        packet::{Incoming, Outgoing},
        reason::{self, Fault},
        session::{
            Session,
            connect::{LastWill, Terms},
        },
        sessions::{Before, Demand, Due, Eviction, Handover, Will},
    },
};

impl Broker {
    /// Reads CONNECT.
    pub(super) fn greet(&mut self, mut conn: Conn, stage: &mut Stage, ledger: &mut Ledger) {
        let connect = match conn.codec.decode(&mut conn.input).expect("devices send valid packets") {
            Some(Incoming::Connect(connect)) => connect,
            Some(other) => panic!("{other:?} before CONNECT"),
            None => return drop(self.conns.insert(conn.link, conn)),
        };
        self.look_at_agenda(stage, ledger);
        let client = Arc::new(Client {
            client_id: String::from(&*connect.client_id).into(),
            username: None,
            peer: ([127, 0, 0, 1], 1).into(),
            protocol_version: connect.protocol.level(),
            certificate_name: None,
            connected_at_ms: stage.now_ms,
        });
        let terms = Terms::negotiate(*connect, &self.limits, || unreachable!("devices have names")).expect("devices are let in");
        let (tenancy, before) = self.sessions.enter(&terms.client_id, if terms.clean_start { Demand::CleanStart } else { Demand::Resume });
        let guest = Guest::new(client, terms, tenancy, stage);
        let links = self.links.entry(guest.device).or_default();
        links.retain(|link| self.conns.contains_key(link));
        links.push(conn.link);
        let device = guest.device;
        conn.guest = Some(guest);
        match before {
            Before::Nothing => self.admit(conn, None, None, stage, ledger),
            Before::Parked(session, will) => self.admit(conn, Some(session), will, stage, ledger),
            Before::Taken(answer) => {
                conn.phase = Phase::Waiting(answer);
                self.conns.insert(conn.link, conn);
                let after_ms = stage.delay(1000);
                stage.after(after_ms, Event::Look(device));
            }
        }
    }

    fn admit(&mut self, mut conn: Conn, old: Option<Box<Session>>, will: Option<Will>, stage: &mut Stage, ledger: &mut Ledger) {
        let guest = conn.guest.as_mut().expect("it was greeted");
        let terms = &guest.terms;
        let left = terms.will.as_ref().map(|LastWill { message, delay_s }| (key_of(&message.payload).expect("wills have keys"), *delay_s));
        let expected = ledger.enter(guest.device, conn.link, terms.clean_start, terms.session_expiry_s, left, stage.now_ms);
        let (session, present) = match old {
            Some(mut session) if !terms.clean_start && session.expiry_s() > 0 => {
                session.attach(&guest.client, terms, &self.limits);
                (session, true)
            }
            old => {
                will.into_iter().for_each(|will| publish_will(will, stage));
                old.into_iter().for_each(|old| self.dissolve(old));
                (Box::new(Session::new(self.sessions.number(), &guest.client, terms, &self.limits)), false)
            }
        };
        assert_eq!(present, expected, "device {}: session present", guest.device);
        let connack = Outgoing::ConnAck(Box::new(terms.connack(present)));
        conn.codec.encode(connack, &mut conn.output).expect("it fits");
        self.sessions.settle(&guest.tenancy, session.mailbox());
        guest.session = Some(session);
        conn.phase = Phase::Open;
        if guest.terms.keep_alive_s > 0 {
            let after_ms = stage.millis_until(guest.keep_alive.next_look(stage.now()));
            stage.after(after_ms, Event::KeepAlive(conn.link));
        }
        self.pump(conn, stage, ledger);
    }

    pub(super) fn keep_alive(&mut self, link: u64, stage: &mut Stage, ledger: &mut Ledger) {
        let Some(mut conn) = self.conns.remove(&link) else { return };
        let Some(guest) = conn.guest.as_mut().filter(|_| matches!(conn.phase, Phase::Open)) else {
            return drop(self.conns.insert(link, conn));
        };
        if guest.keep_alive.expired(stage.now()) {
            let end = fail(&mut conn, &Fault::new(reason::KEEP_ALIVE_TIMEOUT, "keepalive-timeout", ""));
            flush(&mut conn, stage);
            self.close(conn, &end, stage, ledger);
        } else {
            let after_ms = stage.millis_until(guest.keep_alive.next_look(stage.now()));
            stage.after(after_ms, Event::KeepAlive(link));
            self.conns.insert(link, conn);
        }
    }

    /// Evictions and handovers among the connections of a device.
    pub(super) fn look(&mut self, device: usize, stage: &mut Stage, ledger: &mut Ledger) {
        for link in self.links.get(&device).cloned().unwrap_or_default() {
            let Some(mut conn) = self.conns.remove(&link) else { continue };
            let guest = conn.guest.as_mut().expect("it was greeted");
            match &mut conn.phase {
                Phase::Waiting(answer) => match answer.try_recv() {
                    Ok(Handover { session, done, .. }) => {
                        guest.predecessor = Some(done);
                        self.admit(conn, session, None, stage, ledger);
                    }
                    Err(oneshot::error::TryRecvError::Closed) => self.admit(conn, None, None, stage, ledger),
                    Err(oneshot::error::TryRecvError::Empty) => drop(self.conns.insert(link, conn)),
                },
                Phase::Open => match guest.tenancy.eviction.try_recv() {
                    Ok(eviction) => self.evicted(conn, eviction, stage, ledger),
                    Err(_) => drop(self.conns.insert(link, conn)),
                },
                Phase::Closing => self.finish(conn, stage, ledger),
                Phase::Greeting => unreachable!("it has a guest"),
            }
        }
        let waits = |link: &u64| self.conns.get(link).is_some_and(|conn| matches!(conn.phase, Phase::Waiting(_)));
        if self.links.get(&device).is_some_and(|links| links.iter().any(waits)) {
            let after_ms = stage.delay(1000) + 1;
            stage.after(after_ms, Event::Look(device));
        }
    }

    fn evicted(&mut self, mut conn: Conn, eviction: Eviction, stage: &mut Stage, ledger: &mut Ledger) {
        ledger.count("evicted");
        let end = fail(&mut conn, &Fault::new(reason::SESSION_TAKEN_OVER, "taken-over", ""));
        flush(&mut conn, stage);
        let guest = conn.guest.as_mut().expect("it is open");
        let mut session = guest.session.take().expect("it is open");
        session.catch_up();
        session.detach();
        let ends = eviction.demand == Demand::CleanStart || session.expiry_s() == 0;
        let will_waits = !ends && guest.terms.will.as_ref().is_some_and(|will| will.delay_s > 0);
        ledger.left(guest.device, end.with_will, session.expiry_s(), ends);
        let session = if ends {
            self.dissolve(session);
            None
        } else {
            Some(session)
        };
        hand_over(guest, eviction, session);
        self.leave(conn, end.with_will && !will_waits, stage, ledger);
    }

    /// The open stage has ended.
    pub(super) fn close(&mut self, mut conn: Conn, end: &End, stage: &mut Stage, ledger: &mut Ledger) {
        let guest = conn.guest.as_mut().expect("it is open");
        if let Some(session) = &mut guest.session {
            session.catch_up();
            session.detach();
            session.check();
            ledger.left(guest.device, end.with_will, session.expiry_s(), session.expiry_s() == 0);
        }
        self.leave(conn, end.with_will, stage, ledger);
    }

    fn leave(&mut self, mut conn: Conn, with_will: bool, stage: &mut Stage, ledger: &mut Ledger) {
        stage.down(conn.link, None);
        conn.phase = Phase::Closing;
        let guest = conn.guest.as_mut().expect("it was open");
        if !with_will {
            guest.terms.will = None;
        }
        let stays = guest.session.as_ref().is_some_and(|session| session.expiry_s() > 0);
        if guest.terms.will.as_ref().is_some_and(|will| will.delay_s == 0 || !stays) {
            publish_own_will(conn.link, guest, stage);
        }
        if let Some(session) = guest.session.take_if(|session| session.expiry_s() == 0) {
            self.dissolve(session);
        }
        self.finish(conn, stage, ledger);
    }

    /// What was read is finished, then the session waits for its client or goes to the successor.
    pub(super) fn finish(&mut self, mut conn: Conn, stage: &mut Stage, ledger: &mut Ledger) {
        let guest = conn.guest.as_mut().expect("it was open");
        if let Ok(eviction) = guest.tenancy.eviction.try_recv() {
            ledger.count("evicted late");
            let mut session = guest.session.take();
            if eviction.demand == Demand::CleanStart
                && let Some(session) = session.take()
            {
                ledger.discard(guest.device);
                publish_own_will(conn.link, guest, stage);
                self.dissolve(session);
            }
            hand_over(guest, eviction, session);
        }
        if !guest.lane.is_empty() {
            return drop(self.conns.insert(conn.link, conn));
        }
        if let Some(successor) = guest.successor.take() {
            let _ = successor.send(()); // it may be gone
            return;
        }
        let left = match guest.session.take() {
            None => self.sessions.leave(&guest.client.client_id, &guest.tenancy).is_ok(),
            Some(session) => {
                session.check();
                let will = guest.terms.will.clone().map(|will| (Arc::clone(&guest.client), will));
                guest.session = self.sessions.park(&guest.tenancy, session, will, stage.now()).err();
                if guest.session.is_none() {
                    ledger.parked(guest.device, stage.now_ms);
                    self.look_later(stage);
                }
                guest.session.is_none()
            }
        };
        if !left {
            self.conns.insert(conn.link, conn);
        }
    }

    fn look_later(&mut self, stage: &mut Stage) {
        let Some(due) = self.sessions.next_due() else { return };
        let after_ms = stage.millis_until(due);
        if self.look_ms.is_none_or(|look_ms| look_ms <= stage.now_ms || stage.now_ms + after_ms < look_ms) {
            self.look_ms = Some(stage.now_ms + after_ms);
            stage.after(after_ms, Event::Agenda);
        }
    }

    /// Wills and sessions that are due.
    pub(super) fn look_at_agenda(&mut self, stage: &mut Stage, ledger: &mut Ledger) {
        for due in self.sessions.due(stage.now()) {
            match due {
                Due::Will(will) => {
                    let key = key_of(&will.1.message.payload).expect("wills have keys");
                    ledger.ripe(super::ledger::device_of(&will.0.client_id), key, stage.now_ms);
                    publish_will(will, stage);
                }
                Due::End(session) => {
                    ledger.expired(super::ledger::device_of(session.mailbox().client_id()), stage.now_ms);
                    self.dissolve(session);
                }
            }
        }
        self.look_later(stage);
    }

    fn dissolve(&self, mut session: Box<Session>) {
        for filter in session.filters().texts() {
            self.subscriptions.remove(filter, session.number());
        }
        session.end();
    }
}

fn hand_over(guest: &mut Guest, eviction: Eviction, session: Option<Box<Session>>) {
    let (done, wait) = oneshot::channel();
    guest.successor = Some(done);
    guest.former_mailbox = session.as_ref().map(|session| Arc::clone(session.mailbox()));
    eviction.reply.send(Handover { session, will: None, done: wait }).expect("the successor waits");
}

fn publish_own_will(link: u64, guest: &mut Guest, stage: &mut Stage) {
    let Some(LastWill { mut message, .. }) = guest.terms.will.take() else { return };
    message.received_at_ms = stage.now_ms;
    guest.lane.push_back((Box::new(message), None, Receipt::nobody()));
    if guest.lane.len() == 1 {
        stage.after(1, Event::Judged(link));
    }
}

fn publish_will((client, will): Will, stage: &mut Stage) {
    let mut message = will.message;
    message.received_at_ms = stage.now_ms;
    let after_ms = stage.delay(100);
    stage.after(after_ms, Event::Will(client, Box::new(message)));
}
