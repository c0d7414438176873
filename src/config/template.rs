//! A text with `${field}` places: `${client_id}`, `lock-${username:-nobody}`, `${topic[2]}`, `${payload.order.id}`.
//!
//! Checked when it is read: a field that does not exist is refused, and so is one that the events of the route's hook cannot have. What
//! an event could have and has not is empty, or the default that follows `:-`. `$${` writes `${`.

use std::fmt;

use super::{Field, problem::did_you_mean};
use crate::hook::Hook;

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Copied.
    Literal(String),
    /// Filled in.
    Field {
        /// With this.
        field: Field,
        /// Or with this, when the event has not got it, or it is empty.
        default: Option<String>,
    },
}

/// Why a text is no template, or none for its hook.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` is not closed")]
    Open,
    /// A field that no event has.
    #[error("there is no field `{0}`")]
    UnknownField(String),
    /// No level of a topic.
    #[error("`topic[{0}]` is no level of a topic")]
    Level(String),
    /// A field that the events of the hook cannot have.
    #[error("{hook} has no `{field}`")]
    NotOfHook {
        /// Of the route.
        hook: Hook,
        /// As written.
        field: String,
    },
}

impl TemplateError {
    /// What to do about it.
    pub(super) fn help(&self) -> String {
        match self {
            TemplateError::Open => "a place reads ${field} or ${field:-default}; `$${` writes `${`".to_owned(),
            TemplateError::UnknownField(name) => did_you_mean(name, &Field::names(None)),
            TemplateError::Level(_) => "the first level is topic[1], the last one topic[-1]".to_owned(),
            TemplateError::NotOfHook { hook, .. } => format!("it has {}", Field::names(Some(*hook)).join(", ")),
        }
    }
}

impl Template {
    /// Reads a template; a lone `$` is copied.
    ///
    /// # Errors
    /// An open brace or an unknown field.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                literal.extend([before, "${"]);
                rest = after;
                continue;
            }
            literal.push_str(before);
            let (inside, tail) = after.split_once('}').ok_or(TemplateError::Open)?;
            let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default.to_owned())));
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field { field: Field::parse(name)?, default });
            rest = tail;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template(parts))
    }

    /// Checks that the events of a hook can have its fields.
    ///
    /// # Errors
    /// The first that they cannot have.
    pub fn check(&self, hook: Hook) -> Result<(), TemplateError> {
        let fields = self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Field { field, .. } => Some(field),
        });
        match fields.filter(|field| !field.is_of(hook)).map(ToString::to_string).next() {
            Some(field) => Err(TemplateError::NotOfHook { hook, field }),
            None => Ok(()),
        }
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Its text, when nothing has to be filled in.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Literal(text) => f.write_str(&text.replace("${", "$${")),
            Part::Field { field, default: None } => write!(f, "${{{field}}}"),
            Part::Field { field, default: Some(default) } => write!(f, "${{{field}:-{default}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints_and_names_what_it_refuses() {
        for text in [
            "",
            "plain $5",
            "${client_id}",
            "a-${username}-${topic}",
            "${username:-nobody}",
            "${username:-}x",
            "${topic[1]}/${topic[-2]}",
            "${user_property.a.b}",
            "${payload.orders.0.id:-none}",
            "a $${client_id} b",
            "$$${",
        ] {
            assert_eq!(Template::parse(text).map(|template| template.to_string()), Ok(text.to_owned()));
        }
        for (text, expected) in [
            ("${client_id", TemplateError::Open),
            ("${clientid}", TemplateError::UnknownField("clientid".into())),
            ("${payload.}", TemplateError::UnknownField("payload.".into())),
            ("${payload.a..b}", TemplateError::UnknownField("payload.a..b".into())),
            ("${user_property}", TemplateError::UnknownField("user_property".into())),
            ("${topic[0]}", TemplateError::Level("0".into())),
            ("${topic[]}", TemplateError::Level(String::new())),
        ] {
            assert_eq!(Template::parse(text), Err(expected), "{text}");
        }
        assert_eq!(TemplateError::UnknownField("clientid".into()).help(), "did you mean `client_id`?");
        assert_eq!(Template::parse("a $${client_id} b").unwrap().constant(), Some("a ${client_id} b"));
        assert_eq!(Template::parse("${node}").unwrap().constant(), None);
    }

    #[test]
    fn fields_belong_to_hooks() {
        for (text, hook, is_fine) in [
            ("${topic}", Hook::MessagePublish, true),
            ("${topic[1]}", Hook::SessionSubscribed, true),
            ("${topic}", Hook::ClientConnected, false),
            ("${payload.a}", Hook::ClientSubscribe, false),
            ("${payload.a}", Hook::MessageDropped, true),
            ("${user_property.a}", Hook::ClientConnect, true),
            ("${user_property.a}", Hook::ClientDisconnected, false),
            ("${reason}", Hook::MessagePublish, false),
            ("${reason}", Hook::ClientDisconnected, true),
            ("${explanation}", Hook::ClientDisconnected, false),
            ("${qos}${delivery_qos}", Hook::MessageAcked, true),
            ("${delivery_qos}", Hook::MessagePublish, false),
            ("${action}", Hook::ClientAuthenticate, false),
            ("${client_id}${node}${route}${event_id}${ts}", Hook::SessionTakenOver, true),
        ] {
            assert_eq!(Template::parse(text).unwrap().check(hook).is_ok(), is_fine, "{text} on {hook}");
        }
        let error = Template::parse("a${qos}").unwrap().check(Hook::ClientConnected).unwrap_err();
        assert_eq!(error.to_string(), "client.connected has no `qos`");
        assert!(error.help().starts_with("it has client_id, username, ") && error.help().contains("keep_alive_s"), "{}", error.help());
    }
}
