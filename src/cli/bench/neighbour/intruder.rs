//! The device of the hostile tenant: publishes steadily whenever it is told to, and takes whatever answer it gets.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::cli::bench::{packet::Packet, socket::Socket};

/// Between two messages.
const EVERY: Duration = Duration::from_millis(10);
/// Messages that wait for their answer, at most.
const WINDOW: u16 = 16;
/// Bytes of a message.
const PAYLOAD_BYTES: usize = 100;
/// Before it comes back when its connection was lost.
const PAUSE: Duration = Duration::from_millis(100);

/// A device, on a connection of its own.
pub(super) struct Intruder {
    orders: watch::Sender<Order>,
    task: JoinHandle<anyhow::Result<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Wait,
    Publish,
    End,
}

impl Intruder {
    /// Connects, and waits.
    pub(super) fn start(address: SocketAddr) -> Self {
        let (orders, order) = watch::channel(Order::Wait);
        Intruder { orders, task: tokio::spawn(intrude(address, order)) }
    }

    /// Lets it publish, or be silent.
    pub(super) fn let_publish(&self, publish: bool) {
        self.orders.send_replace(if publish { Order::Publish } else { Order::Wait });
    }

    /// Ends it; how many messages were answered, whatever the answer.
    ///
    /// # Errors
    /// The broker takes its connections no more.
    pub(super) async fn end(self) -> anyhow::Result<u64> {
        self.orders.send_replace(Order::End);
        self.task.await.context("the hostile tenant's device")?
    }
}

async fn intrude(address: SocketAddr, mut order: watch::Receiver<Order>) -> anyhow::Result<u64> {
    let mut answered = 0;
    loop {
        let mut socket = Socket::connect(address, "intruder").await.context("the hostile tenant's device")?;
        match publish(&mut socket, &mut order, &mut answered).await {
            Ok(()) => return Ok(answered),
            Err(_lost) => sleep(PAUSE).await, // that its own guest hurts it is its own affair
        }
    }
}

/// Does as it is told until the end.
async fn publish(socket: &mut Socket, order: &mut watch::Receiver<Order>, answered: &mut u64) -> anyhow::Result<()> {
    let mut free: Vec<u16> = (1..=WINDOW).collect();
    let mut due = interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = *order.borrow_and_update();
        if now == Order::End {
            return Ok(());
        }
        tokio::select! {
            _ = due.tick(), if now == Order::Publish && !free.is_empty() => {
                if let Some(id) = free.pop() {
                    socket.publish("hostile/x", id, &[b'.'; PAYLOAD_BYTES]);
                }
            }
            turned = socket.turn() => turned?,
            changed = order.changed() => changed?,
        }
        socket.take(|packet, _, _| {
            if let Packet::PubAck(ack) = packet {
                free.push(ack.id);
                *answered += 1;
            }
            Ok(())
        })?;
    }
}
