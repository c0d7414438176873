//! What went wrong beside the messages themselves: noted by whoever sees it, judged in the end.

use std::sync::Arc;

use parking_lot::Mutex;

/// More of them are not kept.
const MOST: usize = 200;

/// A list that its clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Arc<Mutex<Vec<String>>>);

impl Troubles {
    pub(crate) fn note(&self, trouble: String) {
        eprintln!("chaos: TROUBLE: {trouble}");
        let mut all = self.0.lock();
        if all.len() < MOST {
            all.push(trouble);
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
