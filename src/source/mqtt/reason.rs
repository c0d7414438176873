//! Reason codes by their names in MQTT 5 (section 2.4), and how a connection ends.
//!
//! 3.1.1 has no codes on DISCONNECT and most acknowledgements; the session still thinks in MQTT 5's and the codec leaves out what the
//! older protocol cannot say.

use crate::event::{Closing, Refusal, Text};

macro_rules! codes {
    ($($name:ident = $code:literal;)*) => { $(pub(super) const $name: u8 = $code;)* };
}

codes! {
    SUCCESS = 0x00;
    NO_MATCHING_SUBSCRIBERS = 0x10;
    NO_SUBSCRIPTION_EXISTED = 0x11;
    CONTINUE_AUTHENTICATION = 0x18;
    RE_AUTHENTICATE = 0x19;
    UNSPECIFIED = 0x80;
    MALFORMED_PACKET = 0x81;
    PROTOCOL_ERROR = 0x82;
    IMPLEMENTATION_SPECIFIC = 0x83;
    UNSUPPORTED_PROTOCOL_VERSION = 0x84;
    CLIENT_IDENTIFIER_NOT_VALID = 0x85;
    BAD_USER_NAME_OR_PASSWORD = 0x86;
    NOT_AUTHORIZED = 0x87;
    SERVER_UNAVAILABLE = 0x88;
    BANNED = 0x8A;
    SERVER_SHUTTING_DOWN = 0x8B;
    BAD_AUTHENTICATION_METHOD = 0x8C;
    KEEP_ALIVE_TIMEOUT = 0x8D;
    SESSION_TAKEN_OVER = 0x8E;
    TOPIC_FILTER_INVALID = 0x8F;
    TOPIC_NAME_INVALID = 0x90;
    PACKET_IDENTIFIER_IN_USE = 0x91;
    PACKET_IDENTIFIER_NOT_FOUND = 0x92;
    RECEIVE_MAXIMUM_EXCEEDED = 0x93;
    TOPIC_ALIAS_INVALID = 0x94;
    PACKET_TOO_LARGE = 0x95;
    QUOTA_EXCEEDED = 0x97;
    ADMINISTRATIVE_ACTION = 0x98;
    PAYLOAD_FORMAT_INVALID = 0x99;
    USE_ANOTHER_SERVER = 0x9C;
}

/// What a refused filter's code means, for a reason string.
pub(super) fn words(code: u8) -> &'static str {
    match code {
        NOT_AUTHORIZED => "not authorized",
        TOPIC_FILTER_INVALID => "no valid topic filter",
        QUOTA_EXCEEDED => "too many subscriptions or topic levels",
        _ => "refused",
    }
}

/// From here on a code means refusal.
pub(super) const FIRST_ERROR: u8 = 0x80;

/// Why a connection must end: a value, never a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// MQTT 5 reason code, for DISCONNECT or CONNACK and for `client.disconnected`.
    pub(super) code: u8,
    /// The stable word of `client.disconnected`.
    pub(super) word: &'static str,
    /// For the client's reason string and the log.
    pub(super) explanation: Text,
}

impl Fault {
    pub(super) fn new(code: u8, word: &'static str, explanation: impl Into<Text>) -> Self {
        Fault { code, word, explanation: explanation.into() }
    }

    /// The client broke a rule of the protocol.
    pub(super) fn protocol(explanation: impl Into<Text>) -> Self {
        Fault::new(PROTOCOL_ERROR, "protocol-error", explanation)
    }

    /// What `client.disconnected` says.
    pub(super) fn closing(&self) -> Closing {
        Closing { reason_code: self.code, reason: Text::from_static(self.word) }
    }
}

/// The code that PUBACK and PUBREC may carry [MQTT-3.4.2-1], [MQTT-3.5.2-1]: a guest may deny with any code, the packets know nine.
pub(super) fn for_publish(code: u8) -> u8 {
    match code {
        SUCCESS
        | NO_MATCHING_SUBSCRIBERS
        | UNSPECIFIED
        | IMPLEMENTATION_SPECIFIC
        | NOT_AUTHORIZED
        | TOPIC_NAME_INVALID
        | PACKET_IDENTIFIER_IN_USE
        | QUOTA_EXCEEDED
        | PAYLOAD_FORMAT_INVALID => code,
        PACKET_TOO_LARGE => QUOTA_EXCEEDED,
        BAD_USER_NAME_OR_PASSWORD | BANNED => NOT_AUTHORIZED,
        _ => IMPLEMENTATION_SPECIFIC,
    }
}

/// The code that SUBACK may carry (MQTT 5, section 3.9.3).
pub(super) fn for_subscribe(code: u8) -> u8 {
    match code {
        UNSPECIFIED | IMPLEMENTATION_SPECIFIC | NOT_AUTHORIZED | TOPIC_FILTER_INVALID | QUOTA_EXCEEDED | 0x9E | 0xA1 | 0xA2 => code,
        BAD_USER_NAME_OR_PASSWORD | BANNED => NOT_AUTHORIZED,
        _ => IMPLEMENTATION_SPECIFIC,
    }
}

/// The code that CONNACK may carry: MQTT 5 knows most (section 3.2.2.2), the older protocols five, of which "server unavailable" stands for
/// what is not the client's doing.
pub(super) fn for_connect(code: u8, five: bool) -> u8 {
    match code {
        BAD_USER_NAME_OR_PASSWORD | NOT_AUTHORIZED | SERVER_UNAVAILABLE | CLIENT_IDENTIFIER_NOT_VALID => code,
        UNSPECIFIED | IMPLEMENTATION_SPECIFIC | BAD_AUTHENTICATION_METHOD | BANNED | QUOTA_EXCEEDED | 0x89 | 0x9C | 0x9D | 0x9F if five => {
            code
        }
        UNSPECIFIED | IMPLEMENTATION_SPECIFIC | QUOTA_EXCEEDED | 0x89 | 0x9C | 0x9D | 0x9F => SERVER_UNAVAILABLE,
        _ => NOT_AUTHORIZED,
    }
}

/// The code that DISCONNECT carries when a client could not prove itself again (MQTT 5, section 3.14.2.1).
pub(super) fn for_disconnect(code: u8) -> u8 {
    match code {
        UNSPECIFIED | IMPLEMENTATION_SPECIFIC | BAD_AUTHENTICATION_METHOD | QUOTA_EXCEEDED => code,
        _ => NOT_AUTHORIZED,
    }
}

/// The code and text for a message that Kafka refuses for good.
pub(super) fn for_refusal(refusal: &Refusal) -> (u8, &Text) {
    match refusal {
        // PUBACK has no "packet too large"; the packet was acceptable to us, a limit behind us was exceeded.
        Refusal::TooLarge(text) | Refusal::Quota(text) => (QUOTA_EXCEEDED, text),
        Refusal::Unauthorized(text) => (NOT_AUTHORIZED, text),
        Refusal::Other(text) => (IMPLEMENTATION_SPECIFIC, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_carry_only_codes_that_their_packets_know() {
        for (code, expected) in [
            (SUCCESS, SUCCESS),
            (NOT_AUTHORIZED, NOT_AUTHORIZED),
            (QUOTA_EXCEEDED, QUOTA_EXCEEDED),
            (PACKET_TOO_LARGE, QUOTA_EXCEEDED),
            (0x8A, NOT_AUTHORIZED),
            (0xFF, IMPLEMENTATION_SPECIFIC),
            (0x9E, IMPLEMENTATION_SPECIFIC),
        ] {
            assert_eq!(for_publish(code), expected, "{code:#x}");
        }
        for (code, subscribe, connect, older) in [
            (NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED),
            (BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED, BAD_USER_NAME_OR_PASSWORD, BAD_USER_NAME_OR_PASSWORD),
            (BANNED, NOT_AUTHORIZED, BANNED, NOT_AUTHORIZED),
            (IMPLEMENTATION_SPECIFIC, IMPLEMENTATION_SPECIFIC, IMPLEMENTATION_SPECIFIC, SERVER_UNAVAILABLE),
            (QUOTA_EXCEEDED, QUOTA_EXCEEDED, QUOTA_EXCEEDED, SERVER_UNAVAILABLE),
            (TOPIC_FILTER_INVALID, TOPIC_FILTER_INVALID, NOT_AUTHORIZED, NOT_AUTHORIZED),
            (0xFF, IMPLEMENTATION_SPECIFIC, NOT_AUTHORIZED, NOT_AUTHORIZED),
        ] {
            let found = (for_subscribe(code), for_connect(code, true), for_connect(code, false));
            assert_eq!(found, (subscribe, connect, older), "{code:#x}");
        }
    }
}
