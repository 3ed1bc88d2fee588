//! The commands that a user can type. Their table also provides the help and the completions.

use portal_wire::{ClientCommand, time};

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedLine<'l> {
    /// Chat for the recipient in the prompt. (The server parses `%bob%hello` of seed 003.)
    Say(&'l str),
    /// `/me waves`.
    Act(&'l str),
    /// `/all TEXT`: a public message.
    Public(&'l str),
    /// `PM` or `BM` alone: asks for the public message (seed 002).
    AskPublic,
    /// `/pm TEXT`. Some users mean it for everyone, most for one user.
    AmbiguousPublic(&'l str),
    /// `/msg NAME TEXT`.
    Direct {
        to: &'l str,
        text: &'l str,
    },
    /// `DM` alone: lists the users, then asks for the recipient and the text (seed 002).
    AskDirect,
    Reply(&'l str),
    /// `/join ROOM` (seed 004).
    Join(&'l str),
    /// `/leave ROOM`, `/leave_chatroom ROOM`.
    Leave(&'l str),
    Send {
        room: &'l str,
        text: &'l str,
    },
    /// A request that the server answers: `/topic`, `/rooms`, `/names`.
    Ask(ClientCommand<'l>),
    /// `/history N`: the last N messages of the conversation in the prompt.
    History(usize),
    /// `/to WHOM` makes WHOM the recipient of typed lines; `/to` alone returns to the partner.
    To(Option<&'l str>),
    /// `/query NAME` makes that user the recipient of typed lines.
    Query(&'l str),
    Login(&'l str),
    /// `/invitation CODE`.
    Invitation(&'l str),
    Passwd,
    /// `/ignore NAME`, or `/ignore` alone, which lists the ignored names.
    Ignore(Option<&'l str>),
    Timestamp(Timestamp),
    Bell(When),
    Notify(When),
    Quiet,
    Clear,
    /// `/cancel`, which cancels a question.
    Cancel,
    /// `/help`, or `/help COMMAND`.
    Help(Option<&'l str>),
    /// `/quit`, or `EX` alone (seed 002).
    Quit,
    /// Only white space.
    Nothing,
    /// A line with an unknown command, or a command without its arguments. Contains the error
    /// message.
    Wrong(String),
}

/// The kind of timestamp before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamp {
    Off,
    Time,
    DateTime,
}

/// The messages that ring the bell or show a desktop notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Off,
    Direct,
    All,
}

impl When {
    fn read(word: &str) -> Option<When> {
        match word {
            "off" => Some(When::Off),
            "dm" => Some(When::Direct),
            "all" => Some(When::All),
            _ => None,
        }
    }

    /// Returns whether this setting includes a message; `direct` is true for a direct message.
    pub(super) fn is_for(self, direct: bool) -> bool {
        self == When::All || (self == When::Direct && direct)
    }
}

/// The source of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typist {
    /// A user at a prompt, where an unknown command after a slash is a typo.
    Person,
    /// A pipe, where a line that is not a command is text.
    Script {
        /// Set if `PM`, `BM`, `DM` and `EX` alone on a line are the operations of seed 002 here,
        /// too (`--commands`).
        seed_words: bool,
    },
}

/// The kind of word that Tab completes after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// A user's name.
    Name,
    /// A room's name.
    Room,
    /// Either, or `all`.
    Whom,
    /// One of these words.
    Values(&'static [&'static str]),
    /// A command.
    Command,
}

/// A command and its help.
struct CommandHelp {
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    takes: Takes,
    /// Set if the last argument is text, which may span several lines.
    has_text: bool,
    read: fn(&str) -> Option<TypedLine<'_>>,
}

const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        names: &["login"],
        arguments: "NAME",
        help: "log in; asks for your password (for a new name, asks you to choose one)",
        takes: Takes::Nothing,
        has_text: false,
        read: |name| given(name).map(TypedLine::Login),
    },
    CommandHelp {
        names: &["all"],
        arguments: "TEXT",
        help: "send TEXT to everyone who is logged in (PM or BM alone on a line asks for TEXT)",
        takes: Takes::Nothing,
        has_text: true,
        read: |text| given(text).map(TypedLine::Public),
    },
    CommandHelp {
        names: &["msg", "dm", "w"],
        arguments: "NAME TEXT",
        help: "send TEXT to NAME alone, like %NAME%TEXT (DM alone on a line asks for both)",
        takes: Takes::Name,
        has_text: true,
        read: |rest| {
            let (to, text) = rest.split_once(char::is_whitespace)?;
            given(text.trim_start()).map(|text| TypedLine::Direct { to, text })
        },
    },
    CommandHelp {
        names: &["reply", "r"],
        arguments: "TEXT",
        help: "send TEXT to the sender of your last direct message",
        takes: Takes::Nothing,
        has_text: true,
        read: |text| given(text).map(TypedLine::Reply),
    },
    CommandHelp {
        names: &["pm"],
        arguments: "TEXT",
        help: "same as /all: PM is a public message here",
        takes: Takes::Nothing,
        has_text: true,
        read: |text| given(text).map(TypedLine::AmbiguousPublic),
    },
    CommandHelp {
        names: &["to"],
        arguments: "[ROOM|NAME|all]",
        help: "send everything you type there; /to alone sends it to your partner again",
        takes: Takes::Whom,
        has_text: false,
        read: |whom| Some(TypedLine::To(given(whom))),
    },
    CommandHelp {
        names: &["query"],
        arguments: "NAME",
        help: "send everything you type to NAME alone",
        takes: Takes::Name,
        has_text: false,
        read: |name| given(name).map(TypedLine::Query),
    },
    CommandHelp {
        names: &["join"],
        arguments: "ROOM",
        help: "join a room; creates the room if it does not exist",
        takes: Takes::Room,
        has_text: false,
        read: |room| given(room).map(TypedLine::Join),
    },
    CommandHelp {
        names: &["send"],
        arguments: "ROOM TEXT",
        help: "send TEXT to a room that you are in",
        takes: Takes::Room,
        has_text: true,
        read: |rest| {
            let (room, text) = rest.split_once(char::is_whitespace)?;
            given(text.trim_start()).map(|text| TypedLine::Send { room, text })
        },
    },
    CommandHelp {
        names: &["topic"],
        arguments: "ROOM [TEXT]",
        help: "show the topic of a room; with TEXT, set it",
        takes: Takes::Room,
        has_text: true,
        read: |rest| {
            let (room, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let topic = given(text.trim_start()).map(Into::into);
            let room = given(room)?.into();
            Some(TypedLine::Ask(ClientCommand::Topic { room, topic }))
        },
    },
    CommandHelp {
        names: &["leave", "part", "leave_chatroom"],
        arguments: "ROOM",
        help: "leave a room",
        takes: Takes::Room,
        has_text: false,
        read: |room| given(room).map(TypedLine::Leave),
    },
    CommandHelp {
        names: &["rooms", "list"],
        arguments: "",
        help: "list the rooms and how many people are in each",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Ask(ClientCommand::Rooms)),
    },
    CommandHelp {
        names: &["names", "who"],
        arguments: "",
        help: "list who is logged in",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Ask(ClientCommand::Who)),
    },
    CommandHelp {
        names: &["history"],
        arguments: "[N]",
        help: "show the last N messages (20, at most 100) of the room or user in the prompt, or of everyone",
        takes: Takes::Nothing,
        has_text: false,
        read: |count| {
            let count = given(count).map_or(Some(20), |count| count.parse().ok())?;
            (1..=100)
                .contains(&count)
                .then_some(TypedLine::History(count))
        },
    },
    CommandHelp {
        names: &["me"],
        arguments: "TEXT",
        help: "send what you do: /me waves appears as * alice waves",
        takes: Takes::Nothing,
        has_text: true,
        read: |text| given(text).map(TypedLine::Act),
    },
    CommandHelp {
        names: &["ignore"],
        arguments: "[NAME]",
        help: "hide messages from NAME, or show them again; /ignore alone lists the hidden names",
        takes: Takes::Name,
        has_text: false,
        read: |name| Some(TypedLine::Ignore(given(name))),
    },
    CommandHelp {
        names: &["passwd"],
        arguments: "",
        help: "change your password; asks for the old one and the new one",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Passwd),
    },
    CommandHelp {
        names: &["invitation"],
        arguments: "CODE",
        help: "use an invitation, which some servers need for a new name; /login comes after it",
        takes: Takes::Nothing,
        has_text: false,
        read: |code| given(code).map(TypedLine::Invitation),
    },
    CommandHelp {
        names: &["report"],
        arguments: "NAME REASON",
        help: "report a user to the operator and the moderators",
        takes: Takes::Name,
        has_text: true,
        read: |rest| {
            let (name, reason) = rest.split_once(char::is_whitespace)?;
            let (username, reason) = (name.into(), given(reason.trim_start())?.into());
            Some(TypedLine::Ask(ClientCommand::Report { username, reason }))
        },
    },
    CommandHelp {
        names: &["kick"],
        arguments: "NAME [REASON]",
        help: "as a moderator: disconnect a user, who can't come back for a minute",
        takes: Takes::Name,
        has_text: true,
        read: |rest| {
            let (username, reason) = split_word(rest)?;
            let (username, reason) = (username.into(), reason.into());
            Some(TypedLine::Ask(ClientCommand::Kick {
                room: None,
                username,
                reason,
            }))
        },
    },
    CommandHelp {
        names: &["mute"],
        arguments: "NAME [DURATION]",
        help: "as a moderator: reject a user's messages, for 30s, 10m, 2h or 7d",
        takes: Takes::Name,
        has_text: false,
        read: |rest| {
            let (username, duration) = split_word(rest)?;
            let (username, duration) = (username.into(), given(duration).map(Into::into));
            Some(TypedLine::Ask(ClientCommand::Mute {
                room: None,
                username,
                duration,
            }))
        },
    },
    CommandHelp {
        names: &["unmute"],
        arguments: "NAME",
        help: "as a moderator: end a mute",
        takes: Takes::Name,
        has_text: false,
        read: |name| {
            let username = given(name)?.into();
            Some(TypedLine::Ask(ClientCommand::Unmute {
                room: None,
                username,
            }))
        },
    },
    CommandHelp {
        names: &["ban"],
        arguments: "NAME [DURATION] [REASON]",
        help: "as a moderator: disconnect a user and reject later logins, for 30s, 10m, 2h or 7d",
        takes: Takes::Name,
        has_text: true,
        read: |rest| {
            let (username, rest) = split_word(rest)?;
            // A first word that is not a duration belongs to the reason.
            let (duration, reason) = match split_word(rest) {
                Some((duration, reason)) if time::read_duration(duration).is_some() => {
                    (Some(duration.into()), reason)
                }
                _ => (None, rest),
            };
            Some(TypedLine::Ask(ClientCommand::Ban {
                username: username.into(),
                duration,
                reason: reason.into(),
            }))
        },
    },
    CommandHelp {
        names: &["unban"],
        arguments: "NAME",
        help: "as a moderator: end a ban",
        takes: Takes::Name,
        has_text: false,
        read: |name| {
            let username = given(name)?.into();
            Some(TypedLine::Ask(ClientCommand::Unban { username }))
        },
    },
    CommandHelp {
        names: &["timestamp"],
        arguments: "off|time|datetime",
        help: "set the timestamp before each line",
        takes: Takes::Values(&["off", "time", "datetime"]),
        has_text: false,
        read: |mode| match mode {
            "off" => Some(TypedLine::Timestamp(Timestamp::Off)),
            "time" => Some(TypedLine::Timestamp(Timestamp::Time)),
            "datetime" => Some(TypedLine::Timestamp(Timestamp::DateTime)),
            _ => None,
        },
    },
    CommandHelp {
        names: &["bell"],
        arguments: "off|dm|all",
        help: "when to ring the bell: never, for direct messages, or for all messages",
        takes: Takes::Values(WHENS),
        has_text: false,
        read: |word| When::read(word).map(TypedLine::Bell),
    },
    CommandHelp {
        names: &["notify"],
        arguments: "off|dm|all",
        help: "when to show a desktop notification, if the terminal supports it (OSC 9)",
        takes: Takes::Values(WHENS),
        has_text: false,
        read: |word| When::read(word).map(TypedLine::Notify),
    },
    CommandHelp {
        names: &["quiet"],
        arguments: "",
        help: "hide join and leave messages, or show them again",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Quiet),
    },
    CommandHelp {
        names: &["clear"],
        arguments: "",
        help: "clear the screen",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Clear),
    },
    CommandHelp {
        names: &["cancel"],
        arguments: "",
        help: "cancel the current question",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Cancel),
    },
    CommandHelp {
        names: &["help"],
        arguments: "[COMMAND]",
        help: "list the commands, or explain one",
        takes: Takes::Command,
        has_text: false,
        read: |name| Some(TypedLine::Help(given(name))),
    },
    CommandHelp {
        names: &["quit", "exit", "disconnect"],
        arguments: "",
        help: "leave (so do EX alone, Ctrl-D and Ctrl-C)",
        takes: Takes::Nothing,
        has_text: false,
        read: |_| Some(TypedLine::Quit),
    },
];

const WHENS: &[&str] = &["off", "dm", "all"];

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Splits a text after its first word; `None` if there is none.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    given(first).map(|first| (first, rest.trim_start()))
}

/// Parses a typed line. A line that begins with two slashes is chat text that begins with one
/// slash.
pub(super) fn read(line: &str, typist: Typist) -> TypedLine<'_> {
    if typist != (Typist::Script { seed_words: false }) {
        // The operations of seed 002, each alone on its line.
        match line.trim() {
            "PM" | "BM" => return TypedLine::AskPublic,
            "DM" => return TypedLine::AskDirect,
            "EX" => return TypedLine::Quit,
            _ => {}
        }
    }
    if line.trim().is_empty() {
        return TypedLine::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else {
        return TypedLine::Say(line);
    };
    if let Some(after) = command.strip_prefix('/') {
        // In a file, `//` may begin a comment.
        let is_quoted = typist == Typist::Person || find(first_word(after)).is_some();
        return TypedLine::Say(if is_quoted { command } else { line });
    }
    let name = first_word(command);
    let arguments = &command[name.len()..];
    match (find(name), typist) {
        (Some(known), _) => (known.read)(arguments.trim())
            .unwrap_or_else(|| TypedLine::Wrong(format!("usage: /{name} {}", known.arguments))),
        (None, Typist::Script { .. }) => TypedLine::Say(line),
        (None, Typist::Person) => TypedLine::Wrong(format!(
            "there is no command /{name}; /help lists them, // sends a slash"
        )),
    }
}

/// The first word of the text after a slash.
fn first_word(text: &str) -> &str {
    text.split(char::is_whitespace).next().unwrap_or_default()
}

/// Returns whether a line is a command, or looks too much like one to be text.
pub(super) fn is_command(line: &str) -> bool {
    let Some(command) = line.strip_prefix('/') else {
        return false;
    };
    let name = first_word(command);
    let is_word = |c: char| c.is_ascii_alphabetic() || c == '_';
    !name.is_empty() && name.chars().all(is_word)
}

/// Returns whether a line is a known command.
pub(super) fn is_known_command(line: &str) -> bool {
    line.strip_prefix('/')
        .is_some_and(|command| find(first_word(command)).is_some())
}

/// Splits a paste into messages and commands. Messages, and the text of commands, may span several
/// lines. A command never contains another command.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut may_go_on = false;
    for line in text.split('\n') {
        let command = is_command(line);
        match pieces.last_mut() {
            Some(piece) if may_go_on && !command => {
                piece.push('\n');
                piece.push_str(line);
            }
            _ => {
                pieces.push(line.to_owned());
                may_go_on = match line.strip_prefix('/').filter(|_| command) {
                    Some(command) => find(first_word(command)).is_some_and(|known| known.has_text),
                    None => true,
                };
            }
        }
    }
    pieces
}

fn find(name: &str) -> Option<&'static CommandHelp> {
    let name = name.to_ascii_lowercase();
    COMMANDS
        .iter()
        .find(|command| command.names.contains(&name.as_str()))
}

/// All commands that begin with `start` (without the slash), for the Tab key.
pub(super) fn beginning_with(start: &str) -> impl Iterator<Item = &'static str> {
    let start = start.to_ascii_lowercase();
    let names = COMMANDS
        .iter()
        .flat_map(|command| command.names.iter().copied());
    names.filter(move |name| name.starts_with(&start))
}

/// The kind of argument that this command (without the slash) takes.
pub(super) fn takes(name: &str) -> Takes {
    find(name).map_or(Takes::Nothing, |command| command.takes)
}

/// One line of the help.
pub(super) struct HelpLine {
    /// The syntax of the command.
    pub(super) usage: String,
    pub(super) explanation: &'static str,
}

/// Returns the help for all commands, or for one. Empty if there is no such command.
pub(super) fn help(of: Option<&str>) -> Vec<HelpLine> {
    let name = of.map(|name| name.trim_start_matches('/').to_ascii_lowercase());
    let wanted = COMMANDS.iter().filter(|command| {
        name.as_deref()
            .is_none_or(|name| command.names.contains(&name))
    });
    wanted
        .map(|command| HelpLine {
            usage: format!("/{} {}", command.names.join(", /"), command.arguments),
            explanation: command.help,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Typist = Typist::Script { seed_words: false };

    #[test]
    fn lines_are_understood() {
        for (typed, line) in [
            ("hello /there", TypedLine::Say("hello /there")),
            ("  indented", TypedLine::Say("  indented")),
            ("   ", TypedLine::Nothing),
            ("//etc", TypedLine::Say("/etc")),
            ("%bob%hello", TypedLine::Say("%bob%hello")),
            ("PM", TypedLine::AskPublic),
            ("BM ", TypedLine::AskPublic),
            ("DM", TypedLine::AskDirect),
            ("EX", TypedLine::Quit),
            ("PM is public", TypedLine::Say("PM is public")),
            ("/all hi there", TypedLine::Public("hi there")),
            ("/ALL hi", TypedLine::Public("hi")),
            ("/pm bob hi", TypedLine::AmbiguousPublic("bob hi")),
            (
                "/msg bob hi there",
                TypedLine::Direct {
                    to: "bob",
                    text: "hi there",
                },
            ),
            (
                "/w bob  hi",
                TypedLine::Direct {
                    to: "bob",
                    text: "hi",
                },
            ),
            ("/reply yes", TypedLine::Reply("yes")),
            ("/r yes", TypedLine::Reply("yes")),
            ("/names", TypedLine::Ask(ClientCommand::Who)),
            ("/join lobby", TypedLine::Join("lobby")),
            (
                "/send lobby hi there",
                TypedLine::Send {
                    room: "lobby",
                    text: "hi there",
                },
            ),
            ("/leave_chatroom lobby", TypedLine::Leave("lobby")),
            ("/part lobby", TypedLine::Leave("lobby")),
            ("/to lobby", TypedLine::To(Some("lobby"))),
            ("/to", TypedLine::To(None)),
            ("/query bob", TypedLine::Query("bob")),
            ("/rooms", TypedLine::Ask(ClientCommand::Rooms)),
            ("/Disconnect", TypedLine::Quit),
            ("/login bob", TypedLine::Login("bob")),
            ("/passwd", TypedLine::Passwd),
            ("/history", TypedLine::History(20)),
            ("/history 100", TypedLine::History(100)),
            ("/me waves", TypedLine::Act("waves")),
            ("/ignore bob", TypedLine::Ignore(Some("bob"))),
            ("/bell dm", TypedLine::Bell(When::Direct)),
            ("/notify all", TypedLine::Notify(When::All)),
            (
                "/timestamp datetime",
                TypedLine::Timestamp(Timestamp::DateTime),
            ),
            ("/help  quit ", TypedLine::Help(Some("quit"))),
            ("/quit", TypedLine::Quit),
        ] {
            assert_eq!(read(typed, Typist::Person), line, "{typed}");
        }
        for (typed, usage) in [
            ("/me", "/me TEXT"),
            ("/msg bob", "/msg NAME TEXT"),
            ("/bell loud", "off|dm|all"),
            ("/history 0", "/history [N]"),
            ("/history 101", "/history [N]"),
            ("/history all", "/history [N]"),
            ("/frob", "/frob"),
        ] {
            assert!(
                matches!(read(typed, Typist::Person), TypedLine::Wrong(said) if said.contains(usage)),
                "{typed}"
            );
        }
    }

    #[test]
    fn in_a_script_what_is_no_command_is_text() {
        for (typed, line) in [
            ("/usr/bin", TypedLine::Say("/usr/bin")),
            ("/frob", TypedLine::Say("/frob")),
            ("// a comment", TypedLine::Say("// a comment")),
            ("//quit", TypedLine::Say("/quit")),
            ("PM", TypedLine::Say("PM")),
            ("DM", TypedLine::Say("DM")),
            ("EX", TypedLine::Say("EX")),
            ("/names", TypedLine::Ask(ClientCommand::Who)),
            ("/quit", TypedLine::Quit),
            ("", TypedLine::Nothing),
        ] {
            assert_eq!(read(typed, SCRIPT), line, "{typed}");
        }
        let seed = Typist::Script { seed_words: true };
        assert_eq!(read("PM", seed), TypedLine::AskPublic);
        assert_eq!(read("EX", seed), TypedLine::Quit);
        assert_eq!(read("/usr/bin", seed), TypedLine::Say("/usr/bin"));
    }

    #[test]
    fn a_pasted_command_has_no_other_one_inside() {
        for (pasted, cut) in [
            ("one\ntwo", vec!["one\ntwo"]),
            (
                "/msg bob a\n/msg carol b",
                vec!["/msg bob a", "/msg carol b"],
            ),
            ("/msg bob a\nb\n/all c", vec!["/msg bob a\nb", "/all c"]),
            ("hi\n/msg bob a", vec!["hi", "/msg bob a"]),
            ("/names\nhi\nthere", vec!["/names", "hi\nthere"]),
            (
                "#!/bin/sh\n/usr/bin/env\n//x",
                vec!["#!/bin/sh\n/usr/bin/env\n//x"],
            ),
            ("/MSG bob a\n/frob b", vec!["/MSG bob a", "/frob b"]),
            ("PM\nEX", vec!["PM\nEX"]),
            ("a\n\nb", vec!["a\n\nb"]),
        ] {
            assert_eq!(pieces(pasted), cut, "{pasted}");
        }
    }

    #[test]
    fn every_command_is_in_the_help_and_has_its_own() {
        for command in COMMANDS {
            for name in command.names {
                let all = help(None);
                assert!(
                    all.iter()
                        .any(|line| line.usage.contains(&format!("/{name}")))
                );
                assert_eq!(help(Some(name))[0].explanation, command.help);
                assert!(beginning_with(&name[..1]).any(|found| found == *name));
            }
        }
        assert!(help(Some("/frob")).is_empty());
        assert_eq!((takes("msg"), takes("all")), (Takes::Name, Takes::Nothing));
    }
}
