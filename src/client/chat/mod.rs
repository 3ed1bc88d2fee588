//! The conversation from the user's point of view.
//!
//! `state` holds the user's name and recipients; `typed` converts lines into documents, and
//! `frames` converts documents into lines; `dialog` asks questions and handles the answers; `rooms`
//! joins and leaves rooms.

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
pub(super) use state::{Beginning, Chat, Handled, SessionEnd, mention};
