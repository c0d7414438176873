//! SUBSCRIBE in two steps: somebody is asked about its filters, then what is allowed is granted. What comes behind it waits, so that
//! SUBSCRIBE and UNSUBSCRIBE take effect in the order in which they came.
//!
//! Where nobody could deny anything there is one step, and nothing waits. A connection that ends leaves nothing behind: its client was
//! never answered.

use std::collections::VecDeque;

use super::{Output, Session, Wanted, proof::Proof};
use crate::source::mqtt::{
    own,
    packet::{Outgoing, Subscribe, Unsubscribe},
    reason::Fault,
};

/// Packets that may wait for an answer before reading pauses.
const MAX_WAITING: usize = 16;

/// What waits for answers about filters.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next_number: u64,
    requests: VecDeque<Request>,
}

#[derive(Debug)]
enum Request {
    /// Asked under this number, about the filters that are not refused anyway.
    Subscribe {
        number: u64,
        packet: Subscribe,
        refused: Vec<Option<u8>>,
    },
    Unsubscribe(Unsubscribe),
}

impl Waiting {
    /// Whether reading must pause.
    pub(super) fn is_full(&self) -> bool {
        self.requests.len() >= MAX_WAITING
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The connection ended.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
    }
}

impl Session {
    /// Takes a SUBSCRIBE.
    pub(super) fn subscribe(&mut self, packet: Subscribe, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        if !wanted.authorize && self.waiting.is_empty() {
            return self.grant(packet, &[], out);
        }
        let refused = self.filters.refusals(&packet, self.link.protocol.is_5(), &self.limits)?;
        let asked = packet.filters.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let filters = asked.map(|((filter, options), _)| (own::text(filter), options.qos)).collect();
        let number = self.waiting.next_number;
        self.waiting.next_number += 1;
        self.waiting.requests.push_back(Request::Subscribe { number, packet, refused });
        out.push(Output::Authorize { number, filters });
        Ok(())
    }

    /// Takes an UNSUBSCRIBE.
    pub(super) fn unsubscribe(&mut self, packet: Unsubscribe, out: &mut Vec<Output>) -> Result<(), Fault> {
        if self.waiting.is_empty() {
            return self.revoke(packet, out);
        }
        self.waiting.requests.push_back(Request::Unsubscribe(packet));
        Ok(())
    }

    /// Whether answers are expected.
    pub(in crate::source::mqtt) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.link.proof == Proof::Asked
    }

    /// The answers to [`Output::Authorize`], one for each filter asked about: the reason code of a refusal, or none.
    ///
    /// # Errors
    /// The connection must end.
    pub(in crate::source::mqtt) fn authorized(&mut self, asked: u64, answers: Vec<Option<u8>>, out: &mut Vec<Output>) -> Result<(), Fault> {
        match self.waiting.requests.pop_front() {
            Some(Request::Subscribe { number, packet, refused }) if number == asked => {
                let mut answers = answers.into_iter();
                let denied: Vec<Option<u8>> = refused.into_iter().map(|code| code.or_else(|| answers.next().flatten())).collect();
                self.grant(packet, &denied, out)?;
            }
            Some(other) => self.waiting.requests.push_front(other), // not an answer to what waits first: there is none such
            None => {}
        }
        while let Some(Request::Unsubscribe(_)) = self.waiting.requests.front() {
            if let Some(Request::Unsubscribe(packet)) = self.waiting.requests.pop_front() {
                self.revoke(packet, out)?;
            }
        }
        Ok(())
    }

    /// Grants what is not denied, and answers; `denied` has a code or none for each filter, and may be shorter.
    fn grant(&mut self, packet: Subscribe, denied: &[Option<u8>], out: &mut Vec<Output>) -> Result<(), Fault> {
        let (id, five) = (packet.id, self.link.protocol.is_5());
        let start = out.len();
        let codes = self.filters.subscribe(packet, denied, five, &self.limits, out)?;
        self.persist_filters(start, out);
        out.push(Output::Send(Outgoing::SubAck(self.answers(id, codes))));
        self.mail = true;
        Ok(())
    }

    fn revoke(&mut self, packet: Unsubscribe, out: &mut Vec<Output>) -> Result<(), Fault> {
        let (id, start) = (packet.id, out.len());
        let codes = self.filters.unsubscribe(packet, self.link.protocol.is_5(), out)?;
        self.persist_filters(start, out);
        out.push(Output::Send(Outgoing::UnsubAck(self.answers(id, codes))));
        Ok(())
    }
}
