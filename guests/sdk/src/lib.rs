//! Write Hookgate guests in Rust.
//!
//! A guest is a type that is made once per instance ([`Guest::start`]), implements a trait for each kind of hook that it serves
//! ([`Publish`], [`Access`] and [`EnhancedAccess`], [`Events`], [`Downlink`]), and is exported by one line:
//!
//! ```
//! use hookgate_guest::prelude::*;
//!
//! struct MaxPayload { bytes: usize }
//!
//! impl Guest for MaxPayload {
//!     fn start() -> Result<Self, String> {
//!         Ok(MaxPayload { bytes: settings::get_or("max_bytes", 1024)? })
//!     }
//! }
//!
//! impl Publish for MaxPayload {
//!     fn handle(&self, _: &Context, _: &Client, message: Message) -> Result<PublishVerdict, Fault> {
//!         if message.payload.len() > self.bytes {
//!             return Ok(PublishVerdict::deny(reason::PAYLOAD_FORMAT_INVALID, "too-long"));
//!         }
//!         Ok(PublishVerdict::change().header("length", message.payload.len().to_string()).into())
//!     }
//! }
//!
//! hookgate_guest::export!(MaxPayload: publish);
//! ```
//!
//! The built component imports only what the guest calls: one that never writes to the log needs no grant for it. A guest must not
//! trust its instance to live: what has to last goes into [`state`]. On any other target than WebAssembly the capabilities are played
//! by [`testing`], so that plain `cargo test` runs whole guests.

#[doc(hidden)]
pub mod bindings;
pub mod crypto;
mod export;
mod guest;
pub mod log;
#[cfg(any(all(target_family = "wasm", feature = "allocator"), test))]
mod memory;
pub mod metrics;
#[doc(hidden)]
pub mod packed;
pub mod reason;
pub mod settings;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod verdict;

#[cfg(target_family = "wasm")]
use bindings::capabilities::hookgate::guest as host;
#[cfg(not(target_family = "wasm"))]
use testing::host;

pub use crate::{
    bindings::{
        access::exports::hookgate::guest::access::{Action, Answer, Credentials},
        downlink::exports::hookgate::guest::downlink::{Fetched, RecordHeader, Verdict as DownlinkVerdict},
        enhanced_access::exports::hookgate::guest::enhanced_access::{Challenge, Exchange, Verdict as EnhancedVerdict},
        events::exports::hookgate::guest::events::{
            Closing, Connection, Delivery, Detail, Dropping, Subscription, Verdict as EventVerdict,
        },
        publish::{
            exports::hookgate::guest::publish::{Changes, Verdict as PublishVerdict},
            hookgate::guest::types::{Client, Context, Denial, Fault, Header, KafkaRecord, Message, Qos},
        },
    },
    guest::{Access, Downlink, EnhancedAccess, Events, Guest, Publish},
};

/// Runs an export's body, for [`export!`].
#[doc(hidden)]
#[cfg(target_family = "wasm")]
#[inline]
pub fn __during_call<T>(body: impl FnOnce() -> T) -> T {
    #[cfg(feature = "allocator")]
    memory::ALLOCATOR.set_between_calls(false);
    let result = body();
    #[cfg(feature = "allocator")]
    memory::ALLOCATOR.set_between_calls(true);
    result
}

/// Everything that a guest usually names.
pub mod prelude {
    pub use crate::{
        Access, Action, Answer, Challenge, Changes, Client, Closing, Connection, Context, Credentials, Delivery, Denial, Detail, Downlink,
        DownlinkVerdict, Dropping, EnhancedAccess, EnhancedVerdict, EventVerdict, Events, Exchange, Fault, Fetched, Guest, Header, KafkaRecord,
        Message, Publish, PublishVerdict, Qos, RecordHeader, Subscription, crypto, log, metrics, reason, settings, state,
    };
}
