//! The call's part of a line: what it asked of state and keys, and what it answered.

use serde::{Deserialize, Serialize};

use super::{
    Binary,
    event::{ChangedMessage, headers, pairs},
};
use crate::{
    event::{Answer, Changes, Denial, ExchangeVerdict, KafkaRecord, ObserveVerdict, PublishVerdict, Text},
    guest::{
        sample::{Failed, Question, Verdict},
        trace::{KeyCall, KeyQuestion, NoState, Operation, StateCall},
    },
    hook::Kind,
};

/// One call of `state`: `{"op": "get", "key": "k", "answer": "value"}`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateLine {
    key: String,
    #[serde(flatten)]
    operation: OperationLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Without an `error`, the answer is what it is; with one, it is left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum OperationLine {
    Get {
        #[serde(default)]
        answer: Option<Binary>,
    },
    Put {
        value: Binary,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_s: Option<u32>,
    },
    PutIfAbsent {
        value: Binary,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_s: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<bool>,
    },
    Add {
        delta: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_s: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<i64>,
    },
    Remove {},
}

impl StateLine {
    pub(super) fn new(call: &StateCall) -> Self {
        let operation = match &call.operation {
            Operation::Get(answer) => OperationLine::Get { answer: answer.clone().ok().flatten().map(Binary) },
            Operation::Put { value, ttl_s, .. } => OperationLine::Put { value: Binary(value.clone()), ttl_s: *ttl_s },
            Operation::PutIfAbsent { value, ttl_s, answer } => {
                OperationLine::PutIfAbsent { value: Binary(value.clone()), ttl_s: *ttl_s, answer: answer.clone().ok() }
            }
            Operation::Add { delta, ttl_s, answer } => OperationLine::Add { delta: *delta, ttl_s: *ttl_s, answer: answer.clone().ok() },
            Operation::Remove(_) => OperationLine::Remove {},
        };
        let error = call.operation.failure().map(|why| match why {
            NoState::Quota => "quota".to_owned(),
            NoState::TooLarge => "too-large".to_owned(),
            NoState::Unavailable(why) => why.to_string(),
        });
        StateLine { key: call.key.to_string(), operation, error }
    }

    pub(super) fn call(self) -> Result<StateCall, String> {
        let error = self.error.map(|why| match why.as_str() {
            "quota" => NoState::Quota,
            "too-large" => NoState::TooLarge,
            _ => NoState::Unavailable(why.into()),
        });
        let key = self.key;
        let missing = |op: &str| format!("`state`: {op} of \"{key}\" has neither an `answer` nor an `error`");
        fn or<T>(error: Option<NoState>, answer: T) -> Result<T, NoState> {
            error.map_or(Ok(answer), Err)
        }
        let operation = match self.operation {
            OperationLine::Get { answer } => Operation::Get(or(error, answer.map(|Binary(bytes)| bytes))),
            OperationLine::Put { value: Binary(value), ttl_s } => Operation::Put { value, ttl_s, answer: or(error, ()) },
            OperationLine::PutIfAbsent { value: Binary(value), ttl_s, answer } => {
                let answer = error.map_or_else(|| answer.ok_or_else(|| missing("put-if-absent")).map(Ok), |why| Ok(Err(why)))?;
                Operation::PutIfAbsent { value, ttl_s, answer }
            }
            OperationLine::Add { delta, ttl_s, answer } => {
                let answer = error.map_or_else(|| answer.ok_or_else(|| missing("add")).map(Ok), |why| Ok(Err(why)))?;
                Operation::Add { delta, ttl_s, answer }
            }
            OperationLine::Remove {} => Operation::Remove(or(error, ())),
        };
        Ok(StateCall { key: key.into(), operation })
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
    Change(ChangesLine),
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
            Verdict::Publish(PublishVerdict::Change(changes)) => VerdictLine::Change(ChangesLine {
                message: changes.message.as_ref().map(ChangedMessage::new),
                headers: pairs(&changes.headers),
                records: changes.records.as_deref().map(RecordLine::list),
            }),
            Verdict::Publish(PublishVerdict::Drop(why)) | Verdict::Observe(ObserveVerdict::Drop(why)) => {
                VerdictLine::Drop(why.to_string())
            }
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
                VerdictLine::Proceed => ExchangeVerdict::Proceed { data: None, memo: crate::event::Bytes::new() },
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
