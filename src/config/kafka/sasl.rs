//! `sasl = { … }` of a cluster: who Hookgate is to the brokers.

use std::path::{Path, PathBuf};

use super::tls::Pem;
use crate::config::{problem::Place, reader::Table, secret::Secret};

/// How Hookgate proves who it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Sasl {
    /// User name and password as they are.
    Plain(Credentials),
    /// SCRAM with SHA-256: the password stays here.
    ScramSha256(Credentials),
    /// SCRAM with SHA-512.
    ScramSha512(Credentials),
    /// A token that an OAuth 2.0 server gives for a client id and secret.
    OauthBearer(OauthBearer),
    /// Kerberos.
    Gssapi(Gssapi),
}

/// A name and its password.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials {
    /// The Kafka user.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// Where tokens come from: the client credentials grant (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OauthBearer {
    /// The server's token endpoint.
    pub token_url: String,
    /// Who asks.
    pub client_id: String,
    /// What proves it.
    pub client_secret: Secret,
    /// What is asked for.
    pub scope: Option<String>,
    /// The authorities that sign the server's certificate; `None`: those that this system trusts.
    pub authorities: Option<Pem>,
}

/// A Kerberos identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Gssapi {
    /// The brokers' service, without the host.
    pub service_name: String,
    /// Who Hookgate is.
    pub principal: String,
    /// Its keytab; `None`: the ticket of the user that Hookgate runs as.
    pub keytab: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
    Gssapi,
}

const MECHANISMS: &[(&str, Mechanism)] = &[
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::ScramSha256),
    ("SCRAM-SHA-512", Mechanism::ScramSha512),
    ("OAUTHBEARER", Mechanism::OauthBearer),
    ("GSSAPI", Mechanism::Gssapi),
];

impl Sasl {
    /// Reads `sasl` of a cluster's table.
    pub(super) fn read(table: &Table<'_>, folder: &Path) -> Option<Self> {
        table.table("sasl", |sasl| Self::read_inner(sasl, folder)).flatten()
    }

    fn read_inner(sasl: &mut Table<'_>, folder: &Path) -> Option<Self> {
        sasl.require("mechanism", "\"SCRAM-SHA-512\"");
        let Some(mechanism) = sasl.choice("mechanism", MECHANISMS) else {
            // Which keys belong to it is not known.
            for key in ["username", "password", "token_url", "client_id", "client_secret", "scope", "ca", "principal", "keytab"] {
                sasl.place_of(key);
            }
            return None;
        };
        match mechanism.value {
            Mechanism::Plain => Credentials::read(sasl, folder).map(Sasl::Plain),
            Mechanism::ScramSha256 => Credentials::read(sasl, folder).map(Sasl::ScramSha256),
            Mechanism::ScramSha512 => Credentials::read(sasl, folder).map(Sasl::ScramSha512),
            Mechanism::OauthBearer => OauthBearer::read(sasl, folder).map(Sasl::OauthBearer),
            Mechanism::Gssapi => Gssapi::read(sasl, &mechanism.place, folder).map(Sasl::Gssapi),
        }
    }

    /// As Kafka spells it.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Sasl::Plain(_) => "PLAIN",
            Sasl::ScramSha256(_) => "SCRAM-SHA-256",
            Sasl::ScramSha512(_) => "SCRAM-SHA-512",
            Sasl::OauthBearer(_) => "OAUTHBEARER",
            Sasl::Gssapi(_) => "GSSAPI",
        }
    }

    /// Every file that it was read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let (secret, authorities) = match self {
            Sasl::Plain(it) | Sasl::ScramSha256(it) | Sasl::ScramSha512(it) => (Some(&it.password), None),
            Sasl::OauthBearer(it) => (Some(&it.client_secret), it.authorities.as_ref()),
            Sasl::Gssapi(_) => (None, None),
        };
        secret.into_iter().filter_map(Secret::file).chain(authorities.map(Pem::file))
    }
}

impl Credentials {
    fn read(sasl: &Table<'_>, folder: &Path) -> Option<Self> {
        let username = sasl.required_text("username", "\"hookgate\"");
        let password = required_secret(sasl, "password", folder);
        Some(Credentials { username: username?.value, password: password? })
    }
}

impl OauthBearer {
    fn read(sasl: &Table<'_>, folder: &Path) -> Option<Self> {
        sasl.require("token_url", "\"https://id.example.com/oauth2/token\"");
        let check = |url: &str| {
            let is_url = url.strip_prefix("https://").or(url.strip_prefix("http://")).is_some_and(|rest| !rest.is_empty());
            if is_url { Ok(url.to_owned()) } else { Err("this is no address of a token endpoint") }
        };
        let token_url = sasl.parsed("token_url", "it begins with https://", check);
        let client_id = sasl.required_text("client_id", "\"hookgate\"");
        let client_secret = required_secret(sasl, "client_secret", folder);
        let scope = sasl.text("scope").map(|scope| scope.value);
        let authorities = Pem::read(sasl, "ca", folder);
        Some(OauthBearer { token_url: token_url?.value, client_id: client_id?.value, client_secret: client_secret?, scope, authorities })
    }
}

impl Gssapi {
    fn read(sasl: &Table<'_>, mechanism: &Place, folder: &Path) -> Option<Self> {
        let service_name = sasl.text("service_name").map_or_else(|| "kafka".to_owned(), |name| name.value);
        let principal = sasl.required_text("principal", "\"hookgate@EXAMPLE.COM\"");
        let keytab = sasl.text("keytab").map(|keytab| folder.join(keytab.value));
        if cfg!(not(feature = "gssapi")) {
            let help = "build it with `cargo build --features gssapi`, which needs the headers of libsasl2 and Kerberos";
            sasl.refuse_at(mechanism, "mechanism", " = \"GSSAPI\": this Hookgate was built without the feature `gssapi`", help);
            return None;
        }
        Some(Gssapi { service_name, principal: principal?.value, keytab })
    }
}

fn required_secret(table: &Table<'_>, key: &'static str, folder: &Path) -> Option<Secret> {
    table.require(key, "{ env = \"NAME\" }");
    Secret::read(table, key, folder)
}
