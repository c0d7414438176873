//! Records: how durable state is written, byte for byte.
//!
//! ```text
//! key    0 "commit"                               the number of the last commit
//!        1 session(8) 0                           the session itself
//!        1 session(8) 1                           its will
//!        1 session(8) 2 digest(16)                a subscription, by the digest of its filter
//!        1 session(8) 3 identifier(2)             a QoS 2 identifier of its client
//!        1 session(8) 4 sequence(8)               a delivery under way
//!        1 session(8) 5 sequence(8)               a message in its queue
//!        1 session(8) 6 identifier(2) cluster     a publish on its way to a cluster, by its name, that must have it once
//!        2 digest(16)                             a retained message, by the digest of its topic
//!        3 space(16)                              whose a space of guest's state is; the space is a digest of that
//!        4 space(16) key                          a key of a guest's state
//!        5 cluster                                who produces exactly once into a cluster, by its name
//! value  format(1) crc32(4) body                  the checksum is over format, key and body; the body is postcard
//! ```
//! Numbers in keys are big-endian, so that keys sort by session and by sequence. [`decode`] is total: any bytes give a record or a
//! [`Damage`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    change::{Intent, Parcel, SessionState, StoredLedger, StoredSubscription, StoredWill},
    space::{Owner, Pair, Space},
    wire::{WireLedger, WireMessage, WireOwner, WirePair, WireParcel, WireSession, WireSubscription, WireWill},
};
use crate::event::{Message, Text};

/// The version of this layout; another one is refused, not guessed at.
pub(super) const FORMAT: u8 = 1;

const META: u8 = 0;
const SESSION: u8 = 1;
const RETAINED: u8 = 2;
const OWNER: u8 = 3;
const PAIR: u8 = 4;
const LEDGER: u8 = 5;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The number of the last commit.
    Commit(u64),
    /// A session.
    Session(SessionState),
    /// Its will.
    Will(u64, StoredWill),
    /// A subscription of it.
    Subscription(u64, StoredSubscription),
    /// A QoS 2 identifier that its client uses.
    Used(u64, u16),
    /// A delivery under way: sequence, packet identifier, whether the client has received it.
    Flight(u64, u64, u16, bool),
    /// A message in its queue.
    Queued(u64, u64, Parcel),
    /// A publish of it on its way to a cluster that must have it once.
    Intent(u64, Intent),
    /// A retained message.
    Retained(Arc<Message>),
    /// Whose a space of guests' state is.
    Owner(Owner),
    /// A key of a guest's state.
    Pair(Space, Pair),
    /// Who produces exactly once into the cluster of this name.
    Ledger(Text, StoredLedger),
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No such key is written by this version.
    #[error("its key has an unknown form")]
    Key,
    /// It is whole, and of another version's layout.
    #[error("its format is {0}, this version reads {FORMAT}")]
    Format(u8),
    /// The checksum does not agree.
    #[error("its checksum does not agree")]
    Checksum,
    /// The body is not what its key promises.
    #[error("its body cannot be read")]
    Body,
}

/// The key of the commit record.
pub(super) fn commit_key() -> Vec<u8> {
    [&[META], &b"commit"[..]].concat()
}

/// The prefix of everything that a session has.
pub(super) fn session_prefix(session: u64) -> Vec<u8> {
    [&[SESSION][..], &session.to_be_bytes()].concat()
}

/// The session whose prefix a key has.
pub(super) fn session_of(key: &[u8]) -> Option<u64> {
    let (kind, rest) = key.split_first()?;
    if *kind == SESSION { rest.first_chunk().map(|number| u64::from_be_bytes(*number)) } else { None }
}

/// Keys below a session.
pub(super) mod key {
    use super::{LEDGER, OWNER, PAIR, RETAINED, Space, digest, session_prefix};

    fn under(session: u64, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = session_prefix(session);
        key.push(kind);
        key.extend_from_slice(rest);
        key
    }

    pub(in crate::store) fn session(session: u64) -> Vec<u8> {
        under(session, 0, &[])
    }

    pub(in crate::store) fn will(session: u64) -> Vec<u8> {
        under(session, 1, &[])
    }

    pub(in crate::store) fn subscription(session: u64, filter: &str) -> Vec<u8> {
        under(session, 2, &digest(filter))
    }

    pub(in crate::store) fn used(session: u64, id: u16) -> Vec<u8> {
        under(session, 3, &id.to_be_bytes())
    }

    pub(in crate::store) fn flight(session: u64, sequence: u64) -> Vec<u8> {
        under(session, 4, &sequence.to_be_bytes())
    }

    pub(in crate::store) fn queued(session: u64, sequence: u64) -> Vec<u8> {
        under(session, 5, &sequence.to_be_bytes())
    }

    pub(in crate::store) fn intent(session: u64, id: u16, cluster: &str) -> Vec<u8> {
        under(session, 6, &[&id.to_be_bytes(), cluster.as_bytes()].concat())
    }

    pub(in crate::store) fn ledger(cluster: &str) -> Vec<u8> {
        [&[LEDGER], cluster.as_bytes()].concat()
    }

    pub(in crate::store) fn retained(topic: &str) -> Vec<u8> {
        let mut key = vec![RETAINED];
        key.extend_from_slice(&digest(topic));
        key
    }

    pub(in crate::store) fn owner(Space(space): Space) -> Vec<u8> {
        [&[OWNER][..], &space].concat()
    }

    pub(in crate::store) fn pair(Space(space): Space, key: &str) -> Vec<u8> {
        [&[PAIR][..], &space, key.as_bytes()].concat()
    }
}

/// Topics and filters may be longer than keys: half of a SHA-256 stands for them.
fn digest(text: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(half, whole)| *half = whole);
    half
}

/// Reads one record.
///
/// # Errors
/// What is wrong with it.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Record, Damage> {
    let body = open(key, value)?;
    let (kind, rest) = key.split_first().ok_or(Damage::Key)?;
    match (*kind, rest) {
        (META, b"commit") => Ok(Record::Commit(read(body)?)),
        (SESSION, rest) => {
            let (session, rest) = rest.split_first_chunk().ok_or(Damage::Key)?;
            decode_session(u64::from_be_bytes(*session), rest, body)
        }
        (RETAINED, digest) => {
            let message = read::<WireMessage<'_>>(body)?.message()?;
            if digest == self::digest(&message.topic) { Ok(Record::Retained(Arc::new(message))) } else { Err(Damage::Key) }
        }
        (OWNER, space) => {
            let owner = read::<WireOwner<'_>>(body)?.owner();
            if space == owner.space().0 { Ok(Record::Owner(owner)) } else { Err(Damage::Key) }
        }
        (PAIR, rest) => {
            let (space, key) = rest.split_first_chunk().ok_or(Damage::Key)?;
            let key = std::str::from_utf8(key).map_err(|_| Damage::Key)?;
            Ok(Record::Pair(Space(*space), read::<WirePair<'_>>(body)?.pair(key)))
        }
        (LEDGER, cluster) => {
            let cluster = std::str::from_utf8(cluster).map_err(|_| Damage::Key)?;
            Ok(Record::Ledger(cluster.into(), read::<WireLedger<'_>>(body)?.ledger()))
        }
        _ => Err(Damage::Key),
    }
}

fn decode_session(session: u64, rest: &[u8], body: &[u8]) -> Result<Record, Damage> {
    let number = |rest: &[u8]| rest.try_into().map(u64::from_be_bytes).map_err(|_| Damage::Key);
    match rest.split_first().ok_or(Damage::Key)? {
        (0, []) => Ok(Record::Session(read::<WireSession<'_>>(body)?.state(session))),
        (1, []) => Ok(Record::Will(session, read::<WireWill<'_>>(body)?.will()?)),
        (2, digest) => {
            let subscription = read::<WireSubscription<'_>>(body)?.subscription()?;
            let own = digest == self::digest(&subscription.filter);
            if own { Ok(Record::Subscription(session, subscription)) } else { Err(Damage::Key) }
        }
        (3, [high, low]) => Ok(Record::Used(session, u16::from_be_bytes([*high, *low]))),
        (4, sequence) => {
            let (id, received) = read(body)?;
            if id == 0 { Err(Damage::Body) } else { Ok(Record::Flight(session, number(sequence)?, id, received)) }
        }
        (5, sequence) => Ok(Record::Queued(session, number(sequence)?, read::<WireParcel<'_>>(body)?.parcel()?)),
        (6, [high, low, cluster @ ..]) => {
            let (number, digest) = read(body)?;
            let cluster = std::str::from_utf8(cluster).map_err(|_| Damage::Key)?.into();
            Ok(Record::Intent(session, Intent { id: u16::from_be_bytes([*high, *low]), cluster, number, digest }))
        }
        _ => Err(Damage::Key),
    }
}

fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (format, rest) = value.split_first().ok_or(Damage::Body)?;
    let (crc, body) = rest.split_first_chunk().ok_or(Damage::Body)?;
    match u32::from_le_bytes(*crc) == checksum(*format, key, body) {
        false => Err(Damage::Checksum),
        true if *format != FORMAT => Err(Damage::Format(*format)),
        true => Ok(body),
    }
}

fn checksum(format: u8, key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[format]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Damage> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(Damage::Body),
    }
}

/// A value for `key`.
fn seal(key: &[u8], body: &impl Serialize) -> Vec<u8> {
    const HEADER_BYTES: usize = 5;
    // Writing to a Vec does not fail; were it to, the checksum would not agree and the record be noticed as damaged.
    let mut value = postcard::to_extend(body, vec![0; HEADER_BYTES]).unwrap_or_default();
    let crc = checksum(FORMAT, key, value.get(HEADER_BYTES..).unwrap_or_default()).to_le_bytes();
    value.iter_mut().zip([FORMAT].into_iter().chain(crc)).for_each(|(byte, header)| *byte = header);
    value
}

/// The value of the commit record.
pub(super) fn commit_value(number: u64) -> Vec<u8> {
    seal(&commit_key(), &number)
}

pub(super) fn session_value(key: &[u8], state: &SessionState) -> Vec<u8> {
    seal(key, &WireSession::new(state))
}

pub(super) fn will_value(key: &[u8], will: &StoredWill) -> Vec<u8> {
    seal(key, &WireWill::new(will))
}

pub(super) fn subscription_value(key: &[u8], subscription: &StoredSubscription) -> Vec<u8> {
    seal(key, &WireSubscription::new(subscription))
}

pub(super) fn used_value(key: &[u8]) -> Vec<u8> {
    seal(key, &())
}

pub(super) fn flight_value(key: &[u8], id: u16, received: bool) -> Vec<u8> {
    seal(key, &(id, received))
}

pub(super) fn intent_value(key: &[u8], intent: &Intent) -> Vec<u8> {
    seal(key, &(intent.number, intent.digest))
}

pub(super) fn ledger_value(key: &[u8], ledger: &StoredLedger) -> Vec<u8> {
    seal(key, &WireLedger::new(ledger))
}

pub(super) fn parcel_value(key: &[u8], parcel: &Parcel) -> Vec<u8> {
    seal(key, &WireParcel::new(parcel))
}

pub(super) fn message_value(key: &[u8], message: &Message) -> Vec<u8> {
    seal(key, &WireMessage::new(message))
}

pub(super) fn owner_value(key: &[u8], owner: &Owner) -> Vec<u8> {
    seal(key, &WireOwner::new(owner))
}

pub(super) fn pair_value(key: &[u8], pair: &Pair) -> Vec<u8> {
    seal(key, &WirePair::new(pair))
}
