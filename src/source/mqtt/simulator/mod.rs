//! A simulation: thousands of devices on bad links, and the real sessions, codec, subscriptions, retained messages and mailboxes between
//! them, in simulated time.
//!
//! Nothing waits: an hour passes in seconds, and everything that happens follows from a seed. The [`ledger`] knows what must come of it; a
//! run ends in calm, when everything that is owed must have come. A failure names its seed; `HOOKGATE_SIMULATION_SEED` runs it again, and
//! `HOOKGATE_SIMULATION_SEEDS` runs so many seeds more, which nobody has tried.
//!
//! Absent: sockets, tasks, guests and Kafka; [`broker`] stands in for them.

mod broker;
mod device;
mod door;
mod ledger;
mod stage;
mod wire;

use self::{
    broker::Broker,
    device::Device,
    ledger::Ledger,
    stage::{Event, Stage},
};
use crate::config::{DeniedPublish, Mqtt};

struct World {
    stage: Stage,
    ledger: Ledger,
    broker: Broker,
    devices: Vec<Device>,
}

impl World {
    fn new(seed: u64, devices: usize) -> Self {
        let mut stage = Stage::new(seed);
        let limits = Mqtt {
            receive_maximum: 8,
            max_inflight: stage.rng.u16(3..30),
            max_queued_messages: stage.rng.usize(20..500),
            denied_publish: if stage.rng.bool() { DeniedPublish::Acknowledge } else { DeniedPublish::Disconnect },
            ..Mqtt::default()
        };
        let devices: Vec<Device> = (0..devices).map(|index| Device::new(index, &mut stage)).collect();
        for index in 0..devices.len() {
            let after_ms = stage.rng.u64(0..60_000);
            stage.after(after_ms, Event::Act(index));
        }
        World { stage, ledger: Ledger::default(), broker: Broker::new(limits), devices }
    }

    /// Lets everything happen that happens within `ms`.
    fn run(&mut self, ms: u64) {
        let end_ms = self.stage.now_ms.saturating_add(ms);
        while let Some(event) = self.stage.next(end_ms) {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let World { stage, ledger, broker, devices } = self;
        match event {
            Event::Act(device) => devices[device].act(stage, ledger),
            Event::Answer(device, link, ack) => devices[device].answer_now(link, ack, stage),
            Event::Doubt(device, link) => devices[device].doubt(link, stage),
            Event::Up(link, bytes) => broker.take(link, bytes, stage, ledger),
            Event::Down(link, bytes) => {
                if let Some(device) = stage.owner(link) {
                    devices[device].take(link, bytes, stage, ledger);
                }
            }
            Event::Judged(link) => broker.judged(link, stage, ledger),
            Event::Settled(device, receipt, outcome) => {
                receipt.settle(outcome);
                broker.wake(device, stage, ledger);
            }
            Event::Arrived(device, mailbox, parcel) => {
                if let Err(rejected) = mailbox.push(parcel)
                    && rejected.reason != crate::event::DropReason::SessionEnded
                {
                    ledger.dropped(device, &rejected.parcel.message, rejected.reason, stage.now_ms);
                }
                broker.wake(device, stage, ledger);
            }
            Event::Will(client, message) => drop(broker.publish(&client, *message, None, stage, ledger)),
            Event::KeepAlive(link) => broker.keep_alive(link, stage, ledger),
            Event::Look(device) => broker.look(device, stage, ledger),
            Event::Agenda => broker.look_at_agenda(stage, ledger),
        }
    }

    /// Nothing goes wrong any more: everybody comes back, and gets what it is owed.
    fn calm_down(&mut self) {
        self.stage.calm = true;
        for index in 0..self.devices.len() {
            self.devices[index].come_back(&mut self.stage, &mut self.ledger);
        }
        self.run(u64::MAX);
        for device in &self.devices {
            assert_eq!(device.unfinished(), Vec::<String>::new(), "device {}", device.index);
        }
        self.broker.is_quiet();
        self.ledger.close();
    }
}

fn simulate(seed: u64, devices: usize, minutes: u64) {
    let failed = Failed(seed);
    let started = std::time::Instant::now();
    let mut world = World::new(seed, devices);
    world.run(minutes * 60_000);
    world.calm_down();
    std::mem::forget(failed);
    println!("seed {seed}: {devices} devices, {minutes} minutes in {:?}: {:?}", started.elapsed(), world.ledger.counts);
}

/// Names the seed of a run that failed.
struct Failed(u64);

impl Drop for Failed {
    fn drop(&mut self) {
        eprintln!("the simulation failed; run it again with HOOKGATE_SIMULATION_SEED={}", self.0);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn two_thousand_devices_on_bad_links() {
    simulate(number("HOOKGATE_SIMULATION_SEED").unwrap_or(1), 2000, 60);
}

#[test]
fn a_few_devices_and_many_seeds() {
    let given = number("HOOKGATE_SIMULATION_SEED");
    for seed in given.map_or(1..=30, |seed| seed..=seed) {
        simulate(seed, 24, 120);
    }
    for _ in 0..number("HOOKGATE_SIMULATION_SEEDS").unwrap_or(0) {
        simulate(fastrand::u64(..), 24, 120);
    }
}
