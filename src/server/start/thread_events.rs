//! Reports the server's threads to the board and to the event file, so that both list every thread
//! that `ps -L` shows.

use std::sync::Arc;

use crate::event::{Events, ServerEvent};
use crate::threads::{Roster, ThreadChange};

/// Emits an event for each running thread on this thread's roster, and for each one that starts or
/// exits, until the returned handle is dropped. Returns `None` if no reader needs these events.
///
/// Threads may outlive the server (the board's do), so the roster must not keep the event readers'
/// queues alive: it refers to the handle weakly.
pub(super) fn report_threads(events: &Events) -> Option<Arc<Events>> {
    if !events.want_threads() {
        return None;
    }
    let handle = Arc::new(events.clone());
    let events = Arc::downgrade(&handle);
    let report = move |change: ThreadChange<'_>| {
        let Some(events) = events.upgrade() else {
            return;
        };
        // Emit a pulse, which never displaces other events, however many connections come and go.
        events.emit_pulse(|| match change {
            ThreadChange::Started(name) => ServerEvent::ThreadStarted {
                name: name.to_owned(),
            },
            ThreadChange::Ended(name) => ServerEvent::ThreadEnded {
                name: name.to_owned(),
            },
        });
    };
    Roster::of_this_thread().observe(Box::new(report));
    Some(handle)
}
