//! Events on their way out of the server: the console, the event file, and JSON.

mod json;
mod readers;
mod recording;

pub use json::{from_json, to_json};
pub use portal_core::event::*;
pub use portal_web::event::EntranceEvent;
pub use readers::{ReaderThread, start_console, start_event_file};
pub use recording::{Recording, RecordingError};

portal_core::event_kinds! {
    /// An event of the program.
    pub enum ServerEvent {
        /// A line of the accounts file is not an account. It stays, and its name is reserved.
        DamagedAccount = "damaged-account" {
            line: usize, reason: &'static str, fix: &'static str, name: Option<String>, file: String
        },
        /// An explanation for the viewers of a demonstration.
        Caption = "caption" { text: String },
    }
}
