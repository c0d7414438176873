//! `hookgate kick`

use super::{
    Exit,
    operators::{Target, escape},
};
use crate::admin::Done;

/// Arguments of `hookgate kick`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The client's identifier.
    client_id: String,
    /// End its session too: its subscriptions and what waits for it.
    #[arg(long)]
    session: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    let session = if args.session { "true" } else { "false" };
    let done: Done = args.target.find()?.delete(&format!("/api/v1/clients/{}", escape(&args.client_id)), &[("session", session)])?;
    if args.target.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        println!("{}: disconnected{}", args.client_id.escape_debug(), if args.session { ", its session ended" } else { "" });
    }
    Ok(())
}
