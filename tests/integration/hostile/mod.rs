//! Guests that misbehave: each is stopped within its limits, the event meets `on_failure`, and everybody else goes on.

mod suite;

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::support::{Device, Gate, configuration, records, replace};

/// A hostile guest and a route for it on `bad/MODE`, with an honest route beside it.
fn tables(mode: &str, on_failure: &str) -> String {
    format!(
        r#"
[[guest]]
name = "hostile"
path = "hostile.wasm"
grants = ["settings", "log"]
settings = {{ mode = "{mode}" }}
limits = {{ start_deadline_ms = 200 }}
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
"#
    )
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

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_misbehaves_at_its_start_does_not_come_into_service() {
    let gate = Gate::start(&tables("deny", "deny"), &["hostile"]).await;
    let mut device = Device::connect(gate.address(), "d").await;
    for (refused, mode) in (1..).zip(["trap-at-start", "loop-at-start", "refuse-start", "no-such-mode"]) {
        replace(&gate.file, configuration("embedded", &tables(mode, "deny")).as_bytes());
        gate.until(mode, |gate| gate.bridge.metrics().config_reloads_refused.get() == refused).await;
        assert_eq!(device.publish("bad/x", "x").await.reason, PubAckReason::NotAuthorized, "{mode}: the version before judges");
    }
}
