//! What the client does, and how its connections begin and end.

use super::{Disk, World, promised, terms};
use crate::{
    event::{Detail, DropReason, Dropping, QoS},
    source::mqtt::{
        fuzz_codec_decode::begun,
        fuzz_session::{
            deliveries::Deliveries,
            publishes::Publishes,
            script::{Hello, Kind},
        },
        packet::{Ack, Answers, Incoming},
        reason,
        samples::client,
        session::{Output, Session, Trace},
    },
    store::Change,
};

impl World {
    /// The client sends a packet.
    pub(super) fn give(&mut self, packet: Incoming) {
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
            return self.fail(out);
        }
        match &packet {
            Incoming::Subscribe(packet) => self.requests.push_back((packet.id, packet.filters.len())),
            Incoming::Unsubscribe(packet) => self.requests.push_back((packet.id, packet.filters.len())),
            Incoming::PubAck(ack) => self.deliveries.acked(ack.id),
            Incoming::PubRec(ack) => self.deliveries.received(ack.id, ack.code < reason::FIRST_ERROR),
            Incoming::PubComp(ack) => self.deliveries.completed(ack.id),
            Incoming::Publish(publish) if publish.qos != QoS::AtMostOnce => {
                let published = out.iter().find_map(|output| if let Output::Publish { number, .. } = output { *number } else { None });
                let denied = |output: &Output| {
                    matches!(output, Output::Observe(Detail::MessageDropped(Dropping { reason: DropReason::Denied, .. })))
                };
                let is_again = out.iter().any(|output| matches!(output, Output::Publish { trace: Trace::Delivered, .. }));
                self.publishes.arrived(publish.id, publish.qos, published, out.iter().any(denied), is_again);
            }
            _ => {}
        }
        self.apply(out);
    }

    /// A packet was refused, perhaps halfway.
    pub(super) fn fail(&mut self, mut out: Vec<Output>) {
        for output in &out {
            if let Output::Subscribe { filter, .. } | Output::Unsubscribe(filter) = output {
                self.filters.insert(filter.clone(), false);
            }
        }
        out.retain(|output| !matches!(output, Output::Subscribe { .. } | Output::Unsubscribe(_)));
        self.apply(out);
        self.disconnect();
    }

    /// The client answers a delivery as it should.
    pub(super) fn answer(&mut self, which: u8, refuse: bool) {
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

    pub(super) fn acknowledge(&mut self, kind: Kind, id: u16, code: u8) {
        let ack = Ack::new(id, if self.hello.protocol.protocol().is_5() { code } else { reason::SUCCESS });
        self.give(match kind {
            Kind::PubAck => Incoming::PubAck(ack),
            Kind::PubRec => Incoming::PubRec(ack),
            Kind::PubRel => Incoming::PubRel(ack),
            Kind::PubComp => Incoming::PubComp(ack),
        });
    }

    /// SUBACK or UNSUBACK came.
    pub(super) fn answered(&mut self, answers: &Answers) {
        let asked = self.requests.pop_front();
        assert_eq!(asked, Some((answers.id, answers.codes.len())), "the answer to SUBSCRIBE or UNSUBSCRIBE");
    }

    pub(super) fn connect(&mut self, hello: Hello) {
        self.disconnect();
        let terms = terms(hello, &self.limits);
        if std::mem::take(&mut self.is_over) {
            self.session = Session::new(self.session.number() + 1, &client("device"), &terms, &self.limits);
        } else {
            self.session.attach(&client("device"), &terms, &self.limits);
        }
        self.codec = begun(hello.protocol.protocol());
        self.deliveries.attached(promised(&terms, &self.limits));
        self.hello = hello;
        self.is_open = true;
        self.keep();
        self.connection += 1;
    }

    pub(super) fn disconnect(&mut self) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        self.forget();
        self.session.catch_up();
        self.session.detach();
        self.publishes.broken();
        if self.session.expiry_s() == 0 {
            self.end();
            if let Some(Disk { store, .. }) = self.disk.as_ref().filter(|_| self.session.is_durable()) {
                store.add(Change::Ended(self.session.number()));
            }
            self.end_session();
        }
    }

    /// What belongs to the connection ends with it.
    pub(super) fn forget(&mut self) {
        self.questions.clear();
        self.requests.clear();
        self.is_proving = false;
    }

    /// The session has ended, and the client knows nothing of it any more.
    pub(super) fn end_session(&mut self) {
        self.is_over = true;
        self.publishes = Publishes::default();
        self.deliveries = Deliveries::new(self.deliveries.terms);
        self.filters.clear();
    }
}
