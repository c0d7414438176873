//! What can change while the process runs, held once for all who change it: the bridge (files and signals), operators, and a task of its own
//! that ends canaries and probations.
//!
//! Invariant: whoever changes what is in service holds the lock from the look at it to the change, so that no two changes are made from one
//! state; events never wait for it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::Reloaded;
use crate::{
    access::Access,
    config::Config,
    metrics::Metrics,
    outbox::Outbox,
    pipeline::Pipeline,
    registry::{Guests, OperateError, Registry, Serving, View},
};

/// How long the task waits when there is nothing to wait for: it is woken when there is.
const LONG: Duration = Duration::from_secs(3_600);

/// The shortest wait: what could not be done is not tried again at once.
const SHORT: Duration = Duration::from_millis(50);

/// The parts that change, and those that do it.
#[derive(Debug)]
pub(super) struct Works {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) outbox: Outbox,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) present: Mutex<Present>,
}

impl Drop for Works {
    fn drop(&mut self) {
        self.registry.rouse(); // so that the task sees that there is nothing left
    }
}

/// What is in service: changed only as a whole.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) config: Config,
    pub(super) guests: Guests,
    pub(super) access: Arc<Access>,
}

/// What an operator wants to happen to a guest's versions.
#[derive(Debug)]
pub(super) enum Wish {
    /// A former version back, by its digest or the one before.
    RollBack(Option<String>),
    /// The new version for everybody.
    Promote,
    /// The new version gone.
    Discard,
}

impl Works {
    /// Puts them together, and starts the task, which ends when they are dropped.
    pub(super) fn start(pipeline: Arc<Pipeline>, outbox: Outbox, registry: Registry, metrics: Arc<Metrics>, present: Present) -> Arc<Self> {
        let works = Arc::new(Works { pipeline, outbox, registry, metrics, present: Mutex::new(present) });
        tokio::spawn(settle(Arc::downgrade(&works)));
        works
    }

    /// Looks at the guests' files, or at one guest's.
    pub(super) async fn refresh(&self, only: Option<&str>) -> Reloaded {
        let mut present = self.present.lock().await;
        let (guests, problems) = self.registry.refresh(&present.config, &present.guests, only).await;
        Reloaded { swapped: self.take(&mut present, guests).await, problems }
    }

    /// Does what an operator wants.
    pub(super) async fn grant(&self, name: &str, wish: Wish) -> Result<(), OperateError> {
        let mut present = self.present.lock().await;
        let Present { config, guests, .. } = &*present;
        let guests = match wish {
            Wish::RollBack(digest) => self.registry.roll_back(config, guests, name, digest.as_deref()).await?,
            Wish::Promote => self.registry.promote(config, guests, name).await?,
            Wish::Discard => self.registry.discard(guests, name)?,
        };
        self.take(&mut present, guests).await;
        Ok(())
    }

    /// What is known of the guests.
    pub(super) async fn views(&self) -> Vec<View> {
        self.present.lock().await.guests.views()
    }

    /// Takes a snapshot into service; the names of the guests that changed.
    async fn take(&self, present: &mut Present, guests: Guests) -> Vec<String> {
        let changed = changed(&present.guests, &guests);
        if !changed.is_empty() {
            match super::plan(&present.config, &present.access, &self.outbox, &guests) {
                Ok(plan) => self.pipeline.install(plan),
                Err(error) => {
                    tracing::error!(%error, "the new guests do not fit the configuration; the old ones go on");
                    return Vec::new();
                }
            }
        }
        present.guests = self.registry.commit(guests, &present.guests).await;
        changed
    }
}

/// Ends canaries and probations when their time has come.
async fn settle(works: Weak<Works>) {
    loop {
        let Some(strong) = works.upgrade() else { return };
        let now = Instant::now();
        let due = strong.present.lock().await.guests.due(now).map_or(now + LONG, |due| due.max(now + SHORT));
        let registry = strong.registry.clone();
        drop(strong); // not held while asleep, so that the works can go
        let _ = tokio::time::timeout_at(due.into(), registry.woken()).await; // either way it is time to look
        let Some(works) = works.upgrade() else { return };
        let mut present = works.present.lock().await;
        if let Some(guests) = works.registry.settle(&present.guests).await {
            works.take(&mut present, guests).await;
        }
    }
}

/// The guests that are served another way.
pub(super) fn changed(old: &Guests, new: &Guests) -> Vec<String> {
    let differs = |guest: &&Arc<Serving>| old.get(guest.name()).is_none_or(|old| !Arc::ptr_eq(old, guest));
    let mut names: Vec<String> = new.iter().filter(differs).map(|guest| guest.name().to_owned()).collect();
    names.sort();
    names
}
