//! One publish through the pipeline, and what follows from the decision: retain, find the receivers.

use std::sync::Arc;

use super::{Shared, dispatch::Routed, retained::Kept, session::Verdict};
use crate::{
    event::{Action, Client, Detail, DropReason, Dropping, Message, Receipt, Text},
    pipeline::{Decision, Permissions},
};

/// Publishes a message if its client may; the verdict, and what the bus is to carry.
pub(super) async fn publish(
    shared: &Shared,
    client: &Arc<Client>,
    message: Message,
    receipt: Receipt,
    permissions: &mut Permissions,
) -> (Verdict, Option<Routed>) {
    if shared.pipeline.authorizes() {
        let action = Action::Publish(message.qos);
        // Boxed: a connection's task is small where nobody is asked.
        if let Err(refused) = Box::pin(shared.pipeline.authorize(client, action, &message.topic, permissions)).await {
            Box::pin(shared.pipeline.refuse(client, message, &refused, receipt)).await;
            return (Verdict::Denied(refused.denial), None);
        }
    }
    match shared.pipeline.publish(client, message, receipt).await {
        Decision::Accept(message) => {
            let routed = accept(shared, client, message).await;
            (Verdict::Accepted { matched: routed.is_some() }, routed)
        }
        Decision::Swallow => (Verdict::Swallowed, None),
        Decision::Deny(denial) => (Verdict::Denied(denial), None),
    }
}

async fn accept(shared: &Shared, client: &Arc<Client>, message: Arc<Message>) -> Option<Routed> {
    let kept = if message.retain { Some(shared.retained.keep(&message)) } else { None };
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
    (!receivers.is_empty()).then_some(Routed { message, receivers })
}
