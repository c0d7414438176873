//! What a guest keeps between calls: keys and values with time to live, bounded. It belongs to the guest's name and outlives versions.
//!
//! A [`State`] takes [`Operation`]s and hands them to its [`Keeper`]: [`Local`] memory, or one of the floor above, which also writes to the
//! disk or asks another process. All of them mean the same by an operation.
//!
//! Invariants: an operation is atomic; an expired key is never seen; both bounds count what is really held; a verdict leaves when what it
//! rests on outlives the process, as far as its keeper does ([`State::settled`]). Absent: where keepers keep it.

mod local;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration, time::Instant};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::timeout;

pub use self::local::{Local, Noted};
use super::failure::Failure;
use crate::metrics::{GuestLabel, Metrics, ReasonLabel};

/// The longest key, bytes.
const MAX_KEY_BYTES: usize = 1 << 10;
/// The largest value, bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// What a key costs beside its own bytes and its value's, in every keeper's count: index, expiry, allocations.
pub const ENTRY_BYTES: usize = 128;
/// How long a verdict waits for the disk that what it wrote goes to. A disk that is well takes milliseconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// What a guest does with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which key.
    pub key: String,
    /// What is done with it.
    pub verb: Verb,
}

/// The functions of the interface `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read it.
    Get,
    /// Write it, whatever was there.
    Put {
        /// What it holds from now on.
        value: Vec<u8>,
        /// How long, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Write it unless it is there.
    PutIfAbsent {
        /// What it holds from now on.
        value: Vec<u8>,
        /// How long, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Add to the number in it, within the range of i64; a key that was there keeps its expiry.
    Add {
        /// What is added.
        delta: i64,
        /// How long a new key is kept, seconds; for ever without.
        ttl_s: Option<u32>,
    },
    /// Forget it.
    Remove,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Get`: what the key holds.
    Value(Option<Vec<u8>>),
    /// To `Put` and `Remove`.
    Done,
    /// To `PutIfAbsent`: whether the key was new.
    New(bool),
    /// To `Add`.
    Sum(i64),
}

/// An operation that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// `limits.state_keys` or `limits.state_bytes` is reached.
    #[error("the state is full (limits.state_keys, limits.state_bytes)")]
    Quota,
    /// The key is longer than 1 KiB or the value is larger than 1 MiB.
    #[error("the key exceeds 1 KiB or the value 1 MiB")]
    TooLarge,
    /// `add` on a key whose value is not eight bytes.
    #[error("the value is no number: add wants the eight bytes that an earlier add has written")]
    NotANumber,
    /// Whoever keeps it does not answer, or cannot; why.
    #[error("{0}")]
    Unavailable(String),
}

impl StateError {
    /// A stable word, for metrics.
    const fn reason(&self) -> &'static str {
        match self {
            StateError::Quota => "quota",
            StateError::TooLarge => "too-large",
            StateError::NotANumber => "not-a-number",
            StateError::Unavailable(_) => "unavailable",
        }
    }
}

/// How much a guest may keep; its present configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Keys.
    pub keys: usize,
    /// Bytes: keys and values, and [`ENTRY_BYTES`] for each.
    pub bytes: usize,
}

/// How much is kept, expired keys that are not yet swept included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys.
    pub keys: u64,
    /// Bytes, counted as [`Bounds::bytes`].
    pub bytes: u64,
}

/// When something outlives the process: increasing numbers of the keeper's own. [`Stamp::default`] always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// An operation that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    /// What the guest is told.
    pub reply: Result<Reply, StateError>,
    /// What must outlive the process before anybody acts on the reply.
    pub stamp: Stamp,
}

/// An operation under way: what needs no waiting is done at once, without the price of a future.
pub enum Performing<'a> {
    /// It is done.
    Done(Performed),
    /// It will be.
    Waiting(Waiting<'a, Performed>),
}

/// Something that takes its time.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl fmt::Debug for Performing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Performing::Done(performed) => f.debug_tuple("Done").field(performed).finish(),
            Performing::Waiting(_) => f.write_str("Waiting"),
        }
    }
}

/// Where the keys and values of one guest name are.
pub trait Keeper: fmt::Debug + Send + Sync {
    /// Carries out an operation, as a whole or not at all; keys and values are within their sizes. What is given up while it waits may have
    /// happened.
    fn perform(&self, operation: Operation, bounds: Bounds) -> Performing<'_>;

    /// The wait until everything up to `stamp` outlives the process; `None` when it does.
    fn settled(&self, stamp: Stamp) -> Option<Waiting<'_, ()>>;

    /// How much there is, as far as is known without asking anybody.
    fn held(&self) -> Held;
}

/// The keys and values of one guest name; shared by all its instances and versions.
#[derive(Debug)]
pub struct State {
    keeper: Box<dyn Keeper>,
    counts: Counts,
}

/// Handles of metric families.
#[derive(Debug, Default)]
struct Counts {
    guest: String,
    /// By verb, in their order.
    operations: [Counter; 5],
    keys: Gauge,
    bytes: Gauge,
    waits: Counter,
    wait_nanoseconds: Counter,
    metrics: Option<Arc<Metrics>>,
}

impl State {
    /// An empty state in memory that nobody counts.
    pub fn new() -> Arc<Self> {
        Arc::new(State { keeper: Box::new(Local::default()), counts: Counts::default() })
    }

    /// The state of `guest`.
    pub fn kept_by(keeper: impl Keeper + 'static, guest: &str, metrics: &Arc<Metrics>) -> Arc<Self> {
        let state = State { keeper: Box::new(keeper), counts: Counts::new(guest, metrics) };
        state.counts.hold(state.keeper.held());
        Arc::new(state)
    }

    /// Carries out an operation.
    pub fn perform(&self, operation: Operation, bounds: Bounds) -> Performing<'_> {
        self.counts.begin(&operation.verb);
        let performing = match operation.oversized() {
            None => self.keeper.perform(operation, bounds),
            Some(reply) => Performing::Done(Performed { reply, stamp: Stamp::default() }),
        };
        match performing {
            Performing::Done(performed) => {
                self.counts.end(&performed, self.keeper.as_ref());
                Performing::Done(performed)
            }
            Performing::Waiting(waiting) => Performing::Waiting(Box::pin(async move {
                let performed = waiting.await;
                self.counts.end(&performed, self.keeper.as_ref());
                performed
            })),
        }
    }

    /// Reads a key for a rehearsal: nobody counts it.
    pub(super) fn look(&self, key: String) -> Performing<'_> {
        self.keeper.perform(Operation { key, verb: Verb::Get }, Bounds { keys: 0, bytes: 0 })
    }

    /// Waits until everything up to `stamp` outlives the process, but not for ever.
    pub(super) async fn settled(&self, stamp: Stamp) -> Result<(), Failure> {
        if stamp == Stamp::default() {
            return Ok(());
        }
        let Some(waiting) = self.keeper.settled(stamp) else { return Ok(()) };
        let began = Instant::now();
        let settled = timeout(SETTLED_WITHIN, waiting).await;
        self.counts.waits.inc();
        self.counts.wait_nanoseconds.inc_by(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        settled.map_err(|_elapsed| Failure::StateNotStored { waited_ms: SETTLED_WITHIN.as_millis() as u64 })
    }

    /// How much is kept.
    pub fn held(&self) -> Held {
        self.keeper.held()
    }

    /// How many keys are held, expired ones that are not yet swept included.
    pub fn keys(&self) -> usize {
        self.held().keys as usize
    }
}

impl Operation {
    /// What a key or value that is too large meets; it is never there, so it can be asked for and removed.
    pub(super) fn oversized(&self) -> Option<Result<Reply, StateError>> {
        let value_bytes = match &self.verb {
            Verb::Put { value, .. } | Verb::PutIfAbsent { value, .. } => value.len(),
            _ => 0,
        };
        if self.key.len() <= MAX_KEY_BYTES && value_bytes <= MAX_VALUE_BYTES {
            return None;
        }
        Some(match self.verb {
            Verb::Get => Ok(Reply::Value(None)),
            Verb::Remove => Ok(Reply::Done),
            _ => Err(StateError::TooLarge),
        })
    }
}

impl Verb {
    const NAMES: [&'static str; 5] = ["get", "put", "put-if-absent", "add", "remove"];

    const fn index(&self) -> usize {
        match self {
            Verb::Get => 0,
            Verb::Put { .. } => 1,
            Verb::PutIfAbsent { .. } => 2,
            Verb::Add { .. } => 3,
            Verb::Remove => 4,
        }
    }

    /// The function's name in `wit/guest.wit`.
    pub fn name(&self) -> &'static str {
        Self::NAMES.get(self.index()).copied().unwrap_or_default()
    }
}

impl Counts {
    fn new(guest: &str, metrics: &Arc<Metrics>) -> Self {
        let operation = |name: &str| {
            let label = GuestLabel { guest: guest.to_owned(), name: name.to_owned() };
            metrics.guest_state_operations.get_or_create_owned(&label)
        };
        let label = guest.into();
        Counts {
            guest: guest.to_owned(),
            operations: Verb::NAMES.map(operation),
            keys: metrics.guest_state_keys.get_or_create_owned(&label),
            bytes: metrics.guest_state_bytes.get_or_create_owned(&label),
            waits: metrics.guest_state_waits.get_or_create_owned(&label),
            wait_nanoseconds: metrics.guest_state_wait_nanoseconds.get_or_create_owned(&label),
            metrics: Some(Arc::clone(metrics)),
        }
    }

    fn begin(&self, verb: &Verb) {
        if let Some(operations) = self.operations.get(verb.index()) {
            operations.inc();
        }
    }

    fn end(&self, performed: &Performed, keeper: &dyn Keeper) {
        match &performed.reply {
            Ok(Reply::Value(_)) => {}
            Ok(_) => self.hold(keeper.held()),
            Err(error) => {
                if let Some(metrics) = &self.metrics {
                    let label = ReasonLabel { name: self.guest.clone(), reason: error.reason().to_owned() };
                    metrics.guest_state_failures.get_or_create(&label).inc();
                }
            }
        }
    }

    fn hold(&self, held: Held) {
        self.keys.set(i64::try_from(held.keys).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
    }
}
