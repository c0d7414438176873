//! A payload inside JSON.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{config::PayloadEncoding, pipeline::scope::Scope};

/// A payload as a JSON value.
pub(super) enum Payload<'a> {
    /// Any bytes.
    Base64(String),
    /// Text; what was no UTF-8 is U+FFFD.
    Plain(Cow<'a, str>),
    /// As it is.
    Json(&'a RawValue),
}

impl<'a> Payload<'a> {
    /// Of the event's message.
    pub(super) fn new(scope: &Scope<'a>, encoding: PayloadEncoding) -> Self {
        let json = if encoding == PayloadEncoding::Json { scope.payload_json() } else { None };
        match (encoding, json) {
            (PayloadEncoding::Base64, _) => Payload::Base64(BASE64_STANDARD.encode(scope.payload())),
            (_, Some(json)) => Payload::Json(json),
            (_, None) => Payload::Plain(String::from_utf8_lossy(scope.payload())),
        }
    }

    /// The word that says so in the envelope.
    pub(super) fn encoding(&self) -> &'static str {
        match self {
            Payload::Base64(_) => "base64",
            Payload::Plain(_) => "plain",
            Payload::Json(_) => "json",
        }
    }
}

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Base64(text) => serializer.serialize_str(text),
            Payload::Plain(text) => serializer.serialize_str(text),
            Payload::Json(json) => json.serialize(serializer),
        }
    }
}
