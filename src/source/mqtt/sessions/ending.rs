//! The end of a session: for one of many reasons, in one place.

use std::sync::Arc;

use crate::{
    event::{Closing, Detail, DropReason, Dropping, Text},
    source::mqtt::{Shared, mailbox::Parcel, reason, session::Session},
    store::{Change, Store},
};

/// Why a session ends.
#[derive(Debug)]
pub(in crate::source::mqtt) enum Ending {
    /// A clean start threw it away.
    Discarded,
    /// Anything else.
    Terminated(Closing),
}

impl Ending {
    /// `session.terminated` with a code and a stable word.
    pub(in crate::source::mqtt) fn because(reason_code: u8, word: &'static str) -> Self {
        Ending::Terminated(Closing { reason_code, reason: Text::from_static(word) })
    }
}

/// Ends a session for good: its subscriptions go, what it held of shared ones goes to other members, and the rest is dropped. The last
/// events of its life, in order, for whoever raises them; that its subscriptions are gone goes without saying, as in EMQX.
#[must_use]
pub(in crate::source::mqtt) fn dissolve(shared: &Shared, session: &mut Session, ending: Ending) -> Vec<Detail> {
    shared.metrics.sessions.dec();
    // One batch: what goes to other members leaves this session in the same moment.
    let mut batch = shared.store.as_ref().map(Store::batch);
    if let Some(batch) = batch.as_mut().filter(|_| session.is_durable()) {
        session.mailbox().forget_store();
        batch.add(Change::Ended(session.number()));
    }
    for filter in session.filters().texts() {
        shared.subscriptions.remove(filter, session.number());
        shared.metrics.subscriptions.dec();
    }
    let dropped = |parcel: Parcel| Dropping { message: parcel.message, reason: DropReason::SessionEnded, explanation: Text::new() };
    let mut hand_on = |parcel: &Parcel| {
        let group = parcel.share.as_deref().and_then(|filter| shared.subscriptions.group(filter));
        group.is_some_and(|group| group.deliver(&parcel.message, batch.as_mut()).is_ok())
    };
    let lost = session.end().into_iter().filter(|parcel| !parcel.message.is_the_servers() && !hand_on(parcel));
    let mut last: Vec<Detail> = lost.map(|parcel| Detail::MessageDropped(dropped(parcel))).collect();
    last.push(match ending {
        Ending::Discarded => Detail::SessionDiscarded,
        Ending::Terminated(closing) => Detail::SessionTerminated(closing),
    });
    last
}

/// Ends a session that no connection has.
pub(in crate::source::mqtt) async fn end(shared: &Shared, mut session: Box<Session>, ending: Ending) {
    let client = session.mailbox().client();
    for detail in dissolve(shared, &mut session, ending) {
        shared.aftermath.raise(Arc::clone(&client), detail).await;
    }
}

/// Ends the sessions that do not outlive the process, when it ends in order.
pub(in crate::source::mqtt) async fn end_with_process(shared: &Shared) {
    for session in shared.sessions.take_parked() {
        end(shared, Box::new(session), Ending::because(reason::SERVER_SHUTTING_DOWN, "shutting-down")).await;
    }
}
