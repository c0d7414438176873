//! Bytes to packets and back: the only place that names the codec crate (`rmqtt-codec`), and where its types end.
//!
//! The crate decodes everything. It encodes everything but PUBLISH, which [`super::forward`] writes straight from the shared message,
//! because the crate's type would need a copy of all properties for each receiver.
//!
//! The crate is given whole packets that [`strict`] has seen. What it cannot express is checked here or in the session: which protocol
//! CONNECT asks for (with the right answer to unknown ones), will bits without a will, MQTT 5's empty client id without clean start (which
//! the crate refuses: the bit is set before it looks, and put back afterwards), and packets to the client that exceed what it takes (the
//! crate's own limit can panic).

mod incoming;
mod opening;
mod outgoing;
mod strict;

use bytes::BytesMut;
use rmqtt_codec::{error::DecodeError, v3, v5};
use tokio_util::codec::{Decoder, Encoder};

use self::{
    incoming::{incoming_3, incoming_5},
    opening::Opening,
    outgoing::{outgoing_3, outgoing_5},
    strict::Frame,
};
use super::{
    forward,
    packet::{Ack, Answers, ConnAck, Incoming, Outgoing, Protocol},
    reason::{self, Fault},
};

/// One connection's codec; it learns its protocol from CONNECT.
#[derive(Debug)]
pub(super) struct Codec {
    wire: Wire,
    max_incoming_bytes: u32,
    max_outgoing_bytes: usize,
    clean_start: bool,
}

#[derive(Debug)]
enum Wire {
    Unknown,
    V3(Protocol, v3::Codec),
    V5(v5::Codec),
}

/// A packet could not be written: it does not fit into what the client takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoesNotFit;

impl Codec {
    /// A codec that refuses packets larger than `max_packet_bytes`.
    pub(super) fn new(max_packet_bytes: u32) -> Self {
        Codec { wire: Wire::Unknown, max_incoming_bytes: max_packet_bytes, max_outgoing_bytes: usize::MAX, clean_start: false }
    }

    /// The protocol, once CONNECT was seen.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        match &self.wire {
            Wire::Unknown => None,
            Wire::V3(protocol, _) => Some(*protocol),
            Wire::V5(_) => Some(Protocol::V5),
        }
    }

    /// The next packet of `buffer`, if it is there as a whole. From CONNECT on, packets to the client keep within what it takes.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Fault> {
        if let Wire::Unknown = self.wire {
            let Some(opening) = Opening::read(buffer)? else { return Ok(None) };
            self.clean_start = opening.clean_start;
            self.wire = match opening.protocol {
                Protocol::V5 => Wire::V5(v5::Codec::new(0, 0)),
                older => Wire::V3(older, v3::Codec::new(0)),
            };
        }
        let Some(protocol) = self.protocol() else { return Ok(None) };
        // The crate sees whole packets only: given the beginning of one, it would reserve what its length announces.
        let Some(frame) = Frame::read(buffer, self.max_incoming_bytes as usize)? else { return Ok(None) };
        let Some(packet) = buffer.get_mut(..frame.total) else { return Ok(None) };
        let peculiar = strict::check(packet, frame, protocol)?;
        let packet = match &mut self.wire {
            Wire::Unknown => None,
            Wire::V3(protocol, codec) => codec.decode(buffer).map_err(fault)?.map(|(packet, _)| incoming_3(packet, *protocol)),
            Wire::V5(codec) => codec.decode(buffer).map_err(fault)?.map(|(packet, _)| incoming_5(packet, self.clean_start, peculiar)),
        };
        if let Some(Incoming::Connect(connect)) = &packet
            && let Some(bytes) = connect.max_packet_bytes
        {
            self.max_outgoing_bytes = bytes as usize;
        }
        Ok(packet)
    }

    /// Appends a packet to `into`; what 3.1.1 cannot say is left out.
    ///
    /// # Errors
    /// It does not fit into the client's maximum packet size.
    pub(super) fn encode(&mut self, packet: Outgoing, into: &mut BytesMut) -> Result<(), DoesNotFit> {
        let five = self.protocol() == Some(Protocol::V5);
        match packet {
            Outgoing::Publish(forward) => {
                forward::encode(&forward, five, into);
                Ok(())
            }
            // By far the most frequent packets.
            Outgoing::PubAck(ack) if ack.text.is_none() => short(0x40, &ack, five, into),
            Outgoing::PubRec(ack) if ack.text.is_none() => short(0x50, &ack, five, into),
            Outgoing::PubRel(ack) if ack.text.is_none() => short(0x62, &ack, five, into),
            Outgoing::PubComp(ack) if ack.text.is_none() => short(0x70, &ack, five, into),
            packet => {
                if self.try_encode(packet.clone(), into) {
                    return Ok(());
                }
                // Reason strings are dropped where they would not fit [MQTT-3.4.2-2].
                if self.try_encode(without_text(packet), into) { Ok(()) } else { Err(DoesNotFit) }
            }
        }
    }

    /// Leaves `into` as it was when the packet cannot be written or is too large.
    fn try_encode(&mut self, packet: Outgoing, into: &mut BytesMut) -> bool {
        let start = into.len();
        let written = match &mut self.wire {
            Wire::V5(codec) => outgoing_5(packet).is_some_and(|packet| codec.encode(packet, into).is_ok()),
            Wire::V3(_, codec) => outgoing_3(packet).is_none_or(|packet| codec.encode(packet, into).is_ok()),
            Wire::Unknown => true,
        };
        let fits = written && into.len() - start <= self.max_outgoing_bytes;
        if !fits {
            into.truncate(start);
        }
        fits
    }
}

/// How many PINGREQs there are among the packets that begin `buffer` and are there as a whole, and the bytes of all these packets.
pub(super) fn pings(buffer: &[u8]) -> (usize, usize) {
    let (mut pings, mut bytes) = (0, 0);
    while let Some(rest) = buffer.get(bytes..)
        && let Ok(Some(frame)) = Frame::read(rest, rest.len())
    {
        pings += usize::from(rest.starts_with(&[0xC0, 0x00]));
        bytes += frame.total;
    }
    (pings, bytes)
}

fn without_text(packet: Outgoing) -> Outgoing {
    match packet {
        Outgoing::PubAck(ack) => Outgoing::PubAck(Ack { text: None, ..ack }),
        Outgoing::PubRec(ack) => Outgoing::PubRec(Ack { text: None, ..ack }),
        Outgoing::ConnAck(connack) => Outgoing::ConnAck(Box::new(ConnAck { text: None, response_information: None, ..*connack })),
        Outgoing::SubAck(answers) => Outgoing::SubAck(Answers { text: None, ..answers }),
        Outgoing::UnsubAck(answers) => Outgoing::UnsubAck(Answers { text: None, ..answers }),
        Outgoing::Disconnect { code, .. } => Outgoing::Disconnect { code, text: None, server_reference: None },
        packet => packet,
    }
}

/// An acknowledgement without properties; success needs no code (MQTT 5, section 3.4.2.1).
fn short(first: u8, ack: &Ack, five: bool, into: &mut BytesMut) -> Result<(), DoesNotFit> {
    let [high, low] = ack.id.to_be_bytes();
    if five && ack.code != reason::SUCCESS {
        into.extend_from_slice(&[first, 3, high, low, ack.code]);
    } else {
        into.extend_from_slice(&[first, 2, high, low]);
    }
    Ok(())
}

/// CONNACK "unacceptable protocol version" in the form of 3.1.1, which clients of any version understand [MQTT-3.1.2-2].
pub(super) const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 0x02, 0x00, 0x01];

fn fault(error: DecodeError) -> Fault {
    let (code, word) = match error {
        DecodeError::MaxSizeExceeded { .. } => (reason::PACKET_TOO_LARGE, "packet-too-large"),
        DecodeError::InvalidClientId => (reason::CLIENT_IDENTIFIER_NOT_VALID, "bad-client-id"),
        DecodeError::InvalidTopicFilter | DecodeError::InvalidTopicName => (reason::PROTOCOL_ERROR, "protocol-error"),
        _ => (reason::MALFORMED_PACKET, "malformed-packet"),
    };
    Fault::new(code, word, error.to_string())
}

#[cfg(test)]
mod tests;
