//! `[[listener]]`: a door for devices.

use std::{net::SocketAddr, path::Path, sync::Arc};

use super::{mqtt::Mqtt, network::Network, problem::Placed, reader::Table, tls::Tls};

/// A door for devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// For logs and metrics; no two are the same.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub bind: Placed<SocketAddr>,
    /// What is spoken behind it.
    pub protocol: DoorProtocol,
    /// Exactly where the protocol encrypts.
    pub tls: Option<Tls>,
    /// Every connection begins with a PROXY protocol header and comes from one of these addresses; `None`: none does.
    pub proxy_from: Option<Vec<Network>>,
    /// The path of WebSocket requests.
    pub path: String,
    /// Connections at one time.
    pub max_connections: usize,
    /// Connections per second; those beyond are closed at once. 0: any number.
    pub connects_per_s: u64,
    /// Connections that may come at one moment after a quiet time.
    pub connects_burst: u64,
    /// What its clients may do: `[mqtt]`, but for what `limits` says otherwise.
    pub limits: Arc<Mqtt>,
}

/// What is spoken behind a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorProtocol {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

impl DoorProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [DoorProtocol::Mqtt, DoorProtocol::Mqtts, DoorProtocol::Ws, DoorProtocol::Wss];

    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            DoorProtocol::Mqtt => "mqtt",
            DoorProtocol::Mqtts => "mqtts",
            DoorProtocol::Ws => "ws",
            DoorProtocol::Wss => "wss",
        }
    }

    /// Whether it encrypts.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, DoorProtocol::Mqtts | DoorProtocol::Wss)
    }

    /// Whether it is WebSocket.
    pub const fn is_websocket(self) -> bool {
        matches!(self, DoorProtocol::Ws | DoorProtocol::Wss)
    }
}

/// The bounds of a listener.
struct Bounds {
    max_connections: usize,
    connects_per_s: u64,
    connects_burst: u64,
    limits: Mqtt,
}

impl Listener {
    pub(super) fn read(table: &mut Table<'_>, folder: &Path, mqtt: &Mqtt) -> Option<Self> {
        let protocol = table.choice("protocol", &DoorProtocol::ALL.map(|protocol| (protocol.name(), protocol)));
        let protocol = protocol.map_or(DoorProtocol::Mqtt, |protocol| protocol.value);
        let name = table.text("name").map_or_else(|| protocol.name().to_owned(), |name| name.value);
        let tls = table.table("tls", |tls| (tls.place().clone(), Tls::read(tls, folder)));
        match &tls {
            Some((place, _)) if !protocol.is_encrypted() => {
                let help = if protocol.is_websocket() { "write protocol = \"wss\"" } else { "write protocol = \"mqtts\"" };
                table.refuse_at(place, "tls", format_args!(" does nothing with protocol \"{}\"", protocol.name()), help);
            }
            None if protocol.is_encrypted() => table.require("tls", "{ certificate = \"server.pem\", key = \"server.key\" }"),
            _ => {}
        }
        let path = read_path(table, protocol);
        let proxy_from = read_proxy(table);
        let bounds = table.table("limits", |limits| Bounds::read(limits, mqtt)).unwrap_or_else(|| Bounds::of(mqtt));
        table.require("bind", "\"0.0.0.0:1883\"");
        let bind = table.parsed("bind", "write \"address:port\", for example \"0.0.0.0:1883\" or \"[::]:1883\"", str::parse)?;
        let Bounds { max_connections, connects_per_s, connects_burst, limits } = bounds;
        Some(Listener {
            name,
            bind,
            protocol,
            tls: tls.and_then(|(_, tls)| tls),
            proxy_from,
            path,
            max_connections,
            connects_per_s,
            connects_burst,
            limits: Arc::new(limits),
        })
    }

    /// Whether the other is behind the same socket: everything else can change while the process runs.
    pub fn is_same_door(&self, other: &Self) -> bool {
        (&self.name, &self.bind, self.protocol) == (&other.name, &other.bind, other.protocol)
    }
}

impl Bounds {
    fn of(mqtt: &Mqtt) -> Self {
        Bounds { max_connections: 1_000_000, connects_per_s: 0, connects_burst: 0, limits: mqtt.clone() }
    }

    fn read(table: &mut Table<'_>, mqtt: &Mqtt) -> Self {
        let default = Bounds::of(mqtt);
        let connects_per_s = table.integer("connects_per_s", 0..=1_000_000, default.connects_per_s);
        if let (Some(place), 0) = (table.placed("connects_burst"), connects_per_s) {
            table.refuse_at(&place, "connects_burst", " does nothing without `connects_per_s`", "write connects_per_s = 100");
        }
        Bounds {
            max_connections: table.integer("max_connections", 1..=100_000_000, default.max_connections as u64) as usize,
            connects_per_s,
            connects_burst: table.integer("connects_burst", 1..=1_000_000, connects_per_s.max(1)),
            limits: Mqtt::read_bounds(table, mqtt),
        }
    }
}

fn read_path(table: &Table<'_>, protocol: DoorProtocol) -> String {
    let Some(path) = table.text("path") else { return "/mqtt".to_owned() };
    if !protocol.is_websocket() {
        let message = format_args!(" does nothing with protocol \"{}\"", protocol.name());
        table.refuse_at(&path.place, "path", message, "only WebSocket has paths");
    } else if !path.value.starts_with('/') || path.value.contains(['?', '#', ' ']) {
        table.refuse_at(&path.place, "path", format_args!(" = \"{}\" is no path", path.value), "write path = \"/mqtt\"");
    }
    path.value
}

fn read_proxy(table: &Table<'_>) -> Option<Vec<Network>> {
    let required = table.choice("proxy_protocol", &[("off", false), ("required", true)]).filter(|required| required.value);
    let texts = table.texts("proxy_from");
    let mut networks = Vec::new();
    for text in &texts {
        match text.value.parse() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let help = "write a range such as \"10.0.0.0/8\", or one address";
                table.refuse_at(&text.place, "proxy_from", format_args!(" = \"{}\": {error}", text.value), help);
            }
        }
    }
    match (&required, texts.first()) {
        (None, Some(first)) => {
            table.refuse_at(&first.place, "proxy_from", " does nothing without the PROXY protocol", "write proxy_protocol = \"required\"");
        }
        (Some(required), None) => {
            let message = ": whoever may send the header may pretend to be any device";
            table.refuse_at(&required.place, "proxy_protocol", message, "name your proxies: proxy_from = [\"10.0.0.0/8\"]");
        }
        _ => {}
    }
    required.map(|_| networks)
}
