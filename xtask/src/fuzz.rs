//! `cargo xtask fuzz`: builds the fuzz targets as cargo-fuzz does and runs them, one after the other.
//!
//! With a nightly toolchain the address sanitizer is in; without one the same runs on stable without it. What libFuzzer writes goes to
//! `fuzz/artifacts/TARGET.log`, what it finds beside it, and what it learns to `fuzz/corpus`; none of them is in the repository.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::step;

/// cargo-fuzz's instrumentation: counters for edges, compared values, and debug information that shows places.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    --cfg fuzzing -Cforce-frame-pointers -Ccodegen-units=1";

/// How often a line tells of the progress.
const PROGRESS: Duration = Duration::from_secs(15);

/// One input may take so long, seconds.
const TIMEOUT_S: u32 = 20;

/// How a target's run ended.
struct Run {
    target: String,
    time: Duration,
    /// libFuzzer's last status: `#123 … cov: 4 ft: 5 corp: 6/7b …`.
    status: String,
    runs: u64,
    found: bool,
}

/// Where everything is.
fn folder() -> PathBuf {
    step::root().join("fuzz")
}

/// Runs one target, or all, each for `time`.
pub(crate) fn run(only: Option<&str>, time: Duration) -> Result<()> {
    let mut targets = targets()?;
    if let Some(only) = only {
        if !targets.iter().any(|target| target == only) {
            bail!("there is no target `{only}`; there are {}", targets.join(", "));
        }
        targets.retain(|target| target == only);
    }
    let binaries = build(&targets)?;
    let mut runs = Vec::new();
    for target in targets {
        runs.push(fuzz(target, &binaries, time)?);
    }
    summary(&runs);
    let found: Vec<_> = runs.iter().filter(|run| run.found).map(|run| run.target.as_str()).collect();
    if !found.is_empty() {
        bail!("findings in {}; the inputs and logs are in fuzz/artifacts", found.join(", "));
    }
    Ok(())
}

/// Compiles the targets and sends every seed through them, without instrumentation.
pub(crate) fn check() -> Result<()> {
    step::run(step::cargo(["test", "--quiet", "--locked", "--test", "seeds"]).current_dir(folder()))
}

/// Every file in `fuzz_targets` is one.
fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for file in fs::read_dir(folder().join("fuzz_targets")).context("fuzz/fuzz_targets cannot be read")? {
        targets.extend(file?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// Builds the targets; the folder of the binaries.
fn build(targets: &[String]) -> Result<PathBuf> {
    let host = host()?;
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    let (mut command, flags) = if nightly.is_ok_and(|output| output.status.success()) {
        (step::cargo_of("nightly"), format!("{FLAGS} -Zsanitizer=address"))
    } else {
        eprintln!("xtask: no nightly toolchain: fuzzing without the address sanitizer (rustup toolchain install nightly)");
        (step::cargo(Vec::<&str>::new()), FLAGS.to_owned())
    };
    // With `--target`, the flags are not for build scripts and macros.
    command.args(["build", "--release", "--locked", "--target", &host]).current_dir(folder()).env("RUSTFLAGS", flags);
    for target in targets {
        command.args(["--bin", target]);
    }
    step::run(&mut command)?;
    Ok(folder().join("target").join(host).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("`rustc -vV` does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc does not say which host it is for")
}

fn fuzz(target: String, binaries: &Path, time: Duration) -> Result<Run> {
    let [corpus, seeds, artifacts] = ["corpus", "seeds", "artifacts"].map(|name| folder().join(name).join(&target));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = artifacts.with_extension("log");
    let mut file = fs::File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    let mut command = Command::new(binaries.join(&target));
    command.arg(&corpus).arg(&seeds).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([
        format!("-max_total_time={}", time.as_secs().max(1)),
        format!("-timeout={TIMEOUT_S}"),
        "-print_final_stats=1".to_owned(),
    ]);
    eprintln!("xtask: {target} for {} s", time.as_secs());
    let start = Instant::now();
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().with_context(|| format!("{target} does not start"))?;
    let mut run = Run { target, time: Duration::ZERO, status: String::new(), runs: 0, found: false };
    let mut told = Instant::now();
    for line in BufReader::new(child.stderr.take().context("it has no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        run.note(&line);
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("xtask: {} {:>4} s: {}", run.target, start.elapsed().as_secs(), run.status);
        }
    }
    run.found = !child.wait()?.success();
    run.time = start.elapsed();
    if run.found {
        eprintln!("xtask: {} FOUND SOMETHING; see {}", run.target, log.display());
    }
    Ok(run)
}

impl Run {
    fn note(&mut self, line: &str) {
        if line.starts_with('#') && line.contains("cov: ") {
            self.status = line.to_owned();
        } else if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
            self.runs = runs.trim().parse().unwrap_or(0);
        }
    }

    /// The word after `name` in the last status.
    fn word(&self, name: &str) -> &str {
        let mut words = self.status.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).unwrap_or("-")
    }
}

fn summary(runs: &[Run]) {
    println!("{:<16} {:>6} {:>12} {:>8} {:>6} {:>7} {:>14}  result", "target", "s", "runs", "runs/s", "edges", "feats", "corpus");
    for run in runs {
        let seconds = run.time.as_secs_f64();
        let result = if run.found { "FOUND SOMETHING" } else { "nothing found" };
        println!(
            "{:<16} {seconds:>6.0} {:>12} {:>8.0} {:>6} {:>7} {:>14}  {result}",
            run.target,
            run.runs,
            run.runs as f64 / seconds.max(0.001),
            run.word("cov:"),
            run.word("ft:"),
            run.word("corp:"),
        );
    }
}

/// `90s`, `10m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("`{text}` is no duration; write 90s, 10m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(advice)?;
    let number: u64 = number.parse().map_err(|_| advice())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let of = |text: &str| duration(text).ok().map(|time| time.as_secs());
        assert_eq!(["90s", "10m", "2h", "0s"].map(of), [Some(90), Some(600), Some(7200), Some(0)]);
        assert_eq!(["", "m", "10", "1d", "ü", "99999999999999999999h"].map(of), [None; 6]);
    }

    #[test]
    fn a_status_is_read() {
        let mut run = Run { target: "x".into(), time: Duration::ZERO, status: String::new(), runs: 0, found: false };
        for line in
            ["INFO: Seed: 1", "#2048\tNEW    cov: 61 ft: 70 corp: 9/22b lim: 8 exec/s: 0", "stat::number_of_executed_units: 12", "#x"]
        {
            run.note(line);
        }
        assert_eq!((run.runs, run.word("cov:"), run.word("ft:"), run.word("corp:"), run.word("y:")), (12, "61", "70", "9/22b", "-"));
    }

    #[test]
    fn every_target_has_seeds_and_a_binary() {
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        for target in targets().unwrap() {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target} in fuzz/Cargo.toml");
            assert!(
                fs::read_dir(folder().join("seeds").join(&target)).is_ok_and(|mut seeds| seeds.next().is_some()),
                "{target} has no seeds"
            );
        }
    }
}
