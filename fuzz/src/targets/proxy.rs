//! PROXY protocol headers, both versions: whatever a proxy says, there is a header or a refusal, and what is in it can be used.
//!
//! The first byte of the input says how the rest begins: 0: as it is; else: as version 2, the first two bytes being command and family, with
//! the right length in front of the others.

use super::proxy::{ProxyError, parse};

/// One header.
pub fn run(input: &[u8]) {
    let header = match input {
        [0, header @ ..] => header.to_vec(),
        [_, command, family, rest @ ..] if rest.len() <= usize::from(u16::MAX) => {
            let length = (rest.len() as u16).to_be_bytes();
            [ppp::v2::PROTOCOL_PREFIX, &[*command, *family], &length, rest].concat()
        }
        _ => return,
    };
    match parse(&header) {
        Ok(header) => {
            if let Some(source) = header.source {
                assert_eq!(source.ip(), source.ip().to_canonical(), "an IPv4 address in the clothes of IPv6");
            }
            if let Some(name) = header.certificate_name {
                assert!(!name.is_empty() && !name.contains('\0') && name.len() <= usize::from(u16::MAX), "{name:?}");
            }
        }
        Err(error) => {
            assert!(matches!(error, ProxyError::Malformed(_)), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}
