//! One test for each way.

use super::*;
use crate::{
    smart_lock,
    support::{Gate, KEY, command, json, now_s, records},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_met_by_some_and_then_by_all() {
    let node = Node::start("canary = { share = 0.5, for = \"3s\", min_calls = 5 }", &behaving("pass", 0));
    let mut devices = node.devices(20).await;
    assert_eq!(count(&publish(&mut devices, "x").await, PASSED), 20);
    let new = node.put(&behaving("deny", 1));
    let listed = node.until("the canary", |judge| judge["beside"]["kind"] == "canary");
    assert_eq!((&listed["beside"]["digest"], &listed["beside"]["share"]), (&Value::from(new.clone()), &Value::from(0.5)));
    let (first, second) = (publish(&mut devices, "x").await, publish(&mut devices, "x").await);
    let denied = count(&first, PubAckReason::NotAuthorized);
    assert!((1..20).contains(&denied) && denied + count(&first, PASSED) == 20, "{first:?}");
    assert_eq!(first, second, "each client stays on its side");
    let promoted = node.until("the promotion", |judge| judge["digest"] == *new);
    assert!(promoted["beside"].is_null() && promoted["probation_s"].as_u64().is_some_and(|left| left > 500), "{promoted}");
    assert_eq!(count(&publish(&mut devices, "x").await, PubAckReason::NotAuthorized), 20);
    assert_eq!(node.metric("hookgate_guest_promotions_total{name=\"judge\"}"), 1);
    assert_eq!(node.metric("hookgate_guest_versions{name=\"judge\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_goes_back_by_itself() {
    let mut node = Node::start("canary = { share = 0.5, for = \"1h\", min_calls = 10, max_failure_ratio = 0.2 }", &behaving("pass", 0));
    let old = node.judge()["digest"].clone();
    let mut devices = node.devices(20).await;
    let new = node.put(&behaving("trap", 1));
    node.until("the canary", |judge| judge["beside"]["digest"] == *new);
    let reasons = publish(&mut devices, "x").await;
    let failed = count(&reasons, PubAckReason::ImplementationSpecificError);
    assert!(failed == 3 && failed + count(&reasons, PASSED) == 20, "more than two of ten must not fail: {reasons:?}");
    node.process.line("rolled back");
    let judge = node.until("the end", |judge| judge["beside"].is_null());
    assert_eq!((&judge["digest"], &judge["refused"]["digest"], &judge["refused"]["cause"]), (&old, &Value::from(new), &"failures".into()));
    assert_eq!(count(&publish(&mut devices, "x").await, PASSED), 20);
    let (_, out, _) = node.verb(&["list"]);
    assert!(out.contains("(failures)") && out.starts_with("GUEST  VERSION"), "{out}");
    assert_eq!(node.metric("hookgate_guest_rollbacks_total{name=\"judge\",reason=\"failures\"}"), 1);
    assert_eq!(node.metric("hookgate_guest_file_refused{name=\"judge\"}"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_circuit_opens_goes_back_by_itself() {
    let node = Node::start("breaker = { min_calls = 5, open_for = \"1h\" }", &behaving("pass", 0));
    let old = node.judge()["digest"].clone();
    let mut devices = node.devices(1).await;
    let new = node.put(&behaving("trap", 1));
    node.until("the swap", |judge| judge["digest"] == *new);
    let mut reasons = Vec::new();
    for _ in 0..20 {
        reasons.extend(publish(&mut devices, "x").await);
    }
    let failed = count(&reasons, PubAckReason::ImplementationSpecificError);
    assert!((5..20).contains(&failed) && reasons.last() == Some(&PASSED), "{reasons:?}");
    let judge = node.until("the end", |judge| judge["digest"] == old);
    assert_eq!((&judge["refused"]["digest"], &judge["refused"]["cause"]), (&Value::from(new), &"circuit".into()));
    assert_eq!(judge["circuit"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_tells_where_it_would_answer_another_way() {
    let node = Node::start("shadow = { topic = \"differences\" }", &behaving("pass", 0));
    let mut devices = node.devices(2).await;
    let new = node.put(&behaving("trap-sometimes", 1));
    node.until("the shadow", |judge| judge["beside"]["kind"] == "shadow");
    for payload in ["x", "a trap", "y"] {
        assert_eq!(count(&publish(&mut devices, payload).await, PASSED), 2, "nothing acts on it");
    }
    let found = records(&node.kafka, &["differences"], 2).await;
    assert_eq!(found.len(), 2);
    for (record, id) in found.iter().zip(["device-0", "device-1"]) {
        let value = json(record);
        assert_eq!((&value["client"]["client_id"], &value["hook"]), (&id.into(), &"message.publish".into()), "{value}");
        assert_eq!((&value["verdict"], &value["shadow"]["failure"]["reason"]), (&"pass".into(), &"trap".into()), "{value}");
        assert_eq!(value["shadow"]["digest"], *new);
    }
    let judge = node.until("it has seen all", |judge| judge["beside"]["calls"]["total"] == 6);
    assert_eq!((&judge["beside"]["differences"], &judge["beside"]["calls"]["failures"]), (&2.into(), &2.into()));
    // It stays until somebody decides.
    let (code, out, errors) = node.verb(&["discard", "judge"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert!(node.judge()["beside"].is_null());
    let newer = node.put(&behaving("deny", 2));
    node.until("the next shadow", |judge| judge["beside"]["digest"] == *newer);
    let (code, out, errors) = node.verb(&["promote", "judge", "--json"]);
    assert!(code == 0 && out.contains(&newer), "{out}{errors}");
    assert_eq!(count(&publish(&mut devices, "x").await, PubAckReason::NotAuthorized), 2);
}

/// What a shadow does to the state is not there afterwards, and it finds what the running version found, not what that left.
#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_meets_the_state_as_the_running_version_did() {
    let name = "lock-command-verifier";
    let tables = smart_lock::tables().replace("settings = { max_age_s = 30 }", "settings = { max_age_s = 30 }\nshadow = {}");
    let gate = Gate::start(&tables, &["lock_command_verifier", "low_battery"]).await;
    let mut app = Device::connect(gate.address(), "app").await;
    let path = gate.folder.path().join("lock_command_verifier.wasm");
    replace(&path, &another_version(&fs::read(&path).unwrap(), 1));
    gate.until("the shadow", |gate| gate.bridge.metrics().guest_versions.get_or_create(&name.into()).get() == 2).await;
    let good = command(KEY, "1", "n-1", now_s());
    for expected in [PASSED, PubAckReason::NotAuthorized, PubAckReason::NotAuthorized] {
        assert_eq!(app.publish("devices/1/command", good.clone()).await.reason, expected, "a nonce is new only once");
    }
    let seen = |gate: &Gate| {
        let metrics = gate.bridge.metrics();
        let of = |family: &hookgate::metrics::PerName| family.get_or_create(&name.into()).get();
        (of(&metrics.guest_shadow_calls), of(&metrics.guest_shadow_differences), of(&metrics.guest_shadow_dropped))
    };
    gate.until("the shadow's answers", |gate| seen(gate).0 == 3).await;
    assert_eq!(seen(&gate), (3, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_rolls_back_and_a_restart_knows() {
    let node = Node::start("", &behaving("pass", 0));
    let old = node.judge()["digest"].as_str().unwrap().to_owned();
    let bad = node.put(&behaving("deny", 1));
    node.until("the swap", |judge| judge["digest"] == *bad);
    assert_eq!(count(&publish(&mut node.devices(1).await, "x").await, PubAckReason::NotAuthorized), 1);
    let (code, out, errors) = node.verb(&["rollback", "judge"]);
    assert!(code == 0 && out.contains(&old[..12]) && out.contains("(operator)"), "{out}{errors}");
    assert_eq!(count(&publish(&mut node.devices(1).await, "x").await, PASSED), 1);

    let node = node.restart();
    let judge = node.judge();
    assert_eq!((&judge["digest"], &judge["refused"]["digest"]), (&Value::from(old.clone()), &Value::from(bad.clone())));
    assert_eq!(judge["history"].as_array().map(Vec::len), Some(2));
    assert_eq!(count(&publish(&mut node.devices(1).await, "x").await, PASSED), 1);
    // Looking again changes nothing, and there is nothing to go back to; what was rolled back can be had by its digest.
    let (code, _, errors) = node.verb(&["reload"]);
    assert_eq!((code, node.judge()["digest"].as_str()), (0, Some(&*old)), "{errors}");
    let (code, _, errors) = node.verb(&["rollback", "judge"]);
    assert!(code == 1 && errors.contains("no former version is kept") && errors.contains("help:"), "{errors}");
    let (code, _, errors) = node.verb(&["rollback", "nobody"]);
    assert!(code == 1 && errors.contains("no guest \"nobody\""), "{errors}");
    let (code, _, errors) = node.verb(&["rollback", "judge", "--to", &bad[..8]]);
    assert_eq!((code, node.judge()["digest"].as_str()), (0, Some(&*bad)), "{errors}");
    // A new file is taken as ever.
    let newer = node.put(&behaving("pass", 2));
    node.until("the swap", |judge| judge["digest"] == *newer && judge["refused"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_keep_a_version_out_and_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let sample = |payload: &str| {
        format!("{{\"hook\": \"message.publish\", \"message\": {{\"topic\": \"a\", \"payload\": \"{payload}\"}}, \"verdict\": \"pass\"}}\n")
    };
    fs::write(folder.path().join("samples.jsonl"), sample("x") + &sample("a trap")).unwrap();
    fs::write(folder.path().join("judge.wasm"), behaving("pass", 0)).unwrap();
    let mut node = Node::start_in(folder, "trial = { samples = \"samples.jsonl\", verdicts = \"same\" }");
    let old = node.judge()["digest"].clone();
    for (mode, words) in
        [("trap-sometimes", "samples.jsonl:2 failed: it trapped"), ("deny", "samples.jsonl:1 is answered another way: verdict: pass")]
    {
        node.put(&behaving(mode, 1));
        let line = strip_ansi(&node.process.line("at the step samples"));
        assert!(line.contains(words), "{line}");
        assert_eq!(node.judge()["digest"], old);
        let (code, _, errors) = node.verb(&["reload", "judge"]);
        assert!(code == 1 && errors.contains(words), "{errors}");
    }
    let good = node.put(&behaving("pass", 2));
    node.until("the swap", |judge| judge["digest"] == *good);
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_outlives_the_process_and_a_damaged_file_does_not_matter() {
    let node = Node::start("", &behaving("pass", 0));
    assert_eq!((node.metric("hookgate_guest_compilations_total"), node.metric("hookgate_guest_cache_hits_total")), (1, 0));
    let node = node.restart();
    assert_eq!((node.metric("hookgate_guest_compilations_total"), node.metric("hookgate_guest_cache_hits_total")), (0, 1));
    let compiled = node.folder.path().join("data/guests/compiled");
    let file = fs::read_dir(compiled).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let node = node.restart();
    assert_eq!((node.metric("hookgate_guest_compilations_total"), node.metric("hookgate_guest_cache_hits_total")), (1, 0));
    assert_eq!(count(&publish(&mut node.devices(1).await, "x").await, PASSED), 1);
    // A restart in the middle of a canary begins it again, rather than letting everybody meet it.
    let node = {
        node.process.signal("TERM");
        node.process.end();
        Node::start_in(node.folder, "canary = { for = \"1h\" }")
    };
    let old = node.judge()["digest"].clone();
    let new = node.put(&behaving("deny", 1));
    node.until("the canary", |judge| judge["beside"]["digest"] == *new);
    let judge = node.restart().judge();
    assert_eq!((&judge["digest"], &judge["beside"]["digest"]), (&old, &Value::from(new)));
}

/// The configurations of the page are good, and the samples of the page are samples.
#[test]
fn the_examples_of_the_page_are_right() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rollout.md")).unwrap();
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        let parts = page.split(&fence).skip(1);
        parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
    };
    let (configurations, samples) = (blocks("toml"), blocks("jsonl"));
    assert!(configurations.len() >= 4 && !samples.is_empty());
    for text in configurations {
        let (_, problems) = hookgate::config::Config::parse("hookgate.toml".as_ref(), &text);
        assert_eq!(problems, [], "{text}");
    }
    for text in samples {
        let samples = hookgate::guest::Samples::read("samples.jsonl".as_ref(), text.as_bytes());
        assert!(!samples.map(|sample| sample.unwrap()).collect::<Vec<_>>().is_empty());
    }
}
