//! The broker over real sockets.

mod admin;
mod broker;
mod clients;
mod delivery;
mod hooks;
mod inbound;
mod protocol;
mod retained;
mod sessions;
mod sys;
mod wire;
