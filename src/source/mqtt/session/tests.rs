//! The session without a socket: scripts of what goes in and what comes out.

mod connecting;
mod inbound;
mod once;
mod outbound;
mod stored;
mod subscribing;

use std::sync::Arc;

use super::{connect::Terms, *};
use crate::{
    event::{Outcome, QoS, Refusal},
    source::mqtt::{
        packet::{Alias, Answers, Auth, Connect, Publish},
        samples::{client, connect, message, terms},
    },
};

const EVERYTHING: Wanted = Wanted { delivered: true, acked: true, authorize: false, once: false };
const ASKING: Wanted = Wanted { authorize: true, ..EVERYTHING };

/// A session, and what it published that nobody has settled yet.
struct Desk {
    session: Session,
    published: Vec<(Option<u64>, String, Receipt)>,
    now_ms: u64,
}

impl Desk {
    fn new(protocol: Protocol) -> Self {
        Desk::with(connect(protocol), Mqtt::default())
    }

    fn with(connect: Connect, limits: Mqtt) -> Self {
        let terms = Terms::negotiate(connect, &limits, || "fresh".into()).expect("these terms are granted");
        let session = Session::new(1, &client("device"), &terms, &Arc::new(limits));
        Desk { session, published: Vec::new(), now_ms: 0 }
    }

    /// Takes a packet; what comes out, as short texts.
    fn take(&mut self, packet: Incoming) -> Result<Vec<String>, Fault> {
        self.take_as(packet, EVERYTHING)
    }

    fn take_as(&mut self, packet: Incoming, wanted: Wanted) -> Result<Vec<String>, Fault> {
        let mut out = Vec::new();
        let handled = self.session.handle(packet, self.now_ms, wanted, &mut out);
        let advanced = handled.and_then(|()| self.session.advance(self.now_ms, usize::MAX, EVERYTHING, &mut out));
        let texts = self.texts(out);
        advanced.map(|()| texts)
    }

    fn give(&mut self, packet: Incoming) -> Vec<String> {
        self.take(packet).expect("no fault")
    }

    /// Lets the session act on what changed.
    fn advance(&mut self) -> Result<Vec<String>, Fault> {
        let mut out = Vec::new();
        self.session.has_mail();
        let advanced = self.session.advance(self.now_ms, usize::MAX, EVERYTHING, &mut out);
        let texts = self.texts(out);
        advanced.map(|()| texts)
    }

    fn publish(&mut self, qos: QoS, id: u16, topic: &str) -> Vec<String> {
        self.give(publish(qos, id, topic))
    }

    /// Decides and settles the published message with this topic.
    fn settle(&mut self, topic: &str, verdict: Verdict, outcome: Outcome) {
        let index = self.published.iter().position(|(_, published, _)| published == topic).expect("it was published");
        let (number, _, receipt) = self.published.remove(index);
        self.session.decided(number.expect("it has a receipt"), verdict);
        receipt.settle(outcome);
    }

    fn store(&mut self, topic: &str) {
        self.settle(topic, ACCEPTED, Outcome::Stored);
    }

    fn post(&self, topic: &str, qos: QoS) {
        self.post_parcel(Parcel {
            message: Arc::new(message(topic, qos, "x")),
            qos,
            retain: false,
            subscription_ids: Box::default(),
            share: None,
        });
    }

    fn post_parcel(&self, parcel: Parcel) {
        self.session.mailbox().push(parcel).expect("there is room");
    }

    fn reconnect(&mut self, connect: Connect) -> Vec<String> {
        self.session.catch_up();
        self.session.detach();
        self.session.attach(&client("device"), &terms(connect), &Arc::default());
        self.advance().expect("no fault")
    }

    fn texts(&mut self, out: Vec<Output>) -> Vec<String> {
        let mut texts = Vec::new();
        for output in out {
            texts.push(match output {
                Output::Send(packet) => sent(&packet),
                Output::Publish { message, number, receipt, .. } => {
                    let text = format!("publish {}", message.topic);
                    self.published.push((number, message.topic.to_string(), receipt));
                    text
                }
                Output::Authorize { number, filters } => {
                    let filters: Vec<&str> = filters.iter().map(|(filter, _)| &**filter).collect();
                    format!("authorize {number} {}", filters.join(" "))
                }
                Output::Prove { begin, .. } => format!("prove {begin:?}"),
                Output::Observe(detail) => observed(&detail),
                Output::Subscribe { filter, retained, .. } => format!("enter {filter} retained={retained}"),
                Output::Unsubscribe(filter) => format!("leave {filter}"),
                Output::Persist(change) => format!("persist {change:?}").chars().take_while(|c| *c != '(').collect(),
                Output::Barrier => "barrier".to_owned(),
                Output::Goodbye { closing, with_will } => format!("goodbye {} will={with_will}", closing.reason),
            });
        }
        texts
    }
}

const ACCEPTED: Verdict = Verdict::Accepted { matched: true };

fn sent(packet: &Outgoing) -> String {
    let ack = |name: &str, ack: &Ack| {
        format!("{name} {} {:#04x}{}", ack.id, ack.code, ack.text.iter().map(|text| format!(" {text}")).collect::<String>())
    };
    match packet {
        Outgoing::PubAck(packet) => ack("PUBACK", packet),
        Outgoing::PubRec(packet) => ack("PUBREC", packet),
        Outgoing::PubRel(packet) => ack("PUBREL", packet),
        Outgoing::PubComp(packet) => ack("PUBCOMP", packet),
        Outgoing::SubAck(Answers { id, codes, .. }) => format!("SUBACK {id} {codes:02x?}"),
        Outgoing::UnsubAck(Answers { id, codes, .. }) => format!("UNSUBACK {id} {codes:02x?}"),
        Outgoing::Publish(forward) => {
            let dup = if forward.dup { " dup" } else { "" };
            let alias = match forward.alias {
                None => String::new(),
                Some(Alias::New(alias)) => format!(" alias={alias}"),
                Some(Alias::Known(alias)) => format!(" only alias={alias}"),
            };
            format!("PUBLISH {} {} q{}{dup}{alias}", forward.message.topic, forward.id, forward.qos.level())
        }
        other => format!("{other:?}"),
    }
}

fn observed(detail: &Detail) -> String {
    match detail {
        Detail::MessageDropped(dropping) => format!("dropped {} {}", dropping.message.topic, dropping.reason.name()),
        other => format!("{} {}", other.hook(), other.topic().map_or("", |topic| topic)),
    }
}

fn publish(qos: QoS, id: u16, topic: &str) -> Incoming {
    Incoming::Publish(Box::new(plain(qos, id, topic)))
}

fn plain(qos: QoS, id: u16, topic: &str) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        id,
        payload: crate::event::Bytes::from_static(b"x"),
        alias: None,
        has_subscription_id: false,
        properties: None,
    }
}

fn auth(code: u8, method: &str) -> Auth {
    Auth { code, method: Some(method.into()), data: None }
}

fn ack(id: u16) -> Ack {
    Ack::new(id, reason::SUCCESS)
}

fn unknown() -> Outcome {
    Outcome::Unknown("timed out".into())
}

fn refused() -> Outcome {
    Outcome::Refused(Refusal::TooLarge("1 MiB".into()))
}

#[test]
fn what_no_client_may_send_ends_the_connection() {
    let v5 = Protocol::V5;
    let dup = Publish { dup: true, ..plain(QoS::AtMostOnce, 0, "a") };
    let identified = Publish { has_subscription_id: true, ..plain(QoS::AtMostOnce, 0, "a") };
    let nameless = plain(QoS::AtMostOnce, 0, "");
    let unknown_alias = Publish { alias: Some(3), ..plain(QoS::AtMostOnce, 0, "") };
    let high_alias = Publish { alias: Some(Mqtt::default().max_topic_aliases + 1), ..plain(QoS::AtMostOnce, 0, "a") };
    let published = |publish: Publish| Incoming::Publish(Box::new(publish));
    for (packet, code) in [
        (Incoming::Connect(Box::new(connect(v5))), reason::PROTOCOL_ERROR),
        (Incoming::Auth(Box::new(auth(reason::RE_AUTHENTICATE, "m"))), reason::PROTOCOL_ERROR),
        (Incoming::ServerOnly("SUBACK"), reason::PROTOCOL_ERROR),
        (published(dup), reason::PROTOCOL_ERROR),
        (published(identified), reason::PROTOCOL_ERROR),
        (published(nameless), reason::PROTOCOL_ERROR),
        (published(unknown_alias), reason::TOPIC_ALIAS_INVALID),
        (published(high_alias), reason::TOPIC_ALIAS_INVALID),
        (publish(QoS::AtMostOnce, 0, "a/#"), reason::TOPIC_NAME_INVALID),
        (publish(QoS::AtMostOnce, 0, "a\0"), reason::TOPIC_NAME_INVALID),
        (publish(QoS::AtMostOnce, 0, &"a/".repeat(200)), reason::TOPIC_NAME_INVALID),
    ] {
        let described = format!("{packet:?}");
        assert_eq!(Desk::new(v5).take(packet).map_err(|fault| fault.code), Err(code), "{described}");
    }
}

#[test]
fn goodbyes() {
    let disconnect = |code, session_expiry_s| Incoming::Disconnect(Disconnect { code, session_expiry_s });
    assert_eq!(Desk::new(Protocol::V311).give(disconnect(0, None)), ["goodbye normal will=false"]);
    let mut desk = Desk::new(Protocol::V5);
    assert_eq!(desk.give(disconnect(4, Some(7))), ["goodbye closed-by-client will=true"]);
    assert_eq!(desk.session.expiry_s(), 7);
    let mut none = Desk::with(Connect { session_expiry_s: 0, ..connect(Protocol::V5) }, Mqtt::default());
    assert_eq!(none.take(disconnect(0, Some(7))).map_err(|fault| fault.code), Err(reason::PROTOCOL_ERROR));
}
