//! What the interface says, as JSON. Read back by the verbs of the command line. Times are milliseconds since the Unix epoch; names that end
//! in `_s` are seconds.

use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In the order of their keys.
    pub items: Vec<T>,
    /// What to ask for as `after` to get the next page; absent on the last.
    pub next: Option<String>,
}

/// A client that is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The MQTT client identifier.
    pub client_id: String,
    /// The user name of CONNECT.
    pub username: Option<String>,
    /// The device's address and port.
    pub peer: String,
    /// 3 (MQTT 3.1), 4 (3.1.1) or 5.
    pub protocol_version: u8,
    /// Common name of a verified client certificate.
    pub certificate_name: Option<String>,
    /// When CONNECT was read.
    pub connected_at: u64,
    /// Clean start (MQTT 5) or clean session (3.1.1).
    pub clean_start: bool,
    /// 0 is none.
    pub keep_alive_s: u16,
    /// What waits in its session.
    #[serde(flatten)]
    pub session: Figures,
}

/// A session, whether its client is there or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The MQTT client identifier.
    pub client_id: String,
    /// The user name that its client last came with.
    pub username: Option<String>,
    /// Whether its client is there.
    pub connected: bool,
    /// When the session of an absent client ends, from now; absent while the client is there, and for sessions that stay for ever.
    pub ends_in_s: Option<u64>,
    /// What waits in it.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What waits in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// How long the session outlives its connection; 4294967295 is for ever.
    pub session_expiry_s: u32,
    /// Its subscriptions.
    pub subscriptions: u32,
    /// Messages that wait to be sent.
    pub queued_messages: usize,
    /// About what they take.
    pub queued_bytes: usize,
    /// Deliveries that the client has not acknowledged.
    pub in_flight: u32,
    /// Publishes of the client that were not acknowledged yet.
    pub unanswered: u32,
}

/// A session with its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// By filter.
    pub filters: Vec<Subscription>,
}

/// One subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The topic filter as the client gave it.
    pub filter: String,
    /// The granted QoS.
    pub qos: u8,
    /// MQTT 5: not to the client that published it.
    pub no_local: bool,
    /// MQTT 5: keep the retain flag as published.
    pub retain_as_published: bool,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Its topic.
    pub topic: String,
    /// As published.
    pub qos: u8,
    /// Client id of whoever published it.
    pub publisher: String,
    /// When it was received.
    pub received_at: u64,
    /// Message expiry interval, as published.
    pub expiry_s: Option<u32>,
    /// How long the payload is.
    pub payload_bytes: usize,
    /// The payload in base64, if it has at most 1024 bytes.
    pub payload: Option<String>,
}

/// A guest with its versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// How routes name it.
    pub name: String,
    /// SHA-256 of the component in service.
    pub digest: String,
    /// Since when.
    pub since: u64,
    /// `closed`, `half-open` or `open`: whether the version in service is asked.
    pub circuit: String,
    /// While it is on probation: how long the version before still comes back if this one's circuit opens.
    pub probation_s: Option<u64>,
    /// A new version that not everybody meets.
    pub beside: Option<Beside>,
    /// The version in the guest's file, if it was rolled back: it stays out until the file changes.
    pub refused: Option<RefusedVersion>,
    /// The versions that are kept, the newest first; the first is in service.
    pub history: Vec<Version>,
}

/// A new version on its way into service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// `canary`: a part of the clients meets it; `shadow`: it sees copies of a part of the clients' events.
    pub kind: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Since when.
    pub since: u64,
    /// The part of the clients, above 0 to 1.
    pub share: f64,
    /// Its calls.
    pub calls: CallFigures,
    /// The calls of the version in service meanwhile; absent for a shadow, which sees the same.
    pub running: Option<CallFigures>,
    /// Of a shadow: answers that differ from those of the version in service.
    pub differences: Option<u64>,
    /// Of a shadow: events that it did not see because it was too far behind, or could not be asked about again.
    pub dropped: Option<u64>,
}

/// Counts of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFigures {
    /// All that ended.
    pub total: u64,
    /// Those that gave no verdict.
    pub failures: u64,
    /// Those that denied or dropped.
    pub refusals: u64,
}

/// A version that stays out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedVersion {
    /// SHA-256 of the component.
    pub digest: String,
    /// `failures`, `refusals`, `circuit`, `operator` or `discarded`.
    pub cause: String,
    /// The reason in words.
    pub why: String,
    /// When.
    pub at: u64,
}

/// A version that is, or was, in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// SHA-256 of the component.
    pub digest: String,
    /// When it came into service the last time.
    pub since: u64,
    /// When it left; absent while it is in service.
    pub until: Option<u64>,
    /// Why it left.
    pub left: Option<String>,
}

/// What a DELETE did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true: what was not there is answered with 404.
    pub ok: bool,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// What to do next.
    pub help: String,
}
