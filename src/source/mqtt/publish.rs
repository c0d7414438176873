//! One publish through the pipeline, and what follows from the decision: retain, find the receivers.
//!
//! Where the store has a part in it, the receipt gets one more share: it is settled when the message is durable wherever it must be.

use std::sync::Arc;

use super::{
    Shared,
    dispatch::{Routed, Stored},
    retained::Kept,
    session::{Trace, Verdict},
};
use crate::{
    event::{Action, Client, Detail, DropReason, Dropping, Message, Outcome, Receipt, Text},
    pipeline::{Decision, Permissions},
    store::Store,
};

/// Publishes a message if its client may; the verdict, and what the bus is to carry.
pub(super) async fn publish(
    shared: &Shared,
    client: &Arc<Client>,
    message: Message,
    receipt: Receipt,
    trace: Trace,
    permissions: &mut Permissions,
) -> (Verdict, Option<Routed>) {
    if trace == Trace::Delivered && shared.pipeline.is_stored(&message.topic, &receipt).await {
        receipt.settle(Outcome::Stored);
        return (Verdict::Accepted { matched: true }, None);
    }
    if shared.pipeline.authorizes() {
        let action = Action::Publish(message.qos);
        // Boxed: a connection's task is small where nobody is asked.
        if let Err(refused) = Box::pin(shared.pipeline.authorize(client, action, &message.topic, permissions)).await {
            Box::pin(shared.pipeline.refuse(client, message, &refused, receipt)).await;
            return (Verdict::Denied(refused.denial), None);
        }
    }
    let share = shared.store.as_ref().map(|_| receipt.clone());
    match shared.pipeline.publish(client, message, receipt).await {
        Decision::Accept(message) => {
            let (matched, routed) = accept(shared, client, message, share, trace).await;
            (Verdict::Accepted { matched }, routed)
        }
        Decision::Swallow => {
            settle(shared.store.as_ref(), share, trace);
            (Verdict::Swallowed, None)
        }
        Decision::Deny(denial) => {
            settle(None, share, trace);
            (Verdict::Denied(denial), None)
        }
    }
}

/// Whether there are receivers, and what the bus is to carry.
pub(super) async fn accept(
    shared: &Shared,
    client: &Arc<Client>,
    message: Arc<Message>,
    share: Option<Receipt>,
    trace: Trace,
) -> (bool, Option<Routed>) {
    if trace == Trace::Delivered {
        settle(None, share, trace);
        return (true, None);
    }
    let kept = if message.retain { Some(retain(shared, &message, share.as_ref()).await) } else { None };
    let receivers = shared.subscriptions.receivers(&message.topic, &client.client_id);
    let drop = match kept {
        Some(Kept::Full) => Some((DropReason::QueueFull, "the store of retained messages is full")),
        None | Some(Kept::Cleared) if receivers.is_empty() => Some((DropReason::NoSubscribers, "")),
        _ => None,
    };
    if let Some((reason, text)) = drop {
        let dropping = Dropping { message: Arc::clone(&message), reason, explanation: Text::from_static(text) };
        shared.pipeline.observe(client, Detail::MessageDropped(dropping)).await;
    }
    if receivers.is_empty() {
        settle(shared.store.as_ref(), share, trace);
        return (false, None);
    }
    let stored = share.is_some() && receivers.store(&message);
    let stored = match (share, trace) {
        (Some(share), Trace::With(change)) => Some(Stored { change: Some(change), share }),
        (Some(share), _) if stored => Some(Stored { change: None, share }),
        (share, _) => {
            share.into_iter().for_each(|share| share.settle(Outcome::Stored));
            None
        }
    };
    (true, Some(Routed { message, receivers, stored }))
}

async fn retain(shared: &Shared, message: &Arc<Message>, share: Option<&Receipt>) -> Kept {
    if let Some(store) = &shared.store {
        store.room().await;
    }
    shared.retained.keep(message, share)
}

/// The publish has no deliveries to wait for: only its own trace, if `store` is to keep it.
fn settle(store: Option<&Store>, share: Option<Receipt>, trace: Trace) {
    let Some(share) = share else { return };
    match (store, trace) {
        (Some(store), Trace::With(change)) => {
            let mut batch = store.batch();
            batch.add(change);
            batch.share(share);
        }
        _ => share.settle(Outcome::Stored),
    }
}
