//! Lines in the host's log (grant `log`), with `format!`'s arguments: `log::info!("{} seen", client.client_id)`.
//!
//! The host writes a bounded number of lines per second and counts the rest.

pub use crate::bindings::capabilities::hookgate::guest::log::Level;
use crate::host;
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// Writes one line. `context` may say which part of the guest speaks.
pub fn log(level: Level, context: &str, message: &str) {
    host::log::log(level, context, message);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($argument:tt)*) => { $crate::log::log($crate::log::Level::Trace, "", &::std::format!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($argument:tt)*) => { $crate::log::log($crate::log::Level::Debug, "", &::std::format!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($argument:tt)*) => { $crate::log::log($crate::log::Level::Info, "", &::std::format!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($argument:tt)*) => { $crate::log::log($crate::log::Level::Warn, "", &::std::format!($($argument)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($argument:tt)*) => { $crate::log::log($crate::log::Level::Error, "", &::std::format!($($argument)*)) };
}
