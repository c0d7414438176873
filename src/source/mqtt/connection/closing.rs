//! The closing stage: the socket is gone; what was read is brought to its end, then the session is left where it belongs.

use std::{convert::Infallible, future::poll_fn, pin::Pin, sync::Arc, time::Instant};

use tokio::sync::{oneshot, watch};

use super::{Connection, End, lane::Work};
use crate::{
    event::{Detail, Receipt, now_ms},
    hook::Hook,
    source::mqtt::{
        Phase,
        mailbox::Mailbox,
        reason::{self, Fault},
        session::{Session, Trace},
        sessions::{self, Demand, Ending, Eviction, Handover, Tenancy},
    },
};

/// The word for what an operator did.
const KICKED: &str = "kicked";

impl Connection {
    /// Another connection of this client takes the client id: it gets the session at once, or none when the session ends here; the rest is
    /// finished here.
    pub(super) fn evicted(&mut self, eviction: Eviction, mut session: Box<Session>) -> End {
        session.catch_up();
        session.detach();
        let fault = match eviction.demand {
            Demand::Resume => Fault::new(reason::SESSION_TAKEN_OVER, "taken-over", "the client connected again"),
            Demand::CleanStart => Fault::new(reason::SESSION_TAKEN_OVER, "discarded", "the client connected again"),
            Demand::Kick { .. } => Fault::new(reason::ADMINISTRATIVE_ACTION, KICKED, "an operator ended the connection"),
        };
        let end = self.fail(fault);
        let ending = match (eviction.demand, session.expiry_s()) {
            (Demand::CleanStart, _) => Some(Ending::Discarded),
            (Demand::Kick { end_session: true }, _) | (_, 0) => Some(Ending::Terminated(end.closing.clone())),
            _ => None,
        };
        let will_waits = ending.is_none() && self.terms.will.as_ref().is_some_and(|will| will.delay_s > 0);
        match ending {
            Some(ending) => {
                self.end_session(session, ending);
                self.hand_over(eviction, None);
            }
            None => {
                if eviction.demand == Demand::Resume {
                    self.observe(Hook::SessionTakenOver, |_| Detail::SessionTakenOver);
                }
                self.hand_over(eviction, Some(session));
            }
        }
        End { with_will: end.with_will && !will_waits, ..end }
    }

    /// Its last events are raised after what this connection still has to do.
    fn end_session(&mut self, mut session: Box<Session>, ending: Ending) {
        self.epilogue.extend(sessions::dissolve(&self.shared, &mut session, ending));
    }

    fn hand_over(&mut self, eviction: Eviction, session: Option<Box<Session>>) {
        let (done, wait) = oneshot::channel();
        let will_waits = session.is_some() && self.terms.will.as_ref().is_some_and(|will| will.delay_s > 0);
        let will = if will_waits { self.terms.will.take().map(|will| (Arc::clone(&self.client), will)) } else { None };
        self.successor = Some(done);
        self.former_mailbox = session.as_ref().map(|session| Arc::clone(session.mailbox()));
        if let Err(Handover { session: Some(orphan), .. }) = eviction.reply.send(Handover { session, will, done: wait }) {
            // The successor is gone already; nobody holds the client id.
            self.end_session(orphan, Ending::because(reason::SESSION_TAKEN_OVER, "taken-over"));
        }
    }

    /// The same after the open stage: a will that waits is due when the session ends, and void when it goes on.
    fn hand_over_late(&mut self, eviction: Eviction) {
        let mut session = self.session.take();
        let ending = match eviction.demand {
            Demand::CleanStart => Some(Ending::Discarded),
            Demand::Kick { end_session: true } => Some(Ending::because(reason::ADMINISTRATIVE_ACTION, KICKED)),
            Demand::Kick { end_session: false } | Demand::Resume => None,
        };
        if let Some(ending) = ending
            && let Some(session) = session.take()
        {
            self.publish_will();
            self.end_session(session, ending);
        }
        self.hand_over(eviction, session);
    }

    /// Raises the last events, finishes the lane, and parks, ends or hands over the session.
    pub(super) async fn close<L: Future<Output = Infallible>>(&mut self, end: End, mut tenancy: Tenancy, mut work: Pin<&mut L>) {
        let End { closing, with_will } = end;
        tracing::debug!(client_id = %self.client.client_id, reason = %closing.reason, "client disconnected");
        self.observe(Hook::ClientDisconnected, |_| Detail::ClientDisconnected(closing.clone()));
        self.tally.flush(&self.shared.metrics);
        self.leave_will(with_will);
        if let Some(session) = self.session.take_if(|session| session.expiry_s() == 0) {
            self.end_session(session, Ending::Terminated(closing));
        }
        self.finish(&mut tenancy, work.as_mut()).await;
        if self.successor.is_none()
            && !self.leave(&tenancy)
            && let Ok(eviction) = (&mut tenancy.eviction).await
        {
            self.hand_over_late(eviction);
            self.finish(&mut tenancy, work).await;
        }
        if let Some(successor) = self.successor.take() {
            let _ = successor.send(()); // an error: it did not wait
        }
    }

    /// A will without a delay, or whose session ends now, is published now.
    fn leave_will(&mut self, with_will: bool) {
        if !with_will {
            self.terms.will = None;
        }
        let running = *self.shared.phase.borrow() == Phase::Running;
        let stays = self.session.as_ref().is_some_and(|session| session.expiry_s() > 0 && (running || session.is_durable()));
        if self.terms.will.as_ref().is_some_and(|will| will.delay_s == 0 || !stays) {
            self.publish_will();
        }
    }

    fn publish_will(&mut self) {
        if let Some(will) = self.terms.will.take() {
            let mut message = Box::new(will.message);
            message.received_at_ms = now_ms();
            self.lane.add(Work::Publish { message, number: None, receipt: Receipt::nobody(), trace: Trace::None });
        }
    }

    async fn finish<L: Future<Output = Infallible>>(&mut self, tenancy: &mut Tenancy, mut work: Pin<&mut L>) {
        let mut phase = self.shared.phase.subscribe();
        let lane = Arc::clone(&self.lane);
        loop {
            self.epilogue.drain(..).for_each(|detail| lane.add(Work::Observe(detail)));
            if lane.backlog() == 0 {
                break;
            }
            tokio::select! {
                biased;
                () = poll_fn(|context| lane.poll(work.as_mut(), context)) => {}
                eviction = &mut tenancy.eviction, if !tenancy.eviction.is_terminated() => {
                    if let Ok(eviction) = eviction {
                        self.hand_over_late(eviction);
                    }
                }
                () = stopped(&mut phase) => {
                    tracing::warn!(client_id = %self.client.client_id, left = lane.backlog(), "the process ends before this client's messages were dealt with");
                    break;
                }
            }
            self.bring_verdicts();
        }
        self.bring_verdicts();
    }

    /// Verdicts go to the session, wherever it is by now.
    fn bring_verdicts(&mut self) {
        for (number, verdict) in self.lane.verdicts() {
            match (&mut self.session, &self.former_mailbox) {
                (Some(session), _) => session.decided(number, verdict),
                (None, Some(mailbox)) => Mailbox::bring(mailbox, number, verdict),
                (None, None) => {}
            }
        }
    }

    /// Leaves the session, if there still is one, to wait for its client, and the client id; false: an eviction is under way.
    fn leave(&mut self, tenancy: &Tenancy) -> bool {
        let Some(session) = self.session.take() else {
            return self.shared.sessions.leave(&self.client.client_id, tenancy).is_ok();
        };
        let will = self.terms.will.clone().map(|will| (Arc::clone(&self.client), will));
        self.session = self.shared.sessions.park(tenancy, session, will, Instant::now()).err();
        self.session.is_none()
    }
}

/// Waits for the end of the process.
async fn stopped(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await; // an error: the broker is gone, which is an end too
}
