//! `hookgate sessions`

use super::{
    Exit,
    operators::{self, Selection, Target, escape, seconds},
};
use crate::admin::{Session, SessionDetail};

/// Arguments of `hookgate sessions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One client's session, with its subscriptions.
    client_id: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    match &args.client_id {
        Some(client_id) => one(args, client_id),
        None => all(args),
    }
}

fn all(args: &Args) -> Result<(), Exit> {
    let (sessions, more) = args.target.find()?.list::<Session>("/api/v1/sessions", &args.selection.parameters(), args.selection.limit)?;
    let head = ["CLIENT", "USER", "CLIENT IS", "ENDS IN", "SUBSCRIPTIONS", "QUEUED", "BYTES", "IN FLIGHT"];
    operators::print(&args.target, &sessions, more, &head, |session| {
        vec![
            session.client_id.clone(),
            session.username.clone().unwrap_or_default(),
            if session.connected { "there" } else { "away" }.to_owned(),
            session.ends_in_s.map(seconds).unwrap_or_default(),
            session.figures.subscriptions.to_string(),
            session.figures.queued_messages.to_string(),
            session.figures.queued_bytes.to_string(),
            session.figures.in_flight.to_string(),
        ]
    })
}

fn one(args: &Args, client_id: &str) -> Result<(), Exit> {
    let found: SessionDetail = args.target.find()?.get(&format!("/api/v1/sessions/{}", escape(client_id)), &[])?;
    if args.target.json {
        println!("{}", serde_json::to_string(&found)?);
        return Ok(());
    }
    let yes = |flag: bool| if flag { "yes" } else { "" }.to_owned();
    operators::print(&args.target, &found.filters, false, &["FILTER", "QOS", "NO LOCAL", "RETAIN AS PUBLISHED"], |of| {
        vec![of.filter.clone(), of.qos.to_string(), yes(of.no_local), yes(of.retain_as_published)]
    })
}
