//! The MQTT session: packets, settlements, verdicts and the time go in; packets, publishes and events come out.
//!
//! Invariants: no socket, no clock, no task, no lock held between calls. An output is in the order in which it must take effect. A
//! session outlives its connections; [`Session::attach`] and [`Session::detach`] mark their beginning and end, and what belongs to one
//! connection lives in [`Link`].
//!
//! Absent: who else is subscribed, what is retained, and the pipeline; the connection connects the session with them.

mod aliases;
pub(super) mod connect;
mod deliver;
mod inbound;
#[cfg(test)]
mod invariants;
pub(super) mod keepalive;
mod outbound;
mod proof;
mod publish;
mod repeats;
mod stored;
mod subscribe;
#[cfg(test)]
mod tests;
mod waiting;

use std::{collections::HashMap, sync::Arc};

use self::{aliases::ServerAliases, connect::Terms, inbound::Inbound, outbound::Outbound, proof::Proof, waiting::Waiting};
pub(super) use self::{
    inbound::Verdict,
    stored::Trace,
    subscribe::{Filters, Granted},
};
use super::{
    mailbox::{Mailbox, Parcel, Queued},
    packet::{Ack, Answers, Disconnect, Incoming, Outgoing, Protocol},
    reason::{self, Fault},
};
use crate::{
    config::Mqtt,
    event::{Bytes, Client, Closing, Detail, DropReason, Dropping, Message, QoS, Receipt, Settlement, Settlements, Text},
    store::Change,
};

/// What the session wants done, in this order.
#[derive(Debug)]
pub(super) enum Output {
    /// Write a packet.
    Send(Outgoing),
    /// Publish a message; the verdict comes back under the number, if there is one, and the receipt settles it.
    Publish { message: Box<Message>, number: Option<u64>, receipt: Receipt, trace: Trace },
    /// Ask whether the client may subscribe to these; the answers come back under the number, by [`Session::authorized`].
    Authorize { number: u64, filters: Vec<(Text, QoS)> },
    /// Let the client prove itself again, by this method if it begins; the answer comes back by [`Session::proved`].
    Prove { begin: Option<Text>, data: Option<Bytes> },
    /// Raise an event.
    Observe(Detail),
    /// Enter a subscription, then put the retained messages that it brings into the mailbox.
    Subscribe { filter: Text, granted: Granted, is_new: bool, retained: bool },
    /// Remove a subscription.
    Unsubscribe(Text),
    /// Make a change durable, in the order of these outputs.
    Persist(Change),
    /// What is sent after this leaves when everything that was persisted before is durable.
    Barrier,
    /// The client has said goodbye; whether its will is still to be published.
    Goodbye { closing: Closing, with_will: bool },
}

/// Which events somebody wants; the others are not built. Whether anybody could deny a subscription, and whether repetitions matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) delivered: bool,
    pub(super) acked: bool,
    pub(super) authorize: bool,
    /// Whether any route must have messages once.
    pub(super) once: bool,
}

/// Events that happened and were not made, because nobody wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unmade {
    pub(super) delivered: u64,
    pub(super) acked: u64,
}

/// What belongs to one connection of the session.
#[derive(Debug)]
struct Link {
    protocol: Protocol,
    client: Arc<Client>,
    problem_information: bool,
    max_packet_bytes: usize,
    connect_expiry_s: u32,
    method: Option<Text>,
    proof: Proof,
    /// Those that the client defined, and how many it may.
    aliases: HashMap<u16, Text>,
    alias_maximum: u16,
    server_aliases: ServerAliases,
    /// The last topic, in an allocation of its own: devices publish to few.
    last_topic: Text,
}

/// One MQTT session.
#[derive(Debug)]
pub(super) struct Session {
    number: u64,
    limits: Arc<Mqtt>,
    mailbox: Arc<Mailbox>,
    settlements: Arc<Settlements>,
    filters: Filters,
    inbound: Inbound,
    outbound: Outbound,
    waiting: Waiting,
    link: Link,
    expiry_s: u32,
    /// Whether the mailbox may hold something.
    mail: bool,
    unmade: Unmade,
    /// Whether it outlives the process.
    durable: bool,
    taken: Vec<Queued>,
    settled: Vec<Settlement>,
}

impl Session {
    /// A new session for a client that comes in on `terms`.
    pub(super) fn new(number: u64, client: &Arc<Client>, terms: &Terms, limits: &Arc<Mqtt>) -> Self {
        let mut session = Session {
            number,
            limits: Arc::clone(limits),
            mailbox: Mailbox::new(client, limits),
            settlements: Settlements::new(),
            filters: Filters::default(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            waiting: Waiting::default(),
            link: Link::new(client, terms),
            expiry_s: terms.session_expiry_s,
            mail: false,
            unmade: Unmade::default(),
            durable: false,
            taken: Vec::new(),
            settled: Vec::new(),
        };
        session.mailbox.attach(client);
        session.outbound.attach(session.window(terms));
        session.settlements.begin(0, !session.link.protocol.is_5());
        session.mailbox.figures.attach(terms);
        session.note_figures();
        session
    }

    /// The client came back on `terms`, perhaps through a door with other limits: what it did not finish goes out again with the next
    /// [`Session::advance`]. What the mailbox takes stays as it was.
    pub(super) fn attach(&mut self, client: &Arc<Client>, terms: &Terms, limits: &Arc<Mqtt>) {
        self.limits = Arc::clone(limits);
        self.mailbox.attach(client);
        self.mailbox.figures.attach(terms);
        self.link = Link::new(client, terms);
        self.expiry_s = terms.session_expiry_s;
        self.mail = true;
        self.outbound.attach(self.window(terms));
        self.settlements.begin(self.inbound.next_number(), !self.link.protocol.is_5());
    }

    /// The connection ended.
    pub(super) fn detach(&mut self) {
        self.mailbox.detach();
        self.inbound.detach();
        self.waiting.clear();
        self.note_figures();
        self.link.aliases.clear();
        self.link.server_aliases = ServerAliases::default();
    }

    /// Its number, which no other session of this process has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where other sessions' messages arrive.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Where receipts come back.
    pub(super) fn settlements(&self) -> &Arc<Settlements> {
        &self.settlements
    }

    /// The filters that it holds.
    pub(super) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// How long it outlives its connection, seconds; `u32::MAX` is for ever.
    pub(super) fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// Whether reading must pause because too many publishes wait for their receipts (MQTT 5 clients know the bound and keep it), or too
    /// many subscriptions for their answers.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.is_full() || (!self.link.protocol.is_5() && self.inbound.waiting() >= usize::from(self.limits.receive_maximum))
    }

    /// Whether every publish and subscription was answered.
    pub(super) fn is_settled(&self) -> bool {
        self.inbound.waiting() == 0 && self.waiting.is_empty()
    }

    /// The events since the last call that happened and were not made.
    pub(super) fn take_unmade(&mut self) -> Unmade {
        std::mem::take(&mut self.unmade)
    }

    /// Ends the session; the messages that its client never received. Those of shared subscriptions may go to another member, but not a
    /// QoS 2 message that was sent: this client may have it [MQTT-4.8.2-5].
    pub(super) fn end(&mut self) -> Vec<Parcel> {
        let sent = self.outbound.abandon();
        let mut lost: Vec<Parcel> =
            sent.map(|parcel| Parcel { share: parcel.share.filter(|_| parcel.qos == QoS::AtLeastOnce), ..parcel }).collect();
        lost.extend(self.mailbox.close());
        lost
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// The connection must end.
    pub(super) fn handle(&mut self, packet: Incoming, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        match packet {
            Incoming::Publish(publish) => self.publish(*publish, now_ms, wanted, out)?,
            Incoming::PubAck(ack) => self.puback(&ack, wanted, out)?,
            Incoming::PubRec(ack) => self.pubrec(&ack, wanted, out)?,
            Incoming::PubRel(ack) => {
                let released = self.inbound.release(ack.id)?;
                if released {
                    self.persist_released(ack.id, out);
                }
                let code = if released { reason::SUCCESS } else { reason::PACKET_IDENTIFIER_NOT_FOUND };
                out.push(Output::Send(Outgoing::PubComp(Ack::new(ack.id, code))));
            }
            Incoming::PubComp(ack) => self.pubcomp(&ack, out)?,
            Incoming::Subscribe(packet) => self.subscribe(packet, wanted, out)?,
            Incoming::Unsubscribe(packet) => self.unsubscribe(packet, out)?,
            Incoming::PingReq => out.push(Output::Send(Outgoing::PingResp)),
            Incoming::Disconnect(packet) => out.push(self.goodbye(packet)?),
            Incoming::Connect(_) => return Err(Fault::protocol("a second CONNECT")),
            Incoming::Auth(auth) => self.auth(*auth, out)?,
            Incoming::ServerOnly(name) => return Err(Fault::protocol(format!("{name} from a client"))),
        }
        Ok(())
    }

    /// The pipeline has decided about a publish.
    pub(super) fn decided(&mut self, number: u64, verdict: Verdict) {
        self.inbound.decided(number, verdict);
    }

    /// Something may be in the mailbox.
    pub(super) fn has_mail(&mut self) {
        self.mail = true;
    }

    /// Takes what was settled, answers the publishes that are complete, and sends what waits for the client, as far as there is room to
    /// write it.
    ///
    /// # Errors
    /// The connection must end: a publish cannot be answered.
    pub(super) fn advance(&mut self, now_ms: u64, room_bytes: usize, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        self.catch_up();
        while let Some(complete) = self.inbound.next_complete() {
            self.answer(&complete, out)?;
        }
        self.deliver(now_ms, room_bytes, wanted, out);
        self.note_figures();
        Ok(())
    }

    fn note_figures(&self) {
        let (in_flight, unanswered) = (self.outbound.in_flight(), self.inbound.waiting());
        self.mailbox.figures.note(self.expiry_s, in_flight, unanswered, self.filters.count());
    }

    /// Takes what was settled meanwhile.
    pub(super) fn catch_up(&mut self) {
        if self.mail {
            for (number, verdict) in self.mailbox.verdicts() {
                self.inbound.decided(number, verdict);
            }
        }
        self.settlements.take(&mut self.settled);
        for Settlement { number, outcome } in self.settled.drain(..) {
            self.inbound.settled(number, outcome);
        }
    }

    /// With the reason of the first refusal, for those who want to be told [MQTT-3.1.2-29].
    fn answers(&self, id: u16, codes: Vec<u8>) -> Answers {
        let first = codes.iter().enumerate().find(|(_, code)| **code >= reason::FIRST_ERROR);
        let told = first.filter(|_| self.link.problem_information);
        let text = told.map(|(index, code)| format!("filter {}: {}", index + 1, reason::words(*code)).into());
        Answers { id, codes, text }
    }

    fn window(&self, terms: &Terms) -> usize {
        usize::from(terms.receive_maximum.min(self.limits.max_inflight))
    }

    fn goodbye(&mut self, packet: Disconnect) -> Result<Output, Fault> {
        if let Some(expiry_s) = packet.session_expiry_s {
            if self.link.connect_expiry_s == 0 && expiry_s != 0 {
                return Err(Fault::protocol("a session expiry interval on DISCONNECT after none on CONNECT")); // [MQTT-3.14.2-2]
            }
            self.expiry_s = expiry_s.min(self.limits.max_session_expiry_s);
        }
        let with_will = packet.code != reason::SUCCESS;
        let word = if with_will { "closed-by-client" } else { "normal" };
        Ok(Output::Goodbye { closing: Closing { reason_code: packet.code, reason: Text::from_static(word) }, with_will })
    }
}

impl Link {
    fn new(client: &Arc<Client>, terms: &Terms) -> Self {
        Link {
            protocol: terms.protocol,
            client: Arc::clone(client),
            problem_information: terms.problem_information,
            max_packet_bytes: terms.max_packet_bytes.map_or(usize::MAX, |bytes| bytes as usize),
            connect_expiry_s: terms.session_expiry_s,
            method: terms.method.clone(),
            proof: Proof::None,
            aliases: HashMap::new(),
            alias_maximum: terms.topic_alias_maximum,
            server_aliases: ServerAliases::new(terms.server_alias_maximum),
            last_topic: Text::new(),
        }
    }
}

fn dropped(message: Arc<Message>, reason: DropReason, explanation: Text) -> Output {
    Output::Observe(Detail::MessageDropped(Dropping { message, reason, explanation }))
}
