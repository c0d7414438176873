//! A client of a few bytes: it brings names, passwords and authentication data, and shows what comes back.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::PATIENCE;

/// First byte, and what follows the remaining length (always shorter than 128 bytes here).
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

/// CONNECT in parts.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) level: u8,
    pub(super) id: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// The topic of a will at QoS 1 that says `gone`.
    pub(super) will: Option<String>,
    /// MQTT 5 properties.
    pub(super) properties: Vec<u8>,
}

impl Connect {
    pub(super) fn v5(id: &str) -> Self {
        Connect { level: 5, id: id.into(), user: None, password: None, will: None, properties: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let five = self.level == 5;
        let mut flags = 0x02;
        let mut payload = text(&self.id);
        if let Some(topic) = &self.will {
            flags |= 0x0C;
            payload.extend(if five { vec![0] } else { vec![] });
            payload.extend([text(topic), text("gone")].concat());
        }
        for (value, flag) in [(&self.user, 0x80), (&self.password, 0x40)] {
            if let Some(value) = value {
                flags |= flag;
                payload.extend(text(value));
            }
        }
        let properties = if five { with_length(&self.properties) } else { vec![] };
        packet(0x10, &[&text("MQTT"), &[self.level, flags, 0, 0], &properties, &payload])
    }
}

pub(super) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = text.as_ref();
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// With its length, less than 16 384, in front.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let head = if length < 128 { vec![length as u8] } else { vec![(length & 0x7F) as u8 | 0x80, (length >> 7) as u8] };
    [head, bytes.to_vec()].concat()
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    [vec![first], with_length(&parts.concat())].concat()
}

/// A socket.
pub(super) struct Raw {
    socket: TcpStream,
    five: bool,
}

impl Raw {
    /// Connects; the reason code of CONNACK.
    pub(super) async fn connect(address: SocketAddr, connect: &Connect) -> (Self, u8) {
        let mut raw = Raw::open(address, connect).await;
        let connack = raw.receive().await;
        assert_eq!(connack.first, 0x20, "{connack:x?}");
        (raw, connack.body[1])
    }

    /// Sends CONNECT and reads nothing.
    pub(super) async fn open(address: SocketAddr, connect: &Connect) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let mut raw = Raw { socket, five: connect.level == 5 };
        raw.send(&connect.bytes()).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub(super) async fn receive(&mut self) -> Packet {
        self.receive_or_end().await.expect("a packet, not the end of the connection")
    }

    /// The next packet; `None` at the end.
    pub(super) async fn receive_or_end(&mut self) -> Option<Packet> {
        let read = async {
            let first = self.socket.read_u8().await.ok()?;
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = self.socket.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).await.ok()?;
            Some(Packet { first, body })
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer in time")
    }

    pub(super) async fn send_publish(&mut self, qos: u8, id: u16, topic: &str) {
        let id = if qos == 0 { vec![] } else { id.to_be_bytes().to_vec() };
        let properties: &[u8] = if self.five { &[0] } else { &[] };
        self.send(&packet(0x30 | qos << 1, &[&text(topic), &id, properties, b"x"])).await;
    }

    /// Publishes at QoS 1 or 2; the code of PUBACK or PUBREC, skipping deliveries. `None`: the end.
    pub(super) async fn publish(&mut self, qos: u8, id: u16, topic: &str) -> Option<u8> {
        self.send_publish(qos, id, topic).await;
        loop {
            let answer = self.receive_or_end().await?;
            match answer.first >> 4 {
                3 => {}
                4 | 5 => {
                    assert_eq!(answer.body[..2], id.to_be_bytes(), "{answer:x?}");
                    return Some(answer.body.get(2).copied().unwrap_or(0));
                }
                _ => panic!("neither PUBACK nor PUBREC: {answer:x?}"),
            }
        }
    }

    pub(super) fn subscribe_bytes(&self, id: u16, filters: &[&str]) -> Vec<u8> {
        let properties: &[u8] = if self.five { &[0] } else { &[] };
        let filters: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
        packet(0x82, &[&id.to_be_bytes(), properties, &filters])
    }

    pub(super) fn unsubscribe_bytes(&self, id: u16, filter: &str) -> Vec<u8> {
        let properties: &[u8] = if self.five { &[0] } else { &[] };
        packet(0xA2, &[&id.to_be_bytes(), properties, &text(filter)])
    }

    /// Subscribes at QoS 1; the codes of SUBACK.
    pub(super) async fn subscribe(&mut self, id: u16, filters: &[&str]) -> Vec<u8> {
        self.send(&self.subscribe_bytes(id, filters)).await;
        let suback = self.receive().await;
        assert_eq!((suback.first, &suback.body[..2]), (0x90, &id.to_be_bytes()[..]), "{suback:x?}");
        let properties = if self.five { 1 + usize::from(suback.body[2]) } else { 0 }; // short enough for one byte of length
        suback.body[2 + properties..].to_vec()
    }

    /// How many packets come before the answer to a ping.
    pub(super) async fn expect_quiet(&mut self) -> usize {
        self.send(&[0xC0, 0]).await;
        let mut others = 0;
        while self.receive().await.first != 0xD0 {
            others += 1;
        }
        others
    }

    /// AUTH with a reason code and properties.
    pub(super) async fn auth(&mut self, code: u8, properties: &[u8]) {
        self.send(&packet(0xF0, &[&[code], &with_length(properties)])).await;
    }
}
