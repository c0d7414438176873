//! Messages of QoS 0 that find no room because Kafka is slow, on connections whose `max_qos0_waiting` says not to wait: each is counted,
//! raised as `message.dropped` while there is room among the events, and said in the log once in a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Shared;
use crate::{
    event::{Client, DropReason, Message},
    hook::Hook,
};

/// How often the log hears of it.
const QUIET: Duration = Duration::from_secs(10);

/// When the log last heard of it.
#[derive(Debug, Default)]
pub(super) struct Slow {
    spoke: Mutex<Option<Instant>>,
    unspoken: AtomicU64,
}

impl Slow {
    /// One more; how many there are since the last line, when it is time for one.
    fn note(&self, now: Instant) -> Option<u64> {
        let count = self.unspoken.fetch_add(1, Ordering::Relaxed) + 1;
        let mut spoke = self.spoke.try_lock()?; // somebody else is at it
        if spoke.is_some_and(|spoke| now.saturating_duration_since(spoke) < QUIET) {
            return None;
        }
        *spoke = Some(now);
        self.unspoken.fetch_sub(count, Ordering::Relaxed);
        Some(count)
    }
}

/// Ends a message that may not wait.
pub(super) fn leave_out(shared: &Shared, client: &Arc<Client>, message: Message) {
    if let Some(count) = shared.slow.note(Instant::now()) {
        let client_id = &*client.client_id;
        tracing::warn!(count, client_id, "Kafka is slow: messages of QoS 0 beyond max_qos0_waiting are dropped");
    }
    let wanted = shared.pipeline.wants(Hook::MessageDropped);
    if !(wanted && shared.aftermath.try_dropped(client, message, DropReason::KafkaSlow)) {
        shared.pipeline.count_drop(DropReason::KafkaSlow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_all_in_few_lines() {
        let (slow, start) = (Slow::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let lines: Vec<_> = [0, 1, 9, 10, 11, 30].map(|second| slow.note(at(second))).into();
        assert_eq!(lines, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
