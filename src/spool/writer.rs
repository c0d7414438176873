//! The one thread that writes: takes what has gathered while the disk was busy, makes it durable with one sync, and settles the receipts.
//!
//! It also writes down how far the log is confirmed, removes what is, and looks at the clock for the alarm. When the disk fails, the group
//! is kept and nothing of it is acknowledged until it is durable.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Shared,
    alarm::{Alarm, Change},
    disk::Disk,
    group::Group,
    queue::Next,
};
use crate::event::{Outcome, now_ms};

/// The least time from one commit to the next: under load it makes large groups of many small ones. A record that comes alone does not wait.
const PACE: Duration = Duration::from_micros(300);
/// How long what is confirmed may be unwritten: so much is sent again after a kill, beside what was on its way.
const NOTE: Duration = Duration::from_millis(50);
/// How often it looks around when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Between attempts to write on a disk that does not take it.
const RECOVERY: Duration = Duration::from_secs(1);
/// How often a trouble that goes on is a line in the log.
const QUIET: Duration = Duration::from_secs(10);

/// The writer's side of a spool.
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    /// Bytes on the disk beyond the bound, from a time when it was larger.
    debt: u64,
    alarm: Alarm,
    noted: Instant,
    /// When the log last said that records were refused, and how many it owes.
    refusals: (Option<Instant>, u64),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, disk: Disk, debt: u64, alarm: Alarm) -> Self {
        Writer { shared, disk, debt, alarm, noted: Instant::now(), refusals: (None, 0) }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let wait = if self.shared.queue.has_moved() { NOTE } else { TICK };
            match self.shared.queue.next(Instant::now() + wait) {
                Next::Group(group, pending) => {
                    let start = Instant::now();
                    self.take(group, pending);
                    thread::sleep(PACE.saturating_sub(start.elapsed()));
                }
                Next::Later => {}
                Next::Closed => break,
            }
            self.look_around(Instant::now());
        }
        let noted = self.disk.note(self.shared.queue.progress().confirmed).and_then(|()| self.disk.sync_position());
        if let Err(error) = noted {
            tracing::warn!(spool = self.shared.name, %error, "the spool's position was not written; some records will be sent again");
        }
        self.say_refusals(Instant::now(), true);
    }

    fn take(&mut self, mut group: Group, pending: usize) {
        let mut said: Option<Instant> = None;
        while let Err(error) = self.disk.write(&mut group) {
            let now = Instant::now();
            let Shared { name, queue, figures, .. } = &*self.shared;
            figures.failures.inc();
            figures.writable.set(0);
            queue.set_failing(true);
            if queue.is_closed() {
                tracing::error!(spool = name, %error, records = group.len(), "given up; these records were not acknowledged");
                return; // their receipts are dropped, which is no acknowledgement
            }
            if said.is_none_or(|said| now.duration_since(said) >= QUIET) {
                said = Some(now);
                tracing::error!(spool = name, %error, "the spool cannot be written; nothing is acknowledged until it can");
            }
            self.look_around(now); // what is confirmed meanwhile makes room
            self.shared.queue.pause(now + RECOVERY);
        }
        let Shared { name, queue, figures, tail, durable, .. } = &*self.shared;
        if queue.set_failing(false) {
            tracing::info!(spool = name, "the spool can be written again");
        }
        figures.writable.set(1);
        figures.appended.inc_by(group.len() as u64);
        if let Err(error) = self.disk.note(queue.progress().confirmed) {
            tracing::debug!(spool = name, %error, "the end of the spool could not be noted");
        }
        queue.wrote(&group, pending);
        let (first, last, frames, receipts) = group.into_parts();
        tail.lock().push(first, last, frames);
        durable.send_replace(last + 1);
        for receipt in receipts {
            receipt.settle(Outcome::Stored);
        }
    }

    /// Writes down and removes what is confirmed, and brings the figures up to date.
    fn look_around(&mut self, now: Instant) {
        let Shared { name, queue, figures, .. } = &*self.shared;
        let progress = queue.progress();
        match self.disk.trim(progress.confirmed, queue.is_wanted()) {
            Ok(0) => {}
            Ok(freed) => {
                let paid = self.debt.min(freed);
                self.debt -= paid;
                queue.freed(freed - paid);
            }
            Err(error) => tracing::warn!(spool = name, %error, "a segment of the spool could not be removed; trying again"),
        }
        if queue.has_moved() && now.duration_since(self.noted) >= NOTE {
            self.noted = now;
            queue.noted();
            if let Err(error) = self.disk.note(progress.confirmed) {
                tracing::debug!(spool = name, %error, "the spool's position could not be noted");
            }
        }
        figures.bytes.set(i64::try_from(self.disk.bytes()).unwrap_or(i64::MAX));
        figures.records.set(i64::try_from(self.disk.next().saturating_sub(progress.confirmed)).unwrap_or(i64::MAX));
        let oldest = progress.oldest_ms.filter(|_| progress.confirmed < self.disk.next());
        self.look_at_age(oldest.map(|oldest_ms| Duration::from_millis(now_ms().saturating_sub(oldest_ms))));
        self.say_refusals(now, false);
    }

    fn look_at_age(&mut self, age: Option<Duration>) {
        let Shared { name, figures, queue, .. } = &*self.shared;
        let age_s = age.unwrap_or_default().as_secs();
        figures.oldest_age_s.set(i64::try_from(age_s).unwrap_or(i64::MAX));
        match self.alarm.look(age) {
            Some(Change::Late) => {
                figures.late.set(1);
                let records = self.disk.next().saturating_sub(queue.progress().confirmed);
                tracing::error!(spool = name, age_s, records, "the oldest record in the spool is older than alarm_age: is Kafka away?");
            }
            Some(Change::Caught) => {
                figures.late.set(0);
                tracing::info!(spool = name, age_s, "the spool's oldest record is younger than alarm_age again");
            }
            None => {}
        }
    }

    fn say_refusals(&mut self, now: Instant, last: bool) {
        let new = self.shared.queue.take_refused();
        self.shared.figures.refused.inc_by(new);
        let (spoke, owed) = &mut self.refusals;
        *owed += new;
        if *owed > 0 && (last || spoke.is_none_or(|spoke| now.duration_since(spoke) >= QUIET)) {
            *spoke = Some(now);
            let refused = std::mem::take(owed);
            tracing::error!(spool = self.shared.name, refused, "records were refused: the spool has no room for them");
        }
    }
}
