//! `hookgate guest`

use super::{
    Exit,
    operators::{self, Remote, Target, escape, seconds},
};
use crate::{
    admin::{Beside, Guest},
    event::now_ms,
};

/// Characters of a digest that are shown; as many are enough to name it.
const SHOWN: usize = 12;

/// Arguments of `hookgate guest`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// List the guests: the version in service, a new one beside it, and a version that stays out.
    ///
    /// `--json` adds the versions that are kept, with times and why each left service.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Bring a former version back.
    ///
    /// Without --to it is the version before; while a canary or shadow runs, it is that new version which goes. What the guest's file holds stays
    /// out until the file changes, also after a restart. `promote` takes it after all.
    Rollback {
        /// The guest.
        name: String,
        /// SHA-256 of the version to bring back, or its beginning.
        #[arg(long, value_name = "DIGEST")]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Let everybody meet the new version now: a canary, a shadow, or what the guest's file holds and was rolled back.
    Promote {
        /// The guest.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// End a canary or a shadow; its version stays out until the guest's file changes.
    Discard {
        /// The guest.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Look at guests' files now, rather than when the system says that they changed.
    Reload {
        /// The guest; all of them without one.
        name: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    match &args.act {
        Act::List { target } => {
            let (guests, _) = target.find()?.list::<Guest>("/api/v1/guests", &[], usize::MAX)?;
            show(target, &guests)
        }
        Act::Rollback { name, to, target } => {
            let digest: Vec<(&str, &str)> = to.iter().map(|digest| ("to", digest.as_str())).collect();
            show(target, &[change(&target.find()?, name, "rollback", &digest)?])
        }
        Act::Promote { name, target } => show(target, &[change(&target.find()?, name, "promote", &[])?]),
        Act::Discard { name, target } => show(target, &[change(&target.find()?, name, "discard", &[])?]),
        Act::Reload { name: Some(name), target } => show(target, &[change(&target.find()?, name, "reload", &[])?]),
        Act::Reload { name: None, target } => reload_all(target),
    }
}

fn change(remote: &Remote, name: &str, what: &str, parameters: &[(&str, &str)]) -> Result<Guest, Exit> {
    remote.post(&format!("/api/v1/guests/{}/{what}", escape(name)), parameters)
}

/// One guest after the other; one that is refused does not keep the others from it.
fn reload_all(target: &Target) -> Result<(), Exit> {
    let remote = target.find()?;
    let (guests, _) = remote.list::<Guest>("/api/v1/guests", &[], usize::MAX)?;
    let (mut reloaded, mut refused) = (Vec::new(), None);
    for guest in guests {
        match change(&remote, &guest.name, "reload", &[]) {
            Ok(guest) => reloaded.push(guest),
            Err(Exit::Failed(error)) => {
                eprintln!("{}: {error:#}", guest.name.escape_debug());
                refused = Some(Exit::Failed(anyhow::anyhow!("not every guest was reloaded")));
            }
            Err(other) => return Err(other),
        }
    }
    show(target, &reloaded)?;
    refused.map_or(Ok(()), Err)
}

fn show(target: &Target, guests: &[Guest]) -> Result<(), Exit> {
    let head = ["GUEST", "VERSION", "SINCE", "CIRCUIT", "BESIDE", "STAYS OUT", "KEPT"];
    let now = now_ms();
    operators::print(target, guests, false, &head, |guest| {
        vec![
            guest.name.clone(),
            short(&guest.digest),
            seconds(now.saturating_sub(guest.since) / 1000),
            guest.circuit.clone(),
            guest.beside.as_ref().map(beside).unwrap_or_default(),
            guest.refused.as_ref().map(|refused| format!("{} ({})", short(&refused.digest), refused.cause)).unwrap_or_default(),
            guest.history.len().to_string(),
        ]
    })
}

/// `canary 0a1b2c3d4e5f for 5 %: 312 calls, 1 failed`
fn beside(new: &Beside) -> String {
    let Beside { kind, digest, share, calls, .. } = new;
    let differ = new.differences.map(|differences| format!(", {differences} differ")).unwrap_or_default();
    format!("{kind} {} for {} %: {} calls, {} failed{differ}", short(digest), share * 100.0, calls.total, calls.failures)
}

fn short(digest: &str) -> String {
    digest.chars().take(SHOWN).collect()
}
