//! What one instance's store holds, and what all instances of one guest version share.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{
    imports::{Counts, Keys, Log},
    limits::Memory,
    stage::Circumstances,
    state::{Bounds, Stamp, State},
    stdio::Printed,
};
use crate::{config, metrics::Metrics};

/// Streams, clocks' pollables and the like that an instance may hold at once.
const RESOURCES: usize = 1_000;
/// Random bytes that one request may ask for.
const RANDOM_BYTES: u64 = 64 << 10;

/// What a guest version may reach through its imports.
#[derive(Debug)]
pub(super) struct Capabilities {
    pub(super) settings: Vec<(String, String)>,
    pub(super) state: Arc<State>,
    pub(super) state_bounds: Bounds,
    pub(super) keys: Keys,
    pub(super) log: Log,
    pub(super) counts: Counts,
}

impl Capabilities {
    pub(super) fn new(config: &config::Guest, keys: &[config::Key], state: Arc<State>, metrics: &Arc<Metrics>) -> Self {
        Capabilities {
            settings: config.settings.clone(),
            state,
            state_bounds: Bounds { keys: config.limits.state_keys, bytes: config.limits.state_bytes },
            keys: Keys::new(&config.keys, keys),
            log: Log::new(&config.name, config.limits.log_lines_per_s, metrics),
            counts: Counts::new(&config.name, metrics),
        }
    }

    /// A setting's value.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The content of one store.
pub(super) struct Host {
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) memory: Memory,
    /// Interruptions that the running call may still have.
    pub(super) ticks_left: u64,
    pub(super) printed: Printed,
    /// What the running call's questions meet.
    pub(super) circumstances: Circumstances,
    /// What must outlive the process before the running call's verdict is given.
    pub(super) rests_on: Stamp,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl Host {
    pub(super) fn new(capabilities: Arc<Capabilities>, memory_bytes: usize) -> Self {
        let printed = Printed::default();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(printed.clone()).stderr(printed.clone()).max_random_size(RANDOM_BYTES);
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES);
        Host {
            capabilities,
            memory: Memory::new(memory_bytes),
            ticks_left: 0,
            printed,
            circumstances: Circumstances::Real,
            rests_on: Stamp::default(),
            wasi: wasi.build(),
            resources,
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}
