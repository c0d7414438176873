//! What is in service at one moment: the routes of every hook with their guests at hand. Never changed, only replaced as a whole.

use std::sync::Arc;

use super::{capture::Capture, recipe::Recipe};
use crate::{
    access::Access,
    config,
    event::Detail,
    hook::{DropReason, Hook},
    outbox::{Outbox, Way},
    registry::Serving,
    topic::{self, TopicFilter},
};

/// The routes in service.
#[derive(Debug, Default)]
pub struct Plan {
    /// From 1; every plan of a pipeline has another.
    pub(super) number: u64,
    /// Who is asked about clients, and what holds when nobody says.
    pub(super) access: Arc<Access>,
    /// Whether a route wants to know which messages Kafka refused.
    pub(super) wants_refusals: bool,
    /// Indexed by `Hook as usize`.
    routes: Vec<Vec<Route>>,
    /// Whether any route must have messages once.
    pub(super) has_once: bool,
    /// Few.
    below: Vec<Below>,
}

/// A downlink's guests at hand.
#[derive(Debug)]
pub(super) struct Below {
    name: String,
    pub(super) guests: Vec<Arc<Serving>>,
    pub(super) on_failure: config::OnFailure,
    pub(super) retry: Option<config::Retry>,
}

/// A route with its guests at hand.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: String,
    filters: Vec<TopicFilter>,
    excluded: Vec<TopicFilter>,
    reasons: Vec<DropReason>,
    pub(super) guests: Vec<Arc<Serving>>,
    /// What it produces; `None`: nothing of its own.
    pub(super) recipe: Option<Recipe>,
    /// How its records leave.
    pub(super) way: Way,
    pub(super) on_failure: config::OnFailure,
    pub(super) retry: Option<config::Retry>,
    pub(super) capture: Option<Capture>,
}

impl Plan {
    /// Puts a checked configuration, its guests and the ways out together; `guest` finds a guest by name.
    ///
    /// # Errors
    /// What is not there: a guest, or a cluster.
    pub fn new(
        config: &config::Config,
        access: &Arc<Access>,
        outbox: &Outbox,
        guest: impl Fn(&str) -> Option<Arc<Serving>>,
    ) -> Result<Self, String> {
        let found = |name: &config::Placed<String>| guest(&name.value).ok_or_else(|| format!("guest \"{}\" is not loaded", name.value));
        let mut routes: Vec<Vec<Route>> = Hook::ALL.iter().map(|_| Vec::new()).collect();
        for route in &config.routes {
            let ready = Route {
                name: route.name.clone(),
                filters: route.filters.clone(),
                excluded: route.excluded.clone(),
                reasons: route.reasons.clone(),
                guests: route.guests.iter().map(found).collect::<Result<_, _>>()?,
                recipe: Recipe::new(route),
                way: outbox.way(&route.delivery).ok_or_else(|| format!("there is no cluster \"{}\"", route.delivery.cluster.value))?,
                on_failure: route.on_failure,
                retry: route.retry,
                capture: route.capture.as_ref().map(|capture| Capture::new(&route.name, capture)),
            };
            if let Some(of_hook) = routes.get_mut(route.hook as usize) {
                of_hook.push(ready);
            }
        }
        let has_once = routes.iter().flatten().any(|route: &Route| route.way.is_once());
        let dropped = routes.get(Hook::MessageDropped as usize);
        let wants_refusals = dropped.is_some_and(|routes| routes.iter().any(|route| route.takes_reason(DropReason::KafkaRefused)));
        let asking = config.downlinks.iter().filter(|downlink| !downlink.guests.is_empty());
        let below = asking.map(|downlink| {
            let guests = downlink.guests.iter().map(found).collect::<Result<_, String>>()?;
            Ok(Below { name: downlink.name.clone(), guests, on_failure: downlink.on_failure, retry: downlink.retry })
        });
        let below = below.collect::<Result<_, String>>()?;
        Ok(Plan { number: 0, access: Arc::clone(access), wants_refusals, routes, has_once, below })
    }

    /// A downlink that asks guests.
    pub(super) fn below(&self, downlink: &str) -> Option<&Below> {
        self.below.iter().find(|below| below.name == downlink)
    }

    /// The routes of a hook, in configuration order.
    pub(super) fn routes(&self, hook: Hook) -> &[Route] {
        self.routes.get(hook as usize).map_or(&[], Vec::as_slice)
    }
}

impl Route {
    /// Whether an event belongs here.
    pub(super) fn takes(&self, detail: &Detail) -> bool {
        let reason = match detail {
            Detail::MessageDropped(dropping) => self.takes_reason(dropping.reason),
            _ => true,
        };
        let takes_all = self.filters.is_empty() && self.excluded.is_empty();
        reason && (takes_all || detail.any_topic(|topic| self.takes_topic(topic)))
    }

    fn takes_reason(&self, reason: DropReason) -> bool {
        self.reasons.is_empty() || self.reasons.contains(&reason)
    }

    /// Whether any topic of a filter belongs here. When in doubt it does: only a filter that is excluded as a whole does not.
    pub(super) fn takes_part_of(&self, filter: &str) -> bool {
        (self.filters.is_empty() || self.filters.iter().any(|own| topic::overlaps(own.as_str(), filter)))
            && !self.excluded.iter().any(|out| topic::covers(out.as_str(), filter))
    }

    /// Whether a topic belongs here.
    pub(super) fn takes_topic(&self, topic: &str) -> bool {
        (self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(topic)))
            && !self.excluded.iter().any(|out| out.matches(topic))
    }
}
