//! The first words with a Redis: whether it is there, and whether it keeps what it is given.

use redis::{Client, Cmd, aio::ConnectionManager, cmd};

/// Connects, trying as long as it takes, and says in the log what of the server's settings endangers what it keeps.
pub(super) async fn connect(client: Client, mut connection: ConnectionManager, address: String) {
    // An attempt of its own, because the connection tries for ever and does not say why it fails.
    if let Err(error) = client.get_multiplexed_async_connection().await {
        tracing::error!(address, %error, "Redis cannot be reached; guests' state in it is unavailable until it can");
    }
    if let Err(error) = cmd("PING").exec_async(&mut connection).await {
        return tracing::error!(address, %error, "Redis does not let us in; guests' state in it is unavailable");
    }
    tracing::info!(address, "connected to Redis");
    for (setting, is_safe, advice) in SETTINGS {
        let asked = Cmd::new().arg("CONFIG").arg("GET").arg(setting).query_async::<Vec<String>>(&mut connection).await;
        match asked.as_deref() {
            Ok([_, value]) if !is_safe(value) => tracing::warn!(address, setting, value, "{advice}"),
            Ok(_) => {}
            Err(error) => tracing::debug!(address, setting, %error, "Redis does not tell its settings"),
        }
    }
}

/// A setting, whether its value is safe, and what to do when it is not.
type Setting = (&'static str, fn(&str) -> bool, &'static str);

const SETTINGS: [Setting; 2] = [
    (
        "maxmemory-policy",
        |value| value == "noeviction",
        "Redis may evict guests' state when its memory is full, and then accept what was refused: set maxmemory-policy to noeviction",
    ),
    ("appendonly", |value| value == "yes", "Redis forgets guests' state when it restarts: set appendonly to yes"),
];
