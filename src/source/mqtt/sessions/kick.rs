//! An operator ends a connection or a session.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Before, Demand, Ending, Eviction, Handover, Sessions, State, Tenancy, end, publish_will};
use crate::{
    event::Text,
    source::mqtt::{Shared, reason},
};

impl Sessions {
    /// [`Sessions::enter`] where there is a session, and if asked for, a connection.
    fn enter_known(&self, client_id: &Text, demand: Demand, online: bool) -> Option<(Tenancy, Before)> {
        let mut shard = self.shard(client_id).lock();
        let slot = shard.get(client_id)?;
        let known = !online || matches!(slot.state, State::Online(..));
        known.then(|| self.take_hold(&mut shard, client_id, demand))
    }
}

/// Ends the connection of a client, its session too when `end_session`; unless `online`, also a session that waits for its client. Whether
/// there was anything to end.
///
/// It works as a successor does: takes hold of the client id, and leaves the session to wait.
pub(in crate::source::mqtt) async fn kick(shared: &Shared, client_id: &Text, end_session: bool, online: bool) -> bool {
    let Some((mut tenancy, before)) = shared.sessions.enter_known(client_id, Demand::Kick { end_session }, online) else { return false };
    let (mut session, mut will) = (None, None);
    match before {
        Before::Nothing => {}
        Before::Parked(parked, waiting) => {
            if let Some(will) = waiting {
                publish_will(shared, will).await; // its session ends here
            }
            end(shared, parked, Ending::because(reason::ADMINISTRATIVE_ACTION, "kicked")).await;
        }
        Before::Taken(answer) => {
            if let Ok(mut handover) = answer.await {
                tokio::select! {
                    biased;
                    _ = &mut handover.done => (session, will) = (handover.session, handover.will),
                    successor = &mut tenancy.eviction => {
                        // The client is back already; what is not finished is its successor's to wait for.
                        if let Ok(successor) = successor {
                            pass_on(shared, successor, handover).await;
                        }
                        return true;
                    }
                }
            }
        }
    }
    let refused = match session {
        Some(session) => shared.sessions.park(&tenancy, session, will.clone(), Instant::now()).err().map(Some),
        None => shared.sessions.leave(client_id, &tenancy).err().map(|()| None),
    };
    if let Some(session) = refused
        && let Ok(successor) = tenancy.eviction.await
    {
        let (done, wait) = oneshot::channel();
        pass_on(shared, successor, Handover { session, will, done: wait }).await;
        let _ = done.send(()); // an error: it did not wait
    }
    true
}

/// Gives what was handed over to whoever wants it next.
async fn pass_on(shared: &Shared, successor: Eviction, mut handover: Handover) {
    let ends = match successor.demand {
        Demand::Resume => None,
        Demand::CleanStart => Some(Ending::Discarded),
        Demand::Kick { end_session } => end_session.then(|| Ending::because(reason::ADMINISTRATIVE_ACTION, "kicked")),
    };
    if let Some(ending) = ends
        && let Some(session) = handover.session.take()
    {
        if let Some(will) = handover.will.take() {
            publish_will(shared, will).await;
        }
        end(shared, session, ending).await;
    }
    if let Err(Handover { session: Some(orphan), .. }) = successor.reply.send(handover) {
        end(shared, orphan, Ending::because(reason::SESSION_TAKEN_OVER, "taken-over")).await;
    }
}
