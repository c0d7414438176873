//! One question to a guest: from a free place over an instance to the answer.
//!
//! The common way is straight: the guest owes no processor time, a place is free, an instance sits there, and the call ends in its first
//! poll on the task of whoever asks. Everything else leaves it: waits are bounded by `limits.instance_wait_ms`; a call that overruns its
//! slice goes on in the slow lane (see [`super::overrun`]), and so does the start of an instance that takes long.
//!
//! Invariant: a call owns what it needs, so that it can be moved between lanes and abandoned at any time.

mod words;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout_at};

pub(super) use self::words::{Question, Reply};
use super::{
    bindings::{exported::lifecycle::Manifest, imported::types::Context},
    failure::{Failure, FaultKind},
    host::Seen,
    instance::{Instance, Program},
    overrun::{Account, Finished, Pace, SLICE, Slice, Step, Work},
    pool::{Lease, Pool},
    room::Slot,
    state::Stamp,
    trace::Trace,
    verdict,
    version::Asked,
};
use crate::config::Isolation;

/// How much longer than its running time a call may take in all while it waits in the host.
const SLACK: Duration = Duration::from_millis(200);
/// How much longer than its running time a call may take in all in the slow lane, where it runs when nobody else wants to: this often
/// its time, and this much more.
const SLOW_TIMES: u32 = 10;
const SLOW_SLACK: Duration = Duration::from_secs(2);

/// A call that has come to its end.
pub(super) struct Ended {
    /// Gone when its store cannot be used again.
    instance: Option<Box<Instance>>,
    judged: Judged,
    /// Nobody counts it.
    is_rehearsal: bool,
}

/// What came of a call.
struct Judged {
    reply: Result<Reply, Failure>,
    /// What must outlive the process before the reply is given.
    rests_on: Stamp,
}

/// Where an answer comes from.
enum Source {
    Instance(Box<Instance>),
    /// One that is made first.
    New(Arc<Program>, Slot, Arc<Slice>),
}

/// When a question was asked, and on which node.
struct Occasion {
    id: u64,
    time_ms: u64,
    node: Arc<str>,
    trace: Option<Arc<Trace>>,
}

/// The whole of a call.
async fn answer(source: Source, occasion: Occasion, question: Question) -> Ended {
    let Occasion { id, time_ms, node, trace } = occasion;
    let is_rehearsal = trace.as_ref().is_some_and(|trace| trace.is_rehearsal());
    let mut instance = match source {
        Source::Instance(instance) => instance,
        // Boxed: rare, and large.
        Source::New(program, slot, slice) => match Box::pin(async move { program.instantiate(slot, slice).await }).await {
            Ok((instance, _manifest)) => instance,
            Err(failure) => {
                return Ended { instance: None, judged: Judged { reply: Err(failure), rests_on: Stamp::default() }, is_rehearsal };
            }
        },
    };
    let context = Context { id, time_ms, node: &node };
    let judged = match trace {
        None => judge(&mut instance, &context, &question).await,
        Some(trace) => Box::pin(attended(&trace, &mut instance, &context, &question)).await, // boxed: rare, and large
    };
    let Seen { rests_on, unavailable } = instance.seen();
    let (instance, reply) = match judged {
        // It is not the guest's fault that it cannot judge.
        Ok(Err(Failure::Fault { kind: FaultKind::Retry | FaultKind::Internal, .. })) if let Some(why) = unavailable => {
            (Some(instance), Err(Failure::StateUnavailable { why }))
        }
        Ok(reply) => {
            let limit = instance.limits().returned_records;
            (Some(instance), reply.and_then(|reply| reply.bounded(limit)))
        }
        Err(failure) => (None, Err(failure)),
    };
    Ended { instance, judged: Judged { reply, rests_on }, is_rehearsal }
}

/// The same in the circumstances that the trace brings, and with a record of what was asked for.
async fn attended(
    trace: &Trace,
    instance: &mut Instance,
    context: &Context<'_>,
    question: &Question,
) -> Result<Result<Reply, Failure>, Failure> {
    instance.meet(trace.circumstances());
    let began = Instant::now();
    let judged = judge(instance, context, question).await;
    trace.leave(instance.met(), began.elapsed());
    judged
}

/// The instance's answer, checked. The outer error means that the instance is gone. All but a publish is boxed: the future is moved with
/// every call, and that of an event's record is ten times as large.
async fn judge(instance: &mut Instance, context: &Context<'_>, question: &Question) -> Result<Result<Reply, Failure>, Failure> {
    Ok(match question {
        Question::Publish { client, message } => {
            let said = instance.publish(context, client, message).await?;
            said.map_err(verdict::fault).and_then(|verdict| verdict::publish(verdict, message)).map(Reply::Publish)
        }
        Question::Observe { client, detail } => {
            let said = Box::pin(instance.observe(context, client, detail)).await?;
            said.map_err(verdict::fault).and_then(verdict::observe).map(Reply::Observe)
        }
        Question::Authenticate { client, credentials } => {
            let said = Box::pin(instance.authenticate(context, client, credentials)).await?;
            said.map_err(verdict::fault).and_then(verdict::access).map(Reply::Access)
        }
        Question::Authorize { client, action, topic } => {
            let said = Box::pin(instance.authorize(context, client, *action, topic)).await?;
            said.map_err(verdict::fault).and_then(verdict::access).map(Reply::Access)
        }
        Question::Step { client, round } => {
            let said = Box::pin(instance.step(context, client, round.borrow())).await?;
            said.map_err(verdict::fault).and_then(verdict::exchange).map(Reply::Exchange)
        }
        Question::Descend(descent) => {
            let said = instance.descend(context, descent).await?;
            said.map_err(verdict::fault).and_then(|verdict| verdict::descend(verdict, descent)).map(Reply::Descend)
        }
    })
}

/// A call on its way through the lanes.
struct Running {
    work: Work<Ended>,
    lease: Lease,
    /// Its instance is made first.
    is_new: bool,
    /// Nobody counts it.
    is_rehearsal: bool,
    began: Instant,
}

/// Where questions to one guest version are asked.
pub(super) struct Desk {
    pub(super) program: Arc<Program>,
    pool: Arc<Pool>,
    account: Account,
    /// Rehearsals pay for themselves: a shadow must not use up the share of those that it looks over the shoulder of.
    rehearsals: Account,
    isolation: Isolation,
    pace: Pace,
    /// Whether instances take longer than a slice to start.
    starts_slowly: AtomicBool,
}

impl Desk {
    pub(super) fn new(program: Program, account: Account, rehearsals: Account, isolation: Isolation) -> Self {
        let (limits, figures) = (&program.limits, &program.figures);
        let (idle, waits) = (figures.instances_idle.clone(), figures.waits.clone());
        let pool = Pool::new(limits.instances, limits.instance_wait_ms, program.engine.room(), idle, waits);
        Desk {
            program: Arc::new(program),
            pool,
            account,
            rehearsals,
            isolation,
            pace: Pace::default(),
            starts_slowly: AtomicBool::new(false),
        }
    }

    /// Makes the first instance, in the slow lane, so that a new version does not disturb those that run.
    pub(super) async fn trial(&self) -> Result<Option<Manifest>, Failure> {
        let Some(mut lease) = self.pool.take() else { return Err(Failure::NoInstance { waited_ms: 0 }) };
        let slot = self.program.engine.room().trial().await?;
        let (program, slice) = (Arc::clone(&self.program), Arc::clone(&lease.seat.slice));
        let work = Work::new(async move { program.instantiate(slot, slice).await }, Arc::clone(&lease.seat.slice));
        let limit_ms = self.program.limits.start_deadline_ms;
        let ends_at = Instant::now() + slow_allowance(Duration::from_millis(limit_ms));
        let finished = self.program.engine.slow_lane().finish(work, self.account.clone(), ends_at, ()).await;
        let Finished { value, starting, calling, .. } = finished.ok_or(Failure::Deadline { limit_ms })?;
        let (instance, manifest) = value?;
        // Its last tick counts as the call that did not follow.
        self.starts_slowly.store(starting + calling >= SLICE, Ordering::Relaxed);
        if self.isolation == Isolation::Shared && !instance.is_for_trial() {
            lease.seat.instance = Some(instance);
        }
        lease.give_back();
        Ok(manifest)
    }

    /// Asks, and counts the call; what it wrote outlives the process, as far as its state does, when this returns. The instance does not
    /// wait for that.
    pub(super) async fn ask(&self, asked: Asked<'_>, question: Question) -> Result<Reply, Failure> {
        self.program.engine.serve();
        let mut began = Instant::now();
        let account = self.account(asked.is_rehearsal());
        if !account.share.owes(began).is_zero() {
            self.pay(account).await?;
            began = Instant::now();
        }
        let mut lease = match self.pool.take() {
            Some(lease) => lease,
            None => {
                let lease = Box::pin(self.pool.wait()).await?;
                began = Instant::now();
                lease
            }
        };
        let (source, is_new) = match lease.seat.instance.take() {
            Some(instance) => (Source::Instance(instance), false),
            None => {
                let slot = Box::pin(self.program.engine.room().slot(self.program.limits.instance_wait_ms)).await?;
                (Source::New(Arc::clone(&self.program), slot, Arc::clone(&lease.seat.slice)), true)
            }
        };
        if *lease.seat.node != *asked.node {
            lease.seat.node = asked.node.into();
        }
        let occasion = Occasion { id: asked.id, time_ms: asked.time_ms, node: Arc::clone(&lease.seat.node), trace: asked.trace.cloned() };
        let call = answer(source, occasion, question);
        let work = match lease.seat.work.take() {
            Some(mut work) => {
                work.set(call);
                work
            }
            None => Work::new(call, Arc::clone(&lease.seat.slice)),
        };
        let is_slow = self.pace.is_slow() || (is_new && self.starts_slowly.load(Ordering::Relaxed));
        let running = Running { work, lease, is_new, is_rehearsal: asked.is_rehearsal(), began };
        let judged = if is_slow { Box::pin(self.slowly(running, false)).await } else { self.quickly(running).await }?;
        if judged.rests_on != Stamp::default() {
            Box::pin(self.program.capabilities.state.settled(judged.rests_on)).await?;
        }
        judged.reply
    }

    /// Runs a call on this task as long as it keeps within its slice.
    async fn quickly(&self, mut running: Running) -> Result<Judged, Failure> {
        let Running { work, is_new, is_rehearsal, began, .. } = &mut running;
        let (is_new, is_rehearsal, began) = (*is_new, *is_rehearsal, *began);
        let first = poll_fn(|cx| Poll::Ready(work.poll(cx))).await;
        let mut used = began.elapsed();
        let step = match first {
            Poll::Ready(Step::Done(ended)) => {
                self.account(is_rehearsal).charge(used, began + used);
                return Ok(self.end(running.work, running.lease, ended, used));
            }
            Poll::Ready(Step::GaveWay) => Ok(Step::GaveWay),
            Poll::Pending => {
                let more = poll_fn(|cx| {
                    let resumed = Instant::now();
                    let step = work.poll(cx);
                    used += resumed.elapsed();
                    step
                });
                timeout_at((began + self.limit(is_new) + SLACK).into(), more).await
            }
        };
        let now = Instant::now();
        self.account(is_rehearsal).charge(used, now);
        match step {
            Ok(Step::Done(ended)) => Ok(self.end(running.work, running.lease, ended, now.saturating_duration_since(began))),
            Ok(Step::GaveWay) => {
                let is_starting = running.work.slice().starting.load(Ordering::Relaxed);
                if is_starting {
                    self.starts_slowly.store(true, Ordering::Relaxed);
                } else {
                    self.overran(now);
                }
                Box::pin(self.slowly(running, !is_starting)).await
            }
            Err(_elapsed) => Err(self.over_time(running.work.slice(), began, is_rehearsal)),
        }
    }

    /// Brings a call to its end in the slow lane; `has_overrun` is known already of one that comes from the quick one.
    async fn slowly(&self, running: Running, has_overrun: bool) -> Result<Judged, Failure> {
        let Running { work, lease, is_new, is_rehearsal, began } = running;
        let (slice, ends_at) = (Arc::clone(work.slice()), began + slow_allowance(self.limit(is_new)));
        let finished = self.program.engine.slow_lane().finish(work, self.account(is_rehearsal).clone(), ends_at, lease).await;
        let Some(Finished { work, value, held, calling, .. }) = finished else {
            return Err(self.over_time(&slice, began, is_rehearsal));
        };
        let now = Instant::now();
        match calling < SLICE {
            _ if has_overrun => {}
            true => self.pace.kept(now),
            false => self.overran(now),
        }
        Ok(self.end(work, held, value, now.saturating_duration_since(began)))
    }

    /// Asks from now on as guests are asked that do not export `packed-publish`.
    #[cfg(test)]
    pub(super) fn forget_packing(&mut self) {
        if let Some(program) = Arc::get_mut(&mut self.program) {
            program.exports.packed_publish = None;
            drop(self.pool.take_away());
        }
    }

    fn overran(&self, now: Instant) {
        self.program.figures.overruns.inc();
        self.pace.overran(now);
    }

    /// Counts a call that has ended; what can be used again goes back to its place.
    fn end(&self, work: Work<Ended>, mut lease: Lease, ended: Ended, took: Duration) -> Judged {
        let figures = &self.program.figures;
        if !ended.is_rehearsal {
            figures.called(took);
        }
        match ended.instance {
            Some(instance) if self.isolation == Isolation::Shared => match instance.worn() {
                None => lease.seat.instance = Some(instance),
                Some(reason) => figures.recycled(reason),
            },
            Some(_) => {} // used once
            None => figures.recycled("failure"),
        }
        lease.seat.work = Some(work);
        lease.give_back();
        ended.judged
    }

    /// Counts a call that took longer than it may in all; it is gone with its instance and its place.
    fn over_time(&self, slice: &Slice, began: Instant, is_rehearsal: bool) -> Failure {
        let (figures, limits) = (&self.program.figures, &self.program.limits);
        if !is_rehearsal {
            figures.called(began.elapsed());
        }
        figures.recycled("failure");
        let is_starting = slice.starting.load(Ordering::Relaxed);
        Failure::Deadline { limit_ms: if is_starting { limits.start_deadline_ms } else { limits.deadline_ms } }
    }

    fn account(&self, is_rehearsal: bool) -> &Account {
        if is_rehearsal { &self.rehearsals } else { &self.account }
    }

    /// Waits until the guest's share has paid for what it used.
    async fn pay(&self, account: &Account) -> Result<(), Failure> {
        let limits = &self.program.limits;
        self.program.figures.throttled.inc();
        let until = Instant::now() + Duration::from_millis(limits.instance_wait_ms);
        loop {
            let now = Instant::now();
            let owes = account.share.owes(now);
            if owes.is_zero() {
                return Ok(());
            }
            if now >= until {
                return Err(Failure::Throttled { waited_ms: limits.instance_wait_ms });
            }
            sleep_until(until.min(now + owes).into()).await;
        }
    }

    /// How long a call may run, with the start of its instance.
    fn limit(&self, is_new: bool) -> Duration {
        let limits = &self.program.limits;
        Duration::from_millis(limits.deadline_ms + if is_new { limits.start_deadline_ms } else { 0 })
    }
}

fn slow_allowance(limit: Duration) -> Duration {
    limit * SLOW_TIMES + SLOW_SLACK
}
