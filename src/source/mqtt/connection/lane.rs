//! What a connection does in order and may have to wait for: publishes through the pipeline, and events.
//!
//! One lane per connection, polled by the connection's own task beside its socket: while the line to Kafka is slow, the lane waits and the
//! connection goes on writing acknowledgements and deliveries. The connection stops reading when the lane's backlog is long; where
//! `max_qos0_waiting` is set, publishes of QoS 0 do not count for that, and what is beyond it never comes here.
//!
//! The lane does not know the session: it may finish what a connection has read after the session went on to another connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::coop::has_budget_remaining};

use crate::{
    event::{Action, Bytes, Client, Denial, Detail, Message, QoS, Receipt, Step, Text},
    pipeline::{Exchange, Permissions},
    source::mqtt::{
        Shared,
        dispatch::{MAX_BATCH, Routed},
        publish::publish,
        reason,
        session::{Trace, Verdict},
    },
};

/// Work that may wait before reading pauses.
const MAX_BACKLOG: usize = 256;

/// Something to do in order.
#[derive(Debug)]
pub(super) enum Work {
    /// Wait until the connection before this one has raised its last event.
    After(oneshot::Receiver<()>),
    Publish {
        message: Box<Message>,
        number: Option<u64>,
        receipt: Receipt,
        trace: Trace,
    },
    Observe(Detail),
    /// The last events of a session that this connection's client threw away: of the client that left it.
    Past(Arc<Client>, Detail),
    /// Ask about the filters of a SUBSCRIBE.
    Authorize {
        number: u64,
        filters: Vec<(Text, QoS)>,
    },
    /// Take a re-authentication one step on; the method when it begins.
    Prove {
        begin: Option<Text>,
        data: Option<Bytes>,
    },
}

impl Work {
    fn is_qos0(&self) -> bool {
        matches!(self, Work::Publish { number: None, .. })
    }
}

/// What the session waits for.
#[derive(Debug)]
pub(super) enum Answer {
    /// About the filters of the SUBSCRIBE of this number: for each the reason code of a refusal, or none.
    Filters(u64, Vec<Option<u8>>),
    /// About a re-authentication.
    Proof(Result<Step, Denial>),
}

/// What the work needs from one piece to the next.
#[derive(Debug, Default)]
struct Desk {
    batch: Vec<Routed>,
    permissions: Permissions,
    exchange: Option<Exchange>,
}

/// The work of one connection. The atomics are touched by one task only.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Work>>,
    verdicts: Mutex<Vec<(u64, Verdict)>>,
    answers: Mutex<Vec<Answer>>,
    backlog: AtomicUsize,
    /// Publishes of QoS 0 in the backlog, and how many there may be; 0: they count like everything else.
    qos0: AtomicUsize,
    max_qos0: usize,
    /// What is left could not be done at the last attempt: it waits for something.
    stuck: AtomicBool,
    progressed: AtomicBool,
}

impl Lane {
    /// `max_qos0`: publishes of QoS 0 that may wait beside the other work; 0: they are other work.
    pub(super) fn new(max_qos0: usize) -> Self {
        Lane { max_qos0, ..Lane::default() }
    }

    /// Adds work; the connection polls the lane before it next waits.
    pub(super) fn add(&self, work: Work) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        if work.is_qos0() {
            self.qos0.fetch_add(1, Ordering::Relaxed);
        }
        self.queue.lock().push_back(work);
    }

    /// What is not done yet.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// So much is not done yet that no more should come.
    pub(super) fn is_long(&self) -> bool {
        if self.max_qos0 == 0 {
            return self.backlog() >= MAX_BACKLOG;
        }
        let qos0 = self.qos0.load(Ordering::Relaxed);
        // What came in one piece gets its chance before anything of it is dropped.
        let untried = qos0 >= self.max_qos0 && !self.stuck.load(Ordering::Relaxed);
        untried || self.backlog().saturating_sub(qos0) >= MAX_BACKLOG
    }

    /// Whether another publish of QoS 0 may wait.
    pub(super) fn takes_qos0(&self) -> bool {
        self.max_qos0 == 0 || self.qos0.load(Ordering::Relaxed) < self.max_qos0
    }

    /// The verdicts since the last call.
    pub(super) fn verdicts(&self) -> Vec<(u64, Verdict)> {
        std::mem::take(&mut self.verdicts.lock())
    }

    /// The answers since the last call.
    pub(super) fn answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answers.lock())
    }

    /// Goes on with the work; ready when there was progress, or when it begins to wait and more may be taken therefore.
    pub(super) fn poll(&self, run: Pin<&mut impl Future<Output = Infallible>>, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Pending = run.poll(context);
        let progressed = self.progressed.swap(false, Ordering::Relaxed);
        let begins_to_wait = self.max_qos0 > 0 && {
            let waits = self.backlog() > 0 && has_budget_remaining(); // else it only made way for other tasks
            let waited = self.stuck.swap(waits, Ordering::Relaxed);
            waits && !waited
        };
        if progressed || begins_to_wait { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Does the work, for ever; [`Lane::poll`] polls it.
    pub(super) async fn run(&self, shared: &Shared, client: &Arc<Client>) -> Infallible {
        let mut desk = Desk::default();
        loop {
            poll_fn(|_| if self.queue.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }).await;
            // Boxed while there is work: most connections are idle, and a guest's call needs kilobytes.
            Box::pin(self.work_off(shared, client, &mut desk)).await;
        }
    }

    /// Does what there is.
    async fn work_off(&self, shared: &Shared, client: &Arc<Client>, desk: &mut Desk) {
        let mut done = 0;
        loop {
            let next = self.queue.lock().pop_front();
            let Some(work) = next else { return };
            let is_qos0 = work.is_qos0();
            self.work(work, shared, client, desk).await;
            done += 1;
            if is_qos0 {
                self.qos0.fetch_sub(1, Ordering::Relaxed);
            }
            if done >= MAX_BATCH || self.queue.lock().is_empty() {
                flush(shared, client, &mut desk.batch).await;
                self.backlog.fetch_sub(std::mem::take(&mut done), Ordering::Relaxed);
                self.progressed.store(true, Ordering::Relaxed);
            }
        }
    }

    async fn work(&self, work: Work, shared: &Shared, client: &Arc<Client>, desk: &mut Desk) {
        let Desk { batch, permissions, exchange } = desk;
        match work {
            Work::After(predecessor) => {
                let _ = predecessor.await; // an error: it is gone, which is as good
            }
            Work::Observe(detail) => promptly(pin!(shared.pipeline.observe(client, detail)), shared, client, batch).await,
            Work::Past(former, detail) => promptly(pin!(shared.pipeline.observe(&former, detail)), shared, client, batch).await,
            Work::Publish { message, number, receipt, trace } => {
                let published = publish(shared, client, *message, receipt, trace, permissions);
                let (verdict, routed) = promptly(pin!(published), shared, client, batch).await;
                batch.extend(routed);
                if let Some(number) = number {
                    self.verdicts.lock().push((number, verdict));
                    self.progressed.store(true, Ordering::Relaxed);
                }
            }
            Work::Authorize { number, filters } => {
                let answers = promptly(pin!(refusals(shared, client, &filters, permissions)), shared, client, batch).await;
                self.answer(Answer::Filters(number, answers));
            }
            Work::Prove { begin, data } => {
                if let Some(method) = begin {
                    *exchange = Some(Exchange::new(method, true));
                }
                if let Some(exchange) = exchange {
                    let answer = promptly(pin!(shared.pipeline.exchange(client, exchange, data)), shared, client, batch).await;
                    self.answer(Answer::Proof(answer));
                }
            }
        }
    }

    fn answer(&self, answer: Answer) {
        self.answers.lock().push(answer);
        self.progressed.store(true, Ordering::Relaxed);
    }
}

/// Asks about each filter: the reason code of a refusal, or none.
async fn refusals(shared: &Shared, client: &Arc<Client>, filters: &[(Text, QoS)], permissions: &mut Permissions) -> Vec<Option<u8>> {
    let mut answers = Vec::with_capacity(filters.len());
    for (filter, qos) in filters {
        let answer = shared.pipeline.authorize(client, Action::Subscribe(*qos), filter, permissions).await;
        answers.push(answer.err().map(|refused| reason::for_subscribe(refused.denial.reason_code)));
    }
    answers
}

/// Awaits something that mostly is ready at once; before a longer wait the messages so far are sent on. Pinned by the caller: handed over
/// by value, it would have room twice in every connection's task.
async fn promptly<T>(mut future: Pin<&mut impl Future<Output = T>>, shared: &Shared, client: &Client, batch: &mut Vec<Routed>) -> T {
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(value) => value,
        Poll::Pending => {
            flush(shared, client, batch).await;
            future.await
        }
    }
}

async fn flush(shared: &Shared, client: &Client, batch: &mut Vec<Routed>) {
    if !batch.is_empty() {
        shared.bus.send(&client.client_id, batch).await;
    }
}
