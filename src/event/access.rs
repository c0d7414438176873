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
