//! The ways in which a guest gives no verdict.

use std::fmt;

use crate::event::Text;

/// A call that gave no verdict; the route's `on_failure` decides what becomes of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It crashed. The instance is gone.
    #[error("it trapped: {message}")]
    Trap {
        /// The trap, the guest's last words and its innermost functions.
        message: String,
    },
    /// It took too long. The instance is gone.
    #[error("it ran longer than {limit_ms} ms")]
    Deadline {
        /// The bound that it met, milliseconds.
        limit_ms: u64,
    },
    /// It asked for more memory than it may have. The instance is gone.
    #[error("it wanted more than its {limit_bytes} bytes of memory (limits.memory_bytes)")]
    OutOfMemory {
        /// The bound that it met, bytes.
        limit_bytes: usize,
    },
    /// It handed the host more than it may at once. The instance is gone.
    #[error("it handed over more than {limit_bytes} bytes at once (limits.returned_bytes)")]
    ReturnedTooMuch {
        /// The bound that it met, bytes.
        limit_bytes: usize,
    },
    /// It said itself that it cannot judge. The instance lives on.
    #[error("{kind}: {text}")]
    Fault {
        /// What kind of fault.
        kind: FaultKind,
        /// The guest's words.
        text: Text,
    },
    /// It answered something that no message, record or denial can be. The instance lives on.
    #[error("its verdict is not valid: {0}")]
    InvalidVerdict(String),
    /// All its instances were busy for too long.
    #[error("no instance was free within {waited_ms} ms (limits.instances, limits.instance_wait_ms)")]
    NoInstance {
        /// The bound that was met, milliseconds.
        waited_ms: u64,
    },
    /// What it keeps in its state did not reach the disk. The instance lives on.
    #[error("what it wrote to its state was not on the disk within {waited_ms} ms; the store's log lines say why")]
    StateNotStored {
        /// The bound that was met, milliseconds.
        waited_ms: u64,
    },
    /// It does not export the interface that was called; the registry refuses such routes.
    #[error("it does not export the interface `{0}`")]
    NotExported(&'static str),
}

/// What a guest says about its own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The event itself is wrong: trying again will not help.
    Invalid,
    /// A passing condition: trying again may help.
    Retry,
    /// Anything else.
    Internal,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Invalid => "it cannot judge this event",
            FaultKind::Retry => "it cannot judge at the moment",
            FaultKind::Internal => "it reports a fault of its own",
        })
    }
}

impl Failure {
    /// A stable word, for metrics and records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Failure::Trap { .. } => "trap",
            Failure::Deadline { .. } => "deadline",
            Failure::OutOfMemory { .. } => "out-of-memory",
            Failure::ReturnedTooMuch { .. } => "returned-too-much",
            Failure::Fault { kind: FaultKind::Invalid, .. } => "fault-invalid",
            Failure::Fault { kind: FaultKind::Retry, .. } => "fault-retry",
            Failure::Fault { kind: FaultKind::Internal, .. } => "fault-internal",
            Failure::InvalidVerdict(_) => "invalid-verdict",
            Failure::NoInstance { .. } => "no-instance",
            Failure::StateNotStored { .. } => "state-not-stored",
            Failure::NotExported(_) => "not-exported",
        }
    }
}
