//! A sample as a line of JSON: the envelope of its event (version 1, so that the records of a dead letter topic are samples too), and beside it
//! what the call asked and answered. Documented in `docs/replay.md`; fields that are not known are passed over, as the envelope's rule says.

mod call;
mod event;
mod message;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::{
    call::{FailedLine, KeyLine, StateLine, VerdictLine},
    event::{ClientLine, Particulars},
};
use super::{Question, Sample};
use crate::{
    event::{Bytes, Text},
    guest::trace::Recorded,
    hook::Hook,
};

/// Version of the envelope whose fields these are.
const ENVELOPE_VERSION: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(default = "envelope_version")]
    v: u32,
    #[serde(default)]
    id: Number,
    hook: String,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default)]
    client: ClientLine,
    #[serde(flatten)]
    particulars: Particulars,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    state: Vec<StateLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crypto: Vec<KeyLine>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<VerdictLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailedLine>,
    #[serde(default, skip_serializing_if = "is_zero")]
    duration_ns: u64,
}

fn envelope_version() -> u32 {
    ENVELOPE_VERSION
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    pub(super) fn new(sample: &Sample) -> Self {
        let (verdict, failure) = match &sample.outcome {
            None => (None, None),
            Some(Ok(verdict)) => (Some(VerdictLine::new(verdict)), None),
            Some(Err(failed)) => (None, Some(FailedLine::new(failed))),
        };
        let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
        Line {
            v: ENVELOPE_VERSION,
            id: Number(sample.id),
            hook: sample.question.hook().name().to_owned(),
            ts: sample.time_ms,
            node: sample.node.to_string(),
            route: text(&sample.route),
            guest: text(&sample.guest),
            digest: text(&sample.digest),
            client: ClientLine::new(&sample.client),
            particulars: Particulars::new(&sample.question),
            state: sample.recorded.state.iter().map(StateLine::new).collect(),
            crypto: sample.recorded.crypto.iter().map(KeyLine::new).collect(),
            truncated: sample.recorded.truncated,
            verdict,
            failure,
            duration_ns: sample.recorded.duration_ns,
        }
    }

    /// The sample, or what keeps the line from being one.
    pub(super) fn sample(self) -> Result<Sample, String> {
        if self.v != ENVELOPE_VERSION {
            return Err(format!("`v` is {}, and this Hookgate reads samples of version {ENVELOPE_VERSION}", self.v));
        }
        let hook: Hook = self.hook.parse().map_err(|_| format!("`hook` is \"{}\": give one like \"message.publish\"", self.hook))?;
        let client = self.client.client(self.ts)?;
        let question = self.particulars.question(hook, &client, self.ts)?;
        let outcome = match (self.verdict, self.failure) {
            (None, None) => None,
            (Some(verdict), None) => Some(Ok(verdict.verdict(&question)?)),
            (None, Some(failure)) => Some(Err(failure.failed())),
            (Some(_), Some(_)) => return Err("it has both a `verdict` and a `failure`".to_owned()),
        };
        let state = self.state.into_iter().map(StateLine::call).collect::<Result<_, _>>()?;
        let crypto = self.crypto.into_iter().map(KeyLine::call).collect();
        let mut recorded = Recorded::of(state, crypto, self.duration_ns);
        recorded.truncated |= self.truncated;
        Ok(Sample {
            id: self.id.0,
            time_ms: self.ts,
            node: self.node.into(),
            route: self.route.map(Text::from),
            guest: self.guest.map(Text::from),
            digest: self.digest.map(Text::from),
            client: Arc::new(client),
            question,
            recorded,
            outcome,
        })
    }
}

/// One line of a capture, without its end.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Line::new(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Line::deserialize(deserializer)?.sample().map_err(serde::de::Error::custom)
    }
}

/// The number of an event: 16 hexadecimal digits, as in the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Number(u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u64::from_str_radix(&text, 16);
        number.map(Number).map_err(|_| serde::de::Error::custom(format_args!("`id` is \"{text}\": give up to 16 hexadecimal digits")))
    }
}

/// Bytes: a text where they are UTF-8, else `{"base64": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binary(Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BinaryLine {
    Text(String),
    Other { base64: String },
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => BinaryLine::Other { base64: message::encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match BinaryLine::deserialize(deserializer)? {
            BinaryLine::Text(text) => Ok(Binary(text.into())),
            BinaryLine::Other { base64 } => message::decode(&base64).map(Binary).map_err(serde::de::Error::custom),
        }
    }
}

impl Question {
    /// What is not written down is withheld.
    #[cfg(test)]
    pub(super) fn as_written(&self) -> Question {
        use super::Secret;
        let written =
            |secrets: &[&Secret]| if secrets.iter().all(|secret| **secret == Secret::Absent) { Secret::Absent } else { Secret::Withheld };
        match self.clone() {
            Question::Authenticate { method, password } => Question::Authenticate { method, password: written(&[&password]) },
            Question::Step { method, data, number, memo, again } => {
                Question::Step { method, data: written(&[&data, &memo]), number, memo: written(&[&data, &memo]), again }
            }
            other => other,
        }
    }
}
