//! The command line of Hookgate.

fn main() {}
