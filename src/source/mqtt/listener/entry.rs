//! From an accepted socket to a byte stream that speaks MQTT: PROXY header, TLS, WebSocket, each where the door has it.
//!
//! A task for each way in, so that a plain connection's does not have room for TLS and WebSocket.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    door::{Arrival, Door, Seat, Setup},
    proxy::{self, ProxyError},
    websocket::{self, WebSocket},
};
use crate::{
    config::DoorProtocol,
    event::Text,
    source::mqtt::{Phase, Shared, connection},
};

/// A socket on its way in.
pub(super) struct Entry {
    shared: Arc<Shared>,
    door: Arc<Door>,
    setup: Arc<Setup>,
    peer: SocketAddr,
    seat: Seat,
    deadline: Instant,
}

/// What is known of the device by now.
struct Badge {
    peer: SocketAddr,
    certificate_name: Option<Text>,
}

/// Why a socket does not get as far as CONNECT.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("PROXY protocol: {0}")]
    Proxy(#[from] ProxyError),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the client's certificate has neither a common name nor a DNS name; its name is to be the user name")]
    Nameless,
    #[error("WebSocket: {0}")]
    WebSocket(#[from] websocket::HandshakeError),
    #[error("TLS, WebSocket or the PROXY header took too long")]
    Timeout,
    #[error("the server is shutting down")]
    Draining,
}

impl EntryError {
    /// The reason in `connections_refused`.
    fn word(&self) -> &'static str {
        match self {
            EntryError::Proxy(ProxyError::Stranger(_)) => "proxy-not-allowed",
            EntryError::Proxy(_) => "proxy-header",
            EntryError::Tls(_) => "tls-handshake",
            EntryError::Nameless => "certificate-without-name",
            EntryError::WebSocket(_) => "websocket-handshake",
            EntryError::Timeout => "connect-timeout",
            EntryError::Draining => "shutting-down",
        }
    }
}

impl Entry {
    pub(super) fn new(shared: &Arc<Shared>, door: &Arc<Door>, setup: Arc<Setup>, peer: SocketAddr, seat: Seat) -> Self {
        let deadline = Instant::now() + Duration::from_millis(setup.listener.limits.connect_timeout_ms);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Entry { shared: Arc::clone(shared), door: Arc::clone(door), setup, peer, seat, deadline }
    }

    /// Serves the socket in a task of its own.
    pub(super) fn spawn(self, socket: TcpStream) {
        match self.door.protocol() {
            DoorProtocol::Mqtt => drop(tokio::spawn(self.tcp(socket))),
            DoorProtocol::Mqtts => drop(tokio::spawn(self.tls(socket))),
            DoorProtocol::Ws => drop(tokio::spawn(self.websocket(socket))),
            DoorProtocol::Wss => drop(tokio::spawn(self.secure_websocket(socket))),
        }
    }

    async fn tcp(self, socket: TcpStream) {
        let Some((socket, badge)) = self.in_time(self.open(socket)).await else { return };
        let (reader, writer) = socket.into_split();
        self.serve(reader, writer, badge).await;
    }

    async fn tls(self, socket: TcpStream) {
        let steps = async {
            let (socket, badge) = self.open(socket).await?;
            self.secure(socket, badge).await
        };
        let Some((stream, badge)) = self.in_time(steps).await else { return };
        let (reader, writer) = tokio::io::split(stream);
        self.serve(reader, writer, badge).await;
    }

    async fn websocket(self, socket: TcpStream) {
        let steps = async {
            let (socket, badge) = self.open(socket).await?;
            Ok((self.upgrade(socket).await?, badge))
        };
        let Some((stream, badge)) = self.in_time(steps).await else { return };
        let (reader, writer) = tokio::io::split(stream);
        self.serve(reader, writer, badge).await;
    }

    async fn secure_websocket(self, socket: TcpStream) {
        let steps = async {
            let (socket, badge) = self.open(socket).await?;
            let (stream, badge) = self.secure(socket, badge).await?;
            Ok((self.upgrade(stream).await?, badge))
        };
        let Some((stream, badge)) = self.in_time(steps).await else { return };
        let (reader, writer) = tokio::io::split(stream);
        self.serve(reader, writer, badge).await;
    }

    fn serve<R, W>(self, reader: R, writer: W, badge: Badge) -> impl Future<Output = ()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Entry { shared, door, setup, seat, deadline, .. } = self;
        let Badge { peer, certificate_name } = badge;
        let username = setup.tls.as_ref().filter(|tls| tls.name_is_username()).and(certificate_name.clone());
        let limits = Arc::clone(&setup.listener.limits);
        connection::serve(shared, reader, writer, Arrival { peer, door, limits, deadline, certificate_name, username, seat })
    }

    /// Goes through `steps` within the connect timeout. `None`: the socket is to be closed, everything is said and counted.
    async fn in_time<T>(&self, steps: impl Future<Output = Result<T, EntryError>>) -> Option<T> {
        let mut phase = self.shared.phase.subscribe();
        let arrived = tokio::select! {
            arrived = tokio::time::timeout_at(self.deadline.into(), steps) => arrived.unwrap_or(Err(EntryError::Timeout)),
            _ = phase.wait_for(|phase| *phase != Phase::Running) => Err(EntryError::Draining),
        };
        let refuse = |error: &EntryError| {
            self.shared.metrics.connections_refused.get_or_create(&error.word().into()).inc();
            tracing::debug!(listener = self.door.name(), peer = %self.peer, %error, "closed before CONNECT");
        };
        arrived.inspect_err(refuse).ok()
    }

    /// The socket, and who is at its other end.
    async fn open(&self, mut socket: TcpStream) -> Result<(TcpStream, Badge), EntryError> {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(peer = %self.peer, %error, "TCP_NODELAY was refused");
        }
        let mut badge = Badge { peer: self.peer, certificate_name: None };
        if let Some(proxies) = &self.setup.listener.proxy_from {
            if !proxies.iter().any(|network| network.contains(self.peer.ip())) {
                return Err(ProxyError::Stranger(self.peer.ip()).into());
            }
            let header = proxy::read(&mut socket).await?;
            badge.peer = header.source.unwrap_or(self.peer);
            badge.certificate_name = header.certificate_name;
        }
        Ok((socket, badge))
    }

    async fn secure(&self, socket: TcpStream, badge: Badge) -> Result<(TlsStream<TcpStream>, Badge), EntryError> {
        let Some(tls) = &self.setup.tls else { return Err(EntryError::Tls(io::ErrorKind::Unsupported.into())) };
        let stream = TlsAcceptor::from(Arc::clone(tls.config())).accept(socket).await.map_err(EntryError::Tls)?;
        let name = stream.get_ref().1.peer_certificates().and_then(|chain| super::tls::name(chain.first()?));
        if name.is_none() && tls.name_is_username() {
            return Err(EntryError::Nameless);
        }
        Ok((stream, Badge { certificate_name: name.or(badge.certificate_name), ..badge }))
    }

    async fn upgrade<S>(&self, stream: S) -> Result<WebSocket<S>, EntryError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let listener = &self.setup.listener;
        Ok(WebSocket::accept(stream, &listener.path, listener.limits.max_packet_bytes as usize).await?)
    }
}
