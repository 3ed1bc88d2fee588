//! The lessons' command lines, and the question that the slides' programs ask at their start.

use std::io::{self, BufRead, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{client, one_at_a_time, thread_per_client};
use crate::interfaces::{interfaces, table};
use crate::net::{Call, Listener, Stream, Tap};

const REFUSED: u8 = 2;
/// How long the server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// `chatserver echo`.
#[derive(Args, Debug)]
pub struct EchoServer {
    /// Where to listen
    #[arg(default_value = "8080")]
    port: u16,
    /// One thread: the second client waits in the backlog
    #[arg(long)]
    one_at_a_time: bool,
    /// Where to listen [default: every interface; with --one-at-a-time it asks]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    #[command(flatten)]
    look: Look,
}

/// `chatclient echo`.
#[derive(Args, Debug)]
pub struct EchoClient {
    /// The server's address [default: it asks; blank is 127.0.0.1]
    server: Option<String>,
    /// Its port
    #[arg(default_value = "8080")]
    port: u16,
    #[command(flatten)]
    look: Look,
}

#[derive(Args, Debug)]
struct Look {
    /// Print every socket call with its bytes
    #[arg(long)]
    trace: bool,
    /// Write N bytes at a time, to see that one write is not one read
    #[arg(long, value_name = "N")]
    chop: Option<NonZeroU16>,
}

impl Look {
    fn tap(&self) -> Tap {
        let mut tap = Tap {
            chop: self.chop.map(Into::into),
            ..Tap::default()
        };
        if self.trace {
            tap.trace = Some(Arc::new(|call: &Call<'_>| call.print()));
        }
        tap
    }
}

fn finish(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{program}: {reason}; `{program} echo --help` helps");
            ExitCode::from(REFUSED)
        }
    }
}

fn say(text: &str) {
    // Whoever reads may have gone.
    let _ = writeln!(io::stdout(), "{text}");
}

impl EchoServer {
    /// Serves until it is ended. Code 2: it can't listen there.
    pub fn run(&self) -> ExitCode {
        finish("chatserver", self.serve())
    }

    fn serve(&self) -> Result<(), String> {
        let bind = match &self.bind {
            Some(text) => address(text, &say),
            None if self.one_at_a_time => {
                ask("Enter your IP address or leave blank for 127.0.0.1:")
            }
            None => Ipv4Addr::UNSPECIFIED.into(),
        };
        let address = SocketAddr::new(bind, self.port);
        let listener = Listener::bind(address, &self.look.tap())
            .map_err(|error| format!("can't listen on {address} ({error}); choose another PORT"))?;
        say(&format!(
            "Listening on {}. Ctrl-C ends it.",
            listener.address()
        ));
        if bind.is_unspecified() {
            say(&format!(
                "That is, on every interface:\n{}",
                table(&interfaces()).trim_end()
            ));
        }
        let served = if self.one_at_a_time {
            one_at_a_time::serve(&listener, &say)
        } else {
            thread_per_client::serve(&listener, &say)
        };
        served.map_err(|error| format!("can't go on ({error})"))
    }
}

impl EchoClient {
    /// Talks until somebody says `Exit`. Code 2: it can't reach the server, or has lost it.
    pub fn run(&self) -> ExitCode {
        finish("chatclient", self.connect())
    }

    fn connect(&self) -> Result<(), String> {
        let server = match &self.server {
            Some(text) => address(text, &say),
            None => ask("Enter the server's IP address or leave blank for 127.0.0.1:"),
        };
        let address = SocketAddr::new(server, self.port);
        let stream = Stream::connect(address, PATIENCE, &self.look.tap()).map_err(|error| {
            format!("can't reach {address} ({error}); `chatserver echo` starts a server")
        })?;
        say("Connected. Exit ends it.");
        client::talk(&stream, io::stdin().lock(), &say)
            .map_err(|error| format!("the connection is lost ({error})"))
    }
}

fn ask(question: &str) -> IpAddr {
    say(question);
    let mut line = String::new();
    // The end of the input is as good as a blank line.
    let _ = io::stdin().lock().read_line(&mut line);
    address(&line, &say)
}

/// The address that somebody typed: blank is 127.0.0.1, and so is, with a word, what is no address.
fn address(text: &str, say: &dyn Fn(&str)) -> IpAddr {
    let text = text.trim();
    if text.is_empty() {
        return Ipv4Addr::LOCALHOST.into();
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().unwrap_or_else(|_| {
        say(&format!("{text} is no IP address; using 127.0.0.1."));
        Ipv4Addr::LOCALHOST.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_bad_address_falls_back_with_a_word() {
        let said = RefCell::new(String::new());
        let say = |text: &str| said.borrow_mut().push_str(text);
        assert_eq!(address(" 127.0.0.2\n", &say).to_string(), "127.0.0.2");
        assert_eq!(address("[::1]", &say).to_string(), "::1");
        assert_eq!(address("\n", &say).to_string(), "127.0.0.1");
        assert!(said.borrow().is_empty());
        assert_eq!(address("nonsense", &say).to_string(), "127.0.0.1");
        assert!(said.borrow().contains("nonsense"));
    }
}
