//! From an accepted socket to a client that is in: CONNECT, its terms, its session, CONNACK.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
};

use super::proof::prove;
use crate::{
    event::{Client, Credentials, Text, now_ms},
    source::mqtt::{
        Phase, Shared,
        codec::{self, Codec},
        own,
        packet::{Connect, Incoming, Outgoing},
        reason::{self, Fault},
        session::{
            Session,
            connect::{self, Terms},
        },
        sessions::{self, Before, Tenancy},
    },
};

/// A client that is in, before anything but CONNECT was taken.
pub(super) struct Admitted {
    pub(super) terms: Terms,
    pub(super) client: Arc<Client>,
    pub(super) session: Box<Session>,
    pub(super) session_present: bool,
    pub(super) tenancy: Tenancy,
    /// Answers when the evicted connection of the same client has raised its last event.
    pub(super) predecessor: Option<oneshot::Receiver<()>>,
}

/// Reads CONNECT, agrees on terms, and sees who the client is; no session is touched before. `None`: the connection is to be closed, everything is said and counted.
pub(super) async fn shake_hands<R, W>(
    shared: &Shared,
    reader: &mut R,
    writer: &mut W,
    codec: &mut Codec,
    input: &mut BytesMut,
    peer: SocketAddr,
) -> Option<(Terms, Arc<Client>)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let patience = Duration::from_millis(shared.limits().connect_timeout_ms);
    let mut phase = shared.phase.subscribe();
    let opening = async {
        let Incoming::Connect(connect) = read_packet(&mut *reader, &mut *codec, &mut *input).await? else {
            return Err(Fault::protocol("the first packet must be CONNECT"));
        };
        let credentials = credentials(&connect);
        let data = connect.authentication_data.as_ref().map(own::bytes);
        let mut terms = Terms::negotiate(*connect, &shared.limits(), fresh_client_id)?;
        if !can_be_told(&terms, codec) {
            return Err(too_large());
        }
        let client = client(&terms, peer);
        if let Some(method) = terms.method.clone() {
            let proof = prove(shared, &client, (&method, data), (&mut *reader, &mut *writer), (&mut *codec, &mut *input)).await?;
            terms.proved(proof);
            if !can_be_told(&terms, codec) {
                return Err(too_large());
            }
        } else {
            authenticate(shared, &client, &credentials).await?;
        }
        Ok((terms, client))
    };
    let fault = tokio::select! {
        opened = tokio::time::timeout(patience, opening) => match opened {
            Ok(Ok(known)) => return Some(known),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::new(reason::UNSPECIFIED, "connect-timeout", "CONNECT took too long"),
        },
        _ = phase.wait_for(|phase| *phase != Phase::Running) =>
            Fault::new(reason::SERVER_SHUTTING_DOWN, "shutting-down", "the server is shutting down"),
    };
    shared.metrics.connections_refused.get_or_create(&fault.word.into()).inc();
    tracing::debug!(reason = fault.word, explanation = %fault.explanation, "connection refused");
    let mut answer = BytesMut::new();
    if fault.code == reason::UNSUPPORTED_PROTOCOL_VERSION {
        answer.extend_from_slice(&codec::UNACCEPTABLE_VERSION);
    } else if codec.encode(Outgoing::ConnAck(Box::new(connect::refusal(&fault))), &mut answer).is_err() {
        tracing::debug!("the refusal does not fit into what the client takes");
    }
    let farewell = async {
        writer.write_all(&answer).await?;
        writer.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(patience, farewell).await {
        tracing::debug!(%error, "the refusal could not be written");
    }
    None
}

fn too_large() -> Fault {
    Fault::new(reason::PACKET_TOO_LARGE, "packet-too-large", "CONNACK exceeds the client's maximum packet size")
}

/// What the client says about itself beside its names.
fn credentials(connect: &Connect) -> Credentials {
    Credentials { method: connect.authentication_method.as_ref().map(own::text), password: connect.password.as_ref().map(own::bytes) }
}

fn client(terms: &Terms, peer: SocketAddr) -> Arc<Client> {
    Arc::new(Client {
        client_id: terms.client_id.clone(),
        username: terms.username.clone(),
        peer,
        protocol_version: terms.protocol.level(),
        certificate_name: None,
        connected_at_ms: now_ms(),
    })
}

async fn authenticate(shared: &Shared, client: &Arc<Client>, credentials: &Credentials) -> Result<(), Fault> {
    let answer = shared.pipeline.authenticate(client, credentials).await;
    answer.map_err(|denial| {
        let code = reason::for_connect(denial.reason_code, client.protocol_version >= 5);
        let word = if code == reason::BAD_USER_NAME_OR_PASSWORD { "bad-user-name-or-password" } else { "not-authorized" };
        Fault::new(code, word, denial.reason)
    })
}

/// Whether CONNACK fits into what the client takes; a client that cannot be told that it is in stays out.
fn can_be_told(terms: &Terms, codec: &mut Codec) -> bool {
    if let Some(bytes) = terms.max_packet_bytes {
        codec.limit_outgoing(bytes);
    }
    codec.encode(Outgoing::ConnAck(Box::new(terms.connack(false))), &mut BytesMut::new()).is_ok()
}

pub(super) async fn read_packet<R: AsyncRead + Unpin>(reader: &mut R, codec: &mut Codec, input: &mut BytesMut) -> Result<Incoming, Fault> {
    loop {
        if let Some(packet) = codec.decode(input)? {
            return Ok(packet);
        }
        match reader.read_buf(input).await {
            Ok(0) => return Err(Fault::new(reason::UNSPECIFIED, "connection-lost", "closed before CONNECT")),
            Ok(_) => {}
            Err(error) => return Err(Fault::new(reason::UNSPECIFIED, "connection-lost", error.to_string())),
        }
    }
}

/// Finds or makes the session, taking it from an older connection of the same client.
pub(super) async fn admit(shared: &Shared, terms: Terms, client: Arc<Client>) -> Admitted {
    let (tenancy, before) = shared.sessions.enter(&terms.client_id, terms.clean_start);
    let (old, will, predecessor) = match before {
        Before::Nothing => (None, None, None),
        Before::Parked(session, will) => (Some(session), will, None),
        Before::Taken(answer) => match answer.await {
            Ok(handover) => (Some(handover.session), None, Some(handover.done)),
            Err(_) => (None, None, None), // it ended without a session
        },
    };
    let (session, session_present) = match old {
        Some(mut session) if !terms.clean_start && session.expiry_s() > 0 => {
            session.attach(&client, &terms);
            (session, true)
        }
        old => {
            if let Some(will) = will {
                sessions::publish_will(shared, will).await; // its session ends here
            }
            if let Some(old) = old {
                sessions::end(shared, old).await;
            }
            shared.metrics.sessions.inc();
            (Box::new(Session::new(shared.sessions.number(), &client, &terms, &shared.limits())), false)
        }
    };
    Admitted { terms, client, session, session_present, tenancy, predecessor }
}

/// An identifier for a client that brought none.
fn fresh_client_id() -> Text {
    use std::hash::{BuildHasher, RandomState};
    // Each RandomState has keys of its own; two of them make 128 unpredictable bits.
    let part = || RandomState::new().hash_one(now_ms());
    format!("auto-{:016x}{:016x}", part(), part()).into()
}
