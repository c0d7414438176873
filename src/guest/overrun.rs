//! Two lanes: a call begins on its connection's task, and one that does not end within a slice goes on where it costs nobody anything.
//!
//! The slow lane is a few threads of the lowest priority. Calls there give way to one another at every tick and run when no connection
//! wants the processor; components are compiled there, too. A guest whose calls overran starts there until it is known to be quick again
//! ([`Pace`]), so that its first slices do not add up.
//!
//! Invariant: what is moved owns all that it needs; whoever waits for it may go at any time, and it ends at the next tick. Absent: how
//! long a guest may run in all, which its own ticks count.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::timeout_at,
};
use tokio_util::sync::ReusableBoxFuture;

use super::{engine::TICK, share::Share};

/// Threads of the slow lane at most; one where there are few cores.
const MAX_THREADS: usize = 2;
/// The lowest priority that a thread can have.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;
/// How long a guest stays in the slow lane after it overran; doubled each time that it comes back soon.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// Overruns within [`FIRST_PENALTY`] after which calls start in the slow lane.
const STRIKES: u32 = 3;
const MAX_PENALTY: Duration = Duration::from_secs(32);
/// Penalties after which an overrun is forgotten.
const MEMORY: u32 = 8;

/// Whether a call has used up its slice; its store notes it, whoever polls it reads it.
#[derive(Debug, Default)]
pub(super) struct Slice {
    used_up: AtomicBool,
    in_slow_lane: AtomicBool,
    /// The instance is being made and started; no call yet.
    pub(super) starting: AtomicBool,
    /// Processor time of the thread at the call's first tick, nanoseconds; 0 before.
    mark_ns: AtomicU64,
}

impl Slice {
    /// A new slice.
    fn begin(&self) {
        self.used_up.store(false, Ordering::Relaxed);
        self.in_slow_lane.store(false, Ordering::Relaxed);
        self.mark_ns.store(0, Ordering::Relaxed);
    }

    /// Whether the running call must give way at this tick. Between the first tick that it meets and the next, the thread must have worked
    /// for it: a call that lost the processor to somebody else has not overrun.
    pub(super) fn ends(&self) -> bool {
        let ends = self.in_slow_lane.load(Ordering::Relaxed) || {
            let now_ns = u64::try_from(processor_time().as_nanos()).unwrap_or(u64::MAX).max(1);
            let mark_ns = self.mark_ns.swap(now_ns, Ordering::Relaxed);
            mark_ns > 0 && now_ns.saturating_sub(mark_ns) >= TICK.as_nanos() as u64 / 2
        };
        if ends {
            self.used_up.store(true, Ordering::Relaxed);
        }
        ends
    }
}

/// What a call waits for that gives way: to be polled again, nothing else.
#[derive(Default)]
pub(super) struct GiveWay(bool);

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // No waker: whoever polls sees that the slice is used up, and polls again when it is the call's turn.
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// How far a poll has brought a call.
pub(super) enum Step<T> {
    /// To its end.
    Done(T),
    /// It gave way; it must be polled again, nothing else wakes it.
    GaveWay,
}

/// A call on its way. The box of one that has ended serves the next.
pub(super) struct Work<T> {
    call: ReusableBoxFuture<'static, T>,
    slice: Arc<Slice>,
}

impl<T> Work<T> {
    /// `slice` is what the call's store notes its slices in.
    pub(super) fn new(call: impl Future<Output = T> + Send + 'static, slice: Arc<Slice>) -> Self {
        slice.begin();
        Work { call: ReusableBoxFuture::new(call), slice }
    }

    /// Another call, after the last one has ended.
    pub(super) fn set(&mut self, call: impl Future<Output = T> + Send + 'static) {
        self.slice.begin();
        self.call.set(call);
    }

    /// Runs the call until it ends, gives way, or waits in the host.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<T>> {
        match self.call.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Step::Done(value)),
            Poll::Pending if self.slice.used_up.swap(false, Ordering::Relaxed) => Poll::Ready(Step::GaveWay),
            Poll::Pending => {
                self.slice.mark_ns.store(0, Ordering::Relaxed); // it may go on on another thread
                Poll::Pending
            }
        }
    }

    pub(super) fn slice(&self) -> &Arc<Slice> {
        &self.slice
    }
}

/// Who pays for the processor time of a call.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) share: Arc<Share>,
    /// Nanoseconds.
    pub(super) used: Counter,
}

impl Account {
    pub(super) fn charge(&self, used: Duration, now: Instant) {
        self.used.inc_by(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        self.share.charge(used, now);
    }
}

/// A call that has ended in the slow lane.
pub(super) struct Finished<T, K> {
    pub(super) work: Work<T>,
    pub(super) value: T,
    /// What was held while it ran.
    pub(super) held: K,
    /// Processor time that starting an instance for it took here.
    pub(super) starting: Duration,
    /// Processor time that the call took here.
    pub(super) calling: Duration,
}

/// What a call may take before it has overrun.
pub(super) const SLICE: Duration = TICK.saturating_mul(2);

/// The threads of the lowest priority.
#[derive(Debug)]
pub(super) struct SlowLane {
    handle: Handle,
    /// Taken on drop.
    runtime: Option<Runtime>,
}

impl SlowLane {
    pub(super) fn new() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / 2).clamp(1, MAX_THREADS))
            .max_blocking_threads(1)
            .thread_name("guest-slow")
            .on_thread_start(lower_priority)
            .enable_time()
            .build()?;
        Ok(SlowLane { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Computes something long on a thread of the lowest priority.
    pub(super) async fn compute<T: Send + 'static>(&self, compute: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        self.handle.spawn_blocking(compute).await.map_err(|error| error.to_string())
    }

    /// Brings a call to its end. `held` is dropped with the call when nobody waits for it any more, or when its time is up: `None`.
    pub(super) async fn finish<T: Send + 'static, K: Send + 'static>(
        &self,
        work: Work<T>,
        account: Account,
        ends_at: Instant,
        held: K,
    ) -> Option<Finished<T, K>> {
        let (give, take) = oneshot::channel();
        self.handle.spawn(finish(work, account, ends_at, held, give));
        take.await.ok()
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // the last engine may be dropped by a task
        }
    }
}

async fn finish<T, K>(mut work: Work<T>, account: Account, ends_at: Instant, held: K, mut caller: oneshot::Sender<Finished<T, K>>) {
    work.slice.in_slow_lane.store(true, Ordering::Relaxed);
    let (mut starting, mut calling) = (Duration::ZERO, Duration::ZERO);
    loop {
        let step = poll_fn(|cx| {
            if caller.poll_closed(cx).is_ready() {
                return Poll::Ready(None);
            }
            let before = processor_time();
            let step = work.poll(cx);
            let used = processor_time().saturating_sub(before);
            *if work.slice.starting.load(Ordering::Relaxed) { &mut starting } else { &mut calling } += used;
            account.charge(used, Instant::now());
            step.map(Some)
        });
        match timeout_at(ends_at.into(), step).await {
            Ok(Some(Step::Done(value))) => {
                // A caller that is gone drops it.
                let _ = caller.send(Finished { work, value, held, starting, calling });
                return;
            }
            Ok(Some(Step::GaveWay)) => {
                let owed = account.share.owes(Instant::now());
                if owed.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    let until = ends_at.min(Instant::now() + owed);
                    let _ = timeout_at(until.into(), caller.closed()).await;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Processor time of the running thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// On Linux a priority belongs to a thread; elsewhere it would be the whole process's.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| tracing::warn!(%error, "guests that overrun their slice run with the same priority as all others"));
    }
}

/// Where the calls of one guest version start.
#[derive(Debug, Default)]
pub(super) struct Pace {
    slow: AtomicBool,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// Overruns of late, and since when; one alone says nothing about the next call.
    strikes: u32,
    since: Option<Instant>,
    penalty: Duration,
    until: Option<Instant>,
}

impl Pace {
    /// Whether calls start in the slow lane.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Notes a call that overran.
    pub(super) fn overran(&self, now: Instant) {
        let mut past = self.past.lock();
        if !self.is_slow() {
            if past.since.is_none_or(|since| now >= since + FIRST_PENALTY) {
                (past.strikes, past.since) = (0, Some(now));
            }
            past.strikes += 1;
            if past.strikes < STRIKES {
                return;
            }
            past.since = None;
            self.slow.store(true, Ordering::Relaxed);
            let soon = past.until.is_some_and(|until| now < until + past.penalty * MEMORY);
            past.penalty = if soon { (past.penalty * 2).min(MAX_PENALTY) } else { FIRST_PENALTY };
        }
        past.until = Some(now + past.penalty);
    }

    /// Notes a call that would not have overrun.
    pub(super) fn kept(&self, now: Instant) {
        let past = self.past.lock();
        if past.until.is_none_or(|until| now >= until) {
            self.slow.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_overruns_is_slow_until_it_is_known_to_be_quick() {
        let (pace, began) = (Pace::default(), Instant::now());
        enum Call {
            Overran,
            Kept,
        }
        use Call::*;
        for (at_s, call, slow) in [
            (0, Overran, false), // one alone
            (0, Kept, false),
            (0, Overran, false),
            (1, Overran, false), // the first is forgotten
            (1, Overran, false),
            (1, Overran, true),
            (1, Kept, true),
            (2, Kept, false),
            (3, Overran, false),
            (3, Overran, false),
            (3, Overran, true), // soon after: two seconds
            (4, Kept, true),
            (4, Overran, true), // from here
            (5, Kept, true),
            (6, Kept, false),
            (1_000, Overran, false), // forgotten
            (1_000, Overran, false),
            (1_000, Overran, true), // one
            (1_001, Kept, false),
        ] {
            let now = began + Duration::from_secs(at_s);
            match call {
                Overran => pace.overran(now),
                Kept => pace.kept(now),
            }
            assert_eq!(pace.is_slow(), slow, "{at_s}");
        }
    }

    #[test]
    fn a_slice_ends_when_the_thread_has_worked() {
        let slice = Slice::default();
        slice.begin();
        assert!(!slice.ends(), "the first tick only begins to count");
        std::thread::sleep(TICK * 5);
        assert!(!slice.ends(), "it had no processor");
        let before = processor_time();
        while processor_time() < before + TICK {
            std::hint::black_box(());
        }
        assert!(slice.ends());
    }

    #[test]
    fn the_slow_lane_has_the_lowest_priority() {
        let lane = SlowLane::new().unwrap();
        let here = rustix::process::getpriority_process(None).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let there = runtime.block_on(lane.compute(|| rustix::process::getpriority_process(None).unwrap())).unwrap();
        assert!(cfg!(not(target_os = "linux")) || there == LOWEST_PRIORITY, "{there}");
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), here, "only its own");
    }
}
