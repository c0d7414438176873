//! A client of the benchmark on its socket: connected, perhaps subscribed, its bytes in two buffers.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::packet::{self, Packet, Protocol};

/// MQTT 3.1.1, which both brokers have spoken longest.
const PROTOCOL: Protocol = Protocol::V3;
/// Room for reading, bytes.
const ROOM: usize = 64 << 10;

/// A connected client.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    pub(super) out: Vec<u8>,
}

impl Socket {
    /// Connects with a clean session.
    ///
    /// # Errors
    /// The connection is refused or lost.
    pub(super) async fn connect(address: SocketAddr, client_id: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting {client_id}"))?;
        stream.set_nodelay(true)?;
        let mut socket = Socket { stream, input: BytesMut::new(), out: Vec::new() };
        packet::connect(PROTOCOL, client_id, &mut socket.out);
        match socket.ask().await? {
            Packet::ConnAck(0) => Ok(socket),
            other => bail!("{client_id}: {other:?} instead of a positive CONNACK"),
        }
    }

    /// Subscribes to `filters` at QoS 1.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn subscribe(&mut self, filters: &[String]) -> anyhow::Result<()> {
        packet::subscribe(PROTOCOL, filters, &mut self.out);
        match self.ask().await? {
            Packet::SubAck => Ok(()),
            other => bail!("{other:?} instead of SUBACK"),
        }
    }

    async fn ask(&mut self) -> anyhow::Result<Packet> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        loop {
            if let Some((packet, bytes)) = packet::read(&self.input)? {
                self.input.advance(bytes);
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// Appends PUBLISH at QoS 1.
    pub(super) fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) {
        packet::publish(PROTOCOL, topic, 1, id, payload.len(), &mut self.out);
        self.out.extend_from_slice(payload);
    }

    /// Waits for more input.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn fill(&mut self) -> anyhow::Result<()> {
        self.input.reserve(ROOM);
        ensure!(self.stream.read_buf(&mut self.input).await? > 0, "closed by the broker");
        Ok(())
    }

    /// Waits until input has come or output has gone.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn turn(&mut self) -> anyhow::Result<()> {
        self.input.reserve(ROOM);
        let (mut reading, mut writing) = self.stream.split();
        tokio::select! {
            read = reading.read_buf(&mut self.input) => ensure!(read? > 0, "closed by the broker"),
            written = writing.write(&self.out), if !self.out.is_empty() => { self.out.drain(..written?); }
        }
        Ok(())
    }

    /// Takes every whole packet that has come.
    ///
    /// # Errors
    /// It is no MQTT, or `take` says so.
    pub(super) fn take(&mut self, mut take: impl FnMut(Packet, &[u8], &mut Vec<u8>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        while let Some((packet, bytes)) = packet::read(&self.input)? {
            take(packet, self.input.get(..bytes).unwrap_or_default(), &mut self.out)?;
            self.input.advance(bytes);
        }
        Ok(())
    }
}
