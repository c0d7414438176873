//! The first bytes of a connection: which protocol CONNECT asks for, before the codec crate looks at it.

use super::strict::Frame;
use crate::source::mqtt::{
    packet::Protocol,
    reason::{self, Fault},
};

/// The beginning of CONNECT, up to its flags.
pub(super) struct Opening {
    pub(super) protocol: Protocol,
    pub(super) clean_start: bool,
}

impl Opening {
    /// Reads it when it is there; sets MQTT 5's clean start bit in `buffer`, for the crate.
    pub(super) fn read(buffer: &mut [u8]) -> Result<Option<Self>, Fault> {
        let malformed = |text: &'static str| Fault::new(reason::MALFORMED_PACKET, "malformed-packet", text);
        if buffer.first().is_some_and(|first| *first != 0x10) {
            return Err(Fault::protocol("the first packet must be CONNECT"));
        }
        let Some(frame) = Frame::read(buffer, usize::MAX)? else { return Ok(None) };
        let whole = buffer.len() >= frame.total;
        let seen = buffer.len().min(frame.total);
        let head = buffer.get_mut(frame.header..seen).map_or(Ok(None), split)?;
        let Some((name, level, flags)) = head else {
            return if whole { Err(malformed("CONNECT ends before its flags")) } else { Ok(None) }; // [MQTT-3.1.4-1]
        };
        let protocol = match (name, level) {
            (b"MQTT", 4) => Protocol::V311,
            (b"MQTT", 5) => Protocol::V5,
            (b"MQIsdp", 3) => Protocol::V31,
            (_, level) => {
                let text = format!("protocol level {level} is not supported");
                return Err(Fault::new(reason::UNSUPPORTED_PROTOCOL_VERSION, "unsupported-version", text));
            }
        };
        if *flags & 0x04 == 0 && *flags & 0x38 != 0 {
            return Err(malformed("will QoS or will retain without a will")); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        }
        let clean_start = *flags & 0x02 != 0;
        if protocol == Protocol::V5 {
            *flags |= 0x02;
        }
        Ok(Some(Opening { protocol, clean_start }))
    }
}

/// Name, level and flags.
type Head<'a> = (&'static [u8], u8, &'a mut u8);

/// What follows the fixed header, when it is there.
fn split(rest: &mut [u8]) -> Result<Option<Head<'_>>, Fault> {
    let known = [&b"\x00\x04MQTT"[..], b"\x00\x06MQIsdp"].into_iter().find(|name| {
        let seen = rest.len().min(name.len());
        rest.get(..seen) == name.get(..seen)
    });
    let Some(known) = known else {
        return Err(Fault::protocol("the protocol name is neither MQTT nor MQIsdp"));
    };
    Ok(match rest.get_mut(known.len()..) {
        Some([level, flags, ..]) => Some((known.get(2..).unwrap_or_default(), *level, flags)),
        _ => None,
    })
}
