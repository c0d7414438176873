//! One version of one guest.

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::watch;

use super::{
    bindings::exported::lifecycle::Manifest,
    breaker::Circuit,
    call::{Desk, Question, Reply},
    circuit::Fuse,
    engine::Engine,
    failure::Failure,
    figures::Figures,
    host::Capabilities,
    instance::Program,
    load::{self, LoadError},
    overrun::Account,
    state::State,
    trace::Trace,
};
use crate::{
    config,
    event::{
        Action, Answer, Client, Credentials, Descent, DescentVerdict, Event, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict,
        Round,
    },
    hook::{Hook, Kind},
    metrics::Metrics,
};

/// A component that was checked, compiled and tried, with its instances.
pub struct Guest {
    name: String,
    digest: String,
    desk: Desk,
    fuse: Fuse,
    hooks: Vec<Hook>,
}

/// Name and digest.
impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Guest {
    /// Makes a guest of a component's bytes: compares its imports with its grants, compiles it, makes a first instance and runs its
    /// `lifecycle.start`. Needs a tokio runtime with time; the long parts happen on threads of the lowest priority.
    ///
    /// # Errors
    /// Everything that was found wrong before a step that cannot be taken with it.
    pub async fn load(
        engine: &Engine,
        config: &config::Guest,
        keys: &[config::Key],
        bytes: Arc<[u8]>,
        state: Arc<State>,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, Vec<LoadError>> {
        let one = |error| vec![error];
        load::check_kind(&bytes).map_err(one)?;
        let digest = load::digest(&bytes);
        let component = engine.compile(&digest, bytes).await.map_err(|error| one(LoadError::Broken(error)))?;
        let errors = load::check_imports(engine.wasmtime(), &component, &config.grants);
        if !errors.is_empty() {
            return Err(errors);
        }
        let capabilities = Capabilities::new(config, keys, state, metrics);
        let figures = Figures::new(&config.name, metrics);
        let account = |of: &str| Account {
            share: engine.shares().of(of, config.limits.cpu_share, Instant::now()),
            used: figures.cpu_nanoseconds.clone(),
        };
        let (account, rehearsals) = (account(&config.name), account(&format!("{} in rehearsal", config.name)));
        let linked = Program::link(engine, &component, capabilities, config.limits, figures);
        let program = linked.map_err(|error| one(LoadError::Mismatch(format!("{error:#}"))))?;
        let exports = &program.exports;
        if exports.publish.is_none() && exports.events.is_none() && exports.access.is_none() && exports.downlink.is_none() {
            return Err(one(LoadError::NoHooks));
        }
        let desk = Desk::new(program, account, rehearsals, config.isolation);
        let manifest = desk.trial().await.map_err(|failure| one(LoadError::Trial(failure)))?;
        let hooks = check_manifest(manifest, &desk.program.capabilities)?;
        let fuse = Fuse::new(&config.name, &digest, config.breaker, metrics);
        Ok(Arc::new(Guest { name: config.name.clone(), digest, desk, fuse, hooks }))
    }

    /// How routes name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the component, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The state of its name.
    pub(super) fn state(&self) -> &Arc<State> {
        &self.desk.program.capabilities.state
    }

    /// Whether it exports the interface that hooks of this kind call.
    pub fn exports(&self, kind: Kind) -> bool {
        match kind {
            Kind::Publish => self.desk.program.exports.publish.is_some(),
            Kind::Access => self.desk.program.exports.access.is_some(),
            Kind::Observe => self.desk.program.exports.events.is_some(),
        }
    }

    /// Whether it is asked in one block, and whether it could be asked with records.
    #[cfg(test)]
    pub(super) fn ways_to_publish(&self) -> (bool, bool) {
        let exports = &self.desk.program.exports;
        (exports.packed_publish.is_some(), exports.publish.is_some())
    }

    #[cfg(test)]
    pub(super) fn forget_packing(&mut self) {
        self.desk.forget_packing();
    }

    /// Whether it wants this hook's events: it exports the interface, and its manifest names the hook or none.
    pub fn wants(&self, hook: Hook) -> bool {
        self.exports(hook.kind()) && (self.hooks.is_empty() || self.hooks.contains(&hook))
    }

    /// Whether it is asked; one that fails too often is left alone for a while. Costs one load.
    pub fn circuit(&self) -> Circuit {
        self.fuse.circuit()
    }

    /// Tells of changes of [`Guest::circuit`] without anybody looking; the latest is kept for those who look late.
    pub fn circuit_changes(&self) -> watch::Receiver<Circuit> {
        self.fuse.changes()
    }

    /// Asks about a message that was published.
    ///
    /// # Errors
    /// It gave no verdict.
    pub async fn publish(&self, asked: Asked<'_>, client: &Arc<Client>, message: &Arc<Message>) -> Result<PublishVerdict, Failure> {
        let question = Question::Publish { client: Arc::clone(client), message: Arc::clone(message) };
        match self.ask(asked, Kind::Publish, question).await? {
            Reply::Publish(verdict) => Ok(verdict),
            _ => Err(Failure::NotExported(Kind::Publish.interface())),
        }
    }

    /// Asks about something that happened.
    ///
    /// # Errors
    /// It gave no verdict.
    pub async fn observe(&self, asked: Asked<'_>, event: &Event) -> Result<ObserveVerdict, Failure> {
        if event.detail.hook().kind() != Kind::Observe {
            return Err(Failure::NotExported(Kind::Observe.interface()));
        }
        let question = Question::Observe { client: Arc::clone(&event.client), detail: event.detail.clone() };
        match self.ask(asked, Kind::Observe, question).await? {
            Reply::Observe(verdict) => Ok(verdict),
            _ => Err(Failure::NotExported(Kind::Observe.interface())),
        }
    }

    /// Asks whether a client may come in.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn authenticate(&self, asked: Asked<'_>, client: &Arc<Client>, credentials: &Credentials) -> Result<Answer, Failure> {
        let question = Question::Authenticate { client: Arc::clone(client), credentials: credentials.clone() };
        self.ask_access(asked, question).await
    }

    /// Asks whether a client may do something with a topic; a filter comes without `$share/group/`.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn authorize(&self, asked: Asked<'_>, client: &Arc<Client>, action: Action, topic: &str) -> Result<Answer, Failure> {
        let question = Question::Authorize { client: Arc::clone(client), action, topic: topic.into() };
        self.ask_access(asked, question).await
    }

    /// Whether it knows enhanced authentication.
    pub fn knows_methods(&self) -> bool {
        self.desk.program.exports.enhanced_access.is_some()
    }

    /// Asks about one round of enhanced authentication.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn step(&self, asked: Asked<'_>, client: &Arc<Client>, round: Round<'_>) -> Result<ExchangeVerdict, Failure> {
        let question = Question::Step { client: Arc::clone(client), round: Box::new(round.into()) };
        match self.ask(asked, Kind::Access, question).await? {
            Reply::Exchange(verdict) => Ok(verdict),
            _ => Err(Failure::NotExported("enhanced-access")),
        }
    }

    /// Whether downlinks can ask it.
    pub fn descends(&self) -> bool {
        self.desk.program.exports.downlink.is_some()
    }

    /// Asks about a record on its way down.
    ///
    /// # Errors
    /// It gave no verdict.
    pub async fn descend(&self, asked: Asked<'_>, descent: &Arc<Descent>) -> Result<DescentVerdict, Failure> {
        const INTERFACE: &str = "downlink";
        let question = self.descends().then(|| Question::Descend(Arc::clone(descent)));
        match self.put(asked, question.ok_or(Failure::NotExported(INTERFACE))).await? {
            Reply::Descend(verdict) => Ok(verdict),
            _ => Err(Failure::NotExported(INTERFACE)),
        }
    }

    async fn ask_access(&self, asked: Asked<'_>, question: Question) -> Result<Answer, Failure> {
        match self.ask(asked, Kind::Access, question).await? {
            Reply::Access(answer) => Ok(answer),
            _ => Err(Failure::NotExported(Kind::Access.interface())),
        }
    }

    fn ask(&self, asked: Asked<'_>, kind: Kind, question: Question) -> impl Future<Output = Result<Reply, Failure>> {
        let question = if self.exports(kind) { Ok(question) } else { Err(Failure::NotExported(kind.interface())) };
        self.put(asked, question)
    }

    /// Asks what can be asked; a failure is counted and logged on its way to whoever asked.
    async fn put(&self, asked: Asked<'_>, question: Result<Question, Failure>) -> Result<Reply, Failure> {
        // A rehearsal needs no leave, and is held against nobody.
        let passage = if asked.is_rehearsal() { None } else { Some(self.fuse.admit()?) };
        let reply = match question {
            Ok(question) => self.desk.ask(asked, question).await,
            Err(failure) => Err(failure),
        };
        let Some(passage) = passage else { return reply };
        passage.end(&reply);
        if let Err(failure) = &reply {
            let program = &self.desk.program;
            program.figures.failed(failure.reason());
            program.capabilities.log.failed(failure);
        }
        reply
    }
}

/// Where and when a question arose.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of the event: unique on this node, increasing, and the same on a retry.
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// This node's name.
    pub node: &'a str,
    /// Where to write down what the call asks of the world, when somebody wants to know.
    pub trace: Option<&'a Arc<Trace>>,
}

impl<'a> Asked<'a> {
    /// A question whose call nobody writes down.
    pub const fn new(id: u64, time_ms: u64, node: &'a str) -> Self {
        Asked { id, time_ms, node, trace: None }
    }

    /// Whether the call has no consequences.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.trace.is_some_and(|trace| trace.is_rehearsal())
    }
}

fn check_manifest(manifest: Option<Manifest>, capabilities: &Capabilities) -> Result<Vec<Hook>, Vec<LoadError>> {
    let Some(manifest) = manifest else { return Ok(Vec::new()) };
    let mut errors = Vec::new();
    let missing = manifest.required_settings.into_iter().filter(|name| capabilities.setting(name).is_none());
    errors.extend(missing.map(LoadError::MissingSetting));
    let mut hooks = Vec::new();
    for name in manifest.hooks {
        match name.parse() {
            Ok(hook) => hooks.push(hook),
            Err(_unknown) => errors.push(LoadError::UnknownHook(name)),
        }
    }
    if errors.is_empty() { Ok(hooks) } else { Err(errors) }
}
