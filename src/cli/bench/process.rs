//! What Linux says about a process and the machine: CPU time, memory, and SIGTERM.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// The unit of CPU times under /proc (`USER_HZ`, 100 on every Linux that runs today).
const TICK_US: u64 = 10_000;
/// The thread of librdkafka's mock cluster.
const MOCK_THREAD: &str = "rdk:mock";

/// CPU time used so far, microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct CpuTime {
    /// The whole process, threads that have ended included.
    pub(super) process_us: u64,
    /// By the name of the threads.
    pub(super) threads_us: BTreeMap<String, u64>,
}

impl CpuTime {
    /// Reads it.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn of(process: u32) -> anyhow::Result<Self> {
        let (_, process_us) = stat(&format!("/proc/{process}/stat"))?;
        let mut threads_us = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread may end between the listing and the reading; the process's own sum still has it.
            if let Ok((name, used_us)) = stat(&thread?.path().join("stat").to_string_lossy()) {
                *threads_us.entry(name).or_default() += used_us;
            }
        }
        Ok(CpuTime { process_us, threads_us })
    }

    /// What was used since `before`.
    pub(super) fn since(&self, before: &CpuTime) -> CpuTime {
        let earlier = |name: &str| before.threads_us.get(name).copied().unwrap_or_default();
        CpuTime {
            process_us: self.process_us.saturating_sub(before.process_us),
            threads_us: self.threads_us.iter().map(|(name, us)| (name.clone(), us.saturating_sub(earlier(name)))).collect(),
        }
    }

    /// The part of the embedded Kafka's own thread.
    pub(super) fn mock_us(&self) -> u64 {
        self.threads_us.get(MOCK_THREAD).copied().unwrap_or_default()
    }
}

/// Name and CPU time, proc_pid_stat(5): after the name in parentheses, utime and stime are the 12th and 13th.
fn stat(path: &str) -> anyhow::Result<(String, u64)> {
    let text = fs::read_to_string(path).with_context(|| format!("{path}: has the process ended?"))?;
    let (name, rest) = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).with_context(|| format!("reading {path}"))?;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok((name.to_owned(), ticks * TICK_US))
}

/// CPU time of the whole machine so far, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineTime {
    busy: u64,
    all: u64,
}

impl MachineTime {
    /// Reads it.
    ///
    /// # Errors
    /// This is no Linux.
    pub(super) fn now() -> anyhow::Result<Self> {
        Self::read(&fs::read_to_string("/proc/stat")?).context("reading /proc/stat")
    }

    /// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what was stolen was nobody's to use.
    fn read(text: &str) -> Option<Self> {
        let ticks: Vec<u64> = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, ..] = ticks[..] else { return None };
        let busy = user + nice + system + irq + softirq;
        Some(MachineTime { busy, all: busy + idle + waiting })
    }

    /// The part of the machine that was busy since `before`, 0 to 1.
    pub(super) fn busy_since(&self, before: &MachineTime) -> f64 {
        self.busy.saturating_sub(before.busy) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

/// Resident memory of a process, bytes: now and at its peak.
pub(super) fn memory_bytes(process: u32) -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok((kib("VmRSS:").unwrap_or_default() << 10, kib("VmHWM:").unwrap_or_default() << 10))
}

/// Asks a process to end.
///
/// # Errors
/// There is no such process, or no `kill` program.
pub(super) fn terminate(process: u32) -> anyhow::Result<()> {
    // The standard library cannot send signals; the program of POSIX can, without a dependency and without `unsafe`.
    let status = Command::new("kill").args(["-TERM", &process.to_string()]).status().context("running kill")?;
    ensure!(status.success(), "kill -TERM {process}: {status}");
    Ok(())
}

/// The machine that the figures are true for.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    profile: &'static str,
    version: &'static str,
    pub(super) kafka: String,
}

impl Machine {
    pub(super) fn describe(kafka: String) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let after_colon = |text: &str, name| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = after_colon(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Machine {
            cpu: after_colon(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (memory_kib.unwrap_or_default() + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: if cfg!(debug_assertions) { "dev, with assertions" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
            kafka,
        }
    }

    /// For people.
    pub(super) fn in_words(&self) -> String {
        let Machine { cpu, cores, memory_gib, kernel, profile, version, kafka } = self;
        format!("hookgate {version}, profile {profile} · {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel} · Kafka: {kafka}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_part_is_what_is_neither_idle_nor_waiting() {
        let read = |text| MachineTime::read(text).unwrap();
        let (before, after) = (read("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 …"), read("cpu  20 10 30 120 15 3 2 9 0 0\n"));
        assert!((after.busy_since(&before) - 0.45).abs() < 1e-9);
        assert_eq!(MachineTime::read("intr 1 2 3"), None);
        assert!(MachineTime::now().unwrap().all > 0);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let before = CpuTime::of(std::process::id()).unwrap();
        assert!(!before.threads_us.is_empty());
        assert!(before.process_us + TICK_US * 10 >= before.threads_us.values().sum::<u64>());
        let (now, peak) = memory_bytes(std::process::id()).unwrap();
        assert!(now > 0 && peak >= now);
        assert!(CpuTime::of(u32::MAX).is_err());
    }
}
