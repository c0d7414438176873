//! `tls = { … }` of a listener: which certificate it shows, and which it asks for.
//!
//! Only what can be told from the text is checked here; the files are read where they are used.

use std::path::{Path, PathBuf};

use super::{problem::Placed, reader::Table};

/// How a listener encrypts.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// PEM: the server's certificate, then those that lead to its authority.
    pub certificate: Placed<PathBuf>,
    /// PEM: the private key of the first certificate.
    pub key: Placed<PathBuf>,
    /// Whether clients show certificates.
    pub clients: Option<ClientCertificates>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
}

/// What clients must show.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// PEM: the authorities that sign clients' certificates.
    pub authorities: Placed<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The name in the certificate is the user name, whatever CONNECT says.
    pub name_is_username: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

impl Tls {
    pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Option<Self> {
        let file = |path: Placed<String>| Placed { value: folder.join(path.value), place: path.place };
        let certificate = table.required_text("certificate", "\"server.pem\"").map(file);
        let key = table.required_text("key", "\"server.key\"").map(file);
        let authorities = table.text("client_ca").map(file);
        let required = table.choice("client_certificate", &[("required", true), ("optional", false)]);
        let username = table.choice("username", &[("certificate-name", ())]);
        let min_version = table.choice("min_version", &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)]);
        if authorities.is_none() {
            let places =
                [("client_certificate", required.as_ref().map(|it| &it.place)), ("username", username.as_ref().map(|it| &it.place))];
            for (setting, place) in places {
                if let Some(place) = place {
                    let help = "name the authorities that sign clients' certificates: client_ca = \"clients.pem\"";
                    table.refuse_at(place, setting, " does nothing without `client_ca`", help);
                }
            }
        } else if let (Some(username), Some(false)) = (&username, required.as_ref().map(|required| required.value)) {
            let message = " would let a client without a certificate choose the name of one with it";
            table.refuse_at(&username.place, "username", message, "write client_certificate = \"required\"");
        }
        let clients = authorities.map(|authorities| ClientCertificates {
            authorities,
            required: required.is_none_or(|required| required.value),
            name_is_username: username.is_some(),
        });
        let min_version = min_version.map_or(TlsVersion::V12, |version| version.value);
        Some(Tls { certificate: certificate?, key: key?, clients, min_version })
    }

    /// Every file that it reads.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.clients.iter().map(|clients| &clients.authorities);
        [&self.certificate, &self.key].into_iter().chain(authorities).map(|file| file.value.as_path())
    }
}
