//! What happens to an event between its source and Kafka: guests are asked, records are made, the verdict goes back.
//!
//! Invariants: an event meets one [`Plan`], taken at the door; on `message.publish` the verdict is reached before retain, dispatch, Kafka
//! and the acknowledgement, so that everybody sees the same message; records of one caller are enqueued in the order of its calls.
//! Absent: sockets and packets (the sources above), the producer's queues and retries (`kafka` below).

mod access;
mod ask;
mod capture;
mod chain;
mod complaints;
mod descent;
mod exchange;
mod format;
mod json;
mod letter;
mod moment;
mod once;
mod plan;
mod recipe;
mod refusals;
mod route;
mod scope;
mod shape;
#[cfg(test)]
mod stage;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

pub use self::{
    access::{Permissions, Refused},
    descent::{Descended, Fallen},
    exchange::Exchange,
    plan::Plan,
};
use self::{
    capture::Recorder,
    chain::{Ending, Judgement},
    letter::Letter,
    plan::Route,
    refusals::Refusals,
    route::Shaping,
    scope::Scope,
    shape::Shape,
};
use crate::{
    event::{Client, Denial, Detail, DropReason, Dropping, Event, Message, Outcome, Receipt, Text, now_ms},
    hook::Hook,
    metrics::{Metrics, ReasonLabel},
    outbox::Together,
};

/// What the broker does with a message that was published.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Retain it, hand it to its subscribers; this is the message from here on.
    Accept(Arc<Message>),
    /// Acknowledge it, and nothing else.
    Swallow,
    /// Tell the client.
    Deny(Denial),
}

/// The line from a source to Kafka.
#[derive(Debug)]
pub struct Pipeline {
    node: Text,
    plan: ArcSwap<Plan>,
    next_id: AtomicU64,
    plans: AtomicU64,
    /// Whether the process is ending, so that nobody waits before a guest is asked again.
    hurried: watch::Sender<bool>,
    /// Who writes captures, once there is something to write; `None` inside: the system gives no thread.
    recorder: OnceLock<Option<Recorder>>,
    /// Who raises what Kafka refused, once there is somebody.
    refusals: OnceLock<Arc<Refusals>>,
    metrics: Arc<Metrics>,
    counted: Counted,
}

/// The handles of what is counted for every event, looked up once.
#[derive(Debug)]
struct Counted {
    /// Indexed by `Hook as usize`: each firing, and each that a route wanted.
    events: Vec<Counter>,
    hooks: Vec<Counter>,
    /// Indexed by `DropReason as usize`.
    drops: Vec<Counter>,
}

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        Counted {
            events: Hook::ALL.iter().map(|hook| metrics.hook_events.get_or_create_owned(&hook.name().into())).collect(),
            hooks: Hook::ALL.iter().map(|hook| metrics.hooks.get_or_create_owned(&hook.name().into())).collect(),
            drops: DropReason::ALL.iter().map(|reason| metrics.messages_dropped.get_or_create_owned(&reason.name().into())).collect(),
        }
    }
}

impl Pipeline {
    /// A pipeline without routes until [`Pipeline::install`].
    pub fn new(node: &str, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self::bare(node, metrics))
    }

    /// A pipeline without routes and without Kafka: a broker alone, in which every message is accepted and nothing is produced.
    pub fn open(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self::bare("hookgate", metrics))
    }

    fn bare(node: &str, metrics: Arc<Metrics>) -> Self {
        // Ids go on increasing over restarts: the clock above, a million events a millisecond below.
        let first_id = now_ms() << 20;
        let counted = Counted::new(&metrics);
        Pipeline {
            node: node.into(),
            plan: ArcSwap::default(),
            next_id: AtomicU64::new(first_id),
            plans: AtomicU64::new(0),
            hurried: watch::Sender::new(false),
            recorder: OnceLock::new(),
            refusals: OnceLock::new(),
            metrics,
            counted,
        }
    }

    /// Takes a new plan into service; events that met the old one finish on it.
    pub fn install(&self, mut plan: Plan) {
        plan.number = 1 + self.plans.fetch_add(1, Ordering::Relaxed);
        self.plan.store(Arc::new(plan));
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether any route wants this hook's events; the broker need not make the others.
    pub fn wants(&self, hook: Hook) -> bool {
        !self.plan.load().routes(hook).is_empty()
    }

    /// Counts firings of a hook whose events nobody wants, and which therefore were not made.
    pub fn count(&self, hook: Hook, firings: u64) {
        if let Some(counter) = self.counted.events.get(hook as usize) {
            counter.inc_by(firings);
        }
    }

    /// `message.publish`: asks the guests, hands the records to Kafka (waiting for room when it is slow), and says what the broker
    /// does. `receipt` is settled when everything that had to be stored is stored, also for a message that was refused.
    pub async fn publish(&self, client: &Arc<Client>, message: Message, receipt: Receipt) -> Decision {
        let plan = self.plan.load_full();
        self.count(Hook::MessagePublish, 1);
        let stored = once::is_stored(&plan, &message.topic, &receipt).await;
        let message = Arc::new(message);
        let mut event = self.event(client, Detail::MessagePublish(Arc::clone(&message)));
        match chain::judge(self, &plan, &event, message).await {
            Judgement::Through(message, matched) => {
                event.detail = Detail::MessagePublish(Arc::clone(&message));
                let mut together = Together::default();
                let receipt = self.witnessed(&plan, &event, receipt);
                let scope = Scope::new(&event, &self.node);
                for (route, shaping) in matched {
                    self.count_hook(Hook::MessagePublish);
                    self.produce_together(route, &scope, shaping, &mut together, &receipt).await;
                }
                together.send(&receipt).await;
                receipt.settle(Outcome::Stored);
                Decision::Accept(message)
            }
            // They let it through once, and Kafka has it: this is a repetition, whatever they think of it now.
            Judgement::Ended(_) if stored => {
                receipt.settle(Outcome::Stored);
                Decision::Swallow
            }
            Judgement::Ended(end) => {
                let Ending { decision, reason, explanation, message, letter } = *end;
                if let Some(letter) = letter {
                    self.bury(&letter, &event, receipt.clone()).await;
                }
                self.happened(&plan, client, Detail::MessageDropped(Dropping { message, reason, explanation }), &receipt).await;
                receipt.settle(Outcome::Stored);
                decision
            }
        }
    }

    /// Ends a message that its publisher may not publish; the receipt is settled when what tells of it is stored.
    pub async fn refuse(&self, client: &Arc<Client>, message: Message, refused: &Refused, receipt: Receipt) {
        let explanation = refused.denial.reason.clone();
        let dropping = Dropping { message: Arc::new(message), reason: refused.reason, explanation };
        self.happened(&self.plan.load_full(), client, Detail::MessageDropped(dropping), &receipt).await;
        receipt.settle(Outcome::Stored);
    }

    /// Any hook that observes; waits for room when Kafka is slow.
    pub async fn observe(&self, client: &Arc<Client>, detail: Detail) {
        self.happened(&self.plan.load_full(), client, detail, &Receipt::nobody()).await;
    }

    async fn happened(&self, plan: &Plan, client: &Arc<Client>, detail: Detail, receipt: &Receipt) {
        if let Detail::MessageDropped(dropping) = &detail {
            self.note_dropped(client, dropping);
        }
        let hook = detail.hook();
        self.count(hook, 1);
        let event = self.event(client, detail);
        let receipt = self.witnessed(plan, &event, receipt.clone());
        let scope = Scope::new(&event, &self.node);
        for route in plan.routes(hook).iter().filter(|route| route.takes(&event.detail)) {
            self.count_hook(hook);
            match shape::shape(self, route, &event).await {
                Shape::Records(shaping) => self.produce(route, &scope, shaping, &receipt).await,
                Shape::Nothing => {}
                Shape::DeadLetter(letter) => self.bury(&letter, &event, receipt.clone()).await,
            }
        }
        receipt.settle(Outcome::Stored);
    }

    /// Hands the records of an event on one route over, after waiting for room.
    async fn produce(&self, route: &Route, scope: &Scope<'_>, shaping: Shaping, receipt: &Receipt) {
        for made in route::records(route, scope, shaping, &self.metrics) {
            match made {
                Ok(record) => route.way.send(record, receipt.clone()).await,
                Err(unmade) => {
                    let route::Unmade { record, refusal } = *unmade;
                    route.way.refuse(record, refusal, receipt.clone());
                }
            }
        }
    }

    /// The same for what is published, where those that must be stored once wait in `together`.
    async fn produce_together<'a>(
        &self,
        route: &'a Route,
        scope: &Scope<'_>,
        shaping: Shaping,
        together: &mut Together<'a>,
        receipt: &Receipt,
    ) {
        for made in route::records(route, scope, shaping, &self.metrics) {
            match made {
                Ok(record) => {
                    if let Some(record) = together.take(&route.way, record) {
                        route.way.send(record, receipt.clone()).await;
                    }
                }
                Err(unmade) => {
                    let route::Unmade { record, refusal } = *unmade;
                    route.way.refuse(record, refusal, receipt.clone());
                }
            }
        }
    }

    /// Keeps an event that a guest failed on for an operator.
    async fn bury(&self, letter: &Letter<'_>, event: &Event, receipt: Receipt) {
        self.metrics.guest_dead_letters.get_or_create(&letter.guest().into()).inc();
        let way = letter.way();
        way.bury(letter.record(way.dead_letter_topic(), event, &self.node), receipt).await;
    }

    fn event(&self, client: &Arc<Client>, detail: Detail) -> Event {
        let time_ms =
            detail.message().filter(|_| detail.hook() == Hook::MessagePublish).map_or_else(now_ms, |message| message.received_at_ms);
        Event { id: self.next_id(), time_ms, client: Arc::clone(client), detail }
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a message that was dropped without being raised.
    pub fn count_drop(&self, reason: DropReason) {
        self.count(Hook::MessageDropped, 1);
        if let Some(counter) = self.counted.drops.get(reason as usize) {
            counter.inc();
        }
    }

    fn count_hook(&self, hook: Hook) {
        if let Some(counter) = self.counted.hooks.get(hook as usize) {
            counter.inc();
        }
    }

    fn count_refusal(&self, guest: &str, verdict: &str) {
        let label = ReasonLabel { name: guest.to_owned(), reason: verdict.to_owned() };
        self.metrics.guest_refusals.get_or_create(&label).inc();
    }

    fn note_dropped(&self, client: &Client, dropping: &Dropping) {
        let Dropping { message, reason, explanation } = dropping;
        if let Some(counter) = self.counted.drops.get(*reason as usize) {
            counter.inc();
        }
        let (reason, topic, client) = (reason.name(), &*message.topic, &*client.client_id);
        match dropping.reason {
            // The everyday end of a message that nobody is subscribed to; and what others say in few lines.
            DropReason::NoSubscribers | DropReason::KafkaSlow | DropReason::KafkaRefused => {
                tracing::debug!(reason, topic, client, %explanation, "message dropped")
            }
            _ => tracing::info!(reason, topic, client, %explanation, "message dropped"),
        }
    }
}
