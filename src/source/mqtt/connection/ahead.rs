//! What is read while the pipeline is behind and no packet is taken: a little, so that a client which asks whether we are there is answered.
//!
//! A PINGREQ behind publishes that wait for Kafka is answered before them; MQTT puts PINGRESP in no order with anything else. When it is
//! taken in its turn it is passed over. Bounded: beyond [`AHEAD_BYTES`] nothing more is read, and TCP holds the client back.

use crate::source::mqtt::{codec, packet::Incoming};

/// So much may wait unread by the session, bytes.
const AHEAD_BYTES: usize = 16 * 1024;

/// How far the input was looked through.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Bytes of whole packets at the input's front that were looked at.
    seen: usize,
    /// The client has closed its side; what it sent before is still taken.
    pub(super) ended: bool,
}

impl Ahead {
    /// Whether more may be read although nothing is taken.
    pub(super) fn has_room(&self, input: &[u8]) -> bool {
        input.len() < AHEAD_BYTES
    }

    /// Whether no packet is left to take.
    pub(super) fn is_empty(&self, input: &[u8]) -> bool {
        codec::pings(input).1 == 0
    }

    /// Looks through what is new; how many PINGREQs are in it.
    pub(super) fn pings(&mut self, input: &[u8]) -> usize {
        let (pings, bytes) = codec::pings(input.get(self.seen..).unwrap_or_default());
        self.seen += bytes;
        pings
    }

    /// A packet of so many bytes was taken; whether it is a PINGREQ that was answered before.
    pub(super) fn taken(&mut self, packet: &Incoming, bytes: usize) -> bool {
        let seen = self.seen >= bytes;
        self.seen = self.seen.saturating_sub(bytes);
        seen && matches!(packet, Incoming::PingReq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ping_is_answered_once() {
        let publish = b"\x30\x03\x00\x01a".as_slice();
        let ping = b"\xC0\x00".as_slice();
        let mut ahead = Ahead::default();
        let mut input = [publish, ping, publish, ping, b"\xC0"].concat();
        assert_eq!((ahead.pings(&input), ahead.pings(&input)), (2, 0));
        input.extend([0]);
        assert_eq!(ahead.pings(&input), 1, "the rest of the third has come");
        let other = Incoming::ServerOnly("PUBLISH, in truth");
        let mut answered = Vec::new();
        for (packet, bytes) in [(&other, 5), (&Incoming::PingReq, 2), (&other, 5), (&Incoming::PingReq, 2), (&Incoming::PingReq, 2)] {
            answered.push(ahead.taken(packet, bytes));
        }
        assert_eq!(answered, [false, true, false, true, true]);
        assert!(!ahead.taken(&Incoming::PingReq, 2), "one that came later is answered in its turn");
        assert!(ahead.has_room(&[0; 100]) && !ahead.has_room(&[0; AHEAD_BYTES]));
    }
}
