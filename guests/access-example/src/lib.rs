//! Who may come in and what they may do, in three ways; take what you need.
//!
//! - By password: a device whose user name is its client id brings, as its password, the HMAC-SHA256 of its client id under the key `devices`,
//!   in hexadecimal. So a leaked password opens one device, and no list of passwords exists.
//! - By challenge: a client with the authentication method `hmac-challenge` is sent a nonce, and answers with the HMAC-SHA256 of its
//!   client id and the nonce. Nothing that can be replayed crosses the wire.
//! - By topic: under `devices/`, each client is kept to `devices/{client id}/`. It abstains about all other topics, so the next guest,
//!   the rules or the default decide about those.
//!
//! Grant: `crypto`. Key: `devices`, kind `hmac`.

use std::hash::{BuildHasher, Hasher, RandomState};

use hookgate_guest::{crypto::Hash, prelude::*};

const KEY: &str = "devices";
const METHOD: &str = "hmac-challenge";
const TREE: &str = "devices/";

struct AccessExample;

impl Guest for AccessExample {
    fn start() -> Result<Self, String> {
        Ok(AccessExample)
    }
}

impl Access for AccessExample {
    fn authenticate(&self, _: &Context, client: &Client, credentials: Credentials) -> Result<Answer, Fault> {
        if client.username.as_ref() != Some(&client.client_id) {
            return Ok(Answer::Abstain);
        }
        let mac = credentials.password.as_deref().and_then(hex).filter(|mac| mac.len() == 32);
        let good = match mac {
            Some(mac) => crypto::hmac_verify(KEY, Hash::Sha256, client.client_id.as_bytes(), &mac)?,
            None => false,
        };
        Ok(if good { Answer::Allow } else { Answer::deny(reason::BAD_USER_NAME_OR_PASSWORD, "not the password of this device") })
    }

    fn authorize(&self, _: &Context, client: &Client, _: Action, topic: String) -> Result<Answer, Fault> {
        let Some(below) = topic.strip_prefix(TREE) else { return Ok(Answer::Abstain) };
        // A client id with a wildcard or a `/` in it must not pass for somebody else's.
        let own = !client.client_id.contains(['+', '#', '/']) && below.split('/').next() == Some(&client.client_id);
        Ok(if own { Answer::Allow } else { Answer::deny(reason::NOT_AUTHORIZED, "not your topic") })
    }
}

impl EnhancedAccess for AccessExample {
    fn step(&self, _: &Context, client: &Client, exchange: Exchange) -> Result<EnhancedVerdict, Fault> {
        if exchange.method != METHOD {
            return Ok(EnhancedVerdict::Abstain);
        }
        if exchange.round == 0 {
            let nonce = nonce();
            return Ok(EnhancedVerdict::proceed(nonce, nonce));
        }
        let signed = [client.client_id.as_bytes(), &exchange.memo].concat();
        let mac = exchange.data.filter(|mac| mac.len() == 32).unwrap_or_default();
        if !mac.is_empty() && crypto::hmac_verify(KEY, Hash::Sha256, &signed, &mac)? {
            return Ok(EnhancedVerdict::Allow(Some(b"welcome".to_vec())));
        }
        Ok(EnhancedVerdict::deny(reason::NOT_AUTHORIZED, "not the answer to this challenge"))
    }
}

/// Sixteen bytes that nobody can guess: each `RandomState` has keys of its own from the host's random numbers.
fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    for part in nonce.chunks_mut(8) {
        part.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    nonce
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    pairs.collect()
}

hookgate_guest::export!(AccessExample: access, enhanced_access);

#[cfg(test)]
mod tests {
    use hookgate_guest::testing;

    use super::*;

    fn client(id: &str, username: &str) -> Client {
        Client { username: Some(username.to_owned()), ..testing::client(id) }
    }

    #[test]
    fn each_device_is_kept_to_its_own_topics() {
        for (id, topic, expected) in [
            ("d1", "devices/d1/state", Some(true)),
            ("d1", "devices/d1", Some(true)),
            ("d1", "devices/d2/state", Some(false)),
            ("d1", "devices/+/state", Some(false)),
            ("+", "devices/+/state", Some(false)),
            ("d1", "other", None),
        ] {
            let answer = AccessExample.authorize(&testing::context(), &testing::client(id), Action::Subscribe(Qos::AtMostOnce), topic.into());
            let said = match answer {
                Ok(Answer::Allow) => Some(true),
                Ok(Answer::Deny(_)) => Some(false),
                _ => None,
            };
            assert_eq!(said, expected, "{id} {topic}");
        }
    }

    #[test]
    fn passwords_are_macs_and_nothing_else() {
        testing::key(KEY, b"secret");
        // HMAC-SHA256 of "d1" under "secret".
        let good = "cea858117a6b48baa1918d091021e29e3bf6da32fa207fd9570eb734aa359b08";
        for (id, username, password, expected) in [
            ("d1", "d1", good, "allow"),
            ("d2", "d2", good, "deny"),
            ("d1", "d1", "", "deny"),
            ("d1", "d1", "zz", "deny"),
            ("d1", "d1", &good[..16], "deny"),
            ("d1", "other", good, "abstain"),
        ] {
            let credentials = Credentials { method: None, password: Some(password.as_bytes().to_vec()) };
            let said = match AccessExample.authenticate(&testing::context(), &client(id, username), credentials) {
                Ok(Answer::Allow) => "allow",
                Ok(Answer::Deny(denial)) if denial.reason_code == 0x86 => "deny",
                Ok(Answer::Abstain) => "abstain",
                other => panic!("{other:?}"),
            };
            assert_eq!(said, expected, "{id} {username} {password}");
        }
    }

    #[test]
    fn a_challenge_is_answered_with_its_own_nonce() {
        testing::key(KEY, b"secret");
        let exchange = |round, data: Option<Vec<u8>>, memo: Vec<u8>| Exchange { method: METHOD.into(), data, round, memo, again: false };
        let step = |exchange| AccessExample.step(&testing::context(), &testing::client("d1"), exchange);
        let Ok(EnhancedVerdict::Proceed(first)) = step(exchange(0, None, vec![])) else { panic!("no challenge") };
        let Ok(EnhancedVerdict::Proceed(second)) = step(exchange(0, None, vec![])) else { panic!("no challenge") };
        assert!(first.data == Some(first.memo.clone()) && first.memo != second.memo);
        assert!(matches!(step(exchange(1, Some(vec![0; 32]), first.memo.clone())), Ok(EnhancedVerdict::Deny(_))));
        assert!(matches!(step(exchange(1, None, first.memo)), Ok(EnhancedVerdict::Deny(_))));
        let other = Exchange { method: "SCRAM-SHA-256".into(), ..exchange(0, None, vec![]) };
        assert_eq!(step(other), Ok(EnhancedVerdict::Abstain));
    }
}
