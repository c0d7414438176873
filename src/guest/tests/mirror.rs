//! Everything that an event holds reaches a guest and comes back: through the conversions, WebAssembly, the SDK and its allocator. The
//! guest says back what it is told; here stands what it must have been told.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    arbitrary::{actions, bytes, clients, credentials, details, fetched, messages, text},
    *,
};

/// Events that are sent to and fro; each takes a millisecond in a build without optimization.
const CASES: u32 = 100;

fn header(name: impl AsRef<str>, value: impl AsRef<str>) -> Header {
    Header { name: name.as_ref().into(), value: value.as_ref().into() }
}

fn who(asked: &Asked<'_>, client: &Client) -> Vec<Header> {
    let mut headers = vec![
        header("id", asked.id.to_string()),
        header("time", asked.time_ms.to_string()),
        header("node", asked.node),
        header("client", &client.client_id),
        header("peer", client.peer.address().to_string()),
        header("version", client.protocol_version.to_string()),
        header("connected", client.connected_at_ms.to_string()),
    ];
    headers.extend(client.username.iter().map(|name| header("username", name)));
    headers.extend(client.certificate_name.iter().map(|name| header("certificate", name)));
    headers
}

fn said(message: &Message, qos: QoS) -> KafkaRecord {
    let mut headers =
        vec![header("topic", &message.topic), header("qos", qos.level().to_string()), header("retain", message.retain.to_string())];
    let mut key = None;
    if let Some(properties) = &message.properties {
        headers.extend(properties.expiry_s.iter().map(|seconds| header("expiry", seconds.to_string())));
        headers.extend(properties.content_type.iter().map(|text| header("content", text)));
        headers.extend(properties.response_topic.iter().map(|text| header("response", text)));
        headers.extend(properties.user_properties.iter().cloned());
        key = properties.correlation_data.clone();
    }
    KafkaRecord { topic: Some("said".into()), key, value: Some(message.payload.clone()), headers }
}

/// The case by name, with its fields, and its message.
fn what(detail: &Detail) -> Vec<KafkaRecord> {
    let connection = |of: &Connection| {
        let numbers = header(of.clean_start.to_string(), format!("{} {}", of.keep_alive_s, of.session_expiry_s));
        [vec![numbers], of.user_properties.clone()].concat()
    };
    let closing = |of: &Closing| vec![header(of.reason_code.to_string(), &of.reason)];
    let subscription = |of: &Subscription| header(&of.filter, format!("{} {} {}", of.qos.level(), of.no_local, of.retain_as_published));
    let publisher = |message: &Message| header("publisher", &message.publisher);
    let (headers, message) = match detail {
        Detail::ClientConnect(of) | Detail::ClientConnected(of) => (connection(of), None),
        Detail::ClientConnack(of) | Detail::ClientDisconnected(of) | Detail::SessionTerminated(of) => (closing(of), None),
        Detail::ClientSubscribe(of) => (of.iter().map(subscription).collect(), None),
        Detail::ClientUnsubscribe(of) => (of.iter().map(|filter| header(filter, "")).collect(), None),
        Detail::SessionSubscribed(of) | Detail::SessionUnsubscribed(of) => (vec![subscription(of)], None),
        Detail::MessageDelivered(of) | Detail::MessageAcked(of) => (vec![publisher(&of.message)], Some(said(&of.message, of.qos))),
        Detail::MessageDropped(of) => {
            (vec![publisher(&of.message), header(of.reason.name(), &of.explanation)], Some(said(&of.message, of.message.qos)))
        }
        _ => (vec![], None),
    };
    let case = KafkaRecord { value: Some(detail.hook().name().into()), headers, ..KafkaRecord::default() };
    [case].into_iter().chain(message).collect()
}

/// A mirror, and what runs its calls.
struct Glass {
    runtime: tokio::runtime::Runtime,
    mirror: Loaded,
}

impl Glass {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limits = "limits = { deadline_ms = 60000, returned_bytes = 20000000 }";
        let mirror = runtime.block_on(async { load(&Engine::new(&Runtime::default()).unwrap(), "mirror", limits).await.unwrap() });
        Glass { runtime, mirror }
    }

    /// Sends what the strategy makes.
    fn hold_to<S: Strategy>(&self, strategy: S, judge: impl Fn(&Self, S::Value) -> Result<(), TestCaseError>) {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        runner.run(&strategy, |value| judge(self, value)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn every_hook_that_observes_is_mirrored() {
    Glass::new().hold_to((any::<(u64, u64)>(), text(), clients(), details()), |glass, ((id, time_ms), node, client, details)| {
        let asked = Asked::new(id, time_ms, &node);
        let client = Arc::new(client);
        let mut hooks: Vec<Hook> = details.iter().map(|detail| detail.hook()).collect();
        for detail in details {
            let event = Event { id, time_ms, client: Arc::clone(&client), detail };
            let first = KafkaRecord { headers: who(&asked, &client), ..KafkaRecord::default() };
            let expected = [vec![first], what(&event.detail)].concat();
            let verdict = glass.runtime.block_on(glass.mirror.guest.observe(asked, &event));
            prop_assert_eq!(verdict, Ok(ObserveVerdict::Emit(expected)));
        }
        hooks.sort_by_key(|hook| hook.name());
        hooks.dedup();
        prop_assert_eq!(hooks.len(), Hook::ALL.iter().filter(|hook| hook.kind() == Kind::Observe).count());
        Ok(())
    });
}

#[test]
fn a_publish_is_mirrored() {
    let (packed, mut records) = (Glass::new(), Glass::new());
    Arc::get_mut(&mut records.mirror.guest).unwrap().forget_packing();
    for (glass, ways) in [(packed, (true, true)), (records, (false, true))] {
        assert_eq!(glass.mirror.guest.ways_to_publish(), ways);
        publish_is_mirrored(&glass);
    }
}

fn publish_is_mirrored(glass: &Glass) {
    glass.hold_to((any::<(u64, u64)>(), text(), clients(), messages()), |glass, ((id, time_ms), node, client, message)| {
        let asked = Asked::new(id, time_ms, &node);
        let expected =
            Changes { headers: who(&asked, &client), records: Some(vec![said(&message, message.qos)]), message: Some(message.clone()) };
        let verdict = glass.runtime.block_on(glass.mirror.guest.publish(asked, &Arc::new(client), &Arc::new(message)));
        prop_assert_eq!(verdict, Ok(PublishVerdict::Change(expected)));
        Ok(())
    });
}

#[test]
fn questions_about_a_client_are_mirrored() {
    let denied = |reason_code, reason: &str| Ok(Answer::Deny(Denial { reason_code, reason: reason.into() }));
    Glass::new().hold_to((clients(), credentials(), actions(), text()), |glass, (client, credentials, action, topic)| {
        let client = Arc::new(client);
        let guest = &glass.mirror.guest;
        let password = credentials.password.as_ref().map(|password| password.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let said = format!("{:?} {password:?}", credentials.method.as_deref());
        let answer = glass.runtime.block_on(guest.authenticate(ASKED, &client, &credentials));
        if said.len() <= usize::from(u16::MAX) {
            prop_assert_eq!(answer, denied(0x80, &said));
        } else {
            prop_assert_eq!(answer.map_err(|failure| failure.reason()), Err("invalid-verdict"), "no packet can carry it");
        }
        let base = if matches!(action, Action::Publish(_)) { 0x80 } else { 0x90 };
        let answer = glass.runtime.block_on(guest.authorize(ASKED, &client, action, &topic));
        prop_assert_eq!(answer, denied(base + action.qos().level(), &topic));
        Ok(())
    });
}

#[test]
fn a_round_of_an_exchange_is_mirrored() {
    let rounds = (text(), proptest::option::of(bytes()), 0u32..3, prop::collection::vec(any::<u8>(), 0..100), any::<bool>());
    Glass::new().hold_to((clients(), rounds), |glass, (client, (method, data, number, memo, again))| {
        let round = Round { method: &method, data: data.as_deref(), number, memo: &memo, again };
        let verdict = glass.runtime.block_on(glass.mirror.guest.step(ASKED, &Arc::new(client), round));
        let memo = [format!("{method} {number} {again} ").as_bytes(), &memo].concat().into();
        prop_assert_eq!(verdict, Ok(if number == 0 { ExchangeVerdict::Allow(data) } else { ExchangeVerdict::Proceed { data, memo } }));
        Ok(())
    });
}

#[test]
fn a_record_on_its_way_down_is_mirrored() {
    let records = (any::<(u64, u64)>(), "[a-z]{1,8}", fetched(), prop::collection::vec(messages(), 0..3));
    Glass::new().hold_to(records, |glass, ((id, time_ms), downlink, fetched, messages)| {
        let asked = Asked::new(id, time_ms, "n1");
        let publisher = Text::from(format!("$downlink/{downlink}"));
        // As the host makes them: nobody promised anything about their payload.
        let own = |message: Message| {
            let properties = message.properties.map(|properties| Properties { payload_is_utf8: None, ..*properties });
            Message {
                publisher: publisher.clone(),
                publisher_username: None,
                received_at_ms: 5,
                properties: properties.filter(|properties| *properties != Properties::default()).map(Box::new),
                annotations: Vec::new(),
                ..message
            }
        };
        let messages: Vec<Message> = messages.into_iter().map(own).collect();
        let vec = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        let Fetched { topic, partition, offset, timestamp_ms, key, value, headers } = &fetched;
        let said = header("said", format!("{id} {time_ms} n1 {downlink}"));
        let place = header("place", format!("{topic} {partition} {offset} {timestamp_ms:?} {:?}", vec(key)));
        let headers = headers.iter().map(|of| header(&of.name, format!("{:?}", vec(&of.value))));
        let user_properties = [said, place].into_iter().chain(headers).collect();
        let first = Message {
            publisher: publisher.clone(),
            publisher_username: None,
            topic: "said".into(),
            payload: value.clone().unwrap_or_default(),
            qos: QoS::AtLeastOnce,
            retain: value.is_none(),
            received_at_ms: 5,
            properties: Some(Box::new(Properties { user_properties, ..Properties::default() })),
            annotations: Vec::new(),
        };
        let expected = [vec![first], messages.clone()].concat();
        let descent = Descent { downlink: downlink.as_str().into(), publisher: publisher.clone(), received_at_ms: 5, fetched, messages };
        let verdict = glass.runtime.block_on(glass.mirror.guest.descend(asked, &Arc::new(descent)));
        prop_assert_eq!(verdict, Ok(DescentVerdict::Publish(expected)));
        Ok(())
    });
}

/// The same walls as around every other call.
#[tokio::test]
async fn questions_about_records_are_answered_or_fail() {
    let engine = Engine::new(&Runtime::default()).unwrap();
    let fetched = Fetched { topic: "t".into(), partition: 0, offset: 0, timestamp_ms: None, key: None, value: None, headers: Vec::new() };
    let descent = Arc::new(Descent { downlink: "d".into(), publisher: "p".into(), received_at_ms: 0, fetched, messages: Vec::new() });
    for (mode, limits, expected) in [
        ("pass", "", Ok(DescentVerdict::Pass)),
        ("drop", "", Ok(DescentVerdict::Drop("hostile: dropped as told".into()))),
        ("trap", "", Err("trap")),
        ("loop", "deadline_ms = 10", Err("deadline")),
        ("fault-retry", "", Err("fault-retry")),
        ("invalid-topic", "", Err("invalid-verdict")),
        ("return-records", "deadline_ms = 60000", Err("too-many-records")),
        ("return-64mib", "memory_bytes = 200000000, deadline_ms = 60000", Err("returned-too-much")),
    ] {
        let loaded = hostile(&engine, mode, limits).await.unwrap();
        let verdict = loaded.guest.descend(ASKED, &descent).await.map_err(|failure| failure.reason());
        assert_eq!(verdict, expected, "{mode}");
    }
    let without = load(&engine, "identity", "").await.unwrap();
    assert!(!without.guest.descends());
    assert_eq!(without.guest.descend(ASKED, &descent).await, Err(Failure::NotExported("downlink")));
}
