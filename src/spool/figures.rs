//! The metric handles of one spool, looked up once.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::metrics::{Label, Metrics};

#[derive(Debug)]
pub(super) struct Figures {
    pub(super) bytes: Gauge,
    pub(super) records: Gauge,
    pub(super) oldest_age_s: Gauge,
    pub(super) late: Gauge,
    pub(super) writable: Gauge,
    pub(super) appended: Counter,
    pub(super) refused: Counter,
    pub(super) failures: Counter,
    pub(super) tails_cut: Counter,
    pub(super) lost: Counter,
}

impl Figures {
    pub(super) fn new(name: &str, metrics: &Metrics) -> Self {
        let label = Label::from(name);
        Figures {
            bytes: metrics.spool_bytes.get_or_create_owned(&label),
            records: metrics.spool_records.get_or_create_owned(&label),
            oldest_age_s: metrics.spool_oldest_age.get_or_create_owned(&label),
            late: metrics.spool_late.get_or_create_owned(&label),
            writable: metrics.spool_writable.get_or_create_owned(&label),
            appended: metrics.spool_appended.get_or_create_owned(&label),
            refused: metrics.spool_refused.get_or_create_owned(&label),
            failures: metrics.spool_failures.get_or_create_owned(&label),
            tails_cut: metrics.spool_tails_cut.get_or_create_owned(&label),
            lost: metrics.spool_lost.get_or_create_owned(&label),
        }
    }
}
