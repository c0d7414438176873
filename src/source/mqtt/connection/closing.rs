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
        session::Session,
        sessions::{self, Eviction, Handover, Tenancy},
    },
};

impl Connection {
    /// Another connection of this client takes the session: it gets it at once, the rest is finished here.
    pub(super) fn evicted(&mut self, eviction: Eviction, mut session: Box<Session>) -> End {
        session.catch_up();
        session.detach();
        let end = self.fail(Fault::new(reason::SESSION_TAKEN_OVER, "taken-over", "the client connected again"));
        let session_ends = eviction.clean_start || session.expiry_s() == 0;
        self.hand_over(eviction, session);
        let will_waits = !session_ends && self.terms.will.as_ref().is_some_and(|will| will.delay_s > 0);
        End { with_will: end.with_will && !will_waits, ..end }
    }

    fn hand_over(&mut self, eviction: Eviction, session: Box<Session>) {
        let (done, wait) = oneshot::channel();
        self.successor = Some(done);
        self.former_mailbox = Some(Arc::clone(session.mailbox()));
        if let Err(handover) = eviction.reply.send(Handover { session, done: wait }) {
            self.orphan = Some(handover.session); // the successor is gone already; nobody holds the client id
        }
    }

    /// The same after the open stage: a will that waits is due when the session ends, and void when it goes on.
    async fn hand_over_late(&mut self, eviction: Eviction, session: Box<Session>) {
        if let Some(will) = self.terms.will.take().filter(|_| eviction.clean_start) {
            sessions::publish_will(&self.shared, (Arc::clone(&self.client), will)).await;
        }
        self.hand_over(eviction, session);
    }

    /// Raises the last events, finishes the lane, and parks, ends or hands over the session.
    pub(super) async fn close<L: Future<Output = Infallible>>(mut self, end: End, mut tenancy: Tenancy, mut work: Pin<&mut L>) {
        let End { closing, with_will } = end;
        tracing::debug!(client_id = %self.client.client_id, reason = %closing.reason, "client disconnected");
        self.observe(Hook::ClientDisconnected, |_| Detail::ClientDisconnected(closing));
        self.leave_will(with_will);
        self.finish(&mut tenancy, work.as_mut()).await;
        self.leave_session(tenancy).await;
    }

    /// A will without a delay, or whose session ends now, is published now.
    fn leave_will(&mut self, with_will: bool) {
        if !with_will {
            self.terms.will = None;
        }
        let stays = self.session.as_ref().is_some_and(|session| session.expiry_s() > 0) && *self.shared.phase.borrow() == Phase::Running;
        if self.terms.will.as_ref().is_some_and(|will| will.delay_s == 0 || !stays)
            && let Some(will) = self.terms.will.take()
        {
            let mut message = Box::new(will.message);
            message.received_at_ms = now_ms();
            self.lane.add(Work::Publish { message, number: None, receipt: Receipt::nobody() });
        }
    }

    async fn finish<L: Future<Output = Infallible>>(&mut self, tenancy: &mut Tenancy, mut work: Pin<&mut L>) {
        let mut phase = self.shared.phase.subscribe();
        let lane = Arc::clone(&self.lane);
        while lane.backlog() > 0 {
            tokio::select! {
                biased;
                () = poll_fn(|context| lane.poll(work.as_mut(), context)) => {}
                eviction = &mut tenancy.eviction, if self.session.is_some() => {
                    if let (Ok(eviction), Some(session)) = (eviction, self.session.take()) {
                        self.hand_over_late(eviction, session).await;
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

    async fn leave_session(mut self, tenancy: Tenancy) {
        if let Some(session) = self.session.take() {
            let refused = if session.expiry_s() > 0 {
                let will = self.terms.will.clone().map(|will| (Arc::clone(&self.client), will));
                self.shared.sessions.park(&tenancy, session, will, Instant::now()).err()
            } else {
                match self.shared.sessions.leave(session.mailbox().client_id(), &tenancy) {
                    Ok(()) => {
                        sessions::end(&self.shared, session).await;
                        None
                    }
                    Err(()) => Some(session),
                }
            };
            if let Some(session) = refused {
                match tenancy.eviction.await {
                    Ok(eviction) => self.hand_over_late(eviction, session).await,
                    Err(_) => sessions::end(&self.shared, session).await,
                }
            }
        }
        if let Some(orphan) = self.orphan.take() {
            sessions::end(&self.shared, orphan).await;
        }
        if let Some(successor) = self.successor.take() {
            let _ = successor.send(()); // an error: it did not wait
        }
    }
}

/// Waits for the end of the process.
async fn stopped(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await; // an error: the broker is gone, which is an end too
}
