//! What came out of a replay: each difference as it is found, a summary at the end; or all of it as one JSON document.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    cli::Exit,
    guest::{Difference, Failed, Rehearsed, Sample},
};

/// The longest duration that is told from a longer one, nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;
/// How often the line of progress changes.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Counts and shows.
pub(super) struct Report {
    json: bool,
    limit: usize,
    document: Document,
    then: Histogram<u64>,
    now: Histogram<u64>,
    all: usize,
    shown_at: Instant,
}

#[derive(Serialize)]
struct Document {
    guest: String,
    /// SHA-256 of the version that ran.
    digest: String,
    /// Samples that were run.
    samples: usize,
    same: usize,
    different: usize,
    /// Of the samples that were run, those that got no verdict now.
    failures: usize,
    /// Run, and not compared: nobody wrote down what was answered then.
    unanswered: usize,
    /// Not run: credentials are never written down, or the record met its bound.
    incomplete: usize,
    /// Not run: of other guests.
    of_others: usize,
    duration_ns: Durations,
    /// Samples that got another answer, or none.
    found: usize,
    /// The first of them, as many as --limit says.
    differences: Vec<Shown>,
    notes: Vec<String>,
}

#[derive(Default, Serialize)]
struct Durations {
    then: Option<Spread>,
    now: Option<Spread>,
}

#[derive(Serialize)]
struct Spread {
    median: u64,
    p99: u64,
}

/// One sample that needs a look.
#[derive(Serialize)]
struct Shown {
    file: String,
    line: usize,
    hook: &'static str,
    id: String,
    client_id: String,
    topic: Option<String>,
    /// Why there is no verdict now.
    failure: Option<String>,
    differences: Vec<Difference>,
}

impl Report {
    /// `all` samples are in the files.
    pub(super) fn new(guest: &str, digest: &str, limit: usize, json: bool, all: usize) -> anyhow::Result<Self> {
        let document = Document {
            guest: guest.to_owned(),
            digest: digest.to_owned(),
            samples: 0,
            same: 0,
            different: 0,
            failures: 0,
            unanswered: 0,
            incomplete: 0,
            of_others: 0,
            duration_ns: Durations::default(),
            found: 0,
            differences: Vec::new(),
            notes: Vec::new(),
        };
        let (then, now) = (Histogram::new_with_max(LONGEST_NS, 3)?, Histogram::new_with_max(LONGEST_NS, 3)?);
        Ok(Report { json, limit, document, then, now, all, shown_at: Instant::now() })
    }

    /// Something that is good to know.
    pub(super) fn note(&mut self, note: String) {
        if !self.json {
            eprintln!("note: {note}");
        }
        self.document.notes.push(note);
    }

    pub(super) fn pass_over_another_guests(&mut self) {
        self.document.of_others += 1;
    }

    pub(super) fn pass_over_incomplete(&mut self) {
        self.document.incomplete += 1;
    }

    pub(super) fn take(&mut self, file: &Path, line: usize, sample: &Sample, rehearsed: &Rehearsed) {
        let document = &mut self.document;
        document.samples += 1;
        if sample.recorded.duration_ns > 0 {
            self.then.saturating_record(sample.recorded.duration_ns);
        }
        self.now.saturating_record(rehearsed.recorded.duration_ns);
        let failed = rehearsed.outcome.as_ref().err();
        document.failures += usize::from(failed.is_some());
        match (&sample.outcome, rehearsed.differences.is_empty()) {
            (None, _) => document.unanswered += 1,
            (Some(_), true) => document.same += 1,
            (Some(_), false) => document.different += 1,
        }
        if failed.is_some() || !rehearsed.differences.is_empty() {
            self.show(file, line, sample, failed, &rehearsed.differences);
        }
        self.progress();
    }

    fn show(&mut self, file: &Path, line: usize, sample: &Sample, failed: Option<&Failed>, differences: &[Difference]) {
        self.document.found += 1;
        if self.document.differences.len() >= self.limit {
            return;
        }
        let shown = Shown {
            file: file.display().to_string(),
            line,
            hook: sample.question.hook().name(),
            id: format!("{:016x}", sample.id),
            client_id: sample.client.client_id.to_string(),
            topic: sample.question.topic().map(ToString::to_string),
            failure: failed.map(ToString::to_string),
            differences: differences.to_vec(),
        };
        if !self.json {
            wipe("");
            print!("{}", shown.text());
        }
        self.document.differences.push(shown);
    }

    fn progress(&mut self) {
        if self.shown_at.elapsed() >= PROGRESS_EVERY {
            self.shown_at = Instant::now();
            let Document { samples, incomplete, of_others, different, failures, .. } = &self.document;
            let done = samples + incomplete + of_others;
            wipe(&format!("{done} of {} samples, {different} different, {failures} failures", self.all));
        }
    }

    /// Prints the summary.
    pub(super) fn end(mut self) -> Result<(), Exit> {
        wipe("");
        let duration_ns = Durations { then: spread(&self.then), now: spread(&self.now) };
        self.document.duration_ns = duration_ns;
        let document = &self.document;
        if self.json {
            println!("{}", serde_json::to_string(document)?);
        } else {
            print!("{}", document.summary());
        }
        let Document { samples, different, failures, .. } = *document;
        match (different, failures) {
            (0, 0) => Ok(()),
            _ => Err(anyhow::anyhow!("of {samples} samples, {different} got another answer and {failures} got none").into()),
        }
    }
}

impl Document {
    fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |words: &str, count: usize, why: &str| {
            let _ = writeln!(text, "  {words:<12}{count:>8}{}{why}", if why.is_empty() { "" } else { "   " }); // cannot fail
        };
        line("samples", self.samples, &format!("through {} {}", self.guest, self.digest.get(..12).unwrap_or(&self.digest)));
        line("same", self.same, "");
        line("different", self.different, "");
        line("failures", self.failures, "");
        for (words, count, why) in [
            ("unanswered", self.unanswered, "run, but nobody wrote down what was answered then"),
            ("incomplete", self.incomplete, "not run: credentials are never written down, or the call asked for too much"),
            ("of others", self.of_others, "not run: calls of other guests, see --name"),
        ] {
            if count > 0 {
                line(words, count, why);
            }
        }
        if self.differences.len() < self.found {
            let _ = writeln!(text, "  (shown: {} of {}; --limit shows more)", self.differences.len(), self.found);
        }
        for (when, spread) in [("then", &self.duration_ns.then), ("now", &self.duration_ns.now)] {
            if let Some(Spread { median, p99 }) = spread {
                let us = |ns: &u64| *ns as f64 / 1_000.0;
                let _ = writeln!(text, "  a call {when:<5} median {:>8.1} µs, p99 {:>8.1} µs", us(median), us(p99));
            }
        }
        text
    }
}

impl Shown {
    fn text(&self) -> String {
        let topic = self.topic.as_deref().unwrap_or("–");
        let mut text = format!(
            "{}:{}  {}  {}  {}  event {}\n",
            self.file,
            self.line,
            self.hook,
            printable(topic),
            printable(&self.client_id),
            self.id
        );
        for difference in &self.differences {
            let _ = writeln!(text, "    {difference}"); // cannot fail
        }
        if let (Some(failure), []) = (&self.failure, self.differences.as_slice()) {
            let _ = writeln!(text, "    failed: {}", printable(failure));
        }
        text
    }
}

/// Without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn spread(of: &Histogram<u64>) -> Option<Spread> {
    (!of.is_empty()).then(|| Spread { median: of.value_at_quantile(0.5), p99: of.value_at_quantile(0.99) })
}

/// Overwrites the line of progress, when somebody looks.
fn wipe(line: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let text = format!("\r\x1b[2K{line}");
        let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()); // a line of progress is not worth an error
    }
}
