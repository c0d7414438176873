//! Control packet types (MQTT 5, section 2.1.2), as far as a rule depends on them.

macro_rules! kinds {
    ($($name:ident = $number:literal;)*) => { $(pub(super) const $name: u8 = $number;)* };
}

kinds! {
    WILL = 0; // not a packet: the properties of a will
    CONNECT = 1;
    PUBLISH = 3;
    PUBACK = 4;
    PUBREC = 5;
    PUBREL = 6;
    PUBCOMP = 7;
    SUBSCRIBE = 8;
    UNSUBSCRIBE = 10;
    PINGREQ = 12;
    DISCONNECT = 14;
    AUTH = 15;
}
