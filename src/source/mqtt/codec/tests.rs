//! Whatever way the bytes come in, the packets are the same; and nothing that comes can do harm.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const CONNECT_4: &[u8] = b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x00\x00\x02id";
const CONNECT_5: &[u8] = b"\x10\x0F\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x02id";

/// Packets that both protocols read, each in its way, and the bytes that make up such.
fn packets(five: bool) -> Vec<Vec<u8>> {
    let none: &[u8] = if five { &[0] } else { &[] };
    let publish = |first: u8, id: &[u8], payload: &[u8]| {
        let body = [b"\x00\x03a/b", id, none, payload].concat();
        let (low, high) = ((body.len() & 0x7F) as u8, (body.len() >> 7) as u8);
        let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
        [&[first][..], &length, &body].concat()
    };
    let filters = [&[0, 9][..], none, b"\x00\x01#\x01"].concat();
    vec![
        publish(0x30, &[], b"x"),
        publish(0x32, &[0, 7], &[b'x'; 300]),
        publish(0x3D, &[0, 8], b""),
        [&[0x82, filters.len() as u8][..], &filters].concat(),
        vec![0x40, 2, 0, 1],
        vec![0x62, 2, 0, 2],
        vec![0xC0, 0],
    ]
}

/// Everything that is decoded of `pieces`, which come one after the other; the code of the fault that ended it.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<u8>) {
    let (mut codec, mut buffer, mut packets) = (Codec::new(1 << 16), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(fault) => return (packets, Some(fault.code)),
            }
        }
    }
    (packets, None)
}

fn stream(five: bool, rest: &[u8]) -> Vec<u8> {
    [if five { CONNECT_5 } else { CONNECT_4 }, rest].concat()
}

proptest! {
    #[test]
    fn pieces_do_not_matter(five: bool, chosen in vec(0..7_usize, 0..12), size in 1..50_usize) {
        let all = packets(five);
        let rest: Vec<u8> = chosen.iter().flat_map(|index| all[*index].clone()).collect();
        let bytes = stream(five, &rest);
        let (whole, fault) = decoded([&bytes[..]]);
        prop_assert_eq!((whole.len(), fault), (chosen.len() + 1, None));
        prop_assert_eq!(decoded(bytes.chunks(size)).0, whole);
    }

    #[test]
    fn damage_is_a_fault_or_another_packet(five: bool, chosen in vec(0..7_usize, 1..6), at: prop::sample::Index, byte: u8, size in 1..50_usize) {
        let all = packets(five);
        let mut rest: Vec<u8> = chosen.iter().flat_map(|index| all[*index].clone()).collect();
        let at = at.index(rest.len());
        rest[at] = byte;
        let bytes = stream(five, &rest);
        prop_assert_eq!(decoded(bytes.chunks(size)), decoded([&bytes[..]]));
    }

    #[test]
    fn any_beginning(head in select(vec![&b""[..], b"\x10", b"\x10\x0E", CONNECT_4, CONNECT_5]), tail in vec(any::<u8>(), 0..40)) {
        let bytes = [head, &tail].concat();
        prop_assert_eq!(decoded(bytes.chunks(1)), decoded([&bytes[..]]));
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut codec = Codec::new(1 << 20);
    let mut buffer = BytesMut::with_capacity(64);
    buffer.extend_from_slice(CONNECT_4);
    assert!(matches!(codec.decode(&mut buffer), Ok(Some(Incoming::Connect(_)))));
    buffer.extend_from_slice(&[0x30, 0xF0, 0xFF, 0x3F]);
    assert_eq!(codec.decode(&mut buffer), Ok(None));
    assert!(buffer.capacity() < 1024, "{} bytes", buffer.capacity());
}

#[test]
fn texts_are_left_out_where_they_do_not_fit() {
    let connect = b"\x10\x14\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00\x14\x00\x02id"; // takes packets of 20 bytes
    let mut codec = Codec::new(1 << 20);
    assert!(codec.decode(&mut BytesMut::from(&connect[..])).is_ok_and(|packet| packet.is_some()));
    let text = Some("a long explanation".into());
    for (packet, expected) in [
        (Outgoing::PubAck(Ack { id: 1, code: 0x97, text: text.clone() }), &[0x40, 4, 0, 1, 0x97, 0][..]),
        (Outgoing::SubAck(Answers { id: 1, codes: vec![0x8F], text: text.clone() }), &[0x90, 4, 0, 1, 0, 0x8F]),
        (Outgoing::UnsubAck(Answers { id: 1, codes: vec![0x8F], text: text.clone() }), &[0xB0, 4, 0, 1, 0, 0x8F]),
        (Outgoing::Disconnect { code: 0x9C, text: text.clone(), server_reference: text.clone() }, &[0xE0, 2, 0x9C, 0]),
    ] {
        let mut written = BytesMut::from(&b"before"[..]);
        codec.encode(packet.clone(), &mut written).expect("it fits without its text");
        assert_eq!(written[6..], *expected, "{packet:?}");
    }
    let mut written = BytesMut::new();
    let large = Outgoing::SubAck(Answers { id: 1, codes: vec![0; 40], text: None });
    assert_eq!((codec.encode(large, &mut written), written.len()), (Err(DoesNotFit), 0));
}
