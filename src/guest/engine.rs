//! The compiler and runtime that all guests of a process share, and the clock that interrupts them.

use std::{sync::Arc, time::Duration};

use wasmtime::{
    Config, OptLevel,
    component::{Component, Linker},
};

use super::{cache::Cache, host::Host, imports};
use crate::{config::Runtime, metrics::Metrics};

/// How often running guests are interrupted to see whether their time is up and to let other tasks run.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Stack of one guest, bytes; beyond it a guest traps.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Stack of one call, bytes: the guest's and the host functions' that it calls.
const CALL_STACK_BYTES: usize = 1 << 20;

/// The engine could not be set up: this machine lacks something that wasmtime needs.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused.
    #[error("the WebAssembly engine cannot start: {0}")]
    Wasmtime(String),
    /// The clock's thread could not be started.
    #[error("the thread that interrupts guests cannot start: {0}")]
    Ticker(#[source] std::io::Error),
}

/// Compiles components and runs them; one per process, cheap to clone.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Arc<Linker<Host>>,
    cache: Cache,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Sets up the engine and starts its clock, a thread that ends when the last clone is dropped.
    ///
    /// # Errors
    /// The machine lacks what wasmtime needs.
    pub fn new() -> Result<Self, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Wasmtime(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&settings()).map_err(refused)?;
        let linker = imports::link(&engine).map_err(refused)?;
        let ticking = engine.weak();
        let tick = move || {
            while let Some(engine) = ticking.upgrade() {
                engine.increment_epoch();
                drop(engine); // not held while asleep, so that the last clone can go
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new().name("guest-clock".to_owned()).spawn(tick).map_err(EngineError::Ticker)?;
        Ok(Engine { engine, linker: Arc::new(linker), cache: Cache::default() })
    }

    /// The same, keeping compiled code where the settings say.
    #[must_use]
    pub fn with_cache(self, settings: &Runtime, metrics: &Metrics) -> Self {
        Engine { cache: Cache::new(settings, metrics), ..self }
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
        &self.linker
    }

    /// Compiles, or finds compiled, on a thread where waiting is allowed; one core, so that events go on beside it.
    pub(super) async fn compile(&self, bytes: Arc<[u8]>) -> Result<Component, String> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let compiled = tokio::task::spawn_blocking(move || cache.component(&engine, &bytes)).await;
        match compiled {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(error) => Err(format!("the compiler stopped: {error}")),
        }
    }
}

/// Guard pages, Spectre mitigations and signals-based traps are on by default and stay so.
fn settings() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.parallel_compilation(false);
    config.max_wasm_stack(WASM_STACK_BYTES);
    config.async_stack_size(CALL_STACK_BYTES);
    config
}
