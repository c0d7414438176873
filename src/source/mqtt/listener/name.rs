//! Names from certificates, whoever has read them.

use crate::event::Text;

/// A name that can be an MQTT user name.
pub(super) fn usable(name: &str) -> Option<Text> {
    (!name.is_empty() && name.len() <= usize::from(u16::MAX) && !name.contains('\0')).then(|| Text::from(name))
}
