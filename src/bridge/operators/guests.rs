//! Guests, as operators see and change them.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use crate::{
    admin::{self, Denied, GuestChange},
    bridge::works::{Wish, Works},
    guest::Circuit,
    registry::{Figures, Kept, OperateError, Refused, View, Way, WayOf},
};

/// All guests.
pub(super) async fn list(works: &Weak<Works>) -> Vec<admin::Guest> {
    let Some(works) = works.upgrade() else { return Vec::new() };
    let now = Instant::now();
    works.views().await.iter().map(|view| guest(view, now)).collect()
}

/// Changes one.
pub(super) async fn change(works: &Weak<Works>, name: &str, change: GuestChange) -> Result<admin::Guest, Denied> {
    let Some(works) = works.upgrade() else { return Err(denied(false, "Hookgate is ending".to_owned(), "start it again".to_owned())) };
    tracing::info!(guest = name, ?change, "an operator changes a guest");
    let granted = match change {
        GuestChange::RollBack(digest) => works.grant(name, Wish::RollBack(digest)).await,
        GuestChange::Promote => works.grant(name, Wish::Promote).await,
        GuestChange::Discard => works.grant(name, Wish::Discard).await,
        GuestChange::Reload => match works.refresh(Some(name)).await.problems {
            problems if problems.is_empty() => Ok(()),
            problems => Err(OperateError::Refused(problems)),
        },
    };
    granted.map_err(|error| denied(matches!(error, OperateError::Unknown(_)), error.to_string(), error.help()))?;
    let views = works.views().await;
    let changed = views.iter().find(|view| view.name == name).map(|view| guest(view, Instant::now()));
    changed.ok_or_else(|| {
        let gone = OperateError::Unknown(name.to_owned());
        denied(true, gone.to_string(), gone.help())
    })
}

fn denied(unknown: bool, error: String, help: String) -> Denied {
    Denied { unknown, problem: admin::Problem { error, help } }
}

fn guest(view: &View, now: Instant) -> admin::Guest {
    admin::Guest {
        name: view.name.clone(),
        digest: view.current.digest().to_owned(),
        since: view.versions.first().map_or(0, |running| running.since_ms),
        circuit: match view.current.circuit() {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half-open",
            Circuit::Open => "open",
        }
        .to_owned(),
        probation_s: view.probation_ends.map(|end| end.saturating_duration_since(now)).as_ref().map(Duration::as_secs),
        beside: view.beside.as_ref().map(beside),
        refused: view.refused.as_ref().map(refused),
        history: view.versions.iter().map(version).collect(),
    }
}

fn beside(way: &Way) -> admin::Beside {
    let (kind, calls, running, differences, dropped) = match &way.kind {
        WayOf::Canary { new, running } => ("canary", new, Some(running), None, None),
        WayOf::Shadow { new, differences, dropped } => ("shadow", new, None, Some(*differences), Some(*dropped)),
    };
    admin::Beside {
        kind: kind.to_owned(),
        digest: way.guest.digest().to_owned(),
        since: way.since_ms,
        share: way.share,
        calls: figures(calls),
        running: running.map(figures),
        differences,
        dropped,
    }
}

fn figures(of: &Figures) -> admin::CallFigures {
    admin::CallFigures { total: of.calls, failures: of.failures, refusals: of.refusals }
}

fn refused(of: &Refused) -> admin::RefusedVersion {
    admin::RefusedVersion { digest: of.digest.clone(), cause: of.cause.word().to_owned(), why: of.why.clone(), at: of.at_ms }
}

fn version(of: &Kept) -> admin::Version {
    admin::Version { digest: of.digest.clone(), since: of.since_ms, until: of.until_ms, left: of.left.clone() }
}
