//! What a new version goes through: samples, a shadow's existence, a probation.

use super::{
    versions::{ask, behaving, view},
    *,
};

/// Whose behaviour is in its file; with tables of its own.
fn tables(more: &str) -> String {
    format!("[[guest]]\nname = \"guest\"\npath = \"guest.wasm\"\ngrants = [\"settings\", \"log\"]\n{more}\n")
}

#[tokio::test]
async fn samples_refuse_what_fails_and_what_differs() {
    const PASSES: &str = r#"{"hook": "message.publish", "message": {"topic": "t", "payload": "x"}, "verdict": "pass"}"#;
    const TRAPS: &str = r#"{"hook": "message.publish", "message": {"topic": "t", "payload": "a trap"}}"#;
    const TRAPPED: &str = r#"{"hook": "message.publish", "message": {"topic": "t", "payload": "a trap"}, "failure": {"reason": "trap", "text": "it trapped"}}"#;
    const OTHERS: &str = r#"{"hook": "message.publish", "guest": "another", "message": {"topic": "t", "payload": "x"}}"#;
    for (verdicts, samples, mode, refusal) in [
        ("any", vec![PASSES], "pass", None),
        ("any", vec![PASSES], "deny", None),
        ("same", vec![PASSES], "pass", None),
        ("same", vec![PASSES, PASSES], "deny", Some("samples.jsonl:1 is answered another way: verdict: pass → deny 0x87")),
        ("any", vec![PASSES, TRAPS], "trap-sometimes", Some("samples.jsonl:2 failed: it trapped")),
        ("same", vec![PASSES, TRAPPED], "trap-sometimes", None),
        ("any", vec![OTHERS], "pass", Some("none of the 1 samples")),
        ("any", vec![PASSES, "{}"], "pass", Some("samples.jsonl:2: this is no sample")),
    ] {
        let deployment = Deployment::new();
        let config = deployment.config(&tables(&format!("trial = {{ samples = \"samples.jsonl\", verdicts = \"{verdicts}\" }}")));
        fs::write(deployment.path("samples.jsonl"), PASSES).unwrap();
        deployment.put(&behaving("pass", 0));
        let first = deployment.load(&config, &Guests::default()).await;
        fs::write(deployment.path("samples.jsonl"), samples.join("\n") + "\n").unwrap();
        let new = deployment.put(&behaving(mode, 1));
        let (guests, problems) = deployment.refresh(&config, &first).await;
        match refusal {
            None => assert_eq!((texts(&problems), view(&guests).current.digest()), (vec![], &*new), "{verdicts} {samples:?} {mode}"),
            Some(words) => {
                let found = texts(&problems).join("; ");
                assert!(found.contains("at the step samples") && found.contains(words), "{words}\n{found}");
                assert_ne!(view(&guests).current.digest(), new);
            }
        }
    }
}

#[tokio::test]
async fn a_circuit_that_opens_on_probation_brings_the_version_before_back() {
    for (more, comes_back) in [("", true), (", rollback = false", false), (", probation = \"100ms\"", false)] {
        let deployment = Deployment::new();
        let config = deployment.config(&tables(&format!("breaker = {{ min_calls = 4, open_for = \"1h\"{more} }}")));
        let old = deployment.put(&behaving("pass", 0));
        let mut guests = deployment.load(&config, &Guests::default()).await;
        let new = deployment.put(&behaving("trap", 1));
        guests = deployment.refresh(&config, &guests).await.0;
        if more.contains("probation") {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert_eq!(ask(&guests, 8, &new, "x").await, (8, 8), "four calls open it, and it is not asked any more");
        if comes_back {
            guests = deployment.settled(guests, &old).await;
            assert_eq!(ask(&guests, 8, &old, "x").await, (8, 0));
            assert_eq!(view(&guests).refused.map(|refused| refused.digest), Some(new));
            assert_eq!(deployment.rolled_back("circuit"), 1);
            assert_eq!(view(&deployment.refresh(&config, &guests).await.0).current.digest(), old, "the file still holds it");
        } else {
            deployment.registry.settle(&guests).await;
            assert_eq!((ask(&guests, 2, &new, "x").await, deployment.rolled_back("circuit")), ((2, 2), 0), "{more}");
        }
    }
}

#[tokio::test]
async fn a_shadow_sees_copies_and_nothing_acts_on_it() {
    let mut deployment = Deployment::new();
    let config = deployment.config(&tables("shadow = { share = 1.0, topic = \"differences\" }"));
    let (sender, mut differences) = mpsc::channel(100);
    deployment.registry = Registry::new(&config.runtime, &deployment.metrics, sender).unwrap();
    let old = deployment.put(&behaving("pass", 0));
    let first = deployment.load(&config, &Guests::default()).await;
    let new = deployment.put(&behaving("trap-sometimes", 1));
    let guests = deployment.refresh(&config, &first).await.0;
    assert_eq!(ask(&guests, 5, &old, "x").await, (5, 0));
    assert_eq!(ask(&guests, 3, &old, "a trap").await, (3, 0));
    let mut found = Vec::new();
    while found.len() < 3 {
        let difference = tokio::time::timeout(Duration::from_secs(30), differences.recv()).await.expect("a difference").unwrap();
        assert_eq!((&*difference.topic, &*difference.client_id), ("differences", &*format!("client-{}", found.len())));
        found.push(serde_json::from_slice::<serde_json::Value>(&difference.value).unwrap());
    }
    let record = &found[0];
    assert_eq!((&record["digest"], &record["verdict"]), (&serde_json::json!(old), &serde_json::json!("pass")), "{record}");
    let shadow = &record["shadow"];
    assert_eq!((&shadow["digest"], &shadow["failure"]["reason"]), (&serde_json::json!(new), &serde_json::json!("trap")), "{record}");
    assert_eq!(shadow["differences"][0]["what"], "verdict");

    let way = view(&guests).beside.expect("a shadow");
    let WayOf::Shadow { new: figures, differences: differ, dropped } = way.kind else { panic!("{way:?}") };
    assert_eq!((figures, differ, dropped), (Figures { calls: 8, failures: 3, refusals: 0 }, 3, 0));
    assert_eq!((deployment.swaps("guest").0, deployment.metrics.guest_calls.get_or_create(&"guest".into()).get()), (0, 8));
    assert!(deployment.registry.settle(&guests).await.is_none(), "it stays");
    let guests = deployment.registry.promote(&config, &guests, "guest").await.unwrap();
    assert_eq!((view(&guests).current.digest(), view(&guests).beside.is_none()), (&*new, true));
}
