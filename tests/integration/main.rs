//! The one integration binary: real sockets, real files, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod floors;
