//! The Rust side of `wit/guest.wit`, generated.
//!
//! One world with every interface: which of the exports a component really has is asked per interface (`GuestIndices`), so that the
//! vocabulary exists once. Arguments borrow from the event; results own what the guest returned.
#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "wit/guest.wit",
    world: "all-exports",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: {
        "hookgate:guest/state.get": async,
        "hookgate:guest/state.put": async,
        "hookgate:guest/state.put-if-absent": async,
        "hookgate:guest/state.add": async,
        "hookgate:guest/state.remove": async,
    },
    exports: { default: async },
});

pub use self::{exports::hookgate::guest as exported, hookgate::guest as imported};
