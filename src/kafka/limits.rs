//! How large a batch each topic takes.
//!
//! Kafka's `max.message.bytes` counts for a whole batch, and librdkafka fails every record of a batch that exceeds it. So the topics are
//! asked before the first record, and batches are kept below the lowest answer.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::event::Text;

/// What librdkafka adds to key, value and headers of a record that is alone in its batch, at most (Kafka's record batch, version 2).
pub(super) const OVERHEAD_BYTES: usize = 128;

/// Each topic's `max.message.bytes`; topics of which Kafka does not tell it are left out. Blocks, at most about `patience`.
///
/// # Errors
/// In librdkafka's words: an old Kafka, no right to describe.
pub(super) fn learn(config: &ClientConfig, topics: &[Text], patience: Duration) -> Result<Vec<(Text, usize)>, String> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| error.to_string())?;
    let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let asked = admin.describe_configs(&resources, &AdminOptions::new().request_timeout(Some(patience)));
    // A thread of its own: whoever connects may be in a runtime already, where nothing may block on another.
    let answered = std::thread::scope(|scope| {
        let thread = scope.spawn(|| Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(asked)));
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the question was given up")))
    });
    let described = answered.map_err(|error: std::io::Error| error.to_string())?.map_err(|error| error.to_string())?;
    let limit = |entries: &[rdkafka::admin::ConfigEntry]| {
        let entry = entries.iter().find(|entry| entry.name == "max.message.bytes")?;
        entry.value.as_deref()?.parse().ok()
    };
    let known = described.into_iter().flatten().filter_map(|resource| match &resource.specifier {
        OwnedResourceSpecifier::Topic(topic) => Some((Text::from(topic.as_str()), limit(&resource.entries)?)),
        _ => None,
    });
    Ok(known.collect())
}
