//! The MQTT session: packets, settlements, verdicts and the time go in; packets, publishes and events come out.
//!
//! Invariants: no socket, no clock, no task, no lock held between calls. An output is in the order in which it must take effect. A
//! session outlives its connections; [`Session::attach`] and [`Session::detach`] mark their beginning and end, and what belongs to one
//! connection lives in [`Link`].
//!
//! Absent: who else is subscribed, what is retained, and the pipeline; the connection connects the session with them.

pub(super) mod connect;
mod inbound;
pub(super) mod keepalive;
mod outbound;
mod subscribe;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use self::{
    connect::Terms,
    inbound::{Admission, Complete, Finished, Inbound},
    outbound::{Again, Outbound, PubRec},
};
pub(super) use self::{
    inbound::Verdict,
    subscribe::{Filters, Granted},
};
use super::{
    forward,
    mailbox::{Mailbox, Parcel},
    own,
    packet::{Ack, Disconnect, Forward, Incoming, Outgoing, Protocol, Publish},
    reason::{self, Fault},
};
use crate::{
    config::{DeniedPublish, Mqtt},
    event::{Client, Closing, Delivery, Denial, Detail, DropReason, Dropping, Message, Outcome, QoS, Receipt, Settlement, Settlements, Text},
};

/// Deliveries taken from the mailbox at a time.
const DELIVERY_BATCH: usize = 64;

/// What the session wants done, in this order.
#[derive(Debug)]
pub(super) enum Output {
    /// Write a packet.
    Send(Outgoing),
    /// Publish a message; the verdict comes back under the number, if there is one, and the receipt settles it.
    Publish { message: Box<Message>, number: Option<u64>, receipt: Receipt },
    /// Raise an event.
    Observe(Detail),
    /// Enter a subscription, then put the retained messages that it brings into the mailbox.
    Subscribe { filter: Text, granted: Granted, is_new: bool, retained: bool },
    /// Remove a subscription.
    Unsubscribe(Text),
    /// The client has said goodbye; whether its will is still to be published.
    Goodbye { closing: Closing, with_will: bool },
}

/// Which events somebody wants; the others are not built.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) delivered: bool,
    pub(super) acked: bool,
}

/// What belongs to one connection of the session.
#[derive(Debug)]
struct Link {
    protocol: Protocol,
    client: Arc<Client>,
    problem_information: bool,
    max_packet_bytes: usize,
    connect_expiry_s: u32,
    aliases: HashMap<u16, Text>,
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
    link: Link,
    expiry_s: u32,
    /// Whether the mailbox may hold something.
    mail: bool,
    taken: Vec<Parcel>,
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
            link: Link::new(client, terms),
            expiry_s: terms.session_expiry_s,
            mail: false,
            taken: Vec::new(),
            settled: Vec::new(),
        };
        session.outbound.attach(session.window(terms));
        session
    }

    /// The client came back on `terms`: what it did not finish goes out again with the next [`Session::advance`].
    pub(super) fn attach(&mut self, client: &Arc<Client>, terms: &Terms) {
        self.mailbox.attach(client);
        self.link = Link::new(client, terms);
        self.expiry_s = terms.session_expiry_s;
        self.mail = true;
        self.outbound.attach(self.window(terms));
    }

    /// The connection ended.
    pub(super) fn detach(&mut self) {
        self.inbound.detach();
        self.link.aliases.clear();
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

    /// Whether reading must pause because too many publishes wait for their receipts. MQTT 5 clients know the bound and keep it.
    pub(super) fn is_full(&self) -> bool {
        !self.link.protocol.is_5() && self.inbound.waiting() >= usize::from(self.limits.receive_maximum)
    }

    /// Whether every publish was answered.
    pub(super) fn is_settled(&self) -> bool {
        self.inbound.waiting() == 0
    }

    /// Ends the session; the messages that its client never received.
    pub(super) fn end(&mut self) -> Vec<Parcel> {
        let mut lost: Vec<Parcel> = self.outbound.abandon().collect();
        lost.extend(self.mailbox.close());
        lost
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// The connection must end.
    pub(super) fn handle(&mut self, packet: Incoming, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        let five = self.link.protocol.is_5();
        match packet {
            Incoming::Publish(publish) => self.publish(*publish, now_ms, out)?,
            Incoming::PubAck(ack) => {
                let parcel = self.outbound.puback(ack.id)?;
                self.received(parcel, &ack, wanted, out);
            }
            Incoming::PubRec(ack) => self.pubrec(&ack, wanted, out)?,
            Incoming::PubRel(ack) => {
                let code = if self.inbound.release(ack.id)? { reason::SUCCESS } else { reason::PACKET_IDENTIFIER_NOT_FOUND };
                out.push(Output::Send(Outgoing::PubComp(Ack::new(ack.id, code))));
            }
            Incoming::PubComp(ack) => self.outbound.pubcomp(ack.id)?,
            Incoming::Subscribe(packet) => {
                let id = packet.id;
                let codes = self.filters.subscribe(packet, five, self.limits.max_subscriptions, out)?;
                out.push(Output::Send(Outgoing::SubAck { id, codes }));
                self.mail = true;
            }
            Incoming::Unsubscribe(packet) => {
                let id = packet.id;
                let codes = self.filters.unsubscribe(packet, five, out)?;
                out.push(Output::Send(Outgoing::UnsubAck { id, codes }));
            }
            Incoming::PingReq => out.push(Output::Send(Outgoing::PingResp)),
            Incoming::Disconnect(packet) => out.push(self.goodbye(packet)?),
            Incoming::Connect(_) => return Err(Fault::protocol("a second CONNECT")),
            Incoming::Auth => return Err(Fault::protocol("AUTH without an authentication method")),
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

    /// Takes what was settled, answers the publishes that are complete, and (when `deliver` says that there is room to write) sends
    /// what waits for the client.
    ///
    /// # Errors
    /// The connection must end: a publish cannot be answered.
    pub(super) fn advance(&mut self, now_ms: u64, deliver: bool, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        self.catch_up();
        while let Some(complete) = self.inbound.next_complete() {
            self.answer(&complete, out)?;
        }
        if deliver {
            self.deliver(now_ms, wanted, out);
        }
        Ok(())
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

    fn window(&self, terms: &Terms) -> usize {
        usize::from(terms.receive_maximum.min(self.limits.max_inflight))
    }

    fn publish(&mut self, publish: Publish, now_ms: u64, out: &mut Vec<Output>) -> Result<(), Fault> {
        if publish.dup && publish.qos == QoS::AtMostOnce {
            return Err(Fault::protocol("DUP with QoS 0")); // [MQTT-3.3.1-2]
        }
        if publish.has_subscription_id {
            return Err(Fault::protocol("a subscription identifier from a client")); // [MQTT-3.3.4-6]
        }
        if let Some(properties) = &publish.properties {
            check_properties(properties)?;
        }
        let topic = self.link.topic(&publish)?;
        let number = match publish.qos {
            QoS::AtMostOnce => None,
            qos => match self.inbound.publish(publish.id, qos, self.receive_maximum())? {
                Admission::Duplicate => return Ok(()),
                Admission::New(number) => Some(number),
            },
        };
        let receipt = number.map_or_else(Receipt::nobody, |number| Receipt::open(number, &self.settlements));
        let denied = topic.starts_with("$SYS/");
        let message = Box::new(self.message(publish, topic, now_ms));
        if denied {
            self.refuse(message, number, receipt, out);
        } else {
            out.push(Output::Publish { message, number, receipt });
        }
        Ok(())
    }

    /// 3.1.1 clients know no receive maximum; for them reading pauses instead.
    fn receive_maximum(&self) -> usize {
        if self.link.protocol.is_5() { usize::from(self.limits.receive_maximum) } else { usize::MAX }
    }

    fn message(&self, publish: Publish, topic: Text, now_ms: u64) -> Message {
        Message {
            publisher: self.link.client.client_id.clone(),
            publisher_username: self.link.client.username.clone(),
            topic,
            payload: own::bytes(&publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            received_at_ms: now_ms,
            properties: publish.properties.as_deref().map(|properties| Box::new(own::properties(properties))),
            annotations: Vec::new(),
        }
    }

    /// Topics under `$SYS/` belong to the server.
    fn refuse(&mut self, message: Box<Message>, number: Option<u64>, receipt: Receipt, out: &mut Vec<Output>) {
        let text = Text::from_static("topics under $SYS/ belong to the server");
        if let Some(number) = number {
            self.inbound.decided(number, Verdict::Denied(Denial { reason_code: reason::NOT_AUTHORIZED, reason: text.clone() }));
        }
        receipt.settle(Outcome::Stored);
        out.push(dropped(Arc::new(*message), DropReason::Denied, text));
    }

    fn answer(&mut self, complete: &Complete, out: &mut Vec<Output>) -> Result<(), Fault> {
        let five = self.link.protocol.is_5();
        let (code, text) = match &complete.result {
            Finished::Settled(Verdict::Accepted { matched: false }) if five => (reason::NO_MATCHING_SUBSCRIBERS, None),
            Finished::Settled(Verdict::Accepted { .. } | Verdict::Swallowed) => (reason::SUCCESS, None),
            Finished::Settled(Verdict::Denied(denial)) if five => (reason::for_publish(denial.reason_code), Some(&denial.reason)),
            Finished::Settled(Verdict::Denied(denial)) => match self.limits.denied_publish {
                DeniedPublish::Acknowledge => (reason::SUCCESS, None),
                DeniedPublish::Disconnect => return Err(Fault::new(denial.reason_code, "publish-denied", denial.reason.clone())),
            },
            Finished::Failed(Outcome::Refused(refusal)) => {
                let (code, text) = reason::for_refusal(refusal);
                if !five {
                    return Err(Fault::new(code, "publish-refused", text.clone()));
                }
                (code, Some(text))
            }
            Finished::Failed(outcome) => {
                let text = if let Outcome::Unknown(text) = outcome { text.clone() } else { Text::new() };
                self.inbound.answered(complete, false);
                return Err(Fault::new(reason::IMPLEMENTATION_SPECIFIC, "outcome-unknown", text));
            }
        };
        let positive = code < reason::FIRST_ERROR;
        self.inbound.answered(complete, positive);
        let text = text.filter(|_| self.link.problem_information).cloned();
        let ack = Ack { id: complete.id, code, text };
        out.push(Output::Send(if complete.qos == QoS::AtLeastOnce { Outgoing::PubAck(ack) } else { Outgoing::PubRec(ack) }));
        Ok(())
    }

    /// A delivery was acknowledged or refused by the client.
    fn received(&self, parcel: Option<Parcel>, ack: &Ack, wanted: Wanted, out: &mut Vec<Output>) {
        let Some(Parcel { message, qos, .. }) = parcel else { return };
        if ack.code >= reason::FIRST_ERROR {
            let said = ack.text.as_deref().unwrap_or_default();
            out.push(dropped(message, DropReason::Refused, format!("reason code {:#04x} {said}", ack.code).trim_end().into()));
        } else if wanted.acked {
            out.push(Output::Observe(Detail::MessageAcked(Delivery { message, qos })));
        }
    }

    fn pubrec(&mut self, ack: &Ack, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        let positive = ack.code < reason::FIRST_ERROR;
        let code = match self.outbound.pubrec(ack.id, positive)? {
            PubRec::Known(parcel) => {
                self.received(parcel, ack, wanted, out);
                reason::SUCCESS
            }
            PubRec::Unknown => reason::PACKET_IDENTIFIER_NOT_FOUND,
        };
        if positive {
            out.push(Output::Send(Outgoing::PubRel(Ack::new(ack.id, code))));
        }
        Ok(())
    }

    fn deliver(&mut self, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) {
        while let Some(again) = self.outbound.next_again() {
            out.push(Output::Send(match again {
                Again::Publish(id, parcel) => Outgoing::Publish(forward_of(parcel, id, true, now_ms)),
                Again::Release(id) => Outgoing::PubRel(Ack::new(id, reason::SUCCESS)),
            }));
        }
        let room = self.outbound.room().min(DELIVERY_BATCH);
        if !self.mail || room == 0 {
            return;
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.mail = self.mailbox.take(room, &mut taken);
        for parcel in taken.drain(..) {
            self.send(parcel, now_ms, wanted, out);
        }
        self.taken = taken;
    }

    /// Whether another [`Session::advance`] would deliver more at once.
    pub(super) fn can_deliver(&self) -> bool {
        self.mail && self.outbound.room() > 0
    }

    fn send(&mut self, parcel: Parcel, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) {
        let five = self.link.protocol.is_5();
        let forward = forward_of(parcel.clone(), 0, false, now_ms);
        if forward.expiry_s == Some(0) {
            out.push(dropped(parcel.message, DropReason::Expired, Text::new()));
            return;
        }
        if !forward::fits(&forward, five) || (five && forward::size(&forward, five) > self.link.max_packet_bytes) {
            let text = format!("the client takes packets of {} bytes", self.link.max_packet_bytes);
            out.push(dropped(parcel.message, DropReason::TooLarge, text.into()));
            return;
        }
        let delivered =
            wanted.delivered.then(|| Detail::MessageDelivered(Delivery { message: Arc::clone(&parcel.message), qos: parcel.qos }));
        let id = if parcel.qos == QoS::AtMostOnce { 0 } else { self.outbound.start(parcel) };
        out.push(Output::Send(Outgoing::Publish(Forward { id, ..forward })));
        out.extend(delivered.map(Output::Observe));
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
            aliases: HashMap::new(),
            last_topic: Text::new(),
        }
    }

    /// The topic of a publish: its own, checked, or the one that its alias stands for.
    fn topic(&mut self, publish: &Publish) -> Result<Text, Fault> {
        if publish.topic.is_empty() {
            let Some(alias) = publish.alias else {
                return Err(Fault::new(reason::PROTOCOL_ERROR, "protocol-error", "neither a topic name nor a topic alias"));
            };
            return self.aliases.get(&alias).cloned().ok_or_else(|| bad_alias(alias));
        }
        if publish.topic != self.last_topic {
            connect::check_topic_name(&publish.topic)
                .map_err(|text| Fault::new(reason::TOPIC_NAME_INVALID, "protocol-error", format!("the topic: {text}")))?;
            self.last_topic = own::text(&publish.topic);
        }
        if let Some(alias) = publish.alias {
            if alias == 0 || alias > connect::TOPIC_ALIAS_MAXIMUM {
                return Err(bad_alias(alias));
            }
            self.aliases.insert(alias, self.last_topic.clone());
        }
        Ok(self.last_topic.clone())
    }
}

fn bad_alias(alias: u16) -> Fault {
    Fault::new(reason::TOPIC_ALIAS_INVALID, "protocol-error", format!("topic alias {alias} is unknown or above the maximum"))
}

fn check_properties(properties: &crate::event::Properties) -> Result<(), Fault> {
    let texts = [&properties.content_type, &properties.response_topic];
    if texts.into_iter().flatten().any(|text| connect::has_nul(text)) || connect::headers_have_nul(&properties.user_properties) {
        return Err(Fault::new(reason::MALFORMED_PACKET, "malformed-packet", "a property contains the character U+0000"));
    }
    if properties.response_topic.as_ref().is_some_and(|topic| crate::topic::check_name(topic).is_err()) {
        return Err(Fault::protocol("the response topic is no topic name")); // [MQTT-3.3.2-14]
    }
    Ok(())
}

fn dropped(message: Arc<Message>, reason: DropReason, explanation: Text) -> Output {
    Output::Observe(Detail::MessageDropped(Dropping { message, reason, explanation }))
}

/// One transmission; an expiry of 0 means that the message has outlived its interval.
fn forward_of(parcel: Parcel, id: u16, dup: bool, now_ms: u64) -> Forward {
    let expiry_s = parcel.message.properties.as_ref().and_then(|properties| properties.expiry_s).map(|expiry_s| {
        let waited_s = now_ms.saturating_sub(parcel.message.received_at_ms) / 1000;
        expiry_s.saturating_sub(u32::try_from(waited_s).unwrap_or(u32::MAX))
    });
    let Parcel { message, qos, retain, subscription_ids } = parcel;
    Forward { message, id, dup, qos, retain, expiry_s, subscription_ids }
}
