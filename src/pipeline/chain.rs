//! Asks the guests of the routes that an event meets, in configuration order.
//!
//! On `message.publish` all matching routes make *one* verdict: their guests are asked one after the other, each seeing what the former
//! left, each at most once per message, and the first `deny` or `drop` ends it. A route is matched against the topic as it is when its
//! turn comes. On hooks that observe, every route is on its own: its guests shape its records.

use std::sync::Arc;

use crate::{
    config::OnFailure,
    event::{Denial, DropReason, Event, Message, ObserveVerdict, PublishVerdict, Text},
    guest::{Asked, Failure, Guest},
    registry::{Answered, Serving},
};

use super::{
    Decision, Pipeline,
    plan::{Plan, Route},
    route::Shaping,
};

/// MQTT 5 reason code "implementation specific error": what a client hears when a guest failed.
pub(super) const IMPLEMENTATION_SPECIFIC_ERROR: u8 = 0x83;

/// How the chain of a publish ended.
pub(super) enum Judgement<'a> {
    /// Let through, as it is now, with the shaping of each matching route.
    Through(Arc<Message>, Vec<(&'a Route, Shaping)>),
    /// Ended, with what the broker does and what `message.dropped` says.
    Ended(Decision, DropReason, Text),
    /// Set aside for the dead letter topic.
    DeadLetter { route: &'a Route, guest: String, failure: String },
}

/// What a chain did to the event of a hook that observes.
pub(super) enum Shape {
    /// The records to make.
    Records(Shaping),
    /// None.
    Nothing,
    /// The dead letter instead.
    DeadLetter { guest: String, failure: String },
}

/// The one verdict of all routes that a publish meets.
pub(super) async fn judge<'a>(pipeline: &Pipeline, plan: &'a Plan, event: &Event, message: Arc<Message>) -> Judgement<'a> {
    let mut message = message;
    let mut matched: Vec<(&Route, Shaping)> = Vec::new();
    let mut before: Vec<&Arc<Serving>> = Vec::new();
    let asked = Asked { id: event.id, time_ms: event.time_ms, node: &pipeline.node };
    for route in plan.routes(crate::hook::Hook::MessagePublish) {
        if !route.takes_topic(&message.topic) {
            continue;
        }
        let mut shaping = Shaping::default();
        for guest in &route.guests {
            if before.iter().any(|earlier| Arc::ptr_eq(earlier, guest)) {
                continue; // a nonce is new only once
            }
            before.push(guest);
            let Answered { by, answer } = guest.publish(asked, &event.client, &message).await;
            match weigh(pipeline, route, &by, answer) {
                Weighed::Pass => {}
                Weighed::Change(changes) => apply(changes, &mut message, &mut shaping),
                Weighed::End(decision, reason, words) => return Judgement::Ended(decision, reason, words),
                Weighed::DeadLetter(failure) => {
                    return Judgement::DeadLetter { route, guest: guest.name().to_owned(), failure };
                }
            }
        }
        matched.push((route, shaping));
    }
    Judgement::Through(message, matched)
}

/// What one guest's answer comes to under its route's policy.
enum Weighed {
    Pass,
    Change(crate::event::Changes),
    End(Decision, DropReason, Text),
    DeadLetter(String),
}

fn weigh(pipeline: &Pipeline, route: &Route, guest: &Guest, answer: Result<PublishVerdict, Failure>) -> Weighed {
    match answer {
        Ok(PublishVerdict::Pass) => Weighed::Pass,
        Ok(PublishVerdict::Change(changes)) => Weighed::Change(changes),
        Ok(PublishVerdict::Drop(why)) => {
            pipeline.count_refusal(guest.name(), "drop");
            Weighed::End(Decision::Swallow, DropReason::Filtered, why)
        }
        Ok(PublishVerdict::Deny(denial)) => {
            pipeline.count_refusal(guest.name(), "deny");
            let reason = denial.reason.clone();
            Weighed::End(Decision::Deny(denial), DropReason::Denied, reason)
        }
        Err(failure) => {
            note_failure(route, guest, &failure);
            let words = format!("guest {}: {}", guest.name(), failure.reason());
            match route.on_failure {
                OnFailure::Pass => Weighed::Pass,
                OnFailure::Drop => Weighed::End(Decision::Swallow, DropReason::GuestFailed, words.into()),
                OnFailure::DeadLetter => Weighed::DeadLetter(failure.to_string()),
                OnFailure::Deny => {
                    let denial = Denial { reason_code: IMPLEMENTATION_SPECIFIC_ERROR, reason: Text::from_static("guest-failed") };
                    Weighed::End(Decision::Deny(denial), DropReason::GuestFailed, words.into())
                }
            }
        }
    }
}

fn apply(changes: crate::event::Changes, message: &mut Arc<Message>, shaping: &mut Shaping) {
    if let Some(changed) = changes.message {
        *message = Arc::new(changed);
    }
    if !changes.headers.is_empty() {
        Arc::make_mut(message).annotations.extend(changes.headers);
    }
    if let Some(records) = changes.records {
        shaping.records.get_or_insert_default().extend(records);
    }
}

/// What the guests of one route make of an event that merely happened.
pub(super) async fn shape(pipeline: &Pipeline, route: &Route, event: &Event) -> Shape {
    let mut shaping = Shaping::default();
    let asked = Asked { id: event.id, time_ms: event.time_ms, node: &pipeline.node };
    for guest in &route.guests {
        let Answered { by, answer } = guest.observe(asked, event).await;
        match answer {
            Ok(ObserveVerdict::Pass) => {}
            Ok(ObserveVerdict::Annotate(headers)) => shaping.headers.extend(headers),
            Ok(ObserveVerdict::Emit(records)) => shaping.records.get_or_insert_default().extend(records),
            Ok(ObserveVerdict::Drop(why)) => {
                pipeline.count_refusal(guest.name(), "drop");
                tracing::debug!(route = route.name, guest = guest.name(), %why, "a guest wants no record of this event");
                return Shape::Nothing;
            }
            Err(failure) => {
                note_failure(route, &by, &failure);
                match route.on_failure {
                    OnFailure::Pass => {}
                    OnFailure::Drop | OnFailure::Deny => return Shape::Nothing,
                    OnFailure::DeadLetter => {
                        return Shape::DeadLetter { guest: guest.name().to_owned(), failure: failure.to_string() };
                    }
                }
            }
        }
    }
    Shape::Records(shaping)
}

pub(super) fn note_failure(route: &Route, guest: &Guest, failure: &Failure) {
    tracing::warn!(route = route.name, guest = guest.name(), digest = guest.digest(), %failure, "a guest gave no verdict");
}
