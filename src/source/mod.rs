//! Where events come from. Each source owns its protocol; what they share lies on the floors below.

pub mod mqtt;
