//! Deliveries to the client: sent as the window allows, sent again after it came back, acknowledged or refused.

use std::sync::Arc;

use super::{
    Link, Output, Session, Wanted, dropped,
    outbound::{Again, PubRec},
};
use crate::{
    event::{Delivery, Detail, DropReason, Message, QoS, Text},
    source::mqtt::{
        forward,
        mailbox::{Parcel, Queued},
        packet::{Ack, Forward, Outgoing},
        reason::{self, Fault},
    },
    store::Change,
};

/// Deliveries taken from the mailbox at a time.
const DELIVERY_BATCH: usize = 64;

impl Session {
    /// Takes a PUBACK.
    pub(super) fn puback(&mut self, ack: &Ack, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        if let Some(Queued { sequence, parcel }) = self.outbound.puback(ack.id)? {
            self.persist(out, |session| Change::Done(session.place(sequence)));
            self.received(Some(parcel), ack, wanted, out);
        }
        Ok(())
    }

    /// Takes a PUBCOMP.
    pub(super) fn pubcomp(&mut self, ack: &Ack, out: &mut Vec<Output>) -> Result<(), Fault> {
        if let Some(sequence) = self.outbound.pubcomp(ack.id)? {
            self.persist(out, |session| Change::Done(session.place(sequence)));
        }
        Ok(())
    }

    /// A delivery was acknowledged or refused by the client.
    pub(super) fn received(&mut self, parcel: Option<Parcel>, ack: &Ack, wanted: Wanted, out: &mut Vec<Output>) {
        let Some(Parcel { message, qos, .. }) = parcel else { return };
        if ack.code >= reason::FIRST_ERROR {
            let said = ack.text.as_deref().unwrap_or_default();
            out.push(dropped(message, DropReason::Refused, format!("reason code {:#04x} {said}", ack.code).trim_end().into()));
        } else if wanted.acked {
            out.push(Output::Observe(Detail::MessageAcked(Delivery { message, qos })));
        } else {
            self.unmade.acked += 1;
        }
    }

    /// Takes a PUBREC.
    pub(super) fn pubrec(&mut self, ack: &Ack, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        let positive = ack.code < reason::FIRST_ERROR;
        let code = match self.outbound.pubrec(ack.id, positive)? {
            PubRec::Known(sequence, parcel) => {
                let first = parcel.is_some();
                self.received(parcel, ack, wanted, out);
                if !positive {
                    self.persist(out, |session| Change::Done(session.place(sequence)));
                } else if first {
                    // Were PUBREL to arrive and this be forgotten, the message would be sent again as a new one.
                    self.persist(out, |session| Change::Received(session.place(sequence), ack.id));
                    self.barrier(out);
                }
                reason::SUCCESS
            }
            PubRec::Unknown => reason::PACKET_IDENTIFIER_NOT_FOUND,
        };
        if positive {
            out.push(Output::Send(Outgoing::PubRel(Ack::new(ack.id, code))));
        }
        Ok(())
    }

    /// Sends what must go again, then what waits, until about `room_bytes` are written.
    pub(super) fn deliver(&mut self, now_ms: u64, mut room_bytes: usize, wanted: Wanted, out: &mut Vec<Output>) {
        while room_bytes > 0 {
            let Some(again) = self.outbound.next_again() else { break };
            match again {
                Again::Publish(id, parcel) => {
                    room_bytes = room_bytes.saturating_sub(parcel.weight());
                    self.send_again(id, parcel, now_ms, out);
                }
                Again::Release(id) => out.push(Output::Send(Outgoing::PubRel(Ack::new(id, reason::SUCCESS)))),
            }
        }
        let room = self.outbound.room().min(DELIVERY_BATCH);
        if !self.mail || room == 0 || room_bytes == 0 {
            return;
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.mail = self.mailbox.take(room, room_bytes, &mut taken);
        for queued in taken.drain(..) {
            self.send(queued, now_ms, wanted, out);
        }
        self.taken = taken;
    }

    /// Whether another [`Session::advance`] would deliver more at once.
    pub(in crate::source::mqtt) fn can_deliver(&self) -> bool {
        self.outbound.has_again() || (self.mail && self.outbound.room() > 0)
    }

    fn send(&mut self, queued: Queued, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) {
        let Queued { sequence, parcel } = queued;
        let stored = parcel.qos != QoS::AtMostOnce;
        if has_expired(&parcel.message, self.link.client.connected_at_ms, now_ms) {
            out.push(dropped(parcel.message, DropReason::Expired, Text::new()));
            self.persist_if(stored, out, |session| Change::Done(session.place(sequence)));
            return;
        }
        let mut forward = forward_of(parcel.clone(), 0, false, now_ms);
        let ours = parcel.message.is_the_servers();
        if !self.link.fit(&mut forward) {
            out.extend((!ours).then(|| self.too_large(parcel.message)));
            self.persist_if(stored, out, |session| Change::Done(session.place(sequence)));
            return;
        }
        self.unmade.delivered += u64::from(!wanted.delivered && !ours);
        let delivered = (wanted.delivered && !ours)
            .then(|| Detail::MessageDelivered(Delivery { message: Arc::clone(&parcel.message), qos: parcel.qos }));
        let exactly_once = parcel.qos == QoS::ExactlyOnce;
        let id = if stored { self.outbound.start(Queued { sequence, parcel }) } else { 0 };
        self.persist_if(stored, out, |session| Change::Sent(session.place(sequence), id));
        if exactly_once {
            self.barrier(out); // the client must see the message again under this identifier, and under no other
        }
        out.push(Output::Send(Outgoing::Publish(Forward { id, ..forward })));
        out.extend(delivered.map(Output::Observe));
    }

    /// Sends a delivery again; the client may take less than on its former connection [MQTT-3.1.2-25].
    fn send_again(&mut self, id: u16, parcel: Parcel, now_ms: u64, out: &mut Vec<Output>) {
        let mut forward = forward_of(parcel, id, true, now_ms);
        if self.link.fit(&mut forward) {
            out.push(Output::Send(Outgoing::Publish(forward)));
        } else {
            if let Some(sequence) = self.outbound.give_up(id) {
                self.persist(out, |session| Change::Done(session.place(sequence)));
            }
            out.push(self.too_large(forward.message));
        }
    }

    fn too_large(&self, message: Arc<Message>) -> Output {
        let text = format!("the client takes packets of {} bytes", self.link.max_packet_bytes);
        dropped(message, DropReason::TooLarge, text.into())
    }
}

impl Link {
    /// Whether the client takes the packet; with a topic alias, if it takes one.
    fn fit(&mut self, forward: &mut Forward) -> bool {
        let five = self.protocol.is_5();
        let max = if five { self.max_packet_bytes } else { usize::MAX };
        if self.server_aliases.offer(forward) && (!forward::fits(forward, five) || forward::size(forward, five) > max) {
            forward.alias = None; // the packet that would have defined it does not fit
        }
        let fits = forward::fits(forward, five) && (max == usize::MAX || forward::size(forward, five) <= max);
        if fits {
            self.server_aliases.sent(forward);
        }
        fits
    }
}

/// Whether a message has outlived its interval. One of 0 seconds reaches those who are there when it comes, within that second.
fn has_expired(message: &Message, connected_at_ms: u64, now_ms: u64) -> bool {
    let Some(expiry_s) = message.properties.as_ref().and_then(|properties| properties.expiry_s) else { return false };
    let was_away = expiry_s == 0 && message.received_at_ms <= connected_at_ms;
    was_away || now_ms.saturating_sub(message.received_at_ms) / 1000 >= u64::from(expiry_s.max(1))
}

/// One transmission, with what is left of the message's interval.
fn forward_of(parcel: Parcel, id: u16, dup: bool, now_ms: u64) -> Forward {
    let expiry_s = parcel.message.properties.as_ref().and_then(|properties| properties.expiry_s).map(|expiry_s| {
        let waited_s = now_ms.saturating_sub(parcel.message.received_at_ms) / 1000;
        expiry_s.saturating_sub(u32::try_from(waited_s).unwrap_or(u32::MAX))
    });
    let Parcel { message, qos, retain, subscription_ids, share: _ } = parcel;
    Forward { message, id, dup, qos, retain, expiry_s, subscription_ids, alias: None }
}
