//! How large a batch each topic takes.
//!
//! Kafka's `max.message.bytes` counts for a whole batch, and librdkafka fails every record of a batch that exceeds it. So the topics are
//! asked before the first record, and batches are kept below the lowest answer.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ConfigEntry, OwnedResourceSpecifier, ResourceSpecifier},
    client::DefaultClientContext,
};

use super::admin::wait_for;
use crate::event::Text;

/// What librdkafka adds to key, value and headers of a record that is alone in its batch, at most (Kafka's record batch, version 2).
pub(super) const OVERHEAD_BYTES: usize = 128;

/// Each topic's `max.message.bytes`; topics of which Kafka does not tell it are left out. Blocks, at most about `patience`.
///
/// # Errors
/// In librdkafka's words: an old Kafka, no right to describe.
pub(super) fn learn(config: &ClientConfig, topics: &[Text], patience: Duration) -> Result<Vec<(Text, usize)>, String> {
    let described = describe(config, topics, patience)?;
    let limit = |(topic, entries): (Text, Vec<ConfigEntry>)| Some((topic, setting(&entries, "max.message.bytes")?));
    Ok(described.into_iter().filter_map(limit).collect())
}

/// Each topic's configuration; topics of which Kafka does not tell it are left out. Blocks, at most about `patience`.
///
/// # Errors
/// As [`learn`].
pub(super) fn describe(config: &ClientConfig, topics: &[Text], patience: Duration) -> Result<Vec<(Text, Vec<ConfigEntry>)>, String> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| error.to_string())?;
    let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let asked = admin.describe_configs(&resources, &AdminOptions::new().request_timeout(Some(patience)));
    let described = wait_for(asked)?.map_err(|error| error.to_string())?;
    let known = described.into_iter().flatten().filter_map(|resource| match resource.specifier {
        OwnedResourceSpecifier::Topic(topic) => Some((Text::from(topic), resource.entries)),
        _ => None,
    });
    Ok(known.collect())
}

/// A number in a topic's configuration.
pub(super) fn setting(entries: &[ConfigEntry], name: &str) -> Option<usize> {
    entries.iter().find(|entry| entry.name == name)?.value.as_deref()?.parse().ok()
}
