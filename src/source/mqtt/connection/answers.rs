//! What the lane brings back for the session, and what the session leaves to be counted.

use super::{Connection, lane::Answer};
use crate::{
    hook::Hook,
    source::mqtt::{reason::Fault, session::Unmade},
};

impl Connection {
    /// Takes in what was answered about the filters of subscriptions, and about a client that proves itself again.
    pub(super) fn bring_answers(&mut self, now_ms: u64) -> Result<(), Fault> {
        if !self.session.as_ref().is_some_and(|session| session.is_waiting()) {
            return Ok(());
        }
        for answer in self.lane.answers() {
            let Some(session) = &mut self.session else { return Ok(()) };
            let taken = match answer {
                Answer::Filters(number, answers) => session.authorized(number, answers, &mut self.outputs),
                Answer::Proof(answer) => session.proved(answer, &mut self.outputs),
            };
            self.apply(now_ms)?;
            taken?;
        }
        Ok(())
    }

    /// Counts what happened and was not made into events, because nobody wants it.
    pub(super) fn count_unmade(&mut self) {
        let Some(Unmade { delivered, acked }) = self.session.as_mut().map(|session| session.take_unmade()) else { return };
        for (hook, firings) in [(Hook::MessageDelivered, delivered), (Hook::MessageAcked, acked)] {
            if firings > 0 {
                self.shared.pipeline.count(hook, firings);
            }
        }
    }
}
