//! Hookgate: the gate between devices and Kafka.
//!
//! One process that speaks MQTT to devices, asks sandboxed WebAssembly guests at every hook of a device's life, and hands what they let
//! through to Kafka. Only when Kafka has it is the device told so.
//!
//! # The straight line
//! ```text
//!  socket ─▶ source::mqtt ─▶ Event + Receipt ─▶ pipeline ─▶ guest ─▶ verdict ─▶ pipeline::route ─▶ kafka
//!     ▲                                                                                              │
//!     └───────────── PUBACK ◀───────────────────────── Receipt settled ◀───────── delivery report ◀──┘
//! ```
//! Data falls, receipts climb. An event is settled exactly once; a receipt dropped on the way reports failure, so that there is no
//! acknowledgement and the device sends again. The verdict on `message.publish` is reached *before* retain, routing, Kafka and the
//! acknowledgement, so that everybody sees the same message.
//!
//! # Floors
//! A module imports only lower floors; modules of one floor are strangers to one another (`tests/integration/floors.rs` proves it).
//! ```text
//!  7  main, cli      command line, exit codes; a file per verb
//!  6  bridge         builds bottom-up, drains top-down, reloads as a whole
//!  5  source         where events come from: the embedded MQTT broker, the only place that names the codec and rumqttd; and the way down,
//!                    Kafka → guests → MQTT
//!     admin          HTTP for operators; a stranger to the broker, asks through a channel
//!  4  pipeline       ask and chain (hook → guests → one verdict), plan (what is in service), route and format (event → records),
//!                    capture (calls → files)
//!  3  registry       who runs what: vetting guests, canaries and shadows, going back, file watch
//!     outbox         the ways out: which cluster, how safe, how often
//!  2  guest          the only place that names wasmtime: engine, pool, limits, host imports
//!     kafka          the only place that names rdkafka: records, producer, consumer, embedded cluster, reader
//!     store          the only place that names fjall: what outlives the process: sessions, retained messages, wills, guests' state
//!     redis          the only place that names that crate: guests' state that several processes share
//!     access         password file and rules, for those without a guest
//!  1  event          plain data, no I/O: events, verdicts, receipts
//!     config         one file per TOML table: read once into checked types
//!     metrics        every metric family on one screen
//!  0  hook, topic    the nineteen hooks, defined once; MQTT topic rules
//! ```
//!
//! # Embedding
//! The binary is a thin shell around [`bridge::Bridge`]; a host can run one itself:
//! ```no_run
//! use hookgate::{bridge::Bridge, config::Config};
//!
//! # async fn embed() -> anyhow::Result<()> {
//! let (config, problems) = Config::parse(
//!     "hookgate.toml".as_ref(),
//!     r#"
//!     [[listener]]
//!     bind = "127.0.0.1:0"
//!     [kafka]
//!     bootstrap_servers = "embedded"
//!     [[route]]
//!     hook = "message.publish"
//!     filter = "devices/+/state"
//!     topic = "message_state"
//!     "#,
//! );
//! assert!(problems.is_empty(), "{problems:?}");
//! let bridge = Bridge::start(config).await?;
//! println!("devices connect to {:?}", bridge.addresses());
//! bridge.drain().await;
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod admin;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod event;
pub mod guest;
pub mod hook;
pub mod kafka;
pub mod metrics;
pub mod outbox;
pub mod pipeline;
pub mod redis;
pub mod registry;
pub mod source;
pub mod store;
pub mod topic;
