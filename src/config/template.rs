//! A text with `${field}` places: `${client_id}`, `lock-${username}`.

use std::fmt;

/// A field of an event that a template can name.
macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A field of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];
            /// The name between the braces.
            pub const fn name(self) -> &'static str { match self { $(Field::$variant => $name,)* } }
        }
    };
}

fields! {
    /// The client of the event.
    ClientId = "client_id";
    /// Its user name, or nothing.
    Username = "username";
    /// The MQTT topic or filter, or nothing.
    Topic = "topic";
    /// The client that published the message, or nothing.
    Publisher = "publisher";
    /// The hook's name.
    Hook = "hook";
    /// This node's name.
    Node = "node";
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Copied.
    Literal(String),
    /// Filled in.
    Field(Field),
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` is not closed")]
    Open,
    /// A field that no event has.
    #[error("there is no field `{0}`")]
    UnknownField(String),
}

impl Template {
    /// Reads a template; `$${` is not special, a lone `$` is copied.
    ///
    /// # Errors
    /// An open brace or an unknown field.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}').ok_or(TemplateError::Open)?;
            let field = Field::ALL.iter().find(|field| field.name() == name);
            let field = *field.ok_or_else(|| TemplateError::UnknownField(name.to_owned()))?;
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(Part::Field(field));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Literal(text) => f.write_str(text),
            Part::Field(field) => write!(f, "${{{}}}", field.name()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints_and_names_what_it_refuses() {
        for text in ["", "plain $5", "${client_id}", "a-${username}-${topic}"] {
            assert_eq!(Template::parse(text).map(|template| template.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Template::parse("${client_id"), Err(TemplateError::Open));
        assert_eq!(Template::parse("${clientid}"), Err(TemplateError::UnknownField("clientid".into())));
    }
}
