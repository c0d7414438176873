//! Everything that needs real sockets: one binary, a module per subject.

mod mqtt;
