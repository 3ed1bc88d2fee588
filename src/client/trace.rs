//! The output of `--trace`.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, never, unbounded};
use parking_lot::Mutex;

use portal_cli::output;
use portal_net::{Call, Trace};

/// Prints lines on standard error or, while a line is being typed, above that line.
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
    /// Returns the function that a tap calls with each socket call.
    pub(crate) fn printing(&self) -> Trace {
        let out = self.clone();
        Arc::new(move |call: &Call<'_>| {
            out.print(call);
        })
    }

    /// Sends further lines to the returned channel, unless standard error is not the terminal.
    pub(super) fn show_above(&self) -> Receiver<String> {
        if !io::stderr().is_terminal() {
            return never();
        }
        let (lines, traced) = unbounded();
        *self.above.lock() = Some(lines);
        traced
    }

    /// Prints further lines on standard error, because the terminal is in its normal state again.
    pub(super) fn show_plainly(&self) {
        *self.above.lock() = None;
    }

    fn print(&self, call: &Call<'_>) {
        // Write nothing while holding the lock: the reader of standard error may have stopped.
        let above = self.above.lock().clone();
        match above {
            Some(lines) => {
                let _ = lines.send(call.line() + "\n");
            }
            None => output::report(&(call.line() + "\n")),
        }
    }
}
