//! The PROXY protocol, versions 1 and 2: who is behind the proxy. Only this module names the crate that reads it (`ppp`).
//!
//! Not one byte beyond the header is taken from the socket. Of the header's extensions only the name in a client certificate is looked
//! at, and only where the proxy has verified it; checksums are not checked, TCP has its own.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use ppp::{v1, v2};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::event::Text;

/// The longest header of version 1, line end included.
const MAX_TEXT_BYTES: usize = 107;
/// The head of version 2, up to and with the length of the rest.
const BINARY_HEAD_BYTES: usize = 16;
/// The longest rest of version 2 that is taken: addresses, and room for a certificate's name and more.
const MAX_BINARY_BYTES: usize = 4 * 1024;
/// So much is in a header of either version.
const FIRST_BYTES: usize = v2::PROTOCOL_PREFIX.len();

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The device's address; `None`: the proxy speaks for itself, or does not know.
    pub(super) source: Option<SocketAddr>,
    /// Common name of the client certificate that the proxy has verified.
    pub(super) certificate_name: Option<Text>,
}

/// Why a connection has no usable header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("{0} is no proxy of this listener; add it to `proxy_from`, or let it connect elsewhere")]
    Stranger(IpAddr),
    #[error("the connection does not begin with a header; set send-proxy at the proxy")]
    Missing,
    #[error("the header is longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Malformed(String),
    #[error("the connection ended: {0}")]
    Socket(#[from] io::Error),
}

/// Takes the header from the beginning of a connection.
pub(super) async fn read(socket: &mut TcpStream) -> Result<Header, ProxyError> {
    let mut header = vec![0; FIRST_BYTES];
    socket.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(BINARY_HEAD_BYTES, 0);
        socket.read_exact(header.get_mut(FIRST_BYTES..).unwrap_or_default()).await?;
        let length = match header.get(BINARY_HEAD_BYTES - 2..) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        if length > MAX_BINARY_BYTES {
            return Err(ProxyError::TooLong(BINARY_HEAD_BYTES + MAX_BINARY_BYTES));
        }
        header.resize(BINARY_HEAD_BYTES + length, 0);
        socket.read_exact(header.get_mut(BINARY_HEAD_BYTES..).unwrap_or_default()).await?;
        parse(&header)
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        read_line(socket, &mut header).await?;
        parse(&header)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Reads a whole header of either version.
pub(super) fn parse(header: &[u8]) -> Result<Header, ProxyError> {
    if header.starts_with(v2::PROTOCOL_PREFIX) { binary(header) } else { text(header) }
}

/// The rest of a line, and nothing after it: looks before it takes.
async fn read_line(socket: &mut TcpStream, line: &mut Vec<u8>) -> Result<(), ProxyError> {
    let mut seen = [0; MAX_TEXT_BYTES];
    while line.last() != Some(&b'\n') {
        let room = MAX_TEXT_BYTES - line.len().min(MAX_TEXT_BYTES);
        let Some(space) = seen.get_mut(..room).filter(|space| !space.is_empty()) else {
            return Err(ProxyError::TooLong(MAX_TEXT_BYTES));
        };
        let count = match socket.peek(space).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => count,
        };
        let end = space.iter().take(count).position(|byte| *byte == b'\n').map_or(count, |newline| newline + 1);
        let begin = line.len();
        line.resize(begin + end, 0);
        socket.read_exact(line.get_mut(begin..).unwrap_or_default()).await?;
    }
    Ok(())
}

/// Version 1.
fn text(line: &[u8]) -> Result<Header, ProxyError> {
    let header = v1::Header::try_from(line).map_err(|error| ProxyError::Malformed(error.to_string()))?;
    let source = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(pair) => Some((IpAddr::from(pair.source_address), pair.source_port)),
        v1::Addresses::Tcp6(pair) => Some((IpAddr::from(pair.source_address), pair.source_port)),
    };
    Ok(Header { source: source.map(canonical), certificate_name: None })
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Header, ProxyError> {
    let header = v2::Header::try_from(bytes).map_err(|error| ProxyError::Malformed(error.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(Header::default()); // the proxy itself, looking whether we are well
    }
    let source = match header.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        v2::Addresses::IPv4(pair) => Some((IpAddr::from(pair.source_address), pair.source_port)),
        v2::Addresses::IPv6(pair) => Some((IpAddr::from(pair.source_address), pair.source_port)),
    };
    let mut certificate_name = None;
    // Where the addresses are of no known kind, nobody can say where they end.
    let known = !matches!(header.addresses, v2::Addresses::Unspecified);
    for extension in known.then(|| header.tlvs()).into_iter().flatten() {
        let extension = extension.map_err(|error| ProxyError::Malformed(error.to_string()))?;
        if extension.kind == u8::from(v2::Type::SSL) {
            certificate_name = verified_name(&extension.value)?;
        }
    }
    Ok(Header { source: source.map(canonical), certificate_name })
}

/// The common name in an SSL extension, if the client showed a certificate and the proxy found it good.
fn verified_name(ssl: &[u8]) -> Result<Option<Text>, ProxyError> {
    /// PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS
    const SHOWN: u8 = 0x02 | 0x04;
    let Some((&[client, ref verify @ ..], inner)) = ssl.split_first_chunk::<5>() else {
        return Err(ProxyError::Malformed("the SSL extension is cut short".into()));
    };
    if client & SHOWN == 0 || *verify != [0; 4] {
        return Ok(None);
    }
    for extension in v2::TypeLengthValues::from(inner) {
        let extension = extension.map_err(|error| ProxyError::Malformed(error.to_string()))?;
        if extension.kind == u8::from(v2::Type::SSLCommonName) {
            return Ok(std::str::from_utf8(&extension.value).ok().and_then(super::name::usable));
        }
    }
    Ok(None)
}

fn canonical((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests;
