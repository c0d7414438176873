//! What people and CI both run: guests, demo, test, ci, bench.

mod guests;

fn main() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(std::path::Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("guests") => guests::build(root),
        Some("test-guests") => guests::test(root),
        _ => anyhow::bail!("cargo xtask guests | test-guests"),
    }
}
