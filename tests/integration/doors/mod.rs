//! Every kind of door: TLS, WebSocket, PROXY protocol, IPv6, and what each lets in.

pub(crate) mod certificates;
mod limits;
mod proxy;
mod tls;
mod websocket;

use std::{net::SocketAddr, path::Path, sync::Arc};

use hookgate::{
    config::{Config, Problem},
    metrics::Metrics,
    pipeline::Pipeline,
    source::mqtt::Broker,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::PATIENCE;

/// CONNACK of 3.1.1 for a client that is in.
const LET_IN: [u8; 4] = [0x20, 2, 0, 0];

fn parse(tables: &str) -> (Config, Vec<Problem>) {
    Config::parse(Path::new("test.toml"), &format!("[kafka]\nbootstrap_servers = \"embedded\"\n{tables}"))
}

/// A broker behind the given tables, without routes.
struct House {
    broker: Broker,
    metrics: Arc<Metrics>,
}

impl House {
    async fn start(tables: &str) -> Self {
        let (config, problems) = parse(tables);
        assert!(problems.is_empty(), "{problems:?}");
        let metrics = Metrics::new();
        let broker = Broker::start(&config, Pipeline::open(Arc::clone(&metrics)), None).await.unwrap();
        House { broker, metrics }
    }

    fn address(&self, door: &str) -> SocketAddr {
        self.broker.addresses().iter().find(|(name, _)| name == door).unwrap().1
    }

    async fn knock(&self, door: &str) -> TcpStream {
        TcpStream::connect(self.address(door)).await.unwrap()
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metrics.connections_refused.get_or_create(&reason.into()).get()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.messages_dropped.get_or_create(&reason.into()).get()
    }

    /// Waits until the metrics agree, which may be a moment after the socket's end.
    async fn until(&self, what: &str, holds: impl Fn(&House) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: {}", self.metrics.render()));
    }
}

/// CONNECT with clean start.
fn connect(level: u8, client_id: &str, keep_alive_s: u16) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let id_length = u16::try_from(client_id.len()).unwrap().to_be_bytes();
    let body = [&[0, 4][..], b"MQTT", &[level, 2], &keep_alive_s.to_be_bytes(), properties, &id_length, client_id.as_bytes()].concat();
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

/// PUBLISH of 3.1.1, or of 5 without properties; at QoS 1 when there is an identifier.
fn publish(level: u8, id: Option<u16>, topic: &str, payload: &[u8]) -> Vec<u8> {
    let id_bytes = id.map(u16::to_be_bytes);
    let id_bytes = id_bytes.as_ref().map_or(&[][..], |bytes| bytes);
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let topic_length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    let body = [&topic_length[..], topic.as_bytes(), id_bytes, properties, payload].concat();
    let mut packet = vec![if id.is_some() { 0x32 } else { 0x30 }];
    let mut length = body.len();
    while length > 127 {
        packet.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    packet.push(length as u8);
    [packet, body].concat()
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Expects exactly these bytes.
async fn expect(stream: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut got)).await.expect("an answer in time");
    assert!(read.is_ok(), "{read:?} instead of {bytes:x?}");
    assert_eq!(got, bytes);
}

/// Waits for the end of the connection; what came before it.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    // An error is an end, too: a reset socket, or TLS without a goodbye.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("the connection ends");
    got
}

/// Connects as an MQTT 3.1.1 client and is let in.
async fn come_in(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), client_id: &str) {
    say(stream, &connect(4, client_id, 0)).await;
    expect(stream, &LET_IN).await;
}

/// Is still in.
async fn ping(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    say(stream, &[0xC0, 0]).await;
    expect(stream, &[0xD0, 0]).await;
}
