//! MQTT topic names and topic filters: what is valid, and what matches what (MQTT 5, section 4.7).

use std::fmt;

/// The longest topic name or filter, bytes (MQTT 5, section 1.5.4).
const MAX_BYTES: usize = 65_535;

/// What is wrong with a topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("it is empty")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("it is longer than 65535 bytes")]
    TooLong,
    /// [MQTT-4.7.3-2]
    #[error("it contains the character U+0000")]
    Nul,
    /// [MQTT-3.3.2-2]
    #[error("a topic name contains no wildcard")]
    Wildcard,
    /// [MQTT-4.7.1-1]
    #[error("`#` must be a whole level and the last one")]
    MultiLevel,
    /// [MQTT-4.7.1-2]
    #[error("`+` must be a whole level")]
    SingleLevel,
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("a shared subscription reads `$share/name/filter`, the name without `/`, `+` and `#`")]
    Share,
}

/// Checks a topic name, as PUBLISH and wills carry it.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_name(topic: &str) -> Result<(), TopicError> {
    check_text(topic)?;
    if topic.bytes().any(|byte| byte == b'+' || byte == b'#') { Err(TopicError::Wildcard) } else { Ok(()) }
}

/// Checks a topic filter, without looking at a `$share/` prefix.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_text(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::SingleLevel);
        }
    }
    Ok(())
}

/// The parts of a shared subscription's filter: `$share/name/filter` (MQTT 5, section 4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The share name: who shares.
    pub group: &'a str,
    /// What they share: an ordinary filter.
    pub filter: &'a str,
}

/// Splits the filter of a shared subscription; `None` is an ordinary one. 3.1.1 knows nothing of it, but its clients use it all the same.
///
/// # Errors
/// It begins with `$share` and is no shared subscription.
pub fn split_share(filter: &str) -> Result<Option<Share<'_>>, TopicError> {
    let Some(rest) = filter.strip_prefix("$share") else { return Ok(None) };
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() { Err(TopicError::Share) } else { Ok(None) };
    };
    match rest.split_once('/') {
        Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() => {
            Ok(Some(Share { group, filter }))
        }
        _ => Err(TopicError::Share),
    }
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > MAX_BYTES {
        Err(TopicError::TooLong)
    } else if text.bytes().any(|byte| byte == 0) {
        Err(TopicError::Nul)
    } else {
        Ok(())
    }
}

/// Whether `topic` matches `filter`; both must be valid.
///
/// Wildcards on the first level do not match topics that begin with `$` [MQTT-4.7.2-1]; `a/#` matches `a` as well.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    // Bytes, not chars: UTF-8 has no `/` inside a character, and searching for a char costs more than short levels are long.
    let mut levels = topic.as_bytes().split(|byte| *byte == b'/');
    for want in filter.as_bytes().split(|byte| *byte == b'/') {
        if want == b"#" {
            return true;
        }
        let Some(level) = levels.next() else { return false };
        if want != b"+" && want != level {
            return false;
        }
    }
    levels.next().is_none()
}

/// Whether every topic that matches `filter` also matches `wide`; both must be valid filters.
pub fn covers(wide: &str, filter: &str) -> bool {
    if filter.starts_with('$') && wide.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    if filter == "#" {
        return wide == "#" || wide == "+/#"; // every topic has a first level
    }
    let mut levels = filter.split('/');
    for want in wide.split('/') {
        if want == "#" {
            return true;
        }
        match levels.next() {
            None | Some("#") => return false,
            Some(level) if want != "+" && want != level => return false,
            Some(_) => {}
        }
    }
    levels.next().is_none()
}

/// Whether some topic matches both of two valid filters.
pub fn overlaps(one: &str, other: &str) -> bool {
    let (wild, reserved) = (|filter: &str| filter.starts_with(['+', '#']), |filter: &str| filter.starts_with('$'));
    if (wild(one) && reserved(other)) || (reserved(one) && wild(other)) {
        return false; // [MQTT-4.7.2-1]
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(level), Some(other)) if level == "+" || other == "+" || level == other => {}
            _ => return false,
        }
    }
}

/// A filter without the `$share/name/` of a shared subscription.
pub fn unshared(filter: &str) -> &str {
    split_share(filter).ok().flatten().map_or(filter, |share| share.filter)
}

/// A valid topic filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter(Box<str>);

impl TopicFilter {
    /// Takes a text that passes [`check_filter`].
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(filter: &str) -> Result<Self, TopicError> {
        check_filter(filter).map(|()| TopicFilter(filter.into()))
    }

    /// Whether it matches a topic name.
    pub fn matches(&self, topic: &str) -> bool {
        matches(&self.0, topic)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (topic, expected) in [
            ("a", Ok(())),
            ("/", Ok(())),
            ("ä/ö/日本", Ok(())),
            ("", Err(TopicError::Empty)),
            ("a/#", Err(TopicError::Wildcard)),
            ("a/+/b", Err(TopicError::Wildcard)),
            ("a\0", Err(TopicError::Nul)),
        ] {
            assert_eq!(check_name(topic), expected, "{topic:?}");
        }
        assert_eq!(check_name(&"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    #[test]
    fn filters() {
        for (filter, expected) in [
            ("#", Ok(())),
            ("+", Ok(())),
            ("a/+/b/#", Ok(())),
            ("/", Ok(())),
            ("a/#/b", Err(TopicError::MultiLevel)),
            ("a#", Err(TopicError::MultiLevel)),
            ("a+", Err(TopicError::SingleLevel)),
            ("+a/b", Err(TopicError::SingleLevel)),
        ] {
            assert_eq!(check_filter(filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn shares() {
        let share = |group, filter| Ok(Some(Share { group, filter }));
        for (filter, expected) in [
            ("$share/g/a", share("g", "a")),
            ("$share/g/a/+/#", share("g", "a/+/#")),
            ("$share/g//", share("g", "/")),
            ("$share/g h/$SYS/a", share("g h", "$SYS/a")),
            ("a/b", Ok(None)),
            ("$shared/g/a", Ok(None)),
            ("x/$share/g/a", Ok(None)),
            ("$share", Err(TopicError::Share)),
            ("$share/", Err(TopicError::Share)),
            ("$share/g", Err(TopicError::Share)),
            ("$share/g/", Err(TopicError::Share)),
            ("$share//a", Err(TopicError::Share)),
            ("$share/+/a", Err(TopicError::Share)),
            ("$share/g#/a", Err(TopicError::Share)),
        ] {
            assert_eq!(split_share(filter), expected, "{filter}");
        }
    }

    #[test]
    fn matching() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} ~ {topic}");
        }
    }

    /// The rules again, by recursion over level lists.
    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            ([want, filter @ ..], [level, topic @ ..]) => (*want == "+" || want == level) && naive(filter, topic),
            _ => false,
        }
    }

    /// All topics of up to five levels that are `a`, `b`, `c` or nothing.
    fn topics() -> Vec<String> {
        let levels = ["a", "b", "c", ""];
        let (mut all, mut last): (Vec<String>, Vec<String>) = (Vec::new(), levels.map(str::to_owned).to_vec());
        for _ in 0..5 {
            let longer = last.iter().flat_map(|topic| levels.map(|level| format!("{topic}/{level}"))).collect();
            all.append(&mut std::mem::replace(&mut last, longer));
        }
        all.retain(|topic| !topic.is_empty());
        all
    }

    #[test]
    fn filters_of_the_server_and_shared_ones() {
        for (one, other, covered, overlapping) in [
            ("#", "$SYS/#", false, false),
            ("+/x", "$SYS/x", false, false),
            ("$SYS/#", "$SYS/a/+", true, true),
            ("$SYS/a", "$SYS/#", false, true),
            ("a/#", "a", true, true),
            ("#", "#", true, true),
            ("+", "#", false, true),
        ] {
            assert_eq!((covers(one, other), overlaps(one, other)), (covered, overlapping), "{one} {other}");
        }
        for (filter, expected) in [("$share/g/a/#", "a/#"), ("$share/g//a", "/a"), ("$shared/a", "$shared/a"), ("a", "a")] {
            assert_eq!(unshared(filter), expected);
        }
    }

    proptest! {
        /// Whatever is taken apart was put together so, and nothing else is taken apart.
        #[test]
        fn shares_are_what_they_were_made_of(group in "[a+#/]{0,3}", filter in "[a+#/]{0,5}") {
            let text = format!("$share/{group}/{filter}");
            let whole = !group.is_empty() && !group.contains(['+', '#', '/']) && !filter.is_empty();
            match split_share(&text) {
                Ok(Some(share)) => prop_assert_eq!(format!("$share/{}/{}", share.group, share.filter), text.as_str()),
                other => prop_assert!(!whole && other == Err(TopicError::Share)),
            }
            let expected = Ok(Some(Share { group: &group, filter: &filter }));
            prop_assert!(!whole || split_share(&text) == expected);
        }

        #[test]
        fn agrees_with_the_naive_model(
            filter in "(\\+|a|b|)(/(\\+|a|b|)){0,4}(/#)?",
            topic in "(a|b|)(/(a|b|)){0,5}",
        ) {
            prop_assume!(!filter.is_empty() && !topic.is_empty());
            let (levels, parts): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
            prop_assert_eq!(matches(&filter, &topic), naive(&levels, &parts));
        }

        /// Against all topics of up to five levels of `a`, `b` and nothing.
        #[test]
        fn covering_and_overlapping_are_about_topics(
            one in "(\\+|a|b)(/(\\+|a|b|)){0,3}(/#)?|#",
            other in "(\\+|a|b)(/(\\+|a|b|)){0,3}(/#)?|#",
        ) {
            let topics = topics();
            let both = |topic: &&String| matches(&one, topic) && matches(&other, topic);
            prop_assert_eq!(overlaps(&one, &other), topics.iter().any(|topic| both(&topic)));
            prop_assert_eq!(covers(&one, &other), topics.iter().all(|topic| !matches(&other, topic) || matches(&one, topic)));
        }
    }
}
