//! `[access]`: who is asked whether a client may come in and what it may do, in which order, and what holds when nobody says.
//!
//! The rules of `[[acl]]` have a file of their own.

use std::path::{Path, PathBuf};

use super::{
    acl::{Permission, Rule},
    problem::{Place, Placed, did_you_mean},
    reader::Table,
};

/// Who is asked about clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Users and the hashes of their passwords; a relative path starts at the configuration's folder.
    pub password_file: Option<Placed<PathBuf>>,
    /// Who says whether a client may come in: the first that allows or denies.
    pub authenticate: Vec<Authenticator>,
    /// Who says whether it may publish or subscribe: the first that allows or denies.
    pub authorize: Vec<Authorizer>,
    /// Whether a client without a user name may come in when nobody of `authenticate` said anything.
    pub anonymous: bool,
    /// What holds when nobody of `authorize` said anything.
    pub default: Permission,
    /// How long a connection goes by an answer about a topic before it asks again, milliseconds; 0: always ask.
    pub cache_ms: u64,
    /// `[[acl]]`, in order.
    pub rules: Vec<Rule>,
}

/// Somebody who says whether a client may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticator {
    /// The guests of the routes on `client.authenticate`.
    Guests,
    /// `password_file`
    PasswordFile,
}

/// Somebody who says what a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorizer {
    /// The guests of the routes on `client.authorize`.
    Guests,
    /// `[[acl]]`
    Acl,
}

/// What the rest of the configuration has for this table to arrange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    pub(super) authenticating_guests: bool,
    pub(super) authorizing_guests: bool,
    pub(super) rules: bool,
}

/// Nobody is asked, everybody may do everything.
impl Default for Access {
    fn default() -> Self {
        Access {
            password_file: None,
            authenticate: Vec::new(),
            authorize: Vec::new(),
            anonymous: true,
            default: Permission::Allow,
            cache_ms: 60_000,
            rules: Vec::new(),
        }
    }
}

impl Access {
    /// Reads the table; everything that is configured is asked when no order is given.
    pub(super) fn read(table: &mut Table<'_>, around: Around, folder: &Path) -> Self {
        let d = Access::default();
        let password_file = table.text("password_file").map(|file| Placed { value: folder.join(file.value), place: file.place });
        let guests_route = "a [[route]] with hook = \"client.authenticate\" and guests";
        let authenticate = order(
            table,
            "authenticate",
            &[
                ("guests", Authenticator::Guests, around.authenticating_guests, guests_route),
                ("password-file", Authenticator::PasswordFile, password_file.is_some(), "password_file"),
            ],
        );
        let guests_route = "a [[route]] with hook = \"client.authorize\" and guests";
        let authorize = order(
            table,
            "authorize",
            &[
                ("guests", Authorizer::Guests, around.authorizing_guests, guests_route),
                ("acl", Authorizer::Acl, around.rules, "rules: [[acl]]"),
            ],
        );
        let anonymous = table.boolean("anonymous").unwrap_or(authenticate.is_empty());
        let open = if authorize.is_empty() { Permission::Allow } else { Permission::Deny };
        let default = table.choice("default", Permission::WORDS).map_or(open, |default| default.value);
        let cache_ms = table.integer("cache_ms", 0..=86_400_000, d.cache_ms);
        if let (Some(place), true) = (table.place_of("cache_ms"), authorize.is_empty()) {
            table.refuse_at(
                &place,
                "cache_ms",
                " does nothing: nobody is asked about topics",
                "add [[acl]] or a route on client.authorize",
            );
        }
        Access { password_file, authenticate, authorize, anonymous, default, cache_ms, rules: Vec::new() }
    }

    /// What holds when there is no table.
    pub(super) fn without_table(around: Around) -> Self {
        let authenticate = if around.authenticating_guests { vec![Authenticator::Guests] } else { Vec::new() };
        let guests = around.authorizing_guests.then_some(Authorizer::Guests);
        let authorize: Vec<_> = guests.into_iter().chain(around.rules.then_some(Authorizer::Acl)).collect();
        let default = if authorize.is_empty() { Permission::Allow } else { Permission::Deny };
        Access { anonymous: authenticate.is_empty(), authenticate, authorize, default, ..Access::default() }
    }
}

/// A list of who is asked, each of whom must be there; whoever is there and is left out would do nothing.
///
/// Each word comes with what it stands for, whether that is configured, and how it would be.
fn order<T: Copy + PartialEq>(table: &Table<'_>, key: &'static str, words: &[(&'static str, T, bool, &str)]) -> Vec<T> {
    let texts = table.texts(key);
    let there = words.iter().filter(|(_, _, there, _)| *there);
    let Some(place) = table.place_of(key) else { return there.map(|(_, asked, ..)| *asked).collect() };
    let mut order = Vec::new();
    for text in texts {
        refuse_word(table, key, &text.value, &text.place, words, &order);
        order.extend(words.iter().find(|(word, ..)| *word == text.value).map(|(_, asked, ..)| *asked));
    }
    for (word, _, _, what) in there.filter(|(_, asked, ..)| !order.contains(asked)) {
        let help = format!("add \"{word}\", or remove it: {what}");
        table.refuse_at(&place, key, format_args!(": \"{word}\" is left out, so what is configured for it does nothing"), help);
    }
    order
}

fn refuse_word<T: Copy + PartialEq>(
    table: &Table<'_>,
    key: &str,
    text: &str,
    place: &Place,
    words: &[(&'static str, T, bool, &str)],
    before: &[T],
) {
    match words.iter().find(|(word, ..)| *word == text) {
        None => {
            let known: Vec<&str> = words.iter().map(|(word, ..)| *word).collect();
            table.refuse_at(place, key, format_args!(": \"{text}\" is not known"), did_you_mean(text, &known));
        }
        Some((_, asked, ..)) if before.contains(asked) => {
            table.refuse_at(place, key, format_args!(": \"{text}\" stands here twice"), "name each once");
        }
        Some((_, _, false, what)) => {
            table.refuse_at(place, key, format_args!(": \"{text}\" has nothing to ask"), format!("add {what}"));
        }
        Some(_) => {}
    }
}
