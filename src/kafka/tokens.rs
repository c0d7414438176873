//! Tokens for SASL OAUTHBEARER: the client credentials grant, asked for ahead of time.
//!
//! Fetching blocks, and librdkafka asks for a token on the thread that also takes delivery reports. So [`Tokens::refresh`] fetches, on a
//! thread that may block, well before the last token ends, and librdkafka is given what is there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use crate::{
    config::{OauthBearer, Pem},
    event::now_ms,
};

/// How long the token endpoint may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failure it is asked again.
const RETRY: Duration = Duration::from_secs(3);
/// What a token lasts whose server does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// The server does not answer, or its certificate is not trusted.
    #[error("{url}: {reason}; can this machine reach it, and is its certificate trusted (sasl.ca)?")]
    Unreachable { url: String, reason: String },
    /// It refuses.
    #[error("{url} gives no token: {status} {body}; are client_id, client_secret and scope right?")]
    Refused { url: String, status: u16, body: String },
    /// It answers something else.
    #[error("{url} answers no token: {reason}; is it a token endpoint?")]
    NoToken { url: String, reason: String },
    /// Nobody has asked yet.
    #[error("no token was fetched yet")]
    NotYet,
}

/// The tokens of one client.
pub(super) struct Tokens {
    settings: OauthBearer,
    agent: ureq::Agent,
    state: Mutex<State>,
}

struct State {
    token: Option<Token>,
    /// When to ask next.
    due: Instant,
    error: TokenError,
}

#[derive(Clone)]
struct Token {
    text: String,
    principal: String,
    expires_ms: u64,
}

/// What is looked at in a token that is a JWT; the brokers verify it.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<u64>,
}

impl Tokens {
    pub(super) fn new(settings: &OauthBearer) -> Self {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(roots(settings)).unversioned_rustls_crypto_provider(crypto).build();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).tls_config(tls).build();
        let state = State { token: None, due: Instant::now(), error: TokenError::NotYet };
        Tokens { settings: settings.clone(), agent: config.into(), state: Mutex::new(state) }
    }

    /// Whether they come from there.
    pub(super) fn are_of(&self, settings: &OauthBearer) -> bool {
        self.settings == *settings
    }

    /// Fetches a token if it is time to. Blocks, at most about five seconds.
    pub(super) fn refresh(&self) -> Result<(), TokenError> {
        if Instant::now() < self.state.lock().due {
            return Ok(());
        }
        let fetched = self.fetch();
        let mut state = self.state.lock();
        match fetched {
            Ok((token, life)) => {
                state.due = Instant::now() + (life * 3 / 4).max(RETRY); // librdkafka asks at 80 %
                state.token = Some(token);
                Ok(())
            }
            Err(error) => {
                state.due = Instant::now() + RETRY;
                state.error = error.clone();
                Err(error)
            }
        }
    }

    /// The token that is there; librdkafka asks again before it ends, and some seconds after an error.
    pub(super) fn token(&self) -> Result<OAuthToken, TokenError> {
        let state = self.state.lock();
        match &state.token {
            Some(token) if token.expires_ms > now_ms() => Ok(OAuthToken {
                token: token.text.clone(),
                principal_name: token.principal.clone(),
                lifetime_ms: i64::try_from(token.expires_ms).unwrap_or(i64::MAX),
            }),
            _ => Err(state.error.clone()),
        }
    }

    fn fetch(&self) -> Result<(Token, Duration), TokenError> {
        let OauthBearer { token_url, client_id, client_secret, scope, .. } = &self.settings;
        let url = || token_url.clone();
        // RFC 6749, section 2.3.1: both are encoded before they are joined.
        let basic = BASE64_STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(client_secret.reveal())));
        let form = std::iter::once(("grant_type", "client_credentials")).chain(scope.as_deref().map(|scope| ("scope", scope)));
        let request = self.agent.post(token_url).header("Authorization", format!("Basic {basic}"));
        let mut answer = request.send_form(form).map_err(|error| TokenError::Unreachable { url: url(), reason: error.to_string() })?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_string().map_err(|error| TokenError::NoToken { url: url(), reason: error.to_string() })?;
        if status != 200 {
            let body = body.chars().filter(|c| !c.is_control()).take(300).collect();
            return Err(TokenError::Refused { url: url(), status, body });
        }
        // What is said about it must not quote the answer, which may hold a token.
        let no_token = |reason: &str| TokenError::NoToken { url: url(), reason: reason.to_owned() };
        let answer: serde_json::Value = serde_json::from_str(&body).map_err(|_| no_token("it is no JSON"))?;
        let text = answer.get("access_token").and_then(|token| token.as_str()).ok_or_else(|| no_token("there is no access_token in it"))?;
        // Some servers write the number as a text.
        let expires_in = answer.get("expires_in").and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
        let claims = claims(text);
        let now = now_ms();
        let expires_ms = match (expires_in, claims.exp) {
            (Some(seconds), _) => now.saturating_add(seconds.saturating_mul(1_000)),
            (None, Some(exp)) => exp.saturating_mul(1_000),
            (None, None) => now + DEFAULT_LIFE.as_millis() as u64,
        };
        let life = Duration::from_millis(expires_ms.saturating_sub(now));
        let principal = claims.sub.unwrap_or_else(|| client_id.clone());
        Ok((Token { text: text.to_owned(), principal, expires_ms }, life))
    }
}

/// Whom the token endpoint's certificate may come from.
fn roots(settings: &OauthBearer) -> RootCerts {
    let certificates: Vec<Certificate<'static>> = match &settings.authorities {
        Some(pem) => ureq::tls::parse_pem(Pem::text(pem).as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect(),
        None if settings.token_url.starts_with("https://") => {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                tracing::warn!("an authority that this system trusts cannot be read: {error}");
            }
            found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        }
        None => Vec::new(),
    };
    RootCerts::new_with_certs(&certificates)
}

/// application/x-www-form-urlencoded
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn claims(token: &str) -> Claims {
    let decoded = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    decoded.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::config::Secret;

    /// Answers one request after the other with these bodies; the requests.
    fn server(answers: Vec<(u16, String)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let serve = move || {
            let answer = |(status, body): (u16, String)| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
                while !String::from_utf8_lossy(&request).contains("grant_type") {
                    let read = stream.read(&mut chunk).unwrap();
                    assert_ne!(read, 0);
                    request.extend_from_slice(&chunk[..read]);
                }
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
                String::from_utf8(request).unwrap()
            };
            answers.into_iter().map(answer).collect()
        };
        (url, std::thread::spawn(serve))
    }

    fn tokens(url: &str) -> Tokens {
        let (client_id, client_secret) = ("gate way".to_owned(), Secret::new("p:w"));
        Tokens::new(&OauthBearer {
            token_url: url.to_owned(),
            client_id,
            client_secret,
            scope: Some("kafka".to_owned()),
            authorities: None,
        })
    }

    #[test]
    fn a_token_is_asked_for_with_the_client_s_credentials() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"service-account","exp":1}"#);
        let (url, served) = server(vec![(200, format!(r#"{{"access_token":"h.{payload}.s","expires_in":600,"token_type":"Bearer"}}"#))]);
        let tokens = tokens(&url);
        assert!(matches!(tokens.token(), Err(TokenError::NotYet)));
        tokens.refresh().unwrap();
        tokens.refresh().unwrap(); // not due: nobody is asked
        let token = tokens.token().unwrap();
        assert_eq!((token.token, token.principal_name.as_str()), (format!("h.{payload}.s"), "service-account"));
        let left_ms = token.lifetime_ms - now_ms() as i64;
        assert!((540_000..=600_000).contains(&left_ms), "{left_ms}");
        let request = &served.join().unwrap()[0];
        let basic = BASE64_STANDARD.encode("gate%20way:p%3Aw");
        assert!(request.to_lowercase().contains(&format!("authorization: basic {basic}").to_lowercase()), "{request}");
        assert!(request.ends_with("grant_type=client_credentials&scope=kafka"), "{request}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (url, served) = server(vec![(401, r#"{"error":"invalid_client"}"#.to_owned()), (200, "<html>".to_owned())]);
        let first = tokens(&url);
        let error = first.refresh().unwrap_err().to_string();
        assert!(error.contains("401") && error.contains("invalid_client") && error.contains("client_secret"), "{error}");
        assert!(matches!(first.token(), Err(TokenError::Refused { .. })));
        assert!(matches!(tokens(&url).refresh(), Err(TokenError::NoToken { .. })));
        served.join().unwrap();
        assert!(matches!(tokens(&url).refresh(), Err(TokenError::Unreachable { .. })), "nobody listens any more");
        assert!(!format!("{first:?}").contains("p:w"));
    }
}
