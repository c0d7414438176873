//! Misbehaves on request, so that tests can see the host's walls hold. The setting `mode` says how; see [`Mode`]. Without it the mode is
//! the one that stands in [`MODE_OF_FILE`]: who wants bad versions of a guest overwrites it in the built component.
//!
//! Further settings: `sleep_ms` (default 200) for `sleep`; `payload` (default `changed`) for `change`, `move` and `emit`; `n` (default 2) for
//! `trap-nth` and `fault-nth`. Grants: `settings`, `log`. What takes more than these is in the guest `greedy`; growing a table, which
//! Rust cannot say, in `hostile-tables`.

use std::{
    cell::Cell,
    fmt::Write,
    hint::black_box,
    time::{Duration, Instant},
};

use hookgate_guest::prelude::*;

macro_rules! modes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What it does when it is called.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Mode { $($(#[$doc])* $variant,)* }

        impl std::str::FromStr for Mode {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Mode::$variant),)*
                    _ => Err(format!("no mode; there are {}", [$($name),*].join(", "))),
                }
            }
        }
    };
}

modes! {
    /// Passes; allows.
    Pass = "pass";
    /// Replaces the payload, adds the header `changed: true`; events: annotates with it; downlinks: adds to the payload.
    Change = "change";
    /// Gives the message the topic that `payload` names; events: passes.
    Move = "move";
    /// Two records: the first to the topic `emitted`, the second with another value; downlinks: two messages, to `emitted/1` and `emitted/2`.
    Emit = "emit";
    /// Swallows.
    Drop = "drop";
    /// Refuses with 0x87; events cannot, and pass; downlinks cannot, and drop.
    Deny = "deny";
    /// Never returns.
    Loop = "loop";
    /// Works for `sleep_ms`, then passes.
    Sleep = "sleep";
    /// Sleeps an hour on the host's clock (a WASI poll), then passes.
    Block = "block";
    /// Never returns, and asks the host's clock all the time.
    WatchClock = "watch-clock";
    /// Takes memory until there is none.
    Allocate = "allocate";
    /// Takes 1 MiB of memory at every call and never gives it back; passes.
    Leak = "leak";
    /// Calls itself until the stack ends.
    Recurse = "recurse";
    /// Panics with a text.
    Trap = "trap";
    /// Panics when a payload or user property says so (contains `trap`); passes otherwise.
    TrapSometimes = "trap-sometimes";
    /// Panics at every n-th call of an instance; passes otherwise.
    TrapNth = "trap-nth";
    /// Ends its program, as if it were one.
    Exit = "exit";
    /// Answers with a payload of 64 MiB.
    Return64Mib = "return-64mib";
    /// Answers with 100 000 headers.
    ReturnHeaders = "return-headers";
    /// Answers with 10 000 records.
    ReturnRecords = "return-records";
    /// Answers with a message that no broker may route.
    InvalidTopic = "invalid-topic";
    /// Denies with reason code 0, which is no refusal.
    InvalidReasonCode = "invalid-reason-code";
    /// Writes 10 000 lines to the log, then passes.
    LogFlood = "log-flood";
    /// Writes 1 MiB to standard error, then passes.
    StderrFlood = "stderr-flood";
    /// Cannot judge: the event is wrong.
    FaultInvalid = "fault-invalid";
    /// Cannot judge: not now.
    FaultRetry = "fault-retry";
    /// Cannot judge: its own fault.
    FaultInternal = "fault-internal";
    /// Cannot judge at every n-th call of an instance; passes otherwise.
    FaultNth = "fault-nth";
    /// Panics when it starts.
    TrapAtStart = "trap-at-start";
    /// Never finishes starting.
    LoopAtStart = "loop-at-start";
    /// Refuses to start, with a text.
    RefuseStart = "refuse-start";
}

/// What [`MODE_OF_FILE`] begins with, so that it can be found in the component.
const MARK: &str = "hookgate-hostile-mode=";

/// The mode of this very file, padded with spaces.
static MODE_OF_FILE: [u8; 48] = *b"hookgate-hostile-mode=pass                      ";

struct Hostile {
    mode: Mode,
    sleep: Duration,
    payload: String,
    n: u64,
    /// Of this instance.
    calls: Cell<u64>,
}

impl Guest for Hostile {
    fn start() -> Result<Self, String> {
        let mode = settings::get_or("mode", mode_of_file()?)?;
        match mode {
            Mode::TrapAtStart => panic("hostile: trapped at start as told"),
            Mode::LoopAtStart => spin(),
            Mode::RefuseStart => return Err("hostile: refused to start as told".to_owned()),
            _ => {}
        }
        let sleep = Duration::from_millis(settings::get_or("sleep_ms", 200)?);
        let (payload, n) = (settings::get_or("payload", "changed".to_owned())?, settings::get_or("n", 2)?);
        Ok(Hostile { mode, sleep, payload, n, calls: Cell::new(0) })
    }
}

impl Publish for Hostile {
    fn handle(&self, _: &Context, _: &Client, message: Message) -> Result<PublishVerdict, Fault> {
        self.misbehave(&message.payload)?;
        Ok(match self.mode {
            Mode::Change => PublishVerdict::change().payload(message, self.payload.as_str()).header("changed", "true").into(),
            Mode::Move => PublishVerdict::change().message(Message { topic: self.payload.clone(), ..message }).into(),
            Mode::Emit => Changes { records: Some(self.records()), ..PublishVerdict::change() }.into(),
            Mode::Drop => PublishVerdict::drop("hostile: dropped as told"),
            Mode::Deny => PublishVerdict::deny(reason::NOT_AUTHORIZED, "hostile: denied as told"),
            Mode::InvalidReasonCode => PublishVerdict::deny(0, "hostile: success is no refusal"),
            Mode::InvalidTopic => PublishVerdict::change().message(Message { topic: "a/#".into(), ..message }).into(),
            Mode::Return64Mib => PublishVerdict::change().payload(message, vec![7; 64 << 20]).into(),
            Mode::ReturnHeaders => Changes { headers: many_headers(), ..PublishVerdict::change() }.into(),
            Mode::ReturnRecords => Changes { records: Some(many_records()), ..PublishVerdict::change() }.into(),
            _ => PublishVerdict::pass(),
        })
    }
}

impl Access for Hostile {
    fn authenticate(&self, _: &Context, _: &Client, credentials: Credentials) -> Result<Answer, Fault> {
        self.misbehave(credentials.password.as_deref().unwrap_or_default())?;
        Ok(self.answer())
    }

    fn authorize(&self, _: &Context, _: &Client, _: Action, topic: String) -> Result<Answer, Fault> {
        self.misbehave(topic.as_bytes())?;
        Ok(self.answer())
    }
}

impl Events for Hostile {
    fn handle(&self, _: &Context, _: &Client, detail: Detail) -> Result<EventVerdict, Fault> {
        let payload: &[u8] = match &detail {
            Detail::MessageDelivered(delivery) | Detail::MessageAcked(delivery) => &delivery.message.payload,
            Detail::MessageDropped(dropping) => &dropping.message.payload,
            _ => &[],
        };
        self.misbehave(payload)?;
        Ok(match self.mode {
            Mode::Change => EventVerdict::annotate("changed", "true"),
            Mode::Emit => EventVerdict::emit(self.records()),
            Mode::Drop => EventVerdict::drop("hostile: dropped as told"),
            Mode::InvalidTopic => EventVerdict::emit([KafkaRecord::value("x").to("no topic/#")]),
            Mode::Return64Mib => EventVerdict::emit([KafkaRecord::value(vec![7; 64 << 20])]),
            Mode::ReturnHeaders => EventVerdict::Annotate(many_headers()),
            Mode::ReturnRecords => EventVerdict::emit(many_records()),
            _ => EventVerdict::pass(),
        })
    }
}

impl Downlink for Hostile {
    fn handle(&self, _: &Context, _: &str, fetched: Fetched, messages: Vec<Message>) -> Result<DownlinkVerdict, Fault> {
        self.misbehave(fetched.value.as_deref().unwrap_or_default())?;
        let each = |change: &dyn Fn(Message) -> Message| DownlinkVerdict::publish(messages.iter().cloned().map(change).collect::<Vec<_>>());
        Ok(match self.mode {
            Mode::Change => each(&|message| Message { payload: [&message.payload, self.payload.as_bytes()].concat(), ..message }),
            Mode::Move => each(&|message| Message { topic: self.payload.clone(), ..message }),
            Mode::Emit => DownlinkVerdict::publish(["emitted/1", "emitted/2"].map(|topic| Message::new(topic, self.payload.as_str()))),
            Mode::Drop | Mode::Deny => DownlinkVerdict::drop("hostile: dropped as told"),
            Mode::InvalidTopic => DownlinkVerdict::publish([Message::new("a/#", "x")]),
            Mode::Return64Mib => DownlinkVerdict::publish([Message::new("a", vec![7; 64 << 20])]),
            Mode::ReturnRecords => DownlinkVerdict::publish((0..10_000).map(|_| Message::new("a", "x")).collect::<Vec<_>>()),
            _ => DownlinkVerdict::pass(),
        })
    }
}

impl Hostile {
    /// What is the same for every hook.
    fn misbehave(&self, payload: &[u8]) -> Result<(), Fault> {
        self.calls.set(self.calls.get() + 1);
        let is_nth = self.calls.get().is_multiple_of(self.n.max(1));
        match self.mode {
            Mode::Loop => spin(),
            Mode::Sleep => {
                let start = Instant::now();
                while start.elapsed() < self.sleep {}
            }
            Mode::Block => std::thread::sleep(Duration::from_secs(3600)),
            Mode::WatchClock => loop {
                black_box(Instant::now());
            },
            Mode::Allocate => loop {
                black_box(Vec::<u8>::with_capacity(black_box(1 << 20))).leak();
            },
            Mode::Leak => drop(black_box(black_box(vec![7_u8; 1 << 20]).leak())),
            Mode::Recurse => {
                black_box(recurse(black_box(0)));
            }
            Mode::Trap => panic("hostile: trapped as told"),
            Mode::TrapSometimes if payload.windows(4).any(|window| window == b"trap") => panic("hostile: trapped by the payload"),
            Mode::TrapNth if is_nth => panic("hostile: trapped at this call as told"),
            Mode::Exit => std::process::exit(0),
            Mode::LogFlood => (0..10_000).for_each(|line| log::info!("flood, line {line}")),
            Mode::StderrFlood => (0..1 << 14).for_each(|line| eprintln!("flood, line {line:<50}")),
            Mode::FaultInvalid => return Err(Fault::invalid("hostile: invalid as told")),
            Mode::FaultRetry => return Err(Fault::retry("hostile: retry as told")),
            Mode::FaultNth if is_nth => return Err(Fault::retry("hostile: retry at this call as told")),
            Mode::FaultInternal => return Err(Fault::internal("hostile: internal as told")),
            _ => {}
        }
        Ok(())
    }

    /// About a client.
    fn answer(&self) -> Answer {
        match self.mode {
            Mode::Deny => Answer::deny(reason::NOT_AUTHORIZED, "hostile: denied as told"),
            Mode::InvalidReasonCode => Answer::deny(0, "hostile: success is no refusal"),
            Mode::Return64Mib => Answer::deny(reason::NOT_AUTHORIZED, "x".repeat(64 << 20)),
            _ => Answer::Allow,
        }
    }

    fn records(&self) -> Vec<KafkaRecord> {
        vec![KafkaRecord::value(self.payload.as_str()).to("emitted"), KafkaRecord::value(self.payload.as_str()).header("second", "true")]
    }
}

/// What [`MODE_OF_FILE`] says.
fn mode_of_file() -> Result<Mode, String> {
    // Opaque to the compiler, which would otherwise take the text as it was compiled.
    let text = std::str::from_utf8(black_box(&MODE_OF_FILE)).map_err(|error| format!("the mode in the file: {error}"))?;
    text.strip_prefix(MARK).unwrap_or_default().trim_end().parse()
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Also keeps a kilobyte of memory at each step, so that whichever stack is shorter ends.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let kept = black_box([depth; 128]);
    recurse(depth + 1) + kept.iter().sum::<u64>()
}

#[allow(clippy::panic)]
fn panic(text: &str) -> ! {
    panic!("{text}");
}

fn many_headers() -> Vec<Header> {
    let mut name = String::new();
    (0..100_000)
        .map(|number| {
            name.clear();
            let _ = write!(name, "h{number}");
            Header::new(name.as_str(), "x")
        })
        .collect()
}

fn many_records() -> Vec<KafkaRecord> {
    (0..10_000).map(|number: u32| KafkaRecord::value(number.to_string())).collect()
}

hookgate_guest::export!(Hostile: publish, access, events, downlink);

#[cfg(test)]
mod tests {
    use hookgate_guest::testing;

    use super::*;

    /// The harmless modes only; the others are for the host's tests.
    #[test]
    fn does_what_it_is_told() {
        for (mode, expected) in [
            ("pass", Ok(PublishVerdict::pass())),
            ("drop", Ok(PublishVerdict::drop("hostile: dropped as told"))),
            ("deny", Ok(PublishVerdict::deny(0x87, "hostile: denied as told"))),
            ("trap-sometimes", Ok(PublishVerdict::pass())),
            ("fault-retry", Err(Fault::retry("hostile: retry as told"))),
        ] {
            testing::set("mode", mode);
            let guest = Hostile::start().expect("a mode");
            assert_eq!(Publish::handle(&guest, &testing::context(), &testing::client("c"), testing::message("t", "x")), expected, "{mode}");
        }
        testing::set("mode", "kind");
        assert!(Hostile::start().is_err_and(|problem| problem.contains("return-64mib")));
    }

    #[test]
    fn every_nth_call_is_the_nth() {
        testing::set("mode", "fault-nth");
        testing::set("n", 3);
        let guest = Hostile::start().expect("a mode");
        let judge = || Publish::handle(&guest, &testing::context(), &testing::client("c"), testing::message("t", "x"));
        let faults: Vec<bool> = (0..6).map(|_| judge().is_err()).collect();
        assert_eq!(faults, [false, false, true, false, false, true]);
    }

    #[test]
    fn the_file_has_a_mode_of_its_own() {
        assert!(MODE_OF_FILE.starts_with(MARK.as_bytes()));
        assert_eq!(mode_of_file(), Ok(Mode::Pass));
    }
}
