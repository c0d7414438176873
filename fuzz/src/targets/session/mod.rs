//! The session as a state machine: a script of what clients, the pipeline and other publishers do, against a model of what they may expect.
//!
//! The input is an [`arbitrary`] script. The model is a client that keeps books: [`publishes`] over what it sends, [`deliveries`] over what
//! it gets. What must hold, beside no panic:
//! - every QoS 1 and 2 publish is answered at most once, in the order of arrival, positively only when it is stored and not denied;
//! - a QoS 2 identifier publishes once until it is released;
//! - packet identifiers in flight are unique, the client's receive maximum and maximum packet size are kept, the order of messages too,
//!   and everything unfinished is sent again, once, before anything new;
//! - a packet that ends the connection is not answered;
//! - in the end, when everything is settled and acknowledged, both windows are open as wide as at the beginning, and every message that
//!   the session took was delivered, dropped or left over.

mod deliveries;
mod publishes;
mod script;
mod world;

use arbitrary::{Arbitrary as _, Unstructured};

use self::{script::Script, world::World};

/// Steps of one script, at most; so many that every short cycle fits in.
const MAX_STEPS: usize = 256;

/// One script; bytes that are none are none.
pub fn run(input: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut world = World::new(&script);
    for step in script.steps.iter().take(MAX_STEPS) {
        world.step(step);
    }
    world.finish();
}
