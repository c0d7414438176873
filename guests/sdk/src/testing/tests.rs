use super::*;
use crate::{
    crypto::{self, Hash},
    settings, state,
};

#[test]
fn settings_are_read_into_types() {
    set("seconds", 7);
    set("word", "seven");
    assert_eq!(settings::get_or("seconds", 30), Ok(7));
    assert_eq!(settings::get_or("absent", 30), Ok(30));
    assert_eq!(settings::required::<String>("word"), Ok("seven".to_owned()));
    assert!(settings::get_or("word", 30).is_err_and(|problem| problem.contains("`word`") && problem.contains("seven")));
    assert!(settings::required::<u32>("absent").is_err_and(|problem| problem.contains("missing")));
}

#[test]
fn state_expires_by_the_time_that_was_set() {
    set_time(1_000);
    assert_eq!(state::put_if_absent("k", b"1", Some(2)), Ok(true));
    set_time(2_999);
    assert_eq!(state::put_if_absent("k", b"2", Some(2)), Ok(false));
    assert_eq!(state::get("k"), Ok(Some(b"1".to_vec())));
    set_time(3_000);
    assert_eq!(state::get("k"), Ok(None));
    assert_eq!(state::put_if_absent("k", b"3", None), Ok(true));
    set_time(u64::MAX);
    assert_eq!((state::put("k", b"4", None), state::remove("k"), state::get("k")), (Ok(()), Ok(()), Ok(None)));
}

#[test]
fn counters_saturate_and_keep_their_first_time() {
    set_time(0);
    assert_eq!(state::add("n", 2, Some(1)), Ok(2));
    set_time(999);
    assert_eq!(state::add("n", i64::MAX, Some(1)), Ok(i64::MAX));
    assert_eq!(state::get("n"), Ok(Some(i64::MAX.to_le_bytes().to_vec())));
    set_time(1_000);
    assert_eq!(state::add("n", -1, None), Ok(-1));
    assert_eq!(state::put("n", b"text", None), Ok(()));
    assert!(matches!(state::add("n", 1, None), Err(Error::Unavailable(_))));
}

/// RFC 4231, test case 2.
#[test]
fn macs_may_be_truncated_to_eight_bytes() {
    key("jefe", b"Jefe");
    let mac = [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a];
    let verify = |key: &str, mac: &[u8]| crypto::hmac_verify(key, Hash::Sha256, b"what do ya want for nothing?", mac);
    assert_eq!(verify("jefe", &mac), Ok(true));
    assert_eq!(verify("jefe", &mac[..8]), Ok(true));
    assert_eq!(verify("jefe", &[0; 32]), Ok(false));
    assert_eq!(verify("other", &mac), Err(crypto::Error::NoSuchKey));
    for wrong in [&[][..], &mac[..7], &[0; 33]] {
        assert!(matches!(verify("jefe", wrong), Err(crypto::Error::Malformed(_))));
    }
    assert_eq!(crypto::digest(Hash::Sha512, b"").len(), 64);
}

#[test]
fn what_guests_say_can_be_seen() {
    crate::log::warn!("{} of {}", 1, 2);
    crate::metrics::count("seen", 2);
    crate::metrics::observe("size", 1.5);
    assert_eq!(logged(), [(Level::Warn, "1 of 2".to_owned())]);
    assert_eq!((counted("seen"), counted("other"), observed("size")), (2, 0, vec![1.5]));
}
