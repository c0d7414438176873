//! The one integration binary: real sockets, real files, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod command_line;
mod floors;
mod mqtt;
mod smart_lock;
mod support;
