//! MQTT 5 reason codes with which a publish or a client is refused (MQTT 5.0, 2.4).

/// Unspecified error.
pub const UNSPECIFIED: u8 = 0x80;
/// Implementation specific error.
pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
/// Bad user name or password; for `authenticate`.
pub const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
/// Not authorized.
pub const NOT_AUTHORIZED: u8 = 0x87;
/// Banned; for `authenticate`.
pub const BANNED: u8 = 0x8a;
/// Topic name invalid.
pub const TOPIC_NAME_INVALID: u8 = 0x90;
/// Quota exceeded.
pub const QUOTA_EXCEEDED: u8 = 0x97;
/// Payload format invalid.
pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
