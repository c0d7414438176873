//! MQTT over WebSocket: a client's bytes become a stream, or an end; how they are cut changes nothing, and answers are bounded.
//!
//! The first byte of the input says how: bit 0 whether the request is in the input or a good one goes before it, the rest the size of the
//! pieces of what follows the request (0: all at once).

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::websocket::WebSocket;

/// Largest packet, bytes.
const MAX_PACKET_BYTES: usize = 1 << 10;

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// One connection.
pub fn run(input: &[u8]) {
    let [how, bytes @ ..] = input else { return };
    let bytes = if how & 1 == 0 { [REQUEST, bytes].concat() } else { bytes.to_vec() };
    let whole = serve(&bytes, bytes.len().max(1));
    assert!(how & 1 != 0 || whole.is_some(), "a good request is taken");
    if how >> 1 != 0 {
        assert_eq!(serve(&bytes, usize::from(how >> 1)), whole, "pieces of {} bytes", how >> 1);
    }
}

/// The stream until its end, and which end; `None`: the request was not taken.
fn serve(bytes: &[u8], step: usize) -> Option<(Vec<u8>, Option<io::ErrorKind>)> {
    let request = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let socket = Socket { bytes: bytes.to_vec(), request, at: 0, step, written: 0 };
    let mut stream = ready(pin!(WebSocket::accept(socket, "/mqtt", MAX_PACKET_BYTES))).ok()?;
    let (mut said, mut space) = (Vec::new(), [0; 64]);
    loop {
        let mut space = ReadBuf::new(&mut space);
        let Poll::Ready(read) = Pin::new(&mut stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut space) else {
            panic!("it waits, though everything is there");
        };
        if let Err(error) = read {
            return Some((said, Some(error.kind())));
        }
        if space.filled().is_empty() {
            return Some((said, None));
        }
        said.extend_from_slice(space.filled());
        assert!(said.len() <= bytes.len(), "more was read than was sent");
    }
}

fn ready<T>(future: Pin<&mut impl Future<Output = T>>) -> T {
    let Poll::Ready(value) = future.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits, though everything is there");
    };
    value
}

/// A client that has sent everything and takes everything.
struct Socket {
    bytes: Vec<u8>,
    /// Where the request ends; what follows is sent afterwards, as a client must. It comes at once: in dozens of small pieces the crate
    /// takes it for an attack.
    request: usize,
    at: usize,
    step: usize,
    written: usize,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (step, last) = if self.at < self.request { (usize::MAX, self.request) } else { (self.step, self.bytes.len()) };
        let end = (self.at + step.min(into.remaining())).min(last);
        into.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written += bytes.len();
        assert!(self.written <= 2 * self.bytes.len() + 4096, "answers of {} bytes", self.written);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
