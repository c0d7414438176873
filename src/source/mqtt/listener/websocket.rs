//! MQTT over WebSocket as a byte stream (MQTT 5, section 6): binary messages in, binary messages out, where they begin and end says
//! nothing. Only this module names the WebSocket crate.
//!
//! A text message ends the connection with 1003 [MQTT-6.0.0-1], one that is too large with 1009, another breach with 1002. Pings are
//! answered and are no sign of life for MQTT's keep alive. Absent: compression and other extensions, checking of Origin.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Read at once, bytes; allocated for each connection.
const READ_BYTES: usize = 4 * 1024;
/// The largest message that we send, bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// Messages may be at least so large, bytes: clients put several packets into one.
const LEAST_MESSAGE_BYTES: usize = 64 * 1024;
/// The subprotocols that are spoken: MQTT 3.1.1 and 5 [MQTT-6.0.0-3], and 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A WebSocket as a byte stream.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// What is left of the last message.
    rest: Bytes,
    /// Nothing more is read: the client said something that it must not.
    refused: bool,
}

/// Why a request did not become a WebSocket; the client was told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HandshakeError(Box<Error>);

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes the request and answers it: 404 for another path than `path`, 400 without a subprotocol of ours.
    pub(super) async fn accept(stream: S, path: &str, max_packet_bytes: usize) -> Result<Self, HandshakeError> {
        #[allow(clippy::result_large_err, reason = "the crate's trait has it so")]
        let callback = |request: &Request, response: Response| answer(request, response, path);
        // A message may be as large as the largest packet, and a bit more for what comes along with it.
        let largest = Some(max_packet_bytes.saturating_add(LEAST_MESSAGE_BYTES));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * WRITE_BYTES)
            .max_message_size(largest)
            .max_frame_size(largest);
        let stream = accept_hdr_async_with_config(stream, callback, Some(config)).await;
        let stream = stream.map_err(|error| HandshakeError(Box::new(error)))?;
        Ok(WebSocket { stream, rest: Bytes::new(), refused: false })
    }

    /// Says why nothing more is taken; nobody waits for the answer.
    fn refuse(&mut self, code: CloseCode, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
        self.refused = true;
        let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
        if let Err(error) = Pin::new(&mut self.stream).start_send(close) {
            tracing::debug!(%error, "the WebSocket cannot be closed in order");
        }
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Checks path and subprotocol.
#[allow(clippy::result_large_err, reason = "the crate's trait has it so")]
fn answer(request: &Request, mut response: Response, path: &str) -> Result<Response, ErrorResponse> {
    let refusal = |status, text: &str| {
        let mut response = ErrorResponse::new(Some(text.to_owned()));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != path {
        return Err(refusal(StatusCode::NOT_FOUND, "there is no MQTT at this path\n"));
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let spoken = offered.flat_map(|list| list.split(',')).find_map(|word| SUBPROTOCOLS.into_iter().find(|known| *known == word.trim()));
    let Some(spoken) = spoken else {
        return Err(refusal(StatusCode::BAD_REQUEST, "offer the WebSocket subprotocol \"mqtt\"\n"));
    };
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(spoken));
    Ok(response)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            if self.refused {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.stream).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(self.refuse(CloseCode::Unsupported, "a text message; MQTT is binary")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Err(Error::Io(error))) => return Poll::Ready(Err(error)),
                Some(Err(error)) => {
                    let code = if matches!(error, Error::Capacity(_)) { CloseCode::Size } else { CloseCode::Protocol };
                    return Poll::Ready(Err(self.refuse(code, error)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(into.remaining());
        into.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.stream).poll_ready(context)).map_err(into_io)?;
        let bytes = bytes.get(..WRITE_BYTES).unwrap_or(bytes);
        Pin::new(&mut self.stream).start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(into_io)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_close(context)).map_err(into_io)?;
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}
