//! The breaker beside a model that keeps every call, one case told as a story, and many threads.

use std::time::Duration;

use proptest::prelude::*;

use super::{window::MOST_CALLS, *};

fn settings(min_calls: u32, max_failure_ratio: f64, probes: u32) -> config::Breaker {
    let (window, open_for) = (Duration::from_secs(1), Duration::from_millis(500));
    config::Breaker { window, open_for, min_calls, max_failure_ratio, probes, ..config::Breaker::default() }
}

impl Breaker {
    /// One call from its beginning to its end: what it was told, and what it changed.
    fn call(&self, failed: bool, now_ms: u64) -> Result<Vec<Change>, u64> {
        let (admission, tried) = self.admit(now_ms)?;
        Ok(tried.into_iter().chain(self.note(&admission, failed, now_ms)).collect())
    }
}

#[test]
fn it_opens_is_tried_and_closes() {
    let breaker = Breaker::new(settings(4, 0.5, 2));
    let (well, failed) = (false, true);
    let opened = Change::Opened { calls: 4, failures: 3 };
    for (step, (now_ms, call, expected, circuit)) in [
        (0, well, Ok(vec![]), Circuit::Closed),
        (10, failed, Ok(vec![]), Circuit::Closed),
        (20, failed, Ok(vec![]), Circuit::Closed), // two of three, but of less than min_calls
        (30, failed, Ok(vec![opened]), Circuit::Open),
        (31, well, Err(499), Circuit::Open),
        (529, well, Err(1), Circuit::Open),
        (530, well, Ok(vec![Change::Tried]), Circuit::HalfOpen),
        (531, failed, Ok(vec![Change::OpenedAgain]), Circuit::Open),
        (1_030, well, Err(1), Circuit::Open),
        (1_031, well, Ok(vec![Change::Tried]), Circuit::HalfOpen),
        (1_032, well, Ok(vec![Change::Closed]), Circuit::Closed),
        (1_033, failed, Ok(vec![]), Circuit::Closed), // what was before is forgotten
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(breaker.call(call, now_ms), expected, "step {step}");
        assert_eq!(breaker.circuit(), circuit, "step {step}");
    }
}

#[test]
fn probes_are_few_and_those_given_up_make_room() {
    let breaker = Breaker::new(settings(1, 0.0, 2));
    breaker.call(true, 0).unwrap();
    let (first, _) = breaker.admit(500).unwrap();
    let (second, _) = breaker.admit(500).unwrap();
    assert_eq!(breaker.admit(500), Err(0));
    breaker.give_up(&first);
    let (third, _) = breaker.admit(501).unwrap();
    assert_eq!(breaker.admit(501), Err(0));
    assert_eq!(breaker.note(&second, false, 502), None);
    assert_eq!(breaker.admit(502), Err(0), "one went well, one is out: no more are needed");
    assert_eq!(breaker.note(&third, false, 503), Some(Change::Closed));
    breaker.give_up(&first); // too late to matter
    assert_eq!(breaker.note(&Admission::Probe(1), true, 504), None, "of a time that is over");
    assert_eq!(breaker.circuit(), Circuit::Closed);
}

#[test]
fn a_ratio_of_one_never_opens() {
    let breaker = Breaker::new(settings(1, 1.0, 1));
    for now_ms in 0..1_000 {
        assert_eq!(breaker.call(true, now_ms), Ok(vec![]));
    }
}

#[test]
fn a_full_bucket_keeps_its_ratio() {
    let window = Window::new(1_000);
    for call in 0..MOST_CALLS * 3 {
        window.add(50, call % 4 == 0);
    }
    let (calls, failures) = window.sum(50);
    assert!((MOST_CALLS / 2..=MOST_CALLS).contains(&calls), "{calls}");
    assert!((failures * 4).abs_diff(calls) < 16, "{failures} of {calls}");
}

#[test]
fn threads_lose_no_call() {
    let window = Window::new(1_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let window = &window;
            scope.spawn(move || (0..10_000_u64).for_each(|call| window.add(call / 10, (call + thread) % 2 == 0)));
        }
    });
    assert_eq!(window.sum(999), (40_000, 20_000));
    window.add(0, true); // of a bucket that is still there
    assert_eq!(window.sum(999), (40_001, 20_001));
    window.add(1_100, true); // eight of the ten are left
    assert_eq!(window.sum(1_100), (32_001, 16_001));
    window.add(100, true); // too late: its bucket has become another
    assert_eq!(window.sum(1_100), (32_001, 16_001));
}

/// The same by the book: every call is kept, and counted anew each time.
struct Model {
    settings: config::Breaker,
    calls: Vec<(u64, bool)>,
    state: State,
    number: u64,
}

enum State {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { out: u32, well: u32 },
}

impl Model {
    fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { .. } => Circuit::Open,
            State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    fn admit(&mut self, now_ms: u64) -> Result<Admission, u64> {
        match &mut self.state {
            State::Closed => Ok(Admission::Free),
            State::Open { until_ms } if now_ms < *until_ms => Err(*until_ms - now_ms),
            State::Open { .. } => {
                self.number += 1;
                self.state = State::HalfOpen { out: 1, well: 0 };
                Ok(Admission::Probe(self.number))
            }
            State::HalfOpen { out, well } if *out + *well < self.settings.probes => {
                *out += 1;
                Ok(Admission::Probe(self.number))
            }
            State::HalfOpen { .. } => Err(0),
        }
    }

    fn end(&mut self, admission: &Admission, failed: Option<bool>, now_ms: u64) {
        let until_ms = now_ms + 500;
        match (admission, &mut self.state, failed) {
            (Admission::Free, State::Closed, Some(failed)) => {
                self.calls.push((now_ms / 100, failed));
                let recent = self.calls.iter().filter(|(bucket, _)| bucket + 10 > now_ms / 100);
                let (calls, failures) = recent.fold((0_u32, 0_u32), |(calls, failures), call| (calls + 1, failures + u32::from(call.1)));
                let too_many = f64::from(failures) > self.settings.max_failure_ratio * f64::from(calls);
                if failed && calls >= self.settings.min_calls && too_many {
                    self.state = State::Open { until_ms };
                }
            }
            (Admission::Probe(number), State::HalfOpen { out, well }, failed) if *number == self.number => {
                *out -= 1;
                match failed {
                    None => {}
                    Some(true) => self.state = State::Open { until_ms },
                    Some(false) => *well += 1,
                }
                if matches!(self.state, State::HalfOpen { well, .. } if well == self.settings.probes) {
                    self.state = State::Closed;
                    self.calls.clear();
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Begin,
    /// Of a call that is under way, which and how.
    End(prop::sample::Index, Option<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop_oneof![0..30_u64, 90..110_u64, 450..550_u64, 900..2_500_u64].prop_map(Step::Wait),
        6 => Just(Step::Begin),
        1 => any::<prop::sample::Index>().prop_map(|which| Step::End(which, None)),
        5 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, failed)| Step::End(which, Some(failed))),
    ]
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(
        min_calls in 1..6_u32,
        ratio in prop_oneof![Just(0.0), Just(0.3), Just(0.5), Just(0.9), Just(1.0)],
        probes in 1..4_u32,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let settings = settings(min_calls, ratio, probes);
        let breaker = Breaker::new(settings);
        let mut model = Model { settings, calls: Vec::new(), state: State::Closed, number: 0 };
        let (mut now_ms, mut under_way) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Wait(ms) => now_ms += ms,
                Step::Begin => {
                    let admitted = breaker.admit(now_ms).map(|(admission, _)| admission);
                    prop_assert_eq!(&admitted, &model.admit(now_ms));
                    under_way.extend(admitted);
                }
                Step::End(_, _) if under_way.is_empty() => {}
                Step::End(which, failed) => {
                    let admission = under_way.swap_remove(which.index(under_way.len()));
                    match failed {
                        Some(failed) => drop(breaker.note(&admission, failed, now_ms)),
                        None => breaker.give_up(&admission),
                    }
                    model.end(&admission, failed, now_ms);
                }
            }
            prop_assert_eq!(breaker.circuit(), model.circuit());
        }
    }
}
