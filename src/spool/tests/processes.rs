//! The log in processes that are killed, and on disks that are full. Each such process is this test program with another test.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::*;

/// What a child does, and where.
const ROLE: &str = "HOOKGATE_SPOOL_CHILD";
const FOLDER: &str = "HOOKGATE_SPOOL_FOLDER";

/// This program as a child with a role; `shell` runs before it.
fn child(role: &str, folder: &Path, shell: &str) -> Child {
    let script = format!("{shell} exec \"$0\" --exact spool::tests::processes::a_child --ignored --nocapture");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(env::current_exe().unwrap()).env(ROLE, role).env(FOLDER, folder);
    command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// The words after `key` in the lines of a child.
fn said<'a>(lines: &'a [String], key: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.rsplit_once(key)).map(|(_, rest)| rest.trim()).collect()
}

#[tokio::test]
#[ignore = "started by the other tests as a process of its own"]
async fn a_child() {
    let Ok(role) = env::var(ROLE) else { return };
    let bench = Bench::new(|config| config.segment_bytes = 256 << 10);
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let (spool, reader) = Spool::open("t", &folder, &bench.config, &bench.metrics).unwrap();
    let mut log = Log { spool, reader, settlements: Settlements::new(), settled: BTreeMap::new(), sent: 0 };
    match role.as_str() {
        "append" => append_for_ever(&mut log, u64::MAX).await,
        "some" => append_for_ever(&mut log, 2_000).await,
        _ => fill(&mut log).await,
    }
    log.spool.close();
}

/// Appends numbers from where the log ends, and says which were acknowledged.
async fn append_for_ever(log: &mut Log, count: u64) {
    let begin = log.read().await.len() as u64;
    let mut acknowledged = 0;
    while acknowledged < count {
        // Groups that grow beyond what a file may take in one of the tests, since only the first of them is waited for.
        for _ in 0..50 {
            log.append(format!("{:06}{}", begin + log.sent, "x".repeat(200))).await;
        }
        log.settled(acknowledged + 1).await;
        while log.settled.get(&acknowledged) == Some(&Outcome::Stored) {
            println!("\nacknowledged {}", begin + acknowledged);
            acknowledged += 1;
        }
    }
}

/// What a log holds must be every number from 0 on, in order, and none missing that was acknowledged.
async fn verify(bench: &Bench, acknowledged: u64) -> u64 {
    let bodies = bench.open().bodies().await;
    for (number, body) in bodies.iter().enumerate() {
        assert!(body.starts_with(&format!("{number:06}x")), "{body} stands at {number}");
    }
    assert!(bodies.len() as u64 >= acknowledged, "{} of {acknowledged}", bodies.len());
    bodies.len() as u64
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let bench = Bench::new(|config| config.segment_bytes = 256 << 10);
    let mut records = 0;
    for round in 0..5_u64 {
        let mut process = child("append", bench.folder.path(), "");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let heard = lines.by_ref().filter(|line| line.contains("acknowledged ")).nth(500 + 777 * round as usize);
        assert!(heard.is_some(), "the child ended before");
        process.kill().unwrap();
        let rest: Vec<String> = heard.into_iter().chain(lines).collect();
        process.wait().unwrap();
        let last: u64 = said(&rest, "acknowledged ").last().unwrap().parse().unwrap();
        assert!(last >= records);
        records = verify(&bench, last + 1).await;
    }
}

#[tokio::test]
async fn a_write_that_fails_ends_its_segment_and_nothing_else() {
    let bench = Bench::new(|_| {});
    // Files of 64 or 128 KiB at most, as the shell counts; the segments would be larger.
    let process = child("some", bench.folder.path(), "trap '' XFSZ; ulimit -f 128;");
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(output.status.success(), "{text}");
    let acknowledged = said(&lines, "acknowledged ").len() as u64;
    assert!(acknowledged >= 2_000);
    assert!(bench.segments().len() > 3, "segments ended early: {:?}", bench.segments());
    verify(&bench, acknowledged).await;
}

/// Fills the disk until nothing is acknowledged any more, confirms what is there, and waits for the rest.
async fn fill(log: &mut Log) {
    let mut stuck = 0;
    while stuck < 10 {
        let before = log.settled.len();
        if log.sent < log.settled.len() as u64 + 300 {
            log.append(vec![b'x'; 10_000]).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        log.look();
        if log.settled.len() > before {
            stuck = 0;
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stuck += 1;
        }
    }
    let stored = log.settled.len() as u64;
    assert!(stored > 10 && stored < log.sent, "{stored} of {}", log.sent);
    assert!(log.settled.values().all(|outcome| *outcome == Outcome::Stored));
    println!("\nfull {stored}");
    let mut read = log.read().await.len() as u64;
    assert_eq!(read, stored, "what was acknowledged, and no more");
    let deadline = std::time::Instant::now() + SAFETY;
    while (log.settled.len() as u64) < log.sent {
        assert!(std::time::Instant::now() < deadline, "it does not go on: {} of {}", log.settled.len(), log.sent);
        log.spool.confirm(read + 1, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        read += log.read().await.len() as u64;
        log.look();
    }
    assert!(log.settled.values().all(|outcome| *outcome == Outcome::Stored));
    println!("\nwent on {read}");
}

#[tokio::test]
async fn a_full_disk_delays_and_everything_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let try_out = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !try_out.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no full disk, since this user may not mount one (unshare -rm)");
        return;
    }
    let script = "mount -t tmpfs -o size=2m none \"$HOOKGATE_SPOOL_FOLDER\" || exit 9; exec \"$0\" --exact spool::tests::processes::a_child --ignored --nocapture";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(env::current_exe().unwrap()).env(ROLE, "fill").env(FOLDER, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("went on "), "{text}");
}
