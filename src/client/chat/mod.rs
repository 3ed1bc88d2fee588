//! The conversation as the person has it.
//!
//! `state` is who they are and whom they talk to; `typed` makes documents of lines, `heard` lines
//! of documents; `dialog` asks and takes answers; `rooms` goes into rooms and out of them.

mod completion;
mod dialog;
mod frames;
mod old_name;
mod question;
mod room_links;
mod rooms;
mod state;
mod typed;
mod words;

pub(super) use completion::{CompletionWords, completions};
pub(super) use state::{Beginning, Chat, SessionEnd, mention};
