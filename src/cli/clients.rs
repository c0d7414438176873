//! `hookgate clients`

use super::{
    Exit,
    operators::{self, Selection, Target, seconds},
};
use crate::{admin::Client, event::now_ms};

/// Arguments of `hookgate clients`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    let (clients, more) = args.target.find()?.list::<Client>("/api/v1/clients", &args.selection.parameters(), args.selection.limit)?;
    let head = ["CLIENT", "USER", "ADDRESS", "MQTT", "CONNECTED", "KEEP ALIVE", "SUBSCRIPTIONS", "QUEUED", "IN FLIGHT"];
    let now = now_ms();
    operators::print(&args.target, &clients, more, &head, |client| {
        vec![
            client.client_id.clone(),
            client.username.clone().unwrap_or_default(),
            client.peer.clone(),
            version(client.protocol_version).to_owned(),
            seconds(now.saturating_sub(client.connected_at) / 1000),
            seconds(client.keep_alive_s.into()),
            client.session.subscriptions.to_string(),
            client.session.queued_messages.to_string(),
            client.session.in_flight.to_string(),
        ]
    })
}

fn version(level: u8) -> &'static str {
    match level {
        3 => "3.1",
        4 => "3.1.1",
        _ => "5",
    }
}
