//! The lessons' command lines, and the question that the slides' programs ask at their start.

use std::ffi::OsString;
use std::io::{self, BufRead, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::{client, one_at_a_time, thread_per_client};
use crate::interfaces::{interfaces, table};
use crate::net::{Call, Listener, Stream, Tap};

const DEFAULT_PORT: u16 = 8080;
const REFUSED: u8 = 2;
/// How long the server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

const SERVER_HELP: &str = "\
chatserver echo: the lessons' server, which sends every line back

Usage: chatserver echo [PORT] [--one-at-a-time] [--bind ADDRESS] [--trace] [--chop N]

  PORT               where to listen (8080)
  --one-at-a-time    one thread: the second client waits in the backlog
  --bind ADDRESS     where to listen (every interface; with --one-at-a-time it asks)
  --trace            print every socket call with its bytes
  --chop N           write N bytes at a time, to see that one write is not one read";

const CLIENT_HELP: &str = "\
chatclient echo: the lessons' client

Usage: chatclient echo [SERVER [PORT]] [--trace] [--chop N]

  SERVER    the server's address (it asks; blank is 127.0.0.1)
  PORT      its port (8080)
  --trace   print every socket call with its bytes
  --chop N  write N bytes at a time, to see that one write is not one read";

/// Runs `chatserver echo`; `arguments` are those after the word `echo`.
pub fn server_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    finish("chatserver", serve(arguments))
}

/// Runs `chatclient echo`; `arguments` are those after the word `echo`.
pub fn client_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    finish("chatclient", connect(arguments))
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

fn serve(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let (mut port, mut one, mut bind) = (None, false, None);
    let mut tap = Tap::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => {
                say(SERVER_HELP);
                return Ok(());
            }
            Arg::Long("one-at-a-time") => one = true,
            Arg::Long("trace") => tap.trace = Some(Arc::new(|call: &Call<'_>| call.print())),
            Arg::Long("chop") => tap.chop = Some(piece(&word(parser.value())?)?),
            Arg::Long("bind") => bind = Some(word(parser.value())?),
            Arg::Value(value) if port.is_none() => port = Some(port_from(&word(Ok(value))?)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let bind = match bind {
        Some(text) => address(&text, &say),
        None if one => ask("Enter your IP address or leave blank for 127.0.0.1:"),
        None => Ipv4Addr::UNSPECIFIED.into(),
    };
    let address = SocketAddr::new(bind, port.unwrap_or(DEFAULT_PORT));
    let listener = Listener::bind(address, &tap)
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
    let served = if one {
        one_at_a_time::serve(&listener, &say)
    } else {
        thread_per_client::serve(&listener, &say)
    };
    served.map_err(|error| format!("can't go on ({error})"))
}

fn connect(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let (mut server, mut port) = (None, None);
    let mut tap = Tap::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => {
                say(CLIENT_HELP);
                return Ok(());
            }
            Arg::Long("trace") => tap.trace = Some(Arc::new(|call: &Call<'_>| call.print())),
            Arg::Long("chop") => tap.chop = Some(piece(&word(parser.value())?)?),
            Arg::Value(value) if server.is_none() => server = Some(word(Ok(value))?),
            Arg::Value(value) if port.is_none() => port = Some(port_from(&word(Ok(value))?)?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let server = match server {
        Some(text) => address(&text, &say),
        None => ask("Enter the server's IP address or leave blank for 127.0.0.1:"),
    };
    let address = SocketAddr::new(server, port.unwrap_or(DEFAULT_PORT));
    let stream = Stream::connect(address, PATIENCE, &tap).map_err(|error| {
        format!("can't reach {address} ({error}); `chatserver echo` starts a server")
    })?;
    say("Connected. Exit ends it.");
    client::talk(&stream, io::stdin().lock(), &say)
        .map_err(|error| format!("the connection is lost ({error})"))
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

fn word(value: Result<OsString, lexopt::Error>) -> Result<String, String> {
    value
        .and_then(|value| value.string())
        .map_err(|error| error.to_string())
}

/// What `--chop` says.
fn piece(text: &str) -> Result<std::num::NonZeroUsize, String> {
    text.parse::<NonZeroU16>()
        .map(Into::into)
        .map_err(|_| format!("--chop {text}: it is a whole number from 1 to 65535"))
}

fn port_from(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("PORT {text}: it is a whole number from 0 to 65535"))
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
