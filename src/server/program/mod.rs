//! The program `chatserver`: its command line, the operator's console, its signals. It stands above
//! the server, which knows nothing of it.

#[cfg(feature = "cluster")]
mod cluster;
mod effective_settings;
mod identity;
mod manual;
mod operator;
mod options;
mod run;

pub use run::main;
