//! The acknowledgement that climbs while data falls.
//!
//! Whoever accepts responsibility for an event (a device's connection) opens a [`Receipt`] with a number of its own and hands it
//! down. Each Kafka record that the event becomes holds a share of it. When the last share is gone the receipt is settled, once,
//! with the worst outcome of all shares, and the number comes back through the connection's [`Settlements`]. A share that is dropped
//! without a word counts as [`Outcome::Unknown`]: no acknowledgement, and the device sends again.
//!
//! The shape is Vector's `finalization`.

use std::sync::Arc;

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

/// Why Kafka refuses for good.
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
    number: u64,
    worst: Mutex<Outcome>,
    settlements: Arc<Settlements>,
    origin: Option<Arc<Origin>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let outcome = std::mem::replace(self.worst.get_mut(), Outcome::Stored);
        self.settlements.push(Settlement { number: self.number, outcome });
    }
}

impl Receipt {
    /// Opens a receipt that settles as `number` in `settlements`.
    pub fn open(number: u64, settlements: &Arc<Settlements>) -> Self {
        Self::open_for(number, settlements, None)
    }

    /// The same for a publish that some cluster must have once.
    pub fn open_for(number: u64, settlements: &Arc<Settlements>, origin: Option<Arc<Origin>>) -> Self {
        let shared = Shared { number, worst: Mutex::new(Outcome::Stored), settlements: Arc::clone(settlements), origin };
        Receipt { shared: Some(Arc::new(shared)), kept: false }
    }

    /// Which publish it belongs to, if that must be known to store it once.
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        self.shared.as_ref()?.origin.as_ref()
    }

    /// A receipt that nobody waits for: the events that merely happened.
    pub fn nobody() -> Self {
        Receipt { shared: None, kept: false }
    }

    /// Gives this share its outcome.
    pub fn settle(mut self, outcome: Outcome) {
        self.kept = true;
        if let (Some(shared), false) = (&self.shared, outcome == Outcome::Stored) {
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
            let mut worst = shared.worst.lock();
            if !matches!(*worst, Outcome::Unknown(_)) {
                *worst = Outcome::Unknown(Text::from_static("the event was given up on the way"));
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

    #[tokio::test]
    async fn waiting_wakes_for_what_was_settled_before() {
        let settlements = Settlements::new();
        Receipt::open(1, &settlements).settle(Outcome::Stored);
        settlements.wait().await;
        assert_eq!(settled(&settlements).len(), 1);
    }
}
