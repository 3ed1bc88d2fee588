//! The `chatserver` program: its command line, the operator's console, and its signals. The server
//! itself does not depend on this module.

#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod effective_settings;
mod identity;
#[cfg(feature = "journal")]
mod journal;
mod manual;
mod operator;
mod options;
mod reload;
mod run;
mod values;

pub use run::main;
