//! Enhanced authentication (MQTT 5, section 4.12): a guest and a client talk until the guest is sure.
//!
//! The first guest that does not abstain has the rest of the exchange, in the version that began it. Between two rounds nothing is kept but
//! what the guest gave to be kept: any of its instances may be asked next.

use std::sync::Arc;

use super::{
    Pipeline,
    access::{Decided, failed},
    ask::Heard,
    plan::Plan,
};
use crate::{
    access,
    config::{Authenticator, OnFailure},
    event::{Bytes, Client, Denial, ExchangeVerdict, Round, Step, Text, now_ms},
    guest::{Asked, Guest},
    hook::Hook,
};

/// Rounds of one exchange; the longest known methods take three.
const MAX_ROUNDS: u32 = 16;
/// MQTT 5 reason code "bad authentication method".
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;

/// One exchange with one client.
#[derive(Debug)]
pub struct Exchange {
    method: Text,
    again: bool,
    round: u32,
    memo: Bytes,
    partner: Option<Arc<Guest>>,
}

impl Exchange {
    /// Nothing was said yet; `again` when the client is in already.
    pub fn new(method: Text, again: bool) -> Self {
        Exchange { method, again, round: 0, memo: Bytes::new(), partner: None }
    }
}

impl Pipeline {
    /// `client.authenticate` for a client that names a method: takes its authentication data one step on.
    ///
    /// # Errors
    /// It may not come in, or not stay.
    pub async fn exchange(&self, client: &Arc<Client>, exchange: &mut Exchange, data: Option<Bytes>) -> Result<Step, Denial> {
        let plan = self.plan.load_full();
        let said = self.take_step(&plan, client, exchange, data).await;
        let (decided, step) = match said {
            Said::Proceed(data) => return Ok(Step::Proceed(data)),
            Said::Decided(decided, data) => (decided, data),
        };
        self.note_decided(&plan, client, Hook::ClientAuthenticate, &decided, None).await;
        decided.refused.map_or(Ok(Step::Allow(step)), |refused| Err(refused.denial))
    }

    async fn take_step(&self, plan: &Plan, client: &Arc<Client>, exchange: &mut Exchange, data: Option<Bytes>) -> Said {
        if exchange.round >= MAX_ROUNDS {
            return Said::denied(access::not_authorized("the exchange has too many rounds"), "default");
        }
        if !plan.access.settings().authenticate.contains(&Authenticator::Guests) {
            return Said::unknown_method();
        }
        for route in plan.routes(Hook::ClientAuthenticate) {
            for guest in &route.guests {
                if !guest.knows_methods() || exchange.partner.as_ref().is_some_and(|partner| partner.name() != guest.name()) {
                    continue;
                }
                let asked = Asked::new(self.next_id(), now_ms(), &self.node);
                let round = Round {
                    method: &exchange.method,
                    data: data.as_deref(),
                    number: exchange.round,
                    memo: &exchange.memo,
                    again: exchange.again,
                };
                let Heard { by, answer, .. } = self.ask_step(route, guest, asked, exchange.partner.as_ref(), client, round).await;
                let verdict = match answer {
                    Ok(verdict) => verdict,
                    Err(failure) => {
                        super::chain::note_failure(route, &by, &failure);
                        if route.on_failure == OnFailure::Pass && exchange.partner.is_none() {
                            continue;
                        }
                        return Said::Decided(failed(&by), None);
                    }
                };
                match verdict {
                    ExchangeVerdict::Proceed { data, memo } => {
                        exchange.round += 1;
                        exchange.memo = memo;
                        exchange.partner = Some(by);
                        return Said::Proceed(data);
                    }
                    ExchangeVerdict::Allow(data) => return Said::Decided(Decided::allowed(guest.name()), data),
                    ExchangeVerdict::Deny(denial) => return Said::denied(denial, guest.name()),
                    ExchangeVerdict::Abstain => {}
                }
            }
        }
        Said::unknown_method() // also when the partner left in the middle
    }
}

/// What came out of one step.
enum Said {
    Proceed(Option<Bytes>),
    Decided(Decided, Option<Bytes>),
}

impl Said {
    fn denied(denial: Denial, by: &str) -> Self {
        Said::Decided(Decided::denied(denial, by), None)
    }

    fn unknown_method() -> Self {
        let reason = Text::from_static("nobody here knows this authentication method");
        Said::denied(Denial { reason_code: BAD_AUTHENTICATION_METHOD, reason }, "default")
    }
}
