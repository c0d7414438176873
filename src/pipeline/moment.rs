//! Times as devices write them.

use std::time::{Duration, SystemTime};

/// Milliseconds since the Unix epoch, or an RFC 3339 time.
pub(super) fn parse_ms(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    rfc_3339_ms(text)
}

fn rfc_3339_ms(text: &str) -> Option<u64> {
    let upper = text.to_ascii_uppercase(); // `t` and `z` are allowed
    let (local, offset_minutes) = match upper.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let at = upper.len().checked_sub("+00:00".len()).filter(|at| upper.is_char_boundary(*at))?;
            let (local, offset) = upper.split_at(at);
            (local, offset_minutes(offset)?)
        }
    };
    if local.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let since = humantime::parse_rfc3339(&format!("{local}Z")).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let offset = Duration::from_secs(60 * u64::from(offset_minutes.unsigned_abs()));
    let since = if offset_minutes < 0 { since.checked_add(offset) } else { since.checked_sub(offset) };
    u64::try_from(since?.as_millis()).ok()
}

/// `+02:00` or `-03:30`, in minutes.
fn offset_minutes(text: &str) -> Option<i16> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let number = |text: &str| text.parse::<i16>().ok().filter(|_| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()));
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (number(hours).filter(|hours| *hours < 24)?, number(minutes).filter(|minutes| *minutes < 60)?);
    Some(sign * (60 * hours + minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Devices write these texts: whatever they write is a time or none.
        #[test]
        fn no_text_is_a_panic(wild in ".{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{5,16}([Zz]|[+-][0-9:]{4,6})") {
            parse_ms(&wild);
            parse_ms(&near);
        }

        #[test]
        fn what_is_written_is_read(ms in 0_u64..4_102_444_800_000) {
            let text = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string();
            prop_assert_eq!(parse_ms(&text), Some(ms));
            prop_assert_eq!(parse_ms(&ms.to_string()), Some(ms));
        }
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        for (text, expected) in [
            ("1574744434123", Some(1_574_744_434_123)),
            ("0", Some(0)),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("15.5", None),
            ("2019-11-26T05:00:34Z", Some(1_574_744_434_000)),
            ("2019-11-26T05:00:34.123Z", Some(1_574_744_434_123)),
            ("2019-11-26t05:00:34.123456z", Some(1_574_744_434_123)),
            ("2019-11-26T07:00:34+02:00", Some(1_574_744_434_000)),
            ("2019-11-26T01:30:34.5-03:30", Some(1_574_744_434_500)),
            ("1970-01-01T01:00:00+02:00", None),
            ("2019-11-26 05:00:34Z", None),
            ("2019-11-26T05:00:34", None),
            ("2019-13-26T05:00:34Z", None),
            ("2019-11-26T05:00:34+2:00", None),
            ("2019-11-26T05:00:34+24:00", None),
            ("ä+00:00", None),
            ("+00:00", None),
        ] {
            assert_eq!(parse_ms(text), expected, "{text}");
        }
    }
}
