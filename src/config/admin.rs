//! `[admin]`: the interface for operators. Without the table there is none.

use std::net::SocketAddr;

use super::{problem::Placed, reader::Table};

/// The interface for operators.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens, on this machine only; port 0 takes a free one.
    pub bind: Placed<SocketAddr>,
}

impl Admin {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        table.require("bind", "\"127.0.0.1:18083\"");
        let help = "write \"address:port\" with an address of this machine's own, for example \"127.0.0.1:18083\" or \"[::1]:18083\"";
        let bind = table.parsed("bind", help, str::parse::<SocketAddr>)?;
        if bind.value.ip().is_loopback() {
            return Some(Admin { bind });
        }
        let text = format_args!(" = \"{}\": other machines could reach it, and it asks nobody for a password", bind.value);
        table.refuse_at(&bind.place, "bind", text, "bind it to 127.0.0.1 or [::1], with a proxy that knows its users before it");
        None
    }
}
