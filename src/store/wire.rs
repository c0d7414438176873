//! The bodies of records, borrowed from what they are written of and read from: plain structures for postcard, whose order of fields is
//! the layout of [`super::record::FORMAT`]. Whoever changes one raises the format's number.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    change::{Parcel, SessionState, StoredLedger, StoredSubscription, StoredWill},
    record::Damage,
    space::{Owner, Pair},
};
use crate::event::{Bytes, Client, Header, Message, Properties, QoS, Text};

#[derive(Serialize, Deserialize)]
pub(super) struct WireSession<'a> {
    client_id: &'a str,
    username: Option<&'a str>,
    certificate_name: Option<&'a str>,
    peer: SocketAddr,
    protocol_version: u8,
    connected_at_ms: u64,
    expiry_s: u32,
    left_at_ms: Option<u64>,
}

impl<'a> WireSession<'a> {
    pub(super) fn new(SessionState { client, expiry_s, left_at_ms, .. }: &'a SessionState) -> Self {
        WireSession {
            client_id: &client.client_id,
            username: client.username.as_deref(),
            certificate_name: client.certificate_name.as_deref(),
            peer: client.peer.address(),
            protocol_version: client.protocol_version,
            connected_at_ms: client.connected_at_ms,
            expiry_s: *expiry_s,
            left_at_ms: *left_at_ms,
        }
    }

    pub(super) fn state(self, number: u64) -> SessionState {
        let client = Client {
            client_id: self.client_id.into(),
            username: self.username.map(Text::from),
            peer: self.peer.into(),
            protocol_version: self.protocol_version,
            certificate_name: self.certificate_name.map(Text::from),
            connected_at_ms: self.connected_at_ms,
        };
        SessionState { number, client: Arc::new(client), expiry_s: self.expiry_s, left_at_ms: self.left_at_ms }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireWill<'a> {
    #[serde(borrow)]
    message: WireMessage<'a>,
    delay_s: u32,
}

impl<'a> WireWill<'a> {
    pub(super) fn new(will: &'a StoredWill) -> Self {
        WireWill { message: WireMessage::new(&will.message), delay_s: will.delay_s }
    }

    pub(super) fn will(self) -> Result<StoredWill, Damage> {
        Ok(StoredWill { message: self.message.message()?, delay_s: self.delay_s })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireSubscription<'a> {
    filter: &'a str,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    subscription_id: Option<u32>,
}

impl<'a> WireSubscription<'a> {
    pub(super) fn new(subscription: &'a StoredSubscription) -> Self {
        WireSubscription {
            filter: &subscription.filter,
            qos: subscription.qos.level(),
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            retain_handling: subscription.retain_handling,
            subscription_id: subscription.subscription_id,
        }
    }

    pub(super) fn subscription(self) -> Result<StoredSubscription, Damage> {
        if self.retain_handling > 2 {
            return Err(Damage::Body);
        }
        Ok(StoredSubscription {
            filter: self.filter.into(),
            qos: qos(self.qos)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling: self.retain_handling,
            subscription_id: self.subscription_id,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireParcel<'a> {
    qos: u8,
    retain: bool,
    subscription_ids: Vec<u32>,
    share: Option<&'a str>,
    #[serde(borrow)]
    message: WireMessage<'a>,
}

impl<'a> WireParcel<'a> {
    pub(super) fn new(parcel: &'a Parcel) -> Self {
        WireParcel {
            qos: parcel.qos.level(),
            retain: parcel.retain,
            subscription_ids: parcel.subscription_ids.to_vec(),
            share: parcel.share.as_deref(),
            message: WireMessage::new(&parcel.message),
        }
    }

    pub(super) fn parcel(self) -> Result<Parcel, Damage> {
        Ok(Parcel {
            message: Arc::new(self.message.message()?),
            qos: qos(self.qos)?,
            retain: self.retain,
            subscription_ids: self.subscription_ids.into(),
            share: self.share.map(Text::from),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireMessage<'a> {
    publisher: &'a str,
    publisher_username: Option<&'a str>,
    topic: &'a str,
    #[serde(serialize_with = "as_bytes")]
    payload: &'a [u8],
    qos: u8,
    retain: bool,
    received_at_ms: u64,
    #[serde(borrow)]
    properties: Option<Box<WireProperties<'a>>>,
    #[serde(borrow)]
    annotations: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireProperties<'a> {
    expiry_s: Option<u32>,
    payload_is_utf8: Option<bool>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    #[serde(borrow)]
    user_properties: Vec<(&'a str, &'a str)>,
}

impl<'a> WireMessage<'a> {
    pub(super) fn new(message: &'a Message) -> Self {
        WireMessage {
            publisher: &message.publisher,
            publisher_username: message.publisher_username.as_deref(),
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos.level(),
            retain: message.retain,
            received_at_ms: message.received_at_ms,
            properties: message.properties.as_deref().map(|properties| Box::new(WireProperties::new(properties))),
            annotations: pairs(&message.annotations),
        }
    }

    pub(super) fn message(self) -> Result<Message, Damage> {
        Ok(Message {
            publisher: self.publisher.into(),
            publisher_username: self.publisher_username.map(Text::from),
            topic: self.topic.into(),
            payload: Bytes::copy_from_slice(self.payload),
            qos: qos(self.qos)?,
            retain: self.retain,
            received_at_ms: self.received_at_ms,
            properties: self.properties.map(|properties| Box::new(properties.properties())),
            annotations: headers(&self.annotations),
        })
    }
}

impl<'a> WireProperties<'a> {
    pub(super) fn new(properties: &'a Properties) -> Self {
        WireProperties {
            expiry_s: properties.expiry_s,
            payload_is_utf8: properties.payload_is_utf8,
            content_type: properties.content_type.as_deref(),
            response_topic: properties.response_topic.as_deref(),
            correlation_data: properties.correlation_data.as_deref(),
            user_properties: pairs(&properties.user_properties),
        }
    }

    fn properties(self) -> Properties {
        Properties {
            expiry_s: self.expiry_s,
            payload_is_utf8: self.payload_is_utf8,
            content_type: self.content_type.map(Text::from),
            response_topic: self.response_topic.map(Text::from),
            correlation_data: self.correlation_data.map(Bytes::copy_from_slice),
            user_properties: headers(&self.user_properties),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireOwner<'a> {
    tenant: Option<&'a str>,
    guest: &'a str,
}

impl<'a> WireOwner<'a> {
    pub(super) fn new(owner: &'a Owner) -> Self {
        WireOwner { tenant: owner.tenant.as_deref(), guest: &owner.guest }
    }

    pub(super) fn owner(self) -> Owner {
        Owner::new(self.tenant, self.guest)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WirePair<'a> {
    #[serde(serialize_with = "as_bytes")]
    value: &'a [u8],
    written_at_ms: u64,
    left_ms: Option<u64>,
}

impl<'a> WirePair<'a> {
    pub(super) fn new(pair: &'a Pair) -> Self {
        WirePair { value: &pair.value, written_at_ms: pair.written_at_ms, left_ms: pair.left_ms }
    }

    pub(super) fn pair(self, key: &str) -> Pair {
        Pair { key: key.into(), value: self.value.into(), written_at_ms: self.written_at_ms, left_ms: self.left_ms }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireLedger<'a> {
    owner: u64,
    epoch: u64,
    topic: Option<&'a str>,
}

impl<'a> WireLedger<'a> {
    pub(super) fn new(ledger: &'a StoredLedger) -> Self {
        WireLedger { owner: ledger.owner, epoch: ledger.epoch, topic: ledger.topic.as_deref() }
    }

    pub(super) fn ledger(self) -> StoredLedger {
        StoredLedger { owner: self.owner, epoch: self.epoch, topic: self.topic.map(Text::from) }
    }
}

/// Byte slices would be written byte by byte; the bytes on the disk are the same.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn pairs(headers: &[Header]) -> Vec<(&str, &str)> {
    headers.iter().map(|Header { name, value }| (&**name, &**value)).collect()
}

fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
    pairs.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() }).collect()
}

fn qos(level: u8) -> Result<QoS, Damage> {
    match level {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(Damage::Body),
    }
}
