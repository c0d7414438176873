//! What the codec crate lets through and MQTT does not: one pass over a packet's structure before the crate sees it.
//!
//! Looked at here: properties (which packet may carry them, how often, with which values), U+0000 in every text but topics and filters
//! (which the session checks, with codes of their own), lengths that are not in their shortest form, bytes where none belong, and
//! options and reason codes that no client may send. UTF-8, packet identifiers, QoS 3 and the fixed header's bits are left to the crate.
//!
//! Two values that MQTT allows and the crate loses are reported as [`Peculiar`]: a message expiry interval of 0 (the crate refuses it; it
//! is made 1 in the packet), and a payload format indicator that says "not UTF-8" (the crate cannot tell it from none).
//!
//! Nothing is allocated but the fault.

mod kind;
mod rules;

use self::rules::{
    AUTHENTICATION_DATA, AUTHENTICATION_METHOD, MESSAGE_EXPIRY, PAYLOAD_FORMAT, Rule, SERVER_REFERENCE, SUBSCRIPTION_ID, Value, rule,
};
use crate::source::mqtt::{
    packet::Protocol,
    reason::{self, Fault},
};

/// Reason codes of DISCONNECT that a client may send (MQTT 5, section 3.14.2.1).
const CLIENT_DISCONNECT: [u8; 14] = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

/// What the crate would lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peculiar {
    /// The message expiry interval is 0; in the packet it is 1 now.
    pub(super) expiry_is_0: bool,
    /// The payload format indicator is there and says that the payload is not known to be UTF-8.
    pub(super) format_is_0: bool,
}

/// Where a packet begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of the fixed header.
    pub(super) header: usize,
    /// Bytes of the whole packet.
    pub(super) total: usize,
}

impl Frame {
    /// Reads the fixed header, when it is there; `max` is the largest packet that is taken, bytes.
    ///
    /// # Errors
    /// The length is not in its shortest form [MQTT-1.5.5-1], too long, or more than `max`.
    pub(super) fn read(buffer: &[u8], max: usize) -> Result<Option<Self>, Fault> {
        let (mut remaining, mut header) = (0_usize, 1);
        loop {
            let Some(byte) = buffer.get(header) else { return Ok(None) };
            remaining |= usize::from(byte & 0x7F) << (7 * (header - 1));
            header += 1;
            if byte & 0x80 == 0 {
                if *byte == 0 && header > 2 {
                    return Err(malformed("the remaining length is not in its shortest form"));
                }
                break;
            }
            if header > 4 {
                return Err(malformed("the remaining length has more than four bytes"));
            }
        }
        let total = header + remaining;
        if total > max {
            return Err(Fault::new(
                reason::PACKET_TOO_LARGE,
                "packet-too-large",
                format!("a packet of {total} bytes; at most {max} are taken"),
            ));
        }
        Ok(Some(Frame { header, total }))
    }
}

/// Checks a packet from its first to its last byte.
///
/// # Errors
/// The connection must end; the code is MQTT 5's.
pub(super) fn check(packet: &mut [u8], frame: Frame, protocol: Protocol) -> Result<Peculiar, Fault> {
    let Some((first, _)) = packet.split_first_mut() else { return Ok(Peculiar::default()) };
    let packet_kind = *first >> 4;
    let five = protocol.is_5();
    if packet_kind == kind::PUBLISH && !five {
        return Ok(Peculiar::default()); // no properties: the crate and the session see everything
    }
    if protocol == Protocol::V31 && matches!(packet_kind, kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE) {
        *first &= !0x08; // MQTT 3.1 marks what is sent again; 3.1.1 has made the bit reserved
    }
    let qos = *first >> 1 & 3;
    let mut walk = Walk { bytes: packet, at: frame.header, zero_expiry_at: None, format_is_0: false };
    match packet_kind {
        kind::PUBLISH => {
            walk.data()?;
            walk.skip(if qos == 0 { 0 } else { 2 })?;
            walk.properties(kind::PUBLISH)?;
            return Ok(walk.finish());
        }
        kind::CONNECT => walk.connect(five)?,
        kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP if five => walk.answer(packet_kind, 2)?,
        kind::SUBSCRIBE => walk.subscribe(five)?,
        kind::UNSUBSCRIBE if five => {
            walk.skip(2)?;
            walk.properties(kind::UNSUBSCRIBE)?;
            return Ok(Peculiar::default());
        }
        kind::PINGREQ => {}
        kind::DISCONNECT if five => walk.disconnect()?,
        kind::DISCONNECT => {}
        kind::AUTH if five => walk.answer(kind::AUTH, 0)?,
        _ => return Ok(Peculiar::default()), // the crate or the session refuses it, or there is nothing in it
    }
    if walk.at != walk.bytes.len() {
        return Err(malformed("there are bytes after the packet's last field"));
    }
    Ok(walk.finish())
}

/// A packet, and how far it was read.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
    zero_expiry_at: Option<usize>,
    format_is_0: bool,
}

impl Walk<'_> {
    /// Makes an expiry of 0 one that the crate takes.
    fn finish(self) -> Peculiar {
        if let Some(low) = self.zero_expiry_at.and_then(|at| self.bytes.get_mut(at + 3)) {
            *low = 1;
        }
        Peculiar { expiry_is_0: self.zero_expiry_at.is_some(), format_is_0: self.format_is_0 }
    }

    fn connect(&mut self, five: bool) -> Result<(), Fault> {
        const WILL: u8 = 0x04;
        const PASSWORD: u8 = 0x40;
        const USERNAME: u8 = 0x80;
        self.data()?; // the protocol's name
        self.skip(1)?;
        let flags = self.byte()?;
        self.skip(2)?;
        if five {
            self.properties(kind::CONNECT)?;
        }
        self.text()?;
        if flags & WILL != 0 {
            if five {
                self.properties(kind::WILL)?;
            }
            self.data()?; // the topic, which the session checks
            self.data()?;
        }
        if flags & USERNAME != 0 {
            self.text()?;
        }
        if flags & PASSWORD != 0 {
            self.data()?;
        }
        Ok(())
    }

    /// What ends with a reason code and properties, both of which may be missing.
    fn answer(&mut self, packet: u8, before: usize) -> Result<(), Fault> {
        self.skip(before)?;
        if self.at < self.bytes.len() {
            self.skip(1)?;
        }
        if self.at < self.bytes.len() { self.properties(packet) } else { Ok(()) }
    }

    fn subscribe(&mut self, five: bool) -> Result<(), Fault> {
        self.skip(2)?;
        if five {
            self.properties(kind::SUBSCRIBE)?;
        }
        while self.at < self.bytes.len() {
            self.data()?; // the filter, which the session checks
            let options = self.byte()?;
            if !five && options & 0xFC != 0 {
                return Err(malformed("reserved bits of a subscription's QoS are set")); // [MQTT-3-8.3-4] of 3.1.1
            }
        }
        Ok(())
    }

    fn disconnect(&mut self) -> Result<(), Fault> {
        if self.at < self.bytes.len() {
            let code = self.byte()?;
            if !CLIENT_DISCONNECT.contains(&code) {
                return Err(Fault::protocol("DISCONNECT with a reason code that only servers send"));
            }
        }
        if self.at < self.bytes.len() { self.properties(kind::DISCONNECT) } else { Ok(()) }
    }

    fn properties(&mut self, packet: u8) -> Result<(), Fault> {
        let length = self.variable()?;
        if length == 0 {
            return Ok(());
        }
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(malformed("the properties are longer than their packet"));
        }
        let mut seen = 0_u64;
        while self.at < end {
            self.property(packet, &mut seen)?;
        }
        if self.at > end {
            return Err(malformed("a property is longer than the properties"));
        }
        if seen & (1 << AUTHENTICATION_DATA) != 0 && seen & (1 << AUTHENTICATION_METHOD) == 0 {
            return Err(Fault::protocol("authentication data without a method")); // MQTT 5, section 3.1.2.11.10
        }
        Ok(())
    }

    fn property(&mut self, packet: u8, seen: &mut u64) -> Result<(), Fault> {
        let id = self.byte()?;
        let Some(Rule { value, zero, .. }) = rule(id, packet) else {
            return Err(match id {
                SERVER_REFERENCE => Fault::protocol("only servers send a server reference"),
                _ => malformed("a property that does not belong to its packet"),
            });
        };
        let often = value == Value::Pair || (id == SUBSCRIPTION_ID && packet == kind::PUBLISH);
        if !often && *seen & 1 << id != 0 {
            return Err(Fault::protocol("a property is there twice"));
        }
        *seen |= 1 << id;
        let start = self.at;
        let is_zero = match value {
            Value::Flag => match self.byte()? {
                0 => true,
                1 => false,
                _ => return Err(Fault::protocol("a property must be 0 or 1")),
            },
            Value::U16 => self.zeros(2)?,
            Value::U32 => self.zeros(4)?,
            Value::Variable => self.variable()? == 0,
            Value::Text => self.text().map(|()| false)?,
            Value::Data => self.data().map(|_| false)?,
            Value::Pair => self.text().and_then(|()| self.text()).map(|()| false)?,
        };
        if is_zero {
            match id {
                MESSAGE_EXPIRY => self.zero_expiry_at = Some(start),
                PAYLOAD_FORMAT => self.format_is_0 = true,
                _ => {}
            }
            if let Some(code) = zero {
                return Err(Fault::new(code, "protocol-error", "a property must not be 0"));
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(cut)?;
        self.at += 1;
        Ok(byte)
    }

    /// Whether the next `count` bytes are all zeros.
    fn zeros(&mut self, count: usize) -> Result<bool, Fault> {
        let bytes = self.bytes.get(self.at..self.at + count).ok_or_else(cut)?;
        self.at += count;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.at += count;
        if self.at > self.bytes.len() { Err(cut()) } else { Ok(()) }
    }

    fn variable(&mut self) -> Result<usize, Fault> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << (7 * position);
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || position == 0;
                return if shortest { Ok(value) } else { Err(malformed("a length is not in its shortest form")) }; // [MQTT-1.5.5-1]
            }
        }
        Err(malformed("a length has more than four bytes"))
    }

    /// Bytes with their length in front.
    fn data(&mut self) -> Result<&[u8], Fault> {
        let length = match self.bytes.get(self.at..self.at + 2) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(cut()),
        };
        let start = self.at + 2;
        self.at = start + length;
        self.bytes.get(start..start + length).ok_or_else(cut)
    }

    fn text(&mut self) -> Result<(), Fault> {
        if self.data()?.contains(&0) {
            return Err(malformed("a text contains the character U+0000")); // [MQTT-1.5.4-2]
        }
        Ok(())
    }
}

fn cut() -> Fault {
    malformed("the packet ends within a field")
}

fn malformed(text: &'static str) -> Fault {
    Fault::new(reason::MALFORMED_PACKET, "malformed-packet", text)
}

#[cfg(test)]
mod tests;
