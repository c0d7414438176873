//! The ways in which a guest gives no verdict.

use std::fmt;

use crate::event::Text;

/// A call that gave no verdict; the route's `on_failure` decides what becomes of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It crashed. The instance is gone.
    #[error("it trapped: {message}{}", in_functions(functions))]
    Trap {
        /// The trap and the guest's last words.
        message: String,
        /// The guest's functions that it happened in, innermost first; those by which Rust panics are left out.
        functions: Vec<String>,
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
    /// Its tables grew beyond what they may. The instance is gone.
    #[error("it wanted more than its {limit_elements} table elements (limits.table_elements)")]
    TableTooLarge {
        /// The bound that it met.
        limit_elements: usize,
    },
    /// It asked for memory that the guests together do not have. The instance is gone.
    #[error("all guests together have no more than {limit_bytes} bytes of memory ([guests] memory_bytes)")]
    NoMemory {
        /// The bound that was met, bytes.
        limit_bytes: usize,
    },
    /// It called the host more often than it may for one event. The instance is gone.
    #[error("it called the host more than {limit} times (limits.host_calls)")]
    TooManyHostCalls {
        /// The bound that it met.
        limit: u64,
    },
    /// It handed the host more than it may at once. The instance is gone.
    #[error("it handed over more than {limit_bytes} bytes at once (limits.returned_bytes)")]
    ReturnedTooMuch {
        /// The bound that it met, bytes.
        limit_bytes: usize,
    },
    /// It asked for more Kafka records, or messages of a downlink, than it may at once. The instance lives on.
    #[error("it asked for {records} records at once (limits.returned_records = {limit})")]
    TooManyRecords {
        /// What it asked for.
        records: usize,
        /// The bound that it met.
        limit: usize,
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
    /// Its state did not answer, and so it could not judge. The instance lives on.
    #[error("its state is unavailable: {why}")]
    StateUnavailable {
        /// In the words of whoever keeps it.
        why: String,
    },
    /// What it keeps in its state did not reach the disk. The instance lives on.
    #[error("what it wrote to its state was not on the disk within {waited_ms} ms; the store's log lines say why")]
    StateNotStored {
        /// The bound that was met, milliseconds.
        waited_ms: u64,
    },
    /// It was not called: it failed too often, and its circuit is open.
    #[error("it failed too often and is not asked for another {for_ms} ms (breaker.open_for)")]
    BreakerOpen {
        /// Until it is tried again, milliseconds; 0 while that is under way.
        for_ms: u64,
    },
    /// All instances that the process has room for were busy for too long.
    #[error("no room for an instance was free within {waited_ms} ms ([guests] instances, limits.instance_wait_ms)")]
    NoRoom {
        /// The bound that was met, milliseconds.
        waited_ms: u64,
    },
    /// It has used its part of the processor, and did not get it back soon enough.
    #[error("it has used up its share of the processor and {waited_ms} ms did not pay for it (limits.cpu_share, limits.instance_wait_ms)")]
    Throttled {
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

/// The end of a trap's text.
fn in_functions(functions: &[String]) -> String {
    if functions.is_empty() { String::new() } else { format!("; in {}", functions.join(" < ")) }
}

impl Failure {
    /// A stable word, for metrics and records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Failure::Trap { .. } => "trap",
            Failure::Deadline { .. } => "deadline",
            Failure::OutOfMemory { .. } => "out-of-memory",
            Failure::TableTooLarge { .. } => "table-too-large",
            Failure::NoMemory { .. } => "no-memory",
            Failure::TooManyHostCalls { .. } => "too-many-host-calls",
            Failure::ReturnedTooMuch { .. } => "returned-too-much",
            Failure::TooManyRecords { .. } => "too-many-records",
            Failure::Fault { kind: FaultKind::Invalid, .. } => "fault-invalid",
            Failure::Fault { kind: FaultKind::Retry, .. } => "fault-retry",
            Failure::Fault { kind: FaultKind::Internal, .. } => "fault-internal",
            Failure::InvalidVerdict(_) => "invalid-verdict",
            Failure::NoInstance { .. } => "no-instance",
            Failure::StateUnavailable { .. } => "state-unavailable",
            Failure::StateNotStored { .. } => "state-not-stored",
            Failure::BreakerOpen { .. } => "breaker-open",
            Failure::NoRoom { .. } => "no-room",
            Failure::Throttled { .. } => "throttled",
            Failure::NotExported(_) => "not-exported",
        }
    }

    /// Whether it counts against the guest's version, so that enough of it opens its circuit. Not when the event was wrong (the guest has said
    /// so), when its state failed, when the guest was not called, when it never could have been, and when other guests have taken the room.
    pub const fn is_against_the_guest(&self) -> bool {
        let of_event = matches!(self, Failure::Fault { kind: FaultKind::Invalid, .. });
        let of_state = matches!(self, Failure::StateUnavailable { .. } | Failure::StateNotStored { .. });
        let of_others = matches!(self, Failure::NoRoom { .. } | Failure::NoMemory { .. });
        !(of_event || of_state || of_others || matches!(self, Failure::BreakerOpen { .. } | Failure::NotExported(_)))
    }

    /// Whether the same question may be answered the next time, so that `retry` makes sense: always, but for an event that is wrong and
    /// for an interface that is not there. Also a trap: another instance answers, perhaps another version.
    pub const fn may_pass(&self) -> bool {
        !matches!(self, Failure::Fault { kind: FaultKind::Invalid, .. } | Failure::NotExported(_))
    }

    /// The guest's functions in which it trapped, innermost first; none for other failures.
    pub fn functions(&self) -> &[String] {
        match self {
            Failure::Trap { functions, .. } => functions,
            _ => &[],
        }
    }
}
