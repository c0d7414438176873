//! One guest in service, whichever of its versions answers whom.

use std::sync::Arc;

use crate::{
    event::{Action, Answer, Client, Credentials, Event, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict, Round},
    guest::{Asked, Failure, Guest},
    hook::Hook,
};

/// A guest by its name, as routes ask it.
#[derive(Debug)]
pub struct Serving {
    current: Arc<Guest>,
}

/// What a guest answered, and which of its versions.
#[derive(Debug)]
pub struct Answered<T> {
    /// The version that was asked.
    pub by: Arc<Guest>,
    /// Its answer.
    pub answer: Result<T, Failure>,
}

impl Serving {
    pub(super) fn new(current: Arc<Guest>) -> Arc<Self> {
        Arc::new(Serving { current })
    }

    /// How routes name it.
    pub fn name(&self) -> &str {
        self.current.name()
    }

    /// The version that most clients meet.
    pub fn current(&self) -> &Arc<Guest> {
        &self.current
    }

    /// The version that this client meets.
    pub fn version_for(&self, _client: &Client) -> &Arc<Guest> {
        &self.current
    }

    /// Whether it wants this hook's events.
    pub fn wants(&self, hook: Hook) -> bool {
        self.current.wants(hook)
    }

    /// Whether it knows enhanced authentication.
    pub fn knows_methods(&self) -> bool {
        self.current.knows_methods()
    }

    /// Asks about a message that was published.
    pub async fn publish(&self, asked: Asked<'_>, client: &Arc<Client>, message: &Arc<Message>) -> Answered<PublishVerdict> {
        let by = Arc::clone(self.version_for(client));
        let answer = by.publish(asked, client, message).await;
        Answered { by, answer }
    }

    /// Asks about something that happened.
    pub async fn observe(&self, asked: Asked<'_>, event: &Event) -> Answered<ObserveVerdict> {
        let by = Arc::clone(self.version_for(&event.client));
        let answer = by.observe(asked, event).await;
        Answered { by, answer }
    }

    /// Asks whether a client may come in.
    pub async fn authenticate(&self, asked: Asked<'_>, client: &Arc<Client>, credentials: &Credentials) -> Answered<Answer> {
        let by = Arc::clone(self.version_for(client));
        let answer = by.authenticate(asked, client, credentials).await;
        Answered { by, answer }
    }

    /// Asks whether a client may do something with a topic; a filter comes without `$share/group/`.
    pub async fn authorize(&self, asked: Asked<'_>, client: &Arc<Client>, action: Action, topic: &str) -> Answered<Answer> {
        let by = Arc::clone(self.version_for(client));
        let answer = by.authorize(asked, client, action, topic).await;
        Answered { by, answer }
    }

    /// Asks about one round of enhanced authentication; `by` is the version that began the exchange.
    pub async fn step(
        &self,
        asked: Asked<'_>,
        by: Option<&Arc<Guest>>,
        client: &Arc<Client>,
        round: Round<'_>,
    ) -> Answered<ExchangeVerdict> {
        let by = Arc::clone(by.unwrap_or_else(|| self.version_for(client)));
        let answer = by.step(asked, client, round).await;
        Answered { by, answer }
    }
}
