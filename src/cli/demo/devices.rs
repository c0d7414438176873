//! The simulated fleet: locks that report and obey, and an app that sends commands good and bad.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use ring::hmac;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Event, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Packet, PubAckReason},
        },
    },
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::board::{Attempt, Board, Kind};
use crate::event::now_ms;

/// The locks of the demo; the first is the one of EMQX's smart-lock text.
pub(super) const LOCKS: &[&str] =
    &["10083618796833171", "10083618796833172", "10083618796833173", "10083618796833174", "10083618796833175"];

/// How often a lock reports; also when first, for a tick would abandon a connection that is being made.
const REPORT_EVERY: Duration = Duration::from_millis(400);
/// How often the app sends a command.
const COMMAND_EVERY: Duration = Duration::from_millis(300);
/// How old a stale command is, seconds.
const STALE_S: u64 = 120;
/// Pause before a client connects again.
const RECONNECT: Duration = Duration::from_millis(200);

fn connect(id: &str, address: SocketAddr) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(30)).set_clean_start(false).set_session_expiry_interval(Some(3600));
    AsyncClient::new(options, 64)
}

/// Says DISCONNECT and stops; polling on would connect again.
async fn leave(client: &AsyncClient, connection: &mut EventLoop) {
    let _ = client.try_disconnect(); // a full queue: the server sees the socket close
    let said = async { while !matches!(connection.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {} };
    let _ = tokio::time::timeout(RECONNECT, said).await;
}

/// Matches the packet ids that the client library chooses with what was published, in order.
#[derive(Default)]
struct InFlight {
    unnumbered: VecDeque<String>,
    numbered: HashMap<u16, String>,
}

impl InFlight {
    fn sent(&mut self, packet_id: u16) {
        // A resend after a reconnect repeats a number that is known already.
        if !self.numbered.contains_key(&packet_id)
            && let Some(id) = self.unnumbered.pop_front()
        {
            self.numbered.insert(packet_id, id);
        }
    }
}

/// One lock: reports its state, and takes commands until `stop`; then waits for its last acknowledgements.
pub(super) async fn lock(id: &'static str, address: SocketAddr, board: Arc<Board>, mut stop: watch::Receiver<bool>) {
    let (client, mut connection) = connect(id, address);
    let mut tick = tokio::time::interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    let (mut in_flight, mut number) = (InFlight::default(), 0_u64);
    let _ = client.try_subscribe(format!("devices/{id}/command"), QoS::AtLeastOnce);
    loop {
        let stopping = *stop.borrow();
        if stopping && in_flight.numbered.is_empty() && in_flight.unnumbered.is_empty() && board.lock_may_leave(id) {
            return leave(&client, &mut connection).await;
        }
        tokio::select! {
            event = connection.poll() => match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => board.lock_ready(),
                Ok(Event::Incoming(Packet::Publish(publish))) => board.command_reached(id, &publish.payload),
                Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => in_flight.sent(packet_id),
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    if let Some(report) = in_flight.numbered.remove(&ack.pkid) {
                        board.report_acknowledged(report);
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RECONNECT).await,
            },
            _ = tick.tick() => {
                if stopping {
                    continue; // to look whether it may leave
                }
                number += 1;
                let report = format!("{id}-{number}");
                let battery = 100.0 - (number % 20) as f64 * 5.0;
                let state = json!({
                    "process_id": report, "action": "report", "battery": battery, "lock_state": number % 2, "version": 1.1, "client_id": id,
                });
                if client.try_publish(format!("devices/{id}/state"), QoS::AtLeastOnce, false, state.to_string()).is_ok() {
                    in_flight.unnumbered.push_back(report);
                }
            }
            _ = stop.changed(), if !stopping => {}
        }
    }
}

/// Signs a command as the flagship guest expects: HMAC-SHA256 over the other fields sorted by name, the first 16 hex digits.
pub(super) fn command(key: &hmac::Key, process_id: &str, action: &str, nonce: &str, ts_s: u64, forged: bool) -> String {
    let signed = if forged { "lock" } else { action };
    let text = format!("action={signed}&nonce_str={nonce}&process_id={process_id}&ts={ts_s}");
    let tag = hmac::sign(key, text.as_bytes());
    let sign: String = tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    json!({ "process_id": process_id, "action": action, "nonce_str": nonce, "ts": ts_s, "sign": sign }).to_string()
}

/// The app: good, forged, stale and replayed commands in turn, each waiting for its answer, until `stop`.
pub(super) async fn app(address: SocketAddr, key: hmac::Key, board: Arc<Board>, mut stop: watch::Receiver<bool>) {
    let (client, mut connection) = connect("app-1", address);
    let mut tick = tokio::time::interval_at(Instant::now() + COMMAND_EVERY, COMMAND_EVERY);
    let (mut number, mut last_good) = (0_usize, (0, String::new(), String::new()));
    let mut open: Option<Attempt> = None;
    loop {
        let stopping = *stop.borrow();
        if stopping && open.is_none() {
            leave(&client, &mut connection).await;
            return board.app_left();
        }
        tokio::select! {
            event = connection.poll() => match event {
                Ok(Event::Incoming(Packet::PubAck(ack))) => if let Some(attempt) = open.take() {
                    let words = ack.properties.and_then(|properties| properties.reason_string);
                    board.answered(attempt, matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers), words);
                },
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RECONNECT).await,
            },
            _ = tick.tick() => {
                if stopping || open.is_some() || !board.locks_are_ready() {
                    continue;
                }
                let kind = *Kind::ALL.get(number % Kind::ALL.len()).unwrap_or(&Kind::Good);
                let (lock, id, payload) = match kind {
                    Kind::Replayed => last_good.clone(),
                    _ => {
                        let lock = number / Kind::ALL.len() % LOCKS.len();
                        let id = format!("{:016}", now_ms() * 1_000 + number as u64);
                        let ts = now_ms() / 1_000 - if kind == Kind::Stale { STALE_S } else { 0 };
                        let action = if number % 8 < 4 { "unlock" } else { "open" };
                        let payload = command(&key, &id, action, &format!("n{number:07}"), ts, kind == Kind::Forged);
                        (lock, id, payload)
                    }
                };
                if kind == Kind::Good {
                    last_good = (lock, id.clone(), payload.clone());
                }
                let lock = LOCKS.get(lock).copied().unwrap_or_default();
                if client.try_publish(format!("devices/{lock}/command"), QoS::AtLeastOnce, false, payload).is_ok() {
                    open = Some(Attempt { lock, process_id: id, kind });
                    number += 1;
                }
            }
            _ = stop.changed(), if !stopping => {}
        }
    }
}
