//! Two functions of WASI, called as often as one likes; on a developer's machine, where unit tests run, they do nothing.
#![cfg_attr(target_family = "wasm", allow(unsafe_code, clippy::all))]

#[cfg(target_family = "wasm")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package hookgate:greedy;
            world wasi { import wasi:random/random@0.2.0; import wasi:clocks/monotonic-clock@0.2.0; }
            package wasi:random@0.2.0 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                    get-random-u64: func() -> u64;
                }
            }
            package wasi:io@0.2.0 {
                interface poll {
                    resource pollable { ready: func() -> bool; block: func(); }
                    poll: func(in: list<borrow<pollable>>) -> list<u32>;
                }
            }
            package wasi:clocks@0.2.0 {
                interface monotonic-clock {
                    use wasi:io/poll@0.2.0.{pollable};
                    type instant = u64;
                    type duration = u64;
                    now: func() -> instant;
                    resolution: func() -> duration;
                    subscribe-instant: func(when: instant) -> pollable;
                    subscribe-duration: func(when: duration) -> pollable;
                }
            }
        ",
        generate_all,
    });
}

/// Random bytes.
pub(crate) fn random(length: u64) -> Vec<u8> {
    #[cfg(target_family = "wasm")]
    return bindings::wasi::random::random::get_random_bytes(length);
    #[cfg(not(target_family = "wasm"))]
    vec![0; usize::try_from(length).unwrap_or_default()]
}

/// Makes the host remember an alarm, for ever.
pub(crate) fn hold_alarm() {
    #[cfg(target_family = "wasm")]
    std::mem::forget(bindings::wasi::clocks::monotonic_clock::subscribe_duration(3_600_000_000_000));
}
