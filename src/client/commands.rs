//! What can be typed: the table of commands, from which the help and the completion are made.

/// A line that the person typed, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// Chat for the partner. (`%bob%hello`, as seed 003 writes it, is understood by the server.)
    Say(&'l str),
    /// `/me waves`.
    Act(&'l str),
    /// `/all TEXT`: a public message.
    Public(&'l str),
    /// `PM` or `BM` alone: asks for the public message (seed 002).
    AskPublic,
    /// `/pm TEXT`, which some people mean for everyone and most for one person.
    AmbiguousPublic(&'l str),
    /// `/msg NAME TEXT`.
    Direct {
        /// For whom.
        to: &'l str,
        /// What.
        text: &'l str,
    },
    /// `DM` alone: shows who is there, asks for whom and then for what (seed 002).
    AskDirect,
    /// `/reply TEXT`.
    Reply(&'l str),
    /// `/join ROOM` (seed 004).
    Join(&'l str),
    /// `/leave ROOM`, `/leave_chatroom ROOM`.
    Leave(&'l str),
    /// `/send ROOM TEXT`.
    Send {
        /// Where.
        room: &'l str,
        /// What.
        text: &'l str,
    },
    /// `/to ROOM`: what is typed goes there from now on; `/to` alone: to the partner again.
    To(Option<&'l str>),
    /// `/rooms`.
    Rooms,
    /// `/names`.
    Names,
    /// `/login NAME`.
    Login(&'l str),
    /// `/timestamp`.
    Timestamp(Timestamp),
    /// `/bell`.
    Bell(Bell),
    /// `/quiet`.
    Quiet,
    /// `/help`, or `/help COMMAND`.
    Help(Option<&'l str>),
    /// `/quit`, or `EX` alone (seed 002).
    Quit,
    /// Nothing but space.
    Nothing,
    /// A slash and something that is no command, or a command without what it needs.
    Wrong(String),
}

/// What stands before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamp {
    Off,
    Time,
    DateTime,
}

/// When the terminal's bell rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bell {
    Off,
    Direct,
    All,
}

/// One command for the person.
struct Command {
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    read: fn(&str) -> Option<Line<'_>>,
}

const COMMANDS: &[Command] = &[
    Command {
        names: &["login"],
        arguments: "NAME",
        help: "log in; you are asked for the password (a new name: for its password to be)",
        read: |name| given(name).map(Line::Login),
    },
    Command {
        names: &["all"],
        arguments: "TEXT",
        help: "say TEXT to everyone who is logged in (a line that is just PM or BM asks for it)",
        read: |text| given(text).map(Line::Public),
    },
    Command {
        names: &["msg", "dm"],
        arguments: "NAME TEXT",
        help: "say TEXT to NAME alone (a line that is just DM asks for both; so does %NAME%TEXT)",
        read: |rest| {
            let (to, text) = rest.split_once(char::is_whitespace)?;
            given(text.trim_start()).map(|text| Line::Direct { to, text })
        },
    },
    Command {
        names: &["reply"],
        arguments: "TEXT",
        help: "say TEXT to whoever wrote to you alone last",
        read: |text| given(text).map(Line::Reply),
    },
    Command {
        names: &["pm"],
        arguments: "TEXT",
        help: "the same as /all: PM is a public message here",
        read: |text| given(text).map(Line::AmbiguousPublic),
    },
    Command {
        names: &["join"],
        arguments: "ROOM",
        help: "go into a room; it is made if there is none of that name",
        read: |room| given(room).map(Line::Join),
    },
    Command {
        names: &["send"],
        arguments: "ROOM TEXT",
        help: "say TEXT in a room that you are in",
        read: |rest| {
            let (room, text) = rest.split_once(char::is_whitespace)?;
            given(text.trim_start()).map(|text| Line::Send { room, text })
        },
    },
    Command {
        names: &["to"],
        arguments: "[ROOM]",
        help: "what you type goes to that room from now on; /to alone: to your partner again",
        read: |room| Some(Line::To(given(room))),
    },
    Command {
        names: &["leave", "part", "leave_chatroom"],
        arguments: "ROOM",
        help: "leave a room",
        read: |room| given(room).map(Line::Leave),
    },
    Command {
        names: &["rooms", "list"],
        arguments: "",
        help: "which rooms there are, and how many are in each",
        read: |_| Some(Line::Rooms),
    },
    Command {
        names: &["names", "who"],
        arguments: "",
        help: "who is logged in",
        read: |_| Some(Line::Names),
    },
    Command {
        names: &["me"],
        arguments: "TEXT",
        help: "say what you do: /me waves shows as * alice waves",
        read: |text| given(text).map(Line::Act),
    },
    Command {
        names: &["timestamp"],
        arguments: "off|time|datetime",
        help: "what stands before each line",
        read: |mode| match mode {
            "off" => Some(Line::Timestamp(Timestamp::Off)),
            "time" => Some(Line::Timestamp(Timestamp::Time)),
            "datetime" => Some(Line::Timestamp(Timestamp::DateTime)),
            _ => None,
        },
    },
    Command {
        names: &["bell"],
        arguments: "off|dm|all",
        help: "when to ring: never, for what is said to you alone, for everything",
        read: |mode| match mode {
            "off" => Some(Line::Bell(Bell::Off)),
            "dm" => Some(Line::Bell(Bell::Direct)),
            "all" => Some(Line::Bell(Bell::All)),
            _ => None,
        },
    },
    Command {
        names: &["quiet"],
        arguments: "",
        help: "show, or do not show, who comes and goes",
        read: |_| Some(Line::Quiet),
    },
    Command {
        names: &["help"],
        arguments: "[COMMAND]",
        help: "list the commands, or explain one",
        read: |name| Some(Line::Help(given(name))),
    },
    Command {
        names: &["quit", "exit", "disconnect"],
        arguments: "",
        help: "leave (so do EX alone, Ctrl-D and Ctrl-C)",
        read: |_| Some(Line::Quit),
    },
];

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Understands a typed line. One that begins with two slashes is chat that begins with one.
pub(super) fn read(line: &str) -> Line<'_> {
    // The operations of seed 002, as a line of their own.
    match line.trim() {
        "" => return Line::Nothing,
        "PM" | "BM" => return Line::AskPublic,
        "DM" => return Line::AskDirect,
        "EX" => return Line::Quit,
        _ => {}
    }
    let Some(command) = line.strip_prefix('/') else {
        return Line::Say(line);
    };
    if command.starts_with('/') {
        return Line::Say(command);
    }
    let (name, arguments) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    match find(name) {
        Some(known) => (known.read)(arguments.trim())
            .unwrap_or_else(|| Line::Wrong(format!("it is /{name} {}", known.arguments))),
        None => Line::Wrong(format!(
            "there is no command /{name}; /help lists them, // says a slash"
        )),
    }
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.names.contains(&name))
}

/// All commands that begin with `start` (without the slash), for the Tab key.
pub(super) fn beginning_with(start: &str) -> impl Iterator<Item = &'static str> {
    let names = COMMANDS
        .iter()
        .flat_map(|command| command.names.iter().copied());
    names.filter(move |name| name.starts_with(start))
}

/// Whether the word after this command is somebody's name.
pub(super) fn takes_a_name(name: &str) -> bool {
    find(name).is_some_and(|command| command.arguments.starts_with("NAME TEXT"))
}

/// The help text: of all commands, or of one.
pub(super) fn help(of: Option<&str>) -> String {
    let name = of.map(|name| name.trim_start_matches('/'));
    let wanted = COMMANDS
        .iter()
        .filter(|command| name.is_none_or(|name| command.names.contains(&name)));
    let lines: Vec<String> = wanted
        .map(|command| {
            let usage = format!("/{} {}", command.names.join(", /"), command.arguments);
            format!("  {usage:<28} {}", command.help)
        })
        .collect();
    match (name, lines.is_empty()) {
        (Some(name), true) => format!("  there is no command /{name}"),
        (Some(_), false) => lines.join("\n"),
        (None, _) => {
            format!(
                "  Type and press Enter to say something to your partner.\n{}",
                lines.join("\n")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        for (typed, line) in [
            ("hello /there", Line::Say("hello /there")),
            ("  indented", Line::Say("  indented")),
            ("   ", Line::Nothing),
            ("//etc", Line::Say("/etc")),
            ("%bob%hello", Line::Say("%bob%hello")),
            ("PM", Line::AskPublic),
            ("BM ", Line::AskPublic),
            ("DM", Line::AskDirect),
            ("EX", Line::Quit),
            ("PM is public", Line::Say("PM is public")),
            ("/all hi there", Line::Public("hi there")),
            ("/pm bob hi", Line::AmbiguousPublic("bob hi")),
            (
                "/msg bob hi there",
                Line::Direct {
                    to: "bob",
                    text: "hi there",
                },
            ),
            (
                "/dm bob  hi",
                Line::Direct {
                    to: "bob",
                    text: "hi",
                },
            ),
            ("/reply yes", Line::Reply("yes")),
            ("/names", Line::Names),
            ("/join lobby", Line::Join("lobby")),
            (
                "/send lobby hi there",
                Line::Send {
                    room: "lobby",
                    text: "hi there",
                },
            ),
            ("/leave_chatroom lobby", Line::Leave("lobby")),
            ("/part lobby", Line::Leave("lobby")),
            ("/to lobby", Line::To(Some("lobby"))),
            ("/to", Line::To(None)),
            ("/rooms", Line::Rooms),
            ("/disconnect", Line::Quit),
            ("/login bob", Line::Login("bob")),
            ("/me waves", Line::Act("waves")),
            ("/bell dm", Line::Bell(Bell::Direct)),
            ("/timestamp datetime", Line::Timestamp(Timestamp::DateTime)),
            ("/help  quit ", Line::Help(Some("quit"))),
            ("/quit", Line::Quit),
        ] {
            assert_eq!(read(typed), line, "{typed}");
        }
        for (typed, usage) in [
            ("/me", "/me TEXT"),
            ("/msg bob", "/msg NAME TEXT"),
            ("/bell loud", "off|dm|all"),
            ("/frob", "/frob"),
        ] {
            assert!(
                matches!(read(typed), Line::Wrong(said) if said.contains(usage)),
                "{typed}"
            );
        }
    }

    #[test]
    fn every_command_is_in_the_help_and_has_its_own() {
        for command in COMMANDS {
            for name in command.names {
                assert!(help(None).contains(&format!("/{name}")));
                assert!(help(Some(name)).contains(command.help));
                assert!(beginning_with(&name[..1]).any(|found| found == *name));
            }
        }
        assert!(help(Some("/frob")).contains("no command"));
        assert!(takes_a_name("msg") && !takes_a_name("all"));
    }
}
