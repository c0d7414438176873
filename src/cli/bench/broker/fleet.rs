//! Many clients, each subscribed to a topic of its own: what an idle one costs, how fast they come in, how long a command to each takes.
//!
//! The clients live in processes of their own, because a process has a limit of open files as the broker's has.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinSet, spawn_blocking},
};

use super::{
    super::{
        packet::Packet,
        process::{self, CpuTime},
        socket::Socket,
    },
    LONGEST_US, PAYLOAD_BYTES,
    peer::Broker,
    report::{Figure, Measured},
};

/// Clients of one worker process, at most.
const PER_WORKER: u32 = 10_000;
/// Connections that a worker opens at the same time.
const AT_ONCE: u32 = 50;
/// How long each command may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lets what connecting needed be given back before memory is read.
const REST: Duration = Duration::from_secs(3);

/// Measures `clients` on a broker.
pub(super) async fn measure(clients: u32) -> anyhow::Result<Measured> {
    let broker = Broker::hookgate().await?;
    let (memory_before, _) = process::memory_bytes(broker.id())?;
    let cpu = CpuTime::of(broker.id())?;
    let begun = Instant::now();
    let mut workers = Vec::new();
    for first in (0..clients).step_by(PER_WORKER as usize) {
        workers.push(Worker::start(broker.address, first, PER_WORKER.min(clients - first))?);
    }
    for worker in &mut workers {
        worker.hear("ready").await?;
    }
    let connected = begun.elapsed();
    let connect_cpu = CpuTime::of(broker.id())?.since(&cpu).process_us;
    tokio::time::sleep(REST).await;
    let (memory_after, _) = process::memory_bytes(broker.id())?;

    let cpu = CpuTime::of(broker.id())?;
    let begun = Instant::now();
    command_each(broker.address, clients).await?;
    let mut latencies = Histogram::new_with_max(LONGEST_US, 3)?;
    for worker in &mut workers {
        for us in worker.hear("received").await?.split_whitespace() {
            latencies.saturating_record(us.parse()?);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_us = CpuTime::of(broker.id())?.since(&cpu).process_us;
    for worker in workers {
        worker.end()?;
    }
    let idle_bytes = memory_after.saturating_sub(memory_before) as f64 / f64::from(clients);
    let more = vec![
        Figure::new("memory of an idle connection", idle_bytes, "bytes"),
        Figure::new("connect and subscribe", f64::from(clients) / connected.as_secs_f64(), "clients/s"),
        Figure::new("CPU of connect and subscribe", connect_cpu as f64 / f64::from(clients), "us/client"),
        Figure::new("one command to each, until the last has it", seconds, "s"),
    ];
    let name = format!("fleet of {clients}");
    let deliveries = u64::from(clients);
    let measured =
        Measured { scenario: name, broker: broker.name, deliveries, seconds, cpu_us, latencies, memory_bytes: memory_after, more };
    broker.stop().await?;
    Ok(measured)
}

fn topic(client: u32) -> String {
    format!("devices/{client}/command")
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Publishes one command to each client, a window at a time.
async fn command_each(address: SocketAddr, clients: u32) -> anyhow::Result<()> {
    const WINDOW: u16 = 500;
    let mut socket = Socket::connect(address, "app").await?;
    let mut free: Vec<u16> = (1..=WINDOW).collect();
    let (mut next, mut acknowledged) = (0, 0);
    let mut payload = [b'.'; PAYLOAD_BYTES];
    while acknowledged < clients {
        while next < clients
            && let Some(id) = free.pop()
        {
            payload[..8].copy_from_slice(&now_us().to_be_bytes());
            socket.publish(&topic(next), id, &payload);
            next += 1;
        }
        tokio::time::timeout(PATIENCE, socket.turn()).await.context("a PUBACK does not come")??;
        socket.take(|packet, _, _| {
            if let Packet::PubAck(ack) = packet {
                free.push(ack.id);
                acknowledged += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A process with some of the clients; killed when dropped.
struct Worker {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(address: SocketAddr, first: u32, count: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(["bench", "--fleet-worker", &format!("{address},{first},{count}")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting a worker")?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Worker { child, output })
    }

    /// Waits for a line that begins with `word`; the rest of it.
    async fn hear(&mut self, word: &str) -> anyhow::Result<String> {
        let mut output = self.output.take().context("the worker's output")?;
        let (output, line) = spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).map(|_| (output, line))
        })
        .await??;
        self.output = Some(output);
        ensure!(!line.is_empty(), "a worker ended early; is the limit of open files too low? (ulimit -n)");
        let rest = line.strip_prefix(word).with_context(|| format!("a worker said \"{line}\" instead of \"{word}\""))?;
        Ok(rest.trim().to_owned())
    }

    /// Lets it end, once everything is measured.
    fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a worker ended with {status}");
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Of a process that has ended already, neither is an error worth a word.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker process does: `ADDRESS,FIRST,COUNT` says for whom.
///
/// # Errors
/// A client is refused or lost, or its command does not come.
pub(in super::super) async fn worker(what: &str) -> anyhow::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files")?;
    let parts: Vec<&str> = what.split(',').collect();
    let [address, first, count] = parts[..] else { bail!("\"{what}\" is not ADDRESS,FIRST,COUNT") };
    let (address, first, count): (SocketAddr, u32, u32) = (address.parse()?, first.parse()?, count.parse()?);
    let mut opening = JoinSet::new();
    for lane in 0..AT_ONCE.min(count) {
        opening.spawn(async move {
            let mut sockets = Vec::new();
            for client in (first + lane..first + count).step_by(AT_ONCE as usize) {
                let mut socket = Socket::connect(address, &format!("device-{client}")).await?;
                socket.subscribe(&[topic(client)]).await?;
                socket.input = bytes::BytesMut::new(); // thousands of them wait
                socket.out = Vec::new();
                sockets.push(socket);
            }
            anyhow::Ok(sockets)
        });
    }
    let mut waiting = JoinSet::new();
    while let Some(sockets) = opening.join_next().await {
        for socket in sockets?? {
            waiting.spawn(one_command(socket));
        }
    }
    println!("ready");
    let mut latencies = Vec::new();
    let mut sockets = Vec::new();
    while let Some(received) = waiting.join_next().await {
        let (socket, us) = received??;
        latencies.push(us.to_string());
        sockets.push(socket);
    }
    println!("received {}", latencies.join(" "));
    // The parent closes the input when it has measured everything.
    spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

/// Waits for one command and acknowledges it; how long it took, microseconds.
async fn one_command(mut socket: Socket) -> anyhow::Result<(Socket, u64)> {
    loop {
        socket.stream.readable().await?; // no buffer while nothing comes
        socket.fill().await?;
        let mut sent_us = None;
        socket.take(|packet, bytes, out| {
            if let Packet::Publish(id) = packet {
                out.extend_from_slice(&[0x40, 2, (id >> 8) as u8, id as u8]);
                let stamp = bytes.len().checked_sub(PAYLOAD_BYTES).and_then(|at| bytes.get(at..at + 8)?.try_into().ok());
                sent_us = stamp.map(u64::from_be_bytes);
            }
            Ok(())
        })?;
        if let Some(sent_us) = sent_us {
            let took_us = now_us().saturating_sub(sent_us);
            socket.stream.write_all(&socket.out).await?;
            socket.input = bytes::BytesMut::new();
            return Ok((socket, took_us));
        }
    }
}
