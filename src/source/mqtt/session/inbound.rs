//! Publishes from the client: what waits for its receipt, in which order acknowledgements leave, which QoS 2 identifiers are in use.
//!
//! Every QoS 1 and 2 publish takes a [`Slot`] in order of arrival; its acknowledgement leaves when it and all before it are complete
//! [MQTT-4.6.0-2], [MQTT-4.6.0-3]. Complete means that both the pipeline's verdict and the receipt's outcome are known.
//!
//! A QoS 2 identifier is in use from its PUBLISH until PUBREL; a second PUBLISH under it is never published again. Where the connection
//! ends in between, the publish is *carried*: its outcome still decides about the identifier, and a PUBLISH that the client sends again
//! claims it. Where a route must have messages once, the same holds for QoS 1, and what was answered is remembered ([`Repeats`]).
//!
//! Absent: the messages themselves; they are on their way down the line.

#[cfg(test)]
mod invariants;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::repeats::{Look, Repeats, Sent, State};
use crate::{
    event::{Denial, Origin, Outcome, QoS, Text},
    source::mqtt::reason::{self, Fault},
};

/// What the pipeline decided about a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On its way to subscribers, if there are any.
    Accepted {
        /// Whether there are.
        matched: bool,
    },
    /// Acknowledged, and nothing else.
    Swallowed,
    /// The client is told.
    Denied(Denial),
}

/// A publish that is complete and whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    number: u64,
    pub(super) id: u16,
    pub(super) qos: QoS,
    pub(super) result: Finished,
}

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// Everything is stored; this is what the pipeline said.
    Settled(Verdict),
    /// It is not, or nobody knows.
    Failed(Outcome),
}

/// What becomes of a publish that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Publish it; it settles under this number.
    New(u64),
    /// Subscribers have it already from before the process started again; whether Kafka has, its origin may know. It settles under this
    /// number.
    Delivered(u64),
    /// It was published before.
    Duplicate,
}

/// What became of it, and what it is to those who must have it once.
type Admitted = (Admission, Option<Arc<Origin>>);

#[derive(Debug, Default)]
struct Progress {
    verdict: Option<Verdict>,
    outcome: Option<Outcome>,
}

impl Progress {
    fn finished(&self) -> Option<Finished> {
        match (&self.outcome, &self.verdict) {
            (Some(Outcome::Stored), Some(verdict)) => Some(Finished::Settled(verdict.clone())),
            (Some(Outcome::Stored), None) | (None, _) => None,
            (Some(outcome), _) => Some(Finished::Failed(outcome.clone())),
        }
    }
}

#[derive(Debug)]
struct Slot {
    number: u64,
    id: u16,
    qos: QoS,
    progress: Progress,
}

#[derive(Debug)]
struct Carried {
    id: u16,
    qos: QoS,
    progress: Progress,
    /// The slot of the PUBLISH that was sent again.
    claim: Option<u64>,
}

/// A QoS 2 identifier in use.
#[derive(Clone, Debug)]
struct Received {
    /// Until it is stored: the number that it settles under.
    pending: Option<u64>,
    /// It was denied while no connection could be told: what a PUBLISH that is sent again is answered.
    denied: Option<Denial>,
    /// Whether it counts against the receive maximum of this connection.
    counted: bool,
    /// Restored, and not sent again since.
    restored: bool,
}

/// The receiving half of a session.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    next_number: u64,
    slots: VecDeque<Slot>,
    received: HashMap<u16, Received>,
    carried: HashMap<u64, Carried>,
    outstanding: usize,
    repeats: Repeats,
}

impl Inbound {
    /// The identifiers that a stored session's client uses, and what went to those who must have it once.
    pub(super) fn restore(used: Vec<u16>, repeats: Repeats) -> Self {
        let received = |id| (id, Received { pending: None, denied: None, counted: false, restored: true });
        Inbound { received: used.into_iter().map(received).collect(), repeats, ..Inbound::default() }
    }

    /// A QoS 1 or 2 PUBLISH arrived; at most `maximum` may be unfinished. `sent`: what tells whether it is a repetition, where somebody
    /// wants to know.
    pub(super) fn publish(&mut self, id: u16, qos: QoS, maximum: usize, sent: Option<Sent>) -> Result<Admitted, Fault> {
        if qos == QoS::ExactlyOnce
            && let Some(known) = self.received.get(&id).filter(|known| !known.restored).cloned()
        {
            self.again(id, known, maximum)?;
            return Ok((Admission::Duplicate, None));
        }
        let origin = match sent.map(|sent| self.repeats.look(id, qos, sent)) {
            None => None,
            Some(Look::New(origin) | Look::Again(origin, State::Open)) => Some(origin),
            Some(Look::Again(_, state)) => return self.repeated(id, qos, state, maximum),
        };
        self.count(maximum)?;
        let number = self.push(id, qos, Progress::default());
        if let Some(origin) = &origin {
            self.repeats.underway(id, number, Arc::clone(origin));
        }
        if qos == QoS::ExactlyOnce {
            let received = Received { pending: Some(number), denied: None, counted: true, restored: false };
            if self.received.insert(id, received).is_some() {
                return Ok((Admission::Delivered(number), origin));
            }
        }
        Ok((Admission::New(number), origin))
    }

    /// A PUBLISH again whose message needs not be published again: answered by the one that is under way, or as it was.
    fn repeated(&mut self, id: u16, qos: QoS, state: State, maximum: usize) -> Result<Admitted, Fault> {
        match state {
            State::Answered(verdict) => {
                self.count(maximum)?;
                self.push(id, qos, Progress { verdict: Some(verdict), outcome: Some(Outcome::Stored) });
            }
            State::Underway(number) if self.is_unclaimed(number) => {
                self.count(maximum)?;
                self.claim(id, qos, number);
            }
            State::Underway(_) | State::Open => {} // on this connection: its answer is still to come
        }
        Ok((Admission::Duplicate, None))
    }

    /// A publish of a former connection is answered on this one, in the order of arrival.
    fn claim(&mut self, id: u16, qos: QoS, number: u64) {
        let slot = self.push(id, qos, Progress::default());
        if let Some(carried) = self.carried.get_mut(&number) {
            carried.claim = Some(slot);
        }
    }

    fn is_unclaimed(&self, number: u64) -> bool {
        self.carried.get(&number).is_some_and(|carried| carried.claim.is_none())
    }

    /// A PUBLISH under an identifier in use: its PUBREC is sent (again), in the order of arrival.
    fn again(&mut self, id: u16, known: Received, maximum: usize) -> Result<(), Fault> {
        if !known.counted {
            self.count(maximum)?;
        }
        if let Some(received) = self.received.get_mut(&id) {
            received.counted = true;
        }
        match known.pending {
            None => {
                let verdict = known.denied.map_or(Verdict::Accepted { matched: true }, Verdict::Denied);
                let progress = Progress { verdict: Some(verdict), outcome: Some(Outcome::Stored) };
                self.push(id, QoS::ExactlyOnce, progress);
            }
            Some(number) if self.is_unclaimed(number) => self.claim(id, QoS::ExactlyOnce, number),
            Some(_) => {}
        }
        Ok(())
    }

    /// PUBREL: whether the identifier was in use.
    pub(super) fn release(&mut self, id: u16) -> Result<bool, Fault> {
        match self.received.get(&id) {
            None => Ok(false),
            Some(Received { pending: Some(_), .. }) => Err(Fault::protocol("PUBREL before PUBREC")),
            Some(Received { counted, .. }) => {
                self.outstanding -= usize::from(*counted);
                self.received.remove(&id);
                self.repeats.forget(id);
                Ok(true)
            }
        }
    }

    /// The pipeline has decided about a publish.
    pub(super) fn decided(&mut self, number: u64, verdict: Verdict) {
        self.note(number, |progress| progress.verdict = Some(verdict));
    }

    /// A receipt came back.
    pub(super) fn settled(&mut self, number: u64, outcome: Outcome) {
        self.note(number, |progress| progress.outcome = Some(outcome));
    }

    /// The next publish whose acknowledgement may leave.
    pub(super) fn next_complete(&mut self) -> Option<Complete> {
        let result = self.slots.front()?.progress.finished()?;
        let slot = self.slots.pop_front()?;
        Some(Complete { number: slot.number, id: slot.id, qos: slot.qos, result })
    }

    /// What was answered to a complete publish: a positive answer to QoS 2 keeps its identifier until PUBREL, one to QoS 1 is remembered
    /// with the last `maximum`.
    pub(super) fn answered(&mut self, complete: &Complete, positive: bool, maximum: usize) {
        if self.repeats.is_underway(complete.id, complete.number) {
            match (&complete.result, positive) {
                (Finished::Settled(verdict), true) if complete.qos == QoS::AtLeastOnce => {
                    self.repeats.answered(complete.id, verdict.clone(), maximum);
                }
                (_, true) => {}
                (_, false) => self.repeats.forget(complete.id), // it may stand for another message from now on
            }
        }
        self.end(complete, positive);
    }

    /// The connection ends in the place of an answer.
    pub(super) fn unanswered(&mut self, complete: &Complete) {
        if self.repeats.is_underway(complete.id, complete.number) {
            self.repeats.reopen(complete.id);
        }
        self.end(complete, false);
    }

    fn end(&mut self, complete: &Complete, positive: bool) {
        if complete.qos == QoS::AtLeastOnce {
            self.outstanding = self.outstanding.saturating_sub(1);
        } else {
            self.conclude(complete.id, positive);
        }
    }

    /// Whether the next PUBLISH under an identifier may be a repetition.
    pub(super) fn may_be_repeated(&self, id: u16) -> bool {
        self.repeats.has(id)
    }

    /// What the store may know of and need not any more: identifier and cluster.
    pub(super) fn take_forgotten(&mut self) -> Vec<(u16, Text)> {
        self.repeats.take_forgotten()
    }

    /// The number of the next publish.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Publishes that wait for their acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// The connection ended: QoS 2 is carried, and QoS 1 where it must not be published again when the client sends it again.
    pub(super) fn detach(&mut self) {
        for slot in std::mem::take(&mut self.slots) {
            let Slot { number, id, qos, progress } = slot;
            let own = match qos {
                QoS::ExactlyOnce => self.received.get(&id).is_some_and(|received| received.pending == Some(number)),
                _ => self.repeats.is_underway(id, number),
            };
            if own {
                self.carried.insert(number, Carried { id, qos, progress, claim: None });
                self.settle_carried(number);
            }
        }
        self.carried.values_mut().for_each(|carried| carried.claim = None);
        self.received.values_mut().for_each(|received| received.counted = false);
        self.outstanding = 0;
    }

    fn count(&mut self, maximum: usize) -> Result<(), Fault> {
        if self.outstanding >= maximum {
            let text = format!("more than {maximum} publishes without an acknowledgement");
            return Err(Fault::new(reason::RECEIVE_MAXIMUM_EXCEEDED, "receive-maximum-exceeded", text));
        }
        self.outstanding += 1;
        Ok(())
    }

    fn push(&mut self, id: u16, qos: QoS, progress: Progress) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.slots.push_back(Slot { number, id, qos, progress });
        number
    }

    fn note(&mut self, number: u64, change: impl FnOnce(&mut Progress)) {
        if let Ok(index) = self.slots.binary_search_by_key(&number, |slot| slot.number) {
            if let Some(slot) = self.slots.get_mut(index) {
                change(&mut slot.progress);
            }
        } else if let Some(carried) = self.carried.get_mut(&number) {
            change(&mut carried.progress);
            self.settle_carried(number);
        } // else QoS 1 of a former connection
    }

    /// Ends a carried publish that is complete: its claim is answered, or its identifier is settled silently.
    fn settle_carried(&mut self, number: u64) {
        let Some(finished) = self.carried.get(&number).and_then(|carried| carried.progress.finished()) else { return };
        let Some(carried) = self.carried.remove(&number) else { return };
        match (carried.claim, finished) {
            (Some(slot), _) => {
                // Were the connection to end now, this slot would be carried.
                if carried.qos == QoS::AtLeastOnce {
                    self.repeats.renumber(carried.id, slot);
                } else if let Some(received) = self.received.get_mut(&carried.id) {
                    received.pending = Some(slot);
                }
                self.note(slot, |progress| *progress = carried.progress);
            }
            (None, Finished::Settled(verdict)) if carried.qos == QoS::AtLeastOnce => {
                if self.repeats.is_underway(carried.id, number) {
                    self.repeats.answered(carried.id, verdict, usize::MAX);
                }
            }
            (None, Finished::Settled(verdict)) => {
                if let Some(received) = self.received.get_mut(&carried.id) {
                    received.pending = None;
                    received.denied = if let Verdict::Denied(denial) = verdict { Some(denial) } else { None };
                }
            }
            (None, Finished::Failed(_)) => {
                if carried.qos == QoS::ExactlyOnce || self.repeats.is_underway(carried.id, number) {
                    self.repeats.reopen(carried.id);
                }
                if carried.qos == QoS::ExactlyOnce {
                    self.conclude(carried.id, false);
                }
            }
        }
    }

    fn conclude(&mut self, id: u16, positive: bool) {
        if positive {
            if let Some(received) = self.received.get_mut(&id) {
                received.pending = None;
            }
        } else if let Some(received) = self.received.remove(&id) {
            self.outstanding = self.outstanding.saturating_sub(usize::from(received.counted));
        }
    }
}
