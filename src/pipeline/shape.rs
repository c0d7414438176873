//! What the guests of one route make of an event that merely happened: every route is on its own, and the broker goes on whatever they say.
//!
//! The guests are asked in order. The event stays what it is: what one adds (headers, records) joins what the former added. Who wants no
//! record ends it for this route.

use super::{Pipeline, ask::Heard, chain::note_failure, letter::Letter, plan::Route, route::Shaping};
use crate::{
    config::OnFailure,
    event::{Event, ObserveVerdict},
    guest::Asked,
};

/// What a chain did to the event of a hook that observes.
pub(super) enum Shape<'a> {
    /// The records to make.
    Records(Shaping),
    /// None.
    Nothing,
    /// The dead letter instead.
    DeadLetter(Box<Letter<'a>>),
}

/// Asks the guests of a route.
pub(super) async fn shape<'a>(pipeline: &Pipeline, route: &'a Route, event: &Event) -> Shape<'a> {
    let mut shaping = Shaping::default();
    let asked = Asked::new(event.id, event.time_ms, &pipeline.node);
    for guest in &route.guests {
        let heard = pipeline.ask_observe(route, guest, asked, event).await;
        if let Some(end) = take_in(pipeline, route, heard, &mut shaping) {
            return end;
        }
    }
    Shape::Records(shaping)
}

/// Adds one guest's answer to what there is, unless it ends the chain.
fn take_in<'a>(pipeline: &Pipeline, route: &'a Route, heard: Heard<ObserveVerdict>, shaping: &mut Shaping) -> Option<Shape<'a>> {
    match heard.answer {
        Ok(ObserveVerdict::Pass) => None,
        Ok(ObserveVerdict::Annotate(headers)) => {
            shaping.headers.extend(headers);
            None
        }
        Ok(ObserveVerdict::Emit(records)) => {
            shaping.records.get_or_insert_default().extend(records);
            None
        }
        Ok(ObserveVerdict::Drop(why)) => {
            pipeline.count_refusal(heard.by.name(), "drop");
            tracing::debug!(route = route.name, guest = heard.by.name(), %why, "a guest wants no record of this event");
            Some(Shape::Nothing)
        }
        Err(ref failure) => {
            note_failure(route, &heard.by, failure);
            match route.on_failure {
                OnFailure::Pass => None,
                OnFailure::Drop | OnFailure::Deny => Some(Shape::Nothing),
                OnFailure::DeadLetter => Some(Shape::DeadLetter(Box::new(Letter::new(route, &heard, failure)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{Detail, DropReason, Dropping},
        hook::Hook,
        pipeline::stage::{Stage, event, message, routes_of},
    };

    /// What the first route makes of it, in words.
    async fn outcome(stage: &Stage, text: &str) -> String {
        let plan = stage.plan(&routes_of("message.dropped", text)).await;
        let dropping = Dropping { message: Arc::new(message()), reason: DropReason::Denied, explanation: "no".into() };
        let event = event(Detail::MessageDropped(dropping));
        let [route] = plan.routes(Hook::MessageDropped) else { panic!("one route") };
        match shape(&stage.pipeline, route, &event).await {
            Shape::Records(Shaping { headers, records }) => {
                format!("{} headers, {:?} records", headers.len(), records.map(|records| records.len()))
            }
            Shape::Nothing => "nothing".to_owned(),
            Shape::DeadLetter(letter) => format!("letter of {}", letter.guest()),
        }
    }

    #[tokio::test]
    async fn what_guests_add_comes_together_until_one_wants_nothing() {
        let stage = Stage::new(&["pass", "one", "two", "emit", "drop", "trap"]).await;
        for (text, expected) in [
            ("a: pass", "0 headers, None records"),
            ("a: one two", "2 headers, None records"),
            ("a: one one", "2 headers, None records"), // asked for each time that it is named: nothing is decided
            ("a: emit one", "1 headers, Some(2) records"),
            ("a: emit emit", "0 headers, Some(4) records"),
            ("a: one drop two", "nothing"),
            ("a: one trap", "letter of trap"),
            ("a: emit trap on-failure=drop", "nothing"),
            ("a: one trap two on-failure=pass", "2 headers, None records"),
            ("a: drop trap", "nothing"),
            ("a: trap drop", "letter of trap"),
        ] {
            assert_eq!(outcome(&stage, text).await, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_after_a_drop() {
        let stage = Stage::new(&["drop", "one"]).await;
        outcome(&stage, "a: drop one").await;
        assert_eq!((stage.calls("drop"), stage.calls("one")), (1, 0));
    }
}
