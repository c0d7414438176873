//! One version of one guest.

use std::{fmt, sync::Arc, time::Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::{
    bindings::{exported::lifecycle::Manifest, imported::types::Context},
    breaker::Circuit,
    circuit::{Fuse, Passage},
    engine::Engine,
    failure::Failure,
    host::Capabilities,
    instance::{Program, Said},
    load::{self, LoadError},
    pool::{Lease, Pool},
    state::State,
    verdict,
};
use crate::{
    config,
    event::{Action, Answer, Client, Credentials, Event, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict, Round},
    hook::{Hook, Kind},
    metrics::{Metrics, ReasonLabel},
};

/// A component that was checked, compiled and tried, with its instances.
pub struct Guest {
    name: String,
    digest: String,
    program: Program,
    pool: Pool,
    fuse: Fuse,
    hooks: Vec<Hook>,
    calls: Counter,
    nanoseconds: Counter,
    metrics: Arc<Metrics>,
}

/// Name and digest.
impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Guest {
    /// Makes a guest of a component's bytes: compares its imports with its grants, compiles it, makes a first instance and runs its
    /// `lifecycle.start`. Needs a tokio runtime with time; compiling happens off its worker threads.
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
        let component = engine.compile(bytes).await.map_err(|error| one(LoadError::Broken(error)))?;
        let errors = load::check_imports(engine.wasmtime(), &component, &config.grants);
        if !errors.is_empty() {
            return Err(errors);
        }
        let capabilities = Capabilities::new(config, keys, state, metrics);
        let linked = Program::link(engine, &component, capabilities, config.limits);
        let program = linked.map_err(|error| one(LoadError::Mismatch(format!("{error:#}"))))?;
        let exports = &program.exports;
        if exports.publish.is_none() && exports.events.is_none() && exports.access.is_none() {
            return Err(one(LoadError::NoHooks));
        }
        let (first, manifest) = program.instantiate().await.map_err(|failure| one(LoadError::Trial(failure)))?;
        let hooks = check_manifest(manifest, &program.capabilities)?;
        Ok(Arc::new(Guest {
            name: config.name.clone(),
            fuse: Fuse::new(&config.name, &digest, config.breaker, metrics),
            digest,
            pool: Pool::new(first, config.limits.instances, config.limits.instance_wait_ms),
            program,
            hooks,
            calls: metrics.guest_calls.get_or_create_owned(&config.name.as_str().into()),
            nanoseconds: metrics.guest_call_nanoseconds.get_or_create_owned(&config.name.as_str().into()),
            metrics: Arc::clone(metrics),
        }))
    }

    /// How routes name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the component, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether these bytes are its component.
    pub fn is_made_of(&self, bytes: &[u8]) -> bool {
        load::digest(bytes) == self.digest
    }

    /// Whether it exports the interface that hooks of this kind call.
    pub fn exports(&self, kind: Kind) -> bool {
        match kind {
            Kind::Publish => self.program.exports.publish.is_some(),
            Kind::Access => self.program.exports.access.is_some(),
            Kind::Observe => self.program.exports.events.is_some(),
        }
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
        let passage = self.fuse.admit()?;
        let verdict = self.ask_publish(&asked.context(), client, message).await;
        self.noted(passage, verdict)
    }

    /// Asks about something that happened.
    ///
    /// # Errors
    /// It gave no verdict.
    pub async fn observe(&self, asked: Asked<'_>, event: &Event) -> Result<ObserveVerdict, Failure> {
        let passage = self.fuse.admit()?;
        let verdict = self.ask_observe(&asked.context(), event).await;
        self.noted(passage, verdict)
    }

    /// Asks whether a client may come in.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn authenticate(&self, asked: Asked<'_>, client: &Arc<Client>, credentials: &Credentials) -> Result<Answer, Failure> {
        let passage = self.fuse.admit()?;
        let answer = async {
            let mut turn = self.turn(Kind::Access).await?;
            let answer = turn.lease.instance.authenticate(&asked.context(), client, credentials).await;
            verdict::access(turn.end(answer)?)
        };
        self.noted(passage, answer.await)
    }

    /// Asks whether a client may do something with a topic; a filter comes without `$share/group/`.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn authorize(&self, asked: Asked<'_>, client: &Arc<Client>, action: Action, topic: &str) -> Result<Answer, Failure> {
        let passage = self.fuse.admit()?;
        let answer = async {
            let mut turn = self.turn(Kind::Access).await?;
            let answer = turn.lease.instance.authorize(&asked.context(), client, action, topic).await;
            verdict::access(turn.end(answer)?)
        };
        self.noted(passage, answer.await)
    }

    /// Whether it knows enhanced authentication.
    pub fn knows_methods(&self) -> bool {
        self.program.exports.enhanced_access.is_some()
    }

    /// Asks about one round of enhanced authentication.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn step(&self, asked: Asked<'_>, client: &Arc<Client>, round: Round<'_>) -> Result<ExchangeVerdict, Failure> {
        let passage = self.fuse.admit()?;
        let verdict = async {
            let mut turn = self.turn(Kind::Access).await?;
            let answer = turn.lease.instance.step(&asked.context(), client, round).await;
            verdict::exchange(turn.end(answer)?)
        };
        self.noted(passage, verdict.await)
    }

    async fn ask_publish(&self, context: &Context<'_>, client: &Client, message: &Message) -> Result<PublishVerdict, Failure> {
        let mut turn = self.turn(Kind::Publish).await?;
        let answer = turn.lease.instance.publish(context, client, message).await;
        verdict::publish(turn.end(answer)?, message)
    }

    async fn ask_observe(&self, context: &Context<'_>, event: &Event) -> Result<ObserveVerdict, Failure> {
        if event.detail.hook().kind() != Kind::Observe {
            return Err(Failure::NotExported(Kind::Observe.interface()));
        }
        let mut turn = self.turn(Kind::Observe).await?;
        let answer = turn.lease.instance.observe(context, &event.client, &event.detail).await;
        verdict::observe(turn.end(answer)?)
    }

    /// An instance for one call, once there is one.
    async fn turn(&self, kind: Kind) -> Result<Turn<'_>, Failure> {
        if !self.exports(kind) {
            return Err(Failure::NotExported(kind.interface()));
        }
        let lease = self.pool.take(&self.program).await?;
        Ok(Turn { guest: self, lease, began: Instant::now() })
    }

    /// Counts and logs a failure on its way to whoever asked.
    fn noted<T>(&self, passage: Passage<'_>, verdict: Result<T, Failure>) -> Result<T, Failure> {
        passage.end(&verdict);
        if let Err(failure) = &verdict {
            let label = ReasonLabel { name: self.name.clone(), reason: failure.reason().to_owned() };
            self.metrics.guest_failures.get_or_create(&label).inc();
            self.program.capabilities.log.failed(failure);
        }
        verdict
    }
}

/// One call of a guest, timed.
struct Turn<'a> {
    guest: &'a Guest,
    lease: Lease<'a>,
    began: Instant,
}

impl Turn<'_> {
    /// Counts the call; its instance goes back unless the call failed.
    fn end<T>(self, answer: Result<Said<T>, Failure>) -> Result<T, Failure> {
        self.guest.calls.inc();
        self.guest.nanoseconds.inc_by(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let said = answer?;
        self.lease.give_back();
        said.map_err(verdict::fault)
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
}

impl<'a> Asked<'a> {
    fn context(&self) -> Context<'a> {
        Context { id: self.id, time_ms: self.time_ms, node: self.node }
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
