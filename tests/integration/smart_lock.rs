//! The main job, end to end, in the words of `examples/smart-lock`: what reaches a lock, what its sender is told, what Kafka holds.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hookgate::kafka::StoredRecord;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::json;

use crate::support::{Device, Gate, KEY, command, json, now_s, records};

const LOCK: &str = "10083618796833171";

/// The example's routes and guests, with the tests' key.
pub fn tables() -> String {
    format!(
        r#"
[[key]]
name = "lock-hmac"
text = "{KEY}"
[[guest]]
name = "lock-command-verifier"
path = "lock_command_verifier.wasm"
grants = ["settings", "state", "crypto"]
keys = ["lock-hmac"]
settings = {{ max_age_s = 30 }}
[[guest]]
name = "low-battery"
path = "low_battery.wasm"
grants = ["settings"]
[[route]]
hook = "message.publish"
filter = "devices/+/state"
guests = ["low-battery"]
topic = "message_state"
format = "emqx-bridge"
[[route]]
hook = "message.publish"
filter = "devices/+/command"
guests = ["lock-command-verifier"]
[[route]]
hook = "message.acked"
filter = "devices/+/command"
topic = "message_command"
format = "emqx-bridge"
[[route]]
hook = "message.dropped"
filter = "devices/+/command"
reasons = ["denied"]
topic = "message_audit"
format = "emqx-bridge"
[[route]]
hook = "client.connected"
topic = "client_connected"
format = "emqx-bridge"
[[route]]
hook = "client.disconnected"
topic = "client_disconnected"
format = "emqx-bridge"
[[route]]
hook = "session.subscribed"
topic = "session_subscribed"
format = "emqx-bridge"
[[route]]
hook = "session.unsubscribed"
topic = "session_unsubscribed"
format = "emqx-bridge"
"#
    )
}

/// The headers after the event's id.
fn own_headers(record: &StoredRecord) -> Vec<(&str, &str)> {
    let headers: Vec<(&str, &str)> = record.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
    let [("event-id", id), rest @ ..] = &headers[..] else { panic!("no event-id: {headers:?}") };
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    rest.to_vec()
}

async fn gate() -> Gate {
    Gate::start(&tables(), &["lock_command_verifier", "low_battery"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_report_becomes_the_record_of_the_emqx_bridge() {
    let gate = gate().await;
    let mut lock = Device::connect(gate.address(), LOCK).await;
    let state =
        r#"{"process_id":"7802441525528958","action":"unlock","battery":8.4,"lock_state":1,"version":1.1,"client_id":"10083618796833171"}"#;
    let topic = format!("devices/{LOCK}/state");
    assert_eq!(lock.publish(&topic, state).await.reason, PubAckReason::NoMatchingSubscribers);
    let [record] = &records(&gate.kafka(), &["message_state"], 1).await[..] else { panic!("one record") };
    let mut value = json(record);
    assert!(value["ts"].take().as_u64().is_some_and(|ts| now_s().abs_diff(ts / 1000) < 60));
    let expected = json!({"client_id": LOCK, "username": "app", "topic": topic, "payload": BASE64_STANDARD.encode(state), "qos": 1, "node": "n1", "ts": null});
    assert_eq!(value, expected);
    assert_eq!(record.key.as_deref(), Some(LOCK.as_bytes()));
    assert_eq!(own_headers(record), [("low-battery", "true")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_command_reaches_the_lock_and_is_recorded_once_acknowledged() {
    let gate = gate().await;
    let mut lock = Device::connect(gate.address(), LOCK).await;
    let topic = format!("devices/{LOCK}/command");
    lock.subscribe(&topic).await;
    let mut app = Device::connect(gate.address(), "app-1").await;
    let payload = command(KEY, "7802441525528958", "u7u4p0n8", now_s());
    assert_eq!(app.publish(&topic, payload.clone()).await.reason, PubAckReason::Success);
    assert_eq!(lock.message().await.payload, payload.as_bytes());
    let [record] = &records(&gate.kafka(), &["message_command"], 1).await[..] else { panic!("one record") };
    let mut value = json(record);
    value["ts"].take();
    let expected = json!({"client_id": LOCK, "username": "app", "topic": topic, "payload": BASE64_STANDARD.encode(&payload), "qos": 1, "node": "n1", "ts": null, "from": "app-1"});
    assert_eq!(value, expected);
    assert_eq!(own_headers(record), [("verified", "true")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_command_never_reaches_the_lock_and_is_audited_with_its_reason() {
    let gate = gate().await;
    let mut lock = Device::connect(gate.address(), LOCK).await;
    let topic = format!("devices/{LOCK}/command");
    lock.subscribe(&topic).await;
    let mut app = Device::connect(gate.address(), "app-1").await;
    let good = command(KEY, "1", "n-1", now_s());
    let attempts = [
        (command("another key", "2", "n-2", now_s()), "bad-signature"),
        (command(KEY, "3", "n-3", now_s() - 31), "stale"),
        ("{}".to_owned(), "malformed"),
        (good.clone(), ""),
        (good, "replayed"),
    ];
    for (payload, reason) in &attempts {
        let ack = app.publish(&topic, payload.clone()).await;
        if reason.is_empty() {
            assert_eq!(ack.reason, PubAckReason::Success);
        } else {
            assert_eq!(ack.reason, PubAckReason::NotAuthorized, "{reason}");
            assert_eq!(ack.properties.and_then(|properties| properties.reason_string).as_deref(), Some(*reason));
        }
    }
    lock.message().await;
    let audit = records(&gate.kafka(), &["message_audit"], 4).await;
    assert_eq!(lock.messages(), [], "only the good command reached the lock");
    let refused: Vec<_> = attempts.iter().filter(|(_, reason)| !reason.is_empty()).collect();
    assert_eq!(audit.len(), refused.len());
    for (record, (payload, reason)) in audit.iter().zip(refused) {
        let mut value = json(record);
        value["ts"].take();
        let expected = json!({"client_id": "app-1", "username": "app", "topic": topic, "payload": BASE64_STANDARD.encode(payload), "qos": 1, "node": "n1", "ts": null, "from": "app-1", "reason": "denied", "explanation": reason});
        assert_eq!(value, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_client_goes_to_its_topics() {
    let gate = gate().await;
    let mut lock = Device::connect(gate.address(), LOCK).await;
    lock.subscribe("devices/+/command").await;
    lock.unsubscribe("devices/+/command").await;
    lock.disconnect().await;
    let life = ["client_connected", "client_disconnected", "session_subscribed", "session_unsubscribed"];
    let found = records(&gate.kafka(), &life, 4).await;
    let mut values: Vec<_> = found.iter().map(|record| (record.topic.as_str(), json(record))).collect();
    values.iter_mut().for_each(|(_, value)| drop(value["ts"].take()));
    values.sort_by_key(|(topic, _)| *topic);
    let expected = [
        ("client_connected", json!({"client_id": LOCK, "node": "n1", "ts": null})),
        ("client_disconnected", json!({"client_id": LOCK, "node": "n1", "ts": null, "reason": "normal"})),
        ("session_subscribed", json!({"client_id": LOCK, "topic": "devices/+/command", "qos": 1, "node": "n1", "ts": null})),
        ("session_unsubscribed", json!({"client_id": LOCK, "topic": "devices/+/command", "qos": 1, "node": "n1", "ts": null})),
    ];
    assert_eq!(values, expected);
}
