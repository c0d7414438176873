//! The acknowledgement that climbs while data falls.
//!
//! Whoever accepts responsibility for an event (a device's connection) opens a [`Receipt`] with a number of its own and hands it
//! down. Each Kafka record that the event becomes holds a share of it. When the last share is gone the receipt is settled, once,
//! with the worst outcome of all shares, and the number comes back through the connection's [`Settlements`]. A share that is dropped
//! without a word counts as [`Outcome::Unknown`]: no acknowledgement, and the device sends again.
//!
//! A receipt whose event is not stored for certain makes everybody behind it wait for the publisher: it will send the event again, and
//! what it sent afterwards too. Whoever must keep a strict order asks [`Receipt::overtakes`] and lets nothing pass that would come before
//! the repetition.
//!
//! The shape is Vector's `finalization`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Text, origin::Origin};

/// How an event ended, from best to worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything that had to be stored is stored.
    Stored,
    /// Kafka refused it for good; sending it again will not help.
    Refused(Refusal),
    /// Nobody can say whether it is stored: it timed out, or the process is draining. Never acknowledged.
    Unknown(Text),
}

/// Why Kafka refuses for good, with an explanation for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The record exceeds the topic's or the broker's maximum.
    TooLarge(Text),
    /// The producer has no right to write there.
    Unauthorized(Text),
    /// A quota or policy forbids it.
    Quota(Text),
    /// Anything else, in librdkafka's words.
    Other(Text),
}

impl Refusal {
    /// A stable word for headers and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::TooLarge(_) => "too-large",
            Refusal::Unauthorized(_) => "unauthorized",
            Refusal::Quota(_) => "quota",
            Refusal::Other(_) => "refused",
        }
    }

    /// The explanation.
    pub fn text(&self) -> &Text {
        match self {
            Refusal::TooLarge(text) | Refusal::Unauthorized(text) | Refusal::Quota(text) | Refusal::Other(text) => text,
        }
    }
}

/// A settled receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The number that the receipt was opened with.
    pub number: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// Where a connection hears of its settled receipts. Many settlements make one wake-up.
#[derive(Debug, Default)]
pub struct Settlements {
    settled: Mutex<Vec<Settlement>>,
    wake: Notify,
    /// Receipts with lower numbers overtake what will be sent again.
    sound_from: AtomicU64,
    refusals_repeat: AtomicBool,
}

impl Settlements {
    /// An empty queue, to be shared with receipts.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Moves everything that is settled into `into`, in the order of settlement; returns at once.
    pub fn take(&self, into: &mut Vec<Settlement>) {
        into.append(&mut self.settled.lock());
    }

    /// Waits until something may be settled; cancel-safe.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// A connection begins, whose receipts are numbered from `next` on: what was sent again before comes on it. `refusals_repeat`: its
    /// client cannot be told of a refusal and sends the event again, too (before MQTT 5).
    pub fn begin(&self, next: u64, refusals_repeat: bool) {
        self.refusals_repeat.store(refusals_repeat, Ordering::Release);
        self.sound_from.store(next, Ordering::Release);
    }

    /// An event that will be sent again on the next connection, unless it is stored.
    fn doubt(&self, outcome: &Outcome) {
        let repeats = match outcome {
            Outcome::Stored => false,
            Outcome::Refused(_) => self.refusals_repeat.load(Ordering::Acquire),
            Outcome::Unknown(_) => true,
        };
        if repeats {
            self.sound_from.store(u64::MAX, Ordering::Release);
        }
    }

    fn push(&self, settlement: Settlement) {
        let first = {
            let mut settled = self.settled.lock();
            settled.push(settlement);
            settled.len() == 1
        };
        if first {
            self.wake.notify_one();
        }
    }
}

/// A share in the acknowledgement of one event; clone it for every record that the event becomes.
#[derive(Clone, Debug)]
pub struct Receipt {
    shared: Option<Arc<Shared>>,
    kept: bool,
}

#[derive(Debug)]
struct Shared {
    worst: Mutex<Outcome>,
    owner: Owner,
}

/// Who waits.
enum Owner {
    /// A publisher, which may send the event again.
    Publisher { number: u64, settlements: Arc<Settlements>, origin: Option<Arc<Origin>> },
    /// Somebody who only wants to know; `None` once told.
    Witness(Option<Box<dyn FnOnce(Outcome) + Send + Sync>>),
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Publisher { number, .. } => f.debug_tuple("Publisher").field(number).finish(),
            Owner::Witness(_) => f.write_str("Witness"),
        }
    }
}

impl Shared {
    fn doubt(&self, outcome: &Outcome) {
        if let Owner::Publisher { settlements, .. } = &self.owner {
            settlements.doubt(outcome);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let outcome = std::mem::replace(self.worst.get_mut(), Outcome::Stored);
        match &mut self.owner {
            Owner::Publisher { number, settlements, .. } => settlements.push(Settlement { number: *number, outcome }),
            Owner::Witness(told) => {
                if let Some(tell) = told.take() {
                    tell(outcome);
                }
            }
        }
    }
}

impl Receipt {
    /// Opens a receipt that settles as `number` in `settlements`.
    pub fn open(number: u64, settlements: &Arc<Settlements>) -> Self {
        Self::open_for(number, settlements, None)
    }

    /// The same for a publish that some cluster must have once.
    pub fn open_for(number: u64, settlements: &Arc<Settlements>, origin: Option<Arc<Origin>>) -> Self {
        Receipt::of(Owner::Publisher { number, settlements: Arc::clone(settlements), origin })
    }

    /// A receipt for an event that nobody sends again, but whose end somebody wants to know. `tell` is called once, by whoever drops the
    /// last share, perhaps on librdkafka's thread: it must not block.
    pub fn witness(tell: impl FnOnce(Outcome) + Send + Sync + 'static) -> Self {
        Receipt::of(Owner::Witness(Some(Box::new(tell))))
    }

    fn of(owner: Owner) -> Self {
        Receipt { shared: Some(Arc::new(Shared { worst: Mutex::new(Outcome::Stored), owner })), kept: false }
    }

    /// Which publish it belongs to, if that must be known to store it once.
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        match &self.shared.as_ref()?.owner {
            Owner::Publisher { origin, .. } => origin.as_ref(),
            Owner::Witness(_) => None,
        }
    }

    /// A receipt that nobody waits for: the events that merely happened.
    pub fn nobody() -> Self {
        Receipt { shared: None, kept: false }
    }

    /// Whether the publisher is going to send something again that came before this event, and this event too. Always false for events
    /// that nobody waits for.
    pub fn overtakes(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| match &shared.owner {
            Owner::Publisher { number, settlements, .. } => *number < settlements.sound_from.load(Ordering::Acquire),
            Owner::Witness(_) => false,
        })
    }

    /// Whether a publisher waits for it.
    pub fn is_awaited(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| matches!(shared.owner, Owner::Publisher { .. }))
    }

    /// Whether nobody hears of its end.
    pub fn is_nobodys(&self) -> bool {
        self.shared.is_none()
    }

    /// Gives this share its outcome.
    pub fn settle(mut self, outcome: Outcome) {
        self.kept = true;
        if let (Some(shared), false) = (&self.shared, outcome == Outcome::Stored) {
            shared.doubt(&outcome);
            let mut worst = shared.worst.lock();
            if outcome > *worst {
                *worst = outcome;
            }
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(shared) = &self.shared {
            let outcome = Outcome::Unknown(Text::from_static("the event was given up on the way"));
            shared.doubt(&outcome);
            let mut worst = shared.worst.lock();
            if !matches!(*worst, Outcome::Unknown(_)) {
                *worst = outcome;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(settlements: &Settlements) -> Vec<Settlement> {
        let mut all = Vec::new();
        settlements.take(&mut all);
        all
    }

    #[test]
    fn the_last_share_settles_with_the_worst_outcome() {
        let settlements = Settlements::new();
        let first = Receipt::open(7, &settlements);
        let (second, third) = (first.clone(), first.clone());
        first.settle(Outcome::Stored);
        second.settle(Outcome::Refused(Refusal::TooLarge("1 MiB".into())));
        assert_eq!(settled(&settlements), []);
        third.settle(Outcome::Stored);
        let outcome = Outcome::Refused(Refusal::TooLarge("1 MiB".into()));
        assert_eq!(settled(&settlements), [Settlement { number: 7, outcome }]);
    }

    #[test]
    fn a_dropped_share_is_never_an_acknowledgement() {
        let settlements = Settlements::new();
        let first = Receipt::open(1, &settlements);
        drop(first.clone());
        first.settle(Outcome::Stored);
        assert!(matches!(&settled(&settlements)[..], [Settlement { number: 1, outcome: Outcome::Unknown(_) }]));
    }

    #[test]
    fn what_follows_a_failure_overtakes_until_the_client_is_back() {
        let refused = || Outcome::Refused(Refusal::Quota("full".into()));
        let unknown = || Outcome::Unknown("lost".into());
        for (outcome, refusals_repeat, overtakes) in
            [(Outcome::Stored, true, false), (refused(), false, false), (refused(), true, true), (unknown(), false, true)]
        {
            let settlements = Settlements::new();
            settlements.begin(5, refusals_repeat);
            let [first, second, other] = [5, 6, 5].map(|number| Receipt::open(number, &settlements));
            assert!(!second.overtakes());
            first.clone().settle(outcome.clone()); // one share of two: the other one may take long
            assert_eq!(second.overtakes(), overtakes, "{outcome:?}");
            settlements.begin(7, refusals_repeat);
            assert!(second.overtakes() && other.overtakes(), "they came on the connection before");
            assert!(!Receipt::open(7, &settlements).overtakes());
        }
        assert!(!Receipt::nobody().overtakes(), "nobody sends it again");
    }

    #[test]
    fn a_witness_hears_the_end_once() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listen = Arc::clone(&heard);
        let first = Receipt::witness(move |outcome| listen.lock().push(outcome));
        let second = first.clone();
        first.settle(Outcome::Stored);
        assert_eq!(*heard.lock(), []);
        second.settle(Outcome::Refused(Refusal::Quota("full".into())));
        assert_eq!(*heard.lock(), [Outcome::Refused(Refusal::Quota("full".into()))]);
    }

    #[tokio::test]
    async fn waiting_wakes_for_what_was_settled_before() {
        let settlements = Settlements::new();
        Receipt::open(1, &settlements).settle(Outcome::Stored);
        settlements.wait().await;
        assert_eq!(settled(&settlements).len(), 1);
    }
}
