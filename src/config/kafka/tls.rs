//! `tls = true` or `tls = { … }` of a cluster: whom Hookgate trusts, and what it shows.
//!
//! The files are read with the configuration, so that a reload sees that one has changed.

use std::path::{Path, PathBuf};

use crate::config::{reader::Table, secret::Secret};

/// How the connections to a cluster are encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaTls {
    /// The authorities that sign the brokers' certificates; `None`: those that this system trusts.
    pub authorities: Option<Pem>,
    /// What the brokers are shown.
    pub identity: Option<Identity>,
    /// Whether the broker's name must be in its certificate.
    pub verify_hostname: bool,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The client's certificate, then those that lead to its authority.
    pub certificate: Pem,
    /// The private key of the first.
    pub key: Secret,
    /// What the key is encrypted with.
    pub key_password: Option<Secret>,
    /// The key's file.
    key_file: PathBuf,
}

/// A file of certificates, as it was when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    file: PathBuf,
    text: String,
}

impl Pem {
    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it was read.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file that `key` names.
    pub(super) fn read(table: &Table<'_>, key: &'static str, folder: &Path) -> Option<Self> {
        Self::read_marked(table, key, folder, "CERTIFICATE")
    }

    fn read_marked(table: &Table<'_>, key: &'static str, folder: &Path, mark: &str) -> Option<Self> {
        let named = table.text(key)?;
        let file = folder.join(&named.value);
        match std::fs::read_to_string(&file) {
            Ok(text) if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(mark)) => Some(Pem { file, text }),
            Ok(_) => {
                let message = format_args!(": {} is no PEM file with a {}", file.display(), mark.to_lowercase());
                table.refuse_at(&named.place, key, message, "convert it with openssl; a PEM file has a line -----BEGIN …-----");
                None
            }
            Err(error) => {
                let message = format_args!(": {}: {error}", file.display());
                table.refuse_at(&named.place, key, message, "it must be readable when Hookgate starts");
                None
            }
        }
    }
}

impl KafkaTls {
    /// Reads `tls` of a cluster's table.
    pub(super) fn read(table: &Table<'_>, folder: &Path) -> Option<Self> {
        const SYSTEM: KafkaTls = KafkaTls { authorities: None, identity: None, verify_hostname: true };
        table.place_of("tls")?;
        if !table.is_table("tls") {
            return table.boolean("tls").filter(|on| *on).map(|_| SYSTEM);
        }
        let read = |tls: &mut Table<'_>| KafkaTls {
            authorities: Pem::read(tls, "ca", folder),
            identity: Identity::read(tls, folder),
            verify_hostname: tls.boolean("verify_hostname").unwrap_or(true),
        };
        table.table("tls", read)
    }

    /// Every file that it was read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.authorities.iter().map(|pem| pem.file.as_path());
        let identity = self.identity.iter().flat_map(|identity| {
            let password = identity.key_password.iter().filter_map(Secret::file);
            [identity.certificate.file.as_path(), identity.key_file.as_path()].into_iter().chain(password)
        });
        authorities.chain(identity)
    }
}

impl Identity {
    fn read(tls: &Table<'_>, folder: &Path) -> Option<Self> {
        let (certificate_place, key_place) = (tls.place_of("certificate"), tls.place_of("key"));
        let certificate = Pem::read(tls, "certificate", folder);
        let key = Pem::read_marked(tls, "key", folder, "PRIVATE KEY");
        let key_password = Secret::read(tls, "key_password", folder);
        match (certificate_place, key_place) {
            (Some(place), None) => {
                tls.refuse_at(&place, "certificate", " needs its private key", "write key = \"client.key\"");
            }
            (None, Some(place)) => {
                tls.refuse_at(&place, "key", " needs its certificate", "write certificate = \"client.pem\"");
            }
            (None, None) => {
                if let Some(place) = tls.place_of("key_password") {
                    tls.refuse_at(&place, "key_password", " does nothing without a `key`", "remove it, or name certificate and key");
                }
            }
            (Some(_), Some(_)) => {}
        }
        let Pem { file: key_file, text } = key?;
        Some(Identity { certificate: certificate?, key: Secret::new(text), key_password, key_file })
    }
}
