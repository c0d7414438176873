//! The codec crate as the broker uses it: the protocol from CONNECT, packets from a stream that arrives in pieces, and back to bytes.
//!
//! The first byte of the input says how: bits 0 and 1 choose where the stream begins (0 and 3: with CONNECT; 1: 3.1.1 after CONNECT;
//! 2: MQTT 5 after CONNECT), the rest the size of the pieces (0: all at once). What is decoded must encode and decode again to the
//! same (but for CONNECT of 3.1 and 3.1.1), and a bounded packet size must bound the read buffer.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder, Encoder};

/// Largest remaining length.
const LIMIT: u32 = 1 << 16;

enum Codec {
    V3(v3::Codec),
    V5(v5::Codec),
}

fuzz_target!(|input: &[u8]| {
    let [how, stream @ ..] = input else { return };
    let step = if how >> 2 == 0 { stream.len().max(1) } else { usize::from(how >> 2) };
    let mut codec = match how & 3 {
        1 => Some(Codec::V3(v3::Codec::new(LIMIT))),
        2 => Some(Codec::V5(v5::Codec::new(LIMIT, 0))),
        _ => None,
    };
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        if codec.is_none() {
            match detect(&buffer) {
                Ok(Some(found)) => codec = Some(found),
                Ok(None) => continue,
                Err(()) => return,
            }
        }
        if let Some(codec) = &mut codec
            && drain(codec, &mut buffer).is_err()
        {
            return;
        }
        assert!(buffer.capacity() <= 4 * (LIMIT as usize + stream.len()), "a read buffer of {} bytes", buffer.capacity());
    }
});

/// The broker's reading of the first bytes.
fn detect(buffer: &[u8]) -> Result<Option<Codec>, ()> {
    let Some(first) = buffer.first() else { return Ok(None) };
    let length_bytes = buffer.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    if *first != 0x10 || length_bytes > 4 {
        return Err(());
    }
    let Some(rest) = buffer.get(1 + length_bytes..) else { return Ok(None) };
    for (name, levels) in [(&b"\x00\x04MQTT"[..], &[4, 5][..]), (b"\x00\x06MQIsdp", &[3])] {
        let seen = rest.len().min(name.len());
        if rest[..seen] != name[..seen] {
            continue;
        }
        let Some(level) = rest.get(name.len()) else { return Ok(None) };
        return match level {
            5 if levels.contains(level) => Ok(Some(Codec::V5(v5::Codec::new(LIMIT, 0)))),
            _ if levels.contains(level) => Ok(Some(Codec::V3(v3::Codec::new(LIMIT)))),
            _ => Err(()),
        };
    }
    Err(())
}

/// Takes all whole packets; an error ends the connection.
fn drain(codec: &mut Codec, buffer: &mut BytesMut) -> Result<(), ()> {
    loop {
        let more = match codec {
            Codec::V3(codec) => codec.decode(buffer).map_err(drop)?.map(|(packet, _)| round_trip_3(packet)),
            Codec::V5(codec) => codec.decode(buffer).map_err(drop)?.map(|(packet, _)| round_trip_5(packet)),
        };
        if more.is_none() {
            return Ok(());
        }
    }
}

fn round_trip_3(packet: v3::Packet) {
    // The crate writes the CONNECT of MQTT 3.1 as 3.1.1; a broker writes none.
    if let v3::Packet::Connect(_) = packet {
        return;
    }
    let mut wire = BytesMut::new();
    v3::Codec::new(0).encode(packet.clone(), &mut wire).expect("what was decoded encodes");
    let (again, _) = v3::Codec::new(0).decode(&mut wire).expect("what was encoded decodes").expect("as a whole");
    assert_eq!(packet, again);
    assert!(wire.is_empty());
}

fn round_trip_5(packet: v5::Packet) {
    let mut wire = BytesMut::new();
    v5::Codec::new(0, 0).encode(packet.clone(), &mut wire).expect("what was decoded encodes");
    let (again, _) = v5::Codec::new(0, 0).decode(&mut wire).expect("what was encoded decodes").expect("as a whole");
    assert_eq!(packet, again);
    assert!(wire.is_empty());
}
