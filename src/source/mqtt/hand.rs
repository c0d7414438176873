//! The node's own hand: messages that reach the broker without a client, from a source beside it. Nobody is asked: neither `message.publish`
//! nor `client.authorize` is raised, and no route of theirs makes a record. What follows is as for every message: retain, receivers,
//! `message.delivered`, `message.acked`, `message.dropped`.

use std::sync::{Arc, Weak};

use super::{Broker, Shared, dispatch::MAX_BATCH, publish::accept, session::Trace};
use crate::event::{Client, Message, Outcome, Receipt};

/// Publishes in the node's own name; cheap to clone. It does not keep the broker alive.
#[derive(Clone, Debug)]
pub struct Hand {
    shared: Weak<Shared>,
}

impl Broker {
    /// The hand of this broker.
    pub fn hand(&self) -> Hand {
        Hand { shared: Arc::downgrade(&self.shared) }
    }
}

impl Hand {
    /// Publishes messages in order, waiting for room. `receipt` is settled when the broker has all of them: they are in the queues of their
    /// receivers, and in the store as far as it keeps these and retained ones; without a broker it is not.
    pub async fn publish(&self, client: &Arc<Client>, messages: Vec<Message>, receipt: Receipt) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut batch = Vec::new();
        for message in messages {
            let (_, routed) = accept(&shared, client, Arc::new(message), Some(receipt.clone()), Trace::None).await;
            batch.extend(routed);
            if batch.len() >= MAX_BATCH {
                shared.bus.send(&client.client_id, &mut batch).await;
            }
        }
        if !batch.is_empty() {
            shared.bus.send(&client.client_id, &mut batch).await;
        }
        receipt.settle(Outcome::Stored);
    }
}
