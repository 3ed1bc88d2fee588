//! How this program was called, so that what it tells people to type is what works for them: `make`
//! in a checkout, the program's own name where it is installed.

use std::path::Path;

use portal_net::Host;

/// How it was called.
pub enum Invocation {
    /// By cargo, and so most likely by make: its programs are not on anybody's PATH.
    Make,
    /// By name. Its sibling lies beside it, as it was called: `chatclient`, `/opt/bin/chatclient`.
    ByName {
        /// The folder as it was typed, with a slash, or nothing.
        folder: String,
    },
}

impl Invocation {
    /// How this process was called.
    pub fn of_this_process() -> Invocation {
        if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
            return Invocation::Make;
        }
        let name = std::env::args().next().unwrap_or_default();
        let folder = Path::new(&name).parent().map(Path::to_string_lossy);
        let folder = match folder.as_deref() {
            None | Some("") => String::new(),
            Some("/") => "/".to_owned(),
            Some(folder) => format!("{folder}/"),
        };
        Invocation::ByName { folder }
    }

    /// What starts a server.
    pub fn server(&self) -> String {
        match self {
            Invocation::Make => "make run-server".to_owned(),
            Invocation::ByName { folder } => format!("{folder}chatserver"),
        }
    }

    /// What starts a server on that port.
    pub fn server_at(&self, port: u16) -> String {
        match self {
            Invocation::Make => format!("`make run-server PORT={port}`"),
            Invocation::ByName { folder } => format!("`{folder}chatserver {port}`"),
        }
    }

    /// What starts a client that goes to that server and port, where they are not the usual ones.
    pub fn client(&self, server: Option<Host>, port: Option<u16>, options: &str) -> String {
        match self {
            Invocation::Make => {
                let mut command = "make run-client".to_owned();
                if let Some(server) = server {
                    command += &format!(" SERVER={server}");
                }
                if let Some(port) = port {
                    command += &format!(" PORT={port}");
                }
                if !options.is_empty() {
                    command += &format!(" ARGS='{options}'");
                }
                command
            }
            Invocation::ByName { folder } => {
                let mut command = format!("{folder}chatclient");
                match (server, port) {
                    (None, None) => {}
                    (Some(server), None) => command += &format!(" {server}"),
                    (None, Some(port)) => command += &format!(" 127.0.0.1 {port}"),
                    (Some(server), Some(port)) => command += &format!(" {server} {port}"),
                }
                if !options.is_empty() {
                    command += &format!(" {options}");
                }
                command
            }
        }
    }

    /// How to go to some other server, for a sentence.
    pub fn client_elsewhere(&self) -> String {
        match self {
            Invocation::Make => "make run-client SERVER=… PORT=…".to_owned(),
            Invocation::ByName { folder } => format!("{folder}chatclient SERVER PORT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_what_works_for_them() {
        let here = Some(Host::from(std::net::Ipv4Addr::new(10, 0, 0, 1)));
        let installed = |folder: &str| Invocation::ByName {
            folder: folder.to_owned(),
        };
        for (how, server, port, options, command) in [
            (Invocation::Make, None, None, "", "make run-client"),
            (
                Invocation::Make,
                here,
                Some(6000),
                "--portal udp",
                "make run-client SERVER=10.0.0.1 PORT=6000 ARGS='--portal udp'",
            ),
            (installed(""), None, None, "", "chatclient"),
            (installed("bin/"), here, None, "", "bin/chatclient 10.0.0.1"),
            (
                installed(""),
                None,
                Some(6000),
                "--portal udp",
                "chatclient 127.0.0.1 6000 --portal udp",
            ),
        ] {
            assert_eq!(how.client(server, port, options), command);
        }
    }
}
