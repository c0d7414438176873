//! Reading and writing in steps, each of which may be given up at any time without losing a byte.

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::open::READ_BYTES;

/// Reads up to `room` bytes. Little room is taken from the stack, so that an idle connection holds no buffer; cancel-safe like its parts.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R, input: &mut BytesMut, room: usize) -> std::io::Result<usize> {
    if room > READ_BYTES {
        input.reserve(room);
        return reader.read_buf(input).await;
    }
    poll_fn(|context| {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut filled = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *reader).poll_read(context, &mut filled))?;
        input.extend_from_slice(filled.filled());
        Poll::Ready(Ok(filled.filled().len()))
    })
    .await
}

/// Writes as much of the `ready` first bytes as the socket takes, and lets nothing linger in TLS or WebSocket. Cancel-safe: `unflushed`
/// knows what is left to do.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut BytesMut,
    ready: usize,
    unflushed: &mut bool,
) -> std::io::Result<()> {
    let mut ready = output.take(ready);
    if ready.has_remaining() {
        writer.write_buf(&mut ready).await?;
        *unflushed = true;
    }
    if !ready.has_remaining() {
        writer.flush().await?;
        *unflushed = false;
    }
    Ok(())
}
