//! Chains of real guests, told as a table: routes and their guests on the left, what becomes of the message on the right.

use super::*;
use crate::{
    event::Detail,
    pipeline::stage::{Stage, event, message, routes},
};

/// What becomes of a message on topic `a`, in words.
async fn outcome(stage: &Stage, tables: &str) -> String {
    let plan = stage.plan(tables).await;
    let message = Arc::new(message());
    let event = event(Detail::MessagePublish(Arc::clone(&message)));
    describe(judge(&stage.pipeline, &plan, &event, message).await, &event)
}

fn describe(judgement: Judgement<'_>, event: &Event) -> String {
    match judgement {
        Judgement::Through(message, matched) => {
            let routes: Vec<String> = matched
                .iter()
                .map(|(route, shaping)| {
                    let records = shaping.records.as_ref().map_or(String::new(), |records| format!("+{}", records.len()));
                    format!("{}{records}", route.name)
                })
                .collect();
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            format!("{} on {} with {} headers to {}", payload, message.topic, message.annotations.len(), routes.join(" "))
        }
        Judgement::Ended(end) => {
            let decision = match &end.decision {
                Decision::Accept(_) => "accept".to_owned(),
                Decision::Swallow => "swallow".to_owned(),
                Decision::Deny(denial) => format!("deny {:#x}", denial.reason_code),
            };
            let payload = String::from_utf8_lossy(&end.message.payload).into_owned();
            let letter = end.letter.map_or(String::new(), |letter| {
                let record = letter.record(&"dead".into(), event, &"n".into());
                let header = |name: &str| record.headers.iter().find(|header| &*header.name == name).map(|header| header.value.to_string());
                format!(", letter of {} by {}", header("guest").unwrap(), header("route").unwrap())
            });
            format!("{decision}: {} of {payload} ({}){letter}", end.reason.name(), end.explanation)
        }
    }
}

const DENIED: &str = "deny 0x87: denied of original (hostile: denied as told)";
const DROPPED: &str = "swallow: filtered of original (hostile: dropped as told)";

#[tokio::test]
async fn the_strictest_verdict_holds_in_any_order() {
    let stage = Stage::new(&["pass", "one", "two", "to-trap", "trap-on-it", "to-b", "emit", "drop", "deny"]).await;
    for (routes_text, expected) in [
        // One guest.
        ("a: pass", "original on a with 0 headers to r0"),
        ("a: one", "one on a with 1 headers to r0"),
        ("a: drop", DROPPED),
        ("a: deny", DENIED),
        // Guests of one route, in order.
        ("a: one two", "two on a with 2 headers to r0"),
        ("a: two one", "one on a with 2 headers to r0"),
        ("a: one one", "one on a with 1 headers to r0"),
        ("a: drop deny", DENIED),
        ("a: deny drop", DENIED),
        ("a: drop one", DROPPED),
        ("a: one drop", "swallow: filtered of one (hostile: dropped as told)"),
        ("a: emit one", "one on a with 1 headers to r0+2"),
        // Each sees what the one before left.
        ("a: to-trap trap-on-it", "deny 0x83: guest-failed of a trap (guest trap-on-it: trap)"),
        ("a: trap-on-it to-trap", "a trap on a with 1 headers to r0"),
        ("a: to-trap one trap-on-it", "one on a with 2 headers to r0"),
        ("a: drop to-trap trap-on-it", "deny 0x83: guest-failed of a trap (guest trap-on-it: trap)"),
        // Routes.
        ("a: one; #: two; b: pass", "two on a with 2 headers to r0 r1"),
        ("a: emit; a: pass", "original on a with 0 headers to r0+2 r1"),
        ("a: drop; #: deny", DENIED),
        ("a: deny; #: drop", DENIED),
        ("a: pass; #: drop", DROPPED),
        ("a:; #: drop", DROPPED),
        ("b: deny; a: one", "one on a with 1 headers to r1"),
        // A guest that two routes name is asked by the first.
        ("a: emit; #: emit", "original on a with 0 headers to r0+2 r1"),
        // A route meets the topic as it is by then.
        ("a: to-b; b: one; a: deny", "one on b with 1 headers to r0 r1"),
        ("b: deny; a: to-b", "original on b with 0 headers to r1"),
        ("a: drop to-b; b: deny", "deny 0x87: denied of original (hostile: denied as told)"),
    ] {
        assert_eq!(outcome(&stage, &routes(routes_text)).await, expected, "{routes_text}");
    }
}

#[tokio::test]
async fn a_failure_counts_as_its_policy_says() {
    let stage = Stage::new(&["trap", "one", "drop", "deny"]).await;
    let failed = "guest-failed of original (guest trap: trap";
    for (routes_text, expected) in [
        ("a: trap on-failure=deny", format!("deny 0x83: {failed})")),
        ("a: trap on-failure=drop", format!("swallow: {failed})")),
        ("a: trap on-failure=pass", "original on a with 0 headers to r0".to_owned()),
        ("a: trap on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap one on-failure=pass", "one on a with 1 headers to r0".to_owned()),
        // deny > dead letter > drop > pass, whatever comes first
        ("a: drop trap on-failure=deny", format!("deny 0x83: {failed})")),
        ("a: drop trap on-failure=pass", DROPPED.to_owned()),
        ("a: drop trap on-failure=drop", DROPPED.to_owned()),
        ("a: trap drop on-failure=drop", format!("swallow: {failed})")),
        ("a: drop trap on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap drop on-failure=dead-letter", format!("swallow: {failed}, kept as a dead letter), letter of trap by r0")),
        ("a: trap on-failure=dead-letter; #: deny", DENIED.to_owned()),
        ("a: trap on-failure=drop; #: deny", DENIED.to_owned()),
        // The policy is of the route that asks.
        ("b: trap on-failure=deny; a: trap on-failure=pass", "original on a with 0 headers to r1".to_owned()),
        ("#: trap on-failure=pass; a: trap on-failure=deny", "original on a with 0 headers to r0 r1".to_owned()),
    ] {
        assert_eq!(outcome(&stage, &routes(routes_text)).await, expected, "{routes_text}");
    }
}

#[tokio::test]
async fn nobody_is_asked_after_a_denial_and_everybody_after_a_drop() {
    let stage = Stage::new(&["deny", "drop", "pass", "two"]).await;
    for (routes_text, asked) in [("a: deny pass; #: two", 0), ("a: drop pass; #: two", 1), ("a: pass; #: pass two", 1)] {
        let before = (stage.calls("pass"), stage.calls("two"));
        outcome(&stage, &routes(routes_text)).await;
        assert_eq!((stage.calls("pass") - before.0, stage.calls("two") - before.1), (asked, asked), "{routes_text}");
    }
}

#[tokio::test]
async fn a_guest_is_asked_again_as_often_as_the_route_says() {
    let stage = Stage::new(&["trap", "deny", "pass"]).await;
    let retry = "{ retry = 2, backoff = \"1ms\", then = \"dead-letter\" }";
    let table = |guest: &str| {
        format!("[[route]]\nname = \"r\"\nhook = \"message.publish\"\nfilter = \"a\"\nguests = [\"{guest}\"]\non_failure = {retry}\n")
    };
    for (guest, calls, retries) in [("trap", 3, 2), ("deny", 1, 0), ("pass", 1, 0)] {
        let before = stage.calls(guest);
        let outcome = outcome(&stage, &table(guest)).await;
        assert_eq!(stage.calls(guest) - before, calls, "{outcome}");
        assert_eq!(stage.pipeline.metrics.guest_retries.get_or_create(&guest.into()).get(), retries, "{guest}");
        assert_eq!(outcome.contains("letter"), guest == "trap", "{outcome}");
    }
}

#[tokio::test]
async fn a_dead_letter_says_who_failed_how_and_where() {
    let stage = Stage::new(&["one", "trap"]).await;
    let plan = stage.plan(&routes("a: one trap on-failure=dead-letter")).await;
    let message = Arc::new(message());
    let event = event(Detail::MessagePublish(Arc::clone(&message)));
    let Judgement::Ended(end) = judge(&stage.pipeline, &plan, &event, message).await else { panic!("it traps") };
    let record = end.letter.unwrap().record(&"dead".into(), &event, &"n1".into());
    let header = |name: &str| {
        let found: Vec<&str> = record.headers.iter().filter(|header| &*header.name == name).map(|header| &*header.value).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    };
    for (name, value) in [
        ("route", "r0"),
        ("hook", "message.publish"),
        ("guest", "trap"),
        ("version", stage.guests.get("trap").unwrap().current().digest()),
        ("failure", "trap"),
        ("attempts", "1"),
    ] {
        assert_eq!(header(name), value, "{name}");
    }
    assert_eq!(record.id.unwrap().text().as_str(), "00000000000000ff");
    assert!(header("time").parse::<u64>().unwrap() > event.time_ms);
    assert!(header("error").contains("hostile: trapped as told"), "{}", header("error"));
    assert!(header("backtrace").lines().count() > 1 && header("backtrace").contains("Hostile"), "{}", header("backtrace"));
    assert_eq!((&*record.topic, record.key.as_deref()), ("dead", Some(&b"c"[..])));
    let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(value["message"]["payload"], "b3JpZ2luYWw=", "as the client published it: {value}");
}
