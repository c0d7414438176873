//! `[guest.limits]`: how much of everything one guest may take.

use super::reader::Table;

/// Bounds for one guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// One call, milliseconds.
    pub deadline_ms: u64,
    /// Start of one instance (`lifecycle.start`), milliseconds.
    pub start_deadline_ms: u64,
    /// Linear memory of one instance, bytes.
    pub memory_bytes: usize,
    /// Elements of all tables of one instance.
    pub table_elements: usize,
    /// What one call may hand to the host (verdict, texts, payloads), bytes.
    pub returned_bytes: usize,
    /// Kafka records that one call may ask for.
    pub returned_records: usize,
    /// Calls into the host that one call may make.
    pub host_calls: u64,
    /// Instances that may exist at once.
    pub instances: usize,
    /// How long an event waits for a free instance, or for the guest's share of the processor, before `on_failure`, milliseconds.
    pub instance_wait_ms: u64,
    /// Part of the machine's processor time that all its instances may take together, above 0 to 1.
    pub cpu_share: f64,
    /// Calls after which an instance is replaced by a new one; 0: never.
    pub recycle_after_calls: u64,
    /// Linear memory from which on an instance is replaced by a new one, bytes: memory only grows.
    pub recycle_at_bytes: usize,
    /// Lines per second that it may log; the rest is counted.
    pub log_lines_per_s: u32,
    /// Keys in its state.
    pub state_keys: usize,
    /// Bytes in its state.
    pub state_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            deadline_ms: 20,
            start_deadline_ms: 1_000,
            memory_bytes: 32 << 20,
            table_elements: 100_000,
            returned_bytes: 2 << 20,
            returned_records: 100,
            host_calls: 10_000,
            instances: 16,
            instance_wait_ms: 1_000,
            cpu_share: 0.5,
            recycle_after_calls: 1_000_000,
            recycle_at_bytes: 24 << 20,
            log_lines_per_s: 100,
            state_keys: 1_000_000,
            state_bytes: 256 << 20,
        }
    }
}

impl Limits {
    #[rustfmt::skip]
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let d = Limits::default();
        let memory_bytes = table.integer("memory_bytes", 65_536..=4 << 30, d.memory_bytes as u64);
        Limits {
            deadline_ms: table.integer("deadline_ms", 1..=60_000, d.deadline_ms),
            start_deadline_ms: table.integer("start_deadline_ms", 1..=600_000, d.start_deadline_ms),
            memory_bytes: memory_bytes as usize,
            table_elements: table.integer("table_elements", 1..=1_000_000, d.table_elements as u64) as usize,
            returned_bytes: table.integer("returned_bytes", 1_024..=1 << 30, d.returned_bytes as u64) as usize,
            returned_records: table.integer("returned_records", 0..=1_000_000, d.returned_records as u64) as usize,
            host_calls: table.integer("host_calls", 0..=1 << 40, d.host_calls),
            instances: table.integer("instances", 1..=10_000, d.instances as u64) as usize,
            instance_wait_ms: table.integer("instance_wait_ms", 0..=60_000, d.instance_wait_ms),
            cpu_share: table.number("cpu_share", 0.001..=1.0).unwrap_or(d.cpu_share),
            recycle_after_calls: table.integer("recycle_after_calls", 0..=1 << 40, d.recycle_after_calls),
            recycle_at_bytes: table.integer("recycle_at_bytes", 65_536..=memory_bytes, memory_bytes / 4 * 3) as usize,
            log_lines_per_s: table.integer("log_lines_per_s", 0..=1_000_000, d.log_lines_per_s.into()) as u32,
            state_keys: table.integer("state_keys", 0..=1 << 40, d.state_keys as u64) as usize,
            state_bytes: table.integer("state_bytes", 0..=1 << 40, d.state_bytes as u64) as usize,
        }
    }
}
