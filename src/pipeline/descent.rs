//! The way down: what the guests of a downlink make of a record that came from Kafka.
//!
//! The guests are asked in order; each sees the record and what the former left of its messages. A drop ends it: as on the way up nothing
//! that a guest refused reaches anybody, and `message.dropped` tells of each message that would have been published, so that routes can
//! keep an audit. Absent: templates and the broker (the source's), captures and shadows of these calls.

use std::sync::Arc;

use super::{Pipeline, ask::Heard, plan::Plan};
use crate::{
    config::OnFailure,
    event::{Client, Descent, DescentVerdict, Detail, DropReason, Dropping, Message, Receipt, Text},
    guest::{Asked, Failure, Guest},
};

/// What becomes of a record.
#[derive(Debug)]
pub enum Descended {
    /// These messages, in order.
    Publish(Vec<Message>),
    /// Nothing: a guest dropped it, or gave no verdict and the downlink says to drop it then.
    Dropped {
        /// Which of the two.
        reason: DropReason,
        /// Who, and in its words why.
        explanation: Text,
    },
    /// A guest gave no verdict, and the downlink says to keep the record for an operator.
    Failed(Box<Fallen>),
}

/// Who failed on a record, and how.
#[derive(Debug)]
pub struct Fallen {
    /// The version that was asked last.
    pub guest: Arc<Guest>,
    /// Its last failure.
    pub failure: Failure,
    /// How often it was asked.
    pub calls: u32,
}

impl Pipeline {
    /// Asks the guests of a downlink about a record. `receipt` is settled when what tells of the end of its messages is stored, too.
    pub async fn descend(&self, client: &Arc<Client>, descent: Descent, receipt: &Receipt) -> Descended {
        let plan = self.plan.load_full();
        let Some(below) = plan.below(&descent.downlink) else { return Descended::Publish(descent.messages) };
        let asked = Asked::new(self.next_id(), descent.received_at_ms, &self.node);
        let mut descent = Arc::new(descent);
        for guest in &below.guests {
            let Heard { by, answer, calls } = self.patiently(below.retry, guest, || guest.descend(asked, &descent)).await;
            let (reason, explanation) = match answer {
                Ok(DescentVerdict::Pass) => continue,
                Ok(DescentVerdict::Publish(messages)) => {
                    Arc::make_mut(&mut descent).messages = messages;
                    continue;
                }
                Ok(DescentVerdict::Drop(why)) => {
                    self.count_refusal(by.name(), "drop");
                    (DropReason::Filtered, why)
                }
                Err(failure) => {
                    let (downlink, guest, digest) = (&*descent.downlink, by.name(), by.digest());
                    tracing::debug!(downlink, guest, digest, %failure, "a guest gave no verdict");
                    match below.on_failure {
                        OnFailure::Pass => continue,
                        OnFailure::DeadLetter => {
                            self.metrics.guest_dead_letters.get_or_create(&by.name().into()).inc();
                            let kept = format!("guest {}: {}, kept as a dead letter", by.name(), failure.reason());
                            self.tell_of_end(&plan, client, &descent, DropReason::GuestFailed, kept.into(), receipt).await;
                            return Descended::Failed(Box::new(Fallen { guest: by, failure, calls }));
                        }
                        OnFailure::Drop | OnFailure::Deny => {
                            (DropReason::GuestFailed, format!("guest {}: {}", by.name(), failure.reason()).into())
                        }
                    }
                }
            };
            self.tell_of_end(&plan, client, &descent, reason, explanation.clone(), receipt).await;
            return Descended::Dropped { reason, explanation };
        }
        Descended::Publish(Arc::unwrap_or_clone(descent).messages)
    }

    /// `message.dropped` for a message that a downlink does not publish.
    pub async fn descent_ended(&self, client: &Arc<Client>, message: Message, reason: DropReason, receipt: &Receipt) {
        let dropping = Dropping { message: Arc::new(message), reason, explanation: Text::new() };
        self.happened(&self.plan.load_full(), client, Detail::MessageDropped(dropping), receipt).await;
    }

    async fn tell_of_end(
        &self,
        plan: &Plan,
        client: &Arc<Client>,
        descent: &Descent,
        reason: DropReason,
        explanation: Text,
        receipt: &Receipt,
    ) {
        for message in &descent.messages {
            let dropping = Dropping { message: Arc::new(message.clone()), reason, explanation: explanation.clone() };
            self.happened(plan, client, Detail::MessageDropped(dropping), receipt).await;
        }
    }
}

#[cfg(test)]
mod tests;
