//! One publisher on one socket: a window of messages in flight, one write and one read per wake-up.
//!
//! With a rate, messages are due at fixed times, and latency counts from when a message was due, so that a stall is seen by every message
//! that it held up (no coordinated omission); being late by less than a timer's tick is the generator's own fault and not counted.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::WriteHalf},
    time::Instant,
};

use super::{
    command::Mark,
    load::Load,
    packet::{self, Packet},
};
use crate::event::now_ms;

/// How late a timer wakes up, nanoseconds.
const TICK_NS: u64 = 2_000_000;
/// How often a publisher without a rate looks whether the run has ended.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that wait to be written, at most (as far as QoS 0 has no window).
const WAITING_BYTES: usize = 64 << 10;
/// How long the end waits for acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);
/// Refusals that are remembered in words.
const EXAMPLES: usize = 3;

/// What a publisher knows at its end.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Per sequence number, whether it was acknowledged. Its length is how many were sent.
    pub(super) acknowledged: Vec<bool>,
    /// Messages refused with a reason code.
    pub(super) refused: u64,
    /// The first of them, in words.
    pub(super) examples: Vec<String>,
}

/// The client id of a publisher.
pub(super) fn client_id(client: u32) -> String {
    format!("bench-{client:05}")
}

struct Publisher {
    load: Arc<Load>,
    client: u32,
    topic: String,
    /// By packet id less one: sequence number and send time of a message in flight.
    in_flight: Vec<Option<(u64, u64)>>,
    free: Vec<u16>,
    next: u64,
    first_due_ns: u64,
    interval_ns: u64,
    out: Vec<u8>,
    /// Send times of messages acknowledged since the last look.
    settled: Vec<u64>,
    published: Published,
}

/// Publishes until the load ends, and waits for what is in flight.
///
/// # Errors
/// The connection is refused or lost.
pub(super) async fn publish(address: SocketAddr, load: Arc<Load>, client: u32) -> anyhow::Result<Published> {
    let lost = || format!("the connection of {}", client_id(client));
    let mut publisher = Publisher::new(load, client);
    let mut stream = TcpStream::connect(address).await.with_context(lost)?;
    stream.set_nodelay(true)?;
    publisher.connect(&mut stream).await.with_context(lost)?;
    publisher.run(&mut stream).await.with_context(lost)?;
    Ok(publisher.published)
}

impl Publisher {
    fn new(load: Arc<Load>, client: u32) -> Self {
        let shape = load.shape;
        let interval_ns = (u64::from(shape.clients) * 1_000_000_000).checked_div(shape.rate).unwrap_or(0);
        let window = shape.in_flight;
        Publisher {
            client,
            topic: format!("devices/{}/command", client_id(client)),
            in_flight: vec![None; window.into()],
            free: (1..=window).rev().collect(),
            next: 0,
            first_due_ns: load.now_ns() + interval_ns * u64::from(client) / u64::from(shape.clients.max(1)),
            interval_ns,
            out: Vec::with_capacity(WAITING_BYTES),
            settled: Vec::new(),
            published: Published::default(),
            load,
        }
    }

    async fn connect(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        packet::connect(self.load.shape.protocol, &client_id(self.client), &mut self.out);
        stream.write_all(&self.out).await?;
        self.out.clear();
        let mut input = Vec::new();
        loop {
            ensure!(stream.read_buf(&mut input).await? > 0, "closed instead of a CONNACK");
            match packet::read(&input)? {
                Some((Packet::ConnAck(0), _)) => return Ok(()),
                Some((Packet::ConnAck(code), _)) => bail!("refused with code {code:#04x}"),
                Some((other, _)) => bail!("{other:?} instead of a CONNACK"),
                None => {}
            }
        }
    }

    async fn run(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let (mut reading, mut writing) = stream.split();
        let mut input = Vec::with_capacity(WAITING_BYTES);
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let wake = self.fill();
            let over = self.load.is_over();
            if over && self.out.is_empty() && (self.free.len() == self.in_flight.len() || self.load.is_over_since(PATIENCE)) {
                packet::disconnect(&mut self.out);
                return Ok(writing.write_all(&self.out).await?);
            }
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                read = reading.read_buf(&mut input) => {
                    ensure!(read? > 0, "closed by the broker");
                    self.take(&mut input)?;
                }
                written = write(&mut writing, &self.out), if !self.out.is_empty() => { self.out.drain(..written?); }
                () = timer.as_mut() => {}
            }
        }
    }

    /// Writes what may be sent now; says when to look again.
    fn fill(&mut self) -> Instant {
        let load = Arc::clone(&self.load);
        let time_s = now_ms() / 1_000;
        loop {
            let now_ns = load.now_ns();
            let due_ns = if self.interval_ns == 0 { now_ns } else { self.first_due_ns + self.next * self.interval_ns };
            let look = Instant::from_std(load.instant(now_ns) + LOOK);
            if due_ns > now_ns {
                return look.min(Instant::from_std(load.instant(due_ns)));
            }
            let Some(id) = self.free.last().copied() else { return look };
            if self.out.len() >= WAITING_BYTES || !load.may_send(now_ns) {
                return look;
            }
            let sent_ns = if now_ns - due_ns <= TICK_NS { now_ns } else { due_ns };
            let mark = Mark { client: self.client, sequence: self.next, sent_ns, time_s };
            packet::publish(load.shape.protocol, &self.topic, load.shape.qos, id, load.commands.bytes(), &mut self.out);
            load.commands.write(mark, &mut self.out);
            load.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.next += 1;
            if load.shape.qos == 0 {
                self.published.acknowledged.push(true);
                load.acknowledged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            } else {
                self.published.acknowledged.push(false);
                self.free.pop();
                if let Some(slot) = self.in_flight.get_mut(usize::from(id) - 1) {
                    *slot = Some((mark.sequence, sent_ns));
                }
            }
        }
    }

    /// Takes every whole packet out of `input`.
    fn take(&mut self, input: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut taken = 0;
        while let Some((packet, bytes)) = packet::read(input.get(taken..).unwrap_or_default())? {
            taken += bytes;
            match packet {
                Packet::PubAck(ack) => {
                    self.settle(&ack)?;
                    self.free.push(ack.id);
                }
                Packet::PubRec(ack) => {
                    self.settle(&ack)?;
                    // A refusal ends the exchange; otherwise the packet id is free with PUBCOMP.
                    if ack.reason >= 0x80 { self.free.push(ack.id) } else { packet::pubrel(ack.id, &mut self.out) }
                }
                Packet::PubComp(id) => self.free.push(id),
                Packet::Disconnect(reason) => bail!("the broker says DISCONNECT {reason:#04x}"),
                Packet::ConnAck(_) | Packet::SubAck | Packet::Publish(_) | Packet::Other => {}
            }
        }
        input.drain(..taken);
        self.load.note_acknowledged(&mut self.settled);
        Ok(())
    }

    fn settle(&mut self, ack: &packet::Ack) -> anyhow::Result<()> {
        let slot = self.in_flight.get_mut(usize::from(ack.id).wrapping_sub(1));
        let in_flight = slot.and_then(Option::take);
        let (sequence, sent_ns) = in_flight.with_context(|| format!("packet id {} is acknowledged and not in flight", ack.id))?;
        if ack.reason >= 0x80 {
            self.published.refused += 1;
            if self.published.examples.len() < EXAMPLES {
                let example = format!("{} number {sequence}: {:#04x} {}", client_id(self.client), ack.reason, ack.words);
                self.published.examples.push(example);
            }
        } else {
            self.settled.push(sent_ns);
            if let Some(acknowledged) = self.published.acknowledged.get_mut(sequence as usize) {
                *acknowledged = true;
            }
        }
        Ok(())
    }
}

async fn write(stream: &mut WriteHalf<'_>, bytes: &[u8]) -> std::io::Result<usize> {
    stream.write(bytes).await
}
