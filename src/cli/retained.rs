//! `hookgate retained`

use super::{
    Exit,
    operators::{self, Target, escape, seconds},
};
use crate::{
    admin::{Done, Retained},
    event::now_ms,
};

/// Arguments of `hookgate retained`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only topics that match this MQTT filter.
    #[arg(long, default_value = "#")]
    filter: String,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Forget the message of this topic instead.
    #[arg(long, value_name = "TOPIC", conflicts_with = "filter")]
    forget: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    let remote = args.target.find()?;
    if let Some(topic) = &args.forget {
        let done: Done = remote.delete(&format!("/api/v1/retained/{}", escape(topic)), &[])?;
        if args.target.json {
            println!("{}", serde_json::to_string(&done)?);
        } else {
            println!("{}: forgotten", topic.escape_debug());
        }
        return Ok(());
    }
    let (messages, more) = remote.list::<Retained>("/api/v1/retained", &[("filter", &args.filter)], args.limit)?;
    let now = now_ms();
    operators::print(&args.target, &messages, more, &["TOPIC", "QOS", "BYTES", "AGE", "PUBLISHER"], |message| {
        vec![
            message.topic.clone(),
            message.qos.to_string(),
            message.payload_bytes.to_string(),
            seconds(now.saturating_sub(message.received_at) / 1000),
            message.publisher.clone(),
        ]
    })
}
