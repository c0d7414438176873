//! What must not be seen: passwords, keys, client secrets; and where they come from.

use std::{
    env::VarError,
    fmt,
    path::{Path, PathBuf},
};

use super::reader::Table;

/// A text that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// The file that it was read from.
    file: Option<PathBuf>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A secret that stands nowhere.
    pub fn new(text: impl Into<String>) -> Self {
        Secret { text: text.into(), file: None }
    }

    /// The text itself, for whoever must hand it on.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The file that it was read from, if it was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// `key = { env = "NAME" }`, `{ file = "path" }` or `{ text = "…" }`; the line end of a file is not part of it.
    pub(super) fn read(table: &Table<'_>, key: &'static str, folder: &Path) -> Option<Self> {
        let place = table.place_of(key)?;
        if !table.is_table(key) {
            // Without the value: this line goes to a log.
            let help = "write { env = \"NAME\" }, { file = \"path\" } or { text = \"…\" }";
            table.refuse_at(&place, key, " does not say where the secret comes from", help);
            return None;
        }
        let read = |inner: &mut Table<'_>| {
            let sources = ["text", "file", "env"].map(|source| inner.text(source).map(|value| (source, value)));
            let sources: Vec<_> = sources.into_iter().flatten().collect();
            let [(source, value)] = &sources[..] else {
                inner.refuse(
                    "exactly one of `env`, `file`, `text` says where the secret comes from",
                    format!("write {key} = {{ env = \"NAME\" }}"),
                );
                return None;
            };
            let secret = match load(source, &value.value, folder) {
                Ok(bytes) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
                Err(error) => Err(error),
            };
            let file = (*source == "file").then(|| folder.join(&value.value));
            let text = secret.map(|text| if file.is_some() { text.trim_end_matches(['\r', '\n']).to_owned() } else { text });
            match text {
                Ok(text) if text.is_empty() => {
                    inner.refuse_at(&value.place, source, ": the secret is empty", "it needs at least one character");
                    None
                }
                Ok(text) => Some(Secret { text, file }),
                Err(error) => {
                    inner.refuse_at(&value.place, source, format_args!(": {error}"), "it must be readable when Hookgate starts");
                    None
                }
            }
        };
        table.table(key, read).flatten()
    }
}

/// The bytes behind one of the sources that keys and secrets have.
pub(super) fn load(source: &str, value: &str, folder: &Path) -> Result<Vec<u8>, String> {
    match source {
        "text" => Ok(value.as_bytes().to_vec()),
        "hex" => hex(value).ok_or_else(|| "this is not hexadecimal".to_owned()),
        "env" => std::env::var(value).map(String::into_bytes).map_err(|error| match error {
            VarError::NotPresent => format!("{value}: environment variable not found"),
            VarError::NotUnicode(_) => format!("{value}: its value is not UTF-8"), // which must not be shown
        }),
        _ => {
            let path = folder.join(value);
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn is_not_shown() {
        assert!(!format!("{:?}", Some(Secret::new("hunter2"))).contains("hunter2"));
    }
}
