//! Says back all that it is told, for tests of the crossing: whatever is lost on the way here or back, the host misses. Imports no
//! capability.
//!
//! What happened comes back as Kafka records: the first has the context and the client, the second the case with its fields, the third
//! the message, if there is one. A publish comes back as itself, with the context and the client as headers. The other questions come
//! back as denials and challenges. A record on its way down comes back as the messages that it came with, after one that says what it was.

use hookgate_guest::prelude::*;

struct Mirror;

impl Guest for Mirror {
    fn start() -> Result<Self, String> {
        Ok(Mirror)
    }
}

impl Publish for Mirror {
    fn handle(&self, context: &Context, client: &Client, message: Message) -> Result<PublishVerdict, Fault> {
        let record = said(&message);
        Ok(Changes { headers: who(context, client), records: Some(vec![record]), message: Some(message) }.into())
    }
}

impl Events for Mirror {
    fn handle(&self, context: &Context, client: &Client, detail: Detail) -> Result<EventVerdict, Fault> {
        let first = KafkaRecord { topic: None, key: None, value: None, headers: who(context, client) };
        Ok(EventVerdict::Emit([vec![first], what(detail)].concat()))
    }
}

impl Access for Mirror {
    fn authenticate(&self, _: &Context, _: &Client, credentials: Credentials) -> Result<Answer, Fault> {
        let password = credentials.password.map(|password| password.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        Ok(Answer::deny(0x80, format!("{:?} {:?}", credentials.method, password)))
    }

    fn authorize(&self, _: &Context, _: &Client, action: Action, topic: String) -> Result<Answer, Fault> {
        Ok(match action {
            Action::Publish(as_qos) => Answer::deny(0x80 + as_qos as u8, topic),
            Action::Subscribe(as_qos) => Answer::deny(0x90 + as_qos as u8, topic),
        })
    }
}

impl EnhancedAccess for Mirror {
    fn step(&self, _: &Context, _: &Client, exchange: Exchange) -> Result<EnhancedVerdict, Fault> {
        let Exchange { method, data, round, memo, again } = exchange;
        Ok(match round {
            0 => EnhancedVerdict::Allow(data),
            _ => EnhancedVerdict::Proceed(Challenge { data, memo: [format!("{method} {round} {again} ").into_bytes(), memo].concat() }),
        })
    }
}

impl Downlink for Mirror {
    fn handle(&self, context: &Context, downlink: &str, fetched: Fetched, messages: Vec<Message>) -> Result<DownlinkVerdict, Fault> {
        let Fetched { topic, partition, offset, timestamp_ms, key, value, headers } = fetched;
        let said = Header::new("said", format!("{} {} {} {downlink}", context.id, context.time_ms, context.node));
        let place = Header::new("place", format!("{topic} {partition} {offset} {timestamp_ms:?} {key:?}"));
        let headers = headers.into_iter().map(|RecordHeader { name, value }| Header::new(name, format!("{value:?}")));
        let first = Message {
            user_properties: [said, place].into_iter().chain(headers).collect(),
            retain: value.is_none(),
            ..Message::new("said", value.unwrap_or_default())
        };
        Ok(DownlinkVerdict::publish([vec![first], messages].concat()))
    }
}

fn who(context: &Context, client: &Client) -> Vec<Header> {
    let mut headers = vec![
        Header::new("id", context.id.to_string()),
        Header::new("time", context.time_ms.to_string()),
        Header::new("node", &context.node),
        Header::new("client", &client.client_id),
        Header::new("peer", &client.peer),
        Header::new("version", client.protocol_version.to_string()),
        Header::new("connected", client.connected_at_ms.to_string()),
    ];
    headers.extend(client.username.iter().map(|name| Header::new("username", name)));
    headers.extend(client.certificate_name.iter().map(|name| Header::new("certificate", name)));
    headers
}

/// A case by name, with its fields, and its message.
fn what(detail: Detail) -> Vec<KafkaRecord> {
    let case = |name: &str, headers: Vec<Header>| vec![KafkaRecord { topic: None, key: None, value: Some(name.into()), headers }];
    let about = |name: &str, message: &Message, headers: Vec<Header>| [case(name, headers), vec![said(message)]].concat();
    match detail {
        Detail::ClientConnect(of) => case("client.connect", connection(of)),
        Detail::ClientConnack(of) => case("client.connack", closing(of)),
        Detail::ClientConnected(of) => case("client.connected", connection(of)),
        Detail::ClientDisconnected(of) => case("client.disconnected", closing(of)),
        Detail::ClientSubscribe(of) => case("client.subscribe", of.into_iter().map(subscription).collect()),
        Detail::ClientUnsubscribe(of) => case("client.unsubscribe", of.into_iter().map(|filter| Header::new(filter, "")).collect()),
        Detail::SessionCreated => case("session.created", vec![]),
        Detail::SessionSubscribed(of) => case("session.subscribed", vec![subscription(of)]),
        Detail::SessionUnsubscribed(of) => case("session.unsubscribed", vec![subscription(of)]),
        Detail::SessionResumed => case("session.resumed", vec![]),
        Detail::SessionDiscarded => case("session.discarded", vec![]),
        Detail::SessionTakenOver => case("session.takenover", vec![]),
        Detail::SessionTerminated(of) => case("session.terminated", closing(of)),
        Detail::MessageDelivered(of) => about("message.delivered", &of.message, vec![Header::new("publisher", of.publisher)]),
        Detail::MessageAcked(of) => about("message.acked", &of.message, vec![Header::new("publisher", of.publisher)]),
        Detail::MessageDropped(of) => {
            let headers = vec![Header::new("publisher", of.publisher), Header::new(of.reason, of.explanation)];
            about("message.dropped", &of.message, headers)
        }
    }
}

fn connection(of: Connection) -> Vec<Header> {
    let numbers = Header::new(of.clean_start.to_string(), format!("{} {}", of.keep_alive_s, of.session_expiry_s));
    [vec![numbers], of.user_properties].concat()
}

fn closing(of: Closing) -> Vec<Header> {
    vec![Header::new(of.reason_code.to_string(), of.reason)]
}

fn subscription(of: Subscription) -> Header {
    Header::new(of.filter, format!("{} {} {}", of.qos as u8, of.no_local, of.retain_as_published))
}

fn said(message: &Message) -> KafkaRecord {
    let mut headers = vec![
        Header::new("topic", &message.topic),
        Header::new("qos", (message.qos as u8).to_string()),
        Header::new("retain", message.retain.to_string()),
    ];
    headers.extend(message.expiry_s.iter().map(|seconds| Header::new("expiry", seconds.to_string())));
    headers.extend(message.content_type.iter().map(|text| Header::new("content", text)));
    headers.extend(message.response_topic.iter().map(|text| Header::new("response", text)));
    headers.extend(message.user_properties.iter().cloned());
    KafkaRecord { topic: Some("said".into()), key: message.correlation_data.clone(), value: Some(message.payload.clone()), headers }
}

hookgate_guest::export!(Mirror: publish, access, enhanced_access, events, downlink);
