//! What `bindgen!` makes of `wit/guest.wit` for the answers of guests, without wasmtime: plain types of the same names and fields. One that
//! differs does not compile, because `src/guest/verdict.rs` uses all of them.

pub mod imported {
    pub mod types {
        use arbitrary::Arbitrary;

        #[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
        pub enum Qos {
            AtMostOnce,
            AtLeastOnce,
            ExactlyOnce,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub struct HeaderResult {
            pub name: String,
            pub value: String,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub struct MessageResult {
            pub topic: String,
            pub payload: Vec<u8>,
            pub qos: Qos,
            pub retain: bool,
            pub expiry_s: Option<u32>,
            pub content_type: Option<String>,
            pub response_topic: Option<String>,
            pub correlation_data: Option<Vec<u8>>,
            pub user_properties: Vec<HeaderResult>,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub struct KafkaRecord {
            pub topic: Option<String>,
            pub key: Option<Vec<u8>>,
            pub value: Option<Vec<u8>>,
            pub headers: Vec<HeaderResult>,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub struct Denial {
            pub reason_code: u8,
            pub reason: String,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Fault {
            Invalid(String),
            Retry(String),
            Internal(String),
        }
    }
}

pub mod exported {
    pub mod publish {
        use arbitrary::Arbitrary;

        use super::super::imported::types::{Denial, HeaderResult, KafkaRecord, MessageResult};

        #[derive(Arbitrary, Clone, Debug)]
        pub struct Changes {
            pub message: Option<MessageResult>,
            pub headers: Vec<HeaderResult>,
            pub records: Option<Vec<KafkaRecord>>,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Verdict {
            Pass,
            Change(Changes),
            Drop(String),
            Deny(Denial),
        }
    }

    pub mod events {
        use arbitrary::Arbitrary;

        use super::super::imported::types::{HeaderResult, KafkaRecord};

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Verdict {
            Pass,
            Annotate(Vec<HeaderResult>),
            Emit(Vec<KafkaRecord>),
            Drop(String),
        }
    }

    pub mod downlink {
        use arbitrary::Arbitrary;

        use super::super::imported::types::MessageResult;

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Verdict {
            Pass,
            Publish(Vec<MessageResult>),
            Drop(String),
        }
    }

    pub mod access {
        use arbitrary::Arbitrary;

        use super::super::imported::types::Denial;

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Answer {
            Allow,
            Deny(Denial),
            Abstain,
        }
    }

    pub mod enhanced_access {
        use arbitrary::Arbitrary;

        use super::super::imported::types::Denial;

        #[derive(Arbitrary, Clone, Debug)]
        pub struct Challenge {
            pub data: Option<Vec<u8>>,
            pub memo: Vec<u8>,
        }

        #[derive(Arbitrary, Clone, Debug)]
        pub enum Verdict {
            Proceed(Challenge),
            Allow(Option<Vec<u8>>),
            Deny(Denial),
            Abstain,
        }
    }
}
