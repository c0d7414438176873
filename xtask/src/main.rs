//! What people and CI both run: guests, demo, test, ci, bench.

fn main() {}
