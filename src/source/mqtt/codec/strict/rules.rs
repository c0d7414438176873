//! Which property clients may send in which packet, and what its value looks like (MQTT 5, section 2.2.2.2).

use super::kind;
use crate::source::mqtt::reason;

/// What a value looks like.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Value {
    Flag,
    U16,
    U32,
    /// A variable byte integer.
    Variable,
    Text,
    Data,
    /// Two texts; the only property of which there may be many in every packet.
    Pair,
}

/// A property as clients may send it.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) value: Value,
    /// One bit for each packet type that may carry it.
    packets: u16,
    /// The reason code when the value is 0, if it must not be.
    pub(super) zero: Option<u8>,
}

const fn bits(packets: &[u8]) -> u16 {
    let (mut bits, mut at) = (0, 0);
    while at < packets.len() {
        bits |= 1 << packets[at];
        at += 1;
    }
    bits
}

pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const SERVER_REFERENCE: u8 = 0x1C;
const USER: u8 = 0x26;

/// By identifier (MQTT 5, section 2.2.2.2); those that only servers send are missing.
static RULES: [Option<Rule>; 0x2B] = rules();

const fn rules() -> [Option<Rule>; 0x2B] {
    use kind::{AUTH, CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBSCRIBE, UNSUBSCRIBE, WILL};
    const MESSAGE: u16 = bits(&[PUBLISH, WILL]);
    const ANSWERS: u16 = bits(&[PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH]);
    const ALL: u16 = MESSAGE | ANSWERS | bits(&[CONNECT, SUBSCRIBE, UNSUBSCRIBE]);
    const ERROR: Option<u8> = Some(reason::PROTOCOL_ERROR);
    const fn is(value: Value, packets: u16, zero: Option<u8>) -> Option<Rule> {
        Some(Rule { value, packets, zero })
    }
    let mut rules = [None; 0x2B];
    rules[PAYLOAD_FORMAT as usize] = is(Value::Flag, MESSAGE, None);
    rules[MESSAGE_EXPIRY as usize] = is(Value::U32, MESSAGE, None);
    rules[0x03] = is(Value::Text, MESSAGE, None); // content type
    rules[0x08] = is(Value::Text, MESSAGE, None); // response topic
    rules[0x09] = is(Value::Data, MESSAGE, None); // correlation data
    rules[SUBSCRIPTION_ID as usize] = is(Value::Variable, bits(&[PUBLISH, SUBSCRIBE]), ERROR);
    rules[0x11] = is(Value::U32, bits(&[CONNECT, DISCONNECT]), None); // session expiry interval
    rules[AUTHENTICATION_METHOD as usize] = is(Value::Text, bits(&[CONNECT, AUTH]), None);
    rules[AUTHENTICATION_DATA as usize] = is(Value::Data, bits(&[CONNECT, AUTH]), None);
    rules[0x17] = is(Value::Flag, bits(&[CONNECT]), None); // request problem information
    rules[0x18] = is(Value::U32, bits(&[WILL]), None); // will delay interval
    rules[0x19] = is(Value::Flag, bits(&[CONNECT]), None); // request response information
    rules[0x1F] = is(Value::Text, ANSWERS, None); // reason string
    rules[0x21] = is(Value::U16, bits(&[CONNECT]), ERROR); // receive maximum
    rules[0x22] = is(Value::U16, bits(&[CONNECT]), None); // topic alias maximum
    rules[0x23] = is(Value::U16, bits(&[PUBLISH]), Some(reason::TOPIC_ALIAS_INVALID)); // [MQTT-3.3.2-8]
    rules[USER as usize] = is(Value::Pair, ALL, None);
    rules[0x27] = is(Value::U32, bits(&[CONNECT]), ERROR); // maximum packet size
    rules
}

/// The rule of a property in a packet; `None`: it does not belong there.
pub(super) fn rule(property: u8, packet: u8) -> Option<Rule> {
    RULES.get(usize::from(property)).copied().flatten().filter(|rule| rule.packets & 1 << packet != 0)
}
