//! The network between Hookgate and one broker: a TCP proxy that can do what networks do.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::fault::{Trouble, Ways};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that are under way in one direction, at most.
const CHUNKS: usize = 128;

type Troubles = watch::Receiver<Option<Trouble>>;

/// A proxy for one broker; it ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    trouble: Arc<watch::Sender<Option<Trouble>>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 for what goes to `target`.
    ///
    /// # Errors
    /// There is no free port.
    pub(crate) async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (trouble, troubles) = watch::channel(None);
        tokio::spawn(accept(listener, target, troubles));
        Ok(Proxy { address, trouble: Arc::new(trouble) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on; `None`: all is well.
    pub(crate) fn set(&self, trouble: Option<Trouble>) {
        self.trouble.send_replace(trouble);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, troubles: Troubles) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) if *troubles.borrow() != Some(Trouble::Cut) => drop(tokio::spawn(carry(socket, target, troubles.clone()))),
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(50)).await, // no more files: it gets better
        }
    }
}

/// One connection, until either side ends it or the network does.
async fn carry(socket: TcpStream, target: SocketAddr, troubles: Troubles) {
    let Ok(broker) = TcpStream::connect(target).await else { return };
    if socket.set_nodelay(true).and(broker.set_nodelay(true)).is_err() {
        return; // closed already
    }
    let (from_gate, to_gate) = socket.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let lost = AtomicBool::new(false);
    tokio::select! {
        () = pump(from_gate, to_broker, Ways::Out, &lost, troubles.clone()) => {}
        () = pump(from_broker, to_gate, Ways::In, &lost, troubles.clone()) => {}
        () = doom(&lost, troubles.clone()) => {}
    }
}

/// Comes when the connection must end: it is cut, or it has lost bytes and the network works again.
async fn doom(lost: &AtomicBool, mut troubles: Troubles) {
    loop {
        let trouble = *troubles.borrow_and_update();
        let heals = !matches!(trouble, Some(Trouble::Swallow { .. }));
        if trouble == Some(Trouble::Cut) || heals && lost.load(Ordering::Relaxed) || troubles.changed().await.is_err() {
            return;
        }
    }
}

/// One direction. Ends when the sender has, and everything has arrived.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, way: Ways, lost: &AtomicBool, troubles: Troubles) {
    let (chunks, chunks_out) = mpsc::channel(CHUNKS);
    let mut arrival = pin!(deliver(chunks_out, to, way, troubles.clone()));
    tokio::select! {
        () = take(from, chunks, way, lost, troubles) => arrival.await,
        () = &mut arrival => {}
    }
}

async fn take(mut from: OwnedReadHalf, chunks: mpsc::Sender<(Instant, Vec<u8>)>, way: Ways, lost: &AtomicBool, troubles: Troubles) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        if !from.read_buf(&mut chunk).await.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        let due = match *troubles.borrow() {
            Some(Trouble::Swallow { ways }) if ways.has(way) => {
                lost.store(true, Ordering::Relaxed);
                continue;
            }
            Some(Trouble::Delay { by }) => Instant::now() + by,
            _ => Instant::now(),
        };
        // A stream with a hole in it is none.
        if lost.load(Ordering::Relaxed) && !matches!(*troubles.borrow(), Some(Trouble::Swallow { .. })) {
            return;
        }
        if chunks.send((due, chunk)).await.is_err() {
            return;
        }
    }
}

async fn deliver(mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf, way: Ways, mut troubles: Troubles) {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        loop {
            let trouble = *troubles.borrow_and_update();
            let hold = match trouble {
                Some(Trouble::Stall { ways }) if ways.has(way) => Duration::MAX,
                Some(Trouble::Throttle { bytes_per_s }) => Duration::from_secs_f64(chunk.len() as f64 / bytes_per_s.max(1) as f64),
                _ => break,
            };
            tokio::select! {
                () = sleep(hold) => break,
                changed = troubles.changed() => if changed.is_err() { return },
            }
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// Long enough to see that nothing comes.
    const MOMENT: Duration = Duration::from_millis(200);

    /// A target that says everything back, and a proxy before it.
    async fn start() -> Proxy {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Proxy::start(target).await.unwrap()
    }

    /// Says a byte and hears it again; `None` when the connection is over.
    async fn ask(socket: &mut TcpStream, byte: u8) -> Option<u8> {
        socket.write_all(&[byte]).await.ok()?;
        answer(socket).await
    }

    async fn answer(socket: &mut TcpStream) -> Option<u8> {
        timeout(PATIENCE, socket.read_u8()).await.expect("an answer or the end").ok()
    }

    async fn expect_silence(socket: &mut TcpStream) {
        assert!(timeout(MOMENT, socket.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn a_cut_ends_connections_old_and_new() {
        let proxy = start().await;
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut old, 1).await, Some(1));
        proxy.set(Some(Trouble::Cut));
        assert_eq!(answer(&mut old).await, None);
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(answer(&mut new).await, None);
        proxy.set(None);
        let mut healed = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut healed, 2).await, Some(2));
    }

    #[tokio::test]
    async fn a_stall_holds_everything_up_and_loses_nothing() {
        for ways in [Ways::Out, Ways::In, Ways::Both] {
            let proxy = start().await;
            let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(ask(&mut socket, 1).await, Some(1));
            proxy.set(Some(Trouble::Stall { ways }));
            socket.write_all(&[2, 3]).await.unwrap();
            expect_silence(&mut socket).await;
            proxy.set(None);
            assert_eq!((answer(&mut socket).await, answer(&mut socket).await), (Some(2), Some(3)));
        }
    }

    #[tokio::test]
    async fn what_is_swallowed_is_gone_and_so_is_the_connection_afterwards() {
        for ways in [Ways::Out, Ways::In, Ways::Both] {
            let proxy = start().await;
            let (mut harmed, mut idle) =
                (TcpStream::connect(proxy.address()).await.unwrap(), TcpStream::connect(proxy.address()).await.unwrap());
            assert_eq!((ask(&mut harmed, 1).await, ask(&mut idle, 1).await), (Some(1), Some(1)));
            proxy.set(Some(Trouble::Swallow { ways }));
            harmed.write_all(&[2]).await.unwrap();
            expect_silence(&mut harmed).await;
            proxy.set(None);
            assert_eq!(answer(&mut harmed).await, None);
            assert_eq!(ask(&mut idle, 3).await, Some(3), "who lost nothing goes on");
        }
    }

    #[tokio::test]
    async fn delays_and_throttles_take_their_time() {
        let proxy = start().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        let start = Instant::now();
        proxy.set(Some(Trouble::Delay { by: MOMENT }));
        assert_eq!(ask(&mut socket, 1).await, Some(1));
        assert!(start.elapsed() >= MOMENT * 2, "there and back");
        let start = Instant::now();
        proxy.set(Some(Trouble::Throttle { bytes_per_s: 10 }));
        assert_eq!(ask(&mut socket, 2).await, Some(2));
        assert!(start.elapsed() >= MOMENT, "a tenth of a second, twice");
        proxy.set(None);
        assert_eq!(ask(&mut socket, 3).await, Some(3));
    }
}
