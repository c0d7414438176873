//! From publishers to subscribers' mailboxes, over rumqttd's Router as an ordered in-process bus. The only place that names rumqttd.
//!
//! The Router is used only where it was tried and found sound: one Router per shard with one constant ASCII topic, one clean local link
//! in and one out, QoS 0, and fewer batches under way (credits) than its log and its channels hold, so that nothing it forgets is unread
//! and sending never blocks. The messages themselves ride beside it, in a table keyed by the number that the Router carries.
//!
//! A publisher always takes the same shard, so its messages stay in order. A message without a receiver does not come here. When a
//! Router dies, its shard's task starts another one and reports what was inside as not delivered ([`DropReason::BusRestarted`]).
//!
//! What the store has to do with a message travels along, and is done together with its arrival in the mailboxes: one batch for all of its
//! durable receivers, with the publisher's own trace in it, settles the message's share in the receipt.
//!
//! rumqttd has no way to end a Router: its thread stays, parked, when a bus is dropped. A process has one bus.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkError, LinkRx, LinkTx},
};
use tokio::sync::Semaphore;

use super::{aftermath::Aftermath, mailbox::Rejected, subscriptions::Receivers};
use crate::{
    event::{DropReason, Message, Receipt},
    metrics::Metrics,
    store::{Change, Store},
};

/// The topic of a shard; its Router knows no other.
const TOPIC: &str = "s/0";
/// Batches under way in one shard. rumqttd's channels take 200 and 1000; the log below takes a thousand.
const CREDITS: usize = 64;
/// Of one log segment, bytes; a batch takes 15.
const SEGMENT_BYTES: usize = 16 * 1024;
/// Messages that travel together, at most.
pub(super) const MAX_BATCH: usize = 64;

/// A message and whom it goes to.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) message: Arc<Message>,
    pub(super) receivers: Receivers,
    /// What the store has to do with it.
    pub(super) stored: Option<Stored>,
}

/// What the store has to do with a message.
#[derive(Debug)]
pub(super) struct Stored {
    /// What becomes durable together with the deliveries.
    pub(super) change: Option<Change>,
    /// To be settled when the deliveries are durable.
    pub(super) share: Receipt,
}

/// The bus.
#[derive(Debug)]
pub(super) struct Bus {
    hasher: RandomState,
    shards: Vec<Arc<Shard>>,
}

/// The bus could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the in-process bus did not start: {0}")]
pub(super) struct BusError(String);

struct Shard {
    number: usize,
    link: Mutex<LinkTx>,
    under_way: Mutex<VecDeque<(u64, Vec<Routed>)>>,
    next: AtomicU64,
    credits: Semaphore,
    metrics: Arc<Metrics>,
    store: Option<Store>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Bus {
    /// Starts `shards` Routers and the tasks that empty them.
    pub(super) fn start(shards: usize, metrics: &Arc<Metrics>, aftermath: &Aftermath, store: Option<&Store>) -> Result<Self, BusError> {
        let mut started = Vec::new();
        for number in 0..shards {
            let (tx, rx) = link(number)?;
            let shard = Arc::new(Shard {
                number,
                link: Mutex::new(tx),
                under_way: Mutex::default(),
                next: AtomicU64::new(0),
                credits: Semaphore::new(CREDITS),
                metrics: Arc::clone(metrics),
                store: store.cloned(),
            });
            tokio::spawn(empty(Arc::downgrade(&shard), rx, aftermath.clone()));
            started.push(shard);
        }
        Ok(Bus { hasher: RandomState::new(), shards: started })
    }

    /// Sends messages of one publisher, in order; waits for credit. Everything in `batch` is sent when it returns.
    pub(super) async fn send(&self, publisher: &str, batch: &mut Vec<Routed>) {
        let index = self.hasher.hash_one(publisher) as usize % self.shards.len().max(1);
        if let Some(shard) = self.shards.get(index)
            && let Ok(credit) = shard.credits.acquire().await
        {
            credit.forget();
            shard.put(std::mem::take(batch));
        }
    }
}

impl Shard {
    fn put(&self, batch: Vec<Routed>) {
        // One lock for number, table and link: their orders must agree.
        let mut link = self.link.lock();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.under_way.lock().push_back((number, batch));
        if let Err(error) = link.try_publish(TOPIC, number.to_be_bytes().to_vec()) {
            tracing::debug!(shard = self.number, %error, "the bus takes nothing; its task will find the batch and report it");
        }
    }

    /// The batch that arrived; those before it were lost on the way and come along as such.
    fn arrived(&self, number: u64) -> (Vec<Vec<Routed>>, Option<Vec<Routed>>) {
        let mut under_way = self.under_way.lock();
        let mut lost = Vec::new();
        while under_way.front().is_some_and(|(first, _)| *first < number) {
            lost.extend(under_way.pop_front().map(|(_, batch)| batch));
        }
        let found = under_way.front().is_some_and(|(first, _)| *first == number);
        (lost, if found { under_way.pop_front().map(|(_, batch)| batch) } else { None })
    }
}

fn config() -> RouterConfig {
    RouterConfig {
        max_connections: 4,
        max_outgoing_packet_count: 150, // below the 200 of a link's buffer
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: 2,
        ..RouterConfig::default()
    }
}

/// Starts a Router with its two links. Blocks for a moment.
fn link(shard: usize) -> Result<(LinkTx, LinkRx), BusError> {
    let fault = |error: LinkError| BusError(error.to_string());
    let router = Router::new(shard, config()).spawn();
    let (mut subscriber, rx, _) = LinkBuilder::new("out", router.clone()).build().map_err(fault)?;
    subscriber.subscribe(TOPIC).map_err(fault)?;
    let (tx, _, _) = LinkBuilder::new("in", router).build().map_err(fault)?;
    Ok((tx, rx))
}

/// Empties one shard until its bus is gone; starts its Router again when it dies.
async fn empty(shard: std::sync::Weak<Shard>, mut rx: LinkRx, aftermath: Aftermath) {
    loop {
        let notification = rx.next().await;
        let Some(shard) = shard.upgrade() else { return };
        match notification {
            Ok(Some(Notification::Forward(forward))) => {
                let number = <[u8; 8]>::try_from(&forward.publish.payload[..]).map(u64::from_be_bytes);
                let Ok(number) = number else { continue };
                let (lost, batch) = shard.arrived(number);
                shard.credits.add_permits(lost.len() + usize::from(batch.is_some()));
                report(lost, &aftermath).await;
                deliver(batch.unwrap_or_default(), shard.store.as_ref(), &aftermath).await;
            }
            Ok(Some(Notification::Unschedule)) => {
                if rx.wake().await.is_err() {
                    tracing::debug!(shard = shard.number, "the bus is gone");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(shard = shard.number, %error, "the in-process bus died and is started again");
                rx = restart(&shard, &aftermath).await;
            }
        }
    }
}

async fn restart(shard: &Arc<Shard>, aftermath: &Aftermath) -> LinkRx {
    loop {
        let number = shard.number;
        match tokio::task::spawn_blocking(move || link(number)).await {
            Ok(Ok((tx, rx))) => {
                // From here on batches take the new way; what is in the table by now took the old one.
                let lost: Vec<_> = {
                    let mut link = shard.link.lock();
                    *link = tx;
                    std::mem::take(&mut *shard.under_way.lock()).into_iter().map(|(_, batch)| batch).collect()
                };
                shard.metrics.bus_restarts.inc();
                shard.credits.add_permits(lost.len());
                report(lost, aftermath).await;
                return rx;
            }
            Ok(Err(error)) => tracing::error!(shard = number, %error, "trying again"),
            Err(error) => tracing::error!(shard = number, %error, "trying again"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn deliver(batch: Vec<Routed>, store: Option<&Store>, aftermath: &Aftermath) {
    for routed in batch {
        if let (Some(store), Some(_)) = (store, &routed.stored) {
            store.room().await;
        }
        for rejected in put(routed, store) {
            dropped(rejected, aftermath).await;
        }
    }
}

/// Puts a message into its receivers' mailboxes; what they did not take.
fn put(Routed { message, receivers, stored }: Routed, store: Option<&Store>) -> Vec<Rejected> {
    let mut batch = if stored.is_some() { store.map(Store::batch) } else { None };
    let mut rejected = Vec::new();
    for receiver in receivers.sessions {
        rejected.extend(receiver.mailbox.push_in(receiver.parcel(&message), batch.as_mut()).err().map(|rejected| *rejected));
    }
    for group in receivers.groups {
        rejected.extend(group.deliver(&message, batch.as_mut()).err().map(|rejected| *rejected));
    }
    if let (Some(mut batch), Some(Stored { change, share })) = (batch, stored) {
        change.into_iter().for_each(|change| batch.add(change));
        batch.share(share);
    }
    rejected
}

async fn dropped(Rejected { parcel, reason, client }: Rejected, aftermath: &Aftermath) {
    aftermath.dropped(client, parcel.message, reason).await;
}

async fn report(lost: Vec<Vec<Routed>>, aftermath: &Aftermath) {
    for Routed { message, receivers, .. } in lost.into_iter().flatten() {
        let groups = receivers.groups.iter().filter_map(|group| group.anybody());
        let clients: Vec<_> = receivers.sessions.iter().map(|receiver| receiver.mailbox.client()).chain(groups).collect();
        for client in clients {
            aftermath.dropped(client, Arc::clone(&message), DropReason::BusRestarted).await;
        }
    }
}

#[cfg(test)]
mod tests;
