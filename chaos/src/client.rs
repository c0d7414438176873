//! One client on its socket: it connects, publishes at its pace, is disturbed, gives up a connection that does not answer, and comes back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    books::Books,
    dice::dice,
    packet,
    session::{Answer, Identity, Session},
};

/// How long connecting may take, and then the answer to CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for any answer while messages are open; drawn.
const ANSWER_PATIENCE_S: std::ops::Range<u64> = 15..40;
/// Between attempts to connect; drawn.
const BACKOFF_MS: std::ops::Range<u64> = 20..300;
/// Bytes that wait to be written, at most.
const WAITING_BYTES: usize = 64 << 10;
/// A client that could not publish catches up on so much time.
const CATCH_UP: Duration = Duration::from_secs(30);
/// Room for reading.
const ROOM: usize = 16 << 10;

/// What happens to a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// The socket is gone without a word.
    Cut,
    /// DISCONNECT.
    Goodbye,
    /// The client connects again while its old socket is open.
    Takeover,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Publish,
    /// Nothing new; what is open is waited for.
    Settle,
    /// Nobody waits any more.
    End,
}

/// Counts of all clients, for the progress line.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// What a client needs.
pub(crate) struct Client {
    pub(crate) who: Identity,
    /// Where Hookgate is; `None` while it is not.
    pub(crate) gate: watch::Receiver<Option<SocketAddr>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) disturbances: mpsc::Receiver<Disturbance>,
    pub(crate) counts: Arc<Counts>,
    /// Messages a second; 0: as fast as it goes.
    pub(crate) rate: f64,
}

/// Why a connection is over without an error.
enum Over {
    Done,
    Disturbed(Disturbance),
}

impl Client {
    /// Lives until nothing is open in [`Phase::Settle`], or until [`Phase::End`].
    pub(crate) async fn run(mut self) -> Books {
        let mut session = Session::new(self.who.clone());
        let mut dice = dice(self.who.seed, "client", self.who.client.into());
        let mut pace = Pace { rate: self.rate, since: Instant::now(), sent: 0.0 };
        let mut lingering: Option<TcpStream> = None; // held open until the next connection is over
        loop {
            let mut at_once = false;
            if self.is_over(&session) {
                session.books.open = session.open() as u64;
                return session.books;
            }
            let address = *self.gate.borrow_and_update();
            if let Some(address) = address
                && let Ok(Ok(mut stream)) = timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await
            {
                let patience = Duration::from_secs(dice.u64(ANSWER_PATIENCE_S));
                let result = self.serve(&mut stream, &mut session, &mut pace, patience).await;
                at_once = matches!(result, Ok(Over::Disturbed(Disturbance::Takeover)));
                drop(std::mem::replace(&mut lingering, at_once.then_some(stream)));
            }
            let pause = Duration::from_millis(dice.u64(BACKOFF_MS));
            if !at_once {
                sleep(pause).await;
            }
        }
    }

    fn is_over(&self, session: &Session) -> bool {
        match *self.phase.borrow() {
            Phase::Publish => false,
            Phase::Settle => session.open() == 0,
            Phase::End => true,
        }
    }

    /// One connection.
    async fn serve(&mut self, stream: &mut TcpStream, session: &mut Session, pace: &mut Pace, patience: Duration) -> Result<Over> {
        stream.set_nodelay(true)?;
        let (mut reading, mut writing) = stream.split();
        let (mut input, mut out) = (Vec::with_capacity(ROOM), Vec::with_capacity(WAITING_BYTES));
        session.connect(&mut out);
        let (mut connected, mut answered) = (false, Instant::now());
        loop {
            if self.is_over(session) {
                packet::disconnect(&mut out);
                let _ = timeout(CONNECT_PATIENCE, writing.write_all(&out)).await; // the end, whatever becomes of it
                return Ok(Over::Done);
            }
            let is_publishing = connected && *self.phase.borrow() == Phase::Publish;
            let mut due = Instant::now() + CONNECT_PATIENCE;
            while is_publishing && session.has_room() && out.len() < WAITING_BYTES {
                let next = pace.next_due();
                if next > Instant::now() {
                    due = next;
                    break;
                }
                pace.sent += 1.0;
                session.publish(&mut out);
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
            }
            let limit = answered + if connected { patience } else { CONNECT_PATIENCE };
            let waits = !connected || session.open() > 0;
            if !waits {
                answered = Instant::now();
            }
            tokio::select! {
                read = reading.read_buf(&mut input) => {
                    ensure!(read? > 0, "closed");
                    answered = Instant::now();
                    connected |= self.take(&mut input, session, &mut out)?;
                }
                written = writing.write(&out), if !out.is_empty() => { out.drain(..written?); }
                Some(disturbance) = self.disturbances.recv() => {
                    if disturbance == Disturbance::Goodbye {
                        packet::disconnect(&mut out);
                        let _ = timeout(CONNECT_PATIENCE, writing.write_all(&out)).await; // it leaves anyway
                    }
                    return Ok(Over::Disturbed(disturbance));
                }
                _ = self.phase.changed() => {}
                () = sleep_until(limit), if waits => bail!("no answer"),
                () = sleep_until(due), if is_publishing => {}
            }
        }
    }

    /// Takes every whole packet; whether CONNACK was among them.
    fn take(&self, input: &mut Vec<u8>, session: &mut Session, out: &mut Vec<u8>) -> Result<bool> {
        let (mut taken, mut connected) = (0, false);
        while let Some((packet, bytes)) = packet::read(input.get(taken..).unwrap_or_default())? {
            taken += bytes;
            let count = match session.take(packet, out)? {
                Answer::Acknowledged => &self.counts.acknowledged,
                Answer::Refused => &self.counts.refused,
                Answer::Connected => {
                    connected = true;
                    &self.counts.connections
                }
                Answer::Nothing => continue,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        input.drain(..taken);
        Ok(connected)
    }
}

/// So many messages a second, and what was missed is caught up on.
struct Pace {
    rate: f64,
    since: Instant,
    sent: f64,
}

impl Pace {
    fn next_due(&mut self) -> Instant {
        let now = Instant::now();
        if self.rate <= 0.0 {
            return now;
        }
        let due = self.since + Duration::from_secs_f64(self.sent / self.rate);
        if due + CATCH_UP < now {
            self.since += now - due - CATCH_UP;
        }
        due
    }
}
