//! Every hook exactly when it happens and as often: whole lives of clients, read back from Kafka, and counted without it.

use std::time::Duration;

use hookgate::hook::{Hook, Kind};
use serde_json::Value;

use super::{
    broker::Running,
    wire::{Connect, PATIENCE, Packet, Wire, packet, properties, text},
};
use crate::support::{Gate, json, records};

/// A gate that writes every hook that observes, and `message.publish`, into one Kafka topic.
async fn observed() -> Gate {
    let hooks = Hook::ALL.iter().filter(|hook| hook.kind() != Kind::Access);
    let tables: String = hooks.map(|hook| format!("[[route]]\nhook = \"{hook}\"\ntopic = \"life\"\n")).collect();
    Gate::start(&tables, &[]).await
}

/// What happened to `client`, in order, until there are `count` events of everybody.
async fn life(gate: &Gate, client: &str, count: usize) -> Vec<String> {
    let all: Vec<Value> = records(&gate.kafka(), &["life"], count).await.iter().map(json).collect();
    assert_eq!(all.len(), count, "{:#?}", all.iter().map(line).collect::<Vec<_>>());
    all.iter().filter(|event| event["client"]["client_id"] == client).map(line).collect()
}

/// The hook, and the word that says most about it.
fn line(event: &Value) -> String {
    let words =
        [&event["reason"], &event["filter"], &event["subscriptions"][0]["filter"], &event["filters"][0], &event["message"]["topic"]];
    let word = words.into_iter().find_map(Value::as_str).unwrap_or_default();
    format!("{} {word}", event["hook"].as_str().unwrap_or("no hook")).trim_end().to_owned()
}

async fn enter(gate: &Gate, connect: Connect) -> Wire {
    Wire::connect_at(gate.address(), connect).await.0
}

async fn leave(mut wire: Wire, bytes: &[u8]) {
    wire.send(bytes).await;
    while wire.receive_or_end().await.is_some() {}
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

fn kept(name: &str, expiry_s: u8) -> Connect {
    Connect { clean: false, properties: vec![0x11, 0, 0, 0, expiry_s], ..Connect::v5(name) }
}

/// Subscribes, receives its own message, unsubscribes and says goodbye.
async fn live(mut wire: Wire) {
    wire.subscribe(1, "t", 1).await;
    wire.publish(2, 2, "t", "x").await;
    // The acknowledgement and the message come in either order.
    let mut both: Vec<Packet> = vec![wire.receive().await, wire.receive().await];
    both.sort_by_key(Packet::kind);
    wire.ack(4, both[0].publish(true).id).await;
    wire.send(&packet(0xA2, &[&[0, 3], &properties(&[]), &text("t")])).await;
    assert_eq!(wire.receive().await.kind(), 11);
    leave(wire, &[0xE0, 0]).await;
}

const IN: [&str; 4] = ["client.connect", "session.created", "client.connected", "client.connack success"];
const BACK: [&str; 4] = ["client.connect", "session.resumed", "client.connected", "client.connack success"];

#[tokio::test]
async fn a_whole_life_in_order() {
    let gate = observed().await;
    live(enter(&gate, Connect::v5("a")).await).await;
    let expected = [
        &IN[..],
        &["client.subscribe t", "session.subscribed t"],
        &["message.publish t", "message.delivered t", "message.acked t"],
        &["client.unsubscribe t", "session.unsubscribed t", "client.disconnected normal", "session.terminated normal"],
    ];
    assert_eq!(life(&gate, "a", 13).await, expected.concat());
}

#[tokio::test]
async fn a_session_is_taken_over_then_thrown_away() {
    let gate = observed().await;
    let mut first = enter(&gate, kept("b", 100)).await;
    first.subscribe(1, "t", 1).await;
    let mut second = enter(&gate, kept("b", 100)).await;
    first.expect_end(0x8E).await;
    let mut third = enter(&gate, Connect::v5("b")).await;
    second.expect_end(0x8E).await;
    // Neither a clean start nor an expiry interval: the former session ends, but nobody threw it away.
    let fourth = enter(&gate, Connect { clean: false, ..Connect::v5("b") }).await;
    third.expect_end(0x8E).await;
    leave(fourth, &[0xE0, 1, 0x80]).await;
    let expected = [
        &IN[..],
        &["client.subscribe t", "session.subscribed t"],
        &["client.connect", "session.takenover", "client.disconnected taken-over"],
        &BACK[1..],
        &["client.connect", "client.disconnected discarded", "session.discarded"],
        &IN[1..],
        &["client.connect", "client.disconnected taken-over", "session.terminated taken-over"],
        &IN[1..],
        &["client.disconnected closed-by-client", "session.terminated closed-by-client"],
    ];
    assert_eq!(life(&gate, "b", 26).await, expected.concat());
}

#[tokio::test]
async fn a_waiting_session_is_resumed_thrown_away_or_expires() {
    let gate = observed().await;
    let away = || until("it is gone", || gate.bridge.metrics().connections.get() == 0);
    let mut wire = enter(&gate, kept("c", 100)).await;
    wire.subscribe(1, "t", 1).await;
    drop(wire);
    away().await;
    drop(enter(&gate, kept("c", 100)).await);
    away().await;
    let mut sender = enter(&gate, Connect::v4("sender")).await;
    sender.publish(2, 1, "t", "x").await;
    assert_eq!(sender.receive().await.kind(), 4);
    leave(sender, &[0xE0, 0]).await;
    let short = Connect { clean: true, ..kept("c", 1) };
    drop(enter(&gate, short).await);
    until("it has expired", || gate.bridge.metrics().sessions.get() == 0).await;
    let lost = ["client.disconnected connection-lost"];
    let expected = [
        &IN[..],
        &["client.subscribe t", "session.subscribed t"],
        &lost,
        &BACK,
        &lost,
        &["client.connect", "message.dropped session-ended", "session.discarded"],
        &IN[1..],
        &lost,
        &["session.terminated expired"],
    ];
    assert_eq!(life(&gate, "c", 27).await, expected.concat());
}

#[tokio::test]
async fn refusals_and_an_abrupt_end_with_a_will() {
    let gate = observed().await;
    let will = |topic: &str| Some((topic.to_owned(), b"gone".to_vec(), 1, false, Vec::new()));
    let mut refused = Wire::open_at(gate.address()).await;
    refused.send(&Connect { will: will("$SYS/x"), ..Connect::v5("d") }.bytes()).await;
    assert_eq!(refused.receive().await.body[1], 0x90);
    assert_eq!(refused.receive_or_end().await, None);
    // What cannot be read introduces nobody: no event.
    let mut malformed = Wire::open_at(gate.address()).await;
    malformed.send(&Connect::v5("d\0").bytes()).await;
    while malformed.receive_or_end().await.is_some() {}
    drop(enter(&gate, Connect { will: will("last/words"), ..Connect::v5("d") }).await);
    let expected = [
        &["client.connect", "client.connack protocol-error"],
        &IN[..],
        &["client.disconnected connection-lost", "message.publish last/words", "message.dropped no-subscribers"],
        &["session.terminated connection-lost"],
    ];
    assert_eq!(life(&gate, "d", 10).await, expected.concat());
}

#[tokio::test]
async fn events_that_nobody_wants_are_counted_all_the_same() {
    let broker = Running::start().await;
    live(Wire::connect(&broker, Connect::v5("a")).await).await;
    let _stays = Wire::connect(&broker, kept("b", 100)).await;
    until("the first has left", || broker.metrics.sessions.get() == 1).await;
    let metrics = broker.metrics.clone();
    let count = |hook: Hook| metrics.hook_events.get_or_create(&hook.name().into()).get();
    let one_each = [
        Hook::ClientDisconnected,
        Hook::ClientSubscribe,
        Hook::SessionSubscribed,
        Hook::MessagePublish,
        Hook::MessageDelivered,
        Hook::MessageAcked,
        Hook::ClientUnsubscribe,
        Hook::SessionUnsubscribed,
        Hook::SessionTerminated,
    ];
    for hook in Hook::ALL {
        let expected = match hook {
            Hook::ClientConnect | Hook::ClientAuthenticate | Hook::SessionCreated | Hook::ClientConnected | Hook::ClientConnack => 2,
            hook if one_each.contains(hook) => 1,
            _ => 0,
        };
        assert_eq!(count(*hook), expected, "{hook}");
    }
    // The end of the process ends what is kept in memory only.
    assert!(broker.broker.drain(PATIENCE).await, "in time");
    assert_eq!((count(Hook::SessionCreated), count(Hook::SessionTerminated), metrics.sessions.get()), (2, 2, 0));
}

/// Clients that come, go, take over, begin anew, vanish and are thrown out, in an order that a seed decides.
#[tokio::test]
async fn counts_add_up_whatever_clients_do() {
    let broker = Running::start().await;
    let operator = broker.broker.inspector();
    let mut random = fastrand::Rng::with_seed(4);
    let mut wires: Vec<Wire> = Vec::new();
    for id in 1..400 {
        let name = format!("c{}", random.u8(..4));
        match random.u8(..8) {
            0..4 => {
                let connect = Connect { clean: random.bool(), ..kept(&name, random.choice([0, 100]).unwrap_or(0)) };
                let mut wire = Wire::connect(&broker, connect).await;
                wire.subscribe(id, "t", 1).await;
                wires.push(wire);
            }
            4 if !wires.is_empty() => drop(wires.swap_remove(random.usize(..wires.len()))),
            5 if !wires.is_empty() => {
                let mut wire = wires.swap_remove(random.usize(..wires.len()));
                wire.try_send(&[0xE0, 0]).await;
            }
            6 => drop(operator.kick(&name, random.bool()).await),
            7 => drop(operator.end_session(&name).await),
            _ => {}
        }
    }
    drop(wires);
    until("all are gone", || broker.metrics.connections.get() == 0).await;
    let count = |hook: Hook| broker.metrics.hook_events.get_or_create(&hook.name().into()).get();
    until("the last has said so", || count(Hook::ClientDisconnected) == count(Hook::ClientConnected)).await;
    let ended = || count(Hook::SessionDiscarded) + count(Hook::SessionTerminated);
    until("every session has ended or is alive", || {
        ended() + u64::try_from(broker.metrics.sessions.get()).unwrap() == count(Hook::SessionCreated)
    })
    .await;
    assert_eq!(count(Hook::ClientConnect), count(Hook::ClientConnack));
    assert_eq!(count(Hook::ClientConnect), count(Hook::ClientConnected));
    assert_eq!(count(Hook::ClientConnected), count(Hook::SessionCreated) + count(Hook::SessionResumed));
    assert!(
        count(Hook::SessionResumed) > 10 && count(Hook::SessionDiscarded) > 10 && count(Hook::SessionTakenOver) > 10,
        "all of it happened"
    );
    let metrics = broker.metrics.clone();
    assert!(broker.broker.drain(PATIENCE).await, "in time");
    let count = |hook: Hook| metrics.hook_events.get_or_create(&hook.name().into()).get();
    assert_eq!(count(Hook::SessionDiscarded) + count(Hook::SessionTerminated), count(Hook::SessionCreated));
    assert_eq!((metrics.sessions.get(), metrics.subscriptions.get()), (0, 0));
}
