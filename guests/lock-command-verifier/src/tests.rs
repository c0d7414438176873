use hookgate_guest::{state::Error, testing};

use super::*;

const TIME_MS: u64 = 1_574_744_434_000;
const TOPIC: &str = "devices/10083618796833171/command";
/// `printf %s 'action=unlock&nonce_str=u7u4p0n8&process_id=7802441525528958&ts=1574744434' | openssl dgst -sha256 -hmac secret`
const MAC: &str = "4a5f97cfa85e743365c7ddf1e6401dfdd242ba806d5e21a3b48105e0d024baa6";

fn started(settings: &[(&str, &str)]) -> Result<LockCommandVerifier, String> {
    testing::key("lock-hmac", b"secret");
    testing::set_time(TIME_MS);
    settings.iter().for_each(|(name, value)| testing::set(name, value));
    LockCommandVerifier::start()
}

fn guest() -> LockCommandVerifier {
    started(&[]).expect("defaults")
}

/// `accepted`, or the reason of the denial.
fn judge(guest: &LockCommandVerifier, topic: &str, payload: &str) -> String {
    match Publish::handle(guest, &testing::context(), &testing::client("app-1"), testing::message(topic, payload)) {
        Ok(PublishVerdict::Change(changes)) => {
            assert_eq!(changes, PublishVerdict::change().header("verified", "true"));
            "accepted".into()
        }
        Ok(PublishVerdict::Deny(denial)) => {
            assert_eq!(denial.reason_code, 0x87);
            denial.reason
        }
        other => format!("{other:?}"),
    }
}

/// The command of the sample, with any other nonce and time, signed.
fn signed(nonce: &str, ts: i64, more: &str) -> String {
    let text = format!("action=unlock&nonce_str={nonce}&process_id=7802441525528958&ts={ts}");
    let sign = sign(&text);
    format!(r#"{{"process_id":"7802441525528958","action":"unlock","nonce_str":"{nonce}","ts":{ts},{more}"sign":"{sign}"}}"#)
}

/// The signature of a text, 16 digits.
fn sign(text: &str) -> String {
    use hmac::Mac;
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"secret").expect("any length").chain_update(text).finalize();
    mac.into_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_sample_command_is_accepted_once_per_lock() {
    let guest = guest();
    let payload = r#"{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434,"sign":"4a5f97cfa85e7433"}"#;
    assert_eq!(judge(&guest, TOPIC, payload), "accepted");
    assert_eq!(judge(&guest, TOPIC, payload), "replayed");
    assert_eq!(judge(&guest, "devices/other/command", payload), "accepted", "nonces are counted per lock");
    let reordered =
        r#" {"sign":"4a5f97cfa85e7433","ts":1574744434, "nonce_str":"u7u4\u00700n8","action":"unlock","process_id":"7802441525528958"}"#;
    assert_eq!(judge(&guest, TOPIC, reordered), "replayed", "the same command, written otherwise");
}

#[test]
fn signatures_have_exactly_the_digits_that_were_set() {
    let payload = |sign: &str| {
        format!(r#"{{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434,"sign":"{sign}"}}"#)
    };
    for digits in [16, 18, 40, 64] {
        let guest = started(&[("signature_digits", &digits.to_string())]).expect("a good setting");
        for length in (0..=64).filter(|length| *length != digits) {
            assert_eq!(judge(&guest, TOPIC, &payload(&MAC[..length])), "bad-signature", "{length} of {digits} digits");
        }
        assert_eq!(judge(&guest, &format!("devices/{digits}/command"), &payload(&MAC[..digits])), "accepted");
        for wrong in [MAC.to_uppercase(), MAC.replace('a', "b"), MAC.replace('a', "g"), MAC.replace('5', "é"), "0".repeat(64)] {
            let cut = wrong.get(..digits).unwrap_or(&wrong);
            assert_eq!(judge(&guest, TOPIC, &payload(cut)), "bad-signature", "{cut}");
        }
    }
}

#[test]
fn every_field_but_the_signature_is_signed() {
    let guest = guest();
    let sign = sign("action=unlock&nonce_str=n1&process_id=7802441525528958&speed=1.50&ts=1574744434&user=Zoë=1");
    let more = r#""user":"Zo\u00eb=1","speed":1.50,"#;
    let with = |more: &str| {
        let unsigned = r#""process_id":"7802441525528958","action":"unlock","nonce_str":"n1","ts":1574744434,"#;
        format!(r#"{{{unsigned}{more}"sign":"{sign}"}}"#)
    };
    for (more, expected) in [
        (r#""user":"Zoë=1","speed":1.5,"#, "bad-signature"),
        (r#""user":"Zoë=1","#, "bad-signature"),
        (r#""user":"Zoë=1","speed":1.50,"x":1,"#, "bad-signature"),
        (more, "accepted"),
        (more, "replayed"),
    ] {
        assert_eq!(judge(&guest, TOPIC, &with(more)), expected, "{more}");
    }
    let other_action = signed("n2", 1_574_744_434, "").replace("unlock", "lock");
    assert_eq!(judge(&guest, TOPIC, &other_action), "bad-signature");
}

#[test]
fn what_could_be_read_in_two_ways_is_malformed_even_when_it_is_signed() {
    let guest = guest();
    let good = signed("n1", 1_574_744_434, "");
    for (from, to) in [
        ("\"ts\":1574744434,", ""),
        ("\"action\":\"unlock\",", ""),
        ("\"nonce_str\":\"n1\",", ""),
        ("\"process_id\":\"7802441525528958\",", ""),
        ("\"sign\"", "\"signature\""),
        ("\"ts\":1574744434", "\"ts\":\"1574744434\""),
        ("\"ts\":1574744434", "\"ts\":1574744434.0"),
        ("\"ts\":1574744434", "\"ts\":1.574744434e9"),
        ("\"ts\":1574744434", "\"ts\":99999999999999999999"),
        ("\"nonce_str\":\"n1\"", "\"nonce_str\":1"),
        ("\"nonce_str\":\"n1\"", "\"nonce_str\":\"\""),
        ("\"action\":\"unlock\"", "\"action\":true"),
        ("\"action\":\"unlock\"", "\"action\":\"unlock\",\"action\":\"unlock\""),
        ("{", "{\"more\":{},"),
        ("{", "{\"\":\"\","),
        ("}", "} x"),
        ("}", ""),
    ] {
        let payload = good.replacen(from, to, 1);
        assert_ne!(payload, good);
        assert_eq!(judge(&guest, TOPIC, &payload), "malformed", "{payload}");
    }
    for payload in ["", "unlock", "[]", "{}"] {
        assert_eq!(judge(&guest, TOPIC, payload), "malformed", "{payload}");
    }
    assert_eq!(judge(&guest, TOPIC, &signed(&"n".repeat(129), 1_574_744_434, "")), "malformed");
    assert_eq!(judge(&guest, TOPIC, &signed(&"n".repeat(128), 1_574_744_434, "")), "accepted");
}

/// `a=1&b=2` may be two fields or one whose value is `1&b=2`: with one signature for both, a nonce could be lengthened into a new one.
#[test]
fn a_nonce_cannot_swallow_the_next_field() {
    let guest = guest();
    let sign = sign("action=unlock&nonce_str=n1&note=x&process_id=7802441525528958&ts=1574744434");
    let command = |fields: &str| {
        judge(&guest, TOPIC, &format!(r#"{{"process_id":"7802441525528958","action":"unlock",{fields},"ts":1574744434,"sign":"{sign}"}}"#))
    };
    assert_eq!(command(r#""nonce_str":"n1","note":"x""#), "accepted");
    assert_eq!(command(r#""nonce_str":"n1&note=x""#), "malformed");
    assert_eq!(command(r#""nonce_str":"n1","note=x&process_id":"x""#), "malformed");
}

#[test]
fn fresh_means_within_max_age_on_both_sides() {
    let guest = started(&[("max_age_s", "10")]).expect("a good setting");
    let sent = 1_574_744_434;
    for (time_ms, expected) in [
        (TIME_MS - 10_001, "stale"),
        (TIME_MS - 10_000, "accepted"),
        (TIME_MS + 10_000, "accepted"),
        (TIME_MS + 10_001, "stale"),
        (0, "stale"),
        (u64::MAX, "stale"),
    ] {
        testing::set_time(time_ms);
        assert_eq!(judge(&guest, &format!("devices/{time_ms}/command"), &signed("n1", sent, "")), expected, "at {time_ms}");
    }
    testing::set_time(TIME_MS);
    for ts in [i64::MIN, -1, 0, i64::MAX] {
        assert_eq!(judge(&guest, TOPIC, &signed("n2", ts, "")), "stale", "{ts}");
    }
}

#[test]
fn a_nonce_is_remembered_for_as_long_as_its_command_is_fresh() {
    let guest = started(&[("max_age_s", "10")]).expect("a good setting");
    let payload = signed("n1", 1_574_744_434, "");
    testing::set_time(TIME_MS - 10_000);
    assert_eq!(judge(&guest, TOPIC, &payload), "accepted", "as early as can be");
    testing::set_time(TIME_MS + 10_000);
    assert_eq!(judge(&guest, TOPIC, &payload), "replayed", "as late as can be");
}

#[test]
fn only_authentic_and_fresh_commands_leave_a_nonce() {
    let guest = guest();
    let good = signed("n1", 1_574_744_434, "");
    assert_eq!(judge(&guest, TOPIC, &good.replace("unlock", "lock")), "bad-signature");
    testing::set_time(TIME_MS + 31_000);
    assert_eq!(judge(&guest, TOPIC, &good), "stale");
    testing::set_time(TIME_MS);
    assert_eq!(judge(&guest, TOPIC, &good), "accepted");
}

#[test]
fn one_event_that_passes_twice_is_no_replay() {
    let guest = guest();
    let context = testing::context();
    let handle = || Publish::handle(&guest, &context, &testing::client("app-1"), testing::message(TOPIC, signed("n1", 1_574_744_434, "")));
    assert_eq!(handle(), Ok(PublishVerdict::change().header("verified", "true").into()));
    assert_eq!(handle(), Ok(PublishVerdict::change().header("verified", "true").into()));
}

#[test]
fn what_it_cannot_judge_is_a_fault() {
    let guest = guest();
    let judge = |topic: &str| {
        Publish::handle(&guest, &testing::context(), &testing::client("app-1"), testing::message(topic, signed("n1", 1_574_744_434, "")))
    };
    assert!(matches!(judge("command"), Err(Fault::Invalid(_))));
    testing::fail_state(Some(Error::Quota));
    assert!(matches!(judge(TOPIC), Err(Fault::Retry(_))));
    testing::fail_state(None);
    assert!(judge(TOPIC).is_ok());
    let without_key = LockCommandVerifier { key: "gone".into(), ..guest };
    let verdict = Publish::handle(&without_key, &testing::context(), &testing::client("a"), testing::message(TOPIC, signed("n2", 1_574_744_434, "")));
    assert!(matches!(verdict, Err(Fault::Internal(_))));
}

#[test]
fn settings_are_checked_when_it_starts() {
    for (name, value) in [
        ("signature_digits", "14"),
        ("signature_digits", "17"),
        ("signature_digits", "66"),
        ("signature_digits", "many"),
        ("max_age_s", "0"),
        ("max_age_s", "-1"),
        ("max_age_s", "86401"),
        ("key", "no-such-key"),
    ] {
        testing::set("key", "lock-hmac");
        testing::set("signature_digits", 16);
        testing::set("max_age_s", 30);
        let problem = started(&[(name, value)]).err().unwrap_or_default();
        assert!(problem.contains(name) && problem.contains(value), "{problem}");
    }
}

/// `accepted`, or why the record is dropped.
fn judge_record(guest: &LockCommandVerifier, lock: &str, offset: u64, command: &str) -> String {
    match Downlink::handle(guest, &testing::context(), "commands", testing::fetched(offset, lock, command), Vec::new()) {
        Ok(DownlinkVerdict::Pass) => "accepted".into(),
        Ok(DownlinkVerdict::Drop(reason)) => reason,
        other => format!("{other:?}"),
    }
}

#[test]
fn commands_from_kafka_are_judged_as_those_from_apps() {
    let guest = guest();
    let ts = (TIME_MS / 1000) as i64;
    let first = signed("n-1", ts, "");
    assert_eq!(judge_record(&guest, "lock-1", 7, &first), "accepted");
    assert_eq!(judge_record(&guest, "lock-1", 7, &first), "accepted", "the same record again, after a failure");
    assert_eq!(judge_record(&guest, "lock-1", 8, &first), "replayed");
    assert_eq!(judge(&guest, "devices/lock-1/command", &first), "replayed", "whichever way it comes");
    assert_eq!(judge_record(&guest, "lock-1", 9, &signed("n-2", ts - 31, "")), "stale");
    assert_eq!(judge_record(&guest, "lock-1", 10, "{}"), "malformed");
    let fetched = Fetched { key: None, ..testing::fetched(11, "", "{}") };
    assert!(matches!(Downlink::handle(&guest, &testing::context(), "d", fetched, Vec::new()), Err(Fault::Invalid(_))));
}
