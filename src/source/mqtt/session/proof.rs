//! Re-authentication: a client that is in proves itself again, while everything else goes on (MQTT 5, section 4.12.1).

use super::{Output, Session};
use crate::{
    event::{Denial, Step, Text},
    source::mqtt::{
        own,
        packet::{Auth, Outgoing},
        reason::{self, Fault},
    },
};

/// Where a re-authentication is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// There is none.
    #[default]
    None,
    /// Somebody looks at what the client sent.
    Asked,
    /// It is the client's turn.
    Challenged,
}

impl Session {
    /// Takes an AUTH.
    pub(super) fn auth(&mut self, auth: Auth, out: &mut Vec<Output>) -> Result<(), Fault> {
        let Some(method) = &self.link.method else {
            return Err(Fault::protocol("AUTH without an authentication method on CONNECT")); // [MQTT-4.12.0-7]
        };
        if auth.method.as_ref() != Some(method) {
            return Err(Fault::protocol("AUTH with another authentication method than CONNECT")); // [MQTT-4.12.1-1]
        }
        let begin = match (auth.code, self.link.proof) {
            (reason::RE_AUTHENTICATE, Proof::None) => Some(method.clone()),
            (reason::CONTINUE_AUTHENTICATION, Proof::Challenged) => None,
            _ => return Err(Fault::protocol("AUTH with a reason code that does not fit here")),
        };
        self.link.proof = Proof::Asked;
        out.push(Output::Prove { begin, data: auth.data.as_ref().map(own::bytes) });
        Ok(())
    }

    /// What came of [`Output::Prove`].
    ///
    /// # Errors
    /// The client may not stay [MQTT-4.12.1-2].
    pub(in crate::source::mqtt) fn proved(&mut self, answer: Result<Step, Denial>, out: &mut Vec<Output>) -> Result<(), Fault> {
        let (code, data, proof) = match answer {
            Ok(Step::Proceed(data)) => (reason::CONTINUE_AUTHENTICATION, data, Proof::Challenged),
            Ok(Step::Allow(data)) => (reason::SUCCESS, data, Proof::None),
            Err(denial) => return Err(Fault::new(reason::for_disconnect(denial.reason_code), "not-authorized", denial.reason)),
        };
        self.link.proof = proof;
        let method: Option<Text> = self.link.method.clone();
        out.push(Output::Send(Outgoing::Auth(Box::new(Auth { code, method, data }))));
        Ok(())
    }
}
