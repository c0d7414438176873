//! The one who brings batches to Kafka: each in a transaction, one after the other, until it is stored.
//!
//! A thread, because transactions block. Nothing is given up while the process runs, except what Kafka refuses for good: who had to wait
//! and was let go would come again, after others that came later.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{timeout, timeout_at},
};

use super::{
    Settings, Shared,
    batch::{Batch, Spot},
    ledger::{Fate, Ledger},
    lot::Lot,
};
use crate::{
    event::{Outcome, Text},
    kafka::{Failed, Marker, Record, TransactionError, Transactor},
    metrics::{Label, ReasonLabel},
    store::{Change, Ticket},
};

/// Between attempts, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// After another process took the node's name: two of them must not keep shutting each other out.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// How often the end of the process is looked for in a pause.
const GLANCE: Duration = Duration::from_millis(100);
/// How long the disk may take before the transaction is given up, so that Kafka does not.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
/// A marker that nobody writes is forgotten by Kafka after days (offsets.retention.minutes): written so often at least.
const REFRESH: Duration = Duration::from_secs(3600);
/// How often the same trouble is said.
const QUIET: Duration = Duration::from_secs(10);
/// Topics whose handles are kept; guests may name topics.
const MOST_TOPICS: usize = 1_000;
/// How long a topic is held to refuse what is as large as what it refused.
const SIZE_MEMORY: Duration = Duration::from_secs(60);

/// Why a batch is not stored.
enum Trouble {
    /// For its records, at least in part; nothing of it is stored. With the lot of each record.
    Refused(Vec<Failed>, Vec<Spot>),
    /// Nothing of it is stored; to be tried again.
    Later(String),
    /// The same, and another process uses the node's name.
    Rival(String),
    /// The process ends.
    Stopped,
}

pub(super) struct Worker {
    settings: Settings,
    cluster: Text,
    shared: Arc<Shared>,
    lots: mpsc::Receiver<Lot>,
    runtime: Runtime,
    ledger: Ledger,
    transactor: Option<Transactor>,
    commits: watch::Receiver<Ticket>,
    /// When everything is durable that was noted.
    noted: Ticket,
    said: Option<(String, Instant)>,
    /// Intents of transactions that were not committed: the marker of the next one must not speak for them.
    unsettled: Vec<(u64, u16)>,
    /// The size of a record that a topic refused as too large, and when.
    too_large: HashMap<Text, (usize, Instant)>,
    counters: HashMap<Text, Counters>,
}

/// The metric handles of a topic: records that came, and that are stored.
type Counters = (Counter, Counter);

impl Worker {
    pub(super) fn new(settings: Settings, cluster: Text, shared: Arc<Shared>, lots: mpsc::Receiver<Lot>) -> std::io::Result<Self> {
        let ledger = Ledger::begin(cluster.clone(), settings.past.ledger(&cluster), fastrand::u64(..));
        Ok(Worker {
            commits: settings.past.store.commits(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            settings,
            cluster,
            shared,
            lots,
            ledger,
            transactor: None,
            noted: Ticket::default(),
            said: None,
            unsettled: Vec::new(),
            too_large: HashMap::new(),
            counters: HashMap::new(),
        })
    }

    /// Works until the last way to it is gone, or the process ends.
    pub(super) fn run(&mut self) {
        if !self.arrive() {
            return;
        }
        self.refresh();
        loop {
            let (first, linger) = (self.next(REFRESH), Transactor::linger(&self.settings.producer));
            match first {
                Ok(Some(first)) => {
                    let batch = self.gather(first, linger);
                    self.count_records(&batch, |(came, _)| came);
                    self.bring(batch);
                }
                Ok(None) => return,
                Err(_) => self.refresh(),
            }
            if self.is_stopped() {
                return;
            }
        }
    }

    fn next(&mut self, patience: Duration) -> Result<Option<Lot>, tokio::time::error::Elapsed> {
        let Worker { runtime, lots, .. } = self;
        runtime.block_on(async { timeout(patience, lots.recv()).await })
    }

    /// What comes within a short while makes one batch. Under load nobody waits: it came during the transaction before.
    fn gather(&mut self, first: Lot, linger: Duration) -> Batch {
        let deadline = tokio::time::Instant::from_std(first.since + linger);
        let mut batch = Batch::default();
        batch.push(first);
        let Worker { runtime, lots, .. } = self;
        runtime.block_on(async {
            while !batch.is_full() {
                match timeout_at(deadline, lots.recv()).await {
                    Ok(Some(lot)) => batch.push(lot),
                    Ok(None) | Err(_) => break,
                }
            }
        });
        batch
    }

    /// Learns what became of the former processes' intents, and has those forgotten that did not arrive. False: the process ended.
    fn arrive(&mut self) -> bool {
        let marker = loop {
            match self.open() {
                Ok(marker) => break marker,
                Err(error) => self.complain(&error),
            }
            if self.pause(PAUSES.1) {
                return false;
            }
        };
        let past = Arc::clone(&self.settings.past);
        let found = self.ledger.find(marker, past.intents(&self.cluster).map(|former| former.number).max());
        let lost: Vec<_> = past.intents(&self.cluster).filter(|former| former.number > found.stored).collect();
        if let Some(doubt) = found.doubt {
            let (cluster, lost) = (&*self.cluster, lost.len());
            tracing::warn!(cluster, lost, "exactly once: {doubt}; of {lost} publishes nobody knows whether Kafka has them");
        }
        let mut changes = vec![self.ledger.change()];
        changes.extend(lost.into_iter().map(|former| Change::Forgotten(former.session, former.id, former.cluster.clone())));
        self.note(changes);
        self.shared.stored.send_replace(Some(found.stored));
        tracing::info!(cluster = &*self.cluster, marker = found.stored, "exactly once: ready");
        true
    }

    /// Shuts out whoever uses the node's name, and reads the marker, which is final then.
    fn open(&mut self) -> Result<Option<Marker>, TransactionError> {
        self.transactor = None;
        let transactor = Transactor::open(&self.settings.producer, &self.settings.node)?;
        let marker = self.ledger.topic().map(|topic| transactor.marker(topic)).transpose()?.flatten();
        self.transactor = Some(transactor);
        Ok(marker)
    }

    /// Writes the marker although nothing is new: says that it is ours, and keeps it from being forgotten.
    fn refresh(&mut self) {
        if let Err(Trouble::Later(reason) | Trouble::Rival(reason)) = self.attempt(&Batch::default()) {
            self.complain(&reason);
        }
    }

    /// Brings a batch to its end.
    fn bring(&mut self, mut batch: Batch) {
        let mut pause = PAUSES.0;
        self.refuse_known(&mut batch);
        while !batch.is_empty() && !self.is_stopped() {
            match self.attempt(&batch) {
                Ok(()) => return self.settle(batch),
                Err(Trouble::Refused(failed, spots)) => batch = self.sort_out(batch, failed, &spots),
                Err(Trouble::Later(reason)) => {
                    // Once is nothing: librdkafka needs it to find its place again after a transaction that failed.
                    if pause > PAUSES.0 {
                        self.complain(&reason);
                    }
                    self.pause(pause);
                    pause = PAUSES.1.min(2 * pause);
                }
                Err(Trouble::Rival(reason)) => {
                    self.complain(&reason);
                    self.pause(LONG_PAUSE);
                }
                Err(Trouble::Stopped) => return,
            }
        }
    }

    /// Ends what Kafka refuses of a batch; what of it is to be brought again. Where it is not known which of them it is, they are brought
    /// in parts, in their order: one of them fails for all, and the others must not wait for it.
    fn sort_out(&mut self, mut batch: Batch, failed: Vec<Failed>, spots: &[Spot]) -> Batch {
        if failed.iter().any(|failed| failed.certain) {
            let certain = failed.into_iter().filter(|failed| failed.certain).collect();
            self.refuse(&mut batch, certain, spots);
            batch
        } else if batch.lots.len() == 1 {
            if failed.iter().any(Failed::is_too_large) {
                self.note_size(&batch);
            }
            self.refuse(&mut batch, failed, spots);
            batch
        } else if failed.iter().any(Failed::is_too_large) {
            let (largest, after) = batch.split_at_largest();
            self.bring(batch);
            self.bring(largest);
            after
        } else {
            let later = batch.split_in_half();
            self.bring(batch);
            later
        }
    }

    /// A topic refused a record as too large, which cost a transaction: the like of it will not be tried for a while.
    fn note_size(&mut self, batch: &Batch) {
        let Some(record) = batch.lots.iter().flat_map(Lot::records).max_by_key(|record| record.bytes()) else { return };
        // What counts for Kafka is the size after compression.
        if Transactor::is_plain(&self.settings.producer) && self.too_large.len() < MOST_TOPICS {
            self.too_large.insert(Text::from(record.topic.to_string()), (record.bytes(), Instant::now()));
        }
    }

    fn refuse_known(&mut self, batch: &mut Batch) {
        self.too_large.retain(|_, (_, when)| when.elapsed() < SIZE_MEMORY);
        if self.too_large.is_empty() {
            return;
        }
        let (records, spots) = batch.records();
        let is_too_large = |record: &Record| self.too_large.get(&record.topic).is_some_and(|(size, _)| record.bytes() >= *size);
        let failed = records.iter().enumerate().filter(|(_, record)| is_too_large(record));
        let failed: Vec<Failed> = failed.map(|(index, record)| Failed::too_large(index, record)).collect();
        self.refuse(batch, failed, &spots);
    }

    /// One transaction. After an error nothing of it is stored, unless the process ends.
    fn attempt(&mut self, batch: &Batch) -> Result<(), Trouble> {
        self.be_open()?;
        let Some(plan) = batch.plan(&mut self.ledger) else { return Ok(()) };
        self.forget_others(&plan.changes);
        self.note(plan.changes);
        let (records, spots) = batch.records();
        let Some(transactor) = &mut self.transactor else { return Err(Trouble::Later(String::new())) };
        if let Err(error) = transactor.send(&self.settings.producer, &records, &plan.topic, plan.marker) {
            return Err(self.undo(error, spots));
        }
        if !self.is_durable() {
            let reason = "the store cannot be written".to_owned();
            return Err(self.undo(TransactionError::Abort { reason, failed: Vec::new() }, spots));
        }
        match self.transactor.as_ref().map_or(Ok(()), Transactor::commit) {
            Ok(()) => {}
            Err(error @ TransactionError::Abort { .. }) => return Err(self.undo(error, spots)),
            Err(error) => self.learn(plan.marker.number, &error)?,
        }
        self.ledger.prove();
        self.unsettled.clear();
        self.count("committed");
        Ok(())
    }

    /// Has the store forget the intents that an aborted transaction left and that this one does not renew: they are below its marker, and
    /// not in Kafka.
    fn forget_others(&mut self, changes: &[Change]) {
        let intended = |change: &Change| match change {
            Change::Intended(session, intent) => Some((*session, intent.id)),
            _ => None,
        };
        let unsettled = std::mem::replace(&mut self.unsettled, changes.iter().filter_map(intended).collect());
        if !unsettled.is_empty() {
            let renewed: HashSet<&(u64, u16)> = self.unsettled.iter().collect();
            let others = unsettled.iter().filter(|intent| !renewed.contains(intent));
            let others = others.map(|(session, id)| Change::Forgotten(*session, *id, self.cluster.clone())).collect();
            self.note(others);
        }
    }

    /// Opens another transactor if the last one is gone; nothing is in doubt.
    fn be_open(&mut self) -> Result<(), Trouble> {
        if self.transactor.as_ref().is_some_and(|transactor| !transactor.is_stale(&self.settings.producer)) {
            return Ok(());
        }
        let marker = self.open().map_err(|error| Trouble::Later(error.to_string()))?;
        match self.ledger.fate(marker, u64::MAX) {
            Fate::Usurped => {
                self.transactor = None;
                Err(Trouble::Rival(self.rivalry()))
            }
            Fate::Committed | Fate::Aborted => Ok(()),
        }
    }

    /// Ends a transaction without effect.
    fn undo(&mut self, error: TransactionError, spots: Vec<Spot>) -> Trouble {
        self.count("aborted");
        let trouble = match error {
            TransactionError::Fenced(_) => Trouble::Rival(self.rivalry()),
            TransactionError::Lost(reason) => Trouble::Later(reason),
            TransactionError::NoMarkerTopic(_) => {
                let reason = error.to_string();
                self.ledger.give_up_topic();
                self.abort();
                return Trouble::Later(reason);
            }
            TransactionError::Abort { reason, failed } => {
                self.abort();
                let refused: Vec<Failed> = failed.into_iter().filter(|it| matches!(it.outcome, Outcome::Refused(_))).collect();
                return if refused.is_empty() { Trouble::Later(reason) } else { Trouble::Refused(refused, spots) };
            }
        };
        self.transactor = None; // the next one ends it
        trouble
    }

    fn abort(&mut self) {
        if let Some(Err(error)) = self.transactor.as_ref().map(Transactor::abort) {
            tracing::debug!("a transaction could not be aborted: {error}; the next producer ends it");
            self.transactor = None;
        }
    }

    /// Whether a transaction was committed whose end nobody saw: the marker says so.
    fn learn(&mut self, last: u64, error: &TransactionError) -> Result<(), Trouble> {
        self.complain(error);
        loop {
            match self.open() {
                Ok(marker) => match self.ledger.fate(marker, last) {
                    Fate::Committed => return Ok(()),
                    Fate::Aborted => {
                        self.count("aborted");
                        return Err(Trouble::Later(error.to_string()));
                    }
                    Fate::Usurped => self.complain(&self.rivalry()),
                },
                Err(error) => self.complain(&error),
            }
            if self.pause(PAUSES.1) {
                return Err(Trouble::Stopped);
            }
        }
    }

    /// Makes changes durable, in order, some time; [`Worker::is_durable`] waits for it.
    fn note(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            let mut batch = self.settings.past.store.batch();
            changes.into_iter().for_each(|change| batch.add(change));
            self.noted = batch.ticket();
        }
    }

    /// Waits until everything noted is on the disk.
    fn is_durable(&mut self) -> bool {
        let Worker { runtime, commits, noted, .. } = self;
        runtime
            .block_on(async { timeout(DISK_PATIENCE, commits.wait_for(|committed| *committed >= *noted)).await.is_ok_and(|it| it.is_ok()) })
    }

    /// Kafka has a batch.
    fn settle(&mut self, batch: Batch) {
        self.count_records(&batch, |(_, stored)| stored);
        for lot in batch.lots {
            if let Some(origin) = lot.receipt().and_then(|receipt| receipt.origin()) {
                origin.is_stored(&self.cluster);
            }
            lot.settle(Outcome::Stored);
        }
    }

    fn count_records(&mut self, batch: &Batch, which: fn(&Counters) -> &Counter) {
        let Worker { counters, shared, .. } = self;
        for record in batch.lots.iter().flat_map(Lot::records) {
            if let Some(counters) = counters.get(&record.topic) {
                which(counters).inc();
                continue;
            }
            let label = Label::from(&*record.topic);
            let metrics = &shared.metrics;
            let new = (metrics.records_enqueued.get_or_create_owned(&label), metrics.records_confirmed.get_or_create_owned(&label));
            which(&new).inc();
            if counters.len() < MOST_TOPICS {
                counters.insert(Text::from(record.topic.to_string()), new); // the text may be a slice of a large buffer
            }
        }
    }

    /// Ends the lots that failed for good, as they failed. None of them is stored.
    fn refuse(&mut self, batch: &mut Batch, failed: Vec<Failed>, spots: &[Spot]) {
        for (lot, failed) in batch.take_out(failed, spots) {
            self.fail(lot, failed.outcome, failed.reason);
        }
    }

    fn fail(&mut self, lot: Lot, outcome: Outcome, reason: &'static str) {
        for record in lot.records() {
            let label = ReasonLabel { name: record.topic.to_string(), reason: reason.to_owned() };
            self.shared.metrics.records_failed.get_or_create(&label).inc();
        }
        self.complain(&format!("{outcome:?}"));
        lot.settle(outcome);
    }

    fn rivalry(&self) -> String {
        let (node, id) = (&self.settings.node, Transactor::name(&self.settings.node));
        format!("another process produces as \"{id}\": each Hookgate needs a [node] name of its own, and this is \"{node}\"")
    }

    /// Says what is wrong, the same once in a while.
    fn complain(&mut self, what: &impl std::fmt::Display) {
        let what = what.to_string();
        if !self.said.as_ref().is_some_and(|(said, when)| *said == what && when.elapsed() < QUIET) {
            let outstanding = self.shared.bounds.outstanding();
            tracing::error!(cluster = &*self.cluster, outstanding, "exactly once: {what}; what waits for it is not acknowledged");
            self.said = Some((what, Instant::now()));
        }
    }

    fn count(&self, end: &str) {
        self.shared.metrics.transactions.get_or_create(&Label::from(end)).inc();
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Waits; true: the process ended meanwhile.
    fn pause(&self, pause: Duration) -> bool {
        let start = Instant::now();
        while !self.is_stopped() && !self.lots.is_closed() && start.elapsed() < pause {
            std::thread::sleep(GLANCE.min(pause));
        }
        self.is_stopped()
    }
}
