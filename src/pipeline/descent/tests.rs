use std::fmt::Write as _;

use super::*;
use crate::{
    event::{Fetched, Outcome, Settlements},
    pipeline::stage::{Stage, client, message},
};

/// One downlink `d`, as `guest guest on-failure=drop retry=2`.
fn downlink(words: &str) -> String {
    let (mut guests, mut policy, mut retry) = (Vec::new(), "dead-letter", None);
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("on-failure", value)) => policy = value,
            Some(("retry", value)) => retry = Some(value),
            _ => guests.push(format!("\"{word}\"")),
        }
    }
    let mut table = format!("[[downlink]]\nname = \"d\"\ntopics = [\"down\"]\ntopic = \"a\"\nguests = [{}]\n", guests.join(", "));
    match retry {
        Some(times) => writeln!(table, "on_failure = {{ retry = {times}, backoff = \"0ms\", then = \"{policy}\" }}").unwrap(),
        None => writeln!(table, "on_failure = \"{policy}\"").unwrap(),
    }
    table
}

fn descent(downlink: &str) -> Descent {
    let fetched = Fetched {
        topic: "down".into(),
        partition: 0,
        offset: 7,
        timestamp_ms: None,
        key: Some("lock-1".into()),
        value: Some("v".into()),
        headers: Vec::new(),
    };
    let messages = vec![Message { publisher: "$downlink/d".into(), received_at_ms: 5, ..message() }];
    Descent { downlink: downlink.into(), publisher: "$downlink/d".into(), received_at_ms: 5, fetched, messages }
}

/// What becomes of a record, in words.
async fn outcome(stage: &Stage, words: &str) -> String {
    stage.pipeline.install(stage.plan(&downlink(words)).await);
    let settlements = Settlements::new();
    let receipt = Receipt::open(1, &settlements);
    let descended = stage.pipeline.descend(&client(), descent("d"), &receipt).await;
    receipt.settle(Outcome::Stored);
    let mut settled = Vec::new();
    settlements.take(&mut settled);
    assert!(matches!(&settled[..], [settlement] if settlement.outcome == Outcome::Stored), "{settled:?}");
    match descended {
        Descended::Publish(messages) => {
            assert!(messages.iter().all(|message| &*message.publisher == "$downlink/d" && message.received_at_ms == 5));
            let text = |message: &Message| format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload));
            messages.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        Descended::Dropped { reason, explanation } => format!("{}: {explanation}", reason.name()),
        Descended::Failed(fallen) => format!("letter: {} {} {}", fallen.guest.name(), fallen.failure.reason(), fallen.calls),
    }
}

#[tokio::test]
async fn each_guest_sees_what_the_former_left_and_a_drop_ends_it() {
    let stage = Stage::new(&["pass", "one", "two", "to-b", "emit", "drop", "trap"]).await;
    for (words, expected) in [
        ("pass", "a=original"),
        ("one two", "a=originalonetwo"),
        ("one to-b two", "b=originalonetwo"),
        ("emit one", "emitted/1=emittedone emitted/2=emittedone"),
        ("one drop two", "filtered: hostile: dropped as told"),
        ("trap", "letter: trap trap 1"),
        ("trap retry=2", "letter: trap trap 3"),
        ("trap on-failure=drop", "guest-failed: guest trap: trap"),
        ("trap one on-failure=pass", "a=originalone"),
        ("drop trap", "filtered: hostile: dropped as told"),
    ] {
        assert_eq!(outcome(&stage, words).await, expected, "{words}");
    }
    let counted = |reason: &str| stage.pipeline.metrics.messages_dropped.get_or_create(&reason.into()).get();
    assert_eq!((counted("filtered"), counted("guest-failed")), (2, 3), "message.dropped tells of each");
}

#[tokio::test]
async fn a_downlink_without_guests_asks_nobody() {
    let stage = Stage::new(&["pass"]).await;
    let descended = stage.pipeline.descend(&client(), descent("another"), &Receipt::nobody()).await;
    assert!(matches!(descended, Descended::Publish(messages) if messages.len() == 1));
}
