//! Against a naive model, and the bounds.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    event::QoS,
    source::mqtt::samples::{expiring, message},
    topic::matches,
};

fn retained(max_messages: usize) -> Retained {
    Retained::new(max_messages, Metrics::new(), None)
}

fn keep(retained: &Retained, topic: &str, payload: &str) -> Kept {
    retained.keep(&Arc::new(message(topic, QoS::AtLeastOnce, payload)), None)
}

fn payloads(retained: &Retained, filter: &str) -> Vec<String> {
    let mut found: Vec<_> =
        retained.matching(filter, 0).iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect();
    found.sort();
    found
}

proptest! {
    #[test]
    fn agrees_with_a_naive_list(
        kept in vec(("(a|b|\\$x|)(/(a|b|)){0,3}", "[pq]?"), 0..30),
        filter in "(\\+|a|b|\\$x|)(/(\\+|a|b|)){0,3}(/#)?",
    ) {
        prop_assume!(!filter.is_empty());
        let (retained, mut naive) = (retained(100), std::collections::BTreeMap::new());
        for (topic, payload) in kept.iter().filter(|(topic, _)| !topic.is_empty()) {
            keep(&retained, topic, payload);
            if payload.is_empty() { naive.remove(topic) } else { naive.insert(topic, payload) };
        }
        let mut expected: Vec<_> = naive.iter().filter(|(topic, _)| matches(&filter, topic)).map(|(_, payload)| (*payload).clone()).collect();
        expected.sort();
        prop_assert_eq!(payloads(&retained, &filter), expected);
        prop_assert_eq!(retained.metrics.retained_messages.get(), naive.len() as i64);
        for topic in naive.into_keys() {
            keep(&retained, topic, "");
        }
        prop_assert!(retained.tree.read().root.levels.is_empty(), "a topic was not freed");
    }
}

#[test]
fn the_bound_holds_for_new_topics_only() {
    let retained = retained(2);
    assert_eq!((keep(&retained, "a", "1"), keep(&retained, "b", "1"), keep(&retained, "c", "1")), (Kept::Stored, Kept::Stored, Kept::Full));
    assert_eq!(
        (keep(&retained, "a", "2"), keep(&retained, "b", ""), keep(&retained, "c", "1")),
        (Kept::Stored, Kept::Cleared, Kept::Stored)
    );
    assert_eq!(payloads(&retained, "#"), ["1", "2"]);
    assert_eq!(keep(&retained, &"a/".repeat(MOST_TOPIC_LEVELS), "1"), Kept::Full);
}

#[test]
fn what_has_expired_is_not_given_and_goes() {
    let retained = retained(10);
    retained.keep(&Arc::new(expiring(message("a/b", QoS::AtMostOnce, "x"), 2)), None);
    assert_eq!(retained.matching("a/+", 1_999).len(), 1);
    assert_eq!(retained.matching("a/+", 2_000).len(), 0);
    assert_eq!(retained.metrics.retained_messages.get(), 0);
}
