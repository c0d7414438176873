//! One session, its client, and what surrounds them.

mod client;
mod ending;
mod others;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::BytesMut;

use super::{
    deliveries::{self, Deliveries},
    publishes::{Pending, Publishes},
    script::{self, Hello, Other, Script, Step, packet_id},
};
use crate::{
    config::{DeniedPublish, Mqtt},
    event::{Detail, QoS, Text},
    source::mqtt::{
        codec::Codec,
        fuzz_codec_decode::begun,
        packet::{Ack, Auth, Connect, Disconnect, Incoming, Outgoing, Subscribe, Unsubscribe},
        reason,
        samples::{client, connect},
        session::{Output, Session, Unmade, Wanted, connect::Terms},
    },
    store::{Change, Image, Store},
};

/// How clients prove themselves.
const METHOD: &str = "method";

/// A store that commits when it is told to.
struct Disk {
    store: Store,
    image: Image,
}

/// Everything outside the session.
pub(super) struct World {
    limits: Arc<Mqtt>,
    disk: Option<Disk>,
    /// Filters that the session holds, and whether that is certain: a packet that was refused halfway is not.
    filters: BTreeMap<Text, bool>,
    wanted: Wanted,
    /// What was asked about filters: the number, and of how many.
    questions: VecDeque<(u64, usize)>,
    /// SUBSCRIBE and UNSUBSCRIBE without their answers: the identifier, and how many filters.
    requests: VecDeque<(u16, usize)>,
    is_proving: bool,
    hello: Hello,
    session: Session,
    /// The session has ended; the next connection begins another one.
    is_over: bool,
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
        let mut world = World {
            disk: bounds.is_durable.then(|| Disk { store: Store::detached(), image: Image::default() }),
            filters: BTreeMap::new(),
            session: Session::new(1, &client("device"), &terms, &limits),
            codec: begun(script.hello.protocol.protocol()),
            deliveries: Deliveries::new(promised(&terms, &limits)),
            limits,
            wanted: Wanted { delivered: script.wanted.0, acked: script.wanted.1, authorize: script.wanted.2, once: false },
            questions: VecDeque::new(),
            requests: VecDeque::new(),
            is_proving: false,
            hello: script.hello,
            is_over: false,
            is_open: true,
            connection: 0,
            now_ms: 1_000,
            publishes: Publishes::default(),
        };
        world.keep();
        world
    }

    /// The client is in; it is told when its session is durable.
    fn keep(&mut self) {
        let Some(Disk { store, .. }) = &self.disk else { return };
        self.session.keep_in(Some(store));
        if self.session.is_durable() {
            store.add(Change::Session(Box::new(self.session.state(None))));
        }
        self.commit();
    }

    fn commit(&mut self) {
        if let Some(Disk { store, image }) = &mut self.disk {
            store.commit_into(image);
            if self.session.is_durable() {
                self.deliveries.committed();
            }
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
                Other::Auth { code, is_mine } => {
                    let codes = [reason::RE_AUTHENTICATE, reason::CONTINUE_AUTHENTICATION, reason::SUCCESS];
                    let method = Some(if *is_mine { METHOD } else { "other" }.into());
                    Incoming::Auth(Box::new(Auth { code: *script::pick(&codes, *code), method, data: None }))
                }
                Other::Connect => Incoming::Connect(Box::new(connect(self.hello.protocol.protocol()))),
                Other::ServerOnly => Incoming::ServerOnly("SUBACK"),
            }),
            Step::Disconnect { code, expiry_s } => {
                self.give(Incoming::Disconnect(Disconnect { code: *code, session_expiry_s: expiry_s.map(u32::from) }));
            }
            Step::Decide { which, verdict } => self.decide(*which, *verdict),
            Step::Settle { which, outcome } => self.settle(*which, *outcome),
            Step::Permit { denied } => self.permit(*denied),
            Step::Prove { proof } => self.prove(*proof),
            Step::Post(post) => self.post(*post),
            Step::Pass { ms } => self.now_ms += u64::from(*ms),
            Step::Advance { room_bytes } => self.advance(usize::from(*room_bytes)),
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
            Step::Break => self.disconnect(),
            Step::Connect(hello) => self.connect(*hello),
        }
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
                        Outgoing::SubAck(answers) | Outgoing::UnsubAck(answers) => self.answered(answers),
                        _ => {}
                    }
                    self.codec.encode(packet, &mut BytesMut::new()).expect("what the session says can be written");
                }
                Output::Publish { number: Some(number), receipt, trace, .. } => {
                    let connection = self.connection;
                    let share = self.disk.as_ref().map(|_| receipt.clone());
                    let pending = Pending { number, receipt: Some(receipt), share, trace, is_decided: false, connection };
                    self.publishes.pending.push(pending);
                }
                Output::Authorize { number, filters } => self.questions.push_back((number, filters.len())),
                Output::Prove { .. } => {
                    assert!(!std::mem::replace(&mut self.is_proving, true), "it is asked for two proofs at once");
                }
                Output::Persist(change) => {
                    let disk = self.disk.as_ref().expect("only durable sessions have something to store");
                    disk.store.add(change);
                }
                Output::Barrier => self.commit(),
                Output::Subscribe { filter, .. } => drop(self.filters.insert(filter, true)),
                Output::Unsubscribe(filter) => drop(self.filters.remove(&filter)),
                Output::Observe(Detail::MessageDelivered(_)) => self.deliveries.delivered += 1,
                Output::Observe(Detail::MessageAcked(_)) => self.deliveries.ended += 1,
                Output::Observe(Detail::MessageDropped(dropping)) if dropping.message.publisher != "device" => {
                    self.deliveries.dropped(&dropping.message);
                }
                Output::Goodbye { .. } => self.disconnect(),
                Output::Publish { .. } | Output::Observe(_) => {}
            }
        }
        let Unmade { delivered, acked } = self.session.take_unmade();
        self.deliveries.delivered += delivered;
        self.deliveries.ended += acked;
        assert_eq!(self.deliveries.sent, self.deliveries.delivered, "first transmissions, and how many were told");
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
        authentication_method: (five && hello.has_method).then(|| METHOD.into()),
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
