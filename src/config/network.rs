//! A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::{fmt, net::IpAddr, str::FromStr};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

/// Why a text is no range of addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither IPv4 nor IPv6.
    #[error("this is no IP address")]
    Address,
    /// No number, or more bits than the address has.
    #[error("the prefix must be a number up to {0}")]
    Prefix(u32),
    /// Probably a mistake in one of both.
    #[error("the address has bits beyond its prefix; this range begins at {0}")]
    HostBits(IpAddr),
}

impl Network {
    /// Whether an address is in it. An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`) is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix_bits) == self.first
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix_bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0)).into()),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let width = width(first);
        let prefix_bits = match prefix {
            None => width,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or(NetworkError::Prefix(width))?,
        };
        let begins = masked(first, prefix_bits);
        if begins == first { Ok(Network { first, prefix_bits }) } else { Err(NetworkError::HostBits(begins)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            let range: Network = network.parse().expect(network);
            assert!(range.contains(inside.parse().unwrap()), "{inside} is in {range}");
            assert!(!range.contains(outside.parse().unwrap()), "{outside} is not in {range}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("ten", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Prefix(32)),
            ("::/x", NetworkError::Prefix(128)),
            ("10.1.0.0/8", NetworkError::HostBits([10, 0, 0, 0].into())),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
