//! What goes into a call, and what comes out of it.

use std::sync::Arc;

use crate::{
    event::{
        Action, Answer, Bytes, Client, Credentials, Descent, DescentVerdict, Detail, ExchangeVerdict, Message, ObserveVerdict,
        PublishVerdict, Round, Text,
    },
    guest::failure::Failure,
};

/// What a guest is asked.
pub(in crate::guest) enum Question {
    Publish { client: Arc<Client>, message: Arc<Message> },
    Observe { client: Arc<Client>, detail: Detail },
    Authenticate { client: Arc<Client>, credentials: Credentials },
    Authorize { client: Arc<Client>, action: Action, topic: Box<str> },
    Step { client: Arc<Client>, round: Box<OwnedRound> },
    Descend(Arc<Descent>),
}

/// A [`Round`] that owns what it says.
pub(in crate::guest) struct OwnedRound {
    method: Text,
    data: Option<Bytes>,
    number: u32,
    memo: Bytes,
    again: bool,
}

impl From<Round<'_>> for OwnedRound {
    fn from(round: Round<'_>) -> Self {
        let Round { method, data, number, memo, again } = round;
        OwnedRound { method: method.into(), data: data.map(Bytes::copy_from_slice), number, memo: Bytes::copy_from_slice(memo), again }
    }
}

impl OwnedRound {
    pub(super) fn borrow(&self) -> Round<'_> {
        Round { method: &self.method, data: self.data.as_deref(), number: self.number, memo: &self.memo, again: self.again }
    }
}

/// What it answers; the kind is the question's.
pub(in crate::guest) enum Reply {
    Publish(PublishVerdict),
    Observe(ObserveVerdict),
    Access(Answer),
    Exchange(ExchangeVerdict),
    Descend(DescentVerdict),
}

impl Reply {
    /// Refuses a reply that asks for too many records or messages: all tenants share the way to Kafka, and the broker.
    pub(super) fn bounded(self, limit: usize) -> Result<Self, Failure> {
        let records = match &self {
            Reply::Publish(PublishVerdict::Change(changes)) => changes.records.as_ref().map_or(0, Vec::len),
            Reply::Observe(ObserveVerdict::Emit(records)) => records.len(),
            Reply::Descend(DescentVerdict::Publish(messages)) => messages.len(),
            _ => 0,
        };
        if records > limit { Err(Failure::TooManyRecords { records, limit }) } else { Ok(self) }
    }
}
