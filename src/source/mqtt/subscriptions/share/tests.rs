//! Who gets what, by strategy, connection and room.

use super::*;
use crate::{
    config::Mqtt,
    event::{DropReason, QoS, Text},
    source::mqtt::{
        mailbox::{Mailbox, Queued},
        samples::{client, granted, message},
        subscriptions::Subscriptions,
    },
};

/// Three members, named 1 to 3, with room for `room` messages each.
struct Trio {
    subscriptions: Subscriptions,
    mailboxes: Vec<Arc<Mailbox>>,
}

const FILTER: &str = "$share/g/a/+";
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

impl Trio {
    fn new(strategy: SharedStrategy, room: usize) -> Self {
        let subscriptions = Subscriptions::new(strategy);
        let limits = Mqtt { max_queued_messages: room, ..Mqtt::default() };
        let mut mailboxes = Vec::new();
        for session in 1..=3_u32 {
            let member = client(&session.to_string());
            let mailbox = Mailbox::new(&member, &limits);
            mailbox.attach(&member);
            let granted = granted(QOS[session as usize - 1], Some(session));
            subscriptions.insert(&Text::from_static(FILTER), session.into(), &mailbox, granted);
            mailboxes.push(mailbox);
        }
        Trio { subscriptions, mailboxes }
    }

    /// Publishes; the member that got it, or why nobody did.
    fn publish(&self, publisher: &str, topic: &str) -> Result<usize, DropReason> {
        let message = Message { publisher: publisher.into(), ..message(topic, QoS::ExactlyOnce, "x") };
        let groups = self.subscriptions.receivers(topic, publisher).groups;
        assert_eq!(groups.len(), 1, "one group, however many members");
        groups[0].deliver(&Arc::new(message), None).map_err(|rejected| rejected.reason)?;
        let mut got = Vec::new();
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            let mut parcels = Vec::new();
            mailbox.take(usize::MAX, usize::MAX, &mut parcels);
            for Queued { parcel, .. } in parcels {
                assert_eq!((parcel.qos, &*parcel.subscription_ids), (QOS[index], &[index as u32 + 1][..]), "as this member subscribed");
                assert_eq!(parcel.share.as_deref(), Some(FILTER));
                got.push(index + 1);
            }
        }
        assert_eq!(got.len(), 1, "{got:?}");
        Ok(got[0])
    }

    fn round(&self, count: usize) -> Vec<usize> {
        (0..count).map(|number| self.publish(&format!("p{number}"), &format!("a/{number}")).expect("there is room")).collect()
    }
}

#[test]
fn round_robin_goes_around_those_who_are_there() {
    let trio = Trio::new(SharedStrategy::RoundRobin, 9);
    assert_eq!(trio.round(6), [1, 2, 3, 1, 2, 3]);
    trio.mailboxes[1].detach();
    assert_eq!(trio.round(4), [1, 3, 1, 3], "who is away waits");
    trio.mailboxes.iter().for_each(|mailbox| mailbox.detach());
    assert_eq!(trio.round(3), [1, 2, 3], "when all are away it waits for one of them");
    trio.subscriptions.remove(FILTER, 2);
    assert_eq!(trio.round(3).iter().filter(|member| **member == 2).count(), 0);
}

#[test]
fn sticky_stays_until_its_member_is_gone() {
    let trio = Trio::new(SharedStrategy::Sticky, 9);
    let first = trio.round(1)[0];
    assert_eq!(trio.round(5), [first; 5]);
    trio.mailboxes[first - 1].detach();
    let second = trio.round(1)[0];
    assert_ne!(second, first);
    trio.mailboxes[first - 1].attach(&client("back"));
    assert_eq!(trio.round(5), [second; 5], "it does not turn back");
    trio.subscriptions.remove(FILTER, second as u64);
    assert!(!trio.round(5).contains(&second));
}

#[test]
fn hashes_are_constant_and_spread() {
    for (strategy, by_topic) in [(SharedStrategy::HashTopic, true), (SharedStrategy::HashClient, false)] {
        let trio = Trio::new(strategy, 9);
        let mut seen = [0; 4];
        for number in 0..60 {
            let (publisher, topic) =
                if by_topic { ("p".to_owned(), format!("a/{number}")) } else { (format!("p{number}"), "a/b".to_owned()) };
            let got = trio.publish(&publisher, &topic).unwrap();
            let other = if by_topic { trio.publish("q", &topic) } else { trio.publish(&publisher, "a/c") };
            assert_eq!(other, Ok(got), "{strategy:?}");
            seen[got] += 1;
        }
        assert!(seen[1..].iter().all(|count| *count > 0), "{strategy:?} {seen:?}");
    }
}

#[test]
fn random_reaches_everybody() {
    let trio = Trio::new(SharedStrategy::Random, 9);
    let got = trio.round(200);
    assert!((1..=3).all(|member| got.contains(&member)));
}

#[test]
fn who_has_no_room_is_passed_over() {
    let strategies =
        [SharedStrategy::RoundRobin, SharedStrategy::Random, SharedStrategy::Sticky, SharedStrategy::HashClient, SharedStrategy::HashTopic];
    for strategy in strategies {
        let trio = Trio::new(strategy, 2);
        trio.mailboxes[2].detach();
        let group = trio.subscriptions.group(FILTER).expect("it has members");
        let deliver = || group.deliver(&Arc::new(message("a/b", QoS::AtLeastOnce, "x")), None).map_err(|rejected| rejected.reason);
        let waiting = || {
            trio.mailboxes.iter().map(|mailbox| {
                let mut parcels = Vec::new();
                mailbox.take(usize::MAX, usize::MAX, &mut parcels);
                parcels.into_iter().map(|queued| mailbox.push(queued.parcel).expect("it was there")).count()
            })
        };
        for _ in 0..4 {
            assert_eq!(deliver(), Ok(()));
        }
        assert_eq!(waiting().collect::<Vec<_>>(), [2, 2, 0], "{strategy:?}: the connected ones first");
        assert_eq!((deliver(), deliver()), (Ok(()), Ok(())));
        assert_eq!(waiting().collect::<Vec<_>>(), [2, 2, 2], "{strategy:?}: then who is away");
        assert_eq!(deliver(), Err(DropReason::QueueFull), "{strategy:?}");
    }
}

#[test]
fn a_group_goes_with_its_last_member() {
    let trio = Trio::new(SharedStrategy::RoundRobin, 9);
    let group = trio.subscriptions.receivers("a/b", "p").groups.remove(0);
    (1..=3).for_each(|session| trio.subscriptions.remove(FILTER, session));
    assert!(trio.subscriptions.receivers("a/b", "p").is_empty() && trio.subscriptions.group(FILTER).is_none());
    group.deliver(&Arc::new(message("a/b", QoS::AtLeastOnce, "x")), None).expect("what was on its way goes to the last member");
    trio.mailboxes.iter().for_each(|mailbox| drop(mailbox.close()));
    let late = group.deliver(&Arc::new(message("a/b", QoS::AtLeastOnce, "x")), None);
    assert_eq!(late.map_err(|rejected| rejected.reason), Err(DropReason::SessionEnded));
}
