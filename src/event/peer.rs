//! A device's address with its text, which guests and records want at every hook: written once per connection.

use std::{
    fmt,
    net::{AddrParseError, IpAddr, SocketAddr},
    str::FromStr,
};

use super::Text;

/// Where a device is.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    address: SocketAddr,
    text: Text,
}

impl Peer {
    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Without the port.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// As text: `192.0.2.7:51234`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer { address, text: address.to_string().into() }
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Peer {
    fn from(address: (I, u16)) -> Self {
        Peer::from(SocketAddr::from(address))
    }
}

impl FromStr for Peer {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.parse::<SocketAddr>().map(Peer::from)
    }
}

/// The address.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The address.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
