//! The store without a disk: bytes that claim to be records, and changes that must come back as they were.
//!
//! The first byte of the input says how:
//! - 0: the rest is a key (its length in front) and a value; reading them is total, and what can be read is written and read back to the
//!   same. Format and checksum are put right before, so that the body is reached; 1: as they are.
//! - else: the rest is an [`arbitrary`] life of some sessions in groups of changes, against a naive model of maps; then the restored state is
//!   stored again and must restore to the same, and one record is damaged, which may only cost what it says.

mod life;

use arbitrary::{Arbitrary as _, Unstructured};

use self::life::Life;
use crate::store::{self, Change, Image, Place, Record};

/// Any bytes.
pub fn run(input: &[u8]) {
    match input {
        [0, length, rest @ ..] => record(usize::from(*length), rest, true),
        [1, length, rest @ ..] => record(usize::from(*length), rest, false),
        [_, rest @ ..] => {
            if let Ok(life) = Life::arbitrary_take_rest(Unstructured::new(rest)) {
                life.live();
            }
        }
        [] => {}
    }
}

fn record(length: usize, bytes: &[u8], mend: bool) {
    let Some((key, body)) = bytes.split_at_checked(length) else { return };
    let mut value = body.to_vec();
    if mend {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(key);
        hasher.update(body);
        value = [&[1], &hasher.finalize().to_le_bytes()[..], body].concat();
    }
    let Ok(record) = store::decode(key, &value) else { return };
    let mut image = Image::default();
    image.apply(&[change(&record)]);
    let (_, again) = image.records_mut().find(|(written, _)| *written == key).expect("it is written under its own key");
    assert_eq!(store::decode(key, again), Ok(record));
}

/// The change that writes a record.
fn change(record: &Record) -> Change {
    match record.clone() {
        Record::Commit(_) => Change::Cleared("nothing".into()), // every group writes its number
        Record::Session(state) => Change::Session(Box::new(state)),
        Record::Will(session, will) => Change::Will(session, Some(Box::new(will))),
        Record::Subscription(session, subscription) => Change::Subscribed(session, Box::new(subscription)),
        Record::Used(session, id) => Change::Used(session, id),
        Record::Flight(session, sequence, id, false) => Change::Sent(Place { session, sequence }, id),
        Record::Flight(session, sequence, id, true) => Change::Received(Place { session, sequence }, id),
        Record::Queued(session, sequence, parcel) => Change::Queued(Place { session, sequence }, Box::new(parcel)),
        Record::Retained(message) => Change::Retained(message),
        Record::Owner(owner) => Change::Owned(owner.space(), Some(Box::new(owner))),
        Record::Intent(session, intent) => Change::Intended(session, Box::new(intent)),
        Record::Pair(space, pair) => Change::Kept(space, Box::new(pair)),
        Record::Ledger(cluster, ledger) => Change::Ledger(cluster, Box::new(ledger)),
    }
}
