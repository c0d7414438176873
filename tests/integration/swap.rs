//! A guest's file changes while it runs: by rename, in place and slowly, broken, and together with the configuration.

use std::{fs, io::Write as _, time::Duration};

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use crate::{
    smart_lock,
    support::{Device, Gate, KEY, another_version, command, configuration, now_s, records, replace},
};

const VERIFIER: &str = "lock-command-verifier";
const FILE: &str = "lock_command_verifier.wasm";

async fn gate() -> Gate {
    Gate::start(&smart_lock::tables(), &["lock_command_verifier", "low_battery"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_by_rename_is_swapped_in_and_the_state_stays() {
    let gate = gate().await;
    let mut app = Device::connect(gate.address(), "app").await;
    let good = command(KEY, "1", "n-1", now_s());
    assert_eq!(app.publish("devices/1/command", good.clone()).await.reason, PubAckReason::NoMatchingSubscribers);
    let path = gate.folder.path().join(FILE);
    replace(&path, &another_version(&fs::read(&path).unwrap(), 1));
    gate.until("the swap", |gate| gate.swaps(VERIFIER) == 1).await;
    let replayed = app.publish("devices/1/command", good).await;
    assert_eq!(replayed.reason, PubAckReason::NotAuthorized, "the nonce was seen by the version before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_slowly_is_taken_when_it_is_whole() {
    let gate = gate().await;
    let path = gate.folder.path().join(FILE);
    let next = another_version(&fs::read(&path).unwrap(), 2);
    let mut file = fs::File::create(&path).unwrap();
    for piece in next.chunks(next.len() / 5 + 1) {
        file.write_all(piece).unwrap();
        file.sync_all().unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    gate.until("the swap", |gate| gate.swaps(VERIFIER) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_the_old_version_running() {
    let gate = gate().await;
    let mut app = Device::connect(gate.address(), "app").await;
    let path = gate.folder.path().join(FILE);
    let good = fs::read(&path).unwrap();
    replace(&path, b"\0asm nonsense");
    let refused = |gate: &Gate| gate.bridge.metrics().guest_swaps_refused.get_or_create(&VERIFIER.into()).get() > 0;
    gate.until("the refusal", refused).await;
    let reason = app.publish("devices/1/command", command(KEY, "1", "n-1", now_s())).await.reason;
    assert_eq!(reason, PubAckReason::NoMatchingSubscribers, "the old version judges");
    replace(&path, &another_version(&good, 3));
    gate.until("the swap", |gate| gate.swaps(VERIFIER) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_taken_as_a_whole_or_not_at_all() {
    let gate = gate().await;
    let mut app = Device::connect(gate.address(), "app").await;
    let stale = || command(KEY, "1", "n-1", now_s() - 60);
    assert_eq!(app.publish("devices/1/command", stale()).await.reason, PubAckReason::NotAuthorized);
    replace(&gate.file, configuration("embedded", "[[route]]\nhook = \"nonsense\"").as_bytes());
    gate.until("the refusal", |gate| gate.bridge.metrics().config_reloads_refused.get() == 1).await;
    assert_eq!(app.publish("devices/1/command", stale()).await.reason, PubAckReason::NotAuthorized);
    let older = smart_lock::tables().replace("max_age_s = 30", "max_age_s = 300");
    replace(&gate.file, configuration("embedded", &older).as_bytes());
    gate.until("the reload", |gate| gate.bridge.metrics().config_reloads.get() == 1).await;
    assert_eq!(app.publish("devices/1/command", stale()).await.reason, PubAckReason::NoMatchingSubscribers);
}

/// A configuration that is refused keeps nobody from a new version that came along with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_taken_beside_a_configuration_that_is_refused() {
    let gate = gate().await;
    let _app = Device::connect(gate.address(), "app").await; // by now the files are watched
    let path = gate.folder.path().join(FILE);
    let next = another_version(&fs::read(&path).unwrap(), 4);
    fs::write(&gate.file, "nonsense").unwrap();
    replace(&path, &next);
    gate.until("the refusal", |gate| gate.bridge.metrics().config_reloads_refused.get() >= 1).await;
    gate.until("the swap", |gate| gate.swaps(VERIFIER) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_lose_nothing_and_reorder_nothing() {
    const MESSAGES: usize = 2_000;
    let tables =
        smart_lock::tables().replace("topic = \"message_state\"\nformat = \"emqx-bridge\"", "topic = \"message_state\"\nformat = \"raw\"");
    let gate = Gate::start(&tables, &["lock_command_verifier", "low_battery"]).await;
    let mut lock = Device::connect(gate.address(), "1").await;
    let path = gate.folder.path().join("low_battery.wasm");
    let component = fs::read(&path).unwrap();
    for number in 0..MESSAGES {
        if number % 400 == 0 {
            replace(&path, &another_version(&component, number as u32 + 10));
        }
        lock.send("devices/1/state", format!("{{\"battery\":1.5,\"number\":{number}}}")).await;
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    for _ in 0..MESSAGES {
        assert_eq!(lock.answer().await.reason, PubAckReason::NoMatchingSubscribers);
    }
    gate.until("a swap", |gate| gate.swaps("low-battery") > 0).await;
    let found = records(&gate.kafka(), &["message_state"], MESSAGES).await;
    let numbers: Vec<u64> = found.iter().filter_map(|record| crate::support::json(record)["number"].as_u64()).collect();
    assert_eq!(numbers, (0..MESSAGES as u64).collect::<Vec<_>>(), "each once, in order");
    assert!(found.iter().all(|record| record.headers.iter().any(|header| header.name == "low-battery")), "no message passed unseen");
}
