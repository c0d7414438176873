use std::{net::SocketAddr, sync::Arc};

use super::*;
use crate::{
    config::SyncPolicy,
    event::{Bytes, Client, Header, Message, Properties, QoS, Receipt, Settlement, Settlements},
};

fn message(topic: &str, payload: &str) -> Message {
    let header = |name: &str| Header { name: name.into(), value: "v".into() };
    Message {
        publisher: "p".into(),
        publisher_username: Some("u".into()),
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::ExactlyOnce,
        retain: true,
        received_at_ms: 7,
        properties: Some(Box::new(Properties {
            expiry_s: Some(9),
            payload_is_utf8: Some(true),
            content_type: Some("text/plain".into()),
            response_topic: Some("r".into()),
            correlation_data: Some(Bytes::from_static(b"\0\xff")),
            user_properties: vec![header("a"), header("a")],
        })),
        annotations: vec![header("k")],
    }
}

fn state(number: u64, client_id: &str) -> SessionState {
    let client = Client {
        client_id: client_id.into(),
        username: None,
        peer: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9)).into(),
        protocol_version: 5,
        certificate_name: Some("cn".into()),
        connected_at_ms: 3,
    };
    SessionState { number, client: Arc::new(client), expiry_s: 60, left_at_ms: Some(5) }
}

fn subscription(filter: &str) -> StoredSubscription {
    StoredSubscription {
        filter: filter.into(),
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: 2,
        subscription_id: Some(300),
    }
}

fn parcel(payload: &str) -> Parcel {
    Parcel {
        message: Arc::new(message("t", payload)),
        qos: QoS::ExactlyOnce,
        retain: false,
        subscription_ids: [1, 70_000].into(),
        share: Some("$share/g/t".into()),
    }
}

fn at(session: u64, sequence: u64) -> Place {
    Place { session, sequence }
}

fn queued(session: u64, sequence: u64) -> Change {
    Change::Queued(at(session, sequence), Box::new(parcel(&sequence.to_string())))
}

fn history() -> Vec<Change> {
    vec![
        Change::Session(Box::new(state(1, "one"))),
        Change::Session(Box::new(state(2, "two"))),
        Change::Will(1, Some(Box::new(StoredWill { message: message("will", "w"), delay_s: 4 }))),
        Change::Will(2, Some(Box::new(StoredWill { message: message("will", "w"), delay_s: 4 }))),
        Change::Subscribed(1, Box::new(subscription("a/+"))),
        Change::Subscribed(1, Box::new(subscription(&"long/".repeat(13_000)))),
        queued(1, 10),
        queued(1, 11),
        queued(1, 12),
        queued(1, 13),
        queued(2, 1),
        Change::Used(1, 500),
        Change::Used(1, 501),
        Change::Retained(Arc::new(message("r/1", "x"))),
        Change::Retained(Arc::new(message("r/2", "x"))),
        Change::Sent(at(1, 10), 1),
        Change::Sent(at(1, 11), 2),
        Change::Sent(at(1, 12), 3),
        Change::Received(at(1, 10), 1),
        Change::Done(at(1, 11)),
        Change::Unsubscribed(1, "a/+".into()),
        Change::Subscribed(1, Box::new(subscription("b"))),
        intended(1, 501, "kafka", 7),
        intended(1, 501, "eu", 2),
        intended(1, 502, "kafka", 8),
        intended(1, 501, "kafka", 9),
        intended(2, 1, "kafka", 10),
        Change::Released(1, 500),
        Change::Forgotten(1, 502, "kafka".into()),
        Change::Ledger("kafka".into(), Box::new(StoredLedger { owner: 1, epoch: 1, topic: None })),
        Change::Ledger("kafka".into(), Box::new(ledger())),
        Change::Cleared("r/1".into()),
        Change::Will(1, None),
        Change::Ended(2),
        Change::Owned(space(), Some(Box::new(owner()))),
        Change::Kept(space(), Box::new(pair("gone", b"x"))),
        Change::Kept(space(), Box::new(pair("", b"old"))),
        Change::Kept(space(), Box::new(pair("nonce/\u{e9}", b""))),
        Change::Kept(Owner::new(None, "other").space(), Box::new(pair("", b"another guest's"))),
        Change::Gone(space(), "gone".into()),
        Change::Kept(space(), Box::new(pair("", b"\0\xff"))),
    ]
}

fn intended(session: u64, id: u16, cluster: &str, number: u64) -> Change {
    Change::Intended(session, Box::new(Intent { id, cluster: cluster.into(), number, digest: u64::MAX - number }))
}

fn ledger() -> StoredLedger {
    StoredLedger { owner: u64::MAX, epoch: 2, topic: Some("t".into()) }
}

fn owner() -> Owner {
    Owner::new(Some("acme"), "verify")
}

fn space() -> Space {
    owner().space()
}

fn pair(key: &str, value: &[u8]) -> Pair {
    Pair { key: key.into(), value: value.into(), written_at_ms: 1_700_000_000_000, left_ms: (!key.is_empty()).then_some(90_000) }
}

fn check(restored: &Restored) {
    let [session] = &restored.sessions[..] else { panic!("{restored:#?}") };
    assert_eq!(session.state, state(1, "one"));
    assert_eq!(session.will, None);
    let mut filters: Vec<_> = session.subscriptions.iter().map(|subscription| subscription.filter.len()).collect();
    filters.sort_unstable();
    assert_eq!(filters, [1, 65_000]);
    assert!(session.subscriptions.contains(&subscription("b")));
    assert_eq!(session.used, [501]);
    let intents: Vec<_> = session.intents.iter().map(|intent| (intent.id, &*intent.cluster, intent.number, intent.digest)).collect();
    assert_eq!(intents, [(501, "eu", 2, u64::MAX - 2), (501, "kafka", 9, u64::MAX - 9)]);
    assert_eq!(restored.ledgers, [("kafka".into(), ledger())]);
    let flights = [StoredFlight { sequence: 10, id: 1, parcel: None }, StoredFlight { sequence: 12, id: 3, parcel: Some(parcel("12")) }];
    assert_eq!(session.flights, flights);
    assert_eq!(session.queue, [(13, parcel("13"))]);
    assert_eq!(restored.retained, [Arc::new(message("r/2", "x"))]);
    let mut states = restored.states.clone();
    states.sort_by_key(|state| state.owner.is_some());
    let other = StoredState { space: Owner::new(None, "other").space(), owner: None, pairs: vec![pair("", b"another guest's")] };
    let own = StoredState { space: space(), owner: Some(owner()), pairs: vec![pair("", b"\0\xff"), pair("nonce/\u{e9}", b"")] };
    assert_eq!(states, [other, own]);
    assert_eq!(restored.damaged, [""; 0]);
}

#[test]
fn any_grouping_of_changes_restores_the_same() {
    let history = history();
    for size in [1, 2, 3, 5, 7, history.len()] {
        let mut image = Image::default();
        history.chunks(size).for_each(|group| image.apply(group));
        check(&image.restore());
    }
}

#[test]
fn what_came_and_went_within_a_group_is_not_written() {
    let place = at(1, 1);
    let group = [queued(1, 1), Change::Sent(place, 1), Change::Received(place, 1), Change::Done(place)];
    let keys = |changes: &[Change]| image::write(changes, 1).len() - 1; // without the commit's own
    assert_eq!(keys(&[queued(1, 1), Change::Sent(place, 1), Change::Done(place)]), 0);
    assert_eq!(keys(&group[..3]), 1, "only that it was received");
    assert_eq!(keys(&group[1..]), 2, "it was there before: both go");
}

fn open(folder: &std::path::Path, sync: SyncPolicy) -> (Store, Restored) {
    let config = config::Store { folder: folder.to_owned(), sync, forget_state: Vec::new() };
    Store::open(&config, &Metrics::new()).expect("an own folder")
}

#[tokio::test]
async fn a_store_on_disk_gives_back_what_went_in_and_settles_by_commit() {
    for sync in [SyncPolicy::Always, SyncPolicy::Interval(1), SyncPolicy::Never] {
        let folder = tempfile::tempdir().unwrap();
        let (store, restored) = open(folder.path(), sync);
        assert_eq!((restored.sessions.len(), restored.last_session()), (0, 0));
        let settlements = Settlements::new();
        let mut last = Ticket::default();
        for (number, change) in history().into_iter().enumerate() {
            let mut batch = store.batch();
            batch.add(change);
            batch.share(Receipt::open(number as u64, &settlements));
            last = batch.ticket();
        }
        store.commits().wait_for(|committed| *committed >= last).await.unwrap();
        let mut settled = Vec::new();
        settlements.take(&mut settled);
        let expected: Vec<_> = (0..history().len() as u64).map(|number| Settlement { number, outcome: Outcome::Stored }).collect();
        assert_eq!(settled, expected);
        store.close();
        let (_, restored) = open(folder.path(), sync);
        check(&restored);
        assert_eq!(restored.last_session(), 1);
    }
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path(), SyncPolicy::Never);
    let config = config::Store { folder: folder.path().to_owned(), sync: SyncPolicy::Never, forget_state: Vec::new() };
    let second = Store::open(&config, &Metrics::new());
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    drop(first);
    assert!(Store::open(&config, &Metrics::new()).is_ok());
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_noticed() {
    let mut image = Image::default();
    image.apply(&history());
    let records = image.clone().records_mut().count();
    for damaged in 0..records {
        for byte in [0, 3, usize::MAX] {
            let mut image = image.clone();
            let (key, value) = image.records_mut().nth(damaged).map(|(key, value)| (key.clone(), value)).unwrap();
            let byte = byte.min(value.len() - 1);
            value[byte] ^= 1;
            assert!(decode(&key, value).is_err());
            let restored = image.restore();
            assert!(!restored.damaged.is_empty(), "record {damaged}, byte {byte}");
            assert!(restored.sessions.len() <= 1 && restored.retained.len() <= 1);
        }
    }
}

#[test]
fn another_version_s_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store { folder: folder.path().to_owned(), sync: SyncPolicy::Never, forget_state: Vec::new() };
    let mut disk = Disk::open(&folder.path().join("store")).unwrap();
    let (key, body) = (record::key::session(1), *b"whatever comes next");
    let crc = crc32fast::hash(&[&[9], &key[..], &body].concat());
    let value = [&[9][..], &crc.to_le_bytes(), &body].concat();
    assert_eq!(decode(&key, &value), Err(Damage::Format(9)));
    disk.commit([(key, Some(value))], fjall::PersistMode::Buffer).unwrap();
    drop(disk);
    for _ in 0..2 {
        let refused = Store::open(&config, &Metrics::new());
        assert!(matches!(refused, Err(StoreError::Foreign { format: 9, .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_holds_up_acknowledgements_until_it_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let (metrics, queue, settlements) = (Metrics::new(), Arc::new(Queue::new(0)), Settlements::new());
    let path = folder.path().join("store");
    std::fs::write(&path, "a file where a folder must be").unwrap();
    let writer = Writer {
        folder: path.clone(),
        sync: SyncPolicy::Always,
        disk: None,
        queue: Arc::clone(&queue),
        metrics: Arc::clone(&metrics),
        ended: VecDeque::new(),
        sync_due: None,
    };
    let mut batch = queue.batch();
    batch.add(Change::Session(Box::new(state(1, "one"))));
    batch.share(Receipt::open(7, &settlements));
    drop(batch);
    let thread = std::thread::spawn(|| writer.run());
    while metrics.store_failures.get() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut settled = Vec::new();
    settlements.take(&mut settled);
    assert_eq!((settled.len(), metrics.store_writable.get()), (0, 0));
    std::fs::remove_file(&path).unwrap();
    settlements.wait().await;
    settlements.take(&mut settled);
    assert_eq!(settled, [Settlement { number: 7, outcome: Outcome::Stored }]);
    queue.close();
    thread.join().unwrap();
    assert_eq!(metrics.store_writable.get(), 1);
    assert_eq!(open(folder.path(), SyncPolicy::Never).1.sessions.len(), 1);
}

#[test]
fn a_shortened_history_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), SyncPolicy::Never);
    store.add(Change::Session(Box::new(state(1, "one"))));
    store.close();
    let records = folder.path().join("store/records");
    std::fs::remove_dir_all(&records).unwrap();
    let (store, restored) = open(folder.path(), SyncPolicy::Never);
    assert_eq!(restored.damaged.len(), 1, "{restored:?}");
    drop(store);
    let (_, restored) = open(folder.path(), SyncPolicy::Never);
    assert_eq!(restored.damaged.len(), 1, "until the next commit");
}

#[test]
fn the_later_of_two_sessions_of_a_client_is_the_one() {
    let mut image = Image::default();
    image.apply(&[Change::Session(Box::new(state(3, "one"))), Change::Session(Box::new(state(8, "one"))), queued(8, 1)]);
    let restored = image.restore();
    let numbers: Vec<_> = restored.sessions.iter().map(|session| session.state.number).collect();
    assert_eq!((numbers, restored.leftovers.len()), (vec![8], 1));
}

#[test]
fn ended_sessions_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), SyncPolicy::Never);
    store.add(Change::Session(Box::new(state(1, "one"))));
    for sequence in 0..2_500 {
        store.add(queued(1, sequence));
    }
    store.close();
    let (store, restored) = open(folder.path(), SyncPolicy::Never);
    assert_eq!(restored.sessions[0].queue.len(), 2_500);
    store.add(Change::Ended(1));
    store.close();
    let (_, restored) = open(folder.path(), SyncPolicy::Never);
    assert_eq!((restored.sessions.len(), restored.damaged), (0, Vec::<String>::new()));
}

#[test]
fn any_bytes_decode_to_something_or_an_error() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut image = Image::default();
    image.apply(&history());
    let records: Vec<_> = image.records_mut().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in records {
        for _ in 0..200 {
            let (mut key, mut value) = (key.clone(), value.clone());
            let target = if random.bool() { &mut key } else { &mut value };
            let index = random.usize(..target.len());
            target[index] = random.u8(..);
            target.truncate(random.usize(..=target.len()));
            let _ = decode(&key, &value); // must come back
        }
    }
}
