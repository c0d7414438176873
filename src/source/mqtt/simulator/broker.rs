//! The broker around the real sessions, subscriptions, mailboxes and retained messages: the thinnest counterpart of `connection`, the
//! pipeline, Kafka and the bus, with the simulated clock.

mod line;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{
    ledger::{Held, Key, Ledger, device_of, key_of},
    stage::Stage,
};
use crate::{
    config::Mqtt,
    event::{Client, Detail, Message, Receipt, Text},
    metrics::Metrics,
    source::mqtt::{
        codec::Codec,
        mailbox::{Mailbox, Parcel},
        packet::{Incoming, Outgoing, Subscribe},
        reason::Fault,
        retained::Retained,
        session::{Granted, Output, Session, Wanted, connect::Terms, keepalive::KeepAlive},
        sessions::{Handover, Sessions, Tenancy},
        subscriptions::Subscriptions,
    },
};

const WANTED: Wanted = Wanted { delivered: true, acked: true, authorize: false, once: false };

/// Where a connection is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    Greeting,
    /// Another connection has its session.
    Waiting(oneshot::Receiver<Handover>),
    Open,
    /// The link is gone; what was read is finished.
    Closing,
}

/// A publish on its way through the pipeline.
type Work = (Box<Message>, Option<u64>, Receipt);

/// What a connection knows once its client has introduced itself.
pub(super) struct Guest {
    pub(super) device: usize,
    pub(super) client: Arc<Client>,
    pub(super) terms: Terms,
    pub(super) tenancy: Tenancy,
    pub(super) keep_alive: KeepAlive,
    pub(super) session: Option<Box<Session>>,
    pub(super) former_mailbox: Option<Arc<Mailbox>>,
    pub(super) predecessor: Option<oneshot::Receiver<()>>,
    pub(super) successor: Option<oneshot::Sender<()>>,
    pub(super) lane: std::collections::VecDeque<Work>,
    retained: Vec<(Option<Key>, u8)>,
}

/// One connection.
pub(super) struct Conn {
    pub(super) link: u64,
    pub(super) phase: Phase,
    pub(super) codec: Codec,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    pub(super) ended: bool,
    pub(super) guest: Option<Box<Guest>>,
}

/// How an open connection ends.
pub(super) struct End {
    pub(super) with_will: bool,
}

/// The broker.
pub(super) struct Broker {
    pub(super) limits: Arc<Mqtt>,
    pub(super) subscriptions: Subscriptions,
    pub(super) retained: Retained,
    pub(super) sessions: Sessions,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) links: BTreeMap<usize, Vec<u64>>,
    bus: BTreeMap<usize, u64>,
    /// When the agenda will be looked at.
    pub(super) look_ms: Option<u64>,
    /// Links that were ever used: what still comes over one that is closed is thrown away.
    seen: BTreeSet<u64>,
}

impl Guest {
    pub(super) fn new(client: Arc<Client>, terms: Terms, tenancy: Tenancy, stage: &Stage) -> Box<Self> {
        Box::new(Guest {
            device: device_of(&client.client_id),
            keep_alive: KeepAlive::new(terms.keep_alive_s, stage.now()),
            client,
            terms,
            tenancy,
            session: None,
            former_mailbox: None,
            predecessor: None,
            successor: None,
            lane: std::collections::VecDeque::new(),
            retained: Vec::new(),
        })
    }
}

impl Broker {
    pub(super) fn new(limits: Mqtt) -> Self {
        Broker {
            subscriptions: Subscriptions::default(),
            retained: Retained::new(limits.max_retained_messages, Metrics::new(), None),
            limits: Arc::new(limits),
            sessions: Sessions::new(),
            conns: BTreeMap::new(),
            links: BTreeMap::new(),
            bus: BTreeMap::new(),
            look_ms: None,
            seen: BTreeSet::new(),
        }
    }

    /// Bytes from a device, or the end of its link.
    pub(super) fn take(&mut self, link: u64, bytes: Option<Vec<u8>>, stage: &mut Stage, ledger: &mut Ledger) {
        if self.seen.contains(&link) && !self.conns.contains_key(&link) {
            return; // it is closed
        }
        self.seen.insert(link);
        let mut conn = self.conns.remove(&link).unwrap_or_else(|| Conn {
            link,
            phase: Phase::Greeting,
            codec: Codec::new(self.limits.max_packet_bytes),
            input: BytesMut::new(),
            output: BytesMut::new(),
            ended: false,
            guest: None,
        });
        conn.ended |= bytes.is_none();
        if !matches!(conn.phase, Phase::Closing) {
            conn.input.extend_from_slice(&bytes.unwrap_or_default());
        }
        match conn.phase {
            Phase::Greeting if conn.ended => {}
            Phase::Greeting => self.greet(conn, stage, ledger),
            Phase::Open => {
                if let Some(guest) = &mut conn.guest {
                    guest.keep_alive.heard(stage.now());
                }
                self.pump(conn, stage, ledger);
            }
            Phase::Waiting(_) | Phase::Closing => drop(self.conns.insert(link, conn)),
        }
    }

    /// Lets the connection of a device take in what is there.
    pub(super) fn wake(&mut self, device: usize, stage: &mut Stage, ledger: &mut Ledger) {
        for link in self.links.get(&device).cloned().unwrap_or_default() {
            if self.conns.get(&link).is_some_and(|conn| matches!(conn.phase, Phase::Open))
                && let Some(mut conn) = self.conns.remove(&link)
            {
                conn.guest.iter_mut().filter_map(|guest| guest.session.as_mut()).for_each(|session| session.has_mail());
                self.pump(conn, stage, ledger);
            }
        }
    }

    /// Takes in what is there, writes what there is to write, and closes if it must.
    pub(super) fn pump(&mut self, mut conn: Conn, stage: &mut Stage, ledger: &mut Ledger) {
        let end = loop {
            let end = match self.step(&mut conn, stage, ledger) {
                Ok(end) => end,
                Err(fault) => Some(fail(&mut conn, &fault)),
            };
            let wrote = !conn.output.is_empty();
            flush(&mut conn, stage);
            // What was written wakes the connection once more: it may have stopped taking packets, and may go on now.
            if end.is_some() || !wrote {
                break end;
            }
        };
        let end = end.or_else(|| (conn.ended && !is_behind(&conn)).then_some(End { with_will: true }));
        match end {
            Some(end) => self.close(conn, &end, stage, ledger),
            None => {
                conn.guest.iter().filter_map(|guest| guest.session.as_ref()).for_each(|session| session.check());
                self.conns.insert(conn.link, conn);
            }
        }
    }

    fn step(&mut self, conn: &mut Conn, stage: &mut Stage, ledger: &mut Ledger) -> Result<Option<End>, Fault> {
        let mut outputs = Vec::new();
        while !is_behind(conn) {
            let Some(packet) = conn.codec.decode(&mut conn.input)? else { break };
            let Some(guest) = &mut conn.guest else { break };
            let Some(session) = &mut guest.session else { break };
            guest.retained.extend(announce(guest.device, &packet, stage, ledger));
            let handled = session.handle(packet, stage.now_ms, WANTED, &mut outputs);
            if let Some(end) = self.apply(conn, &mut outputs, stage, ledger) {
                return Ok(Some(end));
            }
            handled?;
        }
        loop {
            let Some(session) = conn.guest.as_mut().and_then(|guest| guest.session.as_mut()) else { return Ok(None) };
            let room_bytes = if stage.rng.u32(0..4) == 0 { 200 } else { 100_000 };
            let advanced = session.advance(stage.now_ms, room_bytes, WANTED, &mut outputs);
            let more = session.can_deliver();
            self.apply(conn, &mut outputs, stage, ledger);
            advanced?;
            if !more {
                return Ok(None);
            }
        }
    }

    fn apply(&mut self, conn: &mut Conn, outputs: &mut Vec<Output>, stage: &mut Stage, ledger: &mut Ledger) -> Option<End> {
        let mut end = None;
        for output in outputs.drain(..) {
            let guest = conn.guest.as_mut().expect("it is open");
            match output {
                Output::Send(packet) => conn.codec.encode(packet, &mut conn.output).expect("it fits"),
                Output::Publish { message, number, receipt, .. } => {
                    guest.lane.push_back((message, number, receipt));
                    if guest.lane.len() == 1 {
                        line::judge_later(conn.link, stage);
                    }
                }
                Output::Observe(Detail::MessageDropped(dropping)) => {
                    ledger.dropped(guest.device, &dropping.message, dropping.reason, stage.now_ms);
                }
                Output::Observe(_) => {}
                Output::Persist(_) | Output::Barrier => unreachable!("there is no store"),
                Output::Authorize { .. } | Output::Prove { .. } => unreachable!("nobody is asked"),
                Output::Subscribe { filter, granted, retained, .. } => self.subscribe(guest, &filter, granted, retained, stage, ledger),
                Output::Unsubscribe(filter) => {
                    let session = guest.session.as_ref().expect("it is open");
                    self.subscriptions.remove(&filter, session.number());
                }
                Output::Goodbye { with_will, .. } => end = Some(End { with_will }),
            }
        }
        end
    }

    fn subscribe(&self, guest: &mut Guest, filter: &Text, granted: Granted, retained: bool, stage: &Stage, ledger: &mut Ledger) {
        let session = guest.session.as_ref().expect("it is open");
        self.subscriptions.insert(filter, session.number(), session.mailbox(), granted);
        let mut expected = std::mem::take(&mut guest.retained);
        let mut matching = if retained { self.retained.matching(filter, stage.now_ms) } else { Vec::new() };
        matching.retain(|message| !(granted.options.no_local && message.publisher == guest.client.client_id));
        matching.sort_by(|a, b| a.topic.cmp(&b.topic));
        let mut found: Vec<_> =
            matching.iter().map(|message| (key_of(&message.payload), message.qos.min(granted.options.qos).level())).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "device {}: retained messages under {filter}", guest.device);
        for message in matching {
            let qos = message.qos.min(granted.options.qos);
            ledger.owe(guest.device, &message, qos.level(), true);
            let parcel =
                Parcel { message, qos, retain: true, subscription_ids: granted.subscription_id.into_iter().collect(), share: None };
            if let Err(rejected) = session.mailbox().push(parcel) {
                ledger.dropped(guest.device, &rejected.parcel.message, rejected.reason, stage.now_ms);
            }
        }
    }

    /// Everything is quiet: no connection but one per device, and nothing unfinished in any session.
    pub(super) fn is_quiet(&self) {
        // Of some, only the beginning of CONNECT has come.
        for conn in self.conns.values().filter(|conn| conn.guest.is_some()) {
            let guest = conn.guest.as_ref().expect("everybody is in");
            assert!(matches!(conn.phase, Phase::Open), "device {}: {:?}", guest.device, conn.phase);
            let session = guest.session.as_ref().expect("it is open");
            session.check();
            assert_eq!(session.unfinished(), Vec::<String>::new(), "device {}", guest.device);
        }
    }
}

pub(super) fn flush(conn: &mut Conn, stage: &mut Stage) {
    let bytes = conn.output.split();
    if !bytes.is_empty() {
        stage.down(conn.link, Some(&bytes));
    }
}

pub(super) fn fail(conn: &mut Conn, fault: &Fault) -> End {
    let five = conn.guest.as_ref().is_some_and(|guest| guest.terms.protocol.is_5());
    if five {
        let text = (!fault.explanation.is_empty()).then(|| fault.explanation.clone());
        conn.codec.encode(Outgoing::Disconnect { code: fault.code, text, server_reference: None }, &mut conn.output).expect("it fits");
    }
    End { with_will: true }
}

fn is_behind(conn: &Conn) -> bool {
    let guest = conn.guest.as_ref();
    guest.is_some_and(|guest| guest.lane.len() >= 50 || guest.session.as_ref().is_some_and(|session| session.is_full()))
}

/// Tells the ledger of a packet; the retained messages that it must bring.
fn announce(device: usize, packet: &Incoming, stage: &Stage, ledger: &mut Ledger) -> Vec<(Option<Key>, u8)> {
    match packet {
        Incoming::Subscribe(Subscribe { subscription_id, filters, .. }) => {
            let held = filters.iter().map(|(filter, options)| {
                let held = Held {
                    qos: options.qos.level(),
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    retain_handling: options.retain_handling as u8,
                    subscription_id: *subscription_id,
                };
                ledger.subscribe(device, filter, &held, stage.now_ms)
            });
            held.collect::<Vec<_>>().concat()
        }
        Incoming::Unsubscribe(packet) => {
            packet.filters.iter().for_each(|filter| ledger.unsubscribe(device, filter));
            Vec::new()
        }
        _ => Vec::new(),
    }
}
