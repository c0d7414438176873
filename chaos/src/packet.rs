//! The MQTT packets of a publisher with a lasting session, 3.1.1 and 5, byte by byte.
//!
//! Hookgate's own packets (`src/cli/bench/packet.rs`) are those of a clean session and never say DUP; and what judges should share no code
//! with what is judged.

use anyhow::{Result, bail};

/// How long the broker keeps a session, seconds.
const SESSION_EXPIRY_S: u32 = 3_600;

/// What a broker says to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck { present: bool, code: u8 },
    PubAck { id: u16, code: u8 },
    PubRec { id: u16, code: u8 },
    PubComp { id: u16 },
    Disconnect { code: u8 },
    Other,
}

/// The first code that says no.
pub(crate) const FIRST_REFUSAL: u8 = 0x80;

/// Appends CONNECT: the session goes on, no keep alive.
pub(crate) fn connect(five: bool, client_id: &str, out: &mut Vec<u8>) {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if five { 5 } else { 4 }, 0, 0, 0];
    if five {
        body.extend_from_slice(&[5, 0x11]);
        body.extend_from_slice(&SESSION_EXPIRY_S.to_be_bytes());
    }
    text(client_id, &mut body);
    packet(0x10, &body, out);
}

/// Appends PUBLISH up to its payload, whose length is given.
pub(crate) fn publish(five: bool, dup: bool, qos: u8, id: u16, topic: &str, payload_bytes: usize, out: &mut Vec<u8>) {
    out.push(0x30 | u8::from(dup) << 3 | qos << 1);
    length(2 + topic.len() + 2 + usize::from(five) + payload_bytes, out);
    text(topic, out);
    out.extend_from_slice(&id.to_be_bytes());
    out.resize(out.len() + usize::from(five), 0);
}

/// Appends PUBREL.
pub(crate) fn pubrel(id: u16, out: &mut Vec<u8>) {
    packet(0x62, &id.to_be_bytes(), out);
}

/// Appends DISCONNECT: a goodbye that keeps the session.
pub(crate) fn disconnect(out: &mut Vec<u8>) {
    packet(0xe0, &[], out);
}

fn packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    length(body.len(), out);
    out.extend_from_slice(body);
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

/// The packet at the front, and how many bytes it took; `None` when it is not all there.
///
/// # Errors
/// It is no MQTT.
pub(crate) fn read(input: &[u8]) -> Result<Option<(Packet, usize)>> {
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
    let id = u16::from_be_bytes([byte(0), byte(1)]);
    let packet = match first >> 4 {
        2 => Packet::ConnAck { present: byte(0) == 1, code: byte(1) },
        4 => Packet::PubAck { id, code: byte(2) },
        5 => Packet::PubRec { id, code: byte(2) },
        7 => Packet::PubComp { id },
        14 => Packet::Disconnect { code: byte(0) },
        _ => Packet::Other,
    };
    Ok(Some((packet, 1 + length_bytes + body_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_whole_or_not_at_all() {
        for (bytes, packet) in [
            (&[0x20, 2, 1, 0][..], Packet::ConnAck { present: true, code: 0 }),
            (&[0x20, 3, 0, 0x87, 0], Packet::ConnAck { present: false, code: 0x87 }),
            (&[0x40, 2, 1, 2], Packet::PubAck { id: 258, code: 0 }),
            (&[0x40, 4, 0, 1, 0x97, 0], Packet::PubAck { id: 1, code: 0x97 }),
            (&[0x50, 3, 0, 9, 0x10], Packet::PubRec { id: 9, code: 0x10 }),
            (&[0x70, 2, 0, 3], Packet::PubComp { id: 3 }),
            (&[0xe0, 1, 0x8e], Packet::Disconnect { code: 0x8e }),
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
    fn packets_are_written_as_the_standard_says() {
        let mut out = Vec::new();
        connect(true, "c", &mut out);
        assert_eq!(out, [0x10, 19, 0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0x0e, 0x10, 0, 1, b'c']);
        out.clear();
        connect(false, "c", &mut out);
        assert_eq!(out, [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 1, b'c']);
        out.clear();
        publish(true, true, 2, 7, "a/b", 300, &mut out);
        assert_eq!(out, [0x3c, 0xb4, 0x02, 0, 3, b'a', b'/', b'b', 0, 7, 0]);
        out.clear();
        publish(false, false, 1, 7, "a/b", 3, &mut out);
        assert_eq!(out, [0x32, 10, 0, 3, b'a', b'/', b'b', 0, 7]);
        out.clear();
        pubrel(258, &mut out);
        disconnect(&mut out);
        assert_eq!(out, [0x62, 2, 1, 2, 0xe0, 0]);
    }
}
