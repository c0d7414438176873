//! From an accepted socket to a client that is in: CONNECT, its terms, its session, CONNACK.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{lane::Work, proof::Proof};
use crate::{
    event::{Client, Closing, Connection, Detail, Text, now_ms},
    metrics::Metrics,
    source::mqtt::{
        Phase, Shared,
        codec::{self, Codec},
        listener::Arrival,
        own,
        packet::{Connect, Incoming, Outgoing},
        reason::{self, Fault},
        session::{
            Session,
            connect::{self, Terms},
        },
        sessions::{self, Before, Demand, Ending, Tenancy},
    },
};

/// How long the answer to a client that stays out may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A client that is in, before anything but CONNECT was taken.
pub(super) struct Admitted {
    pub(super) session: Box<Session>,
    pub(super) session_present: bool,
    pub(super) tenancy: Tenancy,
    /// What comes before this connection's own events: the last ones of the evicted connection of the same client, or of the session that
    /// was thrown away.
    pub(super) history: Vec<Work>,
}

/// Reads CONNECT, agrees on terms, and sees who the client is; no session is touched before. Raises `client.connect`, and
/// `client.connack` for a client that stays out. `None`: the connection is to be closed, everything is said and counted.
pub(super) async fn shake_hands<R, W>(
    shared: &Shared,
    arrival: &Arrival,
    reader: &mut R,
    writer: &mut W,
    codec: &mut Codec,
    input: &mut BytesMut,
) -> Option<(Arc<Client>, Terms)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut known = None;
    let opened = async {
        let first = read_packet(reader, codec, input, &shared.metrics);
        let Incoming::Connect(connect) = within(shared, arrival.deadline, first).await? else {
            return Err(Fault::protocol("the first packet must be CONNECT"));
        };
        shared.metrics.packets_received.inc();
        let connect = as_certified(*connect, arrival);
        let client = Arc::new(identify(&connect, arrival));
        let (asked, proof) = (connection(&connect), Proof::of(&connect));
        let agreed = if arrival.is_one_too_many() {
            let text = "all connections of this listener are taken; try again later";
            Err(Fault::new(reason::QUOTA_EXCEEDED, "too-many-connections", text))
        } else {
            Terms::negotiate(connect, &arrival.limits, || client.client_id.clone())
        };
        if !matches!(&agreed, Err(fault) if fault.code == reason::MALFORMED_PACKET) {
            observe(shared, &client, Detail::ClientConnect(asked)).await;
            known = Some(Arc::clone(&client));
        }
        let mut terms = agreed?;
        check_size(&terms, codec)?;
        let deadline = Instant::now() + Duration::from_millis(arrival.limits.connect_timeout_ms);
        within(shared, deadline, proof.look(shared, &client, &mut terms, (reader, writer), (codec, input))).await?;
        check_size(&terms, codec)?;
        Ok((client, terms))
    };
    match opened.await {
        Ok(agreed) => Some(agreed),
        Err(fault) => {
            refuse(shared, writer, codec, known.as_ref(), &fault).await;
            None
        }
    }
}

/// Waits for `step`, but not too long, nor over the end of the process.
async fn within<T>(shared: &Shared, deadline: Instant, step: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let mut phase = shared.phase.subscribe();
    tokio::select! {
        done = tokio::time::timeout_at(deadline.into(), step) => {
            done.unwrap_or_else(|_elapsed| Err(Fault::new(reason::UNSPECIFIED, "connect-timeout", "CONNECT took too long")))
        }
        _ = phase.wait_for(|phase| *phase != Phase::Running) => Err(shared.shutting_down()),
    }
}

/// Tells and counts a refusal; a client whose CONNECT could be read is observed too.
async fn refuse<W: AsyncWrite + Unpin>(shared: &Shared, writer: &mut W, codec: &mut Codec, client: Option<&Arc<Client>>, fault: &Fault) {
    shared.metrics.connections_refused.get_or_create(&fault.word.into()).inc();
    tracing::debug!(reason = fault.word, explanation = %fault.explanation, "connection refused");
    if let Some(client) = client {
        // Before the client is told: it may try again at once.
        observe(shared, client, Detail::ClientConnack(answer(Some(fault)))).await;
    }
    let mut answer = BytesMut::new();
    if fault.code == reason::UNSUPPORTED_PROTOCOL_VERSION {
        answer.extend_from_slice(&codec::UNACCEPTABLE_VERSION);
    } else if codec.encode(Outgoing::ConnAck(Box::new(connect::refusal(fault, shared.server_reference(fault)))), &mut answer).is_err() {
        tracing::debug!("the refusal does not fit into what the client takes");
    }
    shared.metrics.bytes_sent.inc_by(answer.len() as u64);
    shared.metrics.packets_sent.inc_by(u64::from(!answer.is_empty()));
    let farewell = async {
        writer.write_all(&answer).await?;
        writer.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, farewell).await {
        tracing::debug!(%error, "the refusal could not be written");
    }
}

/// What `client.connack` says: refused for a fault, or in.
pub(super) fn answer(fault: Option<&Fault>) -> Closing {
    fault.map_or(Closing { reason_code: reason::SUCCESS, reason: Text::from_static("success") }, Fault::closing)
}

/// Raises an event of a client that is not in, so that no lane keeps the order.
async fn observe(shared: &Shared, client: &Arc<Client>, detail: Detail) {
    if shared.pipeline.wants(detail.hook()) {
        shared.pipeline.observe(client, detail).await;
    } else {
        shared.pipeline.count(detail.hook(), 1);
    }
}

/// The client as its CONNECT introduces it; one that brings no identifier is given one.
fn identify(connect: &Connect, arrival: &Arrival) -> Client {
    Client {
        client_id: if connect.client_id.is_empty() { fresh_client_id() } else { own::text(&connect.client_id) },
        username: connect.username.as_ref().map(own::text),
        peer: arrival.peer.into(),
        protocol_version: connect.protocol.level(),
        certificate_name: arrival.certificate_name.clone(),
        connected_at_ms: now_ms(),
    }
}

/// What a client asks for.
fn connection(connect: &Connect) -> Connection {
    Connection {
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive_s,
        session_expiry_s: connect.session_expiry_s,
        user_properties: own::headers(&connect.user_properties),
    }
}

/// The user name of the client's certificate counts, not what CONNECT says, where the listener has it so.
fn as_certified(mut connect: Connect, arrival: &Arrival) -> Connect {
    if let Some(name) = &arrival.username {
        connect.username = Some(name.clone());
    }
    connect
}

/// Whether CONNACK fits into what the client takes; a client that cannot be told that it is in stays out.
fn check_size(terms: &Terms, codec: &mut Codec) -> Result<(), Fault> {
    let connack = Outgoing::ConnAck(Box::new(terms.connack(false)));
    let written = codec.encode(connack, &mut BytesMut::new());
    written.map_err(|_| Fault::new(reason::PACKET_TOO_LARGE, "packet-too-large", "CONNACK exceeds the client's maximum packet size"))
}

pub(super) async fn read_packet<R: AsyncRead + Unpin>(
    reader: &mut R,
    codec: &mut Codec,
    input: &mut BytesMut,
    metrics: &Metrics,
) -> Result<Incoming, Fault> {
    loop {
        if let Some(packet) = codec.decode(input)? {
            return Ok(packet);
        }
        match reader.read_buf(input).await {
            Ok(0) => return Err(Fault::new(reason::UNSPECIFIED, "connection-lost", "closed before CONNECT")),
            Ok(bytes) => {
                metrics.bytes_received.inc_by(bytes as u64);
            }
            Err(error) => return Err(Fault::new(reason::UNSPECIFIED, "connection-lost", error.to_string())),
        }
    }
}

/// Finds or makes the session, taking it from an older connection of the same client.
pub(super) async fn admit(shared: &Shared, arrival: &Arrival, client: &Arc<Client>, terms: &Terms) -> Admitted {
    let (tenancy, before) = shared.sessions.enter(&terms.client_id, if terms.clean_start { Demand::CleanStart } else { Demand::Resume });
    let mut history = Vec::new();
    let (old, will) = match before {
        Before::Nothing => (None, None),
        Before::Parked(session, will) => (Some(session), will),
        Before::Taken(answer) => match answer.await {
            Ok(handover) => {
                history.push(Work::After(handover.done));
                (handover.session, None)
            }
            Err(_) => (None, None), // it ended without a session
        },
    };
    let (session, session_present) = match old {
        Some(mut session) if !terms.clean_start && session.expiry_s() > 0 => {
            session.attach(client, terms, &arrival.limits);
            (session, true)
        }
        old => {
            if let Some(will) = will {
                sessions::publish_will(shared, will).await; // its session ends here
            }
            if let Some(mut old) = old {
                let former = old.mailbox().client();
                let last = sessions::dissolve(shared, &mut old, Ending::Discarded);
                history.extend(last.into_iter().map(|detail| Work::Past(Arc::clone(&former), detail)));
            }
            shared.metrics.sessions.inc();
            (Box::new(Session::new(shared.sessions.number(), client, terms, &arrival.limits)), false)
        }
    };
    shared.sessions.settle(&tenancy, session.mailbox());
    Admitted { session, session_present, tenancy, history }
}

/// An identifier for a client that brought none.
fn fresh_client_id() -> Text {
    use std::hash::{BuildHasher, RandomState};
    // Each RandomState has keys of its own; two of them make 128 unpredictable bits.
    let part = || RandomState::new().hash_one(now_ms());
    format!("auto-{:016x}{:016x}", part(), part()).into()
}
