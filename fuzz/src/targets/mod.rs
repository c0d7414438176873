//! Targets of public modules. Those of private ones are mirrored into the tree beside what they drive; see the crate's root.

pub mod config;
pub mod store;
pub mod topic_matching;
