//! Chapter 6: MQTT over WebSocket, framed by hand.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::place::Place;
use crate::{mqtt::wire::PATIENCE, support::Gate};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// A WebSocket and what its handshake said.
struct Socket {
    stream: TcpStream,
    answer: String,
    _gate: Gate,
}

/// A request that offers these subprotocols.
async fn open(offer: &str) -> Socket {
    let gate = Gate::start("[[listener]]\nname = \"ws\"\nprotocol = \"ws\"\nbind = \"127.0.0.1:0\"", &[]).await;
    let address = gate.bridge.addresses().iter().find(|(name, _)| name == "ws").expect("the listener").1;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {offer}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time");
        answer.push(read.unwrap());
    }
    Socket { stream, answer: String::from_utf8(answer).unwrap(), _gate: gate }
}

impl Socket {
    /// One frame, masked as clients do.
    async fn send(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [1, 2, 3, 4];
        let mut frame = vec![if last { 0x80 } else { 0 } | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => frame.extend([&[0x80 | 126][..], &(length as u16).to_be_bytes()].concat()),
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Opcode and payload of the next frame, or `None` at the end.
    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let mut length = u64::from(self.stream.read_u8().await.ok()?);
            if length == 126 {
                length = u64::from(self.stream.read_u16().await.ok()?);
            } else if length == 127 {
                length = self.stream.read_u64().await.ok()?;
            }
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((first & 15, payload))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame in time")
    }

    /// Bytes of MQTT, from as many binary frames as it takes.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < count {
            let (opcode, payload) = self.receive().await.expect("the connection is open");
            assert!(opcode == BINARY || opcode == CONTINUATION, "MQTT comes in binary frames: {opcode}");
            got.extend(payload);
        }
        assert_eq!(got.len(), count);
        got
    }

    /// Connects in one frame.
    async fn connect(&mut self, place: &Place) {
        self.send(true, BINARY, &place.connect("ws").bytes()).await;
        let (opcode, connack) = self.receive().await.unwrap();
        assert_eq!((opcode, connack[0], connack[3]), (BINARY, 0x20, 0));
    }
}

pub(super) async fn binary_frames(place: Place) {
    let mut socket = open("mqtt").await;
    socket.connect(&place).await;
    socket.send(true, BINARY, &[0xC0, 0]).await;
    assert_eq!(socket.bytes(2).await, [0xD0, 0]);
    socket.send(true, TEXT, &[0x30, 0]).await;
    while let Some((opcode, payload)) = socket.receive().await {
        assert!(opcode == CLOSE || (opcode == BINARY && payload.first() == Some(&0xE0)), "only a farewell: {opcode} {payload:x?}");
    }
}

pub(super) async fn frames_are_no_boundaries(place: Place) {
    let mut socket = open("mqtt").await;
    for byte in place.connect("ws").bytes() {
        socket.send(true, BINARY, &[byte]).await; // packets in several frames
    }
    assert_eq!(socket.receive().await.unwrap().1[0], 0x20);
    socket.send(true, BINARY, &[0xC0, 0].repeat(100)).await; // several packets in a frame
    assert_eq!(socket.bytes(200).await, [0xD0, 0].repeat(100));
    socket.send(true, BINARY, &[0xC0, 0, 0xC0]).await; // one and a half
    socket.send(true, BINARY, &[0]).await;
    assert_eq!(socket.bytes(4).await, [0xD0, 0, 0xD0, 0]);
    socket.send(false, BINARY, &[0xC0]).await; // a message of two frames
    socket.send(true, CONTINUATION, &[0, 0xC0, 0]).await;
    assert_eq!(socket.bytes(4).await, [0xD0, 0, 0xD0, 0]);
}

pub(super) async fn subprotocol(_: Place) {
    for offer in ["mqtt", "chat, mqtt"] {
        let answer = open(offer).await.answer.to_lowercase();
        assert!(answer.starts_with("http/1.1 101") && answer.contains("sec-websocket-protocol: mqtt\r\n"), "{offer}: {answer}");
    }
    let answer = open("chat").await.answer.to_lowercase();
    assert!(!answer.contains("sec-websocket-protocol: chat"), "{answer}");
}
