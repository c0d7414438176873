//! Publishes from the client: checked, numbered, answered.

use std::sync::Arc;

use super::{
    Link, Output, Session, Wanted, connect, dropped,
    inbound::{Admission, Complete, Finished, Verdict},
    repeats::{self, Sent},
    stored::Trace,
};
use crate::{
    config::DeniedPublish,
    event::{Denial, DropReason, Message, Outcome, Properties, QoS, Receipt, Text},
    source::mqtt::{
        own,
        packet::{Ack, Outgoing, Publish},
        reason::{self, Fault},
    },
    topic,
};

impl Session {
    /// Takes a PUBLISH.
    pub(super) fn publish(&mut self, publish: Publish, now_ms: u64, wanted: Wanted, out: &mut Vec<Output>) -> Result<(), Fault> {
        if publish.dup && publish.qos == QoS::AtMostOnce {
            return Err(Fault::protocol("DUP with QoS 0")); // [MQTT-3.3.1-2]
        }
        if publish.has_subscription_id {
            return Err(Fault::protocol("a subscription identifier from a client")); // [MQTT-3.3.4-6]
        }
        if let Some(properties) = &publish.properties {
            check_properties(properties)?;
        }
        let topic = self.link.topic(&publish, self.limits.max_topic_levels)?;
        let mut trace = self.trace(&publish);
        let (number, origin) = match publish.qos {
            QoS::AtMostOnce => (None, None),
            qos => {
                let sent = self.may_repeat(&publish, wanted).then(|| self.sent(&publish, &topic));
                let (admission, origin) = self.inbound.publish(publish.id, qos, self.receive_maximum(), sent)?;
                self.persist_forgotten(out);
                match admission {
                    Admission::Duplicate => return Ok(()),
                    Admission::New(number) => (Some(number), origin),
                    Admission::Delivered(number) => {
                        trace = Trace::Delivered;
                        (Some(number), origin)
                    }
                }
            }
        };
        let receipt = number.map_or_else(Receipt::nobody, |number| Receipt::open_for(number, &self.settlements, origin));
        let refusal = self.refusal(&publish, &topic);
        let message = self.message(publish, topic, now_ms);
        match refusal {
            Some((code, drop_reason, text)) => {
                if let Some(number) = number {
                    self.inbound.decided(number, Verdict::Denied(Denial { reason_code: code, reason: text.clone() }));
                }
                receipt.settle(Outcome::Stored);
                out.push(dropped(Arc::new(message), drop_reason, text));
            }
            None => out.push(Output::Publish { message: Box::new(message), number, receipt, trace }),
        }
        Ok(())
    }

    /// 3.1.1 clients know no receive maximum; for them reading pauses instead.
    fn receive_maximum(&self) -> usize {
        if self.link.protocol.is_5() { usize::from(self.limits.receive_maximum) } else { usize::MAX }
    }

    /// Whether somebody wants to know if this PUBLISH is a repetition.
    fn may_repeat(&self, publish: &Publish, wanted: Wanted) -> bool {
        self.durable && (wanted.once || self.inbound.may_be_repeated(publish.id))
    }

    fn sent(&self, publish: &Publish, topic: &str) -> Sent {
        Sent { session: self.number, digest: repeats::digest(publish, topic), dup: publish.dup }
    }

    fn message(&self, publish: Publish, topic: Text, now_ms: u64) -> Message {
        Message {
            publisher: self.link.client.client_id.clone(),
            publisher_username: self.link.client.username.clone(),
            topic,
            payload: own::bytes(&publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            received_at_ms: now_ms,
            properties: publish.properties.as_deref().map(|properties| Box::new(own::properties(properties))),
            annotations: Vec::new(),
        }
    }

    /// Why a publish goes no further, before anybody is asked: what its acknowledgement says, and its end.
    fn refusal(&self, publish: &Publish, topic: &str) -> Option<(u8, DropReason, Text)> {
        if topic.starts_with("$SYS/") {
            return Some((reason::NOT_AUTHORIZED, DropReason::Denied, Text::from_static("topics under $SYS/ belong to the server")));
        }
        // The packet is within what CONNACK announced, so that it is no breach of the protocol.
        let limit = self.limits.max_payload_bytes;
        let too_large = || (reason::QUOTA_EXCEEDED, DropReason::TooLarge, format!("the payload has more than {limit} bytes").into());
        (publish.payload.len() > limit).then(too_large)
    }

    /// Answers a publish whose turn it is.
    pub(super) fn answer(&mut self, complete: &Complete, out: &mut Vec<Output>) -> Result<(), Fault> {
        let five = self.link.protocol.is_5();
        let (code, text) = match &complete.result {
            Finished::Settled(Verdict::Accepted { matched: false }) if five => (reason::NO_MATCHING_SUBSCRIBERS, None),
            Finished::Settled(Verdict::Accepted { .. } | Verdict::Swallowed) => (reason::SUCCESS, None),
            Finished::Settled(Verdict::Denied(denial)) if five => (reason::for_publish(denial.reason_code), Some(&denial.reason)),
            Finished::Settled(Verdict::Denied(denial)) => match self.limits.denied_publish {
                DeniedPublish::Acknowledge => (reason::SUCCESS, None),
                DeniedPublish::Disconnect => {
                    let fault = Fault::new(denial.reason_code, "publish-denied", denial.reason.clone());
                    return Err(self.unanswered(complete, fault));
                }
            },
            Finished::Failed(Outcome::Refused(refusal)) => {
                let (code, text) = reason::for_refusal(refusal);
                if !five {
                    return Err(self.unanswered(complete, Fault::new(code, "publish-refused", text.clone())));
                }
                (code, Some(text))
            }
            Finished::Failed(outcome) => {
                let text = if let Outcome::Unknown(text) = outcome { text.clone() } else { Text::new() };
                return Err(self.unanswered(complete, Fault::new(reason::IMPLEMENTATION_SPECIFIC, "outcome-unknown", text)));
            }
        };
        let positive = code < reason::FIRST_ERROR;
        self.inbound.answered(complete, positive, usize::from(self.limits.receive_maximum));
        if !positive && complete.qos == QoS::ExactlyOnce {
            self.persist_released(complete.id, out); // the client may use the identifier for another message
        }
        self.persist_forgotten(out);
        // A guest may say anything; a reason string holds no U+0000 [MQTT-1.5.4-2].
        let text = text.filter(|text| self.link.problem_information && !connect::has_nul(text)).cloned();
        let ack = Ack { id: complete.id, code, text };
        out.push(Output::Send(if complete.qos == QoS::AtLeastOnce { Outgoing::PubAck(ack) } else { Outgoing::PubRec(ack) }));
        Ok(())
    }

    /// The connection ends in the place of an answer. The client may send the publish again: its identifier is free for that.
    fn unanswered(&mut self, complete: &Complete, fault: Fault) -> Fault {
        self.inbound.unanswered(complete);
        fault
    }
}

impl Link {
    /// The topic of a publish: its own, checked, or the one that its alias stands for.
    fn topic(&mut self, publish: &Publish, max_levels: usize) -> Result<Text, Fault> {
        if publish.topic.is_empty() {
            let Some(alias) = publish.alias else {
                return Err(Fault::new(reason::PROTOCOL_ERROR, "protocol-error", "neither a topic name nor a topic alias"));
            };
            return self.aliases.get(&alias).cloned().ok_or_else(|| bad_alias(alias));
        }
        if publish.topic != self.last_topic {
            connect::check_topic_name(&publish.topic, max_levels)
                .map_err(|text| Fault::new(reason::TOPIC_NAME_INVALID, "protocol-error", format!("the topic: {text}")))?;
            self.last_topic = own::text(&publish.topic);
        }
        if let Some(alias) = publish.alias {
            if alias == 0 || alias > self.alias_maximum {
                return Err(bad_alias(alias));
            }
            self.aliases.insert(alias, self.last_topic.clone());
        }
        Ok(self.last_topic.clone())
    }
}

fn bad_alias(alias: u16) -> Fault {
    Fault::new(reason::TOPIC_ALIAS_INVALID, "protocol-error", format!("topic alias {alias} is unknown or above the maximum"))
}

/// Checks what a message carries beside its payload: a PUBLISH's, or a will's.
pub(super) fn check_properties(properties: &Properties) -> Result<(), Fault> {
    let texts = [&properties.content_type, &properties.response_topic];
    if texts.into_iter().flatten().any(|text| connect::has_nul(text)) || connect::headers_have_nul(&properties.user_properties) {
        return Err(Fault::new(reason::MALFORMED_PACKET, "malformed-packet", "a property contains the character U+0000"));
    }
    if properties.response_topic.as_ref().is_some_and(|topic| topic::check_name(topic).is_err()) {
        return Err(Fault::protocol("the response topic is no topic name")); // [MQTT-3.3.2-14]
    }
    Ok(())
}
