//! Where the lines of `--trace` are shown.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::net::{Call, Trace};

/// Shows lines on standard error, or above the line that is being typed while there is one.
#[derive(Clone, Default)]
pub(crate) struct TraceOut {
    above: Arc<Mutex<Option<Sender<String>>>>,
}

impl fmt::Debug for TraceOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceOut")
    }
}

impl TraceOut {
    /// What a tap tells of each call.
    pub(crate) fn printing(&self) -> Trace {
        let out = self.clone();
        Arc::new(move |call: &Call<'_>| {
            out.print(call.line() + "\n");
        })
    }

    /// From now on `lines` shows them.
    pub(super) fn show_above(&self, lines: Sender<String>) {
        *self.above.lock() = Some(lines);
    }

    /// The terminal is in its ordinary state again.
    pub(super) fn show_plainly(&self) {
        *self.above.lock() = None;
    }

    fn print(&self, line: String) {
        match &*self.above.lock() {
            Some(lines) => {
                let _ = lines.send(line);
            }
            None => eprint!("{line}"),
        }
    }
}
