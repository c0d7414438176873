//! Takes what is in a cluster's spool to Kafka, in the order of the log: one task for each cluster.
//!
//! It asks for the cluster's producer at each record, so that the producer can be replaced while records wait. It may be given up at any
//! await: what it has not confirmed stays in the spool and is sent again.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::watch, time::sleep};

use super::{
    Target,
    window::{Todo, Window},
    wire,
};
use crate::{
    event::{Bytes, Outcome, Receipt, Refusal, Settlement, Settlements, now_ms},
    metrics::{Label, Metrics, ReasonLabel},
    outbox::refused,
    spool::{Batch, Entry, Reader, Spool},
};

/// Records that are sent between two looks at what was settled.
const STRIDE: usize = 64;
/// Before what nobody knows of is sent again: first, and at most; twice as long after each that brought nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Before something that cannot be read is tried again.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(10);

/// The one who empties a spool.
#[derive(Debug)]
pub(super) struct Forwarder {
    name: String,
    spool: Spool,
    reader: Reader,
    batch: Batch,
    /// Everything before this was sent.
    sent: u64,
    window: Window,
    settlements: Arc<Settlements>,
    settled: Vec<Settlement>,
    /// What the spool was told last.
    confirmed: (u64, Option<u64>),
    pause: Duration,
    target: Arc<ArcSwap<Target>>,
    metrics: Arc<Metrics>,
    forwarded: Counter,
}

impl Forwarder {
    pub(super) fn new(name: &str, spool: Spool, reader: Reader, target: Arc<ArcSwap<Target>>, metrics: &Arc<Metrics>) -> Self {
        let sent = reader.position();
        Forwarder {
            name: name.to_owned(),
            spool,
            reader,
            batch: Batch::default(),
            sent,
            window: Window::default(),
            settlements: Settlements::new(),
            settled: Vec::new(),
            confirmed: (sent, None),
            pause: FIRST_PAUSE,
            target,
            forwarded: metrics.spool_forwarded.get_or_create_owned(&Label::from(name)),
            metrics: Arc::clone(metrics),
        }
    }

    /// Forwards until told to stop, or until nobody can tell it any more.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Self {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return self,
                () = self.turn() => {}
            }
        }
    }

    async fn turn(&mut self) {
        self.take_settled().await;
        if let Some((sequence, again)) = self.window.begin_again() {
            return self.begin_again(sequence, again).await;
        }
        if self.window.is_closed() {
            return self.settlements.wait().await;
        }
        for _ in 0..STRIDE {
            match self.batch.next() {
                Some(entry) => self.forward(entry).await,
                None => return self.read().await,
            }
            if self.window.is_closed() {
                return;
            }
        }
    }

    /// Waits for more, or for something that is settled.
    async fn read(&mut self) {
        self.sent = self.reader.position();
        self.confirm();
        tokio::select! {
            biased;
            () = self.settlements.wait() => {}
            () = self.reader.ready() => match self.reader.read().await {
                Ok(batch) => self.batch = batch,
                Err(error) => {
                    tracing::error!(spool = self.name, "the spool cannot be read on; nothing of it is forwarded: {error}");
                    sleep(UNREADABLE_PAUSE).await;
                }
            },
        }
    }

    async fn forward(&mut self, entry: Entry) {
        let Some(record) = wire::decode(&entry.body) else {
            let sequence = entry.sequence;
            tracing::error!(
                spool = self.name,
                sequence,
                "a record in the spool has a format that this version does not know; nothing after it is forwarded: run the version that \
                 wrote it until the spool is empty"
            );
            sleep(UNREADABLE_PAUSE).await;
            self.reader.rewind(sequence);
            self.batch = Batch::default();
            return;
        };
        let was_idle = self.window.first().is_none();
        self.window.push(&entry);
        self.sent = entry.sequence + 1;
        if was_idle {
            self.confirm(); // so that its age is known, however long Kafka takes
        }
        let target = self.target.load_full();
        target.producer.send(record, Receipt::open(entry.sequence, &self.settlements)).await;
    }

    async fn take_settled(&mut self) {
        self.settlements.take(&mut self.settled);
        if self.settled.is_empty() {
            return;
        }
        let mut settled = std::mem::take(&mut self.settled);
        for Settlement { number, outcome } in settled.drain(..) {
            if outcome == Outcome::Stored {
                self.forwarded.inc();
                self.pause = FIRST_PAUSE;
            }
            match self.window.settle(number, outcome) {
                Todo::Nothing => {}
                Todo::Bury(body, refusal) => self.bury(number, &body, refusal).await,
                Todo::Buried(body, word) => self.note_buried(&body, word),
                Todo::GiveUp(body, refusal) => self.give_up(number, &body, &refusal),
            }
        }
        self.settled = settled; // its room is used again
        self.confirm();
    }

    /// Tells the spool what it need not keep any longer.
    fn confirm(&mut self) {
        let confirmed = match self.window.first() {
            Some((sequence, time_ms)) => (sequence, Some(time_ms)),
            None => (self.sent, None),
        };
        if confirmed != self.confirmed {
            self.confirmed = confirmed;
            self.spool.confirm(confirmed.0, confirmed.1);
        }
    }

    async fn begin_again(&mut self, sequence: u64, again: usize) {
        tracing::warn!(spool = self.name, sequence, again, "nobody knows whether Kafka has these records: they are sent again");
        self.metrics.spool_resent.get_or_create(&Label::from(self.name.as_str())).inc_by(again as u64);
        self.reader.rewind(sequence);
        self.batch = Batch::default();
        self.sent = sequence;
        self.confirm();
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        sleep(pause).await;
    }

    /// Sends the dead letter of a record that Kafka refuses: nobody else could be told.
    async fn bury(&mut self, sequence: u64, body: &Bytes, refusal: Refusal) {
        let target = self.target.load_full();
        match wire::decode(body) {
            Some(record) if record.topic != target.dead_letter_topic => {
                let letter = refused::dead(record, &refusal, &target.dead_letter_topic, now_ms());
                target.producer.send(letter, Receipt::open(sequence, &self.settlements)).await;
            }
            // A dead letter itself.
            _ => {
                if let Todo::GiveUp(body, refusal) = self.window.settle(sequence, Outcome::Refused(refusal)) {
                    self.give_up(sequence, &body, &refusal);
                }
            }
        }
    }

    fn note_buried(&self, body: &Bytes, word: &str) {
        let topic = wire::decode(body).map(|record| record.topic.to_string()).unwrap_or_default();
        self.metrics.records_dead_lettered.get_or_create(&ReasonLabel { name: topic, reason: word.to_owned() }).inc();
    }

    /// Drops a record that neither its topic nor the dead letter topic takes, so that it does not hold up all others for ever.
    fn give_up(&self, sequence: u64, body: &Bytes, refusal: &Refusal) {
        let label = ReasonLabel { name: self.name.clone(), reason: refusal.word().to_owned() };
        self.metrics.spool_given_up.get_or_create(&label).inc();
        let record = wire::decode(body);
        let topic = record.as_ref().map(|record| &*record.topic);
        let key = record.as_ref().and_then(|record| record.key.as_deref()).map(String::from_utf8_lossy).unwrap_or_default();
        let event_id = record.as_ref().and_then(|record| record.id).map(|id| id.text());
        tracing::error!(
            spool = self.name, sequence, topic, %key, event_id = event_id.as_ref().map(|id| id.as_str()),
            "a record is lost: Kafka refuses it, and its dead letter too: {}", refusal.text()
        );
    }

    /// Takes note of what was settled, and no more; how many records are still on their way.
    pub(super) fn look(&mut self) -> usize {
        self.settlements.take(&mut self.settled);
        for Settlement { number, outcome } in std::mem::take(&mut self.settled) {
            // What is refused now is sent again at the next start, and buried then.
            let outcome = if outcome == Outcome::Stored { outcome } else { Outcome::Unknown("stopped".into()) };
            self.window.settle(number, outcome);
        }
        self.confirm();
        self.window.unsettled()
    }
}
