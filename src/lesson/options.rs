//! The lessons' command lines, and the question that the slides' programs ask when they start.

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::error::EchoError;
use super::{Print, client, one_at_a_time, thread_per_client};
use portal_cli::interfaces::{interfaces, table};
use portal_cli::output;
use portal_cli::terminal::set_title;
use portal_net::{Call, Host, Listener, Stream, Tap};
use portal_wire::printable;

/// The connect timeout.
const PATIENCE: Duration = Duration::from_secs(10);

/// `chatserver echo`.
#[derive(Args, Debug)]
pub struct EchoServer {
    /// The port to listen on
    #[arg(default_value = "8080")]
    port: u16,
    /// Use a single thread: a second client waits in the backlog
    #[arg(long)]
    one_at_a_time: bool,
    /// The address to listen on [default: all interfaces; with --one-at-a-time, prompts for it]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    #[command(flatten)]
    tracing: TraceOptions,
}

/// `chatclient echo`.
#[derive(Args, Debug)]
pub struct EchoClient {
    /// The server's address or name [default: prompts for it; blank means 127.0.0.1]
    server: Option<String>,
    /// The server's port
    #[arg(default_value = "8080")]
    port: u16,
    #[command(flatten)]
    tracing: TraceOptions,
}

#[derive(Args, Debug)]
struct TraceOptions {
    /// Print every socket call with its bytes
    #[arg(long)]
    trace: bool,
    /// Write N bytes at a time, to show that one write is not one read
    #[arg(long, value_name = "N")]
    chop: Option<NonZeroU16>,
}

impl TraceOptions {
    fn tap(&self) -> Tap {
        let mut tap = Tap {
            chop: self.chop.map(Into::into),
            ..Tap::default()
        };
        if self.trace {
            tap.trace = Some(Arc::new(|call: &Call<'_>| {
                output::report(&(call.line() + "\n"));
            }));
        }
        tap
    }
}

fn finish(program: &str, result: Result<(), EchoError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&format!("{program}: {error}\n"));
            ExitCode::from(error.code())
        }
    }
}

fn print(text: &str) {
    // A lesson continues even if its output fails.
    let _ = output::print(&format!("{text}\n"));
}

impl EchoServer {
    /// Serves until the process is ended. Exit code 2: it can't listen.
    pub fn run(&self) -> ExitCode {
        finish("chatserver", self.serve())
    }

    fn serve(&self) -> Result<(), EchoError> {
        let (title, serve): (_, fn(&Listener, Print<'_>) -> io::Result<()>) = if self.one_at_a_time
        {
            ("Echo server, one client at a time", one_at_a_time::serve)
        } else {
            (
                "Echo server, a thread for each client",
                thread_per_client::serve,
            )
        };
        set_title(title);
        let bind = match &self.bind {
            Some(text) => own_address(text, &print),
            None if self.one_at_a_time => own_address(
                &ask("Enter your IP address or leave blank for 127.0.0.1:"),
                &print,
            ),
            None => Ipv4Addr::UNSPECIFIED.into(),
        };
        let address = bind.at(self.port);
        let listener = Listener::bind(address, &self.tracing.tap())
            .map_err(|error| EchoError::Listen(address, error))?;
        print(&format!(
            "Listening on {}. Press Ctrl-C to stop.",
            listener.address()
        ));
        if bind.ip().is_unspecified() {
            print(&format!(
                "This address stands for all of these interfaces:\n{}",
                table(&interfaces(), true).trim_end()
            ));
        }
        serve(&listener, &print).map_err(EchoError::Serve)
    }
}

impl EchoClient {
    /// Runs until the user types `Exit`. Exit code 1: it can't reach the server, or has lost the
    /// connection.
    pub fn run(&self) -> ExitCode {
        finish("chatclient", self.talk())
    }

    fn talk(&self) -> Result<(), EchoError> {
        set_title("Echo client");
        let server = match &self.server {
            Some(text) => text.clone(),
            None => ask("Enter the server's IP address or leave blank for 127.0.0.1:"),
        };
        let stream = self.connect(&addresses(&server, self.port, &print))?;
        print(&format!(
            "Connected to {}. Type Exit to disconnect.",
            stream.peer()
        ));
        client::talk(&stream, io::stdin().lock(), &print)
    }

    /// Connects to the first address that accepts. A machine may have several, such as an IPv6
    /// address on which this server does not listen. If all fail, the last error is returned.
    fn connect(&self, addresses: &[SocketAddr]) -> Result<Stream, EchoError> {
        let mut failed = EchoError::Connect(
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port),
            io::ErrorKind::AddrNotAvailable.into(),
        );
        for &address in addresses {
            match Stream::connect(address, PATIENCE, &self.tracing.tap()) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = EchoError::Connect(address, error),
            }
        }
        Err(failed)
    }
}

fn ask(question: &str) -> String {
    print(question);
    let mut line = Vec::new();
    // The end of the input counts as a blank line.
    let _ = io::stdin().lock().read_until(b'\n', &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// Parses an address of this machine. Blank means 127.0.0.1, as does an invalid address (after a
/// warning).
fn own_address(text: &str, print: &dyn Fn(&str)) -> Host {
    let text = text.trim();
    if text.is_empty() {
        return Ipv4Addr::LOCALHOST.into();
    }
    text.parse().unwrap_or_else(|_| {
        print(&format!(
            "{} is not an IP address; using 127.0.0.1.",
            printable(text)
        ));
        Ipv4Addr::LOCALHOST.into()
    })
}

/// Resolves the server's address or name (the slides' `TcpClient` accepts both). Blank means
/// 127.0.0.1, as does an unknown name (after a warning).
fn addresses(text: &str, port: u16, print: &dyn Fn(&str)) -> Vec<SocketAddr> {
    let text = text.trim();
    let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    if text.is_empty() {
        return vec![default];
    }
    if let Ok(host) = text.parse::<Host>() {
        return vec![host.at(port)];
    }
    match (text, port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => {
            print(&format!(
                "{} is not an IP address, and no machine with that name is known ({error}); using 127.0.0.1.",
                printable(text)
            ));
            vec![default]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn bad_address_falls_back_with_a_warning() {
        let printed = RefCell::new(String::new());
        let print = |text: &str| printed.borrow_mut().push_str(text);
        assert_eq!(own_address(" 127.0.0.2\n", &print).to_string(), "127.0.0.2");
        assert_eq!(own_address("[::1]", &print).to_string(), "::1");
        assert_eq!(own_address("\n", &print).to_string(), "127.0.0.1");
        assert!(printed.borrow().is_empty());
        assert_eq!(own_address("nonsense", &print).to_string(), "127.0.0.1");
        assert!(printed.borrow().contains("nonsense"));
    }

    #[test]
    fn client_accepts_a_host_name() {
        let printed = RefCell::new(String::new());
        let print = |text: &str| printed.borrow_mut().push_str(text);
        let found = |text: &str| addresses(text, 8080, &print);
        assert!(
            found("localhost\n")
                .iter()
                .all(|found| found.ip().is_loopback())
        );
        assert_eq!(found("[::1]")[0].to_string(), "[::1]:8080");
        assert_eq!(found(" ")[0].to_string(), "127.0.0.1:8080");
        assert!(printed.borrow().is_empty());
        // A name that contains a blank does not exist, and is not looked up in DNS.
        assert_eq!(found("no machine")[0].to_string(), "127.0.0.1:8080");
        assert!(printed.borrow().contains("no machine"));
    }
}
