//! One guest in service, whichever of its versions answers whom.
//!
//! A snapshot, as the plan is: another version for everybody is another [`Serving`]. Two switches act at once and under every plan, because what
//! they turn off is bad: a canary that is over, and a version whose circuit opened on probation. Invariant: a client meets one version at a
//! time, and its calls are made where its events are handled, so that nothing here can reorder them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    candidate::{Canary, Outcome},
    shadow::Shadow,
};
use crate::{
    event::{
        Action, Answer, Client, Credentials, Descent, DescentVerdict, Event, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict,
        Round,
    },
    guest::{Asked, Failure, Guest, Question, Trace, Verdict},
    hook::Hook,
};

/// A guest by its name, as routes ask it.
#[derive(Debug)]
pub struct Serving {
    pub(super) current: Arc<Guest>,
    pub(super) probation: Option<Arc<Probation>>,
    pub(super) beside: Option<Beside>,
}

/// A new version that not everybody meets.
#[derive(Clone, Debug)]
pub(super) enum Beside {
    /// A part of the clients meets it.
    Canary(Arc<Canary>),
    /// It sees copies of a part of the clients' events.
    Shadow(Arc<Shadow>),
}

/// The first time of a new version, in which the one before can come back.
#[derive(Debug)]
pub(super) struct Probation {
    /// The version before, if it is still there with its instances.
    pub(super) former: Option<Arc<Guest>>,
    pub(super) until: Instant,
    failed: AtomicBool,
}

/// What a guest answered, and which of its versions.
#[derive(Debug)]
pub struct Answered<T> {
    /// The version that was asked.
    pub by: Arc<Guest>,
    /// Its answer.
    pub answer: Result<T, Failure>,
}

impl Probation {
    pub(super) fn new(former: Option<Arc<Guest>>, until: Instant) -> Arc<Self> {
        Arc::new(Probation { former, until, failed: AtomicBool::new(false) })
    }

    /// The version before answers from now on.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Beside {
    pub(super) fn guest(&self) -> &Arc<Guest> {
        match self {
            Beside::Canary(canary) => &canary.guest,
            Beside::Shadow(shadow) => &shadow.guest,
        }
    }

    /// Its component.
    pub(super) fn bytes(&self) -> Arc<[u8]> {
        match self {
            Beside::Canary(canary) => Arc::clone(&canary.bytes),
            Beside::Shadow(shadow) => Arc::clone(&shadow.bytes),
        }
    }

    /// `canary` or `shadow`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Beside::Canary(_) => "canary",
            Beside::Shadow(_) => "shadow",
        }
    }

    /// The part of the clients whose events it sees.
    pub(super) fn share(&self) -> f64 {
        match self {
            Beside::Canary(canary) => canary.settings.share,
            Beside::Shadow(shadow) => shadow.settings.share,
        }
    }

    /// When it is to be looked at, at the latest.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match self {
            Beside::Canary(canary) => Some(canary.due(now)),
            Beside::Shadow(_) => None, // until somebody decides
        }
    }
}

impl Serving {
    pub(super) fn new(current: Arc<Guest>, probation: Option<Arc<Probation>>, beside: Option<Beside>) -> Arc<Self> {
        Arc::new(Serving { current, probation, beside })
    }

    /// How routes name it.
    pub fn name(&self) -> &str {
        self.current.name()
    }

    /// The version that most clients meet.
    pub fn current(&self) -> &Arc<Guest> {
        match self.probation.as_deref() {
            Some(Probation { former: Some(former), failed, .. }) if failed.load(Ordering::Acquire) => former,
            _ => &self.current,
        }
    }

    /// The version that this client meets.
    pub fn version_for(&self, client: &Client) -> &Arc<Guest> {
        match &self.beside {
            Some(Beside::Canary(canary)) if canary.takes(&client.client_id) => &canary.guest,
            _ => self.current(),
        }
    }

    /// All versions that somebody may meet.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Arc<Guest>> {
        std::iter::once(&self.current).chain(self.beside.as_ref().map(Beside::guest))
    }

    /// Whether it wants this hook's events.
    pub fn wants(&self, hook: Hook) -> bool {
        self.current.wants(hook)
    }

    /// Whether it knows enhanced authentication.
    pub fn knows_methods(&self) -> bool {
        self.versions().any(|version| version.knows_methods())
    }

    /// Asks about a message that was published.
    pub async fn publish(&self, asked: Asked<'_>, client: &Arc<Client>, message: &Arc<Message>) -> Answered<PublishVerdict> {
        let by = Arc::clone(self.version_for(client));
        let copying = self.copying(client);
        let asked = traced(asked, copying.as_ref());
        let answer = by.publish(asked, client, message).await;
        if let Some(copying) = &copying {
            copying.copy(&by, asked, client, Question::Publish(Arc::clone(message)), &answer);
        }
        let refused = |verdict: &PublishVerdict| matches!(verdict, PublishVerdict::Drop(_) | PublishVerdict::Deny(_));
        self.noted(by, answer, refused)
    }

    /// Asks about something that happened.
    pub async fn observe(&self, asked: Asked<'_>, event: &Event) -> Answered<ObserveVerdict> {
        let by = Arc::clone(self.version_for(&event.client));
        let copying = self.copying(&event.client);
        let asked = traced(asked, copying.as_ref());
        let answer = by.observe(asked, event).await;
        if let Some(copying) = &copying {
            copying.copy(&by, asked, &event.client, Question::Observe(event.detail.clone()), &answer);
        }
        self.noted(by, answer, |verdict| matches!(verdict, ObserveVerdict::Drop(_)))
    }

    /// Asks whether a client may come in.
    pub async fn authenticate(&self, asked: Asked<'_>, client: &Arc<Client>, credentials: &Credentials) -> Answered<Answer> {
        let by = Arc::clone(self.version_for(client));
        let copying = self.copying(client);
        let asked = traced(asked, copying.as_ref());
        let answer = by.authenticate(asked, client, credentials).await;
        if let Some(copying) = &copying {
            copying.copy(&by, asked, client, credentials.into(), &answer);
        }
        self.noted(by, answer, |answer| matches!(answer, Answer::Deny(_)))
    }

    /// Asks whether a client may do something with a topic; a filter comes without `$share/group/`.
    pub async fn authorize(&self, asked: Asked<'_>, client: &Arc<Client>, action: Action, topic: &str) -> Answered<Answer> {
        let by = Arc::clone(self.version_for(client));
        let copying = self.copying(client);
        let asked = traced(asked, copying.as_ref());
        let answer = by.authorize(asked, client, action, topic).await;
        if let Some(copying) = &copying {
            copying.copy(&by, asked, client, Question::Authorize { action, topic: topic.into() }, &answer);
        }
        self.noted(by, answer, |answer| matches!(answer, Answer::Deny(_)))
    }

    /// Asks about one round of enhanced authentication; `by` is the version that began the exchange, and ends it.
    pub async fn step(
        &self,
        asked: Asked<'_>,
        by: Option<&Arc<Guest>>,
        client: &Arc<Client>,
        round: Round<'_>,
    ) -> Answered<ExchangeVerdict> {
        let by = Arc::clone(by.unwrap_or_else(|| self.version_for(client)));
        if !by.knows_methods() {
            return Answered { by, answer: Ok(ExchangeVerdict::Abstain) }; // another of its versions does
        }
        let answer = by.step(asked, client, round).await;
        self.noted(by, answer, |verdict| matches!(verdict, ExchangeVerdict::Deny(_)))
    }

    /// Asks about a record on its way down. Its key stands for the client, so that a device whose id is the key meets the same version both
    /// ways. Shadows get no copies.
    pub async fn descend(&self, asked: Asked<'_>, descent: &Arc<Descent>) -> Answered<DescentVerdict> {
        let by = match (&self.beside, descent.fetched.key_text()) {
            (Some(Beside::Canary(canary)), Some(key)) if canary.takes(key) => &canary.guest,
            _ => self.current(),
        };
        let by = Arc::clone(by);
        let answer = by.descend(asked, descent).await;
        self.noted(by, answer, |verdict| matches!(verdict, DescentVerdict::Drop(_)))
    }

    /// The copy that a shadow is to get of this client's call, if one is.
    fn copying(&self, client: &Client) -> Option<Copying<'_>> {
        match &self.beside {
            Some(Beside::Shadow(shadow)) if shadow.takes(&client.client_id) => Some(Copying { shadow, trace: Arc::default() }),
            _ => None,
        }
    }

    /// Judges the version by its answer, while one is being judged.
    fn noted<T>(&self, by: Arc<Guest>, answer: Result<T, Failure>, refused: impl Fn(&T) -> bool) -> Answered<T> {
        if let Some(Beside::Canary(canary)) = &self.beside {
            let outcome = match &answer {
                Ok(verdict) if refused(verdict) => Outcome::Refused,
                Ok(_) => Outcome::Fine,
                Err(failure) if failure.is_against_the_guest() => Outcome::Failed,
                Err(_) => Outcome::Fine, // what another version would have met, too
            };
            canary.note(&by, outcome);
        }
        Answered { by, answer }
    }
}

/// A call of which a shadow gets a copy.
struct Copying<'a> {
    shadow: &'a Shadow,
    /// For a call that nobody else traces.
    trace: Arc<Trace>,
}

impl Copying<'_> {
    fn copy<T: Clone + Into<Verdict>>(
        &self,
        by: &Guest,
        asked: Asked<'_>,
        client: &Arc<Client>,
        question: Question,
        answer: &Result<T, Failure>,
    ) {
        self.shadow.copy(by, (asked, asked.trace.unwrap_or(&self.trace)), client, question, answer);
    }
}

/// The same question, its call written down if a shadow is to get a copy.
fn traced<'a>(asked: Asked<'a>, copying: Option<&'a Copying<'_>>) -> Asked<'a> {
    match copying {
        None => asked,
        Some(copying) => Asked { trace: asked.trace.or(Some(&copying.trace)), ..asked },
    }
}
