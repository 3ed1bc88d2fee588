//! The operator's commands at the server's own terminal.

use std::time::Duration;

#[cfg(feature = "cluster")]
use super::cluster;
use crate::accounts::SharedAccounts;
use crate::accounts::policies::read_subject;
use crate::output::counted;
use crate::start::{Connected, Server};
use crate::wire::time::{duration_in_words, read_duration};
use crate::wire::{Name, printable};
use portal_sessions::moderation::after_removal;
use portal_sessions::policies::{Banned, RoomRule, Rule};
use portal_sessions::tokens::SessionTokens as _;

const HELP: &str = "  who                  list the clients, with addresses, times and traffic
  servers              list the servers of the cluster
  say TEXT             send a notice to every client
  kick NAME [REASON]   disconnect a client (by name or seat port) and keep it out for a minute
  kick NAME in ROOM [REASON]
                       remove a user from a room
  ban NAME [DURATION] [REASON]
                       disconnect a user and reject later logins; DURATION is 30s, 10m, 2h or 7d
  ban ADDRESS[/PREFIX] [DURATION] [REASON]
                       ban all clients from an address or a network
  unban NAME|ADDRESS[/PREFIX]
                       lift a ban
  mute NAME [in ROOM] [DURATION]
                       reject a user's messages, everywhere or in one room
  unmute NAME [in ROOM]
                       lift a mute
  rooms                list the rooms and their rules
  room NAME open|invite|password WORD|moderated|unmoderated
                       change a room's rules
  room NAME moderator NAME [off]
                       make a user a moderator of a room (off: undo)
  bans                 list the bans and mutes
  accounts             list the accounts
  passwd NAME          give an account a new random password, and show it
  delete NAME          delete an account and its direct messages, and free its name
  invite               create an invitation code for one registration, and show it
  logout NAME          revoke the session tokens that keep NAME's browsers signed in
  moderator NAME [off] let a user kick, mute and ban others (off: undo)
  moderators           list the moderators
  reload               read --config, --motd and the certificate again
  stop                 notify every client and shut down (also: Ctrl-C or Ctrl-D)
  help                 show this list";

const COMMANDS: [&str; 21] = [
    "who",
    "servers",
    "say",
    "kick",
    "ban",
    "unban",
    "mute",
    "unmute",
    "rooms",
    "room",
    "bans",
    "accounts",
    "passwd",
    "delete",
    "invite",
    "logout",
    "moderator",
    "moderators",
    "reload",
    "stop",
    "help",
];

/// Commands whose first argument is a name.
const WITH_NAME: [&str; 9] = [
    "kick",
    "ban",
    "unban",
    "mute",
    "unmute",
    "moderator",
    "passwd",
    "delete",
    "logout",
];

/// The outcome of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obeyed {
    /// A reply to show.
    Show(String),
    /// A request to read the configuration again.
    Reload,
    /// A request to shut the server down.
    Stop,
}

/// Runs the operator's commands, and keeps the command that is waiting for a confirmation.
#[derive(Default)]
pub(super) struct Operator {
    unconfirmed: Option<Rule>,
}

impl Operator {
    /// Runs a command.
    pub(super) fn obey(&mut self, server: &Server, line: &str) -> Obeyed {
        let line = line.trim();
        let unconfirmed = self.unconfirmed.take();
        if let Some(rule) = unconfirmed {
            if line == "yes" {
                return Obeyed::Show(change(server, rule));
            }
            if line.is_empty() || line == "no" {
                return Obeyed::Show("  nothing was banned".to_owned());
            }
        }
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        Obeyed::Show(match command {
            "" => String::new(),
            "stop" => return Obeyed::Stop,
            "reload" => return Obeyed::Reload,
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
            "kick" if rest.is_empty() => "  usage: kick NAME [in ROOM] [REASON]".to_owned(),
            "kick" => {
                if let Some((user, Some(room), reason)) = read_whom(rest) {
                    let rule = RoomRule::Remove(user.clone());
                    let removed = server.chat().change_room(None, &room, &rule, reason);
                    return Obeyed::Show(match removed {
                        Ok(was_there) => {
                            format!("  {}", after_removal(&user, room.as_str(), was_there))
                        }
                        Err(refusal) => format!("  {}", refusal.sentence),
                    });
                }
                let (name, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                if server.kick(name, reason.trim()) {
                    format!("  disconnected {}", printable(name))
                } else {
                    let name = printable(name);
                    format!("  no client is named {name}; `who` lists the clients")
                }
            }
            "ban" => self.ban(server, rest),
            "unban" => match read_subject(rest) {
                Some(whom) => change(server, Rule::Unban(whom)),
                None => "  usage: unban NAME|ADDRESS[/PREFIX]".to_owned(),
            },
            "mute" => mute(server, rest),
            "unmute" => unmute(server, rest),
            "rooms" => rooms(server),
            "room" => room(server, rest),
            "bans" => bans(server),
            "accounts" => with_accounts(server, accounts),
            "passwd" => with_accounts(server, |accounts| passwd(accounts, rest)),
            "delete" => with_accounts(server, |accounts| delete(server, accounts, rest)),
            "invite" => with_accounts(server, |_| match server.policies().invite() {
                Ok(code) if server.needs_invitations() => {
                    format!("  {code} is valid for one registration")
                }
                Ok(code) => format!(
                    "  {code} is valid for one registration, but only after the server is \
                     restarted with --register invite"
                ),
                Err(error) => format!("  {error}"),
            }),
            "logout" => logout(server, rest),
            "moderator" => moderator(server, rest),
            "moderators" => moderators(server),
            other => format!(
                "  unknown command {}; `help` lists the commands",
                printable(other)
            ),
        })
    }

    /// Sets a ban. If it covers an address with clients, or a whole network, asks for confirmation
    /// first.
    fn ban(&mut self, server: &Server, rest: &str) -> String {
        const USAGE: &str = "  usage: ban NAME|ADDRESS[/PREFIX] [DURATION] [REASON], where DURATION is \
                             30s, 10m, 2h or 7d";
        let (whom, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let Some(whom) = read_subject(whom) else {
            return USAGE.to_owned();
        };
        let Some((duration, reason)) = split_duration(rest) else {
            return USAGE.to_owned();
        };
        let covered = server.chat().covered(&whom);
        let rule = Rule::Ban(whom.clone(), duration, reason);
        let Banned::Network(network) = whom else {
            return change(server, rule);
        };
        if network.is_host() && covered.is_empty() {
            return change(server, rule);
        }
        const SHOWN: usize = 10;
        let clients: Vec<String> = covered
            .iter()
            .take(SHOWN)
            .map(|there| format!("{} ({})", printable(&there.label()), there.peer.ip()))
            .collect();
        let more = if covered.len() > SHOWN { ", …" } else { "" };
        let clients = match covered.len() {
            0 => "no connected client".to_owned(),
            count => format!(
                "{}: {}{more}",
                counted(count, "connected client", "connected clients"),
                clients.join(", ")
            ),
        };
        self.unconfirmed = Some(rule);
        let summary = match network.is_host() {
            true => format!("{network} is the address of {clients}"),
            false => format!(
                "{network} contains {} addresses and {clients}",
                network.size()
            ),
        };
        format!("  {summary}\n  type `yes` to ban it, or `no` to cancel")
    }
}

/// Changes a rule, and returns the reply.
fn change(server: &Server, rule: Rule) -> String {
    let done = match &rule {
        Rule::Ban(whom, duration, _) => format!("{whom} is banned{}", until(*duration)),
        Rule::Unban(whom) => format!("{whom} is no longer banned"),
        Rule::Mute(name, duration) => format!("{name} is muted{}", until(*duration)),
        Rule::Unmute(name) => format!("{name} may send messages again"),
    };
    match server.chat().change_rule(None, rule) {
        Ok(ended) if ended.is_empty() => format!("  {done}"),
        Ok(ended) => {
            let ended = ended.iter().map(|label| printable(label).to_string());
            let ended: Vec<String> = ended.collect();
            format!("  {done}; disconnected {}", ended.join(", "))
        }
        Err(refusal) => format!("  {}", refusal.sentence),
    }
}

fn until(duration: Option<Duration>) -> String {
    duration.map_or(String::new(), |duration| {
        format!(" for {}", duration_in_words(duration))
    })
}

fn name(text: &str) -> Option<Name> {
    Name::new(text).filter(Name::is_for_a_person)
}

/// Splits `[DURATION] [REASON]`. A first word that is not a duration belongs to the reason, unless
/// it begins with a digit: a typo must not make a ban permanent.
fn split_duration(text: &str) -> Option<(Option<Duration>, String)> {
    let text = text.trim();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match read_duration(first) {
        Some(duration) => Some((Some(duration), printable(rest.trim()).to_string())),
        None if first.starts_with(|first: char| first.is_ascii_digit()) => None,
        None => Some((None, printable(text).to_string())),
    }
}

/// Reads `NAME [in ROOM] [REST]`.
fn read_whom(text: &str) -> Option<(Name, Option<Name>, &str)> {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (user, rest) = (name(first)?, rest.trim());
    let Some(rest) = rest.strip_prefix("in ") else {
        return Some((user, None, rest));
    };
    let (room, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    Some((user, Some(Name::new(room)?), rest.trim()))
}

fn mute(server: &Server, rest: &str) -> String {
    const USAGE: &str =
        "  usage: mute NAME [in ROOM] [DURATION], where DURATION is 30s, 10m, 2h or 7d";
    let Some((user, room, rest)) = read_whom(rest) else {
        return USAGE.to_owned();
    };
    let duration = read_duration(rest);
    if !rest.is_empty() && duration.is_none() {
        return USAGE.to_owned();
    }
    match room {
        None => change(server, Rule::Mute(user, duration)),
        Some(room) => {
            let done = format!("{user} is muted in {room}{}", until(duration));
            change_room(server, &room, &RoomRule::Mute(user, duration), "", &done)
        }
    }
}

fn unmute(server: &Server, rest: &str) -> String {
    match read_whom(rest) {
        Some((user, None, "")) => change(server, Rule::Unmute(user)),
        Some((user, Some(room), "")) => {
            let done = format!("{user} may send messages to {room} again");
            change_room(server, &room, &RoomRule::Unmute(user), "", &done)
        }
        _ => "  usage: unmute NAME [in ROOM]".to_owned(),
    }
}

/// Changes a rule of a room, and returns the reply.
fn change_room(server: &Server, room: &Name, rule: &RoomRule, reason: &str, done: &str) -> String {
    match server.chat().change_room(None, room, rule, reason) {
        Ok(_) => format!("  {done}"),
        Err(refusal) => format!("  {}", refusal.sentence),
    }
}

fn room(server: &Server, rest: &str) -> String {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let read = || {
        let room = Name::new(words.first()?)?;
        let (rule, done) = match words[1..] {
            ["open"] => (RoomRule::Open, format!("every user may join {room}")),
            ["invite"] => (
                RoomRule::InviteOnly,
                format!("only invited users may join {room}"),
            ),
            ["password", word] => (
                RoomRule::Password(word.to_owned()),
                format!("users need the password to join {room}"),
            ),
            ["moderated"] => (
                RoomRule::Moderated(true),
                format!("only moderators may send messages to {room}"),
            ),
            ["unmoderated"] => (
                RoomRule::Moderated(false),
                format!("every member may send messages to {room}"),
            ),
            ["moderator", user] => {
                let user = name(user)?;
                let warning = warning_without_account(server, &user);
                let done = format!("{user} is a moderator of {room}{warning}");
                (RoomRule::Moderator(user, true), done)
            }
            ["moderator", user, "off"] => {
                let user = name(user)?;
                let done = format!("{user} is no longer a moderator of {room}");
                (RoomRule::Moderator(user, false), done)
            }
            _ => return None,
        };
        Some((room, rule, done))
    };
    match read() {
        Some((room, rule, done)) => change_room(server, &room, &rule, "", &done),
        None => "  usage: room NAME open|invite|password WORD|moderated|unmoderated, or\n         \
                 room NAME moderator NAME [off]"
            .to_owned(),
    }
}

/// Returns a table of the rooms: those that exist, and those that have rules.
fn rooms(server: &Server) -> String {
    let members = server.chat().rooms.with(|rooms| rooms.list());
    let rules = server.policies().rooms();
    let mut names: Vec<String> = rules.iter().map(|there| there.name.to_string()).collect();
    let known = |name: &str| {
        rules
            .iter()
            .find(|there| there.name.as_str().eq_ignore_ascii_case(name))
    };
    let others = members.iter().map(|(name, _)| name.clone());
    names.extend(others.filter(|name| known(name).is_none()));
    if names.is_empty() {
        return "  no rooms".to_owned();
    }
    let row = |room: &str, members: &str, access: &str, moderators: &str| {
        let row = format!("  {room:<20} {members:<8} {access:<20} {moderators}");
        row.trim_end().to_owned()
    };
    let header = row("room", "members", "access", "moderators");
    let rows = names.iter().map(|name| {
        let count = members
            .iter()
            .find(|(there, _)| there.eq_ignore_ascii_case(name));
        let count = count.map_or(0, |(_, count)| *count).to_string();
        let Some(rules) = known(name) else {
            return row(name, &count, "open", "");
        };
        let moderated = if rules.moderated { ", moderated" } else { "" };
        let access = format!("{}{moderated}", rules.access.word());
        let moderators: Vec<&str> = rules.moderators.iter().map(Name::as_str).collect();
        row(name, &count, &access, &moderators.join(", "))
    });
    let lines: Vec<String> = std::iter::once(header).chain(rows).collect();
    lines.join("\n")
}

/// Returns a table of the bans and mutes.
fn bans(server: &Server) -> String {
    let rules = server.policies().list();
    if rules.is_empty() {
        return "  no bans or mutes".to_owned();
    }
    let row = |kind: &str, whom: &str, remaining: &str, by: &str, reason: &str| {
        let row = format!("  {kind:<5} {whom:<20} {remaining:<12} {by:<12} {reason}");
        row.trim_end().to_owned()
    };
    let header = row("kind", "whom", "ends in", "by", "reason");
    let rows = rules.iter().map(|rule| {
        row(
            rule.kind,
            &printable(&rule.whom),
            rule.remaining.as_deref().unwrap_or("never"),
            rule.by.as_ref().map_or("operator", Name::as_str),
            &printable(&rule.reason),
        )
    });
    let lines: Vec<String> = std::iter::once(header).chain(rows).collect();
    lines.join("\n")
}

fn moderator(server: &Server, rest: &str) -> String {
    let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_one = match rest.trim() {
        "" => true,
        "off" => false,
        _ => return MODERATOR_USAGE.to_owned(),
    };
    let Some(name) = name(first) else {
        return MODERATOR_USAGE.to_owned();
    };
    if is_one && server.accounts().is_none() {
        return "  this server does not use passwords, so any client could take the moderator's \
                name; restart it without --no-passwords"
            .to_owned();
    }
    match server.policies().set_moderator(&name, is_one) {
        Ok(()) if is_one => {
            format!(
                "  {name} is a moderator{}",
                warning_without_account(server, &name)
            )
        }
        Ok(()) => format!("  {name} is no longer a moderator"),
        Err(error) => format!("  {error}"),
    }
}

fn with_accounts(server: &Server, action: impl FnOnce(&SharedAccounts) -> String) -> String {
    match server.accounts() {
        Some(accounts) => action(accounts),
        None => "  this server does not use accounts".to_owned(),
    }
}

fn accounts(accounts: &SharedAccounts) -> String {
    let mut names: Vec<String> = accounts
        .all()
        .iter()
        .map(|there| there.name.key())
        .collect();
    names.sort_unstable();
    match names.len() {
        0 => "  no accounts yet".to_owned(),
        count => format!(
            "  {}: {}",
            counted(count, "account", "accounts"),
            names.join(", ")
        ),
    }
}

fn passwd(accounts: &SharedAccounts, rest: &str) -> String {
    let Some(name) = name(rest) else {
        return "  usage: passwd NAME".to_owned();
    };
    match accounts.reset_password(&name) {
        Ok((name, password)) => {
            format!("  the new password for {name} is {password}; {name} can change it with PASSWD")
        }
        Err(error) => format!("  {error}"),
    }
}

/// Revokes the session tokens for a name. A connected client stays connected.
fn logout(server: &Server, rest: &str) -> String {
    let Some(name) = name(rest) else {
        return "  usage: logout NAME".to_owned();
    };
    match server.tokens().end_all(&name) {
        Ok(0) => format!("  {name} has no session tokens"),
        Ok(count) => format!(
            "  revoked {name}'s {}; to disconnect the user, too, use `kick {name}`",
            counted(count, "session token", "session tokens")
        ),
        Err(refusal) => format!("  {}", refusal.sentence),
    }
}

/// Deletes an account, its direct messages, and all permissions of its name.
fn delete(server: &Server, accounts: &SharedAccounts, rest: &str) -> String {
    let Some(name) = name(rest) else {
        return "  usage: delete NAME".to_owned();
    };
    // A refused command must change nothing.
    if let Err(error) = accounts.may_delete(&name) {
        return format!("  {error}");
    }
    // Revoke the permissions first, so that the next owner of the name is never a moderator.
    let policies = server.policies();
    if policies
        .moderators()
        .iter()
        .any(|there| there.key() == name.key())
        && let Err(error) = policies.set_moderator(&name, false)
    {
        return format!("  {error}");
    }
    if let Err(error) = policies.forget_in_rooms(&name) {
        return format!("  {error}");
    }
    // Delete the messages before the account, because the next owner of the name must not read
    // them.
    let history = &server.chat().history;
    if history.delete_direct(&name).is_err() {
        return format!(
            "  {name}'s account was not deleted, because its direct messages can't be removed from \
             the journal right now; see the `journal-…` events and try again"
        );
    }
    match accounts.delete(&name) {
        Ok(name) => {
            let is_here = server.chat().users.find(&name).is_some();
            let is_kicked = is_here && server.kick(name.as_str(), "your account was deleted");
            // Delete the messages that arrived in the meantime.
            let rest = match history.delete_direct(&name) {
                Ok(()) => "",
                Err(_) => {
                    "; the journal failed, so it may still contain the user's last direct messages"
                }
            };
            match is_kicked {
                true => format!("  deleted {name}'s account and disconnected the user{rest}"),
                false => format!("  deleted {name}'s account{rest}"),
            }
        }
        Err(error) => format!("  {error}"),
    }
}

const MODERATOR_USAGE: &str = "  usage: moderator NAME [off]";

/// Returns the warning for a new moderator whose name has no account.
fn warning_without_account(server: &Server, name: &Name) -> &'static str {
    let accounts = server.accounts().map(|accounts| accounts.all());
    match accounts.is_some_and(|all| all.iter().any(|one| one.name == *name)) {
        true => "",
        false => "; this name has no account yet, and the user who registers it will moderate",
    }
}

fn moderators(server: &Server) -> String {
    let names = server.policies().moderators();
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    match names.is_empty() {
        true => "  no moderators; `moderator NAME` appoints one".to_owned(),
        false => format!("  {}", names.join(", ")),
    }
}

/// Returns the completions of the operator's line (a command, or the name after it) and the offset
/// at which they begin.
pub(super) fn completions(before: &str, names: &[String]) -> (usize, Vec<String>) {
    let begins = |words: &mut dyn Iterator<Item = String>, start: &str| -> Vec<String> {
        words
            .filter(|word| {
                word.to_ascii_lowercase()
                    .starts_with(&start.to_ascii_lowercase())
            })
            .map(|word| word + " ")
            .collect()
    };
    match before.split_once(' ') {
        None => (
            0,
            begins(&mut COMMANDS.iter().map(|word| (*word).to_owned()), before),
        ),
        Some((command, start)) if WITH_NAME.contains(&command) => {
            (command.len() + 1, begins(&mut names.iter().cloned(), start))
        }
        Some(_) => (before.len(), Vec::new()),
    }
}

/// Returns a table of this server's clients, and the users on other servers.
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

/// Formats one line in the table. The threads come last, because they are the least important.
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
    fn a_mistyped_duration_is_not_a_reason() {
        let minute = Some(Duration::from_secs(60));
        for (text, wanted) in [
            ("1m spam", Some((minute, "spam".to_owned()))),
            ("spam and 5x", Some((None, "spam and 5x".to_owned()))),
            ("", Some((None, String::new()))),
            ("5x", None),
            ("10 minutes", None),
        ] {
            assert_eq!(split_duration(text), wanted, "{text}");
        }
    }

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
            (0, ["servers ", "say ", "stop "].map(str::to_owned).to_vec())
        );
        assert_eq!(completions("kick b", &names), (5, vec!["Bob ".to_owned()]));
        assert_eq!(completions("say b", &names).1, Vec::<String>::new());
        for command in COMMANDS {
            let first_words = HELP
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            assert!(first_words.into_iter().any(|word| word == command));
        }
    }
}
