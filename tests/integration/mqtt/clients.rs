//! Independent clients in both versions: rumqttc, mosquitto's and paho's (Python).

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

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

/// Runs a client to its end beside the broker; `None`, said aloud, when it is not installed.
async fn run(program: &str, arguments: Vec<String>) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/paho"));
    match tokio::task::spawn_blocking(move || command.output()).await.expect("no panic") {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: {program} does not start: {error}; install it to have this test");
            None
        }
    }
}

/// mosquitto_pub or mosquitto_sub, with words separated by blanks; what it printed.
async fn mosquitto(program: &str, broker: &Running, version: &str, words: &str) -> Option<String> {
    let mut arguments = vec!["-p".to_owned(), broker.address().port().to_string(), "-V".to_owned(), version.to_owned()];
    arguments.extend(words.split_whitespace().map(str::to_owned));
    let output = run(program, arguments).await?;
    assert!(output.status.success(), "{program} {version} {words}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn mosquitto_keeps_its_session_and_gets_what_is_retained() {
    let broker = Running::start().await;
    for version in ["mqttv311", "mqttv5"] {
        let expiry = if version == "mqttv5" { "-x 600" } else { "" };
        let session = format!("-c -i sleeper-{version} {expiry} -q 1 -t away/{version}");
        let Some(_) = mosquitto("mosquitto_sub", &broker, version, &format!("{session} -E")).await else { return };
        for number in 0..3 {
            mosquitto("mosquitto_pub", &broker, version, &format!("-q {} -t away/{version} -m m{number}", 1 + number % 2)).await;
        }
        let queued = mosquitto("mosquitto_sub", &broker, version, &format!("{session} -C 3 -W 20")).await;
        assert_eq!(queued.as_deref(), Some("m0\nm1\nm2\n"), "{version}: queued while it was away");
        mosquitto("mosquitto_pub", &broker, version, &format!("-q 2 -r -t kept/{version} -m last")).await;
        let kept = mosquitto("mosquitto_sub", &broker, version, &format!("-q 2 -t kept/{version} -C 1 -W 20 -v")).await;
        assert_eq!(kept, Some(format!("kept/{version} last\n")));
    }
}

/// Subscribes, publishes at every QoS, and wants everything back, in order within each QoS [MQTT-4.6.0-6].
const PAHO: &str = r#"
import sys, threading
try:
    import paho.mqtt.client as mqtt
except ImportError:
    print("no paho"); sys.exit(0)
port, count = int(sys.argv[1]), 300
for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
    got, ready, done = [], threading.Event(), threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-%d" % protocol, protocol=protocol)
    client.on_subscribe = lambda *_: ready.set()
    def on_message(_client, _userdata, message):
        got.append(int(message.payload))
        if len(got) == count: done.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("paho/+", qos=2)
    assert ready.wait(20), "no SUBACK"
    sent = [client.publish("paho/x", str(number), qos=number % 3) for number in range(count)]
    for info in sent: info.wait_for_publish(20)
    assert done.wait(20), "%d of %d" % (len(got), count)
    for qos in range(3):  # MQTT orders messages of one QoS; paho hands QoS 2 on at PUBREL, and holds QoS 1 and 2 to its window
        of_qos = [number for number in got if number % 3 == qos]
        assert of_qos == list(range(qos, count, 3)), "QoS %d out of order: %s" % (qos, of_qos)
    client.disconnect(); client.loop_stop()
print("paho is content")
"#;

#[tokio::test]
async fn paho_gets_everything_back_in_order() {
    let broker = Running::start().await;
    let arguments = vec!["-c".to_owned(), PAHO.to_owned(), broker.address().port().to_string()];
    let Some(output) = run("python3", arguments).await else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("no paho") {
        return eprintln!("SKIPPED: Python has no paho-mqtt; `cargo xtask test` fetches it where pip is installed");
    }
    assert!(output.status.success() && said.contains("paho is content"), "{output:?}");
}
