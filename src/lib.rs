//! Hookgate: the gate between devices and Kafka.

pub mod config;
pub mod event;
pub mod guest;
pub mod hook;
pub mod kafka;
pub mod metrics;
pub mod pipeline;
pub mod registry;
pub mod topic;
