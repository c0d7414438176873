//! What one instance's store holds, and what all instances of one guest version share.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use wasmtime::{UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{
    imports::{Counts, Keys, Log},
    limits::Memory,
    overrun::{GiveWay, Slice},
    room::Slot,
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

/// The guest called the host more often than one call may.
#[derive(Debug, thiserror::Error)]
#[error("more calls into the host than the limit")]
pub(super) struct TooManyHostCalls;

/// The content of one store.
pub(super) struct Host {
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) memory: Memory,
    pub(super) printed: Printed,
    /// What the running call's questions meet.
    pub(super) circumstances: Circumstances,
    /// What the running call may still have.
    allowance: Allowance,
    slice: Arc<Slice>,
    /// What must outlive the process before the running call's verdict is given.
    pub(super) rests_on: Stamp,
    wasi: WasiCtx,
    resources: ResourceTable,
    alive: Alive,
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Interruptions.
    pub(super) ticks: u64,
    /// Calls into the host.
    pub(super) host_calls: u64,
}

/// An instance's slot in the process and its place in the figures, for as long as its store lives.
#[derive(Debug)]
pub(super) struct Alive {
    slot: Slot,
    instances: Gauge,
}

impl Alive {
    pub(super) fn new(slot: Slot, instances: Gauge) -> Self {
        instances.inc();
        Alive { slot, instances }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.instances.dec();
    }
}

impl Host {
    pub(super) fn new(capabilities: Arc<Capabilities>, memory: Memory, slice: Arc<Slice>, alive: Alive) -> Self {
        let printed = Printed::default();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(printed.clone()).stderr(printed.clone()).max_random_size(RANDOM_BYTES);
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES);
        let allowance = Allowance { ticks: 0, host_calls: 0 };
        Host {
            capabilities,
            memory,
            printed,
            allowance,
            slice,
            circumstances: Circumstances::Real,
            rests_on: Stamp::default(),
            wasi: wasi.build(),
            resources,
            alive,
        }
    }

    /// Gives the next call what it may take.
    pub(super) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Whether its slot is only for the trial of its version.
    pub(super) fn is_for_trial(&self) -> bool {
        self.alive.slot.is_for_trial
    }

    /// Whether the call has made more calls into the host than it might.
    pub(super) fn called_too_often(&self) -> bool {
        self.allowance.host_calls == u64::MAX // beyond zero, see `called`
    }

    /// Counts a call into the host: what every import goes through. One too many ends the guest at its next tick, or fails its call when
    /// it ends before.
    pub(super) fn called(&mut self) -> &mut Self {
        if !self.called_too_often() {
            self.allowance.host_calls = self.allowance.host_calls.wrapping_sub(1);
        }
        self
    }

    /// What becomes of the running call at a tick. Ticks are counted rather than the clock read, so that a guest does not pay for the time
    /// in which the machine ran something else.
    pub(super) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        if self.called_too_often() {
            return Err(TooManyHostCalls.into());
        }
        if self.allowance.ticks == 0 {
            return Ok(UpdateDeadline::Interrupt);
        }
        self.allowance.ticks -= 1;
        Ok(if self.slice.ends() { UpdateDeadline::YieldCustom(1, Box::pin(GiveWay::default())) } else { UpdateDeadline::Continue(1) })
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let host = self.called();
        WasiCtxView { ctx: &mut host.wasi, table: &mut host.resources }
    }
}
