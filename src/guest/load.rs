//! Whether a component may become a guest: what it is, what it imports, what it exports.

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::failure::Failure;
use crate::config::Grant;

/// Our own package in import names.
const OURS: &str = "hookgate:guest/";
/// The packages of WASI 0.2 that language runtimes link against.
const PLUMBING: [&str; 6] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", "wasi:sockets/"];
/// What every WebAssembly binary begins with.
const MAGIC: &[u8] = b"\0asm";
/// The first bytes of a core module; a component's differ in the fifth.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Why a component cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A core module: what compilers make before it is wrapped.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// The bytes are no component, or one that is broken or cut off.
    #[error("this is not a WebAssembly component that can be compiled: {0}")]
    Broken(String),
    /// It imports a capability that its configuration does not grant.
    #[error("it imports `{import}`, which it was not granted")]
    Ungranted {
        /// The import's full name.
        import: String,
        /// The grant that is missing.
        grant: Grant,
    },
    /// It imports what no guest can be granted.
    #[error("it imports `{0}`, which this version of Hookgate does not have")]
    UnknownImport(String),
    /// An import or export has the right name and the wrong type.
    #[error("it does not fit the interface: {0}")]
    Mismatch(String),
    /// It exports nothing that a hook could call.
    #[error("it exports none of the interfaces `publish`, `access` and `events`")]
    NoHooks,
    /// `lifecycle.start` asks for a setting that is not there.
    #[error("it cannot do without the setting \"{0}\"")]
    MissingSetting(String),
    /// `lifecycle.start` names a hook that does not exist.
    #[error("its manifest names the hook \"{0}\", which does not exist")]
    UnknownHook(String),
    /// The trial run failed.
    #[error("its trial run failed: {0}")]
    Trial(Failure),
}

impl LoadError {
    /// The step of a deployment that it did not pass.
    pub const fn step(&self) -> &'static str {
        match self {
            LoadError::CoreModule | LoadError::Broken(_) => "compile",
            LoadError::Ungranted { .. } | LoadError::UnknownImport(_) => "imports",
            LoadError::Mismatch(_) | LoadError::NoHooks => "link",
            LoadError::MissingSetting(_) | LoadError::UnknownHook(_) | LoadError::Trial(_) => "start",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            LoadError::CoreModule => {
                "make a component of it: build for the target wasm32-wasip2, or `wasm-tools component new module.wasm -o guest.wasm`"
                    .to_owned()
            }
            LoadError::Broken(_) => "build it again; if it is being copied here, replace the file by rename".to_owned(),
            LoadError::Ungranted { grant, .. } => format!("add \"{}\" to grants, or use a guest that does without", grant.name()),
            LoadError::UnknownImport(_) => {
                let grants: Vec<&str> = Grant::ALL.iter().map(|grant| grant.name()).collect();
                format!("build it against this version's wit/guest.wit; guests can be granted: {}", grants.join(", "))
            }
            LoadError::Mismatch(_) => "build it against this version's wit/guest.wit".to_owned(),
            LoadError::NoHooks => {
                "build it for one of the worlds publish-guest, access-guest, events-guest, downlink-guest or full-guest".to_owned()
            }
            LoadError::MissingSetting(name) => format!("write settings = {{ {name} = \"…\" }}"),
            LoadError::UnknownHook(_) => "hooks have names like \"message.publish\" and \"session.subscribed\"".to_owned(),
            LoadError::Trial(_) => "the guest's own message says why; its log lines may say more".to_owned(),
        }
    }
}

/// The digest by which a version is known: SHA-256 in lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a core module before the compiler sees it.
pub(super) fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.starts_with(CORE_MODULE) {
        Err(LoadError::CoreModule)
    } else if !bytes.starts_with(MAGIC) {
        Err(LoadError::Broken("it does not begin with WebAssembly's magic bytes".to_owned()))
    } else {
        Ok(())
    }
}

/// Compares what the component wants with what it was granted; every import that is too much is named.
pub(super) fn check_imports(engine: &wasmtime::Engine, component: &Component, grants: &[Grant]) -> Vec<LoadError> {
    component.component_type().imports(engine).filter_map(|(name, _)| check_import(name, grants)).collect()
}

fn check_import(import: &str, grants: &[Grant]) -> Option<LoadError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if PLUMBING.iter().any(|package| interface.starts_with(package)) && version.starts_with("0.2.") {
        return None;
    }
    let known = interface.strip_prefix(OURS).filter(|_| version.starts_with("0.1."));
    let grant = known.and_then(|name| Grant::ALL.iter().copied().find(|grant| grant.name() == name));
    match (known, grant) {
        (Some("types"), _) => None,
        (_, Some(grant)) if grants.contains(&grant) => None,
        (_, Some(grant)) => Some(LoadError::Ungranted { import: import.to_owned(), grant }),
        _ => Some(LoadError::UnknownImport(import.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_compared_with_grants() {
        let ungranted = |import: &str, grant| Some(LoadError::Ungranted { import: import.to_owned(), grant });
        let unknown = |import: &str| Some(LoadError::UnknownImport(import.to_owned()));
        let grants = [Grant::Log, Grant::State];
        for (import, expected) in [
            ("hookgate:guest/types@0.1.0", None),
            ("hookgate:guest/log@0.1.0", None),
            ("hookgate:guest/log@0.1.7", None),
            ("hookgate:guest/crypto@0.1.0", ungranted("hookgate:guest/crypto@0.1.0", Grant::Crypto)),
            ("hookgate:guest/log@0.2.0", unknown("hookgate:guest/log@0.2.0")),
            ("hookgate:guest/http@0.1.0", unknown("hookgate:guest/http@0.1.0")),
            ("wasi:cli/stderr@0.2.6", None),
            ("wasi:filesystem/types@0.2.3", None),
            ("wasi:http/outgoing-handler@0.2.0", unknown("wasi:http/outgoing-handler@0.2.0")),
            ("wasi:cli/stderr@0.3.0", unknown("wasi:cli/stderr@0.3.0")),
            ("other", unknown("other")),
        ] {
            assert_eq!(check_import(import, &grants), expected, "{import}");
        }
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
