//! Guests that misbehave: each is stopped within its limits, the event meets `on_failure`, and everybody else goes on.

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::support::{Device, Gate, json, records};

/// A hostile guest and a route for it on `bad/MODE`, with an honest route beside it.
fn tables(mode: &str, on_failure: &str) -> String {
    format!(
        r#"
[[guest]]
name = "hostile"
path = "hostile.wasm"
grants = ["settings", "log", "state"]
settings = {{ mode = "{mode}" }}
limits = {{ deadline_ms = 50, memory_bytes = 16777216, returned_bytes = 1048576 }}
[[route]]
name = "bad"
hook = "message.publish"
filter = "bad/#"
guests = ["hostile"]
topic = "bad"
on_failure = "{on_failure}"
[[route]]
name = "good"
hook = "message.publish"
filter = "good/#"
topic = "good"
format = "raw"
[[route]]
hook = "message.dropped"
filter = "bad/#"
topic = "dropped"
"#
    )
}

/// Publishes to the hostile route and to the honest one in turn; the honest one must not notice.
async fn check(mode: &str, words: &str) {
    let gate = Gate::start(&tables(mode, "deny"), &["hostile"]).await;
    let mut device = Device::connect(gate.address(), "d").await;
    let mut neighbour = Device::connect(gate.address(), "n").await;
    for round in 0..5 {
        device.send("bad/x", "x").await;
        let honest = neighbour.publish("good/x", format!("{round}")).await;
        assert_eq!(honest.reason, PubAckReason::NoMatchingSubscribers, "{mode}");
        let ack = device.answer().await;
        assert_eq!(ack.reason, PubAckReason::ImplementationSpecificError, "{mode}: {ack:?}");
    }
    assert_eq!(records(&gate.kafka(), &["good"], 5).await.len(), 5, "{mode}");
    let dropped = records(&gate.kafka(), &["dropped"], 5).await;
    assert_eq!(dropped.len(), 5, "{mode}");
    for record in &dropped {
        let value = json(record);
        assert_eq!(value["reason"], "guest-failed", "{mode}: {value}");
        let explanation = value["explanation"].as_str().unwrap_or_default();
        assert!(explanation.contains(words), "{mode}: {explanation:?} does not say {words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_loops_is_stopped_at_its_deadline() {
    check("loop", "deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_allocates_without_end_meets_its_memory_limit() {
    check("allocate", "memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_traps_on_every_call_is_replaced_every_time() {
    check("trap", "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_returns_64_mib_is_refused() {
    // It needs room to make what it returns, and must not be allowed to hand it over.
    let tables = tables("return-64mib", "deny").replace("memory_bytes = 16777216", "memory_bytes = 268435456");
    let tables = tables.replace("deadline_ms = 50", "deadline_ms = 2000");
    let gate = Gate::start(&tables, &["hostile"]).await;
    let mut device = Device::connect(gate.address(), "d").await;
    for _ in 0..3 {
        assert_eq!(device.publish("bad/x", "x").await.reason, PubAckReason::ImplementationSpecificError);
        assert_eq!(device.publish("good/x", "x").await.reason, PubAckReason::NoMatchingSubscribers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_is_met() {
    for (policy, reason, bad, dead) in [
        ("deny", PubAckReason::ImplementationSpecificError, 0, 0),
        ("pass", PubAckReason::NoMatchingSubscribers, 1, 0),
        ("drop", PubAckReason::Success, 0, 0),
        ("dead-letter", PubAckReason::Success, 0, 1),
    ] {
        let gate = Gate::start(&tables("trap", policy), &["hostile"]).await;
        let mut device = Device::connect(gate.address(), "d").await;
        assert_eq!(device.publish("bad/x", "x").await.reason, reason, "{policy}");
        assert_eq!(records(&gate.kafka(), &["bad"], bad).await.len(), bad, "{policy}");
        if policy == "dead-letter" {
            let letters = records(&gate.kafka(), &["hookgate_dead_letter"], dead).await;
            assert_eq!(letters.len(), dead);
            let failure = letters[0].headers.iter().find(|header| header.name == "failure").unwrap();
            assert!(failure.value.contains("trap") || failure.value.contains("panic"), "{failure:?}");
        }
    }
}
