//! The broker over real sockets.

mod broker;
mod clients;
mod conformance;
mod delivery;
mod hooks;
mod inbound;
mod mqtt_js;
mod protocol;
mod retained;
mod robustness;
mod sessions;
mod wire;
