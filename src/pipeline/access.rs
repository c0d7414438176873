//! `client.authenticate` and `client.authorize`: guests, password file and rules are asked in the configured order, and the first that
//! allows or denies decides. Whoever cannot answer denies, unless the route says to pass.
//!
//! A subscription meets every route whose filters share a topic with it, so that no filter is wide enough to slip past a guest.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Pipeline,
    ask::Heard,
    chain::{IMPLEMENTATION_SPECIFIC_ERROR, note_failure},
    plan::{Plan, Route},
    route::Shaping,
    scope::Scope,
};
use crate::{
    access,
    config::{Authenticator, Authorizer, OnFailure, Permission},
    event::{Action, Answer, Client, Credentials, Denial, Detail, DropReason, Receipt, Ruling, Text, now_ms},
    guest::{Asked, Guest},
    hook::Hook,
    metrics::ReasonLabel,
    registry::Serving,
    topic,
};

/// Answers that one connection remembers, at most: devices publish to few topics.
const MAX_KNOWN: usize = 32;

/// What one connection was told about topics, for a while.
#[derive(Debug, Default)]
pub struct Permissions {
    /// The plan that the answers come from; another plan may say otherwise.
    plan: u64,
    known: VecDeque<Known>,
}

#[derive(Debug)]
struct Known {
    action: Action,
    topic: Text,
    refused: Option<Refused>,
    until: Instant,
}

/// A client may not do what it wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For the client.
    pub denial: Denial,
    /// For `message.dropped`, when it wanted to publish.
    pub reason: DropReason,
}

/// What was decided, and by whom.
pub(super) struct Decided {
    pub(super) refused: Option<Refused>,
    by: Text,
    /// A failure says nothing about the next time.
    lasting: bool,
}

enum Question<'a> {
    Authenticate(&'a Credentials),
    Authorize(Action, &'a str),
}

impl Pipeline {
    /// `client.authenticate`: whether a client may come in.
    ///
    /// # Errors
    /// It may not.
    pub async fn authenticate(&self, client: &Arc<Client>, credentials: &Credentials) -> Result<(), Denial> {
        let plan = self.plan.load_full();
        let decided = self.decide_authentication(&plan, client, credentials).await;
        self.note_decided(&plan, client, Hook::ClientAuthenticate, &decided, None).await;
        decided.refused.map_or(Ok(()), |refused| Err(refused.denial))
    }

    /// Whether anybody could be refused a topic; if not, there is no need to ask.
    pub fn authorizes(&self) -> bool {
        self.plan.load().access.authorizes()
    }

    /// `client.authorize`: whether a client may publish to a topic, or subscribe to a filter. `permissions` are the connection's own.
    ///
    /// # Errors
    /// It may not.
    pub async fn authorize(
        &self,
        client: &Arc<Client>,
        action: Action,
        topic: &Text,
        permissions: &mut Permissions,
    ) -> Result<(), Refused> {
        let plan = self.plan.load_full();
        if !plan.access.authorizes() {
            return Ok(());
        }
        if let Some(known) = permissions.get(plan.number, action, topic, Instant::now()) {
            return known.map_or(Ok(()), Err);
        }
        // Boxed: rare where answers are remembered, and large.
        let decided = Box::pin(async {
            let decided = self.decide_authorization(&plan, client, action, topic).await;
            self.note_decided(&plan, client, Hook::ClientAuthorize, &decided, Some((action, topic.clone()))).await;
            decided
        });
        let decided = decided.await;
        let cache = Duration::from_millis(plan.access.settings().cache_ms);
        if decided.lasting && !cache.is_zero() {
            permissions
                .put(plan.number, Known { action, topic: topic.clone(), refused: decided.refused.clone(), until: Instant::now() + cache });
        }
        decided.refused.map_or(Ok(()), Err)
    }

    async fn decide_authentication(&self, plan: &Plan, client: &Arc<Client>, credentials: &Credentials) -> Decided {
        let access = &plan.access;
        for authenticator in &access.settings().authenticate {
            let decided = match authenticator {
                Authenticator::Guests => self.ask_guests(plan, client, &Question::Authenticate(credentials)).await,
                Authenticator::PasswordFile => Decided::of(access.authenticate(client, credentials).await, "password-file"),
            };
            if let Some(decided) = decided {
                return decided;
            }
        }
        match &client.username {
            None if access.settings().anonymous => Decided::allowed("anonymous"),
            None => Decided::denied(access::not_authorized("a user name is needed"), "anonymous"),
            Some(_) if access.settings().authenticate.is_empty() => Decided::allowed("default"),
            Some(_) => Decided::denied(access::bad_password(), "default"),
        }
    }

    async fn decide_authorization(&self, plan: &Plan, client: &Arc<Client>, action: Action, topic: &str) -> Decided {
        let access = &plan.access;
        let topic = if let Action::Subscribe(_) = action { topic::unshared(topic) } else { topic };
        for authorizer in &access.settings().authorize {
            let decided = match authorizer {
                Authorizer::Guests => self.ask_guests(plan, client, &Question::Authorize(action, topic)).await,
                Authorizer::Acl => Decided::of(access.authorize(client, action, topic), "acl"),
            };
            if let Some(decided) = decided {
                return decided;
            }
        }
        match access.settings().default {
            Permission::Allow => Decided::allowed("default"),
            Permission::Deny => Decided::denied(access::not_authorized("nothing allows it"), "default"),
        }
    }

    /// Asks the guests of all matching routes in order, each once; `None`: all of them abstained.
    async fn ask_guests(&self, plan: &Plan, client: &Arc<Client>, question: &Question<'_>) -> Option<Decided> {
        let hook = question.hook();
        let asked = Asked::new(self.next_id(), now_ms(), &self.node);
        let mut before: Vec<&Arc<Serving>> = Vec::new();
        for route in plan.routes(hook).iter().filter(|route| question.concerns(route)) {
            for guest in &route.guests {
                if before.iter().any(|earlier| Arc::ptr_eq(earlier, guest)) {
                    continue;
                }
                before.push(guest);
                let heard = match question {
                    Question::Authenticate(credentials) => self.ask_authenticate(route, guest, asked, client, credentials).await,
                    Question::Authorize(action, topic) => self.ask_authorize(route, guest, asked, client, (*action, topic)).await,
                };
                if let Some(decided) = weigh(route, heard) {
                    return Some(decided);
                }
            }
        }
        None
    }

    /// Counts and logs a refusal, and makes the records of the routes that name a topic.
    pub(super) async fn note_decided(
        &self,
        plan: &Plan,
        client: &Arc<Client>,
        hook: Hook,
        decided: &Decided,
        asked: Option<(Action, Text)>,
    ) {
        self.count(hook, 1);
        if let Some(Refused { denial, .. }) = &decided.refused {
            let label = ReasonLabel { name: hook.name().to_owned(), reason: decided.by.to_string() };
            self.metrics.access_refusals.get_or_create(&label).inc();
            let topic = asked.as_ref().map_or("", |(_, topic)| topic);
            tracing::info!(hook = hook.name(), client_id = %client.client_id, topic, by = %decided.by, reason = %denial.reason, "access refused");
        }
        if !plan.routes(hook).iter().any(|route| route.recipe.is_some()) {
            return;
        }
        let ruling =
            Ruling { asked: asked.clone(), denial: decided.refused.as_ref().map(|refused| refused.denial.clone()), by: decided.by.clone() };
        let event = self.event(
            client,
            if hook == Hook::ClientAuthorize { Detail::ClientAuthorize(ruling) } else { Detail::ClientAuthenticate(ruling) },
        );
        let concerned = |route: &&Route| match &asked {
            Some((Action::Subscribe(_), filter)) => route.takes_part_of(topic::unshared(filter)),
            _ => route.takes(&event.detail),
        };
        let scope = Scope::new(&event, &self.node);
        for route in plan.routes(hook).iter().filter(|route| route.recipe.is_some()).filter(concerned) {
            self.count_hook(hook);
            self.produce(route, &scope, Shaping::default(), &Receipt::nobody()).await;
        }
    }
}

impl Question<'_> {
    fn hook(&self) -> Hook {
        match self {
            Question::Authenticate(_) => Hook::ClientAuthenticate,
            Question::Authorize(..) => Hook::ClientAuthorize,
        }
    }

    fn concerns(&self, route: &Route) -> bool {
        match self {
            Question::Authenticate(_) => true,
            Question::Authorize(Action::Publish(_), topic) => route.takes_topic(topic),
            Question::Authorize(Action::Subscribe(_), filter) => route.takes_part_of(filter),
        }
    }
}

/// What one guest's answer comes to under its route's policy; `None`: ask the next.
fn weigh(route: &Route, heard: Heard<Answer>) -> Option<Decided> {
    match heard.answer {
        Ok(answer) => Decided::of(answer, heard.by.name()),
        Err(failure) => {
            note_failure(route, &heard.by, &failure);
            if route.on_failure == OnFailure::Pass {
                return None;
            }
            Some(failed(&heard.by))
        }
    }
}

/// Nobody is let through on the word of a guest that gave none.
pub(super) fn failed(guest: &Guest) -> Decided {
    let denial = Denial { reason_code: IMPLEMENTATION_SPECIFIC_ERROR, reason: Text::from_static("guest-failed") };
    Decided { refused: Some(Refused { denial, reason: DropReason::GuestFailed }), by: guest.name().into(), lasting: false }
}

impl Decided {
    fn of(answer: Answer, by: &str) -> Option<Self> {
        match answer {
            Answer::Allow => Some(Decided::allowed(by)),
            Answer::Deny(denial) => Some(Decided::denied(denial, by)),
            Answer::Abstain => None,
        }
    }

    pub(super) fn allowed(by: &str) -> Self {
        Decided { refused: None, by: by.into(), lasting: true }
    }

    pub(super) fn denied(denial: Denial, by: &str) -> Self {
        Decided { refused: Some(Refused { denial, reason: DropReason::Denied }), by: by.into(), lasting: true }
    }
}

impl Permissions {
    /// What is known; the inner `None`: it may.
    #[expect(clippy::option_option, reason = "known or not, refused or not")]
    fn get(&self, plan: u64, action: Action, topic: &str, now: Instant) -> Option<Option<Refused>> {
        if self.plan != plan {
            return None;
        }
        let known = self.known.iter().find(|known| known.action == action && *known.topic == *topic && known.until > now)?;
        Some(known.refused.clone())
    }

    fn put(&mut self, plan: u64, known: Known) {
        if self.plan != plan {
            self.known.clear();
            self.plan = plan;
        }
        self.known.retain(|old| old.action != known.action || old.topic != known.topic);
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::QoS;

    #[test]
    fn answers_are_known_for_a_while_and_under_their_plan() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let (publish, subscribe) = (Action::Publish(QoS::AtLeastOnce), Action::Subscribe(QoS::AtLeastOnce));
        let denial = Denial { reason_code: 0x87, reason: "no".into() };
        let refused = Some(Refused { denial, reason: DropReason::Denied });
        let mut permissions = Permissions::default();
        permissions.put(1, Known { action: publish, topic: "a".into(), refused: None, until: after(60) });
        permissions.put(1, Known { action: subscribe, topic: "a".into(), refused: refused.clone(), until: after(60) });
        for (plan, action, topic, at, expected) in [
            (1, publish, "a", 59, Some(None)),
            (1, subscribe, "a", 59, Some(refused)),
            (1, publish, "b", 0, None),
            (1, Action::Publish(QoS::AtMostOnce), "a", 0, None),
            (1, publish, "a", 60, None),
            (2, publish, "a", 0, None),
        ] {
            assert_eq!(permissions.get(plan, action, topic, after(at)), expected, "{plan} {action:?} {topic} {at}");
        }
        for number in 0..1000 {
            permissions.put(2, Known { action: publish, topic: number.to_string().into(), refused: None, until: after(60) });
        }
        assert_eq!(permissions.known.len(), MAX_KNOWN);
        assert_eq!(permissions.get(2, publish, "999", now), Some(None));
    }
}
