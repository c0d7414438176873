//! What is known about a publish that its client sends again, where a route must have it once.

use super::{
    Pipeline,
    plan::{Plan, Route},
};
use crate::{event::Receipt, hook::Hook};

impl Pipeline {
    /// Whether any route must have messages once.
    pub fn has_once(&self) -> bool {
        self.plan.load().has_once
    }

    /// Whether a publish need not be published again: every route that would take it has it, and must not have it twice. Nobody is asked.
    pub async fn is_stored(&self, topic: &str, receipt: &Receipt) -> bool {
        let plan = self.plan.load_full();
        let (having, taking) = count(&plan, topic, receipt).await;
        having > 0 && having == taking
    }
}

/// Whether any route has a publish that must not have it twice; it was let through then.
pub(super) async fn is_stored(plan: &Plan, topic: &str, receipt: &Receipt) -> bool {
    count(plan, topic, receipt).await.0 > 0
}

/// How many routes have a publish, and how many would take it.
async fn count(plan: &Plan, topic: &str, receipt: &Receipt) -> (usize, usize) {
    let Some(origin) = receipt.origin().filter(|origin| plan.has_once && origin.may_be_stored()) else { return (0, 0) };
    let (mut having, mut taking) = (0, 0);
    let takes = |route: &&Route| route.takes_topic(topic);
    for route in plan.routes(Hook::MessagePublish).iter().filter(takes) {
        taking += 1;
        having += usize::from(route.way.has(origin).await);
    }
    (having, taking)
}
