//! Hookgate: the gate between devices and Kafka.

pub mod config;
pub mod event;
pub mod hook;
pub mod metrics;
pub mod pipeline;
pub mod source;
pub mod topic;
