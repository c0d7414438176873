//! `hookgate.toml`: whatever the text, parsing ends with a configuration and problems that can be shown, never with a panic.

use std::path::Path;

use crate::config::Config;

/// Any bytes; what is not UTF-8 is refused before.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (config, problems) = Config::parse(Path::new("hookgate.toml"), text);
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
    }
    if problems.is_empty() {
        assert!(!config.listeners.is_empty(), "a configuration without listeners was accepted");
    }
    let (again, _) = Config::parse(Path::new("hookgate.toml"), text);
    assert_eq!(config, again, "parsing depends on more than the text");
}
