//! Against a naive model.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    source::mqtt::samples::{client, granted, message, options},
    topic::matches,
};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn mailbox(id: &str) -> Arc<Mailbox> {
    Mailbox::new(&client(id), &crate::config::Mqtt::default())
}

/// Session, QoS and sorted identifiers of every receiver, by session.
fn seen(subscriptions: &Subscriptions, topic: &str, publisher: &str) -> Vec<(u64, QoS, Vec<u32>)> {
    let mut receivers: Vec<_> = subscriptions
        .receivers(topic, publisher)
        .sessions
        .into_iter()
        .map(|mut receiver| {
            receiver.subscription_ids.sort_unstable();
            (receiver.session, receiver.qos, receiver.subscription_ids)
        })
        .collect();
    receivers.sort();
    receivers
}

#[derive(Clone, Debug)]
enum Step {
    Insert { session: u64, filter: String, qos: usize },
    Remove { session: u64, filter: String },
}

fn step() -> impl Strategy<Value = Step> {
    let filter = "(\\+|a|b|\\$x|)(/(\\+|a|b|)){0,3}(/#)?".prop_filter("filters are not empty", |filter| !filter.is_empty());
    let filter = prop_oneof![9 => filter, 1 => Just("#".to_owned())];
    let filter = (filter, prop_oneof![2 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")]);
    let filter = filter.prop_map(|(filter, share)| format!("{share}{filter}"));
    (0..5_u64, filter, 0..3_usize, any::<bool>()).prop_map(|(session, filter, qos, insert)| {
        if insert { Step::Insert { session, filter, qos } } else { Step::Remove { session, filter } }
    })
}

proptest! {
    /// Against a list that is searched from end to end.
    #[test]
    fn agrees_with_a_naive_list(steps in vec(step(), 0..40), topics in vec("(a|b|\\$x|)(/(a|b|)){0,4}", 1..10)) {
        let subscriptions = Subscriptions::default();
        let mailboxes: Vec<_> = (0..5).map(|session| mailbox(&session.to_string())).collect();
        let mut naive: Vec<(u64, String, QoS, u32)> = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { session, filter, qos } => {
                    naive.retain(|(other, held, ..)| (*other, held) != (session, &filter));
                    naive.push((session, filter.clone(), QOS[qos], index as u32 + 1));
                    let granted = granted(QOS[qos], Some(index as u32 + 1));
                    subscriptions.insert(&filter.as_str().into(), session, &mailboxes[session as usize], granted);
                }
                Step::Remove { session, filter } => {
                    naive.retain(|(other, held, ..)| (*other, held) != (session, &filter));
                    subscriptions.remove(&filter, session);
                }
            }
        }
        for topic in topics.iter().filter(|topic| !topic.is_empty()) {
            let mut expected = Vec::new();
            for session in 0..5 {
                let own: Vec<_> = naive
                    .iter()
                    .filter(|(other, filter, ..)| *other == session && !filter.starts_with("$share/") && matches(filter, topic))
                    .collect();
                let Some(qos) = own.iter().map(|(_, _, qos, _)| *qos).max() else { continue };
                let mut ids: Vec<u32> = own.iter().map(|(.., id)| *id).collect();
                ids.sort_unstable();
                expected.push((session, qos, ids));
            }
            prop_assert_eq!(seen(&subscriptions, topic, "publisher"), expected, "topic {}", topic);
            let members = |filter: &str| naive.iter().filter(|(_, held, ..)| held == filter).map(|(session, ..)| *session).collect::<Vec<_>>();
            let mut groups: Vec<_> = naive.iter().map(|(_, filter, ..)| filter.clone()).filter(|filter| {
                filter.strip_prefix("$share/").is_some_and(|rest| matches(&rest[2..], topic))
            }).collect();
            groups.sort();
            groups.dedup();
            let mut found = subscriptions.receivers(topic, "publisher").groups;
            found.sort_by(|first, second| first.filter().cmp(second.filter()));
            prop_assert_eq!(found.iter().map(|group| group.filter().to_owned()).collect::<Vec<_>>(), groups, "topic {}", topic);
            for group in found {
                group.deliver(&Arc::new(message(topic, QoS::AtLeastOnce, "x")), None).expect("there is room");
                let mut got = Vec::new();
                for (session, mailbox) in mailboxes.iter().enumerate() {
                    let mut parcels = Vec::new();
                    mailbox.take(usize::MAX, usize::MAX, &mut parcels);
                    got.extend(parcels.iter().map(|_| session as u64));
                }
                prop_assert!(got.len() == 1 && members(group.filter()).contains(&got[0]), "{got:?} of {}", group.filter());
            }
        }
        for (session, filter, ..) in naive {
            subscriptions.remove(&filter, session);
        }
        prop_assert!(subscriptions.group("$share/g/#").is_none());
        prop_assert!(subscriptions.wild.read().is_empty(), "a filter was not freed");
        prop_assert!(subscriptions.exact.iter().all(|shard| shard.read().is_empty()), "a filter was not freed");
        prop_assert_eq!(subscriptions.wild_count.load(Ordering::Relaxed), 0);
    }

    /// Whatever order sessions come and go in.
    #[test]
    fn entries_of_one_filter_stay_sorted(sessions in vec(select(vec![1_u64, 2, 3, 4]), 0..12)) {
        let mut entries = Entries::default();
        for (index, session) in sessions.iter().enumerate() {
            if index % 3 == 2 {
                entries.take(*session);
            } else {
                entries.put(Entry { session: *session, mailbox: mailbox("a"), granted: granted(QoS::AtMostOnce, None) });
            }
            prop_assert!(entries.0.is_sorted_by(|first, second| first.session < second.session));
        }
    }
}

#[test]
fn no_local_spares_the_publisher_only() {
    let subscriptions = Subscriptions::default();
    let own = Granted {
        options: crate::source::mqtt::packet::SubscribeOptions { no_local: true, ..options(QoS::AtMostOnce) },
        subscription_id: None,
    };
    subscriptions.insert(&"a/#".into(), 1, &mailbox("one"), own);
    subscriptions.insert(&"a/b".into(), 2, &mailbox("two"), own);
    let sessions = |publisher| seen(&subscriptions, "a/b", publisher).into_iter().map(|(session, ..)| session).collect::<Vec<_>>();
    assert_eq!(sessions("one"), [2]);
    assert_eq!(sessions("two"), [1]);
    assert_eq!(sessions("three"), [1, 2]);
}
