//! SUBSCRIBE and UNSUBSCRIBE: which filters a session holds, and what is answered to each.

use std::collections::HashMap;

use super::{
    Output,
    connect::{has_nul, too_deep},
};
use crate::{
    config::Mqtt,
    event::{Detail, Subscription, Text},
    source::mqtt::{
        own,
        packet::{RetainHandling, Subscribe, SubscribeOptions, Unsubscribe},
        reason::{self, Fault},
    },
    topic::{self, TopicError},
};

/// What a session holds under one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) options: SubscribeOptions,
    pub(crate) subscription_id: Option<u32>,
}

impl Granted {
    pub(crate) fn subscription(&self, filter: &Text) -> Subscription {
        Subscription {
            filter: filter.clone(),
            qos: self.options.qos,
            no_local: self.options.no_local,
            retain_as_published: self.options.retain_as_published,
        }
    }
}

/// The filters of one session.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    held: HashMap<Text, Granted>,
}

impl Filters {
    /// What a stored session holds.
    pub(super) fn restore(held: HashMap<Text, Granted>) -> Self {
        Filters { held }
    }

    /// Each with what is held under it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Text, &Granted)> {
        self.held.iter()
    }

    /// Their texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text> {
        self.held.keys()
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Takes a SUBSCRIBE; the reason codes of SUBACK, one for each filter. Those of `denied` come before anything else.
    pub(super) fn subscribe(
        &mut self,
        packet: Subscribe,
        denied: &[Option<u8>],
        five: bool,
        limits: &Mqtt,
        out: &mut Vec<Output>,
    ) -> Result<Vec<u8>, Fault> {
        let asked = |(filter, options): &(Text, SubscribeOptions)| {
            let valid = topic::check_filter(filter).is_ok();
            valid.then(|| Granted { options: *options, subscription_id: None }.subscription(&own::text(filter)))
        };
        out.push(Output::Observe(Detail::ClientSubscribe(packet.filters.iter().filter_map(asked).collect())));
        let mut codes = Vec::with_capacity(packet.filters.len());
        for (index, (filter, options)) in packet.filters.into_iter().enumerate() {
            let denied = denied.get(index).copied().flatten();
            match denied.map_or_else(|| self.refuse(&filter, options, five, limits), |code| Ok(Some(code)))? {
                Some(code) => codes.push(code),
                None => {
                    codes.push(options.qos.level());
                    self.grant(&filter, Granted { options, subscription_id: packet.subscription_id }, out);
                }
            }
        }
        Ok(codes)
    }

    /// The filters of a SUBSCRIBE that are refused whatever anybody says about them.
    pub(super) fn refusals(&self, packet: &Subscribe, five: bool, limits: &Mqtt) -> Result<Vec<Option<u8>>, Fault> {
        packet.filters.iter().map(|(filter, options)| self.refuse(filter, *options, five, limits)).collect()
    }

    fn grant(&mut self, filter: &Text, granted: Granted, out: &mut Vec<Output>) {
        let filter = own::text(filter);
        let is_new = self.held.insert(filter.clone(), granted).is_none();
        let shared = topic::split_share(&filter).is_ok_and(|share| share.is_some());
        let retained = match granted.options.retain_handling {
            _ if shared => false, // MQTT 5, section 4.8.2: none are sent to a group
            RetainHandling::Always => true,
            RetainHandling::WhenNew => is_new,
            RetainHandling::Never => false,
        };
        out.push(Output::Observe(Detail::SessionSubscribed(granted.subscription(&filter))));
        out.push(Output::Subscribe { filter, granted, is_new, retained });
    }

    /// Takes an UNSUBSCRIBE; the reason codes of UNSUBACK, one for each filter.
    pub(super) fn unsubscribe(&mut self, packet: Unsubscribe, five: bool, out: &mut Vec<Output>) -> Result<Vec<u8>, Fault> {
        let valid = packet.filters.iter().filter(|filter| topic::check_filter(filter).is_ok()).map(own::text);
        out.push(Output::Observe(Detail::ClientUnsubscribe(valid.collect())));
        let mut codes = Vec::with_capacity(packet.filters.len());
        for filter in packet.filters {
            check(&filter, five)?;
            codes.push(match self.held.remove_entry(&filter) {
                Some((filter, granted)) => {
                    out.push(Output::Observe(Detail::SessionUnsubscribed(granted.subscription(&filter))));
                    out.push(Output::Unsubscribe(filter));
                    reason::SUCCESS
                }
                None => reason::NO_SUBSCRIPTION_EXISTED,
            });
        }
        Ok(codes)
    }

    fn refuse(&self, filter: &str, options: SubscribeOptions, five: bool, limits: &Mqtt) -> Result<Option<u8>, Fault> {
        if options.no_local && topic::split_share(filter).is_ok_and(|share| share.is_some()) {
            return Err(Fault::protocol("a shared subscription with no local")); // [MQTT-3.8.3-4]
        }
        if let Some(code) = check(filter, five)? {
            return Ok(Some(code));
        }
        if topic::split_share(filter).is_err() {
            return Ok(Some(reason::TOPIC_FILTER_INVALID)); // also in 3.1.1, where the filter as such is valid
        }
        let full = self.held.len() >= limits.max_subscriptions && !self.held.contains_key(filter);
        Ok((full || too_deep(filter, limits.max_topic_levels)).then_some(reason::QUOTA_EXCEEDED))
    }
}

/// An invalid filter is answered with its reason code in MQTT 5 and ends the connection in 3.1.1, which has no code for it.
fn check(filter: &str, five: bool) -> Result<Option<u8>, Fault> {
    match topic::check_filter(filter) {
        Ok(()) => Ok(None),
        // U+0000 and an empty filter are malformed in both [MQTT-1.5.4-2], [MQTT-4.7.3-1].
        Err(error @ (TopicError::Nul | TopicError::Empty)) => {
            debug_assert!(has_nul(filter) || filter.is_empty());
            Err(Fault::new(reason::TOPIC_FILTER_INVALID, "protocol-error", format!("a topic filter: {error}")))
        }
        Err(_) if five => Ok(Some(reason::TOPIC_FILTER_INVALID)),
        Err(error) => Err(Fault::new(reason::TOPIC_FILTER_INVALID, "protocol-error", format!("topic filter `{filter}`: {error}"))),
    }
}
