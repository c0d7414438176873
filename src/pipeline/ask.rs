//! Asks one guest for one route: the only place where the pipeline meets [`Serving`], one function per kind of question.
//!
//! Where the route says `retry`, a guest that gave no verdict is asked again, by the same event id, after a wait that doubles each time. The
//! caller waits along, so that the events of one connection keep their order. What a failed call has written stays written. Every call
//! goes through [`Serving`] anew: a version that was rolled back meanwhile, or a circuit that closed, makes itself felt.
//!
//! Where the route says `capture`, the last call is recorded ([`super::capture`]).

use std::{sync::Arc, time::Duration};

use super::{Pipeline, plan::Route};
use crate::{
    config::Retry,
    event::{Action, Answer, Client, Credentials, Event, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict, Round},
    guest::{Asked, Failure, Guest, Question},
    registry::{Answered, Serving},
};

/// What a guest said in the end.
pub(super) struct Heard<T> {
    /// The version that was asked last.
    pub(super) by: Arc<Guest>,
    /// Its last answer.
    pub(super) answer: Result<T, Failure>,
    /// How often the guest was asked.
    pub(super) calls: u32,
}

impl Pipeline {
    /// Asks about a message that was published.
    pub(super) async fn ask_publish(
        &self,
        route: &Route,
        guest: &Serving,
        asked: Asked<'_>,
        client: &Arc<Client>,
        message: &Arc<Message>,
    ) -> Heard<PublishVerdict> {
        let trace = route.trace(asked);
        let asked = Asked { trace: trace.as_ref(), ..asked };
        let heard = self.patiently(route.retry, guest, || guest.publish(asked, client, message)).await;
        if let Some(trace) = &trace {
            self.note_call(route, trace, asked, client, &heard, Question::Publish(Arc::clone(message)));
        }
        heard
    }

    /// Asks about something that happened.
    pub(super) async fn ask_observe(&self, route: &Route, guest: &Serving, asked: Asked<'_>, event: &Event) -> Heard<ObserveVerdict> {
        let trace = route.trace(asked);
        let asked = Asked { trace: trace.as_ref(), ..asked };
        let heard = self.patiently(route.retry, guest, || guest.observe(asked, event)).await;
        if let Some(trace) = &trace {
            self.note_call(route, trace, asked, &event.client, &heard, Question::Observe(event.detail.clone()));
        }
        heard
    }

    /// Asks whether a client may come in.
    pub(super) async fn ask_authenticate(
        &self,
        route: &Route,
        guest: &Serving,
        asked: Asked<'_>,
        client: &Arc<Client>,
        credentials: &Credentials,
    ) -> Heard<Answer> {
        let trace = route.trace(asked);
        let asked = Asked { trace: trace.as_ref(), ..asked };
        let heard = self.patiently(route.retry, guest, || guest.authenticate(asked, client, credentials)).await;
        if let Some(trace) = &trace {
            self.note_call(route, trace, asked, client, &heard, credentials.into());
        }
        heard
    }

    /// Asks whether a client may do something with a topic.
    pub(super) async fn ask_authorize(
        &self,
        route: &Route,
        guest: &Serving,
        asked: Asked<'_>,
        client: &Arc<Client>,
        (action, topic): (Action, &str),
    ) -> Heard<Answer> {
        let trace = route.trace(asked);
        let asked = Asked { trace: trace.as_ref(), ..asked };
        let heard = self.patiently(route.retry, guest, || guest.authorize(asked, client, action, topic)).await;
        if let Some(trace) = &trace {
            self.note_call(route, trace, asked, client, &heard, Question::Authorize { action, topic: topic.into() });
        }
        heard
    }

    /// Asks about one round of enhanced authentication; `partner` is the version that began the exchange.
    pub(super) async fn ask_step(
        &self,
        route: &Route,
        guest: &Serving,
        asked: Asked<'_>,
        partner: Option<&Arc<Guest>>,
        client: &Arc<Client>,
        round: Round<'_>,
    ) -> Heard<ExchangeVerdict> {
        let trace = route.trace(asked);
        let asked = Asked { trace: trace.as_ref(), ..asked };
        let heard = self.patiently(route.retry, guest, || guest.step(asked, partner, client, round)).await;
        if let Some(trace) = &trace {
            self.note_call(route, trace, asked, client, &heard, round.into());
        }
        heard
    }

    /// Asks, and asks again as often as `retry` says.
    pub(super) async fn patiently<T, F>(&self, retry: Option<Retry>, guest: &Serving, ask: impl Fn() -> F) -> Heard<T>
    where
        F: Future<Output = Answered<T>>,
    {
        let Answered { by, answer } = ask().await;
        let heard = Heard { by, answer, calls: 1 };
        match (&heard.answer, retry) {
            (Err(failure), Some(retry)) if failure.may_pass() => {
                Box::pin(self.ask_again(heard, retry, guest, ask)).await // boxed: rare, and as large as the first call
            }
            _ => heard,
        }
    }

    async fn ask_again<T, F>(&self, first: Heard<T>, retry: Retry, guest: &Serving, ask: impl Fn() -> F) -> Heard<T>
    where
        F: Future<Output = Answered<T>>,
    {
        let mut heard = first;
        let mut backoff = retry.backoff;
        while heard.calls <= retry.times && heard.answer.as_ref().is_err_and(Failure::may_pass) {
            self.pause(backoff).await;
            backoff = (2 * backoff).min(Retry::MAX_BACKOFF);
            self.metrics.guest_retries.get_or_create(&guest.name().into()).inc();
            let Answered { by, answer } = ask().await;
            heard = Heard { by, answer, calls: heard.calls + 1 };
        }
        heard
    }

    /// Waits before a guest is asked again; not at all once the process is ending.
    async fn pause(&self, backoff: Duration) {
        let mut hurried = self.hurried.subscribe();
        // An end of the wait either way.
        let _ = tokio::time::timeout(backoff, hurried.wait_for(|hurried| *hurried)).await;
    }

    /// From now on nobody waits before a guest is asked again: what is left of its calls is made at once, and then `on_failure` decides. For
    /// the end of the process, whose deadline must not be spent on waiting.
    pub fn hurry(&self) {
        self.hurried.send_replace(true);
    }
}
