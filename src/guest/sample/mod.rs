//! One call of a guest as plain data: what it was asked, what the world told it, what it answered. Free of the engine, so that whoever only
//! reads, writes or compares calls needs none.
//!
//! - [`Sample`] is the call; its JSON is the [envelope](../../../docs/envelope.md) of the event with the call's own fields beside.
//! - [`Samples`] reads a file of them.
//! - [`differences`] says what two answers do not share.
//!
//! Invariant: secrets of clients are never written. Absent: what a guest is not shown (annotations by earlier guests, the payload format
//! indicator).

mod difference;
mod file;
mod wire;

use std::{fmt, sync::Arc};

pub use self::{
    difference::{Difference, differences},
    file::{Header, Numbered, SampleError, Samples},
};
use super::{failure::Failure, trace::Recorded};
use crate::{
    event::{Action, Answer, Bytes, Client, Credentials, Detail, ExchangeVerdict, Message, ObserveVerdict, PublishVerdict, Round, Text},
    hook::Hook,
};

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The event's number.
    pub id: u64,
    /// When it arose, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// On which node.
    pub node: Text,
    /// The route whose guest was asked; `None` where nobody wrote it down.
    pub route: Option<Text>,
    /// The guest's name; `None`: any.
    pub guest: Option<Text>,
    /// The SHA-256 of the version that answered.
    pub digest: Option<Text>,
    /// Whose event it is.
    pub client: Arc<Client>,
    /// What was asked.
    pub question: Question,
    /// What the guest asked of the world.
    pub recorded: Recorded,
    /// What it answered; `None` where nobody wrote it down.
    pub outcome: Option<Outcome>,
}

/// What a guest is asked, per interface.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// `message.publish`
    Publish(Arc<Message>),
    /// The hooks that observe.
    Observe(Detail),
    /// `client.authenticate`
    Authenticate {
        /// MQTT 5 authentication method.
        method: Option<Text>,
        /// The password of CONNECT.
        password: Secret,
    },
    /// `client.authorize`
    Authorize {
        /// To do what.
        action: Action,
        /// With which topic.
        topic: Text,
    },
    /// `client.authenticate`, one round of enhanced authentication.
    Step {
        /// MQTT 5 authentication method.
        method: Text,
        /// MQTT 5 authentication data.
        data: Secret,
        /// The round, from 0.
        number: u32,
        /// What the guest gave along with its last challenge.
        memo: Secret,
        /// Whether the client is in already.
        again: bool,
    },
}

/// What only the client and the guest are meant to know. It is never written, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// There was none.
    Absent,
    /// There was one, and nobody wrote it down.
    Withheld,
    /// In memory, while the call is fresh.
    Known(Bytes),
}

/// What a guest answered, or why it did not.
pub type Outcome = Result<Verdict, Failed>;

/// What a guest answered, per interface.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// On `message.publish`.
    Publish(PublishVerdict),
    /// On the hooks that observe.
    Observe(ObserveVerdict),
    /// On `client.authenticate` and `client.authorize`.
    Access(Answer),
    /// On a round of enhanced authentication; challenges, memos and data for the client are secrets, and are never written.
    Exchange(ExchangeVerdict),
}

/// A [`Failure`], written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// [`Failure::reason`].
    pub reason: Text,
    /// In words.
    pub text: Text,
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        Failed { reason: failure.reason().into(), text: failure.to_string().into() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An answer as a sample has it.
pub fn outcome<T: Clone + Into<Verdict>>(answer: &Result<T, Failure>) -> Outcome {
    answer.as_ref().map(|verdict| verdict.clone().into()).map_err(Failed::from)
}

impl From<PublishVerdict> for Verdict {
    fn from(verdict: PublishVerdict) -> Self {
        Verdict::Publish(verdict)
    }
}

impl From<ObserveVerdict> for Verdict {
    fn from(verdict: ObserveVerdict) -> Self {
        Verdict::Observe(verdict)
    }
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        Verdict::Access(answer)
    }
}

impl From<ExchangeVerdict> for Verdict {
    fn from(verdict: ExchangeVerdict) -> Self {
        Verdict::Exchange(verdict)
    }
}

impl Sample {
    /// Whether it can be asked again: neither was a secret withheld, nor is its record cut short.
    pub fn is_complete(&self) -> bool {
        !self.question.withholds() && !self.recorded.truncated
    }

    /// What it takes in memory, roughly, bytes.
    pub fn bytes(&self) -> usize {
        let message = match &self.question {
            Question::Publish(message) => Some(message),
            Question::Observe(detail) => detail.message(),
            _ => None,
        };
        let changed = match &self.outcome {
            Some(Ok(Verdict::Publish(PublishVerdict::Change(changes)))) => {
                changes.message.as_ref().map_or(0, |message| message.payload.len())
            }
            _ => 0,
        };
        1_024 + self.recorded.bytes() + message.map_or(0, |message| message.payload.len()) + changed
    }
}

impl Question {
    /// Which hook asks it.
    pub fn hook(&self) -> Hook {
        match self {
            Question::Publish(_) => Hook::MessagePublish,
            Question::Observe(detail) => detail.hook(),
            Question::Authenticate { .. } | Question::Step { .. } => Hook::ClientAuthenticate,
            Question::Authorize { .. } => Hook::ClientAuthorize,
        }
    }

    /// The MQTT topic or filter that it is about.
    pub fn topic(&self) -> Option<&Text> {
        match self {
            Question::Publish(message) => Some(&message.topic),
            Question::Observe(detail) => detail.topic(),
            Question::Authorize { topic, .. } => Some(topic),
            Question::Authenticate { .. } | Question::Step { .. } => None,
        }
    }

    /// Whether a secret is missing.
    fn withholds(&self) -> bool {
        match self {
            Question::Authenticate { password, .. } => *password == Secret::Withheld,
            Question::Step { data, memo, .. } => [data, memo].contains(&&Secret::Withheld),
            _ => false,
        }
    }
}

impl From<&Credentials> for Question {
    fn from(credentials: &Credentials) -> Self {
        let password = credentials.password.clone().map_or(Secret::Absent, Secret::Known);
        Question::Authenticate { method: credentials.method.clone(), password }
    }
}

impl From<Round<'_>> for Question {
    fn from(round: Round<'_>) -> Self {
        let known = |bytes: &[u8]| Secret::Known(Bytes::copy_from_slice(bytes));
        Question::Step {
            method: round.method.into(),
            data: round.data.map_or(Secret::Absent, known),
            number: round.number,
            memo: if round.memo.is_empty() { Secret::Absent } else { known(round.memo) },
            again: round.again,
        }
    }
}

impl Secret {
    /// The bytes, as far as they are known.
    pub(super) fn known(&self) -> Option<&Bytes> {
        match self {
            Secret::Known(bytes) => Some(bytes),
            Secret::Absent | Secret::Withheld => None,
        }
    }
}

/// Never prints the bytes.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Absent => "Absent",
            Secret::Withheld => "Withheld",
            Secret::Known(_) => "Known",
        })
    }
}

#[cfg(test)]
mod tests;
