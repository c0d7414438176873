//! The call's part of a line: what it asked of state and keys, and what it answered.

use serde::{Deserialize, Serialize};

use super::{
    Binary,
    message::{ChangedMessage, headers, pairs},
};
use crate::{
    event::{Answer, Bytes, Changes, Denial, ExchangeVerdict, KafkaRecord, ObserveVerdict, PublishVerdict, Text},
    guest::{
        sample::{Failed, Question, Verdict},
        state::{Operation, Reply, StateError, Verb},
        trace::{KeyCall, KeyQuestion, StateCall},
    },
    hook::Kind,
};

/// One call of `state`: `{"op": "get", "key": "k", "answer": "value"}`. With an `error`, there is no answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateLine {
    op: OperationName,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Binary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delta: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OperationName {
    Get,
    Put,
    PutIfAbsent,
    Add,
    Remove,
}

/// Whether a key was new, a sum, or a value; none: `get` found nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum AnswerLine {
    New(bool),
    Sum(i64),
    Value(Binary),
}

impl StateLine {
    pub(super) fn new(call: &StateCall) -> Self {
        let (op, value, delta, ttl_s) = match &call.operation.verb {
            Verb::Get => (OperationName::Get, None, None, None),
            Verb::Put { value, ttl_s } => (OperationName::Put, Some(value), None, *ttl_s),
            Verb::PutIfAbsent { value, ttl_s } => (OperationName::PutIfAbsent, Some(value), None, *ttl_s),
            Verb::Add { delta, ttl_s } => (OperationName::Add, None, Some(*delta), *ttl_s),
            Verb::Remove => (OperationName::Remove, None, None, None),
        };
        let binary = |bytes: &Vec<u8>| Binary(Bytes::copy_from_slice(bytes));
        let answer = match &call.reply {
            Ok(Reply::Value(value)) => value.as_ref().map(binary).map(AnswerLine::Value),
            Ok(Reply::New(new)) => Some(AnswerLine::New(*new)),
            Ok(Reply::Sum(sum)) => Some(AnswerLine::Sum(*sum)),
            Ok(Reply::Done) | Err(_) => None,
        };
        let error = call.reply.as_ref().err().map(|why| match why {
            StateError::Quota => "quota".to_owned(),
            StateError::TooLarge => "too-large".to_owned(),
            StateError::NotANumber => "not-a-number".to_owned(),
            StateError::Unavailable(why) => why.clone(),
        });
        StateLine { op, key: call.operation.key.clone(), value: value.map(binary), delta, ttl_s, answer, error }
    }

    pub(super) fn call(self) -> Result<StateCall, String> {
        let StateLine { op, key, value, delta, ttl_s, answer, error } = self;
        let lacks = |what: &str| format!("`state`: a call with the key \"{key}\" lacks {what}");
        let value = || value.as_ref().map(|Binary(bytes)| bytes.to_vec()).ok_or_else(|| lacks("its `value`"));
        let verb = match op {
            OperationName::Get => Verb::Get,
            OperationName::Put => Verb::Put { value: value()?, ttl_s },
            OperationName::PutIfAbsent => Verb::PutIfAbsent { value: value()?, ttl_s },
            OperationName::Add => Verb::Add { delta: delta.ok_or_else(|| lacks("its `delta`"))?, ttl_s },
            OperationName::Remove => Verb::Remove,
        };
        let reply = match (&error, &verb, answer) {
            (Some(why), ..) => Err(match why.as_str() {
                "quota" => StateError::Quota,
                "too-large" => StateError::TooLarge,
                "not-a-number" => StateError::NotANumber,
                _ => StateError::Unavailable(why.clone()),
            }),
            (None, Verb::Get, None) => Ok(Reply::Value(None)),
            (None, Verb::Get, Some(AnswerLine::Value(Binary(bytes)))) => Ok(Reply::Value(Some(bytes.to_vec()))),
            (None, Verb::Put { .. } | Verb::Remove, _) => Ok(Reply::Done),
            (None, Verb::PutIfAbsent { .. }, Some(AnswerLine::New(new))) => Ok(Reply::New(new)),
            (None, Verb::Add { .. }, Some(AnswerLine::Sum(sum))) => Ok(Reply::Sum(sum)),
            _ => return Err(lacks("an `answer` of its kind (get: a text, put-if-absent: true or false, add: a number) or an `error`")),
        };
        Ok(StateCall { operation: Operation { key, verb }, reply })
    }
}

/// One question about a key: `{"ask": "hmac-verify sha256", "key": "lock-hmac", "digest": "…", "answer": true}`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeyLine {
    ask: String,
    key: String,
    digest: String,
    answer: bool,
}

impl KeyLine {
    pub(super) fn new(call: &KeyCall) -> Self {
        let KeyQuestion { function, key, digest } = &call.question;
        KeyLine { ask: function.to_string(), key: key.to_string(), digest: digest.to_string(), answer: call.answer }
    }

    pub(super) fn call(self) -> KeyCall {
        let question = KeyQuestion { function: self.ask.into(), key: self.key.into(), digest: self.digest.into() };
        KeyCall { question, answer: self.answer }
    }
}

/// `verdict`: a word, or a word with its particulars; which words there are depends on the hook.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum VerdictLine {
    Pass,
    Change(Box<ChangesLine>),
    Drop(String),
    Deny(DenialLine),
    Annotate(Vec<(String, String)>),
    Emit(Vec<RecordLine>),
    Allow,
    Abstain,
    Proceed,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DenialLine {
    reason_code: u8,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ChangesLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<ChangedMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<RecordLine>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RecordLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Binary>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
}

impl DenialLine {
    fn new(denial: &Denial) -> Self {
        DenialLine { reason_code: denial.reason_code, reason: denial.reason.to_string() }
    }

    fn denial(self) -> Denial {
        Denial { reason_code: self.reason_code, reason: self.reason.into() }
    }
}

impl RecordLine {
    fn list(records: &[KafkaRecord]) -> Vec<Self> {
        let line = |record: &KafkaRecord| RecordLine {
            topic: record.topic.as_ref().map(ToString::to_string),
            key: record.key.clone().map(Binary),
            value: record.value.clone().map(Binary),
            headers: pairs(&record.headers),
        };
        records.iter().map(line).collect()
    }

    fn records(list: Vec<Self>) -> Vec<KafkaRecord> {
        let record = |line: RecordLine| KafkaRecord {
            topic: line.topic.map(Text::from),
            key: line.key.map(|Binary(bytes)| bytes),
            value: line.value.map(|Binary(bytes)| bytes),
            headers: headers(line.headers),
        };
        list.into_iter().map(record).collect()
    }
}

impl VerdictLine {
    pub(super) fn new(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Publish(PublishVerdict::Pass) | Verdict::Observe(ObserveVerdict::Pass) => VerdictLine::Pass,
            Verdict::Publish(PublishVerdict::Change(changes)) => VerdictLine::Change(Box::new(ChangesLine {
                message: changes.message.as_ref().map(ChangedMessage::new),
                headers: pairs(&changes.headers),
                records: changes.records.as_deref().map(RecordLine::list),
            })),
            Verdict::Publish(PublishVerdict::Drop(why)) | Verdict::Observe(ObserveVerdict::Drop(why)) => VerdictLine::Drop(why.to_string()),
            Verdict::Publish(PublishVerdict::Deny(denial))
            | Verdict::Access(Answer::Deny(denial))
            | Verdict::Exchange(ExchangeVerdict::Deny(denial)) => VerdictLine::Deny(DenialLine::new(denial)),
            Verdict::Observe(ObserveVerdict::Annotate(headers)) => VerdictLine::Annotate(pairs(headers)),
            Verdict::Observe(ObserveVerdict::Emit(records)) => VerdictLine::Emit(RecordLine::list(records)),
            Verdict::Access(Answer::Allow) | Verdict::Exchange(ExchangeVerdict::Allow(_)) => VerdictLine::Allow,
            Verdict::Access(Answer::Abstain) | Verdict::Exchange(ExchangeVerdict::Abstain) => VerdictLine::Abstain,
            Verdict::Exchange(ExchangeVerdict::Proceed { .. }) => VerdictLine::Proceed,
        }
    }

    pub(super) fn verdict(self, question: &Question) -> Result<Verdict, String> {
        let hook = question.hook();
        let no = || Err(format!("`verdict` is none that a guest can give on {hook}"));
        match (question, hook.kind()) {
            (Question::Publish(original), _) => Ok(Verdict::Publish(match self {
                VerdictLine::Pass => PublishVerdict::Pass,
                VerdictLine::Change(changes) => PublishVerdict::Change(Changes {
                    message: changes.message.map(|message| message.over(original)).transpose()?,
                    headers: headers(changes.headers),
                    records: changes.records.map(RecordLine::records),
                }),
                VerdictLine::Drop(why) => PublishVerdict::Drop(why.into()),
                VerdictLine::Deny(denial) => PublishVerdict::Deny(denial.denial()),
                _ => return no(),
            })),
            (Question::Step { .. }, _) => Ok(Verdict::Exchange(match self {
                VerdictLine::Proceed => ExchangeVerdict::Proceed { data: None, memo: Bytes::new() },
                VerdictLine::Allow => ExchangeVerdict::Allow(None),
                VerdictLine::Deny(denial) => ExchangeVerdict::Deny(denial.denial()),
                VerdictLine::Abstain => ExchangeVerdict::Abstain,
                _ => return no(),
            })),
            (_, Kind::Access) => Ok(Verdict::Access(match self {
                VerdictLine::Allow => Answer::Allow,
                VerdictLine::Deny(denial) => Answer::Deny(denial.denial()),
                VerdictLine::Abstain => Answer::Abstain,
                _ => return no(),
            })),
            _ => Ok(Verdict::Observe(match self {
                VerdictLine::Pass => ObserveVerdict::Pass,
                VerdictLine::Annotate(list) => ObserveVerdict::Annotate(headers(list)),
                VerdictLine::Emit(list) => ObserveVerdict::Emit(RecordLine::records(list)),
                VerdictLine::Drop(why) => ObserveVerdict::Drop(why.into()),
                _ => return no(),
            })),
        }
    }
}

/// `failure`: `{"reason": "trap", "text": "it trapped: …"}`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FailedLine {
    reason: String,
    #[serde(default)]
    text: String,
}

impl FailedLine {
    pub(super) fn new(failed: &Failed) -> Self {
        FailedLine { reason: failed.reason.to_string(), text: failed.text.to_string() }
    }

    pub(super) fn failed(self) -> Failed {
        Failed { reason: self.reason.into(), text: self.text.into() }
    }
}
