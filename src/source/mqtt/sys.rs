//! `$SYS/`: the broker's figures as messages, under mosquitto's names (`$SYS/broker/…`) and EMQX's (`$SYS/brokers/<node>/…`).
//!
//! Made anew every `sys_interval_s`; what has changed goes to those who are subscribed and connected, and whoever subscribes gets the current
//! value at once, as a retained message. They are the server's own: no guest sees them, no hook is raised for them, Kafka does not get
//! them, and they wait for nobody. Absent: mosquitto's heap figures and bridges, EMQX's client events (hooks say the same better).

mod figures;
mod load;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::RwLock;

use self::{figures::Figures, load::Loads};
use super::{Phase, Shared};
use crate::{
    event::{Message, QoS, Text, now_ms},
    topic,
};

/// How soon it is noticed that the figures are wanted again.
const OFF: Duration = Duration::from_secs(10);

/// The current figures by topic.
#[derive(Debug, Default)]
pub(super) struct Sys {
    current: RwLock<BTreeMap<Text, Arc<Message>>>,
}

impl Sys {
    /// Those that a new subscription to `filter` brings.
    pub(super) fn matching(&self, filter: &str) -> Vec<Arc<Message>> {
        self.current.read().values().filter(|message| topic::matches(filter, &message.topic)).map(Arc::clone).collect()
    }

    /// Takes new figures; the messages for those that have changed.
    fn replace(&self, figures: Vec<(Text, String)>, now_ms: u64) -> Vec<Arc<Message>> {
        let mut current = self.current.write();
        let mut changed = Vec::new();
        for (topic, value) in figures {
            if current.get(&topic).is_none_or(|message| message.payload != value.as_bytes()) {
                let message = Arc::new(message(topic.clone(), value, now_ms));
                changed.push(Arc::clone(&message));
                current.insert(topic, message);
            }
        }
        changed
    }

    fn clear(&self) {
        self.current.write().clear();
    }
}

fn message(topic: Text, value: String, now_ms: u64) -> Message {
    Message {
        publisher: Text::new(), // nobody: the server itself
        publisher_username: None,
        topic,
        payload: value.into(),
        qos: QoS::AtMostOnce,
        retain: true,
        received_at_ms: now_ms,
        properties: None,
        annotations: Vec::new(),
    }
}

/// Makes and publishes the figures until the broker drains.
pub(super) async fn publish(shared: Weak<Shared>, node: Text) {
    let started = Instant::now();
    let Some(mut phase) = shared.upgrade().map(|shared| shared.phase.subscribe()) else { return };
    let (mut loads, mut maximum) = (Loads::default(), 0);
    loop {
        let pause = {
            let Some(shared) = shared.upgrade() else { return };
            let interval_s = shared.limits().sys_interval_s;
            if interval_s == 0 {
                shared.sys.clear();
                OFF
            } else {
                let figures = Figures::read(&shared, started.elapsed(), &mut maximum);
                loads.add(&figures.loads(), started.elapsed());
                for message in shared.sys.replace(figures.topics(&node, now_ms(), &loads), now_ms()) {
                    deliver(&shared, &message);
                }
                Duration::from_secs(interval_s)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return, // or the broker is gone
        }
    }
}

/// To those who are there; a figure is old when they come back.
fn deliver(shared: &Shared, message: &Arc<Message>) {
    let receivers = shared.subscriptions.receivers(&message.topic, "");
    let there = receivers.sessions.iter().filter(|receiver| receiver.mailbox.is_connected());
    let lost = there.filter(|receiver| receiver.mailbox.push(receiver.parcel(message)).is_err()).count()
        + receivers.groups.iter().filter(|group| group.deliver(message, None).is_err()).count();
    shared.metrics.sys_messages_dropped.inc_by(lost as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_published_and_all_of_it_is_found() {
        let sys = Sys::default();
        let figures = |uptime: &str| vec![("$SYS/a/uptime".into(), uptime.to_owned()), ("$SYS/a/version".into(), "1".to_owned())];
        assert_eq!(sys.replace(figures("1"), 0).len(), 2);
        let changed = sys.replace(figures("2"), 0);
        assert_eq!(changed.iter().map(|message| &*message.topic).collect::<Vec<_>>(), ["$SYS/a/uptime"]);
        for (filter, found) in [("$SYS/#", 2), ("$SYS/a/+", 2), ("$SYS/a/uptime", 1), ("#", 0), ("+/a/uptime", 0)] {
            assert_eq!(sys.matching(filter).len(), found, "{filter}");
        }
        sys.clear();
        assert_eq!(sys.matching("$SYS/#").len(), 0);
    }
}
