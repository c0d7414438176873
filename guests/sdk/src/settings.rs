//! The guest's `settings` from the configuration (grant `settings`). All of them are texts; these functions read them into types.

use std::{fmt::Display, str::FromStr};

use crate::host;

/// A setting as written.
pub fn get(name: &str) -> Option<String> {
    host::settings::get(name)
}

/// All of them.
pub fn all() -> Vec<(String, String)> {
    host::settings::get_all()
}

/// A setting, or `default` when it is not given.
///
/// # Errors
/// It is given and cannot be read: an error fit for [`Guest::start`](crate::Guest::start).
pub fn get_or<T: FromStr<Err: Display>>(name: &str, default: T) -> Result<T, String> {
    get(name).map_or(Ok(default), |text| parse(name, &text))
}

/// A setting that must be given.
///
/// # Errors
/// It is not given, or cannot be read.
pub fn required<T: FromStr<Err: Display>>(name: &str) -> Result<T, String> {
    let text = get(name).ok_or_else(|| format!("the setting `{name}` is missing"))?;
    parse(name, &text)
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("the setting `{name}` = \"{text}\": {error}"))
}
