//! One instance of a guest in a store of its own, and how a call into it ends.

use std::sync::{Arc, atomic::Ordering};

use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap, WasmBacktrace,
    component::{Component, ComponentNamedList, InstancePre, Lift, Lower, TypedFunc},
};

use super::{
    bindings::{
        exported::{
            access, downlink, enhanced_access, events,
            lifecycle::{self, Manifest},
            packed_publish, publish,
        },
        imported::types::{Context, Fault},
    },
    engine::{Engine, TICK},
    failure::Failure,
    figures::Figures,
    host::{Alive, Allowance, Capabilities, Host, Seen, TooManyHostCalls},
    limits::{Memory, Refused},
    lower,
    overrun::Slice,
    packed::Block,
    room::Slot,
    stage::Circumstances,
};
use crate::{
    config::Limits,
    event::{Action, Client, Credentials, Descent, Detail, Message, Round},
};

/// Innermost functions named in a failure.
const NAMED_FRAMES: usize = 16;
/// What is kept of one function's name, bytes: generic ones have no end.
const MAX_NAME_BYTES: usize = 512;
/// Parts of the names of functions that Rust panics with.
const PANICKING: [&str; 5] = ["panic", "abort", "__rust_", "rust_begin", "::backtrace::"];
/// What is kept of a trap's description, bytes.
const MAX_TRAP_BYTES: usize = 4 << 10;
/// Calls into the host that a start may make: as many as there is time for.
const HOST_CALLS_AT_START: u64 = 1 << 40;
/// wasmtime's words when `set_hostcall_fuel` runs out; it has no public type for it.
const TOO_MUCH: &str = "fuel allocated for hostcalls has been exhausted";

/// What every instance of one version is made from.
pub(super) struct Program {
    pub(super) engine: Engine,
    pre: InstancePre<Host>,
    pub(super) figures: Figures,
    pub(super) exports: Exports,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) limits: Limits,
}

/// Which interfaces the component exports.
pub(super) struct Exports {
    pub(super) publish: Option<publish::GuestIndices>,
    pub(super) packed_publish: Option<packed_publish::GuestIndices>,
    pub(super) events: Option<events::GuestIndices>,
    pub(super) access: Option<access::GuestIndices>,
    pub(super) enhanced_access: Option<enhanced_access::GuestIndices>,
    pub(super) downlink: Option<downlink::GuestIndices>,
    pub(super) lifecycle: Option<lifecycle::GuestIndices>,
}

impl Exports {
    fn of(pre: &InstancePre<Host>) -> wasmtime::Result<Self> {
        let component: &Component = pre.component();
        let exports = |interface: &str| component.get_export_index(None, format!("hookgate:guest/{interface}@0.1.0").as_str()).is_some();
        Ok(Exports {
            publish: exports("publish").then(|| publish::GuestIndices::new(pre)).transpose()?,
            packed_publish: exports("packed-publish").then(|| packed_publish::GuestIndices::new(pre)).transpose()?,
            events: exports("events").then(|| events::GuestIndices::new(pre)).transpose()?,
            access: exports("access").then(|| access::GuestIndices::new(pre)).transpose()?,
            enhanced_access: exports("enhanced-access").then(|| enhanced_access::GuestIndices::new(pre)).transpose()?,
            downlink: exports("downlink").then(|| downlink::GuestIndices::new(pre)).transpose()?,
            lifecycle: exports("lifecycle").then(|| lifecycle::GuestIndices::new(pre)).transpose()?,
        })
    }
}

impl Program {
    /// Links a compiled component; an error says what does not fit.
    pub(super) fn link(
        engine: &Engine,
        component: &Component,
        capabilities: Capabilities,
        limits: Limits,
        figures: Figures,
    ) -> wasmtime::Result<Self> {
        let pre = engine.linker().instantiate_pre(component)?;
        let exports = Exports::of(&pre)?;
        Ok(Program { engine: engine.clone(), pre, figures, exports, capabilities: Arc::new(capabilities), limits })
    }

    /// Makes an instance and runs its `lifecycle.start`, both within the start deadline; its calls note their slices in `slice`.
    pub(super) async fn instantiate(&self, slot: Slot, slice: Arc<Slice>) -> Result<(Box<Instance>, Option<Manifest>), Failure> {
        slice.starting.store(true, Ordering::Relaxed);
        let limit_ms = self.limits.start_deadline_ms;
        let walls = Walls { store: self.store(slot, Arc::clone(&slice)), limits: self.limits, calls: 0 };
        let mut instance = Box::new(Instance {
            walls,
            publish: None,
            packed_publish: None,
            block: Block::default(),
            events: None,
            access: None,
            enhanced_access: None,
            downlink: None,
        });
        instance.walls.arm(limit_ms, HOST_CALLS_AT_START);
        let started = self.start(&mut instance).await;
        let started = instance.walls.ended(started, limit_ms)?;
        slice.starting.store(false, Ordering::Relaxed);
        match started {
            None => Ok((instance, None)),
            Some(Ok(manifest)) => Ok((instance, Some(manifest))),
            Some(Err(text)) => Err(Failure::Fault { kind: super::FaultKind::Internal, text: text.into() }),
        }
    }

    async fn start(&self, instance: &mut Instance) -> wasmtime::Result<Option<Result<Manifest, String>>> {
        let store = &mut instance.walls.store;
        let made = self.pre.instantiate_async(&mut *store).await?;
        let Exports { publish, packed_publish, events, access, enhanced_access, downlink, lifecycle } = &self.exports;
        instance.publish = publish.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        instance.packed_publish = packed_publish.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        instance.events = events.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        instance.access = access.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        instance.enhanced_access = enhanced_access.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        instance.downlink = downlink.as_ref().map(|indices| indices.load(&mut *store, &made)).transpose()?;
        match lifecycle {
            None => Ok(None),
            Some(indices) => indices.load(&mut *store, &made)?.call_start(&mut *store).await.map(Some),
        }
    }

    fn store(&self, slot: Slot, slice: Arc<Slice>) -> Store<Host> {
        let (limits, figures) = (&self.limits, &self.figures);
        let together = Arc::clone(&self.engine.room().memory);
        let memory = Memory::new(limits.memory_bytes, limits.table_elements, together, figures.memory_bytes.clone());
        let alive = Alive::new(slot, figures.instances.clone());
        let host = Host::new(Arc::clone(&self.capabilities), memory, slice, alive);
        let mut store = Store::new(self.engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        store.set_hostcall_fuel(self.limits.returned_bytes);
        store.epoch_deadline_callback(|mut store| store.data_mut().tick());
        store
    }
}

/// One instance. After any [`Failure`] it must be thrown away: its store is dead or in an unknown state.
pub(super) struct Instance {
    walls: Walls,
    publish: Option<publish::Guest>,
    /// The quicker way to ask the same.
    packed_publish: Option<packed_publish::Guest>,
    block: Block,
    events: Option<events::Guest>,
    access: Option<access::Guest>,
    enhanced_access: Option<enhanced_access::Guest>,
    downlink: Option<downlink::Guest>,
}

/// The guest's own words about a call that came to its end: its answer, or why it cannot judge.
pub(super) type Said<T> = Result<T, Fault>;

impl Instance {
    /// What the questions of the next call meet.
    pub(super) fn meet(&mut self, circumstances: Circumstances) {
        self.walls.store.data_mut().circumstances = circumstances;
    }

    /// What the questions of the last call met; the next one meets the world.
    pub(super) fn met(&mut self) -> Circumstances {
        std::mem::take(&mut self.walls.store.data_mut().circumstances)
    }

    /// Why it must not take another call, if it has had enough.
    pub(super) fn worn(&self) -> Option<&'static str> {
        let Walls { store, limits, calls } = &self.walls;
        if limits.recycle_after_calls > 0 && *calls >= limits.recycle_after_calls {
            Some("calls")
        } else if store.data().memory.used_bytes() >= limits.recycle_at_bytes {
            Some("memory")
        } else {
            None
        }
    }

    /// How much it may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.walls.limits
    }

    /// Whether its slot is only for the trial of its version.
    pub(super) fn is_for_trial(&self) -> bool {
        self.walls.store.data().is_for_trial()
    }

    /// What its last call has met in the state; asked once for each.
    pub(super) fn seen(&mut self) -> Seen {
        std::mem::take(&mut self.walls.store.data_mut().seen)
    }

    pub(super) async fn publish(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        message: &Message,
    ) -> Result<Said<publish::Verdict>, Failure> {
        if let Some(packed) = &self.packed_publish {
            return self.walls.call(packed.func_handle(), (self.block.write(context, client, message),)).await;
        }
        // Boxed, so that the future of the quicker way stays small: it is moved with every call.
        Box::pin(self.publish_in_records(context, client, message)).await
    }

    async fn publish_in_records(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        message: &Message,
    ) -> Result<Said<publish::Verdict>, Failure> {
        let function = self.publish.as_ref().ok_or(Failure::NotExported("publish"))?.func_handle();
        let (peer, properties) = (lower::peer(client), lower::user_properties(message));
        let arguments = (context.clone(), lower::client(client, peer), lower::message(message, message.qos, &properties));
        self.walls.call(function, arguments).await
    }

    pub(super) async fn observe(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        detail: &Detail,
    ) -> Result<Said<events::Verdict>, Failure> {
        let function = self.events.as_ref().ok_or(Failure::NotExported("events"))?.func_handle();
        let (peer, lists) = (lower::peer(client), lower::Lists::of(detail));
        let detail = lower::detail(detail, &lists).ok_or(Failure::NotExported("events"))?;
        self.walls.call(function, (context.clone(), lower::client(client, peer), detail)).await
    }

    pub(super) async fn authenticate(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        credentials: &Credentials,
    ) -> Result<Said<access::Answer>, Failure> {
        let function = self.access.as_ref().ok_or(Failure::NotExported("access"))?.func_authenticate();
        let peer = lower::peer(client);
        self.walls.call(function, (context.clone(), lower::client(client, peer), lower::credentials(credentials))).await
    }

    pub(super) async fn authorize(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        action: Action,
        topic: &str,
    ) -> Result<Said<access::Answer>, Failure> {
        let function = self.access.as_ref().ok_or(Failure::NotExported("access"))?.func_authorize();
        let peer = lower::peer(client);
        self.walls.call(function, (context.clone(), lower::client(client, peer), lower::action(action), topic)).await
    }

    pub(super) async fn step(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        round: Round<'_>,
    ) -> Result<Said<enhanced_access::Verdict>, Failure> {
        let function = self.enhanced_access.as_ref().ok_or(Failure::NotExported("enhanced-access"))?.func_step();
        let peer = lower::peer(client);
        self.walls.call(function, (context.clone(), lower::client(client, peer), lower::round(round))).await
    }

    pub(super) async fn descend(&mut self, context: &Context<'_>, descent: &Descent) -> Result<Said<downlink::Verdict>, Failure> {
        let function = self.downlink.as_ref().ok_or(Failure::NotExported("downlink"))?.func_handle();
        let (headers, properties) = (lower::record_headers(&descent.fetched), lower::all_user_properties(&descent.messages));
        let messages = lower::messages(&descent.messages, &properties);
        let arguments = (context.clone(), &*descent.downlink, lower::fetched(&descent.fetched, &headers), messages.as_slice());
        self.walls.call(function, arguments).await
    }
}

/// What every call runs within.
struct Walls {
    store: Store<Host>,
    limits: Limits,
    /// That it has taken.
    calls: u64,
}

impl Walls {
    /// Calls a function of the instance; it ends within its deadline as far as the guest runs, not while it waits in the host.
    async fn call<A, R>(&mut self, function: TypedFunc<A, (R,)>, arguments: A) -> Result<R, Failure>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
    {
        let limit_ms = self.limits.deadline_ms;
        self.calls += 1;
        self.arm(limit_ms, self.limits.host_calls);
        let ended = function.call_async(&mut self.store, arguments).await;
        self.ended(ended, limit_ms).map(|(answer,)| answer)
    }

    /// Gives the next call what it may take.
    fn arm(&mut self, limit_ms: u64, host_calls: u64) {
        self.store.data_mut().allow(Allowance { ticks: limit_ms.div_ceil(TICK.as_millis() as u64), host_calls });
        self.store.set_epoch_deadline(1);
    }

    fn ended<T>(&mut self, ended: wasmtime::Result<T>, limit_ms: u64) -> Result<T, Failure> {
        let host = self.store.data();
        let printed = host.printed.take();
        let ended = match ended {
            Ok(_) if host.called_too_often() => Err(Failure::TooManyHostCalls { limit: self.limits.host_calls }),
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&error, printed.as_deref(), limit_ms)),
        };
        match printed {
            Some(text) if !matches!(ended, Err(Failure::Trap { .. })) => host.log_printed(&text),
            _ => {} // nothing, or part of the failure's own text
        }
        ended
    }

    fn failed(&self, error: &wasmtime::Error, printed: Option<&str>, limit_ms: u64) -> Failure {
        let cause = error.root_cause().to_string();
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            Failure::Deadline { limit_ms }
        } else if let Some(refused) = error.downcast_ref::<Refused>() {
            match *refused {
                Refused::Memory => Failure::OutOfMemory { limit_bytes: self.limits.memory_bytes },
                Refused::Table => Failure::TableTooLarge { limit_elements: self.limits.table_elements },
                Refused::Together { limit_bytes } => Failure::NoMemory { limit_bytes },
            }
        } else if error.is::<TooManyHostCalls>() {
            Failure::TooManyHostCalls { limit: self.limits.host_calls }
        } else if error.is::<PoolConcurrencyLimitError>() {
            Failure::NoRoom { waited_ms: 0 }
        } else if cause.contains(TOO_MUCH) {
            Failure::ReturnedTooMuch { limit_bytes: self.limits.returned_bytes }
        } else {
            let mut message = cause.strip_prefix("wasm trap: ").unwrap_or(&cause).to_owned();
            if let Some(text) = printed {
                message = format!("{message}; it printed: {text}");
            }
            message.truncate(message.floor_char_boundary(MAX_TRAP_BYTES));
            Failure::Trap { message, functions: error.downcast_ref::<WasmBacktrace>().map(functions).unwrap_or_default() }
        }
    }
}

/// The innermost functions, demangled, from a backtrace's lines: `  0: 0x1a2 - guest.wasm!verify::Command::read`. Those by which Rust
/// panics are left out: they are the same every time.
fn functions(backtrace: &WasmBacktrace) -> Vec<String> {
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| line.split_once(" - ")).map(|(_, name)| name.split_once('!').map_or(name, |(_, name)| name));
    let own = names.filter(|name| !PANICKING.iter().any(|part| name.contains(part)));
    own.take(NAMED_FRAMES).map(|name| name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or(name).to_owned()).collect()
}
