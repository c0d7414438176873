//! The broker over real sockets.

mod aliases;
mod broker;
mod clients;
mod delivery;
mod hooks;
mod inbound;
mod information;
mod protocol;
mod retained;
mod sessions;
mod shared;
mod wire;
