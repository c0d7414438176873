//! The compiler and runtime that all guests of a process share, and the clock that interrupts them.
//!
//! Room for instances is set aside at the start (address space, not memory), so that making one costs microseconds and so that there is
//! a bound. Guard pages, Spectre mitigations and signals-based traps are on by default and stay so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    component::{Component, Linker},
};

use super::{
    cache::Cache,
    host::Host,
    imports,
    limits::CORE_ITEMS,
    overrun::SlowLane,
    room::{Room, TRIALS},
    share::Shares,
};
use crate::{config, metrics::Metrics};

/// How often running guests are interrupted to see whether their time is up and to let other tasks run.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Stack for the host functions that a guest calls, beside its own, bytes.
const HOST_STACK_BYTES: usize = 512 << 10;
/// Core modules with a memory of their own that instances have on average; most have one, adapters use the program's.
const MEMORIES: usize = 1;
/// Tables that instances have on average: the program's, and one for the adapter between it and the component.
const TABLES: usize = 4;
/// Elements that one table has room for, as many as `limits.table_elements` can allow.
const TABLE_ELEMENTS: usize = 1_000_000;
/// What the runtime keeps about one instance at most (function pointers, globals), bytes; not set aside.
const INSTANCE_BYTES: usize = 16 << 20;
/// Memory of an instance that goes which the next one finds ready, bytes.
const KEPT_BYTES: usize = 128 << 10;

/// The engine could not be set up: this machine lacks something that wasmtime needs.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused.
    #[error("the WebAssembly engine cannot start: {0}")]
    Wasmtime(String),
    /// The room for instances is not there.
    #[error(
        "there is no address space for {instances} instances of guests: {reason}; lower [guests] instances or stack_bytes, \
         or raise the process's limit (ulimit -v, vm.max_map_count, vm.overcommit_memory)"
    )]
    Room {
        /// `[guests] instances`.
        instances: usize,
        /// wasmtime's words.
        reason: String,
    },
    /// A thread could not be started.
    #[error("a thread of the WebAssembly engine cannot start: {0}")]
    Thread(#[source] std::io::Error),
}

/// Compiles components and runs them; one per process, cheap to clone.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    shared: Arc<Shared>,
    cache: Cache,
}

struct Shared {
    linker: Linker<Host>,
    room: Arc<Room>,
    slow_lane: SlowLane,
    shares: Shares,
    /// A guest has been asked; before, there is nobody to be considerate of.
    in_service: AtomicBool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Sets up the engine and starts its threads: a clock that ends when the last clone is dropped, and the slow lane.
    ///
    /// # Errors
    /// The machine lacks what wasmtime needs.
    pub fn new(runtime: &config::Runtime) -> Result<Self, EngineError> {
        let engine = wasmtime::Engine::new(&settings(runtime)).map_err(|error| refused(&error, runtime))?;
        let linker = imports::link(&engine).map_err(|error| EngineError::Wasmtime(format!("{error:#}")))?;
        let ticking = engine.weak();
        let tick = move || {
            while let Some(engine) = ticking.upgrade() {
                engine.increment_epoch();
                drop(engine); // not held while asleep, so that the last clone can go
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new().name("guest-clock".to_owned()).spawn(tick).map_err(EngineError::Thread)?;
        let slow_lane = SlowLane::new().map_err(EngineError::Thread)?;
        let room = Room::new(runtime.instances, runtime.memory_bytes);
        Ok(Engine {
            engine,
            shared: Arc::new(Shared { linker, room, slow_lane, shares: Shares::default(), in_service: AtomicBool::new(false) }),
            cache: Cache::default(),
        })
    }

    /// The same, keeping compiled code where the settings say.
    #[must_use]
    pub fn with_cache(self, runtime: &config::Runtime, metrics: &Metrics) -> Self {
        Engine { cache: Cache::new(runtime, metrics), ..self }
    }

    /// Keeps compiled code for so many guests with so many versions each, and forgets what was not used for longest.
    pub fn keep_compiled(&self, guests: usize, versions: usize) {
        let cache = self.cache.clone();
        drop(tokio::task::spawn_blocking(move || cache.prune(guests, versions))); // nothing waits for it
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(super) fn linker(&self) -> &Linker<Host> {
        &self.shared.linker
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.shared.room
    }

    pub(super) fn slow_lane(&self) -> &SlowLane {
        &self.shared.slow_lane
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shared.shares
    }

    /// Notes that guests are asked.
    pub(super) fn serve(&self) {
        if !self.shared.in_service.load(Ordering::Relaxed) {
            self.shared.in_service.store(true, Ordering::Relaxed);
        }
    }

    /// Compiles, or finds compiled, where waiting is allowed, on one core; once guests are in service on a thread of the lowest priority, one component at a
    /// time, so that events go on beside it.
    pub(super) async fn compile(&self, digest: &str, bytes: Arc<[u8]>) -> Result<Component, String> {
        let (engine, cache, digest) = (self.engine.clone(), self.cache.clone(), digest.to_owned());
        let compile = move || cache.component(&engine, &digest, &bytes);
        let compiled = if self.shared.in_service.load(Ordering::Relaxed) {
            self.shared.slow_lane.compute(compile).await
        } else {
            tokio::task::spawn_blocking(compile).await.map_err(|error| error.to_string())
        };
        match compiled {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(error) => Err(format!("the compiler stopped: {error}")),
        }
    }
}

fn settings(runtime: &config::Runtime) -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.parallel_compilation(false);
    config.max_wasm_stack(runtime.stack_bytes);
    config.async_stack_size(runtime.stack_bytes + HOST_STACK_BYTES);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(room(runtime)));
    config
}

/// What is set aside for instances; what only bounds one component is generous, because `limits` bound it.
fn room(runtime: &config::Runtime) -> PoolingAllocationConfig {
    let instances = runtime.instances.saturating_add(TRIALS);
    let times = |items: usize| u32::try_from(instances.saturating_mul(items)).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(times(1)).total_stacks(times(1));
    pool.total_core_instances(times(CORE_ITEMS)).total_memories(times(MEMORIES)).total_tables(times(TABLES));
    let most = CORE_ITEMS as u32;
    pool.max_core_instances_per_component(most).max_memories_per_component(most).max_tables_per_component(most);
    pool.max_memories_per_module(most).max_tables_per_module(most);
    pool.max_component_instance_size(INSTANCE_BYTES).max_core_instance_size(INSTANCE_BYTES);
    pool.table_elements(TABLE_ELEMENTS);
    pool.linear_memory_keep_resident(KEPT_BYTES).table_keep_resident(KEPT_BYTES);
    pool.pagemap_scan(Enabled::Auto); // where the kernel has it
    pool
}

fn refused(error: &wasmtime::Error, runtime: &config::Runtime) -> EngineError {
    let reason = format!("{error:#}");
    // wasmtime has no type for it: its words about mappings that the system refused, or that exceed the address space.
    let is_about_room = ["pool mapping", "addressable", "overflow", "guard page", "Cannot allocate memory"].iter();
    if is_about_room.into_iter().any(|words| reason.contains(words)) {
        EngineError::Room { instances: runtime.instances, reason }
    } else {
        EngineError::Wasmtime(reason)
    }
}
