//! WebAssembly guests: components that answer at hooks, inside walls. The only place that names wasmtime.
//!
//! - [`Engine`] compiles; there is one per process.
//! - [`Guest`] is one version of one guest: checked, compiled and tried before it exists, then a pool of instances, one store each.
//! - [`State`] is what a guest keeps; it belongs to the guest's name and outlives versions.
//! - [`Sample`] is one call as plain data; a [`Trace`] given along with a question makes one, [`Guest::rehearse`] asks it again.
//!
//! Invariants: a guest's misbehaviour is a [`Failure`] and never a panic; no lock is held over a call; a call ends within its deadline and
//! an instance that trapped, ran over or was abandoned half-way is never used again; what crosses the boundary is checked here, so that
//! the floors above see only valid messages and verdicts. A call that takes long goes on where it costs other connections nothing.
//!
//! WASI 0.2 is linked because language runtimes are built on it, with an empty context: no arguments, no environment, no folders, no
//! network; clocks and random numbers are real, what a guest prints goes to the log. Compiled code is kept in a folder of the process's own
//! (`cache`). Absent: bounds on compiling.

mod bindings;
mod breaker;
mod cache;
mod call;
mod circuit;
mod engine;
mod failure;
mod figures;
mod host;
mod imports;
mod instance;
mod limits;
mod load;
mod lower;
mod overrun;
mod packed;
mod pool;
mod rehearsal;
mod room;
mod sample;
mod share;
mod stage;
mod state;
mod stdio;
mod trace;
mod verdict;
mod version;

#[cfg(test)]
mod tests;

pub use self::{
    breaker::Circuit,
    engine::{Engine, EngineError},
    failure::{Failure, FaultKind},
    load::{LoadError, digest},
    rehearsal::{Beneath, Rehearsed},
    sample::{
        Difference, Failed, Header as CaptureHeader, Numbered, Outcome as CallOutcome, Question, Sample, SampleError, Samples, Secret,
        Verdict, differences, outcome,
    },
    state::{
        Bounds, ENTRY_BYTES, Held, Keeper, Local, Noted, Operation, Performed, Performing, Reply, Stamp, State, StateError, Verb, Waiting,
    },
    trace::{KeyCall, KeyQuestion, Recorded, StateCall, Trace},
    version::{Asked, Guest},
};
