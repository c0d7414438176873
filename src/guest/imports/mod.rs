//! The host's side of the capabilities, a file per interface. Which of them a guest may import is decided when it is loaded.

mod crypto;
mod log;
mod metrics;
mod settings;
mod state;

use wasmtime::component::{HasSelf, Linker};

pub(super) use self::{crypto::Keys, log::Log, metrics::Counts};
use super::{bindings::imported, host::Host};

/// Everything that a guest can be granted, and the plumbing of language runtimes.
pub(super) fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    imported::types::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    imported::log::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    imported::settings::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    imported::state::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    imported::metrics::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    imported::crypto::add_to_linker::<Host, HasSelf<Host>>(&mut linker, Host::called)?;
    Ok(linker)
}

impl imported::types::Host for Host {}
