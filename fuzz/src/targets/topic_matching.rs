//! Topic filters and names: the checks never panic, and matching agrees with a naive model wherever both texts are valid.
//!
//! Input: the filter, a line feed, the topic name.

use crate::topic::{TopicFilter, check_filter, check_name, matches};

/// Any bytes; what is not UTF-8 is refused before.
pub fn run(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (filter, topic) = input.split_once('\n').unwrap_or((input, ""));
    let valid_filter = check_filter(filter).is_ok();
    let valid_topic = check_name(topic).is_ok();
    assert_eq!(valid_filter, naive_filter(filter), "filter {filter:?}");
    assert_eq!(valid_topic, naive_name(topic), "topic {topic:?}");

    let parsed = TopicFilter::parse(filter);
    assert_eq!(parsed.is_ok(), valid_filter);
    // Callers promise valid texts; a broken promise may give any answer but must not panic.
    let answer = matches(filter, topic);
    if let Ok(parsed) = parsed
        && valid_topic
    {
        assert_eq!(parsed.as_str(), filter);
        assert_eq!(parsed.matches(topic), answer);
        let (levels, parts): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        let hidden = topic.starts_with('$') && matches!(levels.first(), Some(&"+" | &"#"));
        assert_eq!(answer, !hidden && naive(&levels, &parts), "{filter:?} ~ {topic:?}");
    }
}

fn naive_text(text: &str) -> bool {
    (1..=65_535).contains(&text.len()) && !text.contains('\0')
}

fn naive_name(topic: &str) -> bool {
    naive_text(topic) && !topic.contains(['+', '#'])
}

fn naive_filter(filter: &str) -> bool {
    let levels: Vec<_> = filter.split('/').collect();
    let last = levels.len() - 1;
    naive_text(filter)
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "+" => true,
            "#" => at == last,
            level => !level.contains(['+', '#']),
        })
}

/// MQTT 5, section 4.7, by recursion over level lists.
fn naive(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([want, filter @ ..], [level, topic @ ..]) => (*want == "+" || want == level) && naive(filter, topic),
        _ => false,
    }
}
