//! Packets by hand: what is taken, and the code of what is not.

use super::*;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 128, "one byte of length");
    [&[first, body.len() as u8][..], &body].concat()
}

/// With their length in front.
fn properties(given: &[u8]) -> Vec<u8> {
    [&[given.len() as u8][..], given].concat()
}

fn checked(bytes: &[u8], protocol: Protocol) -> Result<Peculiar, u8> {
    let mut bytes = bytes.to_vec();
    let frame = Frame::read(&bytes, 1 << 20).map_err(|fault| fault.code)?.expect("it is whole");
    assert_eq!(frame.total, bytes.len());
    check(&mut bytes, frame, protocol).map_err(|fault| fault.code)
}

const TAKEN: Result<Peculiar, u8> = Ok(Peculiar { expiry_is_0: false, format_is_0: false });
const MALFORMED: Result<Peculiar, u8> = Err(reason::MALFORMED_PACKET);
const ERROR: Result<Peculiar, u8> = Err(reason::PROTOCOL_ERROR);

#[test]
fn properties_of_publish() {
    let user = [&[0x26][..], &text("k"), &text("v")].concat();
    let bad_user = [&[0x26][..], &text("k"), &text("v\0")].concat();
    let content = [&[0x03][..], &text("text")].concat();
    for (given, expected) in [
        (vec![], TAKEN),
        (user.repeat(3), TAKEN),
        ([user, content.clone(), vec![0x02, 0, 0, 1, 0, 0x01, 1, 0x23, 0, 1]].concat(), TAKEN),
        (vec![0x0B, 1, 0x0B, 2], TAKEN), // the session refuses them: not for their form
        (vec![0x02, 0, 0, 0, 0], Ok(Peculiar { expiry_is_0: true, format_is_0: false })),
        (vec![0x01, 0], Ok(Peculiar { expiry_is_0: false, format_is_0: true })),
        (content.repeat(2), ERROR),
        (vec![0x01, 1, 0x01, 1], ERROR),
        (vec![0x01, 2], ERROR),
        (vec![0x23, 0, 0], Err(reason::TOPIC_ALIAS_INVALID)),
        (vec![0x0B, 0], ERROR),
        (vec![0x0B, 0x81, 0x00], MALFORMED),
        (bad_user, MALFORMED),
        ([&[0x03][..], &text("te\0xt")].concat(), MALFORMED),
        ([&[0x09][..], &text("any\0thing")].concat(), TAKEN),
        (vec![0x11, 0, 0, 0, 1], MALFORMED), // session expiry
        (vec![0x24, 1], MALFORMED),          // maximum QoS, which servers send
        (vec![0x7F, 1], MALFORMED),          // nothing
        (vec![0x02, 0, 0, 1], MALFORMED),    // cut
        (vec![0x03, 0, 9, b'x'], MALFORMED), // longer than the properties
    ] {
        let bytes = packet(0x30, &[&text("a/b"), &properties(&given), b"payload"]);
        assert_eq!(checked(&bytes, Protocol::V5), expected, "{given:x?}");
        let bytes = packet(0x34, &[&text("a/b"), &[0, 1], &properties(&given), b"payload"]);
        assert_eq!(checked(&bytes, Protocol::V5), expected, "QoS 2 {given:x?}");
    }
    assert_eq!(checked(&packet(0x30, &[&text("a"), &[0x80, 0x00]]), Protocol::V5), MALFORMED, "a length in two bytes that fits into one");
    assert_eq!(checked(&packet(0x30, &[&text("a"), &[0x05, 0x01]]), Protocol::V5), MALFORMED, "properties beyond the packet");
    assert_eq!(checked(&packet(0x30, &[&text("a"), b"\x80\x00 no properties here"]), Protocol::V311), TAKEN);
}

#[test]
fn an_expiry_of_0_is_1_for_the_crate() {
    let mut bytes = packet(0x30, &[&text("a"), &properties(&[0x01, 1, 0x02, 0, 0, 0, 0]), b"x"]);
    let frame = Frame::read(&bytes, 100).expect("well formed").expect("whole");
    assert!(check(&mut bytes, frame, Protocol::V5).expect("well formed").expiry_is_0);
    assert_eq!(bytes, packet(0x30, &[&text("a"), &properties(&[0x01, 1, 0x02, 0, 0, 0, 1]), b"x"]));
}

#[test]
fn connects() {
    let v5 =
        |flags: u8, given: &[u8], rest: &[u8]| packet(0x10, &[&text("MQTT"), &[5, flags, 0, 0], &properties(given), &text("id"), rest]);
    let v4 = |flags: u8, rest: &[u8]| packet(0x10, &[&text("MQTT"), &[4, flags, 0, 0], &text("id"), rest]);
    let method = [&[0x15][..], &text("SCRAM")].concat();
    let data = [&[0x16][..], &text("data")].concat();
    let will = |given: &[u8]| [properties(given), text("topic"), text("payload")].concat();
    let all = [text("user"), text("pass\0word")].concat();
    for (name, bytes, protocol, expected) in [
        ("plain", v5(2, &[], &[]), Protocol::V5, TAKEN),
        ("plain", v4(2, &[]), Protocol::V311, TAKEN),
        (
            "everything",
            v5(0xC6, &[0x11, 0, 0, 0, 9, 0x17, 0, 0x19, 1, 0x21, 0, 1, 0x22, 0, 0], &[will(&[0x18, 0, 0, 0, 0]), all.clone()].concat()),
            Protocol::V5,
            TAKEN,
        ),
        ("will expiry 0", v5(6, &[], &will(&[0x02, 0, 0, 0, 0])), Protocol::V5, Ok(Peculiar { expiry_is_0: true, format_is_0: false })),
        ("an alias in a will", v5(6, &[], &will(&[0x23, 0, 1])), Protocol::V5, MALFORMED),
        ("a delay of 0 outside of a will", v5(2, &[0x18, 0, 0, 0, 0], &[]), Protocol::V5, MALFORMED),
        ("bytes at the end", v5(2, &[], b"x"), Protocol::V5, MALFORMED),
        ("bytes at the end", v4(2, b"x"), Protocol::V311, MALFORMED),
        ("bytes at the end", v4(0xC2, &[all.clone(), vec![0]].concat()), Protocol::V31, MALFORMED),
        ("a user name with U+0000", v4(0x82, &text("us\0er")), Protocol::V311, MALFORMED),
        ("method and data", v5(2, &[&method[..], &data].concat(), &[]), Protocol::V5, TAKEN),
        ("data without method", v5(2, &data, &[]), Protocol::V5, ERROR),
        ("method twice", v5(2, &method.repeat(2), &[]), Protocol::V5, ERROR),
        ("receive maximum 0", v5(2, &[0x21, 0, 0], &[]), Protocol::V5, ERROR),
        ("maximum packet size 0", v5(2, &[0x27, 0, 0, 0, 0], &[]), Protocol::V5, ERROR),
        ("request problem information 2", v5(2, &[0x17, 2], &[]), Protocol::V5, ERROR),
        ("no user name where one is announced", v4(0x82, &[]), Protocol::V311, MALFORMED),
    ] {
        assert_eq!(checked(&bytes, protocol), expected, "{name} {protocol:?}");
    }
}

#[test]
fn the_other_packets() {
    let (v4, v5) = (Protocol::V311, Protocol::V5);
    let why = |text_of: &str| properties(&[&[0x1F][..], &text(text_of)].concat());
    let subscribe = |given: &[u8], options: u8| packet(0x82, &[&[0, 1], &properties(given), &text("a"), &[options]]);
    for (name, bytes, protocol, expected) in [
        ("PINGREQ", vec![0xC0, 0], v4, TAKEN),
        ("PINGREQ with a body", vec![0xC0, 1, 0], v4, MALFORMED),
        ("PINGREQ with a body", vec![0xC0, 1, 0], v5, MALFORMED),
        ("DISCONNECT", vec![0xE0, 0], v4, TAKEN),
        ("DISCONNECT with a body", vec![0xE0, 1, 0], v4, MALFORMED),
        ("DISCONNECT", vec![0xE0, 0], v5, TAKEN),
        ("DISCONNECT with its will", vec![0xE0, 1, 4], v5, TAKEN),
        ("DISCONNECT with words", packet(0xE0, &[&[0], &why("bye")]), v5, TAKEN),
        ("DISCONNECT with words", packet(0xE0, &[&[0], &why("b\0e")]), v5, MALFORMED),
        ("DISCONNECT of a server", vec![0xE0, 1, 0x8E], v5, ERROR),
        ("DISCONNECT to elsewhere", packet(0xE0, &[&[0], &properties(&[&[0x1C][..], &text("host")].concat())]), v5, ERROR),
        ("PUBACK", vec![0x40, 2, 0, 1], v5, TAKEN),
        ("PUBACK with a code", vec![0x40, 3, 0, 1, 0x97], v5, TAKEN),
        ("PUBACK with words", packet(0x40, &[&[0, 1, 0x97], &why("full")]), v5, TAKEN),
        ("PUBACK with words", packet(0x40, &[&[0, 1, 0x97], &why("fu\0l")]), v5, MALFORMED),
        ("PUBREC with an expiry", packet(0x50, &[&[0, 1, 0], &properties(&[0x02, 0, 0, 0, 1])]), v5, MALFORMED),
        ("PUBCOMP with more", packet(0x70, &[&[0, 1, 0], &why("x"), b"x"]), v5, MALFORMED),
        ("PUBREL marked as sent again", vec![0x6A, 2, 0, 1], Protocol::V31, TAKEN),
        ("SUBSCRIBE", subscribe(&[0x0B, 7], 0x2E), v5, TAKEN),
        ("SUBSCRIBE with two identifiers", subscribe(&[0x0B, 7, 0x0B, 7], 0), v5, ERROR),
        ("SUBSCRIBE with identifier 0", subscribe(&[0x0B, 0], 0), v5, ERROR),
        ("SUBSCRIBE of 3.1.1", packet(0x82, &[&[0, 1], &text("a"), &[2]]), v4, TAKEN),
        ("SUBSCRIBE of 3.1.1 with options", packet(0x82, &[&[0, 1], &text("a"), &[4]]), v4, MALFORMED),
        ("SUBSCRIBE without its options", packet(0x82, &[&[0, 1], &text("a")]), v4, MALFORMED),
        ("UNSUBSCRIBE with an identifier", packet(0xA2, &[&[0, 1], &properties(&[0x0B, 7]), &text("a")]), v5, MALFORMED),
        ("AUTH without a method", packet(0xF0, &[&[0x18], &properties(&[&[0x16][..], &text("x")].concat())]), v5, ERROR),
    ] {
        assert_eq!(checked(&bytes, protocol), expected, "{name} {protocol:?}");
    }
}

#[test]
fn lengths() {
    for (bytes, expected) in [
        (&[0x30][..], Ok(None)),
        (&[0x30, 0x80], Ok(None)),
        (&[0x30, 0x00], Ok(Some((2, 2)))),
        (&[0x30, 0x7F], Ok(Some((2, 129)))),
        (&[0x30, 0x80, 0x01], Ok(Some((3, 131)))),
        (&[0x30, 0x80, 0x00], Err(reason::MALFORMED_PACKET)),
        (&[0x30, 0xFF, 0x80, 0x00], Err(reason::MALFORMED_PACKET)),
        (&[0x30, 0x80, 0x80, 0x80, 0x80], Err(reason::MALFORMED_PACKET)),
        (&[0x30, 0xE6, 0x07], Ok(Some((3, 1001)))),
        (&[0x30, 0xE7, 0x07], Err(reason::PACKET_TOO_LARGE)),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Err(reason::PACKET_TOO_LARGE)),
    ] {
        let read = Frame::read(bytes, 1001).map(|frame| frame.map(|frame| (frame.header, frame.total)));
        assert_eq!(read.map_err(|fault| fault.code), expected, "{bytes:x?}");
    }
}

proptest::proptest! {
    /// Whatever comes, nothing panics, and a packet that is taken is changed in nothing but an expiry of 0.
    #[test]
    fn any_bytes(first: u8, body in proptest::collection::vec(proptest::num::u8::ANY, 0..60), five: bool) {
        let mut bytes = packet(first, &[&body]);
        let frame = Frame::read(&bytes, 100).expect("well formed").expect("whole");
        let before = bytes.clone();
        let peculiar = check(&mut bytes, frame, if five { Protocol::V5 } else { Protocol::V311 });
        let changed = bytes.iter().zip(&before).filter(|(now, then)| now != then).count();
        proptest::prop_assert_eq!(changed, usize::from(peculiar.is_ok_and(|peculiar| peculiar.expiry_is_0)));
    }
}
