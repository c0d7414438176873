//! The one verdict of all guests that a publish meets: the strictest of deny, dead letter, drop, change and pass.
//!
//! The matching routes are taken in configuration order, and the guests of each in theirs; each sees what the former left, each is asked
//! at most once per message, by the first route that names it. A route is matched against the topic as it is when its turn comes. Nothing is
//! stricter than `deny`, so that it ends the questions. A `drop` does not: whoever comes later may still deny, whichever of them
//! was configured first, and a message that is forged is never acknowledged because somebody else had no use for it.

use std::sync::Arc;

use super::{
    Decision, Pipeline,
    ask::Heard,
    letter::Letter,
    plan::{Plan, Route},
    route::Shaping,
};
use crate::{
    config::OnFailure,
    event::{Changes, Denial, DropReason, Event, Message, PublishVerdict, Text},
    guest::{Asked, Failure, Guest},
    hook::Hook,
    registry::Serving,
};

/// MQTT 5 reason code "implementation specific error": what a client hears when a guest failed.
pub(super) const IMPLEMENTATION_SPECIFIC_ERROR: u8 = 0x83;

/// How the chain of a publish ended.
pub(super) enum Judgement<'a> {
    /// Let through, as it is now, with the shaping of each matching route.
    Through(Arc<Message>, Vec<(&'a Route, Shaping)>),
    /// It reaches nobody.
    Ended(Box<Ending<'a>>),
}

/// The end of a message.
pub(super) struct Ending<'a> {
    /// What the broker does.
    pub(super) decision: Decision,
    /// What `message.dropped` says.
    pub(super) reason: DropReason,
    /// The guest's own words, or who failed and how.
    pub(super) explanation: Text,
    /// The message as the guest saw it that ended it.
    pub(super) message: Arc<Message>,
    /// The event is kept for an operator.
    pub(super) letter: Option<Letter<'a>>,
}

impl Ending<'_> {
    /// Of two ends the stricter one holds, of equals the first. A dead letter is a drop that loses nothing.
    fn strictness(&self) -> u8 {
        match (&self.decision, &self.letter) {
            (Decision::Deny(_), _) => 2,
            (_, Some(_)) => 1,
            (_, None) => 0,
        }
    }
}

/// The one verdict of all routes that a publish meets.
pub(super) async fn judge<'a>(pipeline: &Pipeline, plan: &'a Plan, event: &Event, message: Arc<Message>) -> Judgement<'a> {
    let mut message = message;
    let mut matched: Vec<(&Route, Shaping)> = Vec::new();
    let mut before: Vec<&Arc<Serving>> = Vec::new();
    let mut ended: Option<Box<Ending<'_>>> = None;
    let asked = Asked::new(event.id, event.time_ms, &pipeline.node);
    for route in plan.routes(Hook::MessagePublish) {
        if !route.takes_topic(&message.topic) {
            continue;
        }
        let mut shaping = Shaping::default();
        for guest in &route.guests {
            if before.iter().any(|earlier| Arc::ptr_eq(earlier, guest)) {
                continue; // a nonce is new only once
            }
            before.push(guest);
            let heard = pipeline.ask_publish(route, guest, asked, &event.client, &message).await;
            match weigh(pipeline, route, heard, &message) {
                Weighed::Pass => {}
                Weighed::Change(changes) => apply(changes, &mut message, &mut shaping),
                Weighed::End(end) if matches!(end.decision, Decision::Deny(_)) => return Judgement::Ended(Box::new(end)),
                Weighed::End(end) => {
                    if ended.as_ref().is_none_or(|ended| end.strictness() > ended.strictness()) {
                        ended = Some(Box::new(end));
                    }
                }
            }
        }
        matched.push((route, shaping));
    }
    ended.map_or_else(|| Judgement::Through(message, matched), Judgement::Ended)
}

/// What one guest's answer comes to under its route's policy.
enum Weighed<'a> {
    Pass,
    Change(Changes),
    End(Ending<'a>),
}

fn weigh<'a>(pipeline: &Pipeline, route: &'a Route, heard: Heard<PublishVerdict>, message: &Arc<Message>) -> Weighed<'a> {
    let guest = &heard.by;
    let end =
        |decision, reason, explanation| Weighed::End(Ending { decision, reason, explanation, message: Arc::clone(message), letter: None });
    match heard.answer {
        Ok(PublishVerdict::Pass) => Weighed::Pass,
        Ok(PublishVerdict::Change(changes)) => Weighed::Change(changes),
        Ok(PublishVerdict::Drop(why)) => {
            pipeline.count_refusal(guest.name(), "drop");
            end(Decision::Swallow, DropReason::Filtered, why)
        }
        Ok(PublishVerdict::Deny(denial)) => {
            pipeline.count_refusal(guest.name(), "deny");
            let reason = denial.reason.clone();
            end(Decision::Deny(denial), DropReason::Denied, reason)
        }
        Err(ref failure) if route.on_failure == OnFailure::Pass => {
            note_failure(route, guest, failure);
            Weighed::Pass
        }
        Err(ref failure) => {
            note_failure(route, guest, failure);
            Weighed::End(failed(route, &heard, failure, message))
        }
    }
}

/// What becomes of a message on which a guest failed that does not fail open.
fn failed<'a>(route: &'a Route, heard: &Heard<PublishVerdict>, failure: &Failure, message: &Arc<Message>) -> Ending<'a> {
    let decision = match route.on_failure {
        OnFailure::Deny => Decision::Deny(Denial { reason_code: IMPLEMENTATION_SPECIFIC_ERROR, reason: Text::from_static("guest-failed") }),
        OnFailure::Pass | OnFailure::Drop | OnFailure::DeadLetter => Decision::Swallow,
    };
    let letter = (route.on_failure == OnFailure::DeadLetter).then(|| Letter::new(route, heard, failure));
    let kept = if letter.is_some() { ", kept as a dead letter" } else { "" };
    let explanation = format!("guest {}: {}{kept}", heard.by.name(), failure.reason()).into();
    Ending { decision, reason: DropReason::GuestFailed, explanation, message: Arc::clone(message), letter }
}

fn apply(changes: Changes, message: &mut Arc<Message>, shaping: &mut Shaping) {
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

pub(super) fn note_failure(route: &Route, guest: &Guest, failure: &Failure) {
    let (route, guest, digest) = (&route.name, guest.name(), guest.digest());
    // The guest's own log has it too, in the bounds of its `log_lines_per_s`.
    tracing::debug!(route, guest, digest, %failure, "a guest gave no verdict");
}

#[cfg(test)]
mod tests;
