//! One downlink at work: a task that takes records in their order, and gives each back when it is settled.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    letter::{Cause, letter},
    message::{Made, Unfit, make},
};
use crate::{
    config::{Downlink, OnUnfit},
    event::{Client, Descent, DropReason, Fetched, Outcome, Receipt, Settlement, Settlements, Text, now_ms},
    kafka::{Consumer, Lease, Records},
    metrics::{Metrics, ReasonLabel},
    outbox::Way,
    pipeline::{Descended, Pipeline},
    source::mqtt::Hand,
};

/// Before a record is published again of which nobody can say whether the broker had it.
const BACKOFF: Duration = Duration::from_secs(1);

/// What a line works with.
pub(super) struct Line {
    pub(super) settings: Downlink,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) hand: Hand,
    /// Of its dead letters.
    pub(super) way: Way,
    /// As whom it publishes.
    pub(super) client: Arc<Client>,
    pub(super) counted: Counted,
    settlements: Arc<Settlements>,
    /// By number: what is not settled.
    open: BTreeMap<u64, Open>,
    /// What is to be published again.
    again: VecDeque<(Instant, u64)>,
    next: u64,
}

struct Open {
    lease: Lease,
    fetched: Arc<Fetched>,
}

/// The handles of what is counted.
pub(super) struct Counted {
    name: String,
    metrics: Arc<Metrics>,
    records: Counter,
    messages: Counter,
    dead_letters: Counter,
    repeats: Counter,
    in_flight: Gauge,
}

impl Counted {
    pub(super) fn new(name: &str, metrics: &Arc<Metrics>) -> Self {
        let label = name.into();
        Counted {
            name: name.to_owned(),
            metrics: Arc::clone(metrics),
            records: metrics.downlink_records.get_or_create_owned(&label),
            messages: metrics.downlink_messages.get_or_create_owned(&label),
            dead_letters: metrics.downlink_dead_letters.get_or_create_owned(&label),
            repeats: metrics.downlink_repeats.get_or_create_owned(&label),
            in_flight: metrics.downlink_in_flight.get_or_create_owned(&label),
        }
    }

    fn dropped(&self, reason: &str) {
        let label = ReasonLabel { name: self.name.clone(), reason: reason.to_owned() };
        self.metrics.downlink_dropped.get_or_create(&label).inc();
    }
}

impl Line {
    pub(super) fn new(settings: &Downlink, pipeline: &Arc<Pipeline>, hand: &Hand, way: Way, client: Arc<Client>) -> Self {
        Line {
            settings: settings.clone(),
            pipeline: Arc::clone(pipeline),
            hand: hand.clone(),
            way,
            client,
            counted: Counted::new(&settings.name, pipeline.metrics()),
            settlements: Settlements::new(),
            open: BTreeMap::new(),
            again: VecDeque::new(),
            next: 0,
        }
    }

    /// Until it is told to stop: then what is in flight is settled, as far as that takes no longer than the patience it is told, and
    /// committed.
    pub(super) async fn run(mut self, consumer: Consumer, mut records: Records, mut stop: watch::Receiver<Option<Duration>>) {
        loop {
            let due = self.again.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop) => break,
                () = self.settlements.wait() => self.settle(&consumer),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.repeat().await,
                next = records.next() => match next {
                    Some((fetched, lease)) => self.take(&consumer, fetched, lease).await,
                    None => break,
                },
            }
        }
        let patience = stop.borrow().unwrap_or_default();
        let settled = async {
            while self.open.len() > self.again.len() {
                self.settlements.wait().await;
                self.settle(&consumer);
            }
        };
        if timeout(patience, settled).await.is_err() {
            tracing::warn!(downlink = self.settings.name, records = self.open.len(), "not settled in time; they will come again");
        }
        self.counted.in_flight.set(0);
        consumer.close(records, patience).await;
    }

    /// A record has come.
    async fn take(&mut self, consumer: &Consumer, fetched: Fetched, lease: Lease) {
        if !consumer.holds(&lease) {
            return; // its partition went to another member, which gets it too
        }
        self.counted.records.inc();
        let (number, fetched) = (self.next, Arc::new(fetched));
        self.next += 1;
        self.open.insert(number, Open { lease, fetched: Arc::clone(&fetched) });
        self.counted.in_flight.inc();
        self.descend(&fetched, Receipt::open(number, &self.settlements)).await;
        self.settle(consumer);
    }

    /// What could not be said to have arrived goes down again.
    async fn repeat(&mut self) {
        let Some((_, number)) = self.again.pop_front() else { return };
        let Some(fetched) = self.open.get(&number).map(|open| Arc::clone(&open.fetched)) else { return };
        self.counted.repeats.inc();
        self.descend(&fetched, Receipt::open(number, &self.settlements)).await;
    }

    /// Gives back what is settled.
    fn settle(&mut self, consumer: &Consumer) {
        let mut settled = Vec::new();
        self.settlements.take(&mut settled);
        for Settlement { number, outcome } in settled {
            match outcome {
                Outcome::Stored => {}
                Outcome::Refused(refusal) => {
                    // Only a dead letter or an audit record can be: sending it again will not help.
                    self.counted.dropped("kafka-refused");
                    tracing::error!(downlink = self.settings.name, ?refusal, "Kafka refused a record about a record; what it told is lost");
                }
                Outcome::Unknown(why) => {
                    tracing::warn!(downlink = self.settings.name, %why, "a record may not have reached the broker and goes down again");
                    self.again.push_back((Instant::now() + BACKOFF, number));
                    continue;
                }
            }
            if let Some(open) = self.open.remove(&number) {
                self.counted.in_flight.dec();
                consumer.done(&open.lease);
            }
        }
    }

    /// From a record to the broker, or to the end that it meets.
    async fn descend(&self, fetched: &Fetched, receipt: Receipt) {
        let received_at_ms = now_ms();
        let publisher = &self.client.client_id;
        let mut messages = Vec::new();
        if let Some(template) = &self.settings.message {
            match make(template, fetched, publisher, received_at_ms) {
                Ok(Made { message, is_expired: false }) => messages.push(message),
                Ok(Made { message, is_expired: true }) => {
                    self.left_out(fetched, "expired", "");
                    self.pipeline.descent_ended(&self.client, message, DropReason::Expired, &receipt).await;
                    return receipt.settle(Outcome::Stored);
                }
                Err(unfit) => return self.refuse(fetched, &unfit, receipt).await,
            }
        }
        if !self.settings.guests.is_empty() {
            let downlink = self.settings.name.as_str().into();
            let descent = Descent { downlink, publisher: publisher.clone(), received_at_ms, fetched: fetched.clone(), messages };
            messages = match self.pipeline.descend(&self.client, descent, &receipt).await {
                Descended::Publish(messages) if messages.is_empty() && self.settings.message.is_none() => {
                    return self.refuse(fetched, &Unfit::Nothing, receipt).await;
                }
                Descended::Publish(messages) => messages,
                Descended::Dropped { reason, explanation } => {
                    self.left_out(fetched, reason.name(), &explanation);
                    return receipt.settle(Outcome::Stored);
                }
                Descended::Failed(fallen) => {
                    self.left_out(fetched, DropReason::GuestFailed.name(), &fallen.failure.to_string());
                    return self.bury(fetched, &Cause::Guest(&fallen), receipt).await;
                }
            };
        }
        if messages.is_empty() {
            self.left_out(fetched, "nothing", "a guest made no message of it");
            return receipt.settle(Outcome::Stored);
        }
        self.counted.messages.inc_by(messages.len() as u64);
        self.hand.publish(&self.client, messages, receipt).await;
    }

    /// A record cannot become a message.
    async fn refuse(&self, fetched: &Fetched, unfit: &Unfit, receipt: Receipt) {
        self.counted.dropped("unfit");
        let Fetched { topic, partition, offset, .. } = fetched;
        tracing::warn!(downlink = self.settings.name, %topic, partition, offset, %unfit, "a record cannot become a message");
        match self.settings.on_refusal {
            OnUnfit::Drop => receipt.settle(Outcome::Stored),
            OnUnfit::DeadLetter => self.bury(fetched, &Cause::Unfit(unfit), receipt).await,
        }
    }

    async fn bury(&self, fetched: &Fetched, cause: &Cause<'_>, receipt: Receipt) {
        self.counted.dead_letters.inc();
        let record = letter(self.way.dead_letter_topic(), &self.settings.name, fetched, cause);
        self.way.bury(record, receipt).await;
    }

    /// Counts and logs a record that becomes no message.
    fn left_out(&self, fetched: &Fetched, reason: &str, explanation: &str) {
        self.counted.dropped(reason);
        let Fetched { topic, partition, offset, .. } = fetched;
        tracing::info!(downlink = self.settings.name, %topic, partition, offset, reason, explanation, "a record becomes no message");
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<Option<Duration>>) {
    let _ = stop.wait_for(Option::is_some).await; // an error: the other side is gone, which means the same
}

/// As whom a downlink publishes: no device is called so by chance.
pub(super) fn client(downlink: &str) -> Arc<Client> {
    Arc::new(Client {
        client_id: Text::from(format!("$downlink/{downlink}")),
        username: None,
        peer: ([127, 0, 0, 1], 0).into(),
        protocol_version: 5,
        certificate_name: None,
        connected_at_ms: now_ms(),
    })
}
