//! The `chatserver` program: reads its options, wires the other crates together, and runs them.

#![warn(missing_docs)]

pub mod event;
pub mod limits;
pub mod metrics;
pub mod program;
pub mod start;

pub(crate) use portal_accounts as accounts;
pub(crate) use portal_board as board;
pub(crate) use portal_cli::{
    command_line, files, interfaces, invocation, manual, output, private, signals, terminal,
    text_file,
};
pub(crate) use portal_core::{clock, seat};
pub(crate) use portal_lesson as lesson;
pub(crate) use portal_net as net;
pub(crate) use portal_net::{lock, threads};
pub(crate) use portal_sessions::chat;
#[cfg(feature = "tls")]
pub(crate) use portal_tls as tls;
pub(crate) use portal_web as web;
pub(crate) use portal_wire as wire;
