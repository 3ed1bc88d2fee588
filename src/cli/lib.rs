//! Code shared by the three programs: command lines, output that can fail, text files that users
//! edit, signals, and the terminal.

pub mod command_line;
pub mod files;
pub mod interfaces;
pub mod invocation;
pub mod limits;
pub mod manual;
pub mod output;
pub mod private;
pub mod signals;
pub mod terminal;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod text_file;
