//! What happens to versions after they were deployed: a canary takes over or goes back, a probation ends well or badly, an operator decides.
//!
//! Every function answers with another snapshot, for its caller to take into service and [commit](super::Registry::commit).

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    Entry, Figures, Guests, Registry, VaultError,
    canary::Verdict,
    deploy::{Refusal, unserved_by},
    ledger::{Cause, Kept, Ledger, NoVersion, Refused, short},
    serving::{Beside, Serving},
};
use crate::{
    config::{Config, Problem},
    event::now_ms,
    guest::Guest,
};

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no such guest.
    #[error("there is no guest \"{0}\"")]
    Unknown(String),
    /// It has no version that this could be about.
    #[error("guest \"{name}\": {reason}")]
    NoVersion {
        /// The guest.
        name: String,
        /// Why.
        reason: NoVersion,
    },
    /// No new version runs beside the one in service.
    #[error("guest \"{0}\" has no new version beside the one in service")]
    NothingNew(String),
    /// What was kept of the version cannot be used.
    #[error("guest \"{name}\": {reason}")]
    Kept {
        /// The guest.
        name: String,
        /// Why.
        reason: VaultError,
    },
    /// The version cannot be taken.
    #[error("{}", .0.first().map(|problem| problem.message.clone()).unwrap_or_default())]
    Refused(Vec<Problem>),
}

impl OperateError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            OperateError::Unknown(_) => "`hookgate guest list` names them".to_owned(),
            OperateError::NoVersion { reason: NoVersion::None, .. } => {
                "with [node] data_dir the last versions outlive a restart ([guests] history); put the wanted component into the guest's file"
                    .to_owned()
            }
            OperateError::NoVersion { .. } => "`hookgate guest list --json` names the versions that are kept".to_owned(),
            OperateError::NothingNew(_) => "put a new component into the guest's file; with [guest.canary] or [guest.shadow] it runs beside".to_owned(),
            OperateError::Kept { .. } => "put the wanted component into the guest's file".to_owned(),
            OperateError::Refused(problems) => {
                problems.first().and_then(|problem| problem.help.clone()).unwrap_or_else(|| "the log may say more".to_owned())
            }
        }
    }
}

/// What is known of one guest.
#[derive(Clone, Debug)]
pub struct View {
    /// How routes name it.
    pub name: String,
    /// The version in service.
    pub current: Arc<Guest>,
    /// The new version beside it.
    pub beside: Option<Way>,
    /// When the probation of the version in service ends, if it is on probation.
    pub probation_ends: Option<Instant>,
    /// The file's version, if it stays out.
    pub refused: Option<Refused>,
    /// The versions that are kept, the newest first; the first is in service.
    pub versions: Vec<Kept>,
}

/// A new version on its way.
#[derive(Clone, Debug)]
pub struct Way {
    /// The new version.
    pub guest: Arc<Guest>,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The part of the clients whose events it sees.
    pub share: f64,
    /// Which way, and how far.
    pub kind: WayOf,
}

/// Which way a new version takes.
#[derive(Clone, Copy, Debug)]
pub enum WayOf {
    /// A part of the clients meets it.
    Canary {
        /// What was counted of it.
        new: Figures,
        /// What was counted of the running version meanwhile.
        running: Figures,
    },
    /// It sees copies.
    Shadow {
        /// What was counted of it.
        new: Figures,
        /// Answers that differ from those of the version in service.
        differences: u64,
        /// Copies that it did not see, and differences that found no room on their way to Kafka.
        dropped: u64,
    },
}

impl Guests {
    /// What is known of each guest, by name.
    pub fn views(&self) -> Vec<View> {
        self.0.iter().map(|(name, entry)| entry.view(name)).collect()
    }

    fn entry(&self, name: &str) -> Result<&Entry, OperateError> {
        self.0.get(name).ok_or_else(|| OperateError::Unknown(name.to_owned()))
    }

    fn having(&self, name: &str, entry: Entry) -> Guests {
        let mut entries = BTreeMap::clone(&self.0);
        entries.insert(name.to_owned(), entry);
        Guests(Arc::new(entries))
    }
}

impl Entry {
    fn view(&self, name: &str) -> View {
        let serving = &self.serving;
        let beside = serving.beside.as_ref().map(|beside| match beside {
            Beside::Canary(canary) => Way {
                guest: Arc::clone(&canary.guest),
                since_ms: canary.since_ms,
                share: canary.settings.share,
                kind: WayOf::Canary { new: canary.figures(), running: canary.running() },
            },
            Beside::Shadow(shadow) => {
                let (differences, dropped) = shadow.differences();
                Way {
                    guest: Arc::clone(&shadow.guest),
                    since_ms: shadow.since_ms,
                    share: shadow.settings.share,
                    kind: WayOf::Shadow { new: shadow.figures(), differences, dropped },
                }
            }
        });
        View {
            name: name.to_owned(),
            current: Arc::clone(serving.current()),
            beside,
            probation_ends: serving.probation.as_ref().map(|probation| probation.until),
            refused: self.ledger.refused.clone(),
            versions: self.ledger.versions.clone(),
        }
    }

    /// The same without the version beside, which stays out.
    fn without_beside(&self, digest: &str, cause: Cause, why: &str) -> Entry {
        let mut ledger = self.ledger.clone();
        ledger.refuse(digest, cause, why, now_ms());
        let serving = &self.serving;
        self.with(Serving::new(Arc::clone(&serving.current), serving.probation.clone(), None), ledger)
    }
}

impl Registry {
    /// Ends what has come to its end: canaries, probations. `None`: nothing has.
    pub async fn settle(&self, current: &Guests) -> Option<Guests> {
        let mut settled = None;
        for (name, entry) in current.0.iter() {
            if let Some(entry) = self.settle_entry(entry).await {
                settled = Some(settled.as_ref().unwrap_or(current).having(name, entry));
            }
        }
        settled
    }

    async fn settle_entry(&self, entry: &Entry) -> Option<Entry> {
        let (now, serving) = (Instant::now(), &entry.serving);
        if let Some(probation) = &serving.probation {
            if probation.has_failed() {
                return Some(self.fall_back(entry).await);
            }
            if now >= probation.until {
                return Some(entry.with(Serving::new(Arc::clone(&serving.current), None, serving.beside.clone()), entry.ledger.clone()));
            }
        }
        let Some(beside @ Beside::Canary(canary)) = &serving.beside else { return None };
        match canary.verdict(now) {
            Verdict::Continue => None,
            Verdict::RollBack(reason) => Some(entry.without_beside(canary.guest.digest(), reason.cause(), &reason.to_string())),
            Verdict::Promote => Some(self.promoted(entry, beside)),
        }
    }

    /// The version before comes back; without one that can, the failing version stays.
    async fn fall_back(&self, entry: &Entry) -> Entry {
        let serving = &entry.serving;
        let mut ledger = entry.ledger.clone();
        let warm = serving.probation.as_ref().and_then(|probation| probation.former.clone());
        let former = match warm {
            Some(former) => Ok(former),
            None => self.former(entry, None).await,
        };
        match former {
            Ok(former) => {
                let proven = ledger.is_proven(former.digest(), entry.config.breaker.probation);
                ledger.go_back(former.digest(), proven, (Cause::Circuit, "its circuit opened while it was on probation"), now_ms());
                let probation = self.probation(&entry.config, &former, &ledger, None);
                entry.with(Serving::new(former, probation, serving.beside.clone()), ledger)
            }
            Err(error) => {
                tracing::error!(%error, "the circuit of a new version opened, and the version before cannot come back");
                entry.with(Serving::new(Arc::clone(&serving.current), None, serving.beside.clone()), ledger)
            }
        }
    }

    /// A former version, ready to answer.
    async fn former(&self, entry: &Entry, digest: Option<&str>) -> Result<Arc<Guest>, OperateError> {
        let name = &entry.config.name;
        let kept = entry.ledger.former(digest).map_err(|reason| OperateError::NoVersion { name: name.clone(), reason })?;
        let bytes = self.vault.component(name, kept).await.map_err(|reason| OperateError::Kept { name: name.clone(), reason })?;
        self.guest(&entry.berth(), bytes).await.map_err(|refusal| OperateError::Refused(refusal.problems(&entry.config)))
    }

    /// The new version beside takes over.
    fn promoted(&self, entry: &Entry, beside: &Beside) -> Entry {
        let mut ledger = entry.ledger.clone();
        let guest = beside.guest();
        ledger.enter(guest.digest(), Some(beside.bytes()), now_ms(), self.vault.keep());
        self.succeeded(entry, guest, ledger)
    }

    /// Another version in service than before, on probation.
    fn succeeded(&self, entry: &Entry, guest: &Arc<Guest>, ledger: Ledger) -> Entry {
        let former = Arc::clone(&entry.serving.current);
        let probation = self.probation(&entry.config, guest, &ledger, Some(former));
        entry.with(Serving::new(Arc::clone(guest), probation, None), ledger)
    }

    /// An operator wants a former version back: the one with this digest (or its beginning), else the version before. While a new version runs
    /// beside the one in service, and no digest is named, it is that new version which goes.
    ///
    /// # Errors
    /// There is none, or it cannot be taken under the present configuration.
    pub async fn roll_back(&self, config: &Config, current: &Guests, name: &str, digest: Option<&str>) -> Result<Guests, OperateError> {
        const WHY: &str = "by an operator";
        let entry = current.entry(name)?;
        let beside = entry.serving.beside.as_ref().map(|beside| beside.guest().digest());
        if let (Some(beside), None) = (beside, digest) {
            return Ok(current.having(name, entry.without_beside(beside, Cause::Operator, WHY)));
        }
        let former = self.former(entry, digest).await?;
        let problems = unserved_by(&former, config);
        if !problems.is_empty() {
            return Err(OperateError::Refused(problems));
        }
        let mut ledger = entry.ledger.clone();
        ledger.go_back(former.digest(), true, (Cause::Operator, WHY), now_ms());
        if let Some(beside) = beside {
            ledger.refuse(beside, Cause::Operator, WHY, now_ms());
        }
        Ok(current.having(name, entry.with(Serving::new(former, None, None), ledger)))
    }

    /// An operator wants everybody to meet the new version: the one beside, or the one in the file that was rolled back.
    ///
    /// # Errors
    /// There is none, or it cannot be taken.
    pub async fn promote(&self, config: &Config, current: &Guests, name: &str) -> Result<Guests, OperateError> {
        let entry = current.entry(name)?;
        if let Some(beside) = &entry.serving.beside {
            return Ok(current.having(name, self.promoted(entry, beside)));
        }
        let Some(refused) = &entry.ledger.refused else { return Err(OperateError::NothingNew(name.to_owned())) };
        let refused_as = |refusal: Refusal| OperateError::Refused(refusal.problems(&entry.config));
        let (bytes, digest) = super::deploy::read(&entry.config.path.value).await.map_err(|error| refused_as(Refusal::File(error)))?;
        if digest != refused.digest {
            return Err(OperateError::NothingNew(name.to_owned())); // it is being taken already
        }
        let guest = self.guest(&entry.berth(), Arc::clone(&bytes)).await.map_err(refused_as)?;
        self.try_samples(&entry.config, &guest).await.map_err(refused_as)?;
        let problems = unserved_by(&guest, config);
        if !problems.is_empty() {
            return Err(OperateError::Refused(problems));
        }
        let mut ledger = entry.ledger.clone();
        ledger.enter(guest.digest(), Some(bytes), now_ms(), self.vault.keep());
        Ok(current.having(name, self.succeeded(entry, &guest, ledger)))
    }

    /// An operator does not want the new version beside the one in service.
    ///
    /// # Errors
    /// There is none.
    pub fn discard(&self, current: &Guests, name: &str) -> Result<Guests, OperateError> {
        let entry = current.entry(name)?;
        let beside = entry.serving.beside.as_ref().ok_or_else(|| OperateError::NothingNew(name.to_owned()))?;
        let why = format!("{} {} discarded by an operator", beside.kind(), short(beside.guest().digest()));
        Ok(current.having(name, entry.without_beside(beside.guest().digest(), Cause::Discarded, &why)))
    }
}
