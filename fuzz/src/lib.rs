//! What is fuzzed, as functions over bytes; `fuzz_targets/` hands them to libFuzzer, `tests/seeds.rs` the seeds.
//!
//! This crate does not depend on Hookgate: wasmtime, librdkafka and the rest would have to be built with instrumentation too, and the
//! broker's codec and session are private. Instead it is a second home for the few source files that it needs, by `#[path]`, in a mirror
//! of Hookgate's module tree, so that `crate::event` or `super::session` mean the same in both. The targets of private modules live inside
//! the tree, beside what they drive. Nothing here is a copy: when a file moves, or begins to use something that is not mirrored, this
//! crate does not compile, and `cargo xtask ci` says so. Then mirror it too, unless it brings one of the heavy dependencies.
#![allow(dead_code, reason = "only a part of Hookgate is here")]
#![allow(missing_docs, unreachable_pub, reason = "as in Hookgate's own build, where they are checked")]

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/event/mod.rs"]
pub mod event;
#[path = "../../src/hook.rs"]
pub mod hook;
#[path = "../../src/metrics.rs"]
pub mod metrics;
#[path = "../../src/store/mod.rs"]
pub mod store;
#[path = "../../src/topic.rs"]
pub mod topic;

pub mod targets;

#[path = "../../src/guest"]
pub mod guest {
    // The real one is made by wasmtime's macro.
    #[path = "../../fuzz/src/targets/verdict/bindings.rs"]
    mod bindings;
    mod failure;
    mod verdict;

    #[path = "../../fuzz/src/targets/verdict.rs"]
    pub mod fuzz_verdict;
}

#[path = "../../src/source"]
pub mod source {
    pub mod mqtt {
        mod codec;
        mod figures;
        mod forward;
        pub mod listener {
            mod name;
            mod proxy;
            mod websocket;

            #[path = "../../../../fuzz/src/targets/proxy.rs"]
            pub mod fuzz_proxy;
            #[path = "../../../../fuzz/src/targets/websocket.rs"]
            pub mod fuzz_websocket;
        }
        mod mailbox;
        mod own;
        mod packet;
        mod reason;
        mod samples;
        mod session;

        #[path = "../../../fuzz/src/targets/codec_decode.rs"]
        pub mod fuzz_codec_decode;
        #[path = "../../../fuzz/src/targets/session/mod.rs"]
        pub mod fuzz_session;
    }
}
