//! Output of events: the console, the event file, and JSON.

mod json;
#[cfg(all(test, feature = "cluster", feature = "journal"))]
#[cfg(test)]
mod lines;
mod readers;
mod recording;

pub(crate) use json::{from_json, to_json};
pub use portal_accounts::AccountEvent;
#[cfg(test)]
pub use portal_accounts::policies::PolicyEvent;
pub use portal_core::event::*;
pub use portal_sessions::event::SessionEvent;
pub use portal_web::event::EntranceEvent;
pub(crate) use readers::start_console;
pub use readers::{ReaderThread, start_event_file};
pub use recording::{Recording, RecordingError};

portal_core::event_kinds! {
    /// An event that the program itself emits.
    pub enum ServerEvent {
        /// An explanation for the viewers of a demonstration. `look` is the part of the board that
        /// it is about, such as `stack` or `50001`.
        Caption = "caption" { text: String, look: Option<String> },
        /// An act of a demonstration is over, but its actors are still connected, so this is a good
        /// place for a viewer to pause.
        ActEnded = "act-ended" {},
        /// A thread with this name has started. Only the board and the event file receive this
        /// event.
        ThreadStarted = "thread-started" { name: String },
        /// A thread with this name is about to exit.
        ThreadEnded = "thread-ended" { name: String },
    }
}
