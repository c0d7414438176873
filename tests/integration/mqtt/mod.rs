//! The broker over real sockets.

mod broker;
mod clients;
mod delivery;
mod hooks;
mod inbound;
mod protocol;
mod retained;
mod sessions;
mod wire;
