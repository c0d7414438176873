//! What should have happened: a second, naive idea of sessions, subscriptions, retained messages and wills, fed with the same packets, and
//! of what each device must receive. Every difference is a failure at once; what is missing is found at the end.

use std::collections::{BTreeMap, HashMap};

use super::wire::Publish;
use crate::event::{DropReason, Message};

/// Which message: its device and number.
pub(super) type Key = (usize, u32);

/// What a device holds under one filter.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: u8,
    pub(super) subscription_id: Option<u32>,
}

#[derive(Debug, Default)]
struct Life {
    incarnation: u64,
    expiry_s: u32,
    filters: BTreeMap<String, Held>,
    /// Since when it waits for its client.
    parked_ms: Option<u64>,
    /// The will of the connection, until it is published or void, and when it is due.
    will: Option<(Key, u32, Option<u64>)>,
}

/// What became of a message.
#[derive(Debug, Default)]
struct Fate {
    decided: u32,
    /// Not denied.
    passed: u32,
    accepted: u32,
    /// Kafka's answer was lost: it may come twice, also at QoS 2.
    uncertain: bool,
    qos: u8,
    given_up: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Pending,
    Received,
    Dropped(DropReason),
}

#[derive(Debug)]
struct Owed {
    key: Key,
    qos: u8,
    retained: bool,
    due_ms: Option<u64>,
    state: State,
}

/// What one session is owed, in the order of the broker's decisions.
#[derive(Debug, Default)]
struct Account {
    owed: Vec<Owed>,
    by_key: HashMap<Key, Vec<usize>>,
    received: HashMap<Key, u32>,
    /// The last first appearance of each publisher and topic.
    last: HashMap<(usize, String), usize>,
}

/// The books.
#[derive(Default)]
pub(super) struct Ledger {
    lives: BTreeMap<usize, Life>,
    fates: BTreeMap<Key, Fate>,
    accounts: HashMap<(usize, u64), Account>,
    retained: BTreeMap<String, (Option<Key>, u8, Option<u64>)>,
    wills: BTreeMap<Key, u32>,
    incarnations: u64,
    links: HashMap<u64, u64>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

/// The device that a client id belongs to.
pub(super) fn device_of(client_id: &str) -> usize {
    client_id.trim_start_matches('d').parse().expect("devices are named by number")
}

/// The message that a payload belongs to.
pub(super) fn key_of(payload: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(payload).expect("payloads are text");
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// MQTT's matching, as naively as can be.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        (Some((&"#", _)), _) | (None, None) => true,
        (Some((level, filter)), Some((name, topic))) => (level == name || *level == "+") && matches(filter, topic),
        _ => false,
    }
}

fn filter_matches(filter: &str, topic: &str) -> bool {
    matches(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

/// The devices that share the topics `g<group>/…`.
pub(super) const GROUP: usize = 8;

fn expires(message: &Message) -> Option<u64> {
    let expiry_s = message.properties.as_ref().and_then(|properties| properties.expiry_s);
    expiry_s.map(|expiry_s| message.received_at_ms + u64::from(expiry_s) * 1000)
}

impl Ledger {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A device comes in; whether its session must be present.
    pub(super) fn enter(&mut self, device: usize, link: u64, clean: bool, expiry_s: u32, will: Option<(Key, u32)>, now_ms: u64) -> bool {
        self.count("connects");
        let old = self.lives.remove(&device);
        let alive = |life: &Life| life.parked_ms.is_none_or(|since| now_ms < since + u64::from(life.expiry_s) * 1000);
        let present = old.as_ref().is_some_and(|life| !clean && life.expiry_s > 0 && alive(life));
        let mut life = match old {
            Some(life) if present => {
                self.count("resumed");
                life // its will, if it waited, is void
            }
            old => {
                if let Some((key, _, Some(_))) = old.and_then(|life| life.will) {
                    self.will_is_due(key); // its session ends here
                }
                self.incarnations += 1;
                self.accounts.insert((device, self.incarnations), Account::default());
                Life { incarnation: self.incarnations, ..Life::default() }
            }
        };
        life.expiry_s = expiry_s;
        life.parked_ms = None;
        life.will = will.map(|(key, delay_s)| (key, delay_s, None));
        self.links.insert(link, life.incarnation);
        self.lives.insert(device, life);
        present
    }

    /// Which session a link brought its device to.
    pub(super) fn incarnation(&self, link: u64) -> u64 {
        self.links[&link]
    }

    /// A device has gone: whether its will is to be published, or waits, or is void; and whether the session ends.
    pub(super) fn left(&mut self, device: usize, with_will: bool, expiry_s: u32, ends: bool) {
        let Some(life) = self.lives.get_mut(&device) else { return };
        life.expiry_s = expiry_s;
        let will = life.will.take().filter(|_| with_will);
        if let Some((key, delay_s, _)) = will {
            if delay_s == 0 || ends {
                self.will_is_due(key);
            } else {
                life.will = Some((key, delay_s, None));
            }
        }
        if ends {
            self.end(device);
        }
    }

    /// Its session waits for it from now on.
    pub(super) fn parked(&mut self, device: usize, now_ms: u64) {
        let Some(life) = self.lives.get_mut(&device) else { return };
        life.parked_ms = Some(now_ms);
        if let Some((_, delay_s, due)) = &mut life.will {
            *due = Some(now_ms + u64::from((*delay_s).min(life.expiry_s)) * 1000);
        }
    }

    /// Its session is thrown away before it could wait; a will that was to wait is due.
    pub(super) fn discard(&mut self, device: usize) {
        if let Some((key, _, _)) = self.lives.remove(&device).and_then(|life| life.will) {
            self.will_is_due(key);
        }
    }

    /// The session of this device is gone.
    fn end(&mut self, device: usize) {
        self.lives.remove(&device);
    }

    /// Time has passed: what the sessions say is due must be due here.
    pub(super) fn expired(&mut self, device: usize, now_ms: u64) {
        let life = self.lives.get(&device).expect("a session that ends exists");
        let ends = life.parked_ms.expect("it waits for its client") + u64::from(life.expiry_s) * 1000;
        assert!(ends <= now_ms, "device {device}: its session ends {} ms too early", ends - now_ms);
        assert!(life.will.is_none(), "device {device}: its session ends without its will");
        self.count("expired");
        self.end(device);
    }

    /// A will that waited is published.
    pub(super) fn ripe(&mut self, device: usize, key: Key, now_ms: u64) {
        let life = self.lives.get_mut(&device).expect("a session whose will is due exists");
        let will = life.will.take();
        let due = matches!(will, Some((expected, _, Some(due_ms))) if expected == key && due_ms <= now_ms);
        assert!(due, "device {device}: will {key:?} is not due: {will:?} at {now_ms}");
        self.will_is_due(key);
    }

    fn will_is_due(&mut self, key: Key) {
        *self.wills.entry(key).or_default() += 1;
        self.count("wills");
    }

    /// The device subscribed; the retained messages that it must get.
    pub(super) fn subscribe(&mut self, device: usize, filter: &str, held: &Held, now_ms: u64) -> Vec<(Option<Key>, u8)> {
        let life = self.lives.get_mut(&device).expect("who subscribes is in");
        let is_new = life.filters.insert(filter.to_owned(), held.clone()).is_none();
        if held.retain_handling == 2 || (held.retain_handling == 1 && !is_new) {
            return Vec::new();
        }
        let current = |expires: Option<u64>| expires.is_none_or(|expires| now_ms < expires);
        let own = |key: &Option<Key>| held.no_local && key.is_some_and(|key| key.0 == device);
        let group = format!("g{}/", device / GROUP);
        let near = self.retained.range(group.clone()..).take_while(|(topic, _)| topic.starts_with(&group));
        let retained = near.filter(|(topic, (key, _, expires))| filter_matches(filter, topic) && current(*expires) && !own(key));
        retained.map(|(_, (key, qos, _))| (*key, held.qos.min(*qos))).collect()
    }

    pub(super) fn unsubscribe(&mut self, device: usize, filter: &str) {
        self.lives.get_mut(&device).expect("who unsubscribes is in").filters.remove(filter);
    }

    /// A device publishes a message for the first time.
    pub(super) fn published(&mut self, key: Key, qos: u8) {
        self.fates.entry(key).or_default().qos = qos;
        self.count("published");
    }

    /// The pipeline has decided about it.
    pub(super) fn decided(&mut self, message: &Message, denied: bool, certain: bool) {
        let Some(key) = key_of(&message.payload) else { return };
        let fate = self.fates.get_mut(&key).unwrap_or_else(|| panic!("{key:?} was never published"));
        fate.decided += 1;
        fate.passed += u32::from(!denied); // one that is denied may be sent again, as a new one, where the device did not hear of it
        fate.uncertain |= !certain;
        assert!(fate.passed < 2 || fate.qos == 1 || fate.uncertain, "QoS {} message {key:?} was published {} times", fate.qos, fate.passed);
    }

    /// It was accepted: who must get it, as (device, incarnation, QoS, retain, subscription identifiers).
    pub(super) fn accepted(&mut self, message: &Message) -> Vec<(usize, u8, bool, Vec<u32>)> {
        let key = key_of(&message.payload);
        if message.retain {
            let topic = message.topic.to_string();
            match key {
                Some(_) => drop(self.retained.insert(topic, (key, message.qos.level(), expires(message)))),
                None => drop(self.retained.remove(&topic)),
            }
        }
        if let Some(key) = key {
            self.fates.get_mut(&key).expect("it was decided").accepted += 1;
        }
        let publisher = device_of(&message.publisher);
        let first = publisher / GROUP * GROUP;
        let mut receivers = Vec::new();
        for (device, life) in self.lives.range(first..first + GROUP) {
            let fits =
                |(filter, held): &(&String, &Held)| filter_matches(filter, &message.topic) && !(held.no_local && *device == publisher);
            let held: Vec<&Held> = life.filters.iter().filter(fits).map(|(_, held)| held).collect();
            let Some(qos) = held.iter().map(|held| held.qos).max() else { continue };
            let mut ids: Vec<u32> = held.iter().filter_map(|held| held.subscription_id).collect();
            ids.sort_unstable();
            let retain = message.retain && held.iter().any(|held| held.retain_as_published);
            receivers.push((*device, qos.min(message.qos.level()), retain, ids));
        }
        receivers
    }

    /// It is on its way to a device.
    pub(super) fn owe(&mut self, device: usize, message: &Message, qos: u8, retained: bool) {
        let (Some(key), Some(life)) = (key_of(&message.payload), self.lives.get(&device)) else { return };
        let account = self.accounts.get_mut(&(device, life.incarnation)).expect("a session has an account");
        account.by_key.entry(key).or_default().push(account.owed.len());
        account.owed.push(Owed { key, qos, retained, due_ms: expires(message), state: State::Pending });
        self.count("owed");
    }

    /// The broker says that it will not come.
    pub(super) fn dropped(&mut self, device: usize, message: &Message, reason: DropReason, now_ms: u64) {
        let (Some(key), Some(life)) = (key_of(&message.payload), self.lives.get(&device)) else { return };
        let account = self.accounts.get_mut(&(device, life.incarnation)).expect("a session has an account");
        let owed = account.by_key.get(&key).into_iter().flatten().find(|index| account.owed[**index].state == State::Pending);
        if reason == DropReason::Refused {
            return self.count("refused"); // it was received
        }
        let Some(owed) = owed else { panic!("device {device}: {key:?} is dropped as {reason:?}, but was not owed") };
        let owed = &mut account.owed[*owed];
        let in_time = owed.due_ms.is_none_or(|due_ms| now_ms < due_ms);
        assert!(reason != DropReason::Expired || !in_time, "device {device}: {key:?} has not expired");
        owed.state = State::Dropped(reason);
        self.count(reason.name());
    }

    /// A device received a message that it had not received under this packet identifier.
    pub(super) fn received(&mut self, (device, incarnation): (usize, u64), publish: &Publish, now_ms: u64) {
        let Some(key) = key_of(&publish.payload) else { return };
        let account = self.accounts.get_mut(&(device, incarnation)).expect("a session has an account");
        let before = account.received.entry(key).or_default();
        *before += 1;
        let before = *before - 1;
        if before > 0 && publish.dup && publish.qos == 1 {
            return self.count("repeated");
        }
        let open = |index: &&usize| account.owed[**index].state == State::Pending && account.owed[**index].qos == publish.qos;
        let candidates: Vec<usize> = account.by_key.get(&key).into_iter().flatten().filter(open).copied().collect();
        assert!(!candidates.is_empty(), "device {device}: {key:?} came {} times, which is more than it was owed: {publish:?}", before + 1);
        let last = account.last.entry((key.0, publish.topic.clone())).or_default();
        let index = if publish.retain {
            // It comes because it was subscribed to, or is published as it was: at any time.
            candidates.iter().find(|index| account.owed[**index].retained).or(candidates.first())
        } else {
            candidates.iter().find(|index| **index >= *last && !account.owed[**index].retained).inspect(|index| *last = **index)
        };
        let Some(index) = index.copied() else {
            panic!("device {device}: {key:?} comes after a later one of the same publisher and topic: {publish:?}");
        };
        let late = |index: &usize| account.owed[*index].due_ms.is_some_and(|due_ms| now_ms > due_ms + MAX_ON_LINK_MS);
        assert!(publish.dup || !candidates.iter().all(late), "device {device}: {key:?} has expired: {publish:?}");
        account.owed[index].state = State::Received;
        self.count("received");
    }

    /// A device's publish was acknowledged.
    pub(super) fn acknowledged(&mut self, key: Key, code: u8) {
        let fate = &self.fates[&key];
        assert!(fate.decided > 0, "{key:?} is acknowledged, and was never published");
        assert!(code != 0x10 || fate.accepted > 0, "{key:?} has no subscribers, and was never accepted");
        self.count("acknowledged");
    }

    /// A device's session is gone, and it does not send this again.
    pub(super) fn given_up(&mut self, key: Key) {
        self.fates.get_mut(&key).expect("it was published").given_up = true;
    }

    /// Everything is quiet: what is still owed is lost.
    pub(super) fn close(&mut self) {
        for (device, life) in &self.lives {
            let account = &self.accounts[&(*device, life.incarnation)];
            for owed in account.owed.iter().filter(|owed| owed.qos > 0 && owed.state == State::Pending) {
                let times = account.received.get(&owed.key).copied().unwrap_or(0);
                assert!(times > 0, "device {device}: {:?} never came", owed.key);
            }
        }
        for (key, fate) in self.fates.iter().filter(|(_, fate)| matches!(fate.qos, 1 | 2) && !fate.given_up) {
            assert!(fate.decided > 0, "{key:?} of QoS {} never arrived", fate.qos);
        }
        for (key, fate) in self.fates.iter().filter(|(_, fate)| fate.qos == WILL) {
            let due = self.wills.get(key).copied().unwrap_or(0);
            assert_eq!(fate.decided, due, "will {key:?} was published {} times, and {due} times due", fate.decided);
        }
    }
}

/// Marks a will among published messages: it is published once, or not at all.
pub(super) const WILL: u8 = 0xFF;

/// How long bytes may be under way.
const MAX_ON_LINK_MS: u64 = 5_000;
