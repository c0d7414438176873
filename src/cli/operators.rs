//! What the verbs for operators share: finding a running Hookgate's admin interface, asking it, and printing lists.

use std::{path::PathBuf, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::Exit;
use crate::{
    admin::{Page, Problem},
    config::Config,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Items asked for at a time.
const PAGE: usize = 1000;

/// Where the running Hookgate is, and how its answer looks.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The admin interface, as the `ready` line names it: "http://127.0.0.1:18083".
    #[arg(long, value_name = "URL", env = "HOOKGATE_ADMIN")]
    admin: Option<String>,
    /// The configuration whose [admin] table says where it is, when there is no --admin.
    #[arg(long, value_name = "FILE", default_value = "hookgate.toml")]
    config: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub(super) json: bool,
}

/// Which of many clients are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// Only client ids that begin with this.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only those of this user.
    #[arg(long)]
    username: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    pub(super) limit: usize,
}

impl Selection {
    /// What the admin interface is asked.
    pub(super) fn parameters(&self) -> Vec<(&str, &str)> {
        let prefix = std::iter::once(("prefix", self.prefix.as_str()));
        prefix.chain(self.username.as_deref().map(|name| ("username", name))).collect()
    }
}

/// A running Hookgate.
pub(super) struct Remote {
    agent: ureq::Agent,
    url: String,
}

impl Target {
    /// Finds it.
    pub(super) fn find(&self) -> Result<Remote, Exit> {
        let url = match &self.admin {
            Some(url) if url.starts_with("http://") => url.trim_end_matches('/').to_owned(),
            Some(address) if !address.contains("://") => format!("http://{address}"),
            Some(other) => return Err(Exit::Usage(format!("--admin {other}: write http://127.0.0.1:18083"))),
            None => self.configured()?,
        };
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None).build();
        Ok(Remote { agent: config.into(), url })
    }

    fn configured(&self) -> Result<String, Exit> {
        let file = self.config.display();
        let (config, _) = Config::inspect(&self.config).map_err(Exit::Problems)?;
        match config.admin {
            None => Err(Exit::Usage(format!("{file} has no [admin] table; add one with bind = \"127.0.0.1:18083\", or use --admin URL"))),
            Some(admin) if admin.bind.value.port() == 0 => {
                Err(Exit::Usage(format!("{file} binds [admin] to any free port; use --admin with the one that the `ready` line names")))
            }
            Some(admin) => Ok(format!("http://{}", admin.bind.value)),
        }
    }
}

impl Remote {
    /// GET one document.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> Result<T, Exit> {
        let request = self.agent.get(format!("{}{path}", self.url)).query_pairs(parameters.iter().copied());
        self.read(request.call())
    }

    /// DELETE something.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> Result<T, Exit> {
        let request = self.agent.delete(format!("{}{path}", self.url)).query_pairs(parameters.iter().copied());
        self.read(request.call())
    }

    /// POST without a body.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)]) -> Result<T, Exit> {
        let request = self.agent.post(format!("{}{path}", self.url)).query_pairs(parameters.iter().copied());
        self.read(request.send_empty())
    }

    /// GET a list, page by page, up to `limit` items; whether there are more.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &str, parameters: &[(&str, &str)], limit: usize) -> Result<(Vec<T>, bool), Exit> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let count = (limit - items.len()).clamp(1, PAGE).to_string();
            let mut asked = parameters.to_vec();
            asked.push(("limit", &count));
            asked.extend(after.as_deref().map(|after| ("after", after)));
            let page: Page<T> = self.get(path, &asked)?;
            items.extend(page.items);
            match page.next {
                Some(next) if items.len() < limit => after = Some(next),
                next => return Ok((items, next.is_some())),
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<T, Exit> {
        let nobody = |error| anyhow::anyhow!("{} does not answer ({error}); is Hookgate running with an [admin] table?", self.url);
        let mut answer = answer.map_err(nobody)?;
        if answer.status().is_success() {
            return Ok(answer.body_mut().read_json()?);
        }
        let status = answer.status();
        match answer.body_mut().read_json::<Problem>() {
            Ok(Problem { error, help }) => Err(Exit::Failed(anyhow::anyhow!("{error}\n  help: {help}"))),
            Err(_) => Err(Exit::Failed(anyhow::anyhow!("{} answers {status}; is it a Hookgate of this version?", self.url))),
        }
    }
}

/// A name as one part of a path: everything but the plainest characters percent-encoded.
pub(super) fn escape(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Prints a list: as JSON, or as a table with aligned columns.
pub(super) fn print<T: Serialize>(
    target: &Target,
    items: &[T],
    more: bool,
    head: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), Exit> {
    if target.json {
        println!("{}", serde_json::to_string(items)?);
    } else {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        print!("{}", table(&std::iter::once(head).chain(items.iter().map(row)).collect::<Vec<_>>()));
    }
    if more {
        eprintln!("there are more; --limit shows them");
    }
    Ok(())
}

/// Rows with aligned columns, two spaces between them. Control characters are shown as U+FFFD: a client id must not steer the terminal.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let clean = |cell: &String| cell.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect::<String>();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(clean).collect()).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| -> String {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A number of seconds as people say it.
pub(super) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths() {
        assert_eq!(escape("a-Z_0.~"), "a-Z_0.~");
        assert_eq!(escape("a/b c%ä?"), "a%2Fb%20c%25%C3%A4%3F");
    }

    #[test]
    fn columns_are_aligned_and_harmless() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["ID", "N"]), row(["long", "1"]), row(["\u{1b}[2J", ""])];
        assert_eq!(table(&rows), "ID    N\nlong  1\n\u{fffd}[2J\n");
    }

    #[test]
    fn times_as_people_say_them() {
        assert_eq!([0, 119, 120, 7200, 200_000].map(seconds), ["0 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
