//! The few MQTT packets that publishers and subscribers need, written for speed.
//!
//! Why not rumqttc, which the demo and the tests use: it flushes the socket after every packet, so on a machine of two cores the system
//! calls of the generator would take from the process that is measured, and it loses its packet ids when acknowledgements come in
//! another order. Absent: everything that a publisher does not send or receive, and any share in the code of the broker that it tests.

use anyhow::bail;

/// Which MQTT the publishers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Protocol {
    /// MQTT 3.1.1
    #[value(name = "3.1.1", alias = "3", alias = "4")]
    V3,
    /// MQTT 5
    #[value(name = "5")]
    V5,
}

/// What a broker says to a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// CONNACK with its return or reason code.
    ConnAck(u8),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBCOMP, with its packet id.
    PubComp(u16),
    /// DISCONNECT (MQTT 5), with its reason code.
    Disconnect(u8),
    /// SUBACK.
    SubAck,
    /// PUBLISH with QoS 1 or 2, with its packet id.
    Publish(u16),
    /// Anything else.
    Other,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    /// Packet id.
    pub(super) id: u16,
    /// Reason code; from 0x80 on it is a refusal.
    pub(super) reason: u8,
    /// MQTT 5 reason string.
    pub(super) words: String,
}

/// Appends CONNECT: clean, without keep alive, because a publisher waits as long as Kafka does.
pub(super) fn connect(protocol: Protocol, client_id: &str, out: &mut Vec<u8>) {
    let properties: &[u8] = if protocol == Protocol::V5 { &[0] } else { &[] };
    let level = if protocol == Protocol::V5 { 5 } else { 4 };
    out.push(0x10);
    length(10 + properties.len() + 2 + client_id.len(), out);
    out.extend_from_slice(&[0, 4, b'M', b'Q', b'T', b'T', level, 0x02, 0, 0]);
    out.extend_from_slice(properties);
    text(client_id, out);
}

/// Appends PUBLISH up to the payload, whose length is given; `id` is left out at QoS 0.
pub(super) fn publish(protocol: Protocol, topic: &str, qos: u8, id: u16, payload_bytes: usize, out: &mut Vec<u8>) {
    let properties = usize::from(protocol == Protocol::V5);
    out.push(0x30 | qos << 1);
    length(2 + topic.len() + if qos > 0 { 2 } else { 0 } + properties + payload_bytes, out);
    text(topic, out);
    if qos > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.resize(out.len() + properties, 0);
}

/// Appends SUBSCRIBE at QoS 1.
pub(super) fn subscribe(protocol: Protocol, filters: &[String], out: &mut Vec<u8>) {
    let properties = usize::from(protocol == Protocol::V5);
    out.push(0x82);
    length(2 + properties + filters.iter().map(|filter| 3 + filter.len()).sum::<usize>(), out);
    out.extend_from_slice(&[0, 1]);
    out.resize(out.len() + properties, 0);
    for filter in filters {
        text(filter, out);
        out.push(1);
    }
}

/// Appends PUBREL.
pub(super) fn pubrel(id: u16, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x62, 2, high, low]);
}

/// Appends DISCONNECT.
pub(super) fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

fn length(mut bytes: usize, out: &mut Vec<u8>) {
    while bytes > 127 {
        out.push(bytes as u8 | 0x80);
        bytes >>= 7;
    }
    out.push(bytes as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads the packet at the front, and how many bytes it took; `None` when it is not all there.
///
/// # Errors
/// It is no MQTT.
pub(super) fn read(input: &[u8]) -> anyhow::Result<Option<(Packet, usize)>> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    let (mut body_bytes, mut length_bytes) = (0_usize, 0_usize);
    loop {
        let Some(byte) = rest.get(length_bytes) else { return Ok(None) };
        body_bytes |= usize::from(byte & 127) << (7 * length_bytes);
        length_bytes += 1;
        match (byte & 128, length_bytes) {
            (0, _) => break,
            (_, 4) => bail!("the broker sent something that is no MQTT packet"),
            _ => {}
        }
    }
    let Some(body) = rest.get(length_bytes..length_bytes + body_bytes) else { return Ok(None) };
    let byte = |at: usize| body.get(at).copied().unwrap_or(0);
    let packet = match first >> 4 {
        2 => Packet::ConnAck(byte(1)),
        3 if first & 6 != 0 => {
            let id = 2 + usize::from(u16::from_be_bytes([byte(0), byte(1)]));
            Packet::Publish(u16::from_be_bytes([byte(id), byte(id + 1)]))
        }
        4 => Packet::PubAck(ack(body)),
        5 => Packet::PubRec(ack(body)),
        7 => Packet::PubComp(u16::from_be_bytes([byte(0), byte(1)])),
        9 => Packet::SubAck,
        14 => Packet::Disconnect(byte(0)),
        _ => Packet::Other,
    };
    Ok(Some((packet, 1 + length_bytes + body_bytes)))
}

fn ack(body: &[u8]) -> Ack {
    let byte = |at: usize| body.get(at).copied().unwrap_or(0);
    // The reason string (property 0x1f) when it is the first property; it serves only to explain a refusal.
    let words = match body.get(4..) {
        Some([0x1f, high, low, words @ ..]) => words.get(..usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    };
    let words = words.map(|words| String::from_utf8_lossy(words).into_owned()).unwrap_or_default();
    Ack { id: u16::from_be_bytes([byte(0), byte(1)]), reason: byte(2), words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_whole_or_not_at_all() {
        let ack = |id, reason, words: &str| Ack { id, reason, words: words.into() };
        for (bytes, packet) in [
            (&[0x20, 2, 0, 5][..], Packet::ConnAck(5)),
            (&[0x40, 2, 1, 2], Packet::PubAck(ack(258, 0, ""))),
            (&[0x40, 8, 0, 1, 0x87, 4, 0x1f, 0, 1, b'x'], Packet::PubAck(ack(1, 0x87, "x"))),
            (&[0x50, 3, 0, 9, 0x10], Packet::PubRec(ack(9, 0x10, ""))),
            (&[0x70, 2, 0, 3], Packet::PubComp(3)),
            (&[0xe0, 1, 0x8e], Packet::Disconnect(0x8e)),
            (&[0x90, 3, 0, 1, 1], Packet::SubAck),
            (&[0x32, 6, 0, 1, b't', 0, 9, b'x'], Packet::Publish(9)),
            (&[0xd0, 0], Packet::Other),
        ] {
            assert_eq!(read(bytes).unwrap(), Some((packet, bytes.len())));
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]).unwrap(), None);
            }
        }
        assert!(read(&[0x40, 128, 128, 128, 128]).is_err());
    }

    #[test]
    fn a_publish_announces_its_length() {
        let mut out = Vec::new();
        publish(Protocol::V5, "a/b", 1, 7, 300, &mut out);
        assert_eq!(out, [0x32, 0xb4, 0x02, 0, 3, b'a', b'/', b'b', 0, 7, 0]);
        out.clear();
        publish(Protocol::V3, "a/b", 0, 7, 3, &mut out);
        assert_eq!(out, [0x30, 8, 0, 3, b'a', b'/', b'b']);
    }
}
