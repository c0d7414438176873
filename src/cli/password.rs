//! `hookgate password`: the users of a password file. A running Hookgate reads the file again by itself.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;

use super::Exit;
use crate::access::{PasswordError, Users};

/// The longest password, bytes: MQTT carries no longer one.
const MAX_PASSWORD_BYTES: usize = 65_535;

/// Arguments of `hookgate password`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Add a user, or change its password; the file is made when there is none.
    Add(Entry),
    /// Remove a user.
    Remove(Entry),
    /// Say whether a password is the user's: exit code 0, else 1.
    Check(Entry),
}

/// Which user of which file. The password is read from the first line of standard input; at a terminal it is asked for.
#[derive(Debug, clap::Args)]
struct Entry {
    /// The password file, as `[access] password_file` names it.
    file: PathBuf,
    /// The user name.
    user: String,
}

pub(super) fn run(args: &Args) -> Result<(), Exit> {
    match &args.verb {
        Verb::Add(entry) => add(entry),
        Verb::Remove(entry) => remove(entry),
        Verb::Check(entry) => check(entry),
    }
}

fn add(Entry { file, user }: &Entry) -> Result<(), Exit> {
    let mut users = if file.exists() { read(file)? } else { Users::default() };
    let password = password(true)?;
    let is_new = users.set(user, password.as_bytes()).map_err(usage)?;
    users.write(file)?;
    println!("{user}: {}", if is_new { "added" } else { "password changed" });
    Ok(())
}

fn remove(Entry { file, user }: &Entry) -> Result<(), Exit> {
    let mut users = read(file)?;
    if !users.remove(user) {
        return Err(Exit::Usage(format!("{} has no user \"{user}\"", file.display())));
    }
    users.write(file)?;
    println!("{user}: removed");
    Ok(())
}

fn check(Entry { file, user }: &Entry) -> Result<(), Exit> {
    let users = read(file)?;
    let password = password(false)?;
    match users.check(user, password.as_bytes()) {
        Some(true) => {
            println!("{user}: this is the password");
            Ok(())
        }
        Some(false) => Err(Exit::Failed(anyhow::anyhow!("this is not the password of \"{user}\""))),
        None => Err(Exit::Usage(format!("{} has no user \"{user}\"", file.display()))),
    }
}

fn read(file: &Path) -> Result<Users, Exit> {
    let texts = |errors: Vec<PasswordError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Users::read(file).map_err(|errors| Exit::Usage(texts(errors)))
}

fn usage(error: PasswordError) -> Exit {
    match error {
        PasswordError::User(_) => Exit::Usage(error.to_string()),
        other => Exit::Failed(other.into()),
    }
}

/// The password; at a terminal it is asked for without showing it, and twice when a mistake would be kept.
fn password(twice: bool) -> Result<String, Exit> {
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let first = ask("Password: ")?;
    if twice && ask("Again: ")? != first {
        return Err(Exit::Usage("the two are not the same; nothing was changed".to_owned()));
    }
    Ok(first)
}

fn ask(prompt: &str) -> Result<String, Exit> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let hidden = echo(false);
    let answer = line();
    if hidden {
        echo(true);
        eprintln!();
    }
    answer
}

/// Whether the terminal's echo could be switched; `stty` does it everywhere, without a library for each system.
fn echo(on: bool) -> bool {
    let word = if on { "echo" } else { "-echo" };
    Command::new("stty").arg(word).stdin(Stdio::inherit()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn line() -> Result<String, Exit> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the password from standard input")?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Exit::Usage(format!("a password has at most {MAX_PASSWORD_BYTES} bytes")));
    }
    Ok(password.to_owned())
}
