//! What the client may send again, where some route must have its messages once: which publish each packet identifier stood for last,
//! and how it ended.
//!
//! A PUBLISH is a repetition when its identifier stood for the same message and it says so (DUP), or when its QoS 2 identifier was not
//! released. Then it goes on with the same [`Origin`], and is not published twice: it is answered from memory, or by the publish that is
//! under way, or it goes only where it has not been.
//!
//! Any other PUBLISH under an identifier ends what the identifier stood for, and so does PUBREL, and an answer that refuses. At QoS 1 the
//! client never says that it has its PUBACK: the last `receive maximum` of them are remembered, no more can be under way to it.
//!
//! Absent: sessions that end with their connection, which nobody can resume; then there are no origins.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::inbound::Verdict;
use crate::{
    event::{Origin, QoS, Text},
    source::mqtt::packet::Publish,
    store::Intent,
};

/// A PUBLISH as far as it decides whether it is a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) session: u64,
    pub(super) digest: u64,
    pub(super) dup: bool,
}

/// How the publish under an identifier stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It ended without an answer, or with a former process.
    Open,
    /// It will settle under this number.
    Underway(u64),
    /// This was answered at QoS 1, or would have been if there had been a connection.
    Answered(Verdict),
}

/// What a PUBLISH is.
#[derive(Debug)]
pub(super) enum Look {
    /// Another message than before.
    New(Arc<Origin>),
    /// The same.
    Again(Arc<Origin>, State),
}

#[derive(Debug)]
struct Repeat {
    origin: Arc<Origin>,
    state: State,
    /// When it was last answered.
    answer: u64,
}

/// The memory of one session.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    known: HashMap<u16, Repeat>,
    /// Answers at QoS 1, the latest last: identifier, and when.
    answers: VecDeque<(u16, u64)>,
    next_answer: u64,
    /// What the store need not know any more.
    forgotten: Vec<Arc<Origin>>,
}

impl Repeats {
    /// What a former process left of a session.
    pub(super) fn restore(session: u64, intents: Vec<Intent>) -> Self {
        let mut repeats = Repeats::default();
        for Intent { id, cluster, number, digest } in intents {
            let fresh = || Repeat { origin: Arc::new(Origin::new(session, id, digest)), state: State::Open, answer: 0 };
            let repeat = repeats.known.entry(id).or_insert_with(fresh);
            if repeat.origin.digest == digest {
                repeat.origin.was_underway(&cluster, number);
            } // else the identifier stood for another message at that cluster, and this one is the later or the earlier: neither helps
        }
        // Which of them were answered nobody knows; the answers to come make room of all.
        repeats.answers = repeats.known.keys().map(|id| (*id, 0)).collect();
        repeats.next_answer = 1;
        repeats
    }

    /// Whether an identifier stands for anything.
    pub(super) fn has(&self, id: u16) -> bool {
        !self.known.is_empty() && self.known.contains_key(&id)
    }

    /// A PUBLISH arrived. Its QoS 2 identifier, if it is one, was not released.
    pub(super) fn look(&mut self, id: u16, qos: QoS, sent: Sent) -> Look {
        match self.known.get(&id) {
            Some(known) if known.origin.digest == sent.digest && (sent.dup || qos == QoS::ExactlyOnce) => {
                Look::Again(Arc::clone(&known.origin), known.state.clone())
            }
            _ => {
                self.forget(id);
                Look::New(Arc::new(Origin::new(sent.session, id, sent.digest)))
            }
        }
    }

    /// A publish is under way.
    pub(super) fn underway(&mut self, id: u16, number: u64, origin: Arc<Origin>) {
        self.known.insert(id, Repeat { origin, state: State::Underway(number), answer: u64::MAX });
    }

    /// Whether a publish is what its identifier stands for.
    pub(super) fn is_underway(&self, id: u16, number: u64) -> bool {
        self.known.get(&id).is_some_and(|known| known.state == State::Underway(number))
    }

    /// The same publish settles under another number.
    pub(super) fn renumber(&mut self, id: u16, number: u64) {
        self.set(id, State::Underway(number));
    }

    /// A QoS 1 publish was answered, one of the last `maximum`.
    pub(super) fn answered(&mut self, id: u16, verdict: Verdict, maximum: usize) {
        let Some(known) = self.known.get_mut(&id) else { return };
        known.state = State::Answered(verdict);
        known.answer = self.next_answer;
        self.answers.push_back((id, self.next_answer));
        self.next_answer += 1;
        while self.answers.len() > maximum {
            let Some((id, answer)) = self.answers.pop_front() else { return };
            if self.known.get(&id).is_some_and(|known| known.answer == answer) {
                self.forget(id);
            }
        }
    }

    /// A publish ended without an answer.
    pub(super) fn reopen(&mut self, id: u16) {
        self.set(id, State::Open);
    }

    /// An identifier stands for nothing any more.
    pub(super) fn forget(&mut self, id: u16) {
        if let Some(known) = self.known.remove(&id) {
            self.forgotten.push(known.origin);
        }
    }

    /// What the store may know of and need not: identifier and cluster.
    pub(super) fn take_forgotten(&mut self) -> Vec<(u16, Text)> {
        if self.forgotten.is_empty() {
            return Vec::new();
        }
        let forgotten = std::mem::take(&mut self.forgotten);
        forgotten.iter().flat_map(|origin| origin.clusters().into_iter().map(|cluster| (origin.id, cluster))).collect()
    }

    fn set(&mut self, id: u16, state: State) {
        if let Some(known) = self.known.get_mut(&id) {
            known.state = state;
        }
    }
}

/// What tells messages apart: everything that belongs to the message, but for its expiry, which a client may count down.
pub(super) fn digest(publish: &Publish, topic: &str) -> u64 {
    let mut hasher = Sha256::new();
    let mut take = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    take(&[publish.qos.level(), u8::from(publish.retain)]);
    take(topic.as_bytes());
    take(&publish.payload);
    if let Some(properties) = &publish.properties {
        let texts = [&properties.content_type, &properties.response_topic];
        texts.into_iter().for_each(|text| take(text.as_ref().map_or(b"", |text| text.as_bytes())));
        take(properties.correlation_data.as_deref().unwrap_or_default());
        take(&[properties.payload_is_utf8.map_or(2, u8::from)]);
        for header in &properties.user_properties {
            take(header.name.as_bytes());
            take(header.value.as_bytes());
        }
    }
    hasher.finalize().first_chunk().map_or(0, |half| u64::from_le_bytes(*half))
}

#[cfg(test)]
mod tests;
