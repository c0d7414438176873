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

/// What paho wants of a broker, in both versions: every QoS both ways, in order within each [MQTT-4.6.0-6], retained messages, wills, sessions.
const PAHO: &str = r#"
import queue, sys, threading
try:
    import paho.mqtt.client as mqtt
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    print("no paho"); sys.exit(0)
port, count = int(sys.argv[1]), 300

class Device:
    """A client that has connected; its messages wait in a queue."""
    def __init__(self, protocol, who, keep=False, will=None):
        self.five = protocol == mqtt.MQTTv5
        self.messages, self.connected, self.granted = queue.Queue(), queue.Queue(), queue.Queue()
        options = {} if self.five else {"clean_session": not keep}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="%s-%d" % (who, protocol), protocol=protocol, **options)
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_connect = lambda _client, _data, flags, reason, _given: self.connected.put((flags.session_present, reason))
        self.client.on_subscribe = lambda *_: self.granted.put(None)
        if will: self.client.will_set(*will)
        given = None
        if self.five and keep:
            given = Properties(PacketTypes.CONNECT); given.SessionExpiryInterval = 600
        extra = {"clean_start": not keep, "properties": given} if self.five else {}
        self.client.connect("127.0.0.1", port, **extra)
        self.client.loop_start()
        self.present, reason = self.connected.get(timeout=20)
        assert not reason.is_failure, reason
    def subscribe(self, *filter):
        self.client.subscribe(*filter); self.granted.get(timeout=20)
    def publish(self, *message, **more):
        self.client.publish(*message, **more).wait_for_publish(20)
    def next(self):
        return self.messages.get(timeout=20)
    def leave(self):
        self.client.disconnect(); self.client.loop_stop()
    def vanish(self):
        self.client.loop_stop(); self.client.socket().close()

def echo(protocol):
    device = Device(protocol, "paho")
    device.subscribe("paho/+", 2)
    for number in range(count): device.client.publish("paho/x", str(number), number % 3)
    got = [int(device.next().payload) for _ in range(count)]
    for qos in range(3):  # MQTT orders messages of one QoS; paho hands QoS 2 on at PUBREL, and holds QoS 1 and 2 to its window
        of_qos = [number for number in got if number % 3 == qos]
        assert of_qos == list(range(qos, count, 3)), "QoS %d out of order: %s" % (qos, of_qos)
    for granted in range(3):
        device.subscribe("each/%d" % granted, granted)
        for published in range(3):
            device.publish("each/%d" % granted, "x", published)
            assert device.next().qos == min(granted, published)
    device.leave()

def retained(protocol):
    device = Device(protocol, "keeper")
    for payload in ("old", "new"): device.publish("kept/%d" % protocol, payload, 1, True)
    device.subscribe("kept/%d" % protocol, 1)
    message = device.next()
    assert (message.payload, message.retain, message.qos) == (b"new", True, 1)
    device.publish("kept/%d" % protocol, b"", 1, True)
    assert device.next().payload == b""
    device.leave()

def wills(protocol):
    heir = Device(protocol, "heir")
    heir.subscribe("will", 2)
    Device(protocol, "loser", will=("will", "gone", 2)).vanish()
    message = heir.next()
    assert (message.payload, message.qos) == (b"gone", 2)
    Device(protocol, "leaver", will=("will", "not this one", 2)).leave()
    heir.publish("will", "behind it", 2)
    assert heir.next().payload == b"behind it"
    heir.leave()

def sessions(protocol):
    first = Device(protocol, "sleeper", keep=True)
    assert not first.present
    first.subscribe("away", 1)
    first.leave()
    awake = Device(protocol, "awake")
    for number in range(100): awake.publish("away", str(number), 1)
    awake.leave()
    second = Device(protocol, "sleeper", keep=True)
    assert second.present
    assert [int(second.next().payload) for _ in range(100)] == list(range(100))
    second.leave()
    afresh = Device(protocol, "sleeper")
    assert not afresh.present
    afresh.leave()

def properties_of_5(protocol):
    device = Device(protocol, "rich")
    device.subscribe("rich", 1)
    given = Properties(PacketTypes.PUBLISH)
    given.UserProperty = [("b", "1"), ("a", "2"), ("b", "1")]
    given.ContentType, given.ResponseTopic, given.CorrelationData, given.MessageExpiryInterval = "text/plain", "reply", b"\x00\xff", 100
    device.publish("rich", "x", 1, properties=given)
    got = device.next().properties
    assert got.UserProperty == given.UserProperty, got
    assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "reply", b"\x00\xff"), got
    assert 60 < got.MessageExpiryInterval <= 100, got
    device.leave()

for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
    for part in (echo, retained, wills, sessions): part(protocol)
properties_of_5(mqtt.MQTTv5)
print("paho is content")
"#;

#[tokio::test]
async fn paho_is_content() {
    let broker = Running::start().await;
    let arguments = vec!["-c".to_owned(), PAHO.to_owned(), broker.address().port().to_string()];
    let Some(output) = run("python3", arguments).await else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("no paho") {
        return eprintln!("SKIPPED: Python has no paho-mqtt; `cargo xtask test` fetches it where pip is installed");
    }
    assert!(output.status.success() && said.contains("paho is content"), "{output:?}");
}
