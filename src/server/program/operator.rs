//! The operator's commands at the server's own terminal.

use std::time::Duration;

#[cfg(feature = "cluster")]
use super::cluster;
use crate::output::counted;
use crate::start::{Connected, Server};
use crate::wire::printable;

const HELP: &str = "  who                  list the clients, with addresses, times and traffic
  servers              list the servers of the cluster
  say TEXT             send a notice to every client
  kick NAME [REASON]   disconnect a client, by name or by the port of its seat
  stop                 notify every client and shut down (so do Ctrl-C and Ctrl-D)
  help                 show this list";

const COMMANDS: [&str; 6] = ["who", "servers", "say", "kick", "stop", "help"];

/// The outcome of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obeyed {
    /// A reply to show.
    Show(String),
    /// A request to shut the server down.
    Stop,
}

/// Runs a command.
pub(super) fn obey(server: &Server, line: &str) -> Obeyed {
    let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let rest = rest.trim();
    Obeyed::Show(match command {
        "" => String::new(),
        "stop" => return Obeyed::Stop,
        "help" => HELP.to_owned(),
        "who" => who(server),
        #[cfg(feature = "cluster")]
        "servers" => cluster::servers(server),
        #[cfg(not(feature = "cluster"))]
        "servers" => "  this server is not in a cluster".to_owned(),
        "say" if rest.is_empty() => "  usage: say TEXT".to_owned(),
        "say" => format!(
            "  sent to {}",
            counted(server.broadcast(rest), "client", "clients")
        ),
        "kick" if rest.is_empty() => "  usage: kick NAME [REASON]".to_owned(),
        "kick" => {
            let (name, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            if server.kick(name, reason.trim()) {
                format!("  disconnected {}", printable(name))
            } else {
                let name = printable(name);
                format!("  no client is called {name}; `who` lists the clients")
            }
        }
        other => format!(
            "  unknown command {}; `help` lists the commands",
            printable(other)
        ),
    })
}

/// Returns the completions of the operator's line (a command, or the name after `kick`) and the
/// offset at which they begin.
pub(super) fn completions(before: &str, names: &[String]) -> (usize, Vec<String>) {
    let begins = |words: &mut dyn Iterator<Item = String>, start: &str| -> Vec<String> {
        words
            .filter(|word| {
                word.to_ascii_lowercase()
                    .starts_with(&start.to_ascii_lowercase())
            })
            .collect()
    };
    match before.split_once(' ') {
        None => (
            0,
            begins(&mut COMMANDS.iter().map(|word| (*word).to_owned()), before),
        ),
        Some(("kick", start)) => ("kick ".len(), begins(&mut names.iter().cloned(), start)),
        Some(_) => (before.len(), Vec::new()),
    }
}

/// Returns a table of this server's clients, and the users of other servers.
fn who(server: &Server) -> String {
    #[cfg(feature = "cluster")]
    return who_is_here(server) + &cluster::elsewhere(server);
    #[cfg(not(feature = "cluster"))]
    who_is_here(server)
}

fn who_is_here(server: &Server) -> String {
    let connected = server.connected();
    if connected.is_empty() {
        return "  no clients are connected".to_owned();
    }
    let mut table = row([
        "name", "seat", "port", "from", "since", "idle", "sent", "received", "threads",
    ]);
    for Connected {
        seat,
        port,
        threads,
        connection,
    } in connected
    {
        let ago = |ticks: u64| ago(server.tick(), server.now().0.saturating_sub(ticks));
        let amount = |(messages, bytes): (u64, u64)| format!("{messages}/{bytes}B");
        table.push('\n');
        table += &row([
            &printable(&connection.label()),
            &seat.to_string(),
            &port.to_string(),
            &connection.peer.to_string(),
            &ago(connection.since.0),
            &ago(connection.last_activity().unwrap_or(connection.since).0),
            &amount(connection.sent()),
            &amount(connection.got()),
            &threads,
        ]);
    }
    table
}

/// Formats one line of the table. The threads come last, because they are the least important.
fn row(columns: [&str; 9]) -> String {
    let [name, seat, port, from, since, idle, sent, received, threads] = columns;
    format!(
        "  {name:<12} {seat:>4} {port:>5}  {from:<21} {since:>6} {idle:>6} {sent:>9} {received:>9}  {threads}"
    )
}

fn ago(tick: Duration, ticks: u64) -> String {
    let seconds = tick.as_secs().max(1) * ticks;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let second = Duration::from_secs(1);
        assert_eq!(
            [ago(second, 7), ago(second, 133), ago(second * 2, 3700)],
            ["7s", "2m13s", "2h03m"]
        );
    }

    #[test]
    fn tab_completes_commands_and_names() {
        let names = ["Bob".to_owned(), "carol".to_owned()];
        assert_eq!(
            completions("s", &names),
            (0, ["servers", "say", "stop"].map(str::to_owned).to_vec())
        );
        assert_eq!(completions("kick b", &names), (5, vec!["Bob".to_owned()]));
        assert_eq!(completions("say b", &names).1, Vec::<String>::new());
        for command in COMMANDS {
            let first_words = HELP
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            assert!(first_words.into_iter().any(|word| word == command));
        }
    }
}
