//! Arbitrary bytes as a component: whatever they are, they are refused with reasons or become a guest, whose calls end as all calls do.
//!
//! Arbitrary bytes alone would never come past the first section, so these are the guests of the `guests/` workspace, damaged: bits,
//! bytes, lengths, whole sections, parts of one inside another. libFuzzer is of no use here: wasmtime would have to be built with
//! instrumentation, and one try is a compilation. `HOOKGATE_MUTANTS=1000..9000` tries other seeds than the few of every test run; a
//! failure names its own.

use std::ops::Range;

use fastrand::Rng;

use super::*;

/// What is tried in every test run.
const SEEDS: Range<u64> = 0..120;
/// More memory than this at any time, bytes, and something is not bounded.
const MEMORY_BYTES: u64 = 4 << 30;
const GUESTS: [&str; 6] = ["identity", "mirror", "hostile", "lock_command_verifier", "low_battery", "access_example"];
/// Magic and version, in components and in the modules inside them.
const HEADER_BYTES: usize = 8;

/// Reads an unsigned LEB128 number: the number and where it ends.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.get(at..)?.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, at + index + 1));
        }
    }
    None
}

/// The sections of a component, or of the module at `at`: each with its id and length.
fn sections(bytes: &[u8], at: usize, end: usize) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut at = at + HEADER_BYTES;
    while let Some((length, body)) = (at < end).then(|| number(bytes, at + 1)).flatten() {
        let next = (body + length).min(end);
        all.push(at..next);
        at = next;
    }
    all
}

/// Sections of the component, and those of a module in it, if one is hit.
fn some_sections(random: &mut Rng, bytes: &[u8]) -> Vec<Range<usize>> {
    let outer = sections(bytes, 0, bytes.len());
    let modules: Vec<_> = outer.iter().filter(|section| bytes.get(section.start) == Some(&1)).cloned().collect();
    match random.choice(&modules) {
        Some(module) if random.bool() => {
            number(bytes, module.start + 1).map_or(outer, |(_, body)| sections(bytes, body, module.end))
        }
        _ => outer,
    }
}

/// One damage.
fn damage(random: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let place = |random: &mut Rng, bytes: &[u8]| random.usize(0..bytes.len().max(1));
    let at = place(random, bytes);
    let sections = some_sections(random, bytes);
    let section = |random: &mut Rng| random.choice(sections.iter()).cloned().unwrap_or(0..0);
    match random.u8(0..10) {
        0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(0..8)),
        2 => bytes.iter_mut().skip(at).take(random.usize(1..5)).for_each(|byte| *byte = random.u8(..)),
        3 => bytes.truncate(at),
        4 => _ = bytes.drain(at..(at + random.usize(1..64)).min(bytes.len())),
        5 => {
            let from = place(random, other);
            let piece = other.get(from..(from + random.usize(1..256)).min(other.len())).unwrap_or_default();
            bytes.splice(at..at, piece.iter().copied());
        }
        // A section's id or length, or the count that it begins with.
        6 => {
            let start = section(random).start;
            bytes.iter_mut().skip(start + random.usize(0..6)).take(1).for_each(|byte| *byte = random.u8(..));
        }
        7 => _ = bytes.drain(section(random)),
        8 => {
            let (from, to) = (section(random), section(random).start);
            let copy = bytes.get(from).unwrap_or_default().to_vec();
            bytes.splice(to..to, copy);
        }
        // Two sections change places.
        _ => {
            let (one, two) = (section(random), section(random));
            if one.end <= two.start {
                let swapped = [&bytes[two.clone()], &bytes[one.end..two.start], &bytes[one.clone()]].concat();
                bytes.splice(one.start..two.end, swapped);
            }
        }
    }
}

fn mutant(random: &mut Rng, guests: &[Arc<[u8]>]) -> Vec<u8> {
    let mut choose = || guests[random.usize(0..guests.len())].to_vec();
    let (mut bytes, other) = (choose(), choose());
    for _ in 0..random.u8(1..4) {
        damage(random, &mut bytes, &other);
    }
    bytes
}

/// Loads it, and calls what it became; whether it became something.
async fn is_taken(engine: &Engine, bytes: Vec<u8>) -> bool {
    let grants: Vec<String> = Grant::ALL.iter().map(|grant| format!("\"{}\"", grant.name())).collect();
    let (config, keys) = table(&format!(
        "[[key]]\nname = \"lock-hmac\"\ntext = \"secret\"\n[[guest]]\nname = \"mutant\"\npath = \"x\"\ngrants = [{}]\nkeys = [\"lock-hmac\"]\n\
         limits = {{ memory_bytes = 4000000, deadline_ms = 20, start_deadline_ms = 50 }}",
        grants.join(", ")
    ));
    let guest = match Guest::load(engine, &config, &keys, bytes.into(), State::new(), &Metrics::new()).await {
        Ok(guest) => guest,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let text = format!("{error} {}", error.help());
                assert!(!text.contains("the compiler stopped"), "the compiler panicked: {text}");
            }
            return false;
        }
    };
    let (client, message) = (client(), Arc::new(message()));
    // Any answer will do, and any failure.
    let _ = guest.publish(ASKED, &client, &message).await;
    let _ = guest.authorize(ASKED, &client, Action::Publish(QoS::AtMostOnce), "a").await;
    let _ = guest.authenticate(ASKED, &client, &Credentials::default()).await;
    let detail = Detail::MessageAcked(Delivery { message, qos: QoS::AtMostOnce });
    let _ = guest.observe(ASKED, &Event { id: 1, time_ms: 1, client, detail }).await;
    true
}

/// The most memory that this process ever had, bytes, where the system says.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("HOOKGATE_MUTANTS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("HOOKGATE_MUTANTS is like 1000..2000");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[tokio::test]
async fn damaged_components_are_refused_or_run() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let guests = GUESTS.map(component);
    let seeds = seeds();
    let tried = seeds.end - seeds.start;
    let mut taken = 0;
    for seed in seeds {
        let bytes = mutant(&mut Rng::with_seed(seed), &guests);
        let engine = engine.clone();
        let trial = tokio::spawn(async move { tokio::time::timeout(PATIENCE, is_taken(&engine, bytes)).await });
        match trial.await {
            Ok(Ok(is_taken)) => taken += u64::from(is_taken),
            Ok(Err(_elapsed)) => panic!("seed {seed}: it takes more than {PATIENCE:?}"),
            Err(panicked) => panic!("seed {seed}: {panicked}"),
        }
    }
    assert!((tried / 20..tried).contains(&taken), "{taken} of {tried} were taken: the damage is too small or too large");
    assert!(peak_memory_bytes() < MEMORY_BYTES);
}

#[tokio::test]
async fn any_bytes_behind_a_components_header_are_refused() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let body: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..) & random.u8(..)).collect();
        let bytes = [b"\0asm\x0d\0\x01\0", &body[..]].concat();
        assert!(!is_taken(&engine, bytes).await, "seed {seed}");
    }
}
