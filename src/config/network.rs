//! A range of addresses: `10.0.0.0/8`.

use std::net::IpAddr;

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither IPv4 nor IPv6.
    #[error("this is no IP address")]
    Address,
    /// Not a number, or longer than the address.
    #[error("the number after `/` is from 0 to {0}")]
    Prefix(u8),
    /// `10.0.0.1/8`: which is meant, the one or the many?
    #[error("the address has bits behind its first {0}")]
    Behind(u8),
}

impl Network {
    /// Reads `address` or `address/bits`.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => width,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or(NetworkError::Prefix(width))?,
        };
        let network = Network { address, prefix_bits };
        if network.number(address).1 & !network.mask() != 0 {
            return Err(NetworkError::Behind(prefix_bits));
        }
        Ok(network)
    }

    /// Whether an address lies in it; an IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`) counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ((own_width, own), (width, number)) = (self.number(self.address), self.number(address));
        own_width == width && own == number & self.mask()
    }

    /// Width and bits of an address, from the left.
    fn number(&self, address: IpAddr) -> (u8, u128) {
        match address {
            IpAddr::V4(address) => (32, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (128, address.to_bits()),
        }
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_what_lies_in_them() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "fd00::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fdff::1", true),
            ("::1/128", "::1", true),
            ("::/0", "2001:db8::1", true),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{address} in {network}");
        }
        for (text, error) in [
            ("example.org", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Prefix(32)),
            ("10.0.0.0/x", NetworkError::Prefix(32)),
            ("10.0.0.1/8", NetworkError::Behind(8)),
        ] {
            assert_eq!(Network::parse(text), Err(error), "{text}");
        }
    }
}
