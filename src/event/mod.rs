//! What happened, as a type. Everything that the server does is told here, once; the console,
//! the event file and the tests are readers of it.
//!
//! Telling never waits: each reader has a bounded queue, and an event that finds it full is
//! counted as dropped for that reader. A server that nobody watches does not even build events.

mod readers;
mod record;
mod shutter;
mod telling;
mod what;

pub(crate) use readers::TOO_FAST;
pub use readers::{ReaderThread, start_console, start_event_file};
pub use record::Record;
pub use shutter::Shutter;
pub use telling::{EventQueue, Events};
pub use what::{Event, Place, Via, What};
