//! TLS at a door: certificates from files to what rustls serves, and names from the certificates that clients show.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::name;
use crate::{
    config::{Placed, Problem, Tls, TlsVersion},
    event::{Text, now_ms},
};

/// From so long before its end on, a certificate is warned of, seconds.
const WARN_AHEAD_S: i64 = 30 * 24 * 3600;

/// What a door needs for TLS.
#[derive(Debug)]
pub(super) struct ServerTls {
    config: Arc<ServerConfig>,
    ends_s: i64,
    name_is_username: bool,
}

/// Why a door's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("the certificate {0}: {1}")]
    Certificate(PathBuf, String),
    #[error("the key {0}: {1}")]
    Key(PathBuf, String),
    #[error("the key {0} does not match the certificate")]
    Mismatch(PathBuf),
    #[error("the clients' authorities {0}: {1}")]
    Authorities(PathBuf, String),
    #[error("TLS cannot be set up: {0}")]
    Refused(rustls::Error),
}

impl TlsError {
    /// The same with its place in the configuration.
    pub(super) fn problem(&self, listener: &str, tls: &Tls) -> Problem {
        let (place, help) = match (self, &tls.clients) {
            (TlsError::Authorities(..), Some(clients)) => {
                (&clients.authorities.place, "a PEM file with the certificates of the authorities that sign clients' certificates")
            }
            (TlsError::Key(..), _) => (&tls.key.place, "a PEM file with one private key, not encrypted, readable for this process"),
            (TlsError::Mismatch(_), _) => (&tls.key.place, "name the private key that the certificate was made for"),
            _ => (&tls.certificate.place, "a PEM file: the server's certificate first, then those that lead to its authority"),
        };
        Problem::new(place, format!("listener \"{listener}\": {self}")).help(help)
    }
}

impl ServerTls {
    /// Reads and checks a door's files.
    ///
    /// # Errors
    /// One of them cannot be read, is not what it should be, or does not fit the others.
    pub(super) fn load(tls: &Tls) -> Result<Self, TlsError> {
        let chain = certificates(&tls.certificate).map_err(|error| TlsError::Certificate(tls.certificate.value.clone(), error))?;
        let key_file = || tls.key.value.clone();
        let key = PrivateKeyDer::from_pem_file(&tls.key.value).map_err(|error| TlsError::Key(key_file(), words(error, "private key")))?;
        let own = chain.first().and_then(|own| X509Certificate::from_der(own).ok());
        let ends_s = own.map_or(0, |(_, own)| own.validity().not_after.timestamp());
        let provider = Arc::new(crypto::ring::default_provider());
        let versions: &[_] = if tls.min_version == TlsVersion::V13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.map_err(TlsError::Refused)?;
        let builder = match &tls.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let fault = |error| TlsError::Authorities(clients.authorities.value.clone(), error);
                builder.with_client_cert_verifier(verifier(&clients.authorities, clients.required, provider).map_err(fault)?)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch(key_file()),
            rustls::Error::InvalidCertificate(error) => TlsError::Certificate(tls.certificate.value.clone(), format!("{error:?}")),
            rustls::Error::General(text) => TlsError::Key(key_file(), text),
            error => TlsError::Refused(error),
        })?;
        let name_is_username = tls.clients.as_ref().is_some_and(|clients| clients.name_is_username);
        Ok(ServerTls { config: Arc::new(config), ends_s, name_is_username })
    }

    /// What rustls serves.
    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether the name in a client's certificate is its user name.
    pub(super) fn name_is_username(&self) -> bool {
        self.name_is_username
    }

    /// When the server's own certificate ends, seconds since the Unix epoch.
    pub(super) fn ends_s(&self) -> i64 {
        self.ends_s
    }

    /// Says so when the end is near.
    pub(super) fn warn_of_expiry(&self, listener: &str) {
        let left_s = self.ends_s - i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        if left_s <= 0 {
            tracing::error!(listener, "the certificate has expired; devices that check it stay out: put a new one in its place");
        } else if left_s < WARN_AHEAD_S {
            tracing::warn!(listener, days = left_s / (24 * 3600), "the certificate expires soon; put a new one in its place");
        }
    }
}

fn verifier(file: &Placed<PathBuf>, required: bool, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error: VerifierBuilderError| error.to_string())
}

fn certificates(file: &Placed<PathBuf>) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(&file.value).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(words(pem::Error::NoItemsFound, "certificate")),
        read => read.map_err(|error| words(error, "certificate")),
    }
}

fn words(error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("there is no {what} in it"),
        error => error.to_string(),
    }
}

/// The name in a certificate: its common name, or else the first DNS name.
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<Text> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).and_then(name::usable);
    common.or_else(|| {
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| if let GeneralName::DNSName(name) = name { name::usable(name) } else { None })
    })
}
