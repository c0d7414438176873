//! Records of the spool that are on their way to Kafka: which are done, and up to where all are.
//!
//! Pure: what was sent and what became of it go in. A record whose outcome nobody knows makes everything from it on be sent again, once
//! the others are settled, so that no later record of its key is the last that Kafka holds.

use std::collections::VecDeque;

use crate::{
    event::{Bytes, Outcome, Refusal},
    spool::Entry,
};

/// Records at once.
const MOST_RECORDS: usize = 10_000;
/// Bytes of the same.
const MOST_BYTES: usize = 16 << 20;

/// What is to be done about a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Nothing.
    Nothing,
    /// A dead letter for it: Kafka refused it for good.
    Bury(Bytes, Refusal),
    /// To be counted as buried, for this reason.
    Buried(Bytes, &'static str),
    /// To be given up with a word: its dead letter was refused, too.
    GiveUp(Bytes, Refusal),
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    time_ms: u64,
    bytes: usize,
    /// Kept until it is done, for its dead letter.
    body: Bytes,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On its way.
    Sent,
    /// Its dead letter is; the word for why.
    Burying(&'static str),
    /// Nobody knows whether Kafka has it.
    Unknown,
    Done,
}

/// The records from the first that is not done.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Slots that are `Sent` or being buried.
    unsettled: usize,
    /// Slots that are `Unknown`.
    unknown: usize,
}

impl Window {
    /// A record is about to be sent; its sequence is higher than any before.
    pub(super) fn push(&mut self, entry: &Entry) {
        let slot = Slot {
            sequence: entry.sequence,
            time_ms: entry.time_ms,
            bytes: entry.body.len(),
            body: entry.body.clone(),
            state: State::Sent,
        };
        self.bytes += slot.bytes;
        self.unsettled += 1;
        self.slots.push_back(slot);
    }

    /// What became of a record, or of its dead letter.
    pub(super) fn settle(&mut self, sequence: u64, outcome: Outcome) -> Todo {
        let Ok(at) = self.slots.binary_search_by_key(&sequence, |slot| slot.sequence) else { return Todo::Nothing };
        let Some(slot) = self.slots.get_mut(at) else { return Todo::Nothing };
        let body = || slot.body.clone();
        let (state, todo) = match (outcome, slot.state) {
            (_, State::Done | State::Unknown) => return Todo::Nothing,
            (Outcome::Stored, State::Sent) => (State::Done, Todo::Nothing),
            (Outcome::Stored, State::Burying(word)) => (State::Done, Todo::Buried(body(), word)),
            (Outcome::Refused(refusal), State::Sent) => (State::Burying(refusal.word()), Todo::Bury(body(), refusal)),
            (Outcome::Refused(refusal), State::Burying(_)) => (State::Done, Todo::GiveUp(body(), refusal)),
            (Outcome::Unknown(_), _) => (State::Unknown, Todo::Nothing),
        };
        slot.state = state;
        if !matches!(state, State::Burying(_)) {
            slot.body = Bytes::new();
            self.unsettled -= 1;
        }
        if state == State::Unknown {
            self.unknown += 1;
        }
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.state == State::Done) {
            self.bytes -= slot.bytes;
        }
        todo
    }

    /// The first record that is not done, and when it was appended; `None`: none is on its way.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.slots.front().map(|slot| (slot.sequence, slot.time_ms))
    }

    /// Whether nothing more may be sent now.
    pub(super) fn is_closed(&self) -> bool {
        self.unknown > 0 || self.slots.len() >= MOST_RECORDS || self.bytes >= MOST_BYTES
    }

    /// Where to begin again, once everything else is settled: the window is empty then. With how many records are sent again.
    pub(super) fn begin_again(&mut self) -> Option<(u64, usize)> {
        let first = self.slots.iter().position(|slot| slot.state == State::Unknown).filter(|_| self.unsettled == 0)?;
        let again = self.slots.get(first).map(|slot| (slot.sequence, self.slots.len() - first));
        *self = Window::default();
        again
    }

    /// Records whose outcome is awaited.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(sequences: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        for sequence in sequences {
            window.push(&Entry { sequence, time_ms: sequence * 10, body: Bytes::from(sequence.to_string()) });
        }
        window
    }

    fn refusal() -> Refusal {
        Refusal::Other("no".into())
    }

    fn unknown() -> Outcome {
        Outcome::Unknown("lost".into())
    }

    #[test]
    fn the_first_waits_for_the_slowest() {
        let mut window = window([3, 4, 7, 8]); // 5 and 6 were given up
        for (sequence, first) in [(4, Some(3)), (8, Some(3)), (3, Some(7)), (3, Some(7)), (5, Some(7)), (7, None)] {
            assert_eq!(window.settle(sequence, Outcome::Stored), Todo::Nothing);
            assert_eq!(window.first(), first.map(|first| (first, first * 10)), "after {sequence}");
        }
        assert_eq!((window.unsettled(), window.bytes), (0, 0));
    }

    #[test]
    fn what_nobody_knows_is_sent_again_with_all_that_follows() {
        let mut window = window(1..=5);
        window.settle(1, Outcome::Stored);
        window.settle(3, unknown());
        assert!(window.is_closed());
        assert_eq!(window.begin_again(), None, "2, 4 and 5 are on their way");
        window.settle(5, Outcome::Stored);
        window.settle(2, Outcome::Stored);
        assert_eq!(window.first(), Some((3, 30)));
        window.settle(4, unknown());
        assert_eq!(window.begin_again(), Some((3, 3)));
        assert!(!window.is_closed() && window.first().is_none());
    }

    #[test]
    fn a_refused_record_is_buried_and_then_given_up() {
        let mut window = window(1..=2);
        assert_eq!(window.settle(1, Outcome::Refused(refusal())), Todo::Bury("1".into(), refusal()));
        window.settle(2, Outcome::Stored);
        assert_eq!((window.first(), window.unsettled()), (Some((1, 10)), 1));
        assert_eq!(window.settle(1, Outcome::Refused(refusal())), Todo::GiveUp("1".into(), refusal()));
        assert_eq!(window.first(), None);
    }

    #[test]
    fn a_buried_record_is_done() {
        let mut window = window(1..=1);
        window.settle(1, Outcome::Refused(refusal()));
        assert_eq!(window.settle(1, Outcome::Stored), Todo::Buried("1".into(), "refused"));
        assert_eq!(window.first(), None);
    }

    #[test]
    fn a_dead_letter_that_nobody_knows_of_is_begun_again_with_its_record() {
        let mut window = window(1..=1);
        window.settle(1, Outcome::Refused(refusal()));
        window.settle(1, unknown());
        assert_eq!(window.begin_again(), Some((1, 1)));
    }

    #[test]
    fn it_is_bounded() {
        assert!(!window(0..MOST_RECORDS as u64 - 1).is_closed());
        assert!(window(0..MOST_RECORDS as u64).is_closed());
        let mut window = Window::default();
        window.push(&Entry { sequence: 1, time_ms: 0, body: vec![0; MOST_BYTES].into() });
        assert!(window.is_closed());
        window.settle(1, Outcome::Stored);
        assert!(!window.is_closed());
    }
}
