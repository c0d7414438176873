//! The one integration binary: real sockets, real files, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod access;
mod command_line;
mod doors;
mod downlink;
mod durable;
mod examples;
mod failures;
mod floors;
mod hostile;
mod kafka;
mod mqtt;
mod outage;
mod real_kafka;
mod renewal;
mod replay;
mod rollout;
mod routes;
mod secure_kafka;
mod smart_lock;
mod state;
mod support;
mod swap;
mod truth_table;
