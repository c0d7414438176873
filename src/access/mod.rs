//! Who may come in and what they may do, for those without a guest: the password file and the rules of `[[acl]]`.
//!
//! Invariants: an [`Access`] never changes, it is replaced as a whole; a password is verified beside the event loop, a few at a time; an
//! unknown user costs as much time as a known one. Absent: guests, and the order in which they and these are asked (the pipeline above).

mod acl;
mod passwords;

use std::{path::Path, sync::Arc};

use self::passwords::Passwords;
pub use self::passwords::{PasswordError, Users};
use crate::{
    config::{self, Problem},
    event::{Action, Answer, Client, Credentials, Denial, Text},
};

/// MQTT 5 reason code "bad user name or password".
const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
/// MQTT 5 reason code "not authorized".
const NOT_AUTHORIZED: u8 = 0x87;

/// `[access]` ready for use.
#[derive(Debug, Default)]
pub struct Access {
    settings: config::Access,
    passwords: Option<Passwords>,
}

impl Access {
    /// Reads what the configuration names. Blocks: it reads a file.
    ///
    /// # Errors
    /// Every line of the password file that is wrong, or that it cannot be read.
    pub fn load(settings: &config::Access) -> Result<Arc<Self>, Vec<Problem>> {
        let passwords = match &settings.password_file {
            None => None,
            Some(file) => Some(Passwords::new(Users::read(&file.value).map_err(|errors| problems(&errors, &file.value, &file.place))?)),
        };
        Ok(Arc::new(Access { settings: settings.clone(), passwords }))
    }

    /// The settings that it was made of.
    pub fn settings(&self) -> &config::Access {
        &self.settings
    }

    /// Whether anybody could be denied anything about a topic.
    pub fn authorizes(&self) -> bool {
        !self.settings.authorize.is_empty() || self.settings.default == config::Permission::Deny
    }

    /// What the password file says about a client; it abstains about users that it does not know.
    pub async fn authenticate(&self, client: &Client, credentials: &Credentials) -> Answer {
        let (Some(passwords), Some(user)) = (&self.passwords, &client.username) else { return Answer::Abstain };
        match passwords.verify(user, credentials.password.clone().unwrap_or_default()).await {
            None => Answer::Abstain,
            Some(true) => Answer::Allow,
            Some(false) => Answer::Deny(bad_password()),
        }
    }

    /// What the rules say; `topic` is a topic name, or a filter without `$share/group/`.
    pub fn authorize(&self, client: &Client, action: Action, topic: &str) -> Answer {
        match acl::decide(&self.settings.rules, client, action, topic) {
            None => Answer::Abstain,
            Some(config::Permission::Allow) => Answer::Allow,
            Some(config::Permission::Deny) => Answer::Deny(not_authorized("denied by a rule")),
        }
    }
}

/// The same words whether the user is unknown or the password wrong.
pub fn bad_password() -> Denial {
    Denial { reason_code: BAD_USER_NAME_OR_PASSWORD, reason: Text::from_static("bad user name or password") }
}

/// "Not authorized", with the reason.
pub fn not_authorized(reason: &'static str) -> Denial {
    Denial { reason_code: NOT_AUTHORIZED, reason: Text::from_static(reason) }
}

fn problems(errors: &[PasswordError], file: &Path, named: &config::Place) -> Vec<Problem> {
    let help = "lines read user:$argon2id$…; make them with `hookgate password add FILE USER`";
    let problem = |error: &PasswordError| {
        let place = match error.line() {
            Some(line) => config::Place { file: Arc::new(file.to_owned()), line, column: 1 },
            None => named.clone(),
        };
        Problem::new(&place, error.to_string()).help(help)
    };
    errors.iter().map(problem).collect()
}
