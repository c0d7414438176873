//! A client that can do what clients must not: it writes bytes and reads packets, nothing is checked for it.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::broker::Running;
use crate::support::Gate;

/// How long anything may take before a test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Something that listens for MQTT clients.
pub(super) trait Listening {
    fn address(&self) -> SocketAddr;
}

impl Listening for Running {
    fn address(&self) -> SocketAddr {
        Running::address(self)
    }
}

impl Listening for Gate {
    fn address(&self) -> SocketAddr {
        Gate::address(self)
    }
}

/// A packet as it came: first byte, and what follows the remaining length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

impl Packet {
    pub(super) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// As it was on the wire, bytes.
    pub(super) fn size(&self) -> usize {
        1 + variable(self.body.len()).len() + self.body.len()
    }

    /// Topic, packet identifier, payload; for MQTT 5 the properties come along as bytes.
    pub(super) fn publish(&self, five: bool) -> Publish {
        assert_eq!(self.kind(), 3, "expected PUBLISH: {self:x?}");
        let mut rest = &self.body[..];
        let topic = String::from_utf8(take_text(&mut rest)).expect("a topic is UTF-8");
        let qos = self.first >> 1 & 3;
        let id = if qos > 0 { take_u16(&mut rest) } else { 0 };
        let properties = if five {
            let length = take_variable(&mut rest);
            let (properties, payload) = rest.split_at(length);
            rest = payload;
            properties.to_vec()
        } else {
            Vec::new()
        };
        let (dup, retain) = (self.first & 8 != 0, self.first & 1 != 0);
        Publish { topic, qos, id, dup, retain, properties, payload: rest.to_vec() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) id: u16,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) properties: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

pub(super) fn take_u16(rest: &mut &[u8]) -> u16 {
    let (head, tail) = rest.split_at(2);
    *rest = tail;
    u16::from_be_bytes([head[0], head[1]])
}

pub(super) fn take_text(rest: &mut &[u8]) -> Vec<u8> {
    let length = take_u16(rest) as usize;
    let (head, tail) = rest.split_at(length);
    *rest = tail;
    head.to_vec()
}

pub(super) fn take_variable(rest: &mut &[u8]) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (head, tail) = rest.split_at(1);
        *rest = tail;
        value |= usize::from(head[0] & 0x7F) << shift;
        shift += 7;
        if head[0] & 0x80 == 0 {
            return value;
        }
    }
}

pub(super) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = text.as_ref();
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

pub(super) fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A packet from its first byte and the parts of its body.
pub(super) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first][..], &variable(body.len()), &body].concat()
}

/// With their length in front, as MQTT 5 wants them.
pub(super) fn properties(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [variable(body.len()), body].concat()
}

/// Topic, payload, QoS, retain, MQTT 5 properties.
pub(super) type WillParts = (String, Vec<u8>, u8, bool, Vec<u8>);

/// CONNECT in parts.
pub(super) struct Connect {
    pub(super) level: u8,
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keep_alive_s: u16,
    /// Only MQTT 5.
    pub(super) properties: Vec<u8>,
    pub(super) will: Option<WillParts>,
}

impl Connect {
    pub(super) fn v4(client_id: &str) -> Self {
        Connect { level: 4, client_id: client_id.into(), clean: true, keep_alive_s: 0, properties: Vec::new(), will: None }
    }

    pub(super) fn v5(client_id: &str) -> Self {
        Connect { level: 5, ..Connect::v4(client_id) }
    }

    pub(super) fn keep_session(mut self) -> Self {
        self.clean = false;
        if self.level == 5 {
            self.properties.extend([0x11, 0, 0, 0x0E, 0x10]); // session expiry: an hour
        }
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut tail = text(&self.client_id);
        if let Some((topic, payload, qos, retain, will_properties)) = &self.will {
            flags |= 4 | qos << 3 | u8::from(*retain) << 5;
            if self.level == 5 {
                tail.extend(properties(&[will_properties]));
            }
            tail.extend(text(topic));
            tail.extend(text(payload));
        }
        let properties = if self.level == 5 { properties(&[&self.properties]) } else { Vec::new() };
        let name = text("MQTT");
        packet(0x10, &[&name, &[self.level, flags], &self.keep_alive_s.to_be_bytes(), &properties, &tail])
    }
}

/// A socket, and which protocol it was opened with.
pub(super) struct Wire {
    socket: TcpStream,
    five: bool,
    input: Vec<u8>,
}

impl Wire {
    /// A socket on which nothing was said yet.
    pub(super) async fn open(broker: &impl Listening) -> Self {
        Wire::open_at(broker.address()).await
    }

    /// The same to any address.
    pub(super) async fn open_at(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("the broker listens");
        socket.set_nodelay(true).expect("a TCP socket");
        Wire { socket, five: false, input: Vec::new() }
    }

    /// Ends the connection as a failing network does, with a reset.
    pub(super) fn reset(self) {
        self.socket.set_zero_linger().expect("a TCP socket");
    }

    /// Reads what comes as this protocol level has it; needed where the test sends a CONNECT of its own making.
    pub(super) fn speak(&mut self, level: u8) {
        self.five = level == 5;
    }

    pub(super) fn is_5(&self) -> bool {
        self.five
    }

    /// Connects, expects to be let in, and gives CONNACK.
    pub(super) async fn connect_with(broker: &impl Listening, connect: Connect) -> (Self, Packet) {
        Wire::connect_at(broker.address(), connect).await
    }

    /// The same to any address.
    pub(super) async fn connect_at(address: SocketAddr, connect: Connect) -> (Self, Packet) {
        let mut wire = Wire::open_at(address).await;
        wire.five = connect.level == 5;
        wire.send(&connect.bytes()).await;
        let connack = wire.receive().await;
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "refused: {connack:x?}");
        (wire, connack)
    }

    pub(super) async fn connect(broker: &impl Listening, connect: Connect) -> Self {
        Wire::connect_with(broker, connect).await.0
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the socket is open");
    }

    /// The same to a connection that may be closed already.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await; // an error: it is
    }

    /// The next packet.
    pub(super) async fn receive(&mut self) -> Packet {
        self.receive_or_end().await.expect("a packet, not the end of the connection")
    }

    /// The next packet, or `None` at the end of the connection.
    pub(super) async fn receive_or_end(&mut self) -> Option<Packet> {
        let read = async {
            loop {
                if let Some((packet, length)) = parse(&self.input) {
                    self.input.drain(..length);
                    return Some(packet);
                }
                match self.socket.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    /// Expects exactly these bytes of one packet.
    pub(super) async fn expect(&mut self, bytes: &[u8]) {
        let (expected, _) = parse(bytes).expect("the test gives a whole packet");
        assert_eq!(self.receive().await, expected);
    }

    pub(super) async fn expect_publish(&mut self) -> Publish {
        let five = self.five;
        self.receive().await.publish(five)
    }

    pub(super) fn read_publish(&self, packet: &Packet) -> Publish {
        packet.publish(self.five)
    }

    /// Gives what others published the time to arrive here, where nothing is expected or nobody knows how much.
    pub(super) async fn settle(&mut self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Expects the end, after DISCONNECT with `code` when the client speaks MQTT 5.
    pub(super) async fn expect_end(&mut self, code: u8) {
        let mut last = None;
        while let Some(packet) = self.receive_or_end().await {
            last = Some(packet);
        }
        if self.five {
            let last = last.expect("DISCONNECT before the end");
            assert_eq!((last.first, last.body.first()), (0xE0, Some(&code)), "{last:x?}");
        }
    }

    /// Expects that nothing came before the answer to a ping.
    pub(super) async fn expect_quiet(&mut self) {
        self.send(&[0xC0, 0]).await;
        self.expect(&[0xD0, 0]).await;
    }

    pub(super) async fn subscribe(&mut self, id: u16, filter: &str, options: u8) {
        self.send(&self.subscribe_bytes(id, &[], filter, options)).await;
        let suback = self.receive().await;
        assert_eq!(suback.first, 0x90, "{suback:x?}");
        assert_eq!(suback.body[..2], id.to_be_bytes());
        assert_eq!(suback.body.last(), Some(&(options & 3)), "{suback:x?}");
    }

    pub(super) fn subscribe_bytes(&self, id: u16, given: &[u8], filter: &str, options: u8) -> Vec<u8> {
        let properties = if self.five { properties(&[given]) } else { Vec::new() };
        packet(0x82, &[&id.to_be_bytes(), &properties, &text(filter), &[options]])
    }

    /// PUBLISH; `flags` are DUP (8), QoS (2, 4) and retain (1).
    pub(super) fn publish_bytes(&self, flags: u8, id: u16, topic: impl AsRef<[u8]>, given: &[u8], payload: impl AsRef<[u8]>) -> Vec<u8> {
        let id = if flags & 6 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        let properties = if self.five { properties(&[given]) } else { Vec::new() };
        packet(0x30 | flags, &[&text(topic), &id, &properties, payload.as_ref()])
    }

    pub(super) async fn publish(&mut self, flags: u8, id: u16, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        let bytes = self.publish_bytes(flags, id, topic, &[], payload);
        self.send(&bytes).await;
    }

    /// PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7).
    pub(super) async fn ack(&mut self, kind: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[kind << 4 | if kind == 6 { 2 } else { 0 }, 2, high, low]).await;
    }

    /// Expects such an acknowledgement with `code`.
    pub(super) async fn expect_ack(&mut self, kind: u8, id: u16, code: u8) {
        let packet = self.receive().await;
        assert_eq!((packet.kind(), packet.body.get(..2)), (kind, Some(&id.to_be_bytes()[..])), "{packet:x?}");
        assert_eq!(packet.body.get(2).copied().unwrap_or(0), code, "{packet:x?}");
    }
}

fn parse(input: &[u8]) -> Option<(Packet, usize)> {
    let digits = input.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let mut rest = input.get(1..1 + digits)?;
    let length = take_variable(&mut rest);
    let body = input.get(1 + digits..1 + digits + length)?;
    Some((Packet { first: input[0], body: body.to_vec() }, 1 + digits + length))
}
