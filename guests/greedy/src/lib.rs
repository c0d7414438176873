//! Takes of what the host offers without end, so that tests can see the host's walls hold. The setting `mode` says of what; see [`MODES`].
//!
//! Grants: all. Everything else that is hostile is in the guest `hostile`, which needs fewer.

mod wasi;

use std::{fmt::Write, hint::black_box};

use hookgate_guest::{crypto::Hash, prelude::*};

/// What it does at a call, given the event's id.
type Mode = fn(u64) -> Result<(), Fault>;

/// By name.
const MODES: [(&str, Mode); 10] = [
    ("read-state", read_state),
    ("write-state", write_state),
    ("fill-state", fill_state),
    ("read-settings", read_settings),
    ("digest", digest),
    ("log", log),
    ("count", count),
    ("random", random),
    ("hold-alarms", hold_alarms),
    (TRAP_AT_RESTART, trap),
];

/// Panics at every call, and whenever an instance starts that is not the first.
const TRAP_AT_RESTART: &str = "trap-at-restart";

struct Greedy(Mode);

impl Guest for Greedy {
    fn start() -> Result<Self, String> {
        let name: String = settings::required("mode")?;
        if name == TRAP_AT_RESTART && state::add("starts", 1, None).map_err(|error| format!("state: {error:?}"))? > 1 {
            panic("greedy: trapped at start as told");
        }
        match MODES.iter().find(|(known, _)| *known == name) {
            Some((_, mode)) => Ok(Greedy(*mode)),
            None => Err(format!("no mode; there are {}", MODES.map(|(name, _)| name).join(", "))),
        }
    }
}

impl Publish for Greedy {
    fn handle(&self, context: &Context, _: &Client, _: Message) -> Result<PublishVerdict, Fault> {
        (self.0)(context.id)?;
        Ok(PublishVerdict::pass())
    }
}

/// Reads a value of 64 KiB, for ever.
fn read_state(_: u64) -> Result<(), Fault> {
    state::put("large", &[7; 64 << 10], None)?;
    loop {
        black_box(state::get("large")?);
    }
}

/// Writes a value of 64 KiB, for ever.
fn write_state(_: u64) -> Result<(), Fault> {
    loop {
        state::put("large", &[7; 64 << 10], None)?;
    }
}

/// Keeps keys that never expire until there is no room, and says so from then on.
fn fill_state(id: u64) -> Result<(), Fault> {
    for number in 0_u64.. {
        state::put(&format!("{id}/{number}"), &[7; 1 << 10], None)?;
    }
    Ok(())
}

/// Reads all settings, for ever.
fn read_settings(_: u64) -> Result<(), Fault> {
    loop {
        black_box(settings::all());
    }
}

/// Has a MiB digested, for ever.
fn digest(_: u64) -> Result<(), Fault> {
    let data = vec![7; 1 << 20];
    loop {
        black_box(crypto::digest(Hash::Sha512, &data));
    }
}

/// Writes to the log, for ever.
fn log(_: u64) -> Result<(), Fault> {
    loop {
        log::error!("greedy");
    }
}

/// Counts under ever new names.
fn count(_: u64) -> Result<(), Fault> {
    let mut name = String::new();
    for number in 0_u64.. {
        name.clear();
        let _ = write!(name, "n{number}");
        metrics::count(&name, 1);
    }
    Ok(())
}

/// Wants 64 KiB of random bytes, for ever.
fn random(_: u64) -> Result<(), Fault> {
    loop {
        black_box(wasi::random(64 << 10));
    }
}

/// Sets ever new alarms and keeps them.
fn hold_alarms(_: u64) -> Result<(), Fault> {
    loop {
        wasi::hold_alarm();
    }
}

fn trap(_: u64) -> Result<(), Fault> {
    panic("greedy: trapped as told")
}

#[allow(clippy::panic)]
fn panic(text: &str) -> ! {
    panic!("{text}");
}

hookgate_guest::export!(Greedy: publish);

#[cfg(test)]
mod tests {
    use hookgate_guest::testing;

    use super::*;

    /// No mode is harmless, so all that can be seen here is which there are; the rest is for the host's tests.
    #[test]
    fn an_unknown_mode_is_told_which_there_are() {
        testing::set("mode", "modest");
        assert!(Greedy::start().is_err_and(|problem| problem.contains("hold-alarms")));
        testing::set("mode", "fill-state");
        let guest = Greedy::start().expect("a mode");
        testing::fail_state(Some(state::Error::Quota));
        let judged = guest.handle(&testing::context(), &testing::client("c"), testing::message("t", "x"));
        assert!(matches!(judged, Err(Fault::Retry(why)) if why.contains("quota")));
    }
}
