//! The device's half of the wire: what it writes, and what it reads, byte by byte and independent of the broker's codec.

/// PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) kind: u8,
    pub(super) id: u16,
    pub(super) code: u8,
}

/// PUBLISH, either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) dup: bool,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) id: u16,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) expiry_s: Option<u32>,
    pub(super) subscription_ids: Vec<u32>,
}

/// What a broker sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    ConnAck { present: bool, code: u8, receive_maximum: u16 },
    Publish(Publish),
    Ack(Ack),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    Pong,
    Disconnect(u8),
}

/// CONNECT
#[derive(Clone, Debug, Default)]
pub(super) struct Connect {
    pub(super) five: bool,
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keep_alive_s: u16,
    pub(super) expiry_s: u32,
    pub(super) receive_maximum: u16,
    pub(super) max_packet_bytes: u32,
    /// Message and delay.
    pub(super) will: Option<(Publish, u32)>,
}

fn text(text: impl AsRef<[u8]>, into: &mut Vec<u8>) {
    let bytes = text.as_ref();
    into.extend((bytes.len() as u16).to_be_bytes());
    into.extend(bytes);
}

fn variable(mut value: usize, into: &mut Vec<u8>) {
    while value > 127 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn with_length(bytes: &[u8], into: &mut Vec<u8>) {
    variable(bytes.len(), into);
    into.extend(bytes);
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    with_length(body, &mut bytes);
    bytes
}

fn expiry(expiry_s: Option<u32>) -> Vec<u8> {
    expiry_s.map_or(Vec::new(), |expiry_s| [&[2][..], &expiry_s.to_be_bytes()].concat())
}

impl Connect {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        text("MQTT", &mut body);
        let will = self.will.as_ref().map_or(0, |(will, _)| 4 | will.qos << 3 | u8::from(will.retain) << 5);
        body.extend([if self.five { 5 } else { 4 }, u8::from(self.clean) << 1 | will]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.five {
            let mut properties = [&[0x11][..], &self.expiry_s.to_be_bytes(), &[0x21], &self.receive_maximum.to_be_bytes()].concat();
            properties.extend([&[0x27][..], &self.max_packet_bytes.to_be_bytes()].concat());
            with_length(&properties, &mut body);
        }
        text(&self.client_id, &mut body);
        if let Some((will, delay_s)) = &self.will {
            if self.five {
                with_length(&[expiry(will.expiry_s), [&[0x18][..], &delay_s.to_be_bytes()].concat()].concat(), &mut body);
            }
            text(&will.topic, &mut body);
            text(&will.payload, &mut body);
        }
        packet(0x10, &body)
    }
}

impl Publish {
    pub(super) fn bytes(&self, five: bool) -> Vec<u8> {
        let mut body = Vec::new();
        text(&self.topic, &mut body);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if five {
            with_length(&expiry(self.expiry_s), &mut body);
        }
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

impl Ack {
    pub(super) fn bytes(self, five: bool) -> Vec<u8> {
        let mut body = self.id.to_be_bytes().to_vec();
        if five && self.code != 0 {
            body.push(self.code);
        }
        packet(self.kind << 4 | if self.kind == 6 { 2 } else { 0 }, &body)
    }
}

/// SUBSCRIBE to one filter.
pub(super) fn subscribe(five: bool, id: u16, filter: &str, options: u8, subscription_id: Option<u32>) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if five {
        let mut properties = Vec::new();
        if let Some(subscription_id) = subscription_id {
            properties.push(0x0B);
            variable(subscription_id as usize, &mut properties);
        }
        with_length(&properties, &mut body);
    }
    text(filter, &mut body);
    body.push(options);
    packet(0x82, &body)
}

/// UNSUBSCRIBE
pub(super) fn unsubscribe(five: bool, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if five {
        body.push(0);
    }
    text(filter, &mut body);
    packet(0xA2, &body)
}

/// DISCONNECT; the code and the expiry are MQTT 5's.
pub(super) fn disconnect(five: bool, code: u8, expiry_s: Option<u32>) -> Vec<u8> {
    if !five {
        return vec![0xE0, 0];
    }
    let mut body = vec![code];
    with_length(&expiry_s.map_or(Vec::new(), |expiry_s| [&[0x11][..], &expiry_s.to_be_bytes()].concat()), &mut body);
    packet(0xE0, &body)
}

/// Reads from the front of bytes that are all there.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn short(&mut self) -> u16 {
        self.take(2).iter().fold(0, |value, byte| value << 8 | u16::from(*byte))
    }

    fn long(&mut self) -> u32 {
        self.take(4).iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn variable(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn text(&mut self) -> &'a [u8] {
        let length = self.short();
        self.take(length.into())
    }

    /// The properties that a device looks at: receive maximum, message expiry, subscription identifiers.
    fn properties(&mut self) -> (Option<u16>, Option<u32>, Vec<u32>) {
        let length = self.variable();
        let (mut rest, mut found) = (Cursor(self.take(length)), (None, None, Vec::new()));
        while !rest.0.is_empty() {
            match rest.byte() {
                0x21 => found.0 = Some(rest.short()),
                0x02 => found.1 = Some(rest.long()),
                0x0B => found.2.push(rest.variable() as u32),
                0x13 | 0x22 | 0x23 => drop(rest.short()),
                0x11 | 0x18 | 0x27 => drop(rest.long()),
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(rest.byte()),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => drop(rest.text()),
                0x26 => drop((rest.text(), rest.text())),
                unknown => panic!("property {unknown:#04x}"),
            }
        }
        found
    }
}

/// Takes the next packet out of `input`, if it is there as a whole; how many bytes it had.
pub(super) fn read(input: &mut Vec<u8>, five: bool) -> Option<(Packet, usize)> {
    let digits = input.iter().skip(1).position(|byte| byte & 0x80 == 0)? + 1;
    let mut head = Cursor(&input[1..=digits]);
    let end = 1 + digits + head.variable();
    if input.len() < end {
        return None;
    }
    let whole: Vec<u8> = input.drain(..end).collect();
    let (first, mut body) = (whole[0], Cursor(&whole[1 + digits..]));
    let packet = match first >> 4 {
        2 => {
            let (flags, code) = (body.byte(), body.byte());
            let receive_maximum = if five { body.properties().0.unwrap_or(u16::MAX) } else { u16::MAX };
            Packet::ConnAck { present: flags & 1 != 0, code, receive_maximum }
        }
        3 => {
            let topic = String::from_utf8(body.text().to_vec()).expect("a topic is UTF-8");
            let qos = first >> 1 & 3;
            let id = if qos > 0 { body.short() } else { 0 };
            let (_, expiry_s, subscription_ids) = if five { body.properties() } else { Default::default() };
            let (dup, retain, payload) = (first & 8 != 0, first & 1 != 0, body.0.to_vec());
            Packet::Publish(Publish { dup, qos, retain, id, topic, payload, expiry_s, subscription_ids })
        }
        kind @ 4..=7 => Packet::Ack(Ack { kind, id: body.short(), code: body.0.first().copied().unwrap_or(0) }),
        9 => {
            let id = body.short();
            if five {
                body.properties();
            }
            Packet::SubAck(id, body.0.to_vec())
        }
        11 => Packet::UnsubAck(body.short()),
        13 => Packet::Pong,
        14 => Packet::Disconnect(body.0.first().copied().unwrap_or(0)),
        _ => panic!("a broker does not send {whole:x?}"),
    };
    Some((packet, end))
}
