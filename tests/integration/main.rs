//! The integration tests: one program, a module per subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod kafka;
mod real_kafka;
