//! Where the lines of `--trace` are shown.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use portal_cli::output;
use portal_net::{Call, Trace};

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
            out.print(call);
        })
    }

    /// From now on `lines` shows them, unless standard error goes somewhere else than to the
    /// terminal.
    pub(super) fn show_above(&self, lines: Sender<String>) {
        if io::stderr().is_terminal() {
            *self.above.lock() = Some(lines);
        }
    }

    /// The terminal is in its ordinary state again.
    pub(super) fn show_plainly(&self) {
        *self.above.lock() = None;
    }

    fn print(&self, call: &Call<'_>) {
        // Nothing is written under the lock: whoever reads standard error may have stopped.
        let above = self.above.lock().clone();
        match above {
            Some(lines) => {
                let _ = lines.send(call.line() + "\n");
            }
            None => output::report(&(call.line() + "\n")),
        }
    }
}
