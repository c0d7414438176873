//! The bus as a whole, and the death of its Router.

use super::*;
use crate::{
    config::Mqtt,
    event::QoS,
    source::mqtt::{
        mailbox::Mailbox,
        samples::{client, granted, message},
        subscriptions::Subscriptions,
    },
};

fn routed(subscriptions: &Subscriptions, payload: usize) -> Routed {
    let message = Arc::new(message("a", QoS::AtMostOnce, &payload.to_string()));
    Routed { receivers: subscriptions.receivers("a", "publisher"), message, stored: None }
}

async fn arrive(mailbox: &Mailbox, count: usize) -> Vec<usize> {
    let mut parcels = Vec::new();
    let wait = async {
        while parcels.len() < count {
            if !mailbox.take(usize::MAX, usize::MAX, &mut parcels) && parcels.len() < count {
                mailbox.wait().await;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the messages arrive");
    parcels.iter().map(|queued| String::from_utf8_lossy(&queued.parcel.message.payload).parse().expect("a number")).collect()
}

#[tokio::test]
async fn messages_arrive_in_order_and_all_of_them() {
    let (metrics, subscriptions) = (Metrics::new(), Subscriptions::default());
    let mailbox = Mailbox::new(&client("receiver"), &Mqtt::default());
    subscriptions.insert(&"a".into(), 1, &mailbox, granted(QoS::AtMostOnce, None));
    let (aftermath, _pending) = Aftermath::new();
    let bus = Bus::start(2, &metrics, &aftermath, None).expect("the bus starts");
    const COUNT: usize = 20_000; // several times the log of the Router
    for first in (0..COUNT).step_by(5) {
        bus.send("publisher", &mut (first..first + 5).map(|number| routed(&subscriptions, number)).collect()).await;
    }
    assert_eq!(arrive(&mailbox, COUNT).await, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dead_router_is_started_again_and_its_content_reported() {
    let (metrics, subscriptions) = (Metrics::new(), Subscriptions::default());
    let mailbox = Mailbox::new(&client("receiver"), &Mqtt::default());
    subscriptions.insert(&"a".into(), 1, &mailbox, granted(QoS::AtMostOnce, None));
    let (aftermath, mut pending) = Aftermath::new();
    let bus = Bus::start(1, &metrics, &aftermath, None).expect("the bus starts");
    bus.send("publisher", &mut vec![routed(&subscriptions, 0)]).await;
    assert_eq!(arrive(&mailbox, 1).await, [0]);
    // What kills rumqttd 0.20: a topic that begins with a non-ASCII character.
    bus.shards[0].link.lock().publish("ü", "x").expect("it still lives");
    const COUNT: usize = 1_000;
    for number in 1..=COUNT {
        bus.send("publisher", &mut vec![routed(&subscriptions, number)]).await;
    }
    let (mut parcels, mut lost) = (Vec::new(), Vec::new());
    let everything = async {
        while parcels.len() + lost.len() < COUNT {
            mailbox.take(usize::MAX, usize::MAX, &mut parcels);
            lost.extend(pending.drops());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), everything).await.expect("every message arrives or is reported");
    assert_eq!((parcels.len() + lost.len(), metrics.bus_restarts.get()), (COUNT, 1));
    assert!(lost.iter().all(|reason| *reason == DropReason::BusRestarted));
    assert!(!parcels.is_empty(), "nothing went over the new bus");
}
