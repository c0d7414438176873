//! The broker over real sockets.

mod acknowledgement;
mod admin;
mod aliases;
mod broker;
mod clients;
mod conformance;
mod delivery;
mod hooks;
mod inbound;
mod information;
mod mqtt_js;
mod protocol;
mod retained;
mod robustness;
mod sessions;
mod shared;
mod soak;
mod sys;
mod wire;
