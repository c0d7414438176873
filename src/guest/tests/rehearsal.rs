//! Calls that were traced, asked again.

use super::*;

const VERIFIER: &str = "lock_command_verifier";

/// The flagship with a key of this content and a state of its own.
async fn verifier(engine: &Engine, secret: &str, settings: &str) -> Loaded {
    let text = format!(
        "grants = [\"settings\", \"crypto\", \"state\"]\nkeys = [\"lock-hmac\"]\nsettings = {{ {settings} }}\n[[key]]\nname = \"lock-hmac\"\ntext = \"{secret}\""
    );
    load(engine, VERIFIER, &text).await.unwrap()
}

/// Asks for real, at second 1 700 000 001, and writes the call down.
async fn traced(loaded: &Loaded, id: u64, message: Message) -> Sample {
    let trace = Trace::new();
    let asked = Asked { trace: Some(&trace), ..Asked::new(id, 1_700_000_001_000, "node-1") };
    let (client, message) = (client(), Arc::new(message));
    let answer = loaded.guest.publish(asked, &client, &message).await;
    let sample = loaded.guest.sample(asked, &client, Question::Publish(message), &trace, &answer).expect("it was called");
    serde_json::from_str(&serde_json::to_string(&sample).unwrap()).unwrap()
}

fn words(rehearsed: &Rehearsed) -> Vec<String> {
    rehearsed.differences.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_call_meets_the_circumstances_that_it_met() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let real = verifier(&engine, "secret", "max_age_s = 30").await;
    let mut samples = Vec::new();
    for (id, nonce, secret) in [(1, "n1", "secret"), (2, "n1", "secret"), (3, "n2", "guessed"), (1, "n1", "secret")] {
        samples.push(traced(&real, id, command(nonce, secret.as_bytes())).await);
    }
    let reads: Vec<usize> = samples.iter().map(|sample| sample.recorded.state.len()).collect();
    assert_eq!(reads, [1, 2, 0, 2], "{samples:#?}");
    assert!(samples.iter().all(|sample| sample.recorded.crypto.len() == 1 && sample.recorded.duration_ns > 0));

    // On itself, where the nonces are known meanwhile; on a version that knows nothing, and has another key.
    for version in [&real, &verifier(&engine, "another", "max_age_s = 30").await] {
        let keys = version.guest.state().keys();
        for sample in samples.iter().chain(&samples) {
            let rehearsed = version.guest.rehearse(sample, Beneath::Nothing).await.unwrap();
            assert_eq!(words(&rehearsed), [""; 0], "{sample:#?}");
            assert_eq!(rehearsed.recorded.state, sample.recorded.state);
        }
        assert_eq!(version.guest.state().keys(), keys, "nothing is written");
    }
    let page = real.metrics.render();
    assert!(page.contains(&format!("hookgate_guest_calls_total{{name=\"{VERIFIER}\"}} 4")), "{page}");

    let strict = verifier(&engine, "secret", "max_age_s = 1").await;
    let later = Sample { time_ms: 1_700_000_002_000, ..samples[0].clone() };
    let rehearsed = strict.guest.rehearse(&later, Beneath::Nothing).await.unwrap();
    assert_eq!(words(&rehearsed), ["verdict: change → deny 0x87 \"stale\"", "headers: verified: true → –"]);
}

#[tokio::test]
async fn a_fresh_call_reads_through_to_the_real_state() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let real = verifier(&engine, "secret", "").await;
    let sample = traced(&real, 1, command("n1", b"secret")).await;
    let stranger = Sample { id: 2, recorded: Recorded::default(), ..sample };
    for (beneath, expected) in
        [(Beneath::Nothing, vec![]), (Beneath::RealState, vec!["verdict: change → deny 0x87 \"replayed\"", "headers: verified: true → –"])]
    {
        for _ in 0..2 {
            assert_eq!(words(&real.guest.rehearse(&stranger, beneath).await.unwrap()), expected, "{beneath:?}");
        }
    }
    assert_eq!(real.guest.state().keys(), 1);
}

#[tokio::test]
async fn failures_are_held_against_nobody() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let passing = load(&engine, "identity", "").await.unwrap();
    let sample = traced(&passing, 1, message()).await;
    let trapping = hostile(&engine, "trap", "").await.unwrap();
    for _ in 0..100 {
        let rehearsed = trapping.guest.rehearse(&sample, Beneath::RealState).await.unwrap();
        assert!(words(&rehearsed)[0].starts_with("verdict: pass → failure trap: it trapped"), "{rehearsed:?}");
    }
    let label = crate::metrics::ReasonLabel { name: "hostile".to_owned(), reason: "trap".to_owned() };
    assert_eq!(trapping.metrics.guest_failures.get_or_create(&label).get(), 0);
    let reason = trapping.publish().await.map_err(|failure| failure.reason());
    assert_eq!(reason, Err("trap"), "its circuit is closed");
}

#[tokio::test]
async fn what_is_incomplete_is_not_asked() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let passing = load(&engine, "identity", "").await.unwrap();
    let sample = traced(&passing, 1, message()).await;
    let truncated = Sample { recorded: Recorded { truncated: true, ..sample.recorded.clone() }, ..sample.clone() };
    let withheld = Sample { question: Question::Authenticate { method: None, password: Secret::Withheld }, ..sample.clone() };
    for sample in [truncated, withheld] {
        assert!(passing.guest.rehearse(&sample, Beneath::Nothing).await.is_none());
    }
    assert!(passing.guest.rehearse(&sample, Beneath::Nothing).await.is_some());
}
