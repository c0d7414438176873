//! The log on real files: order, restarts, room, damage at every byte, deaths at any moment.

mod damage;
mod processes;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::{
    config::{OnDamage, WhenFull},
    event::{Outcome, Refusal, Settlement, Settlements},
};

/// Only ever waited for when something is broken.
const SAFETY: Duration = Duration::from_secs(60);
/// A while in which nothing happens.
const QUIET: Duration = Duration::from_millis(150);

/// A folder for a log, and the settings that it is opened with.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    config: config::Spool,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut config::Spool)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config::Spool {
            folder: folder.path().to_owned(),
            max_bytes: 1 << 30,
            segment_bytes: 1 << 20,
            when_full: WhenFull::Wait,
            alarm_age: Duration::from_secs(3_600),
            on_damage: OnDamage::Refuse,
        };
        change(&mut config);
        Bench { folder, config, metrics: Metrics::new() }
    }

    fn try_open(&self) -> Result<Log, SpoolError> {
        let (spool, reader) = Spool::open("t", self.folder.path(), &self.config, &self.metrics)?;
        Ok(Log { spool, reader, settlements: Settlements::new(), settled: BTreeMap::new(), sent: 0 })
    }

    fn open(&self) -> Log {
        self.try_open().unwrap()
    }

    /// A log of these bodies, each in a commit of its own, that was closed.
    async fn written(&self, bodies: &[&str]) {
        let mut log = self.open();
        for body in bodies {
            log.append(body).await;
            log.settled(log.sent).await;
        }
        log.spool.close();
    }

    /// The names of the segments' files.
    fn segments(&self) -> Vec<PathBuf> {
        segment::list(self.folder.path()).unwrap().into_iter().map(|(_, path)| path).collect()
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|rendered| rendered == line)
    }
}

/// An open log with what became of what was appended.
pub(super) struct Log {
    spool: Spool,
    reader: Reader,
    settlements: Arc<Settlements>,
    settled: BTreeMap<u64, Outcome>,
    sent: u64,
}

impl Log {
    async fn append(&mut self, body: impl AsRef<[u8]>) {
        let receipt = Receipt::open(self.sent, &self.settlements);
        self.sent += 1;
        timeout(SAFETY, self.spool.append(7, body.as_ref(), receipt)).await.unwrap();
    }

    /// Waits until `count` records are settled in all.
    async fn settled(&mut self, count: u64) -> &BTreeMap<u64, Outcome> {
        self.look();
        while (self.settled.len() as u64) < count {
            timeout(SAFETY, self.settlements.wait()).await.unwrap();
            self.look();
        }
        &self.settled
    }

    fn look(&mut self) {
        let mut settled = Vec::new();
        self.settlements.take(&mut settled);
        self.settled.extend(settled.into_iter().map(|Settlement { number, outcome }| (number, outcome)));
    }

    /// Everything that is durable and was not read.
    async fn read(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        while self.reader.position() < *self.spool.inner.shared.durable.borrow() {
            entries.extend(self.reader.read().await.unwrap());
        }
        entries
    }

    async fn bodies(&mut self) -> Vec<String> {
        self.read().await.into_iter().map(|entry| String::from_utf8(entry.body.to_vec()).unwrap()).collect()
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_goes_in_comes_out_in_order_and_again_until_it_is_confirmed() {
    let bench = Bench::new(|_| {});
    let mut log = bench.open();
    for number in numbers(0..1_000) {
        log.append(number).await;
    }
    assert!(log.settled(1_000).await.values().all(|outcome| *outcome == Outcome::Stored));
    let entries = log.read().await;
    assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), (1..=1_000).collect::<Vec<_>>());
    assert_eq!(entries[17], Entry { sequence: 18, time_ms: 7, body: "17".into() });
    log.reader.rewind(991);
    assert_eq!(log.bodies().await, numbers(990..1_000));
    log.spool.confirm(501, Some(7));
    assert_eq!(log.spool.waiting(), 500);
    log.spool.close();
    let mut log = bench.open();
    assert_eq!(log.bodies().await, numbers(500..1_000), "from the disk");
    log.append("1000").await;
    log.settled(1).await;
    assert_eq!(log.read().await, [Entry { sequence: 1_001, time_ms: 7, body: "1000".into() }]);
    log.spool.confirm(1_002, None);
    log.spool.close();
    assert!(bench.open().read().await.is_empty());
    assert!(bench.metric("hookgate_spool_appended_total{name=\"t\"} 1001"));
}

#[tokio::test]
async fn nothing_gets_in_after_the_end() {
    let bench = Bench::new(|_| {});
    let mut log = bench.open();
    log.spool.close();
    log.append("late").await;
    assert!(matches!(log.settled(1).await[&0], Outcome::Unknown(_)));
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let bench = Bench::new(|_| {});
    let log = bench.open();
    assert!(matches!(bench.try_open(), Err(SpoolError::Locked { .. })));
    drop(log);
    bench.open();
}

#[tokio::test]
async fn a_reader_behind_the_memory_reads_the_disk_and_catches_up() {
    let bench = Bench::new(|config| config.segment_bytes = 3 << 20);
    let mut log = bench.open();
    let body = |number: u64| format!("{number:05}{}", "x".repeat(2_000 + (number % 7) as usize * 500));
    for number in 0..6_000 {
        log.append(body(number)).await;
    }
    let mut long = "long".repeat(1 << 19);
    log.append(&long).await; // longer than a block
    log.settled(6_001).await;
    assert!(bench.segments().len() > 4 && log.spool.inner.shared.tail.lock().find(1).is_none());
    let entries = log.read().await;
    let found: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(found, (1..=6_001).collect::<Vec<_>>());
    assert!(entries.iter().take(6_000).zip(0..).all(|(entry, number)| entry.body == body(number).as_bytes()));
    assert_eq!(entries[6_000].body, long.as_bytes());
    long.push('!');
    log.append(&long).await;
    log.settled(6_002).await;
    assert_eq!(log.read().await[0].body, long.as_bytes());
    log.reader.rewind(3_000);
    assert_eq!(log.read().await[0].sequence, 3_000);
}

#[tokio::test]
async fn confirmed_segments_leave() {
    let bench = Bench::new(|config| config.segment_bytes = 64 << 10);
    let mut log = bench.open();
    for _ in 0..100 {
        log.append(vec![1; 10_000]).await;
        log.settled(log.sent).await;
    }
    let before = bench.segments().len();
    assert!(before > 10);
    log.spool.confirm(60, Some(7));
    let deadline = std::time::Instant::now() + SAFETY;
    while bench.segments().len() > before / 2 {
        assert!(std::time::Instant::now() < deadline, "nothing is removed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.spool.close();
    assert_eq!(bench.open().read().await.first().map(|entry| entry.sequence), Some(60));
}

#[tokio::test]
async fn a_full_spool_refuses_or_waits_for_room() {
    let full = |when_full| Bench::new(|config| (config.max_bytes, config.segment_bytes, config.when_full) = (1 << 20, 1 << 18, when_full));
    let bench = full(WhenFull::Refuse);
    let mut log = bench.open();
    for _ in 0..12 {
        log.append(vec![1; 100_000]).await;
    }
    let outcomes: Vec<bool> = log.settled(12).await.values().map(|outcome| *outcome == Outcome::Stored).collect();
    assert_eq!(outcomes, [[true; 10].as_slice(), &[false; 2]].concat());
    assert!(matches!(&log.settled[&11], Outcome::Refused(Refusal::Quota(_))));
    log.append(vec![1; 2 << 20]).await;
    assert!(matches!(&log.settled(13).await[&12], Outcome::Refused(Refusal::TooLarge(_))), "it never fits");
    log.spool.close();
    assert!(bench.metric("hookgate_spool_refused_total{name=\"t\"} 3"));

    let bench = full(WhenFull::Wait);
    let mut log = bench.open();
    for _ in 0..10 {
        log.append(vec![1; 100_000]).await;
    }
    log.settled(10).await;
    // As large as everything: it needs the room of the segment that is being written, too.
    let (spool, receipt) = (log.spool.clone(), Receipt::open(10, &log.settlements));
    let waiting = tokio::spawn(async move { spool.append(7, &vec![2; 1_000_000], receipt).await });
    tokio::time::sleep(QUIET).await;
    log.spool.confirm(10, Some(7));
    tokio::time::sleep(QUIET).await;
    assert!(!waiting.is_finished(), "one record is not confirmed");
    log.spool.confirm(11, None);
    timeout(SAFETY, waiting).await.unwrap().unwrap();
    assert_eq!(log.settled(11).await[&10], Outcome::Stored);
    log.spool.close();
    // A bound that was lowered counts as soon as what is above it is gone.
    let bench = Bench { config: config::Spool { max_bytes: 1 << 19, ..bench.config.clone() }, ..bench };
    let log = bench.open();
    let waits = timeout(QUIET, log.spool.append(7, b"x", Receipt::nobody())).await;
    assert!(waits.is_err(), "there is a megabyte in it");
    log.spool.confirm(12, None);
    timeout(SAFETY, log.spool.append(7, b"x", Receipt::nobody())).await.unwrap();
    timeout(QUIET, log.spool.append(7, &vec![0; 500_000], Receipt::nobody())).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_gone_delays_and_nothing_is_acknowledged_meanwhile() {
    let bench = Bench::new(|config| config.segment_bytes = 64 << 10);
    let mut log = bench.open();
    log.append(vec![1; 60_000]).await;
    log.settled(1).await;
    let (here, away) = (bench.folder.path().to_owned(), bench.folder.path().with_extension("away"));
    fs::rename(bench.folder.path(), &away).unwrap();
    log.append(vec![2; 60_000]).await; // needs another segment
    tokio::time::sleep(QUIET).await;
    log.look();
    assert_eq!(log.settled.len(), 1);
    assert!(bench.metric("hookgate_spool_writable{name=\"t\"} 0"));
    fs::rename(&away, &here).unwrap();
    assert_eq!(log.settled(2).await[&1], Outcome::Stored);
    assert!(bench.metric("hookgate_spool_writable{name=\"t\"} 1"));
    assert_eq!(log.read().await.len(), 2);
}

#[tokio::test]
async fn the_records_of_an_unused_spool_are_counted() {
    let bench = Bench::new(|config| config.segment_bytes = 64 << 10);
    assert_eq!(count(bench.folder.path()).unwrap(), 0);
    let mut log = bench.open();
    for number in 1..=10 {
        log.append(vec![1; 20_000]).await;
        log.settled(number).await;
    }
    log.spool.confirm(6, Some(7));
    log.spool.close();
    assert_eq!(count(bench.folder.path()).unwrap(), 5);
}
