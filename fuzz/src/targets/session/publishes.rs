//! The client's books over what it publishes.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    event::{Denial, Outcome, QoS, Receipt},
    source::mqtt::{
        packet::{Ack, Protocol},
        reason,
        session::{Trace, Verdict},
    },
};

/// A publish that the session has let into the pipeline.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) receipt: Option<Receipt>,
    /// The store's part in the receipt, and what it is to write.
    pub(super) share: Option<Receipt>,
    pub(super) trace: Trace,
    pub(super) is_decided: bool,
    /// The connection that brought it.
    pub(super) connection: u64,
}

/// What the pipeline and Kafka have said about a publish.
#[derive(Debug, Default)]
struct Said {
    verdict: Option<Verdict>,
    outcome: Option<Outcome>,
}

/// A QoS 1 or 2 PUBLISH of this connection that was not answered yet.
#[derive(Debug)]
struct Arrival {
    id: u16,
    qos: QoS,
    /// It was sent again, and an answer that came since serves it too; it may get one of its own.
    is_excused: bool,
    /// What it was published under; `None`: the session has refused it itself.
    number: Option<u64>,
}

/// What a QoS 2 identifier in use was published under.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// `None`: the session has refused it itself.
    Under(Option<u64>),
    /// The store has brought it back.
    Restored,
}

#[derive(Debug, Default)]
pub(super) struct Publishes {
    pub(super) pending: Vec<Pending>,
    said: HashMap<u64, Said>,
    arrivals: VecDeque<Arrival>,
    /// QoS 2 identifiers in use.
    held: HashMap<u16, Held>,
    /// Those that were freed without a word to the client or the store.
    freed: HashSet<u16>,
    /// Those with a positive PUBREC.
    received: HashSet<u16>,
    /// Of these, those that were denied all the same, which MQTT 3 has no word for: they need not be stored.
    denied: HashSet<u16>,
}

impl Publishes {
    /// The session took a QoS 1 or 2 PUBLISH and published it (`is_again`: but not to subscribers), refused it (`None`), or took it for one
    /// that it knows.
    pub(super) fn arrived(&mut self, id: u16, qos: QoS, published: Option<u64>, is_denied: bool, is_again: bool) {
        let is_duplicate = published.is_none() && !is_denied;
        let before = self.held.get(&id).copied().filter(|_| qos == QoS::ExactlyOnce);
        let number = match before {
            Some(Held::Under(number)) if is_duplicate => number,
            _ => {
                assert!(!is_duplicate, "PUBLISH {id} is taken for a known one, or not published");
                published
            }
        };
        if qos == QoS::ExactlyOnce && !is_duplicate {
            match before {
                None => assert!(!is_again, "the new QoS 2 identifier {id} is kept from subscribers"),
                Some(Held::Restored) => assert!(is_again || is_denied, "the restored QoS 2 identifier {id} is published twice"),
                Some(Held::Under(number)) => {
                    assert!(self.has_failed(number), "the QoS 2 identifier {id} is published twice without a release");
                }
            }
            self.held.insert(id, Held::Under(number));
            self.received.remove(&id);
        }
        self.arrivals.push_back(Arrival { id, qos, is_excused: false, number });
    }

    /// The session has refused a publish itself, before the pipeline.
    pub(super) fn decided(&mut self, number: u64, verdict: Verdict) {
        self.said.entry(number).or_default().verdict = Some(verdict);
    }

    pub(super) fn settled(&mut self, number: u64, outcome: Outcome) {
        self.said.entry(number).or_default().outcome = Some(outcome);
    }

    /// PUBACK or PUBREC came.
    pub(super) fn answered(&mut self, protocol: Protocol, qos: QoS, ack: &Ack) {
        let positive = ack.code < reason::FIRST_ERROR;
        assert!(positive || protocol.is_5(), "older protocols know no refusal");
        // Nothing is passed over but what may stay without an answer.
        let next = self.arrivals.iter().position(|arrival| !arrival.is_excused).map_or(self.arrivals.len(), |index| index + 1);
        let of_id = |arrival: &Arrival| arrival.id == ack.id && arrival.qos == qos;
        let candidates = self.arrivals.iter().enumerate().take(next).rev().filter(|(_, arrival)| of_id(arrival));
        let fitting: Vec<_> = candidates.map(|(index, arrival)| (index, self.is_denied(arrival, protocol, ack))).collect();
        let Some((index, denied)) = fitting.iter().find_map(|(index, denied)| Some((*index, *denied.as_ref().ok()?))) else {
            panic!("{ack:?} to {qos:?} answers nothing: {fitting:?} of {:?}", self.arrivals);
        };
        self.arrivals.drain(..=index);
        for other in self.arrivals.iter_mut().filter(|other| qos == QoS::ExactlyOnce && of_id(other)) {
            other.is_excused = true; // it was sent before this answer, which serves it too
        }
        if qos == QoS::ExactlyOnce {
            if positive {
                self.received.insert(ack.id);
                if denied {
                    self.denied.insert(ack.id);
                } else {
                    self.denied.remove(&ack.id);
                }
            } else {
                self.held.remove(&ack.id);
                self.received.remove(&ack.id);
            }
        }
    }

    /// The connection ends in the place of an answer, for a publish that was denied, refused, or of which nobody knows.
    pub(super) fn unanswered(&mut self, protocol: Protocol) {
        self.arrivals.retain(|arrival| !arrival.is_excused);
        let arrival = self.arrivals.pop_front().expect("a publish waits for its answer");
        if let Some(number) = arrival.number {
            let Some(Said { verdict, outcome }) = self.said.get(&number) else { panic!("an end for {arrival:?} before anything is known") };
            let told = matches!((outcome, verdict), (Some(Outcome::Stored), Some(Verdict::Accepted { .. } | Verdict::Swallowed)));
            assert!(outcome.is_some() && !told, "an end for {arrival:?} after {outcome:?}, {verdict:?}");
            assert!(!protocol.is_5() || matches!(outcome, Some(Outcome::Unknown(_))), "an end for {arrival:?}, which MQTT 5 has words for");
        }
        if arrival.qos == QoS::ExactlyOnce {
            self.held.remove(&arrival.id);
            self.received.remove(&arrival.id);
            self.freed.insert(arrival.id);
        }
    }

    /// The process died; these identifiers were stored.
    pub(super) fn crashed(&mut self, used: &[u16]) {
        self.received.retain(|id| used.contains(id) || !self.denied.contains(id));
        let lost: Vec<_> = self.received.iter().filter(|id| !used.contains(id)).collect();
        assert!(lost.is_empty(), "QoS 2 identifiers that were answered and forgotten: {lost:?}");
        let undead: Vec<_> = used.iter().filter(|id| !self.held.contains_key(id) && !self.freed.contains(id)).collect();
        assert!(undead.is_empty(), "QoS 2 identifiers that were released and came back: {undead:?}");
        let received = std::mem::take(&mut self.received);
        let held = used.iter().map(|id| (*id, Held::Restored)).collect();
        *self = Publishes { held, received, freed: std::mem::take(&mut self.freed), ..Publishes::default() };
    }

    /// PUBCOMP came.
    pub(super) fn completed(&mut self, ack: &Ack) {
        if ack.code == reason::SUCCESS {
            let held = self.held.remove(&ack.id).unwrap_or_else(|| panic!("{ack:?} for an identifier that is not in use"));
            if let Held::Under(Some(number)) = held {
                let outcome = self.said.get(&number).and_then(|said| said.outcome.as_ref());
                assert_eq!(outcome, Some(&Outcome::Stored), "{ack:?} before it is stored");
            }
        } else {
            assert!(!self.received.contains(&ack.id), "{ack:?} for an identifier that was received");
        }
        self.received.remove(&ack.id);
    }

    /// The connection ended.
    pub(super) fn broken(&mut self) {
        self.arrivals.clear();
    }

    /// Identifiers that the client should release.
    pub(super) fn to_release(&self) -> Vec<u16> {
        let mut ids: Vec<_> = self.received.iter().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// QoS 2 identifiers that the client should send again after it came back.
    pub(super) fn to_repeat(&self) -> Vec<u16> {
        let mut ids: Vec<_> = self.held.keys().filter(|id| !self.received.contains(id)).copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Everything has been answered.
    pub(super) fn check_empty(&self) {
        let left: Vec<_> = self.arrivals.iter().filter(|arrival| !arrival.is_excused).collect();
        assert!(left.is_empty(), "never answered: {left:?}");
    }

    /// Whether the publish was denied or refused, if the answer agrees with what was said about it.
    fn is_denied(&self, arrival: &Arrival, protocol: Protocol, ack: &Ack) -> Result<bool, String> {
        let positive = ack.code < reason::FIRST_ERROR;
        let denied = match arrival.number {
            None => true,
            Some(number) => {
                let Some(Said { verdict, outcome }) = self.said.get(&number) else { return Err("before anything is known".to_owned()) };
                let known = matches!(outcome, Some(Outcome::Stored | Outcome::Refused(_)));
                if !known || (positive && !matches!((outcome, verdict), (Some(Outcome::Stored), Some(_)))) {
                    return Err(format!("after {outcome:?}, {verdict:?}"));
                }
                let denied = |denial: &Denial| reason::for_publish(denial.reason_code) >= reason::FIRST_ERROR;
                matches!(verdict, Some(Verdict::Denied(denial)) if denied(denial)) || *outcome != Some(Outcome::Stored)
            }
        };
        if protocol.is_5() && positive == denied { Err(format!("denied: {denied}")) } else { Ok(denied) }
    }

    fn has_failed(&self, number: Option<u64>) -> bool {
        let outcome = number.and_then(|number| self.said.get(&number)?.outcome.as_ref());
        outcome.is_some_and(|outcome| *outcome != Outcome::Stored)
    }
}
