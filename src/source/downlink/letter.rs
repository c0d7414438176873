//! Dead letters of a downlink: the record as it was, with what went wrong in headers.

use super::message::Unfit;
use crate::{
    event::{Fetched, Header, Text, now_ms},
    kafka::{Choice, Record},
    pipeline::Fallen,
};

/// Why a record is kept for an operator.
pub(super) enum Cause<'a> {
    /// It cannot become a message.
    Unfit(&'a Unfit),
    /// A guest gave no verdict.
    Guest(&'a Fallen),
}

/// The record for the dead letter topic. Key and value are the record's; of its headers those whose values are text come first.
pub(super) fn letter(topic: &Text, downlink: &str, fetched: &Fetched, cause: &Cause<'_>) -> Record {
    let own = fetched.headers.iter().filter_map(|header| {
        let value = std::str::from_utf8(header.value.as_deref()?).ok()?;
        Some(Header { name: header.name.clone(), value: value.into() })
    });
    let header = |name: &'static str, value: &str| Header { name: Text::from_static(name), value: value.into() };
    let mut headers: Vec<Header> = own.collect();
    headers.extend([
        header("downlink", downlink),
        header("record-topic", &fetched.topic),
        header("record-partition", &fetched.partition.to_string()),
        header("record-offset", &fetched.offset.to_string()),
        header("time", &now_ms().to_string()),
    ]);
    match cause {
        Cause::Unfit(unfit) => headers.extend([header("failure", "unfit"), header("error", &unfit.to_string())]),
        Cause::Guest(Fallen { guest, failure, calls }) => {
            headers.extend([
                header("guest", guest.name()),
                header("version", guest.digest()),
                header("failure", failure.reason()),
                header("error", &failure.to_string()),
                header("attempts", &calls.to_string()),
            ]);
            if let [_, ..] = failure.functions() {
                headers.push(header("backtrace", &failure.functions().join("\n")));
            }
        }
    }
    Record {
        topic: topic.clone(),
        key: fetched.key.clone(),
        value: fetched.value.clone().unwrap_or_default(),
        partition: Choice::Key,
        id: None, // the record's own headers are kept, its event-id among them
        headers,
        timestamp_ms: fetched.timestamp_ms.unwrap_or_else(now_ms),
    }
}
