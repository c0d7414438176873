//! What a publish costs when many other filters are subscribed: it must not grow with their number.

use tokio::task::JoinSet;

use super::{
    super::socket::Socket,
    Plan,
    fan::{Flow, publish, subscribe},
    peer::Broker,
    report::Measured,
};
use std::sync::Arc;

/// How many filters, in turn.
const COUNTS: [u32; 3] = [1_000, 10_000, 100_000];
/// Sessions that hold them.
const SUBSCRIBERS: u32 = 10;
/// Filters in one SUBSCRIBE.
const AT_ONCE: usize = 500;
const PUBLISHERS: u32 = 20;

fn device(number: u64) -> String {
    format!("devices/{number:06}/command")
}

/// Measures each number of filters on a broker of its own.
pub(super) async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for count in COUNTS {
        let broker = Broker::hookgate().await?;
        let flow = Flow::new(1, 2_000)?;
        let mut tasks = JoinSet::new();
        for number in 0..SUBSCRIBERS {
            let mut socket = Socket::connect(broker.address, &format!("subscriber-{number}")).await?;
            let filters: Vec<String> =
                (number..count).step_by(SUBSCRIBERS as usize).map(|device_number| device(device_number.into())).collect();
            for some in filters.chunks(AT_ONCE) {
                socket.subscribe(some).await?;
            }
            tasks.spawn(subscribe(socket, Arc::clone(&flow)));
        }
        for number in 0..PUBLISHERS {
            // A step that is prime to every count visits all devices, far apart.
            let topic = move |published: u64| device((u64::from(number) * 7_919 + published * 7_907) % u64::from(count));
            tasks.spawn(publish(broker.address, number, 100, Arc::clone(&flow), topic));
        }
        measured.push(flow.measure(plan, format!("{count} filters"), &broker, tasks).await?);
        broker.stop().await?;
    }
    Ok(measured)
}
