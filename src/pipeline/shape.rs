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
