//! Who may come in, and who may do what: the questions of `client.authenticate` and `client.authorize`, and their answers.

use std::fmt;

use super::{Bytes, Denial, QoS, Text};

/// What a client brings to prove who it is, beside its names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// MQTT 5 authentication method.
    pub method: Option<Text>,
    /// The password of CONNECT.
    pub password: Option<Bytes>,
}

/// Never prints the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to a topic name.
    Publish(QoS),
    /// Subscribe to a topic filter.
    Subscribe(QoS),
}

impl Action {
    /// `publish` or `subscribe`.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Publish(_) => "publish",
            Action::Subscribe(_) => "subscribe",
        }
    }

    /// The QoS that is wanted.
    pub const fn qos(self) -> QoS {
        match self {
            Action::Publish(qos) | Action::Subscribe(qos) => qos,
        }
    }
}

/// How a question about a client was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What the client wanted to do with which topic; `None`: come in.
    pub asked: Option<(Action, Text)>,
    /// The refusal, if it was one.
    pub denial: Option<Denial>,
    /// Who decided: a guest's name, `password-file`, `acl`, `anonymous` or `default`.
    pub by: Text,
}

/// One round of enhanced authentication, as a guest is asked about it.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// MQTT 5 authentication method.
    pub method: &'a str,
    /// MQTT 5 authentication data.
    pub data: Option<&'a [u8]>,
    /// From 0.
    pub number: u32,
    /// What the guest gave along with its last challenge.
    pub memo: &'a [u8],
    /// Whether the client is in already, and proves itself again.
    pub again: bool,
}

/// What a guest says in a round of enhanced authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeVerdict {
    /// A challenge.
    Proceed {
        /// For the client.
        data: Option<Bytes>,
        /// For the next round.
        memo: Bytes,
    },
    /// Yes, with data for the client.
    Allow(Option<Bytes>),
    /// No.
    Deny(Denial),
    /// Not a method of mine.
    Abstain,
}

/// What a round of enhanced authentication has for the client, if it is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A challenge; the client's answer comes next.
    Proceed(Option<Bytes>),
    /// It is who it says.
    Allow(Option<Bytes>),
}

/// What somebody who was asked about a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Allow,
    /// No.
    Deny(Denial),
    /// Not mine to say.
    Abstain,
}
