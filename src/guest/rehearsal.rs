//! Asks a version what was asked before, in recorded circumstances and without consequences.
//!
//! Nothing leaves a rehearsal: what the guest writes to its state stays on a [stage](super::stage), its log lines go to the log at `debug` with
//! `rehearsal=true`, what it counts is not counted, and the call is neither in the guest's metrics nor held against it. The event's number,
//! time and node are those of the sample. Not recorded, and so not the same as then: random numbers and clocks of WASI, the content of the
//! instance's memory, the guest's settings.

use std::sync::Arc;

use super::{
    failure::Failure,
    sample::{Difference, Outcome, Question, Sample, Verdict, differences, outcome},
    stage::Stage,
    trace::{Recorded, Trace},
    version::{Asked, Guest},
};
use crate::event::{Client, Credentials, Event, Round};

/// What keys of the state hold of which a sample does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beneath {
    /// Nothing: for samples from files.
    Nothing,
    /// What the guest's real state holds now: for calls that have just been made.
    RealState,
}

/// How a rehearsal went.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// What the guest answered now.
    pub outcome: Outcome,
    /// What it asked for, on the stage.
    pub recorded: Recorded,
    /// What differs from the sample's answer; empty where the sample has none.
    pub differences: Vec<Difference>,
}

impl Guest {
    /// A call of this version that has just ended, as a sample; `trace` is the one that was given along with the question. `None`: the guest
    /// was not called, because it had no instance or its circuit was open.
    pub fn sample<T: Clone + Into<Verdict>>(
        &self,
        asked: Asked<'_>,
        client: &Arc<Client>,
        question: Question,
        trace: &Trace,
        answer: &Result<T, Failure>,
    ) -> Option<Sample> {
        Some(Sample {
            id: asked.id,
            time_ms: asked.time_ms,
            node: asked.node.into(),
            route: None,
            guest: Some(self.name().into()),
            digest: Some(self.digest().into()),
            client: Arc::clone(client),
            question,
            recorded: trace.recorded()?,
            outcome: Some(outcome(answer)),
        })
    }

    /// Asks what the sample was asked. `None`: the sample lacks what it takes, see [`Sample::is_complete`].
    pub async fn rehearse(&self, sample: &Sample, beneath: Beneath) -> Option<Rehearsed> {
        if !sample.is_complete() {
            return None;
        }
        let beneath = (beneath == Beneath::RealState).then(|| Arc::clone(self.state()));
        let trace = Trace::on(Stage::new(&sample.recorded, beneath));
        let asked = Asked { id: sample.id, time_ms: sample.time_ms, node: &sample.node, trace: Some(&trace) };
        let outcome = self.answer(asked, &sample.client, &sample.question).await;
        let differences = sample.outcome.as_ref().map_or_else(Vec::new, |before| differences(&sample.question, before, &outcome));
        Some(Rehearsed { outcome, recorded: trace.recorded().unwrap_or_default(), differences })
    }

    async fn answer(&self, asked: Asked<'_>, client: &Arc<Client>, question: &Question) -> Outcome {
        match question {
            Question::Publish(message) => outcome(&self.publish(asked, client, message).await),
            Question::Observe(detail) => {
                let event = Event { id: asked.id, time_ms: asked.time_ms, client: Arc::clone(client), detail: detail.clone() };
                outcome(&self.observe(asked, &event).await)
            }
            Question::Authenticate { method, password } => {
                let credentials = Credentials { method: method.clone(), password: password.known().cloned() };
                outcome(&self.authenticate(asked, client, &credentials).await)
            }
            Question::Authorize { action, topic } => outcome(&self.authorize(asked, client, *action, topic).await),
            Question::Step { method, data, number, memo, again } => {
                let round = Round {
                    method,
                    data: data.known().map(|data| &**data),
                    number: *number,
                    memo: memo.known().map_or(&[], |memo| &**memo),
                    again: *again,
                };
                outcome(&self.step(asked, client, round).await)
            }
        }
    }
}
