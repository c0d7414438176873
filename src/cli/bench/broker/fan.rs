//! Publishers and subscribers of one topic, as fast as the subscribers get it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    super::{
        packet::Packet,
        process::{self, CpuTime},
        socket::Socket,
    },
    LONGEST_US, PAYLOAD_BYTES, Plan,
    peer::Broker,
    report::Measured,
};

/// Messages that a publisher asks leave for at a time.
const SHARE: u32 = 16;
/// How often a task that has nothing to do looks whether all is over.
const LOOK: Duration = Duration::from_millis(50);

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fan {
    pub(super) publishers: u32,
    pub(super) subscribers: u32,
    /// Messages of one publisher that wait for their PUBACK.
    pub(super) window: u16,
    /// Messages of all publishers that have not reached every subscriber.
    pub(super) under_way: usize,
}

/// What publishers and subscribers share.
pub(super) struct Flow {
    started: Instant,
    subscribers: u64,
    /// Leave to publish; comes back when a message has reached all subscribers.
    leave: Semaphore,
    received: AtomicU64,
    measuring: AtomicBool,
    over: AtomicBool,
    latencies: Mutex<Histogram<u64>>,
}

impl Flow {
    pub(super) fn new(subscribers: u32, under_way: usize) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Flow {
            started: Instant::now(),
            subscribers: subscribers.into(),
            leave: Semaphore::new(under_way),
            received: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            over: AtomicBool::new(false),
            latencies: Mutex::new(Histogram::new_with_max(LONGEST_US, 3)?),
        }))
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Deliveries with the times at which they were sent.
    fn note(&self, sent_ns: &mut Vec<u64>) {
        let count = sent_ns.len() as u64;
        let before = self.received.fetch_add(count, Ordering::Relaxed);
        let whole = (before + count) / self.subscribers - before / self.subscribers;
        self.leave.add_permits(whole as usize);
        if self.measuring.load(Ordering::Relaxed) {
            let now_ns = self.now_ns();
            let mut latencies = self.latencies.lock();
            sent_ns.iter().for_each(|sent| latencies.saturating_record(now_ns.saturating_sub(*sent) / 1_000));
        }
        sent_ns.clear();
    }
}

impl Fan {
    /// Measures it on one broker.
    pub(super) async fn measure(self, plan: &Plan, scenario: &'static str, broker: &Broker) -> anyhow::Result<Measured> {
        let flow = Flow::new(self.subscribers, self.under_way)?;
        let mut tasks = JoinSet::new();
        for number in 0..self.subscribers {
            let mut socket = Socket::connect(broker.address, &format!("subscriber-{number}")).await?;
            socket.subscribe(&["fan/command".to_owned()]).await?;
            tasks.spawn(subscribe(socket, Arc::clone(&flow)));
        }
        for number in 0..self.publishers {
            let topic = |_: u64| "fan/command".to_owned();
            tasks.spawn(publish(broker.address, number, self.window, Arc::clone(&flow), topic));
        }
        flow.measure(plan, scenario, broker, tasks).await
    }
}

impl Flow {
    /// Lets it run, and reads the clocks before and after.
    pub(super) async fn measure(
        &self,
        plan: &Plan,
        scenario: impl Into<String>,
        broker: &Broker,
        mut tasks: JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Measured> {
        watch(&mut tasks, plan.warm_up).await?;
        let (cpu, begun, before) = (CpuTime::of(broker.id())?, Instant::now(), self.received.load(Ordering::Relaxed));
        self.measuring.store(true, Ordering::Relaxed);
        watch(&mut tasks, plan.length).await?;
        self.measuring.store(false, Ordering::Relaxed);
        let (seconds, after) = (begun.elapsed().as_secs_f64(), self.received.load(Ordering::Relaxed));
        let used = CpuTime::of(broker.id())?.since(&cpu);
        let (memory_bytes, _) = process::memory_bytes(broker.id())?;
        self.over.store(true, Ordering::Relaxed);
        while let Some(end) = tasks.join_next().await {
            end.context("a client's task ended")??;
        }
        let latencies = self.latencies.lock().clone();
        let deliveries = after - before;
        ensure!(deliveries > 0, "nothing was delivered");
        Ok(Measured {
            scenario: scenario.into(),
            broker: broker.name,
            deliveries,
            seconds,
            cpu_us: used.process_us,
            latencies,
            memory_bytes,
            more: Vec::new(),
        })
    }
}

/// Waits, and notices clients that end.
async fn watch(tasks: &mut JoinSet<anyhow::Result<()>>, length: Duration) -> anyhow::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(length) => Ok(()),
        Some(end) = tasks.join_next() => end.context("a client's task ended")?.and_then(|()| anyhow::bail!("a client ended early")),
    }
}

/// Receives and acknowledges until all is over.
pub(super) async fn subscribe(mut socket: Socket, flow: Arc<Flow>) -> anyhow::Result<()> {
    let mut sent_ns = Vec::new();
    while !flow.is_over() {
        if let Ok(turned) = tokio::time::timeout(LOOK, socket.turn()).await {
            turned?;
        }
        socket.take(|packet, bytes, out| {
            if let Packet::Publish(id) = packet {
                out.extend_from_slice(&[0x40, 2, (id >> 8) as u8, id as u8]);
                let stamp = bytes.len().checked_sub(PAYLOAD_BYTES).and_then(|at| bytes.get(at..at + 8)?.try_into().ok());
                sent_ns.push(u64::from_be_bytes(stamp.context("a payload without its time")?));
            }
            Ok(())
        })?;
        flow.note(&mut sent_ns);
    }
    Ok(())
}

/// Publishes until all is over; `topic` is given how many were published before.
pub(super) async fn publish(
    address: SocketAddr,
    number: u32,
    window: u16,
    flow: Arc<Flow>,
    topic: impl Fn(u64) -> String,
) -> anyhow::Result<()> {
    let mut socket = Socket::connect(address, &format!("publisher-{number}")).await?;
    let mut free: Vec<u16> = (1..=window).collect();
    let mut payload = [b'.'; PAYLOAD_BYTES];
    let mut published = 0;
    while !flow.is_over() {
        let asked = SHARE.min(free.len() as u32);
        let leave = async {
            match flow.leave.try_acquire_many(asked) {
                Ok(leave) => Some((leave, asked)),
                Err(_) => flow.leave.acquire().await.ok().map(|leave| (leave, 1)),
            }
        };
        tokio::select! {
            biased;
            Some((leave, count)) = leave, if asked > 0 => {
                leave.forget();
                for id in free.drain(free.len() - count as usize..) {
                    payload[..8].copy_from_slice(&flow.now_ns().to_be_bytes());
                    socket.publish(&topic(published), id, &payload);
                    published += 1;
                }
                socket.stream.try_write(&socket.out).map_or_else(
                    |error| if error.kind() == std::io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) },
                    |written| { socket.out.drain(..written); Ok(()) },
                )?;
            }
            turned = socket.turn() => turned?,
            () = tokio::time::sleep(LOOK) => {}
        }
        socket.take(|packet, _, _| {
            if let Packet::PubAck(ack) = packet {
                free.push(ack.id);
            }
            Ok(())
        })?;
    }
    Ok(())
}
