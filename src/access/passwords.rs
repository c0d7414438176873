//! The password file: a line for each user, `user:$argon2id$v=19$m=…,t=…,p=…$salt$hash`. Empty lines and those that begin with `#` stay as
//! they are.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString, rand_core::OsRng},
};
use tokio::sync::Semaphore;

use crate::event::{Bytes, Text};

/// Passwords verified at once, at most: each takes a core, and memory as its parameters say (19 MiB as made here).
const MAX_VERIFICATIONS: usize = 4;
/// The most memory that a hash may ask for, KiB.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// The largest password file, bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// What is wrong with a password file, or with a change to it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be read or written.
    #[error("the password file {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A line that is none.
    #[error("line {line} of the password file: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A name that no line can carry.
    #[error("the user name \"{0}\" cannot stand in a password file: it is empty, begins with # or a blank, or has a line break")]
    User(String),
    /// The password could not be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

impl PasswordError {
    /// The line that it is about.
    pub fn line(&self) -> Option<usize> {
        if let PasswordError::Line { line, .. } = self { Some(*line) } else { None }
    }
}

/// The users of a password file, with the file's own text.
#[derive(Default)]
pub struct Users {
    lines: Vec<String>,
    hashes: BTreeMap<String, Hash>,
}

#[derive(Clone)]
struct Hash {
    text: Arc<str>,
    /// Index into the lines.
    line: usize,
}

/// Never prints a hash.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or every line that is wrong.
    pub fn read(path: &Path) -> Result<Self, Vec<PasswordError>> {
        let fault = |error| vec![PasswordError::File { path: path.to_owned(), error }];
        let length = fs::metadata(path).map_err(fault)?.len();
        if length > MAX_FILE_BYTES {
            return Err(fault(std::io::Error::other(format!("it has {length} bytes, and more than {MAX_FILE_BYTES} are not taken"))));
        }
        Self::parse(&fs::read_to_string(path).map_err(fault)?)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<PasswordError>> {
        let (mut users, mut errors) = (Users::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            users.lines.push(line.to_owned());
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| PasswordError::Line { line: index + 1, what };
            match entry(line) {
                Err(what) => errors.push(wrong(what)),
                Ok((user, _)) if users.hashes.contains_key(user) => errors.push(wrong(format!("a second line for \"{user}\""))),
                Ok((user, hash)) => {
                    users.hashes.insert(user.to_owned(), Hash { text: hash.into(), line: index });
                }
            }
        }
        if errors.is_empty() { Ok(users) } else { Err(errors) }
    }

    /// Sets a user's password; whether the user is new. Takes tens of milliseconds, on purpose.
    ///
    /// # Errors
    /// The name cannot stand in a file.
    pub fn set(&mut self, user: &str, password: &[u8]) -> Result<bool, PasswordError> {
        if user.is_empty() || user.starts_with(['#', ' ', '\t']) || user.contains(['\n', '\r', '\0']) {
            return Err(PasswordError::User(user.to_owned()));
        }
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default().hash_password(password, &salt).map_err(|error| PasswordError::Hash(error.to_string()))?;
        let (text, known) = (hash.to_string(), self.hashes.get(user).map(|hash| hash.line));
        let entry = format!("{user}:{text}");
        let line = known.unwrap_or(self.lines.len());
        match self.lines.get_mut(line) {
            Some(old) => *old = entry,
            None => self.lines.push(entry),
        }
        self.hashes.insert(user.to_owned(), Hash { text: text.into(), line });
        Ok(known.is_none())
    }

    /// Removes a user; whether there was one.
    pub fn remove(&mut self, user: &str) -> bool {
        let Some(gone) = self.hashes.remove(user) else { return false };
        self.lines.remove(gone.line);
        self.hashes.values_mut().filter(|hash| hash.line > gone.line).for_each(|hash| hash.line -= 1);
        true
    }

    /// Whether this is the user's password; `None`: there is no such user, which takes as long to say. Takes tens of milliseconds.
    pub fn check(&self, user: &str, password: &[u8]) -> Option<bool> {
        let hash = self.hashes.get(user);
        let right = hash.or(self.hashes.values().next()).is_some_and(|hash| verify(&hash.text, password));
        hash.map(|_| right)
    }

    /// Writes the file as a whole, with the permissions that it has; a new one is for its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PasswordError> {
        let replace = || {
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            for line in &self.lines {
                writeln!(file, "{line}")?;
            }
            if let Ok(metadata) = fs::metadata(path) {
                file.as_file().set_permissions(metadata.permissions())?;
            }
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        replace().map_err(|error| PasswordError::File { path: path.to_owned(), error })
    }
}

/// User and hash of a line. The hash has no `:`, a user name may.
fn entry(line: &str) -> Result<(&str, &str), String> {
    let (user, hash) = line.rsplit_once(':').ok_or("there is no `:` between user and hash")?;
    if user.is_empty() {
        return Err("the user name is empty".to_owned());
    }
    let parsed = PasswordHash::new(hash).map_err(|error| format!("the hash of \"{user}\" cannot be read: {error}"))?;
    if parsed.algorithm != argon2::ARGON2ID_IDENT || parsed.hash.is_none() {
        return Err(format!("the hash of \"{user}\" is not a whole argon2id hash"));
    }
    let params = argon2::Params::try_from(&parsed).map_err(|error| format!("the parameters of \"{user}\": {error}"))?;
    if params.m_cost() > MAX_MEMORY_KIB {
        return Err(format!("the hash of \"{user}\" wants {} KiB of memory; {MAX_MEMORY_KIB} are the most", params.m_cost()));
    }
    Ok((user, hash))
}

fn verify(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// Users whose passwords are verified beside the event loop.
#[derive(Debug)]
pub(super) struct Passwords {
    users: Arc<Users>,
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new(users: Users) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Passwords { users: Arc::new(users), places: Arc::new(Semaphore::new(threads.div_ceil(2).min(MAX_VERIFICATIONS))) }
    }

    /// [`Users::check`], waiting for its turn. Who stops waiting for the answer does not stop the work, so the place goes with it.
    pub(super) async fn verify(&self, user: &Text, password: Bytes) -> Option<bool> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (users, user) = (Arc::clone(&self.users), user.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let _place = place;
            users.check(&user, &password)
        });
        checked.await.unwrap_or(Some(false)) // it did not end: the process does
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_and_go_and_the_rest_of_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let mut users = Users::parse("# devices\n\n").unwrap();
        assert!(users.set("lock:1", b"first").unwrap() && users.set("app", b"").unwrap());
        assert!(!users.set("lock:1", "zweites §".as_bytes()).unwrap());
        users.write(&path).unwrap();
        let mut users = Users::read(&path).unwrap();
        for (user, password, expected) in [
            ("lock:1", "zweites §", Some(true)),
            ("lock:1", "first", Some(false)),
            ("app", "", Some(true)),
            ("app", "x", Some(false)),
            ("nobody", "zweites §", None),
        ] {
            assert_eq!(users.check(user, password.as_bytes()), expected, "{user} {password}");
        }
        assert!(users.remove("lock:1") && !users.remove("lock:1"));
        users.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# devices\n\napp:$argon2id$v=19$m="), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert_eq!(Users::read(&path).unwrap().check("app", b""), Some(true));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let good = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ILhXhWw8dZYh4PMVxz0R6ZTz5VqXLdTqFd1q1f1fNl8";
        let text = format!(
            "a:{good}\nno colon\n:{good}\nb:plain\nc:$2b$12$abcdefghijklmnopqrstuv\na:{good}\nd:$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$ILhXhWw8dZYh4PMVxz0R6ZTz5VqXLdTqFd1q1f1fNl8\ne:$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ILhXhWw8dZYh4PMVxz0R6ZTz5VqXLdTqFd1q1f1fNl8"
        );
        let errors = Users::parse(&text).expect_err("most lines are wrong");
        let lines: Vec<usize> = errors.iter().filter_map(PasswordError::line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8], "{errors:#?}");
        for user in ["", "#a", " a", "a\nb"] {
            assert!(matches!(Users::default().set(user, b"x"), Err(PasswordError::User(_))), "{user:?}");
        }
    }
}
