//! Where events and messages come from. Each source owns its protocol; what they share lies on the floors below, and messages that are not a
//! client's go through the broker's [`mqtt::Hand`].

pub mod downlink;
pub mod mqtt;
