//! `[[listener]]`: a door for devices.

use std::net::SocketAddr;

use super::{problem::Placed, reader::Table};

/// A door for devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// For logs and metrics.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub bind: Placed<SocketAddr>,
}

impl Listener {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.text("name").map_or_else(|| "mqtt".to_owned(), |name| name.value);
        table.choice("protocol", &[("mqtt", ())]);
        table.require("bind", "\"0.0.0.0:1883\"");
        let bind = table.parsed("bind", "write \"address:port\", for example \"0.0.0.0:1883\" or \"[::]:1883\"", str::parse)?;
        Some(Listener { name, bind })
    }
}
