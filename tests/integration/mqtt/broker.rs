//! A broker in this process, on a free port, before a pipeline without routes.

use std::{net::SocketAddr, path::Path, sync::Arc};

use hookgate::{config::Config, metrics::Metrics, pipeline::Pipeline, source::mqtt::Broker};

pub(super) struct Running {
    pub(super) broker: Broker,
    pub(super) metrics: Arc<Metrics>,
}

impl Running {
    pub(super) async fn start() -> Self {
        Running::with("").await
    }

    /// With lines for `[mqtt]`.
    pub(super) async fn with(mqtt: &str) -> Self {
        let text = format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[kafka]\nbootstrap_servers = \"embedded\"\n[mqtt]\n{mqtt}\n");
        let (config, problems) = Config::parse(Path::new("test.toml"), &text);
        assert!(problems.is_empty(), "{problems:?}");
        let metrics = Metrics::new();
        let pipeline = Pipeline::open(Arc::clone(&metrics));
        let broker = Broker::start(&config, pipeline, None).await.expect("a free port");
        Running { broker, metrics }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.broker.addresses()[0].1
    }

    /// How many messages were dropped for a reason.
    pub(super) fn dropped(&self, reason: &str) -> u64 {
        self.metrics.messages_dropped.get_or_create(&reason.into()).get()
    }
}
