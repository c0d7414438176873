//! The rules of `[[acl]]`: the first that matches decides.
//!
//! A subscription is about many topics. An allow rule matches it when all of them are the rule's, a deny rule when any of them is; so no
//! filter is wide enough to slip past a rule.
//!
//! What a client calls itself cannot widen a rule: a `%c` or `%u` whose value has `+`, `#` or `/` in it, begins with `$`, or is missing
//! matches nothing in an allow rule, and its whole level matches everything in a deny rule.

use std::borrow::Cow;

use crate::{
    config::{Pattern, Permission, Rule, RuleAction},
    event::{Action, Client},
    topic,
};

/// What the first matching rule says.
pub(super) fn decide(rules: &[Rule], client: &Client, action: Action, topic: &str) -> Option<Permission> {
    rules.iter().find(|rule| is_about(rule, client, action) && names(rule, client, action, topic)).map(|rule| rule.permission)
}

fn is_about(rule: &Rule, client: &Client, action: Action) -> bool {
    let action = match rule.action {
        RuleAction::All => true,
        RuleAction::Publish => matches!(action, Action::Publish(_)),
        RuleAction::Subscribe => matches!(action, Action::Subscribe(_)),
    };
    let one_of = |names: &[String], name: Option<&str>| names.is_empty() || name.is_some_and(|name| names.iter().any(|own| own == name));
    action
        && one_of(&rule.usernames, client.username.as_deref())
        && one_of(&rule.client_ids, Some(&client.client_id))
        && (rule.peers.is_empty() || rule.peers.iter().any(|network| network.contains(client.peer.ip())))
}

fn names(rule: &Rule, client: &Client, action: Action, topic: &str) -> bool {
    rule.topics.iter().any(|pattern| {
        let Some(own) = filled(pattern, client, rule.permission) else { return false };
        match (action, rule.permission) {
            _ if pattern.literal => own == topic,
            (Action::Publish(_), _) => topic::matches(&own, topic),
            (Action::Subscribe(_), Permission::Allow) => topic::covers(&own, topic),
            (Action::Subscribe(_), Permission::Deny) => topic::overlaps(&own, topic),
        }
    })
}

/// The pattern for this client; `None` when it has no value that can stand in it.
fn filled<'a>(pattern: &'a Pattern, client: &Client, permission: Permission) -> Option<Cow<'a, str>> {
    if !pattern.filled {
        return Some(Cow::Borrowed(&pattern.text));
    }
    let mut text = String::with_capacity(pattern.text.len() + client.client_id.len());
    for (index, level) in pattern.text.split('/').enumerate() {
        if index > 0 {
            text.push('/');
        }
        let start = text.len();
        if !fill(level, client, &mut text) {
            if permission == Permission::Allow || pattern.literal {
                return None;
            }
            text.truncate(start);
            text.push('+');
        }
    }
    Some(Cow::Owned(text))
}

/// Appends a level with its placeholders filled in; false when one cannot be. Values are not looked at for placeholders again.
fn fill(level: &str, client: &Client, into: &mut String) -> bool {
    let mut rest = level;
    while let Some((before, after)) = rest.split_once('%') {
        into.push_str(before);
        let value = match after.as_bytes().first() {
            Some(b'c') => Some(&*client.client_id),
            Some(b'u') => client.username.as_deref(),
            _ => {
                into.push('%');
                rest = after;
                continue;
            }
        };
        let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with('$') && !value.contains(['+', '#', '/', '\0']))
        else {
            return false;
        };
        into.push_str(value);
        rest = after.get(1..).unwrap_or_default();
    }
    into.push_str(rest);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{QoS, Text};

    const PUBLISH: Action = Action::Publish(QoS::AtLeastOnce);
    const SUBSCRIBE: Action = Action::Subscribe(QoS::AtLeastOnce);

    fn client(id: &str, user: &str) -> Client {
        Client {
            client_id: id.into(),
            username: (user != "-").then(|| Text::from(user)),
            peer: ([10, 1, 2, 3], 1).into(),
            protocol_version: 5,
            certificate_name: None,
            connected_at_ms: 0,
        }
    }

    fn rule(permission: Permission, topic: &str) -> Rule {
        let topics = vec![Pattern::parse(topic).unwrap()];
        Rule { permission, usernames: vec![], client_ids: vec![], peers: vec![], action: RuleAction::All, topics }
    }

    #[test]
    fn topics_of_a_rule() {
        let (allow, deny) = (Permission::Allow, Permission::Deny);
        for (permission, pattern, id, user, action, topic, expected) in [
            (allow, "devices/%c/#", "d1", "-", PUBLISH, "devices/d1/state", true),
            (allow, "devices/%c/#", "d1", "-", PUBLISH, "devices/d2/state", false),
            (allow, "%u/lock-%c/x", "d1", "acme", PUBLISH, "acme/lock-d1/x", true),
            (allow, "100%/%c", "d1", "-", PUBLISH, "100%/d1", true),
            // Names that would widen the rule.
            (allow, "devices/%c/#", "+", "-", PUBLISH, "devices/d2/state", false),
            (allow, "devices/%c/#", "#", "-", SUBSCRIBE, "devices/#", false),
            (allow, "devices/%c", "a/b", "-", PUBLISH, "devices/a/b", false),
            (allow, "%c/#", "$SYS", "-", SUBSCRIBE, "$SYS/#", false),
            (allow, "%u/#", "d1", "-", PUBLISH, "d1/x", false),
            (allow, "%u/%c", "x", "%c", PUBLISH, "x/x", false),
            (deny, "devices/%c/config", "a/b", "-", PUBLISH, "devices/c/config", true),
            (deny, "devices/%c/config", "a/b", "-", PUBLISH, "devices/c/state", false),
            (deny, "eq devices/%c", "+", "-", SUBSCRIBE, "devices/+", false),
            // Subscriptions: allowed as a whole, denied for any part.
            (allow, "devices/%c/#", "d1", "-", SUBSCRIBE, "devices/d1/#", true),
            (allow, "devices/%c/#", "d1", "-", SUBSCRIBE, "devices/+/state", false),
            (allow, "devices/%c/#", "d1", "-", SUBSCRIBE, "#", false),
            (deny, "secret/#", "d1", "-", SUBSCRIBE, "#", true),
            (deny, "secret/#", "d1", "-", SUBSCRIBE, "+/a", true),
            (deny, "secret/#", "d1", "-", SUBSCRIBE, "public/#", false),
            (deny, "$SYS/#", "d1", "-", SUBSCRIBE, "#", false),
            (deny, "eq #", "d1", "-", SUBSCRIBE, "#", true),
            (deny, "eq #", "d1", "-", SUBSCRIBE, "a/#", false),
        ] {
            let decided = decide(&[rule(permission, pattern)], &client(id, user), action, topic);
            assert_eq!(decided, expected.then_some(permission), "{permission:?} {pattern} {id} {user} {action:?} {topic}");
        }
    }

    #[test]
    fn the_first_rule_about_this_client_and_action_decides() {
        let other = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rules = [
            Rule { usernames: other(&["root"]), ..rule(Permission::Allow, "#") },
            Rule { client_ids: other(&["d2"]), action: RuleAction::Publish, ..rule(Permission::Allow, "a") },
            Rule { peers: vec!["192.0.2.0/24".parse().unwrap()], ..rule(Permission::Allow, "a") },
            Rule { peers: vec!["10.0.0.0/8".parse().unwrap()], action: RuleAction::Subscribe, ..rule(Permission::Allow, "b") },
            rule(Permission::Deny, "a"),
        ];
        for (id, user, action, topic, expected) in [
            ("d1", "root", SUBSCRIBE, "x/#", Some(Permission::Allow)),
            ("d2", "-", PUBLISH, "a", Some(Permission::Allow)),
            ("d2", "-", SUBSCRIBE, "a", Some(Permission::Deny)),
            ("d1", "-", PUBLISH, "a", Some(Permission::Deny)),
            ("d1", "-", SUBSCRIBE, "b", Some(Permission::Allow)),
            ("d1", "-", PUBLISH, "b", None),
        ] {
            assert_eq!(decide(&rules, &client(id, user), action, topic), expected, "{id} {user} {action:?} {topic}");
        }
    }

    proptest! {
        /// Whatever a client calls itself, `devices/%c/#` gives it nothing outside of one level under `devices`.
        #[test]
        fn no_name_widens_an_allow_rule(id in "[a-c+#/$%u]{0,6}", topic in "(devices|other)(/[a-c+]{1,2}){0,4}") {
            let decided = decide(&[rule(Permission::Allow, "devices/%c/#")], &client(&id, "u"), PUBLISH, &topic);
            let own = topic.split('/').nth(1) == Some(&id) && topic.starts_with("devices/");
            prop_assert!(decided.is_none() || own, "{id} may publish to {topic}");
        }
    }
}
