//! Lets everything pass: what the crossing alone costs, for benchmarks. Imports no capability.

use hookgate_guest::prelude::*;

struct Identity;

impl Guest for Identity {
    fn start() -> Result<Self, String> {
        Ok(Identity)
    }
}

impl Publish for Identity {
    fn handle(&self, _: &Context, _: &Client, _: Message) -> Result<PublishVerdict, Fault> {
        Ok(PublishVerdict::Pass)
    }
}

impl Events for Identity {
    fn handle(&self, _: &Context, _: &Client, _: Detail) -> Result<EventVerdict, Fault> {
        Ok(EventVerdict::Pass)
    }
}

hookgate_guest::export!(Identity: publish, events);
