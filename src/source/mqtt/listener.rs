//! Doors for devices: accepts sockets until the broker drains. TCP only so far.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Phase, Shared, connection};

/// How long to wait when accepting fails, as it does when the process is out of file descriptors.
const RECOVERY: Duration = Duration::from_millis(100);

/// Accepts until the broker drains. `alive` is held as long as any connection lasts.
pub(super) async fn listen(shared: Arc<Shared>, name: String, listener: TcpListener, alive: mpsc::Sender<()>) {
    let mut phase = shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                shared.metrics.connections_accepted.inc();
                tokio::spawn(serve(Arc::clone(&shared), socket, peer, alive.clone()));
            }
            Err(error) => {
                tracing::warn!(listener = name, %error, "cannot accept a connection");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, socket: TcpStream, peer: SocketAddr, alive: mpsc::Sender<()>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let (reader, writer) = socket.into_split();
    connection::serve(shared, reader, writer, peer).await;
    drop(alive);
}
