//! One session, its client, and what surrounds them.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    deliveries::{self, Deliveries},
    publishes::{Pending, Publishes},
    script::{self, Decision, Fate, Hello, Kind, Other, Post, Qos, Script, Step, packet_id},
};
use crate::{
    config::{DeniedPublish, Mqtt},
    event::{Denial, Detail, DropReason, Dropping, Outcome, QoS, Refusal},
    source::mqtt::{
        codec::Codec,
        fuzz_codec_decode::begun,
        mailbox::Parcel,
        packet::{Ack, Connect, Disconnect, Incoming, Outgoing, Subscribe, Unsubscribe},
        reason,
        samples::{client, connect, expiring, message},
        session::{Output, Session, Unmade, Verdict, Wanted, connect::Terms},
    },
};

/// Everything outside the session.
pub(super) struct World {
    limits: Arc<Mqtt>,
    wanted: Wanted,
    hello: Hello,
    session: Session,
    codec: Codec,
    is_open: bool,
    connection: u64,
    now_ms: u64,
    publishes: Publishes,
    deliveries: Deliveries,
}

impl World {
    pub(super) fn new(script: &Script) -> Self {
        let bounds = &script.bounds;
        let limits = Arc::new(Mqtt {
            receive_maximum: u16::from(bounds.receive_maximum % 16) + 1,
            max_inflight: u16::from(bounds.max_inflight % 16) + 1,
            max_queued_messages: usize::from(bounds.max_queued_messages),
            denied_publish: if bounds.deny_by_disconnect { DeniedPublish::Disconnect } else { DeniedPublish::Acknowledge },
            max_subscriptions: 6,
            max_topic_aliases: u16::from(bounds.max_topic_aliases % 4),
            ..Mqtt::default()
        });
        let terms = terms(script.hello, &limits);
        World {
            session: Session::new(1, &client("device"), &terms, &limits),
            codec: begun(script.hello.protocol.protocol()),
            deliveries: Deliveries::new(promised(&terms, &limits)),
            limits,
            wanted: Wanted { delivered: script.wanted.0, acked: script.wanted.1 },
            hello: script.hello,
            is_open: true,
            connection: 0,
            now_ms: 1_000,
            publishes: Publishes::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(letter) => self.give(Incoming::Publish(Box::new(letter.publish()))),
            Step::Answer { which, refuse } => self.answer(*which, *refuse),
            Step::Release { which } => {
                let ids = self.publishes.to_release();
                if !ids.is_empty() {
                    self.give(Incoming::PubRel(Ack::new(*script::pick(&ids, *which), reason::SUCCESS)));
                }
            }
            Step::Acknowledge { kind, id, code } => self.acknowledge(*kind, packet_id(*id), *code),
            Step::Subscribe { id, filters, subscription_id } => {
                let filters: Vec<_> = filters.iter().map(|(filter, bits)| (script::filter(*filter), script::options(*bits))).collect();
                let subscription_id = subscription_id.map(|id| u32::from(id) + 1);
                if !filters.is_empty() {
                    self.give(Incoming::Subscribe(Subscribe { id: packet_id(*id), subscription_id, filters }));
                }
            }
            Step::Unsubscribe { id, filters } => {
                let filters: Vec<_> = filters.iter().map(|filter| script::filter(*filter)).collect();
                if !filters.is_empty() {
                    self.give(Incoming::Unsubscribe(Unsubscribe { id: packet_id(*id), filters }));
                }
            }
            Step::Other(other) => self.give(match other {
                Other::Ping => Incoming::PingReq,
                Other::Auth => Incoming::Auth,
                Other::Connect => Incoming::Connect(Box::new(connect(self.hello.protocol.protocol()))),
                Other::ServerOnly => Incoming::ServerOnly("SUBACK"),
            }),
            Step::Disconnect { code, expiry_s } => {
                self.give(Incoming::Disconnect(Disconnect { code: *code, session_expiry_s: expiry_s.map(u32::from) }));
            }
            Step::Decide { which, verdict } => self.decide(*which, *verdict),
            Step::Settle { which, outcome } => self.settle(*which, *outcome),
            Step::Post(post) => self.post(*post),
            Step::Pass { ms } => self.now_ms += u64::from(*ms),
            Step::Advance { room_bytes } => self.advance(usize::from(*room_bytes)),
            Step::Break => self.disconnect(),
            Step::Connect(hello) => self.connect(*hello),
        }
    }

    /// The client comes back and brings everything to its end: nothing may be left of it.
    pub(super) fn finish(&mut self) {
        self.connect(Hello::BEST);
        self.settle_all();
        self.rest();
        for id in self.publishes.to_repeat() {
            self.give(Incoming::Publish(Box::new(script::Letter::plain(Qos::Q2, id))));
            self.settle_all();
            self.rest();
        }
        assert!(self.session.is_settled());
        self.publishes.check_empty();
        self.check_windows();
        self.end();
    }

    fn settle_all(&mut self) {
        for which in 0..self.publishes.pending.len() {
            self.decide_at(which, Verdict::Accepted { matched: true });
            self.settle_at(which, Outcome::Stored);
        }
    }

    /// The client answers everything until nothing more comes.
    fn rest(&mut self) {
        for _ in 0..2_000 {
            self.advance(usize::MAX);
            while self.deliveries.nth(0).is_some() {
                self.answer(0, false);
            }
            for id in self.publishes.to_release() {
                self.give(Incoming::PubRel(Ack::new(id, reason::SUCCESS)));
            }
            if self.deliveries.is_empty() && !self.session.can_deliver() {
                break;
            }
        }
        assert!(self.is_open && self.deliveries.is_empty() && !self.session.can_deliver(), "it does not come to rest");
    }

    /// As much goes in both directions as at the beginning.
    fn check_windows(&mut self) {
        let window = self.deliveries.terms.window.min(usize::from(self.limits.max_queued_messages as u16));
        for _ in 0..window {
            self.post(Post::PLAIN);
        }
        let before = self.deliveries.sent;
        self.session.has_mail();
        self.advance(usize::MAX);
        assert_eq!(self.deliveries.sent - before, window as u64, "the window for deliveries is not what it was");
        let plain = |id| script::Letter::plain(Qos::Q1, id);
        let mut out = Vec::new();
        for id in 0..self.limits.receive_maximum {
            let taken = self.session.handle(Incoming::Publish(Box::new(plain(1_000 + id))), self.now_ms, self.wanted, &mut out);
            assert_eq!(taken, Ok(()), "the window for publishes is not what it was");
        }
        let excess = self.session.handle(Incoming::Publish(Box::new(plain(999))), self.now_ms, self.wanted, &mut out);
        assert_eq!(excess.map_err(|fault| fault.code), Err(reason::RECEIVE_MAXIMUM_EXCEEDED));
    }

    /// The session ends: what it took was delivered, dropped or is left over.
    fn end(&mut self) {
        let lost = self.session.end().len() as u64;
        assert_eq!(self.deliveries.taken, self.deliveries.ended + lost, "messages taken; told of or left over ({lost})");
    }

    /// The client sends a packet.
    fn give(&mut self, packet: Incoming) {
        if !self.is_open {
            self.connect(self.hello);
        }
        if self.session.is_full() {
            self.advance(0);
            if !self.is_open || self.session.is_full() {
                return; // the connection would not read
            }
        }
        let mut out = Vec::new();
        let handled = self.session.handle(packet.clone(), self.now_ms, self.wanted, &mut out);
        if let Err(fault) = handled {
            let said = out.iter().find(|output| matches!(output, Output::Send(_) | Output::Publish { .. } | Output::Goodbye { .. }));
            assert!(said.is_none(), "{said:?} though {packet:?} is refused: {fault:?}");
            self.apply(out);
            return self.disconnect();
        }
        match &packet {
            Incoming::PubAck(ack) => self.deliveries.acked(ack.id),
            Incoming::PubRec(ack) => self.deliveries.received(ack.id, ack.code < reason::FIRST_ERROR),
            Incoming::PubComp(ack) => self.deliveries.completed(ack.id),
            Incoming::Publish(publish) if publish.qos != QoS::AtMostOnce => {
                let published = out.iter().find_map(|output| if let Output::Publish { number, .. } = output { *number } else { None });
                let denied = |output: &Output| {
                    matches!(output, Output::Observe(Detail::MessageDropped(Dropping { reason: DropReason::Denied, .. })))
                };
                self.publishes.arrived(publish.id, publish.qos, published, out.iter().any(denied));
            }
            _ => {}
        }
        self.apply(out);
    }

    fn advance(&mut self, room_bytes: usize) {
        if !self.is_open {
            return;
        }
        let mut out = Vec::new();
        self.session.has_mail();
        let advanced = self.session.advance(self.now_ms, room_bytes, self.wanted, &mut out);
        self.apply(out);
        if advanced.is_err() {
            self.publishes.unanswered(self.hello.protocol.protocol());
            self.disconnect();
        }
    }

    /// Does what the session wants done.
    fn apply(&mut self, out: Vec<Output>) {
        let protocol = self.hello.protocol.protocol();
        for output in out {
            match output {
                Output::Send(packet) => {
                    match &packet {
                        Outgoing::Publish(forward) => self.deliveries.came(forward),
                        Outgoing::PubAck(ack) => self.publishes.answered(protocol, QoS::AtLeastOnce, ack),
                        Outgoing::PubRec(ack) => self.publishes.answered(protocol, QoS::ExactlyOnce, ack),
                        Outgoing::PubRel(ack) => self.deliveries.released(ack),
                        Outgoing::PubComp(ack) => self.publishes.completed(ack),
                        _ => {}
                    }
                    self.codec.encode(packet, &mut BytesMut::new()).expect("what the session says can be written");
                }
                Output::Publish { number: Some(number), receipt, .. } => {
                    let connection = self.connection;
                    self.publishes.pending.push(Pending { number, receipt: Some(receipt), is_decided: false, connection });
                }
                Output::Observe(Detail::MessageDelivered(_)) => self.deliveries.delivered += 1,
                Output::Observe(Detail::MessageAcked(_)) => self.deliveries.ended += 1,
                Output::Observe(Detail::MessageDropped(dropping)) if dropping.message.publisher != "device" => {
                    self.deliveries.dropped(&dropping.message);
                }
                Output::Goodbye { .. } => self.disconnect(),
                Output::Publish { .. } | Output::Observe(_) | Output::Subscribe { .. } | Output::Unsubscribe(_) => {}
            }
        }
        let Unmade { delivered, acked } = self.session.take_unmade();
        self.deliveries.delivered += delivered;
        self.deliveries.ended += acked;
        assert_eq!(self.deliveries.sent, self.deliveries.delivered, "first transmissions, and how many were told");
    }

    /// The client answers a delivery as it should.
    fn answer(&mut self, which: u8, refuse: bool) {
        let Some((id, qos, received)) = self.deliveries.nth(which) else { return };
        let code = if refuse && self.hello.protocol.protocol().is_5() { reason::UNSPECIFIED } else { reason::SUCCESS };
        let ack = Ack::new(id, code);
        self.give(match (qos, received) {
            (QoS::AtMostOnce, _) => return,
            (QoS::AtLeastOnce, _) => Incoming::PubAck(ack),
            (QoS::ExactlyOnce, false) => Incoming::PubRec(ack),
            (QoS::ExactlyOnce, true) => Incoming::PubComp(Ack::new(id, reason::SUCCESS)),
        });
    }

    fn acknowledge(&mut self, kind: Kind, id: u16, code: u8) {
        let ack = Ack::new(id, if self.hello.protocol.protocol().is_5() { code } else { reason::SUCCESS });
        self.give(match kind {
            Kind::PubAck => Incoming::PubAck(ack),
            Kind::PubRec => Incoming::PubRec(ack),
            Kind::PubRel => Incoming::PubRel(ack),
            Kind::PubComp => Incoming::PubComp(ack),
        });
    }

    fn decide(&mut self, which: u8, verdict: Decision) {
        let Some(which) = usize::from(which).checked_rem(self.publishes.pending.len()) else { return };
        let denial = |reason_code: u8| Denial { reason_code: reason_code | reason::FIRST_ERROR, reason: "no".into() };
        self.decide_at(which, match verdict {
            Decision::Accept { matched } => Verdict::Accepted { matched },
            Decision::Swallow => Verdict::Swallowed,
            Decision::Deny { code } => Verdict::Denied(denial(code)),
        });
    }

    /// The first word counts. What a former connection has read comes through the mailbox.
    fn decide_at(&mut self, which: usize, verdict: Verdict) {
        let pending = &mut self.publishes.pending[which];
        if std::mem::replace(&mut pending.is_decided, true) {
            return;
        }
        let number = pending.number;
        if pending.connection == self.connection {
            self.session.decided(number, verdict.clone());
        } else {
            self.session.mailbox().bring(number, verdict.clone());
            self.session.has_mail();
        }
        self.publishes.decided(number, verdict);
    }

    fn settle(&mut self, which: u8, outcome: Fate) {
        let Some(which) = usize::from(which).checked_rem(self.publishes.pending.len()) else { return };
        let refused = |refusal: fn(crate::event::Text) -> Refusal| Outcome::Refused(refusal("no".into()));
        match outcome {
            Fate::Stored => self.settle_at(which, Outcome::Stored),
            Fate::TooLarge => self.settle_at(which, refused(Refusal::TooLarge)),
            Fate::Unauthorized => self.settle_at(which, refused(Refusal::Unauthorized)),
            Fate::Unknown => self.settle_at(which, Outcome::Unknown("timed out".into())),
            Fate::Dropped => {
                let Pending { number, receipt, .. } = &mut self.publishes.pending[which];
                if receipt.take().is_some() {
                    let number = *number;
                    self.publishes.settled(number, Outcome::Unknown("dropped".into()));
                }
            }
        }
    }

    fn settle_at(&mut self, which: usize, outcome: Outcome) {
        let Pending { number, receipt, .. } = &mut self.publishes.pending[which];
        if let Some(receipt) = receipt.take() {
            let number = *number;
            receipt.settle(outcome.clone());
            self.publishes.settled(number, outcome);
        }
    }

    fn post(&mut self, post: Post) {
        let qos = post.qos.qos();
        let mut message = message(post.topic(), qos, "");
        message.payload = self.deliveries.payload(usize::from(post.size));
        message.received_at_ms = self.now_ms;
        if let Some(expiry_s) = post.expiry_s {
            message = expiring(message, u32::from(expiry_s));
        }
        let subscription_ids = post.subscription_id.map(|id| u32::from(id) + 1).into_iter().collect();
        let share = post.is_shared.then(|| "$share/g/#".into());
        let parcel = Parcel { message: Arc::new(message), qos, retain: post.retain, subscription_ids, share };
        if self.session.mailbox().push(parcel).is_ok() {
            self.deliveries.taken += 1;
        }
    }

    fn connect(&mut self, hello: Hello) {
        self.disconnect();
        let terms = terms(hello, &self.limits);
        self.session.attach(&client("device"), &terms, &self.limits);
        self.codec = begun(hello.protocol.protocol());
        self.deliveries.attached(promised(&terms, &self.limits));
        self.hello = hello;
        self.is_open = true;
        self.connection += 1;
    }

    fn disconnect(&mut self) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        self.session.catch_up();
        self.session.detach();
        self.publishes.broken();
        if self.session.expiry_s() == 0 {
            self.end();
            let terms = terms(self.hello, &self.limits);
            self.session = Session::new(self.session.number() + 1, &client("device"), &terms, &self.limits);
            self.publishes = Publishes::default();
            self.deliveries = Deliveries::new(self.deliveries.terms);
        }
    }
}

fn terms(hello: Hello, limits: &Mqtt) -> Terms {
    let protocol = hello.protocol.protocol();
    let five = protocol.is_5();
    let connect = Connect {
        session_expiry_s: if hello.ends_with_connection { 0 } else { 3600 },
        receive_maximum: if five { u16::from(hello.receive_maximum).max(1) } else { u16::MAX },
        max_packet_bytes: hello.max_packet_bytes.filter(|_| five).map(|bytes| u32::from(bytes).max(1)),
        problem_information: five && hello.problem_information,
        topic_alias_maximum: if five { u16::from(hello.topic_alias_maximum) } else { 0 },
        ..connect(protocol)
    };
    Terms::negotiate(connect, limits, || "fresh".into()).expect("these terms are granted")
}

fn promised(terms: &Terms, limits: &Mqtt) -> deliveries::Terms {
    deliveries::Terms {
        five: terms.protocol.is_5(),
        window: usize::from(terms.receive_maximum.min(limits.max_inflight)),
        max_packet_bytes: terms.max_packet_bytes.map_or(usize::MAX, |bytes| bytes as usize),
        alias_maximum: terms.server_alias_maximum,
    }
}
