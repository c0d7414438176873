//! `settings`: what `[guest.settings]` says.

use crate::guest::{bindings::imported::settings, host::Host};

impl settings::Host for Host {
    fn get(&mut self, key: String) -> Option<String> {
        self.capabilities.setting(&key).map(str::to_owned)
    }

    fn get_all(&mut self) -> Vec<(String, String)> {
        self.capabilities.settings.clone()
    }
}
