//! What former processes left for those who produce exactly once.

use crate::{
    event::Text,
    store::{Restored, Store, StoredLedger},
};

/// The store, and what was in it when the process started.
#[derive(Debug)]
pub struct Past {
    pub(super) store: Store,
    ledgers: Vec<(Text, StoredLedger)>,
    intents: Vec<Former>,
}

/// An intent of a former process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    pub(super) cluster: Text,
    pub(super) session: u64,
    pub(super) id: u16,
    pub(super) number: u64,
}

impl Past {
    /// Takes what concerns them out of what was restored.
    pub fn new(store: &Store, restored: &Restored) -> Self {
        let intents = restored.intents().map(|(session, intent)| Former {
            cluster: intent.cluster.clone(),
            session,
            id: intent.id,
            number: intent.number,
        });
        Past { store: store.clone(), ledgers: restored.ledgers.clone(), intents: intents.collect() }
    }

    pub(super) fn ledger(&self, cluster: &str) -> Option<StoredLedger> {
        self.ledgers.iter().find(|(name, _)| *name == cluster).map(|(_, ledger)| ledger.clone())
    }

    pub(super) fn intents(&self, cluster: &str) -> impl Iterator<Item = &Former> {
        self.intents.iter().filter(move |former| former.cluster == cluster)
    }
}
