//! What a guest prints: kept to a bound while a call runs, then handed to the log. A panic's text comes this way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::event::Bytes;

/// What is kept of one call's output, bytes; the rest is counted and dropped.
const KEPT_BYTES: usize = 4 << 10;

/// A line that Rust adds to every panic; a guest has no environment to follow it in.
const RUST_ADVICE: &str = "note: run with `RUST_BACKTRACE=1`";

/// Standard output and standard error of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Printed(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped_bytes: usize,
}

impl Printed {
    /// Takes what was printed since the last time, in one line; `None` when it was nothing.
    pub(super) fn take(&self) -> Option<String> {
        let kept = {
            let mut kept = self.0.lock();
            if kept.bytes.is_empty() {
                return None;
            }
            std::mem::take(&mut *kept)
        };
        let text = String::from_utf8_lossy(&kept.bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(RUST_ADVICE));
        let mut text = lines.collect::<Vec<_>>().join(" / ");
        if kept.dropped_bytes > 0 {
            text.push_str(&format!(" … and {} bytes more", kept.dropped_bytes));
        }
        Some(text)
    }

    fn print(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let room = KEPT_BYTES.saturating_sub(kept.bytes.len()).min(bytes.len());
        let (fits, rest) = bytes.split_at(room);
        kept.bytes.extend_from_slice(fits);
        kept.dropped_bytes = kept.dropped_bytes.saturating_add(rest.len());
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(KEPT_BYTES)
    }
}

impl Pollable for Printed {
    fn ready<'a, 'f>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'a: 'f,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_to_a_bound_and_taken_once() {
        let printed = Printed::default();
        assert_eq!(printed.take(), None);
        printed.print(b"\nthread panicked:\ntold to\nnote: run with `RUST_BACKTRACE=1` environment variable\n");
        assert_eq!(printed.take().as_deref(), Some("thread panicked: / told to"));
        printed.print(&[b'x'; KEPT_BYTES + 5]);
        assert!(printed.take().is_some_and(|text| text.ends_with("x … and 5 bytes more")));
        assert_eq!(printed.take(), None);
    }
}
