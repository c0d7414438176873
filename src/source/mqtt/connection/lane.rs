//! What a connection does in order and may have to wait for: publishes through the pipeline, and events.
//!
//! One lane per connection, polled by the connection's own task beside its socket: while the line to Kafka is slow, the lane waits and the
//! connection goes on writing acknowledgements and deliveries. The connection stops reading when the lane's backlog is long.
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
use tokio::sync::oneshot;

use crate::{
    event::{Client, Detail, Message, Receipt},
    source::mqtt::{
        Shared,
        dispatch::{MAX_BATCH, Routed},
        publish::publish,
        session::Verdict,
    },
};

/// Something to do in order.
#[derive(Debug)]
pub(super) enum Work {
    /// Wait until the connection before this one has raised its last event.
    After(oneshot::Receiver<()>),
    Publish {
        message: Box<Message>,
        number: Option<u64>,
        receipt: Receipt,
    },
    Observe(Detail),
    /// The last events of a session that this connection's client threw away: of the client that left it.
    Past(Arc<Client>, Detail),
}

/// The work of one connection. The atomics are touched by one task only.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Work>>,
    verdicts: Mutex<Vec<(u64, Verdict)>>,
    backlog: AtomicUsize,
    progressed: AtomicBool,
}

impl Lane {
    /// Adds work; the connection polls the lane before it next waits.
    pub(super) fn add(&self, work: Work) {
        self.backlog.fetch_add(1, Ordering::Relaxed);
        self.queue.lock().push_back(work);
    }

    /// What is not done yet.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// The verdicts since the last call.
    pub(super) fn verdicts(&self) -> Vec<(u64, Verdict)> {
        std::mem::take(&mut self.verdicts.lock())
    }

    /// Goes on with the work; ready when there was progress.
    pub(super) fn poll(&self, run: Pin<&mut impl Future<Output = Infallible>>, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Pending = run.poll(context);
        if self.progressed.swap(false, Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Does the work, for ever; [`Lane::poll`] polls it.
    pub(super) async fn run(&self, shared: &Shared, client: &Arc<Client>) -> Infallible {
        let mut batch = Vec::new();
        let mut done = 0;
        loop {
            let next = self.queue.lock().pop_front();
            match next {
                Some(work) => {
                    self.work(work, shared, client, &mut batch).await;
                    done += 1;
                }
                None if done == 0 => poll_fn(|_| if self.queue.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }).await,
                None => {}
            }
            if done >= MAX_BATCH || (done > 0 && next_is_none(&self.queue)) {
                flush(shared, client, &mut batch).await;
                self.backlog.fetch_sub(std::mem::take(&mut done), Ordering::Relaxed);
                self.progressed.store(true, Ordering::Relaxed);
            }
        }
    }

    async fn work(&self, work: Work, shared: &Shared, client: &Arc<Client>, batch: &mut Vec<Routed>) {
        match work {
            Work::After(predecessor) => {
                let _ = predecessor.await; // an error: it is gone, which is as good
            }
            Work::Observe(detail) => promptly(pin!(shared.pipeline.observe(client, detail)), shared, client, batch).await,
            Work::Past(former, detail) => promptly(pin!(shared.pipeline.observe(&former, detail)), shared, client, batch).await,
            Work::Publish { message, number, receipt } => {
                let (verdict, routed) = promptly(pin!(publish(shared, client, *message, receipt)), shared, client, batch).await;
                batch.extend(routed);
                if let Some(number) = number {
                    self.verdicts.lock().push((number, verdict));
                    self.progressed.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

fn next_is_none(queue: &Mutex<VecDeque<Work>>) -> bool {
    queue.lock().is_empty()
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
