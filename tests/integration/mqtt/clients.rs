//! An independent client (rumqttc) in both versions.

use std::time::Duration;

use super::{broker::Running, wire::PATIENCE};

const COUNT: u32 = 2_000;

#[tokio::test]
async fn rumqttc_speaks_3_1_1() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let broker = Running::start().await;
    let mut options = MqttOptions::new("three", "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5)).set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 100);
    client.subscribe("echo/#", QoS::ExactlyOnce).await.expect("queued");
    let publish = tokio::spawn(async move {
        for number in 0..COUNT {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
            client.publish("echo/é", qos, false, number.to_be_bytes()).await.expect("queued");
        }
        client
    });
    let receive = async {
        let mut next = 0_u32;
        while next < COUNT {
            if let Event::Incoming(Packet::Publish(got)) = events.poll().await.expect("connected") {
                assert_eq!((&got.payload[..], got.topic.as_str()), (&next.to_be_bytes()[..], "echo/é"));
                next += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, receive).await.expect("everything comes back");
    publish.await.expect("everything was published");
}

#[tokio::test]
async fn rumqttc_speaks_5() {
    use rumqttc::v5::{AsyncClient, Event, MqttOptions, mqttbytes::QoS, mqttbytes::v5::Packet};
    let broker = Running::start().await;
    let mut options = MqttOptions::new("five", "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 100);
    client.subscribe("echo/#", QoS::ExactlyOnce).await.expect("queued");
    let publish = tokio::spawn(async move {
        for number in 0..COUNT {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
            client.publish("echo/é", qos, false, number.to_be_bytes().to_vec()).await.expect("queued");
        }
        client
    });
    let receive = async {
        let mut next = 0_u32;
        while next < COUNT {
            if let Event::Incoming(Packet::Publish(got)) = events.poll().await.expect("connected") {
                assert_eq!(got.payload[..], next.to_be_bytes());
                next += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, receive).await.expect("everything comes back");
    publish.await.expect("everything was published");
}
