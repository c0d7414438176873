//! The open stage: socket, session, lane and timers side by side.

use std::{convert::Infallible, future::poll_fn, pin::Pin, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Duration, sleep_until},
};

use super::{
    Connection, End,
    lane::Work,
    socket::{read, write},
};
use crate::{
    event::{Closing, Detail, DropReason, Dropping, Text, now_ms},
    hook::Hook,
    source::mqtt::{
        Phase,
        mailbox::Parcel,
        packet::{Incoming, Outgoing},
        reason::{self, Fault},
        session::{Granted, Output, Wanted},
        sessions::{Eviction, Tenancy},
        slow,
    },
};

/// From here on nothing more is delivered until the socket has taken something, bytes.
const OUTPUT_HIGH_BYTES: usize = 128 * 1024;
/// Beside the last delivery, so much may pile up until nothing is read either: each packet may bring an answer.
const ANSWERS_BYTES: usize = 4 * OUTPUT_HIGH_BYTES;
/// The least room for reading, bytes.
pub(super) const READ_BYTES: usize = 2 * 1024;
/// The most, for connections that bring more than there was room for.
const MAX_READ_BYTES: usize = 32 * 1024;
/// How long the last packets to a client may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What may be done about the client's side of the socket.
enum Intake {
    /// Read it.
    Read,
    /// Not now.
    Wait,
    /// Packets that came before its end are left: take them.
    Again,
    /// It has ended, and everything before its end was taken.
    Over,
}

/// What woke the connection.
enum Wake {
    Read(std::io::Result<usize>),
    Wrote(std::io::Result<()>),
    Lane,
    Settled,
    /// Something that the output waits for is durable.
    Committed,
    Mail,
    Timer,
    Evicted(Option<Eviction>),
    Phase,
}

impl Connection {
    /// Serves the socket until it or the client is gone, or the process drains. The session is detached when it returns, and handed
    /// over if the client came back on another connection.
    pub(super) async fn open<R, W, L>(&mut self, reader: &mut R, writer: &mut W, tenancy: &mut Tenancy, mut work: Pin<&mut L>) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        L: Future<Output = Infallible>,
    {
        let end = self.serve(reader, writer, tenancy, work.as_mut()).await;
        if let Some(session) = &mut self.session {
            session.catch_up();
            session.detach();
        }
        let farewell = async {
            while !self.output.is_empty() {
                let ready = self.barrier.ready(self.output.len());
                self.barrier.wrote(ready);
                writer.write_all_buf(&mut self.output.split_to(ready)).await?;
                if !self.output.is_empty() {
                    writer.flush().await?;
                    self.barrier.opened().await;
                }
            }
            writer.shutdown().await
        };
        if end.closing.reason != LOST && !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!(client_id = %self.client.client_id, "the last packets could not be written");
        }
        end
    }

    async fn serve<R, W, L>(&mut self, reader: &mut R, writer: &mut W, tenancy: &mut Tenancy, mut work: Pin<&mut L>) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        L: Future<Output = Infallible>,
    {
        let mut phase = self.shared.phase.subscribe();
        let Some(session) = &self.session else { return lost() };
        let (settlements, mailbox, lane) = (Arc::clone(session.settlements()), Arc::clone(session.mailbox()), Arc::clone(&self.lane));
        let mut timer = std::pin::pin!(sleep_until(self.keep_alive.next_look(Instant::now()).into()));
        loop {
            let draining = *phase.borrow_and_update() != Phase::Running;
            match self.step(draining) {
                Ok(None) => self.tally.flush(&self.shared.metrics),
                Ok(Some(end)) => return end,
                Err(fault) => return self.fail(fault),
            }
            if draining && self.is_drained(&phase) {
                return self.fail(self.shared.shutting_down());
            }
            let may_read = match self.intake(draining) {
                Intake::Over => return lost(),
                Intake::Again => continue,
                Intake::Read => true,
                Intake::Wait => false,
            };
            self.keep_alive.pause(draining || self.is_behind() || self.too_fast.is_some(), Instant::now());
            if let Some(until) = self.too_fast {
                timer.as_mut().reset(until.into());
            }
            if self.mute {
                self.barrier.wrote(self.output.len());
                self.output.clear();
                self.unflushed = false;
            }
            let length = self.output.len();
            let ready = self.barrier.ready(length);
            let wake = tokio::select! {
                biased;
                written = write(writer, &mut self.output, ready, &mut self.unflushed), if self.unflushed || ready > 0 => Wake::Wrote(written),
                () = self.barrier.opened() => Wake::Committed,
                () = poll_fn(|context| lane.poll(work.as_mut(), context)) => Wake::Lane,
                read = read(reader, &mut self.input, self.read_bytes), if may_read => Wake::Read(read),
                () = settlements.wait() => Wake::Settled,
                () = mailbox.wait() => Wake::Mail,
                eviction = &mut tenancy.eviction => Wake::Evicted(eviction.ok()),
                _ = phase.changed() => Wake::Phase,
                () = timer.as_mut() => Wake::Timer,
            };
            self.barrier.wrote(length - self.output.len());
            match wake {
                Wake::Read(Ok(0) | Err(_)) => self.ahead.ended = true,
                Wake::Wrote(Err(_)) => self.mute = true, // what the client sent before may still be read
                Wake::Read(Ok(bytes)) => {
                    self.tally.bytes_in += bytes as u64;
                    self.keep_alive.heard(Instant::now());
                    if let Some(rates) = &mut self.rates {
                        rates.bytes(bytes, Instant::now());
                    }
                    if bytes >= self.read_bytes {
                        self.read_bytes = (2 * self.read_bytes).min(MAX_READ_BYTES);
                    }
                }
                Wake::Mail => self.session.iter_mut().for_each(|session| session.has_mail()),
                Wake::Timer if self.keep_alive.expired(Instant::now()) => {
                    return self.fail(Fault::new(reason::KEEP_ALIVE_TIMEOUT, "keepalive-timeout", "nothing was heard for too long"));
                }
                Wake::Timer => timer.as_mut().reset(self.keep_alive.next_look(Instant::now()).into()),
                Wake::Evicted(eviction) => {
                    return match (eviction, self.session.take()) {
                        (Some(eviction), Some(session)) => self.evicted(eviction, session),
                        _ => lost(),
                    };
                }
                Wake::Wrote(Ok(())) | Wake::Lane | Wake::Settled | Wake::Committed | Wake::Phase => {}
            }
        }
    }

    /// Takes in what there is: verdicts, settlements, packets, deliveries.
    fn step(&mut self, draining: bool) -> Result<Option<End>, Fault> {
        let now_ms = now_ms();
        let pipeline = &self.shared.pipeline;
        let wanted = Wanted {
            delivered: pipeline.wants(Hook::MessageDelivered),
            acked: pipeline.wants(Hook::MessageAcked),
            authorize: pipeline.authorizes(),
            once: pipeline.has_once(),
        };
        let verdicts = self.lane.verdicts();
        if let Some(session) = &mut self.session {
            for (number, verdict) in verdicts {
                session.decided(number, verdict);
            }
        }
        self.bring_answers(now_ms)?;
        while !self.is_too_fast() && !draining && !self.is_behind() && self.can_answer() {
            let bytes = self.input.len();
            let (Some(packet), Some(session)) = (self.codec.decode(&mut self.input)?, &mut self.session) else { break };
            self.tally.packets_in += 1;
            if self.ahead.taken(&packet, bytes - self.input.len()) {
                continue;
            }
            if let (Some(rates), Incoming::Publish(_)) = (&mut self.rates, &packet) {
                rates.message(Instant::now());
            }
            let handled = session.handle(packet, now_ms, wanted, &mut self.outputs);
            if let Some(end) = self.apply(now_ms)? {
                return Ok(Some(end));
            }
            handled?;
        }
        loop {
            let may_deliver = !self.mute && !self.lane.is_long();
            let room_bytes = if may_deliver { OUTPUT_HIGH_BYTES.saturating_sub(self.output.len()) } else { 0 };
            let Some(session) = &mut self.session else { return Ok(None) };
            let advanced = session.advance(now_ms, room_bytes, wanted, &mut self.outputs);
            let more = room_bytes > 0 && session.can_deliver();
            self.apply(now_ms)?;
            advanced?;
            if !more {
                return Ok(None);
            }
        }
    }

    /// Does what the session wants done.
    pub(super) fn apply(&mut self, now_ms: u64) -> Result<Option<End>, Fault> {
        self.count_unmade();
        let mut outputs = std::mem::take(&mut self.outputs);
        let (mut end, mut fault) = (None, None);
        for output in outputs.drain(..) {
            match output {
                Output::Send(packet) => fault = fault.or(self.send(packet).err()),
                Output::Publish { message, number, receipt, trace } => {
                    self.shared.metrics.messages_received.inc();
                    self.tally.payload_in += message.payload.len() as u64;
                    if number.is_none() && !self.lane.takes_qos0() {
                        slow::leave_out(&self.shared, &self.client, *message);
                    } else {
                        self.lane.add(Work::Publish { message, number, receipt, trace });
                    }
                }
                Output::Authorize { number, filters } => self.lane.add(Work::Authorize { number, filters }),
                Output::Prove { begin, data } => self.lane.add(Work::Prove { begin, data }),
                // The pipeline counts every drop, wanted or not.
                Output::Observe(detail @ Detail::MessageDropped(_)) => self.lane.add(Work::Observe(detail)),
                Output::Observe(detail) => self.observe(detail.hook(), |_| detail),
                Output::Subscribe { filter, granted, is_new, retained } => self.subscribe(&filter, granted, is_new, retained, now_ms),
                Output::Unsubscribe(filter) => self.unsubscribe(&filter),
                Output::Persist(change) => self.changes.push(change),
                Output::Barrier => {
                    self.persist_changes();
                    self.barrier.put(self.output.len());
                }
                Output::Goodbye { closing, with_will } => end = Some(End { closing, with_will }),
            }
        }
        self.outputs = outputs;
        self.persist_changes();
        fault.map_or(Ok(end), Err)
    }

    /// What comes next from the client; looks ahead when nothing is taken for now, because it may ask whether we are there.
    fn intake(&mut self, draining: bool) -> Intake {
        if draining || !self.can_answer() {
            return Intake::Wait;
        }
        if self.is_behind() || self.too_fast.is_some() {
            self.answer_pings();
            let may_read = self.too_fast.is_none() && self.ahead.has_room(&self.input) && !self.ahead.ended;
            return if may_read { Intake::Read } else { Intake::Wait };
        }
        match self.ahead.ended {
            false => Intake::Read,
            true if self.ahead.is_empty(&self.input) => Intake::Over,
            true => Intake::Again,
        }
    }

    fn answer_pings(&mut self) {
        for _ in 0..self.ahead.pings(&self.input) {
            if self.send(Outgoing::PingResp).is_err() {
                tracing::debug!(client_id = %self.client.client_id, "PINGRESP does not fit into what the client takes");
            }
        }
    }

    fn send(&mut self, packet: Outgoing) -> Result<(), Fault> {
        if let Outgoing::Publish(forward) = &packet {
            self.shared.metrics.messages_sent.inc();
            self.tally.payload_out += forward.message.payload.len() as u64;
        }
        let before = self.output.len();
        let encoded = self.codec.encode(packet, &mut self.output);
        self.tally.sent(self.output.len() - before);
        encoded.map_err(|_| Fault::new(reason::PACKET_TOO_LARGE, "packet-too-large", "an answer exceeds the client's maximum packet size"))
    }

    fn subscribe(&mut self, filter: &Text, granted: Granted, is_new: bool, retained: bool, now_ms: u64) {
        let Some(session) = &self.session else { return };
        self.shared.subscriptions.insert(filter, session.number(), session.mailbox(), granted);
        if is_new {
            self.shared.metrics.subscriptions.inc();
        }
        if !retained {
            return;
        }
        let kept =
            if filter.starts_with("$SYS/") { self.shared.sys.matching(filter) } else { self.shared.retained.matching(filter, now_ms) };
        for message in kept {
            if granted.options.no_local && message.publisher == self.client.client_id {
                continue;
            }
            let qos = message.qos.min(granted.options.qos);
            let parcel =
                Parcel { message, qos, retain: true, subscription_ids: granted.subscription_id.into_iter().collect(), share: None };
            match session.mailbox().push(parcel) {
                Err(rejected) if rejected.parcel.message.is_the_servers() => {
                    self.shared.metrics.sys_messages_dropped.inc();
                }
                Err(rejected) => self.drop_message(rejected.parcel, rejected.reason),
                Ok(()) => {}
            }
        }
    }

    fn unsubscribe(&mut self, filter: &Text) {
        if let Some(session) = &self.session {
            self.shared.subscriptions.remove(filter, session.number());
            self.shared.metrics.subscriptions.dec();
        }
    }

    fn drop_message(&self, parcel: Parcel, reason: DropReason) {
        let dropping = Dropping { message: parcel.message, reason, explanation: Text::new() };
        self.lane.add(Work::Observe(Detail::MessageDropped(dropping)));
    }

    /// Answers still fit into what waits to be written.
    fn can_answer(&self) -> bool {
        self.output.len() < ANSWERS_BYTES + self.arrival.limits.max_packet_bytes as usize
    }

    /// The client exceeds its rate; each time that it begins to is counted.
    fn is_too_fast(&mut self) -> bool {
        let Some(rates) = &self.rates else { return false };
        let until = rates.ready_at(Instant::now());
        if until.is_some() && self.too_fast.is_none() {
            self.arrival.door.reads_paused.inc();
            tracing::debug!(client_id = %self.client.client_id, "reading pauses: the client exceeds its rate");
        }
        self.too_fast = until;
        until.is_some()
    }

    /// The pipeline is behind: reading pauses.
    fn is_behind(&self) -> bool {
        self.lane.is_long() || self.session.as_ref().is_some_and(|session| session.is_full())
    }

    fn is_drained(&self, phase: &watch::Receiver<Phase>) -> bool {
        let idle = self.lane.backlog() == 0 && self.session.as_ref().is_none_or(|session| session.is_settled());
        idle || *phase.borrow() == Phase::Stopped
    }

    /// Ends the connection for a fault, telling clients that can be told.
    pub(super) fn fail(&mut self, fault: Fault) -> End {
        let text = Some(&fault.explanation).filter(|text| !text.is_empty() && !text.contains('\0')).cloned();
        let server_reference = self.shared.server_reference(&fault);
        if self.terms.protocol.is_5() && self.send(Outgoing::Disconnect { code: fault.code, text, server_reference }).is_err() {
            tracing::debug!(client_id = %self.client.client_id, "DISCONNECT does not fit into what the client takes");
        }
        tracing::debug!(client_id = %self.client.client_id, reason = fault.word, explanation = %fault.explanation, "closing the connection");
        End { closing: fault.closing(), with_will: true }
    }
}

const LOST: &str = "connection-lost";

fn lost() -> End {
    End { closing: Closing { reason_code: reason::UNSPECIFIED, reason: Text::from_static(LOST) }, with_will: true }
}
