//! `[[acl]]`: rules on who may publish and subscribe where, in order; the first that matches decides.

use super::{network::Network, reader::Table};
use crate::topic::{self, TopicError};

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

impl Permission {
    pub(super) const WORDS: &'static [(&'static str, Permission)] = &[("allow", Permission::Allow), ("deny", Permission::Deny)];
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Publishing only.
    Publish,
    /// Subscribing only.
    Subscribe,
    /// Both.
    All,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it decides.
    pub permission: Permission,
    /// Of clients with one of these user names; empty: all.
    pub usernames: Vec<String>,
    /// Of clients with one of these identifiers; empty: all.
    pub client_ids: Vec<String>,
    /// Of clients from one of these networks; empty: all.
    pub peers: Vec<Network>,
    /// About which action.
    pub action: RuleAction,
    /// About these topics.
    pub topics: Vec<Pattern>,
}

/// Topics of a rule: a topic filter with `%c` for the client's identifier and `%u` for its user name, or, after `eq `, a filter that is
/// meant letter by letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The filter as written, without `eq `.
    pub text: String,
    /// Written after `eq `: wildcards mean themselves.
    pub literal: bool,
    /// Whether it has placeholders.
    pub filled: bool,
}

/// Why a text is no pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no topic filter.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Rules see filters without it.
    #[error("rules are asked about shared subscriptions without `$share/group/`")]
    Share,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is no topic filter once its placeholders are filled in.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (literal, text) = text.strip_prefix("eq ").map_or((false, text), |text| (true, text));
        if text.starts_with("$share/") {
            return Err(PatternError::Share);
        }
        topic::check_filter(&text.replace("%c", "x").replace("%u", "x"))?;
        Ok(Pattern { text: text.to_owned(), literal, filled: text.contains("%c") || text.contains("%u") })
    }
}

impl Rule {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        table.require("permission", "\"allow\" or \"deny\"");
        let permission = table.choice("permission", Permission::WORDS);
        let texts = |key| table.texts(key).into_iter().map(|text| text.value).collect();
        let (usernames, client_ids) = (texts("username"), texts("client_id"));
        let mut peers = Vec::new();
        for text in table.texts("peer") {
            match text.value.parse() {
                Ok(network) => peers.push(network),
                Err(error) => {
                    let help = "an address or a network: \"192.0.2.7\", \"10.0.0.0/8\", \"fd00::/8\"";
                    table.refuse_at(&text.place, "peer", format_args!(" = \"{}\": {error}", text.value), help);
                }
            }
        }
        let words = [("publish", RuleAction::Publish), ("subscribe", RuleAction::Subscribe), ("all", RuleAction::All)];
        let action = table.choice("action", &words).map_or(RuleAction::All, |action| action.value);
        let mut topics = Vec::new();
        table.require("topics", "[\"devices/%c/#\"]");
        for text in table.texts("topics") {
            match Pattern::parse(&text.value) {
                Ok(pattern) => topics.push(pattern),
                Err(error) => {
                    let help = "a topic filter with %c and %u: \"devices/%c/#\", or \"eq a/#\" for that subscription and no other";
                    table.refuse_at(&text.place, "topics", format_args!(" = \"{}\" is no topic filter: {error}", text.value), help);
                }
            }
        }
        for key in ["username", "client_id", "peer", "topics"] {
            if let Some(place) = table.empty_list(key) {
                table.refuse_at(&place, key, " is empty: the rule would match nobody", "name some, or remove it");
            }
        }
        Some(Rule { permission: permission?.value, usernames, client_ids, peers, action, topics })
    }
}
