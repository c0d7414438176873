//! The reader: a thread that takes every record as it comes and enters it in the ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::{ledger::Ledger, load::Load};
use crate::kafka::{ReadError, Reader};

/// How long the topic may take to appear.
const PATIENCE: Duration = Duration::from_secs(15);
/// Records whose latency is noted in one go.
const BATCH: usize = 64;

/// A thread that reads the topic.
pub(super) struct Verification {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<anyhow::Result<Ledger>>,
}

impl Verification {
    /// Opens the topic at its beginning and goes on reading.
    ///
    /// # Errors
    /// Kafka cannot be read.
    pub(super) async fn start(bootstrap: String, topic: String, load: Arc<Load>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (opened, open) = oneshot::channel::<Result<(), ReadError>>();
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new().name("bench-reader".into()).spawn(move || {
            let mut ledger = Ledger::new(load.shape.clients);
            match Reader::open(&bootstrap, &[&topic], PATIENCE) {
                Ok(reader) => {
                    let _ = opened.send(Ok(())); // when nobody waits any more, the run has failed already
                    read(&reader, &load, &stopping, &mut ledger)?;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            Ok(ledger)
        })?;
        open.await.context("the reader ended")??;
        Ok(Verification { stop, thread })
    }

    /// Stops reading; the ledger says what was there.
    ///
    /// # Errors
    /// Kafka could not be read on.
    pub(super) fn finish(self) -> anyhow::Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader's thread ended"))?
    }
}

fn read(reader: &Reader, load: &Load, stop: &AtomicBool, ledger: &mut Ledger) -> anyhow::Result<()> {
    let (mut scratch, mut sent) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        // Whatever has come is taken without waiting, so that the clock is read and the locks are taken once for many.
        let mut wait = Duration::from_millis(20);
        while let Some(record) = reader.next(wait).context("reading back")? {
            wait = Duration::ZERO;
            sent.extend(ledger.note(&record, load, &mut scratch));
            load.stored.fetch_add(1, Ordering::Relaxed);
            if sent.len() >= BATCH {
                break;
            }
        }
        load.note_stored(&mut sent);
    }
    Ok(())
}
