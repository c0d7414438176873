//! A client that keeps its side of a session over reconnects, and nothing else: blocking, byte by byte.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::support::PATIENCE;

/// A socket that speaks MQTT 5, or 3.1.1.
pub(super) struct Wire {
    socket: TcpStream,
    five: bool,
    input: Vec<u8>,
}

/// PUBLISH to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) id: u16,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) properties: Vec<u8>,
}

/// What a client brings.
pub(super) struct Hello<'a> {
    pub(super) id: &'a str,
    pub(super) five: bool,
    pub(super) clean: bool,
    /// MQTT 5 only.
    pub(super) expiry_s: u32,
    /// Payload on topic `will/<id>`, delay in seconds.
    pub(super) will: Option<(&'a str, u32)>,
}

impl Hello<'_> {
    pub(super) fn five(id: &str) -> Hello<'_> {
        Hello { id, five: true, clean: false, expiry_s: 3600, will: None }
    }

    pub(super) fn old(id: &str) -> Hello<'_> {
        Hello { five: false, ..Hello::five(id) }
    }

    fn bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.clean) << 1 | if self.will.is_some() { 0b0000_1100 } else { 0 };
        let mut body = [&text("MQTT")[..], &[if self.five { 5 } else { 4 }, flags, 0, 0]].concat();
        if self.five {
            body.extend([5, 0x11]);
            body.extend(self.expiry_s.to_be_bytes());
        }
        body.extend(text(self.id));
        if let Some((payload, delay_s)) = self.will {
            if self.five {
                body.extend([5, 0x18]);
                body.extend(delay_s.to_be_bytes());
            }
            body.extend(text(&format!("will/{}", self.id)));
            body.extend(text(payload));
        }
        packet(0x10, &body)
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7F) as u8;
        length >>= 7;
        bytes.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

impl Wire {
    /// Connects; whether the session was there.
    pub(super) fn connect(address: SocketAddr, hello: &Hello<'_>) -> io::Result<(Wire, bool)> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Wire { socket, five: hello.five, input: Vec::new() };
        wire.send(&hello.bytes())?;
        let (first, body) = wire.receive()?;
        if (first, body[1]) != (0x20, 0) {
            return Err(io::Error::other(format!("refused: {body:x?}")));
        }
        Ok((wire, body[0] == 1))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// How long [`Wire::receive`] waits.
    pub(super) fn patience(&mut self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    /// The next packet: its first byte and its body.
    pub(super) fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((first, body, length)) = parse(&self.input) {
                self.input.drain(..length);
                return Ok((first, body));
            }
            let mut bytes = [0; 64 * 1024];
            match self.socket.read(&mut bytes)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend(&bytes[..count]),
            }
        }
    }

    /// Whether a packet has arrived already.
    pub(super) fn has_packet(&self) -> bool {
        parse(&self.input).is_some()
    }

    /// PUBLISH as bytes; `flags` are DUP (8), QoS (2, 4) and retain (1).
    pub(super) fn publish_bytes(&self, flags: u8, id: u16, topic: &str, payload: &str) -> Vec<u8> {
        let mut body = text(topic);
        if flags & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.five {
            body.push(0);
        }
        body.extend(payload.as_bytes());
        packet(0x30 | flags, &body)
    }

    pub(super) fn publish(&mut self, flags: u8, id: u16, topic: &str, payload: &str) {
        let bytes = self.publish_bytes(flags, id, topic, payload);
        self.send(&bytes).unwrap();
    }

    /// PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7).
    pub(super) fn ack(&mut self, kind: u8, id: u16) -> io::Result<()> {
        self.send(&ack_bytes(kind, id))
    }

    pub(super) fn expect_ack(&mut self, kind: u8, id: u16) {
        let (first, body) = self.receive().unwrap();
        assert_eq!((first >> 4, &body[..2]), (kind, &id.to_be_bytes()[..]), "{first:x} {body:x?}");
        assert!(body.get(2).copied().unwrap_or(0) < 0x80, "{body:x?}");
    }

    pub(super) fn subscribe(&mut self, filter: &str, qos: u8, subscription_id: Option<u8>) {
        let mut body = vec![0, 99];
        if self.five {
            body.extend(subscription_id.map_or(vec![0], |id| vec![2, 0x0B, id]));
        }
        body.extend(text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body)).unwrap();
        let (first, body) = self.receive().unwrap();
        assert_eq!((first, body.last()), (0x90, Some(&qos)));
    }

    pub(super) fn expect_publish(&mut self) -> Publish {
        let (first, body) = self.receive().unwrap();
        assert_eq!(first >> 4, 3, "expected PUBLISH: {first:x} {body:x?}");
        self.read_publish(first, &body)
    }

    pub(super) fn read_publish(&self, first: u8, body: &[u8]) -> Publish {
        let (length, rest) = body.split_at(2);
        let (topic, mut rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let qos = first >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let mut properties = &[][..];
        if self.five {
            (properties, rest) = rest[1..].split_at(usize::from(rest[0])); // the tests' properties are short
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (dup, retain) = (first & 8 != 0, first & 1 != 0);
        Publish { topic: text(topic), payload: text(rest), qos, id, dup, retain, properties: properties.to_vec() }
    }

    /// Nothing came before the answer to a ping.
    pub(super) fn expect_quiet(&mut self) {
        self.send(&[0xC0, 0]).unwrap();
        let next = self.receive().unwrap();
        assert_eq!(next, (0xD0, vec![]), "expected nothing but PINGRESP");
    }
}

pub(super) fn ack_bytes(kind: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [kind << 4 | if kind == 6 { 2 } else { 0 }, 2, high, low]
}

fn parse(input: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (mut length, mut digits) = (0, 0);
    loop {
        let byte = *input.get(1 + digits)?;
        length |= usize::from(byte & 0x7F) << (7 * digits);
        digits += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = input.get(1 + digits..1 + digits + length)?;
    Some((input[0], body.to_vec(), 1 + digits + length))
}
