//! Detects how this program was started, so that commands in messages work exactly as printed: with
//! `make` in a checkout, with the program's own name if it is installed.

use std::path::Path;

use portal_net::Host;

pub enum Invocation {
    /// By cargo, so most likely through make. The programs are not on the user's PATH.
    Make,
    /// By name, such as `chatclient` or `/opt/bin/chatclient`. The other programs are in the same
    /// folder.
    ByName {
        /// The folder as typed, with a trailing slash; empty if there was none.
        folder: String,
    },
}

impl Invocation {
    /// Detects how this process was started.
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

    /// The command that starts a server.
    pub fn server(&self) -> String {
        match self {
            Invocation::Make => "make run-server".to_owned(),
            Invocation::ByName { folder } => format!("{folder}chatserver"),
        }
    }

    /// The command that starts a server with TLS, in backquotes. `with_page` is set for a server
    /// with a page for browsers.
    pub fn server_with_tls(&self, with_page: bool) -> String {
        match self {
            Invocation::Make if with_page => "`make run-web ARGS=--tls`".to_owned(),
            Invocation::Make => "`make run-server ARGS='… --tls'`".to_owned(),
            Invocation::ByName { folder } => format!("`{folder}chatserver … --tls`"),
        }
    }

    /// The command that starts a server on `port`, in backquotes.
    pub fn server_at(&self, port: u16) -> String {
        match self {
            Invocation::Make => format!("`make run-server PORT={port}`"),
            Invocation::ByName { folder } => format!("`{folder}chatserver {port}`"),
        }
    }

    /// The command that starts a client. `server` and `port` are `None` for the defaults.
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

    /// The command that starts a client for another server, with placeholders.
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
    fn commands_work_exactly_as_printed() {
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
