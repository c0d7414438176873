//! When the process starts: what was stored takes its place as if it had never left.
//!
//! Restored sessions wait for their clients. Whoever was connected when the process ended counts as gone from the moment of the start;
//! for those who had left before, the time since counts, also the time without a process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Shared,
    session::{Session, connect::LastWill},
};
use crate::{
    event::{DropReason, now_ms},
    store::{Change, Restored, StoredSession, StoredWill},
};

/// Puts everything back in its place.
pub(super) async fn put_back(shared: &Shared, restored: Restored) {
    let now_ms = now_ms();
    shared.sessions.number_from(restored.last_session() + 1);
    let refused = shared.retained.restore(restored.retained, now_ms);
    if refused > 0 {
        tracing::error!(refused, "max_retained_messages is lower than what is stored: these are left out, and stay in the store");
    }
    for stored in restored.sessions {
        put_back_session(shared, stored, now_ms).await;
    }
}

async fn put_back_session(shared: &Shared, mut stored: StoredSession, now_ms: u64) {
    let left_at_ms = stored.state.left_at_ms.unwrap_or(now_ms);
    let client = Arc::clone(&stored.state.client);
    let will = stored.will.take().map(|StoredWill { message, delay_s }| LastWill { message, delay_s });
    let expiry_s = stored.state.expiry_s;
    let (session, excess) = Session::restore(stored, &shared.limits(), shared.store.as_ref());
    if let Some(store) = shared.store.as_ref().filter(|_| session.is_durable()) {
        let mut batch = store.batch();
        batch.add(Change::Session(Box::new(session.state(Some(left_at_ms)))));
        excess.iter().for_each(|queued| batch.add(Change::Done(session.place(queued.sequence))));
    }
    shared.metrics.sessions.inc();
    for (filter, granted) in session.filters().iter() {
        shared.subscriptions.insert(filter, session.number(), session.mailbox(), *granted);
        shared.metrics.subscriptions.inc();
    }
    let after = |seconds: u32| {
        let due_ms = left_at_ms.saturating_add(u64::from(seconds) * 1000);
        Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms))
    };
    let ends = (expiry_s != u32::MAX).then(|| after(expiry_s));
    let will_due = will.as_ref().map(|will| after(will.delay_s.min(expiry_s)));
    let will = will.map(|will| (Arc::clone(&client), will));
    shared.sessions.put_back(Box::new(session), will, ends, will_due);
    for queued in excess {
        shared.aftermath.dropped(Arc::clone(&client), queued.parcel.message, DropReason::QueueFull).await;
    }
}
