//! The configuration that Hookgate runs with, and its variants for reloads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use parking_lot::Mutex;

use crate::{
    class::{ClassId, Stream, streams},
    topics::DEAD_LETTERS,
};

/// The file, what stands in it, and the guest beside it.
pub(crate) struct Configuration {
    pub(crate) file: PathBuf,
    pub(crate) data: PathBuf,
    /// The proxies.
    pub(crate) servers: String,
    pub(crate) classes: Vec<ClassId>,
    guest: Vec<u8>,
    variant: Mutex<Variant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Variant {
    routes: u32,
    kafka: u32,
    guest: u32,
}

impl Configuration {
    /// Writes the file and puts the guest beside it.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write(file: PathBuf, data: PathBuf, servers: String, classes: &[ClassId], guest: &Path) -> Result<Self> {
        let (guest, classes) = (fs::read(guest)?, classes.to_vec());
        let configuration = Configuration { file, data, servers, classes, guest, variant: Mutex::default() };
        replace(&configuration.guest_file(), &configuration.guest)?;
        replace(&configuration.file, configuration.text(Variant::default()).as_bytes())?;
        Ok(configuration)
    }

    /// Another variant of the routes, or of `[kafka]`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn vary(&self, kafka: bool) -> Result<()> {
        let mut variant = self.variant.lock();
        *(if kafka { &mut variant.kafka } else { &mut variant.routes }) += 1;
        replace(&self.file, self.text(*variant).as_bytes())
    }

    /// The same guest under another digest: a custom section more.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn swap_guest(&self) -> Result<()> {
        let mut variant = self.variant.lock();
        variant.guest += 1;
        let name = format!("v{}", variant.guest);
        let mut bytes = self.guest.clone();
        bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
        bytes.extend(name.as_bytes());
        replace(&self.guest_file(), &bytes)
    }

    fn guest_file(&self) -> PathBuf {
        self.file.with_file_name("gate.wasm")
    }

    fn text(&self, variant: Variant) -> String {
        let mut text = format!(
            "[node]\nname = \"chaos\"\ndata_dir = {data:?}\n\
             [store]\nsync = \"always\"\n\
             [spool]\nmax_bytes = 268435456\nsegment_bytes = 1048576\n\
             [mqtt]\ndenied_publish = \"disconnect\"\nsys_interval_s = 0\n\
             [[listener]]\nname = \"mqtt\"\nbind = \"127.0.0.1:0\"\n\
             [kafka]\nbootstrap_servers = {servers:?}\nlinger_ms = {linger_ms}\ndrain_timeout_ms = 5000\nrequest_timeout_ms = 10000\n\
             dead_letter_topic = \"{DEAD_LETTERS}\"\n\
             [[guest]]\nname = \"gate\"\npath = \"gate.wasm\"\n",
            data = self.data.to_string_lossy(),
            servers = self.servers,
            linger_ms = 5 + variant.kafka % 3,
        );
        for stream in streams(&self.classes) {
            let (name, topic) = (stream.class.name(), stream.kafka_topic());
            let lines = stream.route().map_or("", |route| route.lines);
            text += "[[route]]\nhook = \"message.publish\"\nformat = \"raw\"\n";
            text += &format!("name = \"{topic}\"\nfilter = \"chaos/{name}/+\"\ntopic = \"{topic}\"\n{lines}\n");
        }
        for extra in 0..variant.routes % 4 {
            text += &format!("[[route]]\nhook = \"message.publish\"\nfilter = \"nobody/{extra}\"\ntopic = \"{}\"\n", self.any_topic());
        }
        text
    }

    fn any_topic(&self) -> String {
        streams(&self.classes).first().copied().map(Stream::kafka_topic).unwrap_or_default()
    }
}

/// Puts `bytes` at `path` by rename, as careful deployments do.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)?;
    Ok(fs::rename(&beside, path)?)
}
