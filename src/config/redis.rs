//! `[redis]`: the Redis in which guests keep their state when several nodes share it.

use std::time::Duration;

use super::{problem::Placed, reader::Table};

/// Which Redis, and how it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS.
    pub url: Placed<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long one operation may take before it is `unavailable`.
    pub timeout: Duration,
}

impl Redis {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let url = table.text("url");
        let env = table.text("url_env");
        let url = match (url, env) {
            (Some(url), None) => Some(url),
            (None, Some(name)) => match std::env::var(&name.value) {
                Ok(value) => Some(Placed { value, place: name.place }),
                Err(error) => {
                    table.refuse_at(&name.place, "url_env", format_args!(" = \"{}\": {error}", name.value), "set it in the environment");
                    None
                }
            },
            (Some(_), Some(name)) => {
                table.refuse_at(&name.place, "url_env", " beside url", "keep one of them");
                None
            }
            (None, None) => {
                table.refuse(
                    "`url` is missing",
                    "write url = \"redis://127.0.0.1:6379\", or url_env = \"REDIS_URL\" when it has a password",
                );
                None
            }
        };
        let prefix = table.text("prefix").map_or_else(|| "hookgate".to_owned(), |prefix| prefix.value);
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(60));
        let timeout = table.duration("timeout", least..=most).unwrap_or(Duration::from_millis(100));
        Some(Redis { url: url?, prefix, timeout })
    }
}
