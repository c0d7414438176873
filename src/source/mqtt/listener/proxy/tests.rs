use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;

/// A version 2 header: command, family and transport, and what follows the length.
fn v2(command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, &rest].concat()
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

fn ssl(client: u8, verify: u32, name: &[u8]) -> Vec<u8> {
    let inner = [extension(0x21, b"TLSv1.3"), extension(0x22, name)].concat();
    extension(0x20, &[&[client][..], &verify.to_be_bytes(), &inner].concat())
}

const IPV4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0xC0, 0, 7, 0x5B];

/// What a header becomes when it comes in pieces of `piece` bytes; and that what follows is left alone.
async fn check(header: &[u8], piece: usize) -> Result<Header, ProxyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    device.set_nodelay(true).unwrap();
    let bytes = [header, b"what follows"].concat();
    let write = async {
        for piece in bytes.chunks(piece) {
            device.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        device.shutdown().await.unwrap();
    };
    let (result, ()) = tokio::join!(read(&mut socket), write);
    if result.is_ok() {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"what follows");
    }
    result
}

#[tokio::test]
async fn headers_say_who_is_behind_them() {
    let found = |source: &str, name: Option<&str>| Header {
        source: (!source.is_empty()).then(|| source.parse().unwrap()),
        certificate_name: name.map(Text::from),
    };
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[33] = 9;
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[0xFF, 0xFF, 192, 0, 2, 9]);
    mapped[33] = 9;
    let good = ssl(0x01 | 0x02, 0, b"lock-7");
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 1883\r\n".to_vec(), found("192.0.2.7:49152", None)),
        (b"PROXY TCP6 2001:db8::7 ::1 49152 1883\r\n".to_vec(), found("[2001:db8::7]:49152", None)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 49152 1883\r\n".to_vec(), found("192.0.2.7:49152", None)),
        (b"PROXY UNKNOWN\r\n".to_vec(), found("", None)),
        (b"PROXY UNKNOWN whatever it is\r\n".to_vec(), found("", None)),
        (v2(1, 0x11, &[IPV4]), found("192.0.2.7:49152", None)),
        (v2(1, 0x21, &[&ipv6]), found("[2001:db8::]:9", None)),
        (v2(1, 0x21, &[&mapped]), found("192.0.2.9:9", None)),
        (v2(0, 0x00, &[]), found("", None)),
        (v2(0, 0x11, &[IPV4, &good]), found("", None)),
        (v2(1, 0x00, &[]), found("", None)),
        (v2(1, 0x00, &[b"whatever"]), found("", None)),
        (v2(1, 0x11, &[IPV4, &extension(0xE0, b"private"), &good]), found("192.0.2.7:49152", Some("lock-7"))),
        (v2(1, 0x11, &[IPV4, &ssl(0x01, 0, b"not shown")]), found("192.0.2.7:49152", None)),
        (v2(1, 0x11, &[IPV4, &ssl(0x03, 1, b"not verified")]), found("192.0.2.7:49152", None)),
        (v2(1, 0x11, &[IPV4, &ssl(0x03, 0, b"\xFF no text")]), found("192.0.2.7:49152", None)),
    ] {
        for piece in [1, 7, 1000] {
            let described = String::from_utf8_lossy(&header).into_owned();
            assert_eq!(check(&header, piece).await.map_err(|error| error.to_string()), Ok(expected.clone()), "{described:?} by {piece}");
        }
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    for (bytes, start) in [
        (b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x00".to_vec(), "the connection does not begin"),
        (b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), ""),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n".to_vec(), ""),
        (b"PROXY TCP4 192.0.2.700 10.0.0.1 1 2\r\n".to_vec(), ""),
        (long, "the header is longer than 107"),
        (v2(1, 0x11, &[&[0; 5000]]), "the header is longer than 4112"),
        (v2(1, 0x11, &[&[0; 4]]), ""),
        (v2(7, 0x11, &[IPV4]), ""),
        (v2(1, 0x11, &[IPV4, &[0x20, 0, 2, 1, 0]]), "the SSL extension"),
        (v2(1, 0x11, &[IPV4, &[0x20, 0, 9]]), ""),
        (b"PROXY TCP4 19".to_vec(), ""),
    ] {
        let described = String::from_utf8_lossy(&bytes).into_owned();
        let error = check(&bytes, 1000).await.expect_err(&described).to_string();
        assert!(error.starts_with(start), "{described:?}: {error}");
    }
}
