//! Logs that are not as they were written.

use super::*;
use crate::spool::{frame, position::Mark, segment::HEADER_BYTES};

const BODIES: [&str; 5] = ["a", "bb", "", "dddd", "eeeee"];

/// Where each frame of the one segment of `bodies` ends.
fn ends(bodies: &[&str]) -> Vec<usize> {
    let mut end = HEADER_BYTES;
    bodies
        .iter()
        .map(|body| {
            end += frame::HEAD_BYTES + body.len();
            end
        })
        .collect()
}

/// Bodies that are not empty.
fn bodies() -> Vec<&'static str> {
    BODIES.into_iter().filter(|body| !body.is_empty()).collect()
}

/// The bench of a small log in one segment, and that segment.
async fn small(on_damage: OnDamage) -> (Bench, PathBuf, Vec<u8>) {
    let bench = Bench::new(|config| config.on_damage = on_damage);
    bench.written(&bodies()).await;
    let file = bench.segments().remove(0);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(ends(&bodies()).last(), Some(&bytes.len()));
    (bench, file, bytes)
}

/// The folder as it was, with this in the one segment.
fn put_back(bench: &Bench, position: &[u8], file: &std::path::Path, bytes: &[u8]) {
    for (_, path) in segment::list(bench.folder.path()).unwrap() {
        fs::remove_file(path).unwrap();
    }
    fs::write(bench.folder.path().join("position"), position).unwrap();
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_keeps_every_whole_record_before() {
    let (bench, file, bytes) = small(OnDamage::Refuse).await;
    let position = fs::read(bench.folder.path().join("position")).unwrap();
    let ends = ends(&bodies());
    for length in HEADER_BYTES..=bytes.len() {
        put_back(&bench, &position, &file, &bytes[..length]);
        let bench = bench_at(&bench);
        copy(file.parent().unwrap(), bench.folder.path());
        let whole = ends.iter().filter(|end| **end <= length).count();
        let mut log = bench.open();
        assert_eq!(log.bodies().await, bodies()[..whole], "cut at {length}");
        let torn = u8::from(!ends.contains(&length) && length > HEADER_BYTES);
        assert!(bench.metric(&format!("hookgate_spool_tails_cut_total{{name=\"t\"}} {torn}")), "cut at {length}");
        let lost = bodies().len() - whole;
        assert!(bench.metric(&format!("hookgate_spool_lost_total{{name=\"t\"}} {lost}")), "cut at {length}");
        log.append("new").await;
        log.settled(1).await;
        assert_eq!(log.bodies().await, ["new"]);
        log.spool.close();
        let mut again = bench.open();
        assert_eq!(again.read().await.len(), whole + 1, "what was cut is no damage: {length}");
    }
}

fn bench_at(bench: &Bench) -> Bench {
    Bench { folder: tempfile::tempdir().unwrap(), config: bench.config.clone(), metrics: Metrics::new() }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_is_never_passed_over() {
    let (bench, file, bytes) = small(OnDamage::Refuse).await;
    let position = fs::read(bench.folder.path().join("position")).unwrap();
    let ends = ends(&bodies());
    let last = ends.len() - 1;
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        put_back(&bench, &position, &file, &flipped);
        let bench = bench_at(&bench);
        copy(file.parent().unwrap(), bench.folder.path());
        let frame = ends.iter().position(|end| at < *end).unwrap();
        let begin = if frame == 0 { HEADER_BYTES } else { ends[frame - 1] };
        match bench.try_open() {
            Ok(mut log) if at < HEADER_BYTES => assert_eq!(log.bodies().await, bodies(), "the header is there twice"),
            Ok(mut log) => {
                assert_eq!(frame, last, "flipped at {at}");
                assert_eq!(log.bodies().await, bodies()[..last]);
                assert!(bench.metric("hookgate_spool_tails_cut_total{name=\"t\"} 1"));
                assert!(bench.metric("hookgate_spool_lost_total{name=\"t\"} 1"));
            }
            Err(SpoolError::Damaged { offset, from, .. }) => {
                assert_eq!((offset as usize, from as usize), (begin, frame + 1), "flipped at {at}");
                assert!(frame < last && at >= HEADER_BYTES);
                assert_eq!(fs::read(bench.segments().remove(0)).unwrap(), flipped, "nothing is changed");
            }
            Err(error) => panic!("flipped at {at}: {error}"),
        }
    }
}

#[tokio::test]
async fn damage_can_be_left_behind_on_request() {
    let (bench, file, bytes) = small(OnDamage::Skip).await;
    let position = fs::read(bench.folder.path().join("position")).unwrap();
    let ends = ends(&bodies());
    for at in HEADER_BYTES..ends[2] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        put_back(&bench, &position, &file, &flipped);
        let bench = bench_at(&bench);
        copy(file.parent().unwrap(), bench.folder.path());
        let frame = ends.iter().position(|end| at < *end).unwrap();
        let mut log = bench.open();
        let mut expected = bodies();
        expected.remove(frame);
        assert_eq!(log.bodies().await, expected, "flipped at {at}");
        assert!(bench.metric("hookgate_spool_lost_total{name=\"t\"} 1"));
        log.append("new").await;
        log.settled(1).await;
        log.spool.close();
        let damaged = bench.folder.path().join(file.file_name().unwrap()).with_extension("spool.damaged");
        assert_eq!(fs::read(damaged).unwrap(), flipped, "kept beside");
        let strict = Bench { config: config::Spool { on_damage: OnDamage::Refuse, ..bench.config.clone() }, ..bench };
        assert_eq!(strict.open().read().await.len(), 4, "what was left behind is no damage any more");
    }
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let bench = Bench::new(|config| config.segment_bytes = 64 << 10);
    let bodies: Vec<String> = (0..6).map(|number| number.to_string().repeat(40_000)).collect();
    bench.written(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let segments = bench.segments();
    assert_eq!(segments.len(), 6);
    for missing in [0, 2, 4] {
        let other = bench_at(&bench);
        copy(bench.folder.path(), other.folder.path());
        fs::remove_file(other.folder.path().join(segments[missing].file_name().unwrap())).unwrap();
        let number = missing as u64 + 1;
        match other.try_open().map(|_| ()) {
            Err(SpoolError::Damaged { from, last, .. }) => assert_eq!((from, last), (number, number)),
            outcome => panic!("{outcome:?}"),
        }
        let other = Bench { config: config::Spool { on_damage: OnDamage::Skip, ..other.config.clone() }, ..other };
        for _ in 0..2 {
            let mut log = other.open();
            assert_eq!(log.read().await.iter().map(|entry| entry.sequence).filter(|at| *at == number).count(), 0);
            log.reader.rewind(1);
            assert_eq!(log.read().await.len(), 5);
            log.spool.close();
        }
        assert!(other.metric("hookgate_spool_lost_total{name=\"t\"} 1"), "counted once");
    }
    // What is confirmed may be missing or damaged.
    let log = bench.open();
    log.spool.confirm(4, Some(7));
    log.spool.close();
    let left = bench.segments();
    let mut bytes = fs::read(&left[0]).unwrap();
    bytes[HEADER_BYTES + 40] ^= 1;
    fs::write(&left[0], bytes).unwrap();
    assert_eq!(bench.open().read().await.len(), 3);
}

/// A segment of frames, each with what was durable when it was written.
fn by_hand(first: u64, frames: &[(&str, u64)]) -> Vec<u8> {
    let mut bytes = segment::header(5);
    for (sequence, (body, durable)) in (first..).zip(frames) {
        let begin = bytes.len();
        frame::begin(&mut bytes, 7, body.as_bytes());
        frame::seal(&mut bytes[begin..], 5, sequence, *durable);
    }
    bytes
}

#[tokio::test]
async fn a_group_that_the_machine_lost_its_power_in_is_a_tail() {
    let frames = [("one", 0), ("two", 1), ("three", 1), ("four", 1)];
    // The third frame never reached the disk; that the second group was durable is not known, or is.
    for (durable, proven, opens) in [(2, 1, true), (5, 1, false), (2, 3, false)] {
        let bench = Bench::new(|_| {});
        let mut bytes = by_hand(1, &[frames[0], frames[1], frames[2], (frames[3].0, proven)]);
        let begin = HEADER_BYTES + 2 * (frame::HEAD_BYTES + 3);
        bytes[begin..begin + frame::HEAD_BYTES + 5].fill(0);
        fs::write(bench.folder.path().join(segment::name(1)), bytes).unwrap();
        Position::open(bench.folder.path()).unwrap().0.write(Mark { confirmed: 1, durable }).unwrap();
        match bench.try_open() {
            Ok(mut log) => {
                assert!(opens);
                assert_eq!(log.bodies().await, ["one", "two"]);
                assert!(bench.metric("hookgate_spool_lost_total{name=\"t\"} 0"));
            }
            Err(error) => assert!(!opens, "{error}"),
        }
    }
}

#[tokio::test]
async fn what_a_failure_left_in_a_segment_is_read_from_the_next_one() {
    let bench = Bench::new(|_| {});
    let put = |first, frames| fs::write(bench.folder.path().join(segment::name(first)), by_hand(first, frames)).unwrap();
    put(1, &[("one", 0), ("old", 1), ("old", 1)]);
    put(2, &[("two", 1), ("three", 1)]);
    assert_eq!(bench.open().bodies().await, ["one", "two", "three"]);
    let mut torn = by_hand(1, &[("one", 0), ("old", 1), ("old", 1)]);
    torn[HEADER_BYTES + 60] ^= 1;
    fs::write(bench.folder.path().join(segment::name(1)), torn).unwrap();
    assert_eq!(bench.open().bodies().await, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_segment_that_was_being_made_is_nothing_and_a_foreign_one_is_left_alone() {
    let bench = Bench::new(|_| {});
    bench.written(&["one"]).await;
    fs::write(bench.folder.path().join(segment::name(2)), b"hgsp").unwrap();
    assert_eq!(bench.open().bodies().await, ["one"]);
    let mut header = segment::header(5);
    for copy in header.chunks_mut(HEADER_BYTES / 2) {
        copy[7] = 9;
        let checksum = crc32fast::hash(&copy[..12]).to_le_bytes();
        copy[12..16].copy_from_slice(&checksum);
    }
    fs::write(bench.folder.path().join(segment::name(2)), [header, vec![1; 100]].concat()).unwrap();
    assert!(matches!(bench.try_open().map(|_| ()), Err(SpoolError::Foreign { format: 9, .. })));
}

#[tokio::test]
async fn a_payload_that_looks_like_a_frame_is_none() {
    let bench = Bench::new(|_| {});
    let inside = by_hand(2, &[("forged", 1)]);
    let mut log = bench.open();
    log.append([&inside[HEADER_BYTES..], &inside[HEADER_BYTES..], b"end"].concat()).await;
    log.settled(1).await;
    log.spool.close();
    let file = bench.segments().remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let mut log = bench.open(); // a torn tail, whatever is in it
    assert!(log.read().await.is_empty());
    assert!(bench.metric("hookgate_spool_tails_cut_total{name=\"t\"} 1"));
}

#[tokio::test]
async fn a_lost_position_sends_everything_again() {
    let bench = Bench::new(|_| {});
    bench.written(&["one", "two"]).await;
    fs::remove_file(bench.folder.path().join("position")).unwrap();
    assert_eq!(bench.open().bodies().await, ["one", "two"]);
}
