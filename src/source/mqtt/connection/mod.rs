//! One task per socket: the only place with a socket and a clock. It carries packets between the socket and the session, and the
//! session's outputs to the broker.
//!
//! Each wake-up takes in everything that has arrived, lets the session act, and leaves one buffer to write. The connection is in two
//! stages: while it is *open* it serves the socket; in *closing* the socket is gone and what was read is brought to its end.
//!
//! Invariants: `client.disconnected` is raised once for each client that was let in, and after it only its will and the end of its session;
//! a session is handed over, parked or ended exactly once; reading pauses while the pipeline is behind, and keep alive with it.

mod ahead;
mod answers;
mod barrier;
mod closing;
mod handshake;
mod lane;
mod open;
mod proof;
mod socket;
mod tally;

use std::{pin::pin, sync::Arc, time::Instant};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use self::{
    ahead::Ahead,
    barrier::Barrier,
    handshake::Admitted,
    lane::{Lane, Work},
    tally::Tally,
};
use super::{
    Shared,
    codec::Codec,
    listener::Arrival,
    mailbox::Mailbox,
    packet::Outgoing,
    rate::Rates,
    session::{Output, Session, connect::Terms, keepalive::KeepAlive},
};
use crate::{
    event::{Client, Closing, Detail},
    hook::Hook,
    store::Change,
};

/// The read buffer of a fresh connection, bytes: most CONNECTs fit.
const INPUT_BYTES: usize = 512;

/// A connection whose client is in.
struct Connection {
    shared: Arc<Shared>,
    terms: Terms,
    client: Arc<Client>,
    /// Until it is handed over, parked or ended.
    session: Option<Box<Session>>,
    codec: Codec,
    input: BytesMut,
    read_bytes: usize,
    ahead: Ahead,
    output: BytesMut,
    /// What the session wants durable, until it is handed over.
    changes: Vec<Change>,
    /// What of the output must wait for the store.
    barrier: Barrier,
    outputs: Vec<Output>,
    lane: Arc<Lane>,
    tally: Tally,
    keep_alive: KeepAlive,
    /// What the client may send, where that is bounded.
    rates: Option<Box<Rates>>,
    /// The client exceeded it: until when nothing is taken from it.
    too_fast: Option<Instant>,
    /// What was written may still be on its way through TLS or WebSocket.
    unflushed: bool,
    /// Keeps the seat behind the door.
    arrival: Arrival,
    /// Writing failed: the client is read to its end, and told nothing more.
    mute: bool,
    /// Where verdicts go once the session was handed over.
    former_mailbox: Option<Arc<Mailbox>>,
    /// Who waits for this connection's last event.
    successor: Option<oneshot::Sender<()>>,
    /// The last events of a session that ended with this connection, until they may be raised.
    epilogue: Vec<Detail>,
}

/// How the open stage ended.
struct End {
    closing: Closing,
    with_will: bool,
}

/// Serves one socket from its first byte to the end of everything that it brought.
pub(super) async fn serve<R, W>(shared: Arc<Shared>, mut reader: R, mut writer: W, arrival: Arrival)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut codec = Codec::new(arrival.limits.max_packet_bytes);
    let mut input = BytesMut::with_capacity(INPUT_BYTES);
    // The beginning and the end are boxed: they are large, and over soon.
    let handshake = Box::pin(handshake::shake_hands(&shared, &arrival, &mut reader, &mut writer, &mut codec, &mut input));
    let Some((client, terms)) = handshake.await else { return };
    let Admitted { session, session_present, mut tenancy, history } = Box::pin(handshake::admit(&shared, &arrival, &client, &terms)).await;
    let lane = Arc::new(Lane::new(arrival.limits.max_qos0_waiting));
    let mut connection = Connection {
        keep_alive: KeepAlive::new(terms.keep_alive_s, Instant::now()),
        shared: Arc::clone(&shared),
        terms,
        client: Arc::clone(&client),
        session: Some(session),
        codec,
        input,
        read_bytes: open::READ_BYTES,
        ahead: Ahead::default(),
        output: BytesMut::new(),
        changes: Vec::new(),
        barrier: Barrier::new(shared.store.as_ref()),
        outputs: Vec::new(),
        lane: Arc::clone(&lane),
        rates: Rates::new(&arrival.limits, Instant::now()),
        too_fast: None,
        unflushed: false,
        arrival,
        tally: Tally::default(),
        mute: false,
        former_mailbox: None,
        successor: None,
        epilogue: Vec::new(),
    };
    shared.metrics.connections.inc();
    let displaced = !history.is_empty() && !session_present;
    history.into_iter().for_each(|work| lane.add(work));
    connection.persist_session(displaced);
    connection.welcome(session_present);
    let mut work = pin!(lane.run(&shared, &client));
    let end = connection.open(&mut reader, &mut writer, &mut tenancy, work.as_mut()).await;
    shared.metrics.connections.dec();
    drop((reader, writer));
    Box::pin(connection.close(end, tenancy, work)).await;
}

impl Connection {
    fn welcome(&mut self, session_present: bool) {
        let connack = Outgoing::ConnAck(Box::new(self.terms.connack(session_present)));
        if self.codec.encode(connack, &mut self.output).is_err() {
            tracing::debug!(client_id = %self.client.client_id, "CONNACK does not fit into what the client takes");
        }
        self.tally.sent(self.output.len());
        tracing::debug!(client_id = %self.client.client_id, peer = %self.client.peer, session_present, "client connected");
        if session_present {
            self.observe(Hook::SessionResumed, |_| Detail::SessionResumed);
        } else {
            self.observe(Hook::SessionCreated, |_| Detail::SessionCreated);
        }
        self.observe(Hook::ClientConnected, |connection| Detail::ClientConnected(connection.terms.connection()));
        self.observe(Hook::ClientConnack, |_| Detail::ClientConnack(handshake::answer(None)));
    }

    /// Raises an event if anybody wants it, else counts it.
    fn observe(&self, hook: Hook, detail: impl FnOnce(&Self) -> Detail) {
        if self.shared.pipeline.wants(hook) {
            self.lane.add(Work::Observe(detail(self)));
        } else {
            self.shared.pipeline.count(hook, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

    use super::*;

    /// What a task of this function takes.
    fn size_of_task<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_stays_small() {
        let task = size_of_task(serve::<OwnedReadHalf, OwnedWriteHalf>);
        println!("{task} bytes, the connection in it {}, its session {}", size_of::<Connection>(), size_of::<Session>());
        assert!(task < 4 * 1024, "{task} bytes");
    }
}
