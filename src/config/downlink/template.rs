//! A text with places that are filled in from a record: `devices/${key}/command`, `${value.command.name}`.

use std::fmt;

/// A field of a record that a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordField {
    /// The key, which must be text.
    Key,
    /// The whole value, which must be text.
    Value,
    /// A member of the value, which must be JSON: names of objects' members and numbers of arrays' elements.
    Member(Vec<String>),
    /// The value of the first header of this name, which must be text.
    Header(String),
    /// The Kafka topic.
    Topic,
    /// The partition.
    Partition,
    /// The offset.
    Offset,
    /// The timestamp, milliseconds since the Unix epoch.
    Timestamp,
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordText(Vec<RecordPart>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordPart {
    /// Copied.
    Literal(String),
    /// Filled in.
    Field(RecordField),
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordTextError {
    /// `${` without `}`.
    #[error("`${{` is not closed")]
    Open,
    /// A field that no record has.
    #[error("there is no field `{0}`")]
    UnknownField(String),
}

/// The fields that have nothing after their name.
const PLAIN: [(&str, RecordField); 6] = [
    ("key", RecordField::Key),
    ("value", RecordField::Value),
    ("topic", RecordField::Topic),
    ("partition", RecordField::Partition),
    ("offset", RecordField::Offset),
    ("timestamp", RecordField::Timestamp),
];

impl RecordField {
    fn parse(name: &str) -> Option<Self> {
        if let Some((_, field)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Some(field.clone());
        }
        if let Some(header) = name.strip_prefix("header.") {
            return (!header.is_empty()).then(|| RecordField::Header(header.to_owned()));
        }
        let path = name.strip_prefix("value.")?;
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        steps.iter().all(|step| !step.is_empty()).then_some(RecordField::Member(steps))
    }
}

/// As between the braces.
impl fmt::Display for RecordField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordField::Member(steps) => write!(f, "value.{}", steps.join(".")),
            RecordField::Header(name) => write!(f, "header.{name}"),
            plain => f.write_str(PLAIN.iter().find(|(_, field)| field == plain).map_or("", |(name, _)| name)),
        }
    }
}

impl RecordText {
    /// Reads a template; a lone `$` is copied.
    ///
    /// # Errors
    /// An open brace or an unknown field.
    pub fn parse(text: &str) -> Result<Self, RecordTextError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after.split_once('}').ok_or(RecordTextError::Open)?;
            let field = RecordField::parse(name).ok_or_else(|| RecordTextError::UnknownField(name.to_owned()))?;
            if !before.is_empty() {
                parts.push(RecordPart::Literal(before.to_owned()));
            }
            parts.push(RecordPart::Field(field));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(RecordPart::Literal(rest.to_owned()));
        }
        Ok(RecordText(parts))
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[RecordPart] {
        &self.0
    }
}

impl fmt::Display for RecordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            RecordPart::Literal(text) => f.write_str(text),
            RecordPart::Field(field) => write!(f, "${{{field}}}"),
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
            "devices/${key}/command",
            "${value}${value.a.0.b}-${header.x-id}",
            "${topic}/${partition}/${offset}/${timestamp}",
        ] {
            assert_eq!(RecordText::parse(text).map(|template| template.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(RecordText::parse("a/${key"), Err(RecordTextError::Open));
        for unknown in ["client_id", "value.", "value..a", "header.", "headers.a"] {
            assert_eq!(RecordText::parse(&format!("${{{unknown}}}")), Err(RecordTextError::UnknownField(unknown.to_owned())));
        }
    }
}
