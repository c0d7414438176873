//! Does the faults: a thread for each lane, so that none waits for another.
//!
//! When it is enough, each lane heals what it has broken and hands back what it had.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::{
    broker::Broker, client::Disturbance, configuration::Configuration, dice::dice, disk::Disk, fault::Fault, gate::Gate, process,
    proxy::Proxy, schedule::Planned, trouble::Troubles,
};

/// How often the process is looked at between faults.
const LOOK: Duration = Duration::from_millis(100);
/// Between the end of a fault and the next one of its lane, at least: what is broken all the time proves nothing.
const BREATH: Duration = Duration::from_secs(1);
/// Starts in a row that may fail, because something is broken: about 20 s of them.
const MANY_STARTS: u32 = 40;

/// Says when it is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enough(Arc<(Mutex<bool>, Condvar)>);

impl Enough {
    pub(crate) fn say(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_said(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits until `end`, or until it is said; whether it was.
    fn wait_until(&self, end: Instant) -> bool {
        let mut said = self.0.0.lock();
        while !*said && !self.0.1.wait_until(&mut said, end).timed_out() {}
        *said
    }

    fn wait(&self, time: Duration) -> bool {
        self.wait_until(Instant::now() + time)
    }
}

/// What was done, in a file and by name.
#[derive(Debug)]
pub(crate) struct FaultLog {
    start: Instant,
    lines: Mutex<(File, BTreeMap<&'static str, u64>)>,
}

impl FaultLog {
    pub(crate) fn new(start: Instant, file: File) -> Self {
        FaultLog { start, lines: Mutex::new((file, BTreeMap::new())) }
    }

    fn note(&self, fault: &Fault) {
        let mut lines = self.lines.lock();
        let _ = writeln!(lines.0, "{:8.2} s  {fault}", self.start.elapsed().as_secs_f64()); // a log that cannot be written is no reason to stop
        *lines.1.entry(fault.name()).or_default() += 1;
    }

    fn healed(&self, fault: &Fault) {
        let _ = writeln!(self.lines.lock().0, "{:8.2} s    over: {fault}", self.start.elapsed().as_secs_f64());
    }

    /// How many of each there were.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lines.lock().1.clone()
    }

    pub(crate) fn total(&self) -> u64 {
        self.lines.lock().1.values().sum()
    }
}

/// What every lane needs.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) start: Instant,
    pub(crate) enough: Enough,
    pub(crate) log: Arc<FaultLog>,
    pub(crate) troubles: Troubles,
}

impl Around {
    /// Does each fault when it is due and `act` when it is; ends when it is enough. `idle` is done meanwhile.
    fn go(&self, planned: Vec<Planned>, mut idle: impl FnMut() -> Result<()>, mut act: impl FnMut(&Fault) -> Result<()>) {
        let mut over = self.start;
        for Planned { at, fault } in planned {
            let due = (self.start + at).max(over + BREATH);
            loop {
                if let Err(error) = idle() {
                    self.troubles.note(format!("the harness itself: {error:#}"));
                }
                if self.enough.wait_until(due.min(Instant::now() + LOOK)) {
                    return;
                }
                if Instant::now() >= due {
                    break;
                }
            }
            self.log.note(&fault);
            if let Err(error) = act(&fault) {
                self.troubles.note(format!("the harness itself: {fault}: {error:#}"));
            }
            self.log.healed(&fault);
            over = Instant::now();
        }
        while !self.enough.wait(LOOK) {
            if let Err(error) = idle() {
                self.troubles.note(format!("the harness itself: {error:#}"));
            }
        }
    }

    fn spawn<T: Send + 'static>(self, name: &str, work: impl FnOnce(&Around) -> T + Send + 'static) -> Result<JoinHandle<T>> {
        thread::Builder::new().name(name.to_owned()).spawn(move || work(&self)).context("a thread")
    }

    /// Kills, ends and stops Hookgate, and starts it again also when it ends by itself.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn gate(self, planned: Vec<Planned>, gate: Gate) -> Result<JoinHandle<Gate>> {
        self.spawn("gate", move |around| {
            let gate = Mutex::new(gate);
            let start = |gate: &mut Gate| {
                let mut failures = 0_u32;
                gate.start(|| {
                    failures += 1;
                    if failures == MANY_STARTS {
                        around.troubles.note(format!("Hookgate did not start {failures} times in a row"));
                    }
                    around.enough.is_said() && failures > MANY_STARTS
                })
            };
            let idle = || {
                let mut gate = gate.lock();
                if let Some(status) = gate.ended()? {
                    around.troubles.note(format!("Hookgate ended by itself with {status}"));
                    start(&mut gate)?;
                }
                Ok(())
            };
            around.go(planned, idle, |fault| {
                let mut gate = gate.lock();
                match fault {
                    Fault::GateTerminate => gate.terminate()?,
                    Fault::GatePause { time } => {
                        gate.signal(Signal::STOP)?;
                        around.enough.wait(*time);
                        return gate.signal(Signal::CONT);
                    }
                    _ => gate.kill()?,
                }
                start(&mut gate)
            });
            gate.into_inner()
        })
    }

    /// Reloads and swaps.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn operator(
        self,
        planned: Vec<Planned>,
        configuration: Arc<Configuration>,
        ready: Arc<Mutex<Option<u32>>>,
    ) -> Result<JoinHandle<()>> {
        self.spawn("operator", move |around| {
            around.go(
                planned,
                || Ok(()),
                |fault| {
                    let Fault::Reload { kafka, by_signal } = fault else { return configuration.swap_guest() };
                    configuration.vary(*kafka)?;
                    // Held, so that the process is not waited for meanwhile, and its id not another's.
                    let ready = ready.lock();
                    match *ready {
                        Some(id) if *by_signal => Ok(process::send(id, Signal::HUP)?),
                        _ => Ok(()),
                    }
                },
            );
        })
    }

    /// Kills, ends and stops brokers, one at a time.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn kafka(self, planned: Vec<Planned>, mut brokers: Vec<Broker>) -> Result<JoinHandle<Vec<Broker>>> {
        self.spawn("kafka", move |around| {
            around.go(
                planned,
                || Ok(()),
                |fault| {
                    let (Fault::BrokerKill { node, time } | Fault::BrokerTerminate { node, time } | Fault::BrokerPause { node, time }) =
                        fault
                    else {
                        return Ok(());
                    };
                    let broker = brokers.get_mut(*node).context("there is no such broker")?;
                    match fault {
                        Fault::BrokerPause { .. } => {
                            broker.signal(Signal::STOP)?;
                            around.enough.wait(*time);
                            return broker.signal(Signal::CONT);
                        }
                        Fault::BrokerTerminate { .. } => broker.terminate()?,
                        _ => broker.kill()?,
                    }
                    around.enough.wait(*time);
                    broker.launch()?;
                    broker.await_up().or_else(|_| {
                        broker.launch()?; // a port may have been taken meanwhile
                        broker.await_up()
                    })
                },
            );
            brokers
        })
    }

    /// Breaks the network.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn network(self, planned: Vec<Planned>, proxies: Vec<Proxy>) -> Result<JoinHandle<()>> {
        self.spawn("network", move |around| {
            around.go(
                planned,
                || Ok(()),
                |fault| {
                    let Fault::Network { node, trouble, time } = fault else { return Ok(()) };
                    let set = |trouble| {
                        let hit = proxies.iter().enumerate().filter(|(index, _)| node.is_none_or(|node| node == *index));
                        hit.for_each(|(_, proxy)| proxy.set(trouble));
                    };
                    set(Some(*trouble));
                    around.enough.wait(*time);
                    set(None);
                    Ok(())
                },
            );
        })
    }

    /// Fills the disk and holds it up.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn disk(self, planned: Vec<Planned>, disk: Disk) -> Result<JoinHandle<Disk>> {
        self.spawn("disk", move |around| {
            around.go(
                planned,
                || Ok(()),
                |fault| {
                    match fault {
                        Fault::DiskFull { time } => {
                            let filled = disk.fill();
                            around.enough.wait(*time);
                            disk.free()?;
                            return filled;
                        }
                        Fault::DiskFrozen { time } => {
                            disk.freeze()?;
                            around.enough.wait(*time);
                            disk.thaw()?;
                        }
                        Fault::DiskSlow { time } => disk.slow(Instant::now() + *time)?,
                        _ => {}
                    }
                    Ok(())
                },
            );
            disk
        })
    }

    /// Breaks connections of clients.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn clients(self, planned: Vec<Planned>, clients: Vec<mpsc::Sender<Disturbance>>) -> Result<JoinHandle<()>> {
        self.spawn("clients", move |around| {
            around.go(
                planned,
                || Ok(()),
                |fault| {
                    let Fault::Clients { disturbance, percent, pick } = fault else { return Ok(()) };
                    let mut dice = dice(*pick, "clients", 0);
                    for client in &clients {
                        if dice.u64(0..100) < *percent {
                            let _ = client.try_send(*disturbance); // one that is disturbed already, or is not connected
                        }
                    }
                    Ok(())
                },
            );
        })
    }
}
