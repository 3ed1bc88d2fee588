//! The commands that a user can type. Their table is the only place that lists them: the parser,
//! the help and the completions come from it, and a test compares the browser page with it.

use portal_wire::{ClientCommand, Name, Secret};

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedLine<'l> {
    /// Chat for the recipient in the prompt. (The server parses `%bob%hello` of seed 003.)
    Say(&'l str),
    /// `/me waves`.
    Act(&'l str),
    /// `join lobby` and the like: one of seed 004's commands, typed as that seed prints it.
    Seed(&'l str),
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
    /// `/join ROOM` (seed 004); `/join -n ROOM` keeps the recipient.
    Join {
        room: &'l str,
        password: Option<&'l str>,
        goes_there: bool,
    },
    /// `/invite NAME`: to the room in the prompt.
    Invite {
        name: &'l str,
        room: Option<&'l str>,
    },
    /// `/leave ROOM`, `/leave_chatroom ROOM`; without a name, the room in the prompt.
    Leave(Option<&'l str>),
    Send {
        room: &'l str,
        text: &'l str,
    },
    /// `/topic [ROOM] [TEXT]`; without ROOM, the room named in the prompt.
    Topic(&'l str),
    /// `/names`: the members of the room named in the prompt, or everyone who is logged in.
    Names(Option<&'l str>),
    /// A request that the server answers.
    Ask(ClientCommand<'l>),
    /// `/history N`: the last N messages of the conversation named in the prompt.
    History(usize),
    /// `/to WHOM` makes WHOM the recipient of typed lines; `/to` alone returns to the partner.
    To(Option<&'l str>),
    /// `/query NAME` makes that user the recipient of typed lines.
    Query(&'l str),
    Unread,
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
    /// Shows or hides the server's confirmations of sent messages.
    Confirmations(bool),
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

/// The messages that ring the bell or show a desktop notification. Each includes the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    Off,
    /// Direct messages.
    Direct,
    /// Messages that contain the user's name.
    Mention,
    All,
}

impl When {
    fn read(word: &str) -> Option<When> {
        Some(match word {
            "off" => When::Off,
            "dm" => When::Direct,
            "mention" => When::Mention,
            "all" => When::All,
            _ => return None,
        })
    }
}

/// The source of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typist {
    /// A user at a prompt, where an unknown command after a slash is a typo.
    Person,
    /// A pipe, where a line that is not a command is text.
    Script {
        /// Set if the seeds' operations, typed as the seeds print them, are also commands here
        /// (`--commands`).
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
    /// One of these words, which `|` separates.
    Values(&'static str),
    /// A command.
    Command,
}

/// A command and its help.
struct Command {
    group: &'static str,
    /// The name, and then its aliases, separated by spaces.
    names: &'static str,
    arguments: &'static str,
    help: &'static str,
    read: fn(&str) -> Option<TypedLine<'_>>,
}

impl Command {
    fn name(&self) -> &'static str {
        self.names.split(' ').next().unwrap_or_default()
    }

    fn has_name(&self, name: &str) -> bool {
        self.names
            .split(' ')
            .any(|there| there.eq_ignore_ascii_case(name))
    }

    /// Returns whether the last argument is text, which may span several lines.
    fn has_text(&self) -> bool {
        self.arguments.contains("TEXT") || self.arguments.contains("REASON")
    }

    /// The kind of the first argument.
    fn takes(&self) -> Takes {
        match self.arguments.trim_start_matches(['[', '-', 'n', ']', ' ']) {
            whom if whom.starts_with("ROOM|NAME") => Takes::Whom,
            room if room.starts_with("ROOM") => Takes::Room,
            name if name.starts_with("NAME") && self.name() != "login" => Takes::Name,
            command if command.starts_with("COMMAND") => Takes::Command,
            _ if self.arguments.starts_with(char::is_lowercase) => Takes::Values(self.arguments),
            _ => Takes::Nothing,
        }
    }
}

/// Builds the table: for each command its group, its names, its arguments, its help and its parser.
macro_rules! commands {
    ($(group $group:literal: $($names:literal $arguments:literal $help:literal => $read:expr;)*)*) => {
        const COMMANDS: &[Command] = &[$($(Command {
            group: $group,
            names: $names,
            arguments: $arguments,
            help: $help,
            read: $read,
        },)*)*];
    };
}

/// The commands that `/help` lists. The others are in `/help all`.
const ESSENTIAL: [&str; 8] = ["login", "msg", "all", "join", "to", "names", "help", "quit"];

commands! {
    group "Talking":
    "all" "TEXT" "send TEXT to everyone who is logged in (PM or BM alone on a line prompts for \
                  TEXT)"
        => |text| given(text).map(TypedLine::Public);
    "msg dm w" "NAME TEXT" "send TEXT only to NAME, as %NAME%TEXT does (DM alone on a line prompts \
                            for both)"
        => |rest| two(rest).map(|(to, text)| TypedLine::Direct { to, text });
    "reply r" "TEXT" "send TEXT to the sender of your last direct message"
        => |text| given(text).map(TypedLine::Reply);
    "pm" "TEXT" "same as /all: here, PM stands for public message"
        => |text| given(text).map(TypedLine::AmbiguousPublic);
    "me" "TEXT" "send an action: /me waves appears as * alice waves"
        => |text| given(text).map(TypedLine::Act);
    "to" "[ROOM|NAME|all|partner]" "choose where everything you type goes; /to alone switches back to your partner"
        => |whom| Some(TypedLine::To(given(whom).filter(|whom| !whom.eq_ignore_ascii_case("partner"))));
    "query q" "NAME" "send everything you type to NAME only"
        => |name| given(name).map(TypedLine::Query);
    "unread" "" "list the conversations with unread messages"
        => |_| Some(TypedLine::Unread);
    "history" "[N]" "show the last N messages (default: 20, maximum: 100) of the room or user in \
                     the prompt, or the last public messages if the prompt has neither"
        => |count| {
            let count = given(count).map_or(Some(20), |count| count.parse().ok())?;
            (1..=100).contains(&count).then_some(TypedLine::History(count))
        };
    group "Rooms":
    "join j" "[-n] ROOM [PASSWORD]" "join a room (created if it does not exist) and switch to it; with -n, stay where you are"
        => |rest| {
            let stays = rest.strip_prefix("-n ").map(str::trim_start);
            let (room, password) = split_word(stays.unwrap_or(rest))?;
            let (room, password) = (in_room(room)?, given(password));
            Some(TypedLine::Join { room, password, goes_there: stays.is_none() })
        };
    "send" "ROOM TEXT" "send TEXT to a room that you are in"
        => |rest| two(rest).and_then(|(room, text)| Some(TypedLine::Send { room: in_room(room)?, text }));
    "topic" "[ROOM] [TEXT]" "show the topic of a room (default: the one in the prompt); with TEXT, set it"
        => |rest| Some(TypedLine::Topic(rest));
    "leave part leave_chatroom" "[ROOM]" "leave a room (default: the one in the prompt)"
        => |room| Some(TypedLine::Leave(in_room(room)));
    "rooms list" "" "list the rooms and how many people are in each"
        => |_| Some(TypedLine::Ask(ClientCommand::Rooms));
    group "People":
    "names who n" "[ROOM]" "list who is in a room (default: the one in the prompt); outside of \
                            rooms, list who is logged in"
        => |room| Some(TypedLine::Names(given(room)));
    "ignore" "[NAME]" "hide messages and invitations from NAME, or show them again; /ignore \
                      alone lists the names"
        => |name| Some(TypedLine::Ignore(given(name)));
    "report" "NAME REASON" "report a user to the operator and the moderators"
        => |rest| two(rest).map(|(name, reason)| TypedLine::Ask(ClientCommand::Report {
            username: name.into(), reason: reason.into(),
        }));
    group "Your account":
    "login" "NAME" "log in (prompts for your password, or for a new password if the name is new)"
        => |name| given(name).map(TypedLine::Login);
    "passwd" "" "change your password (prompts for the old and the new password)"
        => |_| Some(TypedLine::Passwd);
    "invitation" "CODE" "use an invitation code, which some servers require for a new name; then use /login"
        => |code| given(code).map(TypedLine::Invitation);
    "quit exit disconnect" "" "leave (also: EX alone, or Ctrl-D or Ctrl-C on an empty line)"
        => |_| Some(TypedLine::Quit);
    group "Your rooms":
    "room" "ROOM [open|invite|password WORD|moderated|unmoderated|moderator NAME [off]]" "show or \
        change who may join a room, who may send messages there, and who moderates it (by default, \
        its creator)"
        => read_rule;
    "invite" "NAME [ROOM]" "invite a user to a room (default: the one in the prompt)"
        => |rest| split_word(rest).map(|(name, room)| TypedLine::Invite { name, room: in_room(room) });
    group "The screen":
    "timestamp" "off|time|datetime" "set the format of the timestamp before each line"
        => |mode| Some(TypedLine::Timestamp(match mode {
            "off" => Timestamp::Off,
            "time" => Timestamp::Time,
            "datetime" => Timestamp::DateTime,
            _ => return None,
        }));
    "bell" "off|dm|mention|all" "choose when to ring the bell: never, for direct messages, for \
                                 direct messages and mentions of your name, or for all messages"
        => |word| When::read(word).map(TypedLine::Bell);
    "notify" "off|dm|mention|all" "choose when to show a desktop notification (the terminal must \
                                   support OSC 9)"
        => |word| When::read(word).map(TypedLine::Notify);
    "quiet" "" "hide join and leave messages, or show them again"
        => |_| Some(TypedLine::Quiet);
    "sent" "on|off" "show or hide the confirmation of each message that you send"
        => |word| ["off", "on"].iter().position(|there| *there == word).map(|on| TypedLine::Confirmations(on == 1));
    "clear" "" "clear the screen"
        => |_| Some(TypedLine::Clear);
    "cancel" "" "cancel the current question"
        => |_| Some(TypedLine::Cancel);
    "help" "[COMMAND|all]" "list the commands, or explain one"
        => |name| Some(TypedLine::Help(given(name)));
    group "For moderators":
    "kick" "NAME [in ROOM] [REASON]" "disconnect a user or remove the user from a room, and keep \
                                      the user out for a minute"
        => |rest| name_in_room(rest).map(|(name, room, reason)| TypedLine::Ask(ClientCommand::Kick {
            room: room.map(Into::into), username: name.into(), reason: reason.into(),
        }));
    "mute" "NAME [in ROOM] [DURATION]" "reject a user's messages, everywhere or in a room; \
                                        examples of DURATION: 30s, 10m, 2h, 7d"
        => |rest| name_in_room(rest).map(|(name, room, duration)| TypedLine::Ask(ClientCommand::Mute {
            room: room.map(Into::into), username: name.into(), duration: given(duration).map(Into::into),
        }));
    "unmute" "NAME [in ROOM]" "lift a mute"
        => |rest| {
            let (name, room, rest) = name_in_room(rest)?;
            let unmute = ClientCommand::Unmute { room: room.map(Into::into), username: name.into() };
            rest.is_empty().then_some(TypedLine::Ask(unmute))
        };
    "ban" "NAME [DURATION] [REASON]" "disconnect a user and reject later logins; examples of \
                                      DURATION: 30s, 10m, 2h, 7d"
        => |rest| {
            let (name, rest) = split_word(rest)?;
            // A first word that begins with a digit is the duration. The server refuses a mistyped
            // one, so a typo does not make a ban permanent.
            let duration = split_word(rest).filter(|(word, _)| {
                word.starts_with(|first: char| first.is_ascii_digit())
            });
            Some(TypedLine::Ask(ClientCommand::Ban {
                username: name.into(),
                duration: duration.map(|(word, _)| word.into()),
                reason: duration.map_or(rest, |(_, reason)| reason).into(),
            }))
        };
    "unban" "NAME" "lift a ban"
        => |name| Some(TypedLine::Ask(ClientCommand::Unban { username: given(name)?.into() }));
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A room's name, with or without the `#` of other chats.
pub(super) fn in_room(text: &str) -> Option<&str> {
    given(text.strip_prefix('#').unwrap_or(text))
}

/// Splits a text after its first word. Returns `None` if there is no word.
pub(super) fn split_word(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    given(first).map(|first| (first, rest.trim_start()))
}

/// Splits `NAME [in ROOM] [REST]`.
fn name_in_room(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (name, rest) = split_word(text)?;
    match two(rest) {
        Some(("in", rest)) => {
            let (room, rest) = split_word(rest)?;
            Some((name, Some(in_room(room)?), rest))
        }
        _ => Some((name, None, rest)),
    }
}

/// Reads the arguments of `/room`.
fn read_rule(text: &str) -> Option<TypedLine<'_>> {
    let (room, rest) = split_word(text)?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let mut command = ClientCommand::Room {
        room: in_room(room)?.into(),
        access: None,
        password: None,
        moderated: None,
        moderator: None,
        remove: false,
    };
    let ClientCommand::Room {
        access,
        password,
        moderated,
        moderator,
        remove,
        ..
    } = &mut command
    else {
        return None;
    };
    match words[..] {
        [] => {}
        [word @ ("open" | "invite")] => *access = Some(word.into()),
        ["password", word] => {
            *access = Some("password".into());
            *password = Some(Secret(word.into()));
        }
        ["moderated"] => *moderated = Some("yes".into()),
        ["unmoderated"] => *moderated = Some("no".into()),
        ["moderator", name] => *moderator = Some(name.into()),
        ["moderator", name, "off"] => {
            *moderator = Some(name.into());
            *remove = true;
        }
        _ => return None,
    }
    Some(TypedLine::Ask(command))
}

/// Splits a text into its first word and the rest; `None` if either is missing.
fn two(text: &str) -> Option<(&str, &str)> {
    split_word(text).filter(|(_, rest)| !rest.is_empty())
}

/// Returns whether a line is one of seed 004's commands as that seed prints them.
fn is_of_seed_004(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    let room = words.next().map(|room| Name::new(room).is_some());
    match (command, room, words.next()) {
        ("disconnect", None, None) => true,
        ("join" | "leave_chatroom", Some(is_name), None) | ("send", Some(is_name), Some(_)) => {
            is_name
        }
        _ => false,
    }
}

/// Returns whether the first line in a pipe is an operation from seed 002, so that the other lines
/// are operations, too.
pub(super) fn begins_dialogue(line: &str) -> bool {
    matches!(line.trim(), "PM" | "BM" | "DM" | "EX")
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
    if typist != (Typist::Script { seed_words: false }) && is_of_seed_004(line) {
        return TypedLine::Seed(line);
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
            "there is no command /{name} (use /help to list the commands); to send a line that \
             begins with a slash, type // instead"
        )),
    }
}

/// The first word of the text after a slash.
fn first_word(text: &str) -> &str {
    text.split(char::is_whitespace).next().unwrap_or_default()
}

/// Returns whether a line contains a password or an invitation code, or may have been meant to.
pub(super) fn has_secret(line: &str) -> bool {
    let Some(command) = line.trim_start().strip_prefix('/') else {
        return false;
    };
    let mut words = command.split_whitespace();
    let command = words.next().and_then(find);
    match command.map_or("", Command::name) {
        "passwd" | "invitation" => words.next().is_some(),
        "login" => words.nth(1).is_some(),
        "join" => words.filter(|word| *word != "-n").nth(1).is_some(),
        "room" => words.any(|word| word.eq_ignore_ascii_case("password")),
        _ => false,
    }
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
                    Some(command) => find(first_word(command)).is_some_and(Command::has_text),
                    None => true,
                };
            }
        }
    }
    pieces
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.has_name(name))
}

/// All commands that begin with `start` (without the slash), for the Tab key.
pub(super) fn beginning_with(start: &str) -> impl Iterator<Item = &'static str> {
    let start = start.to_ascii_lowercase();
    let names = COMMANDS.iter().flat_map(|command| command.names.split(' '));
    names.filter(move |name| name.len() > 1 && name.starts_with(&start))
}

/// The kind of argument that this command (without the slash) takes.
pub(super) fn takes(name: &str) -> Takes {
    find(name).map_or(Takes::Nothing, Command::takes)
}

/// One line in the help.
pub(super) struct HelpLine {
    /// The syntax of the command, or the title of a group.
    pub(super) usage: String,
    pub(super) explanation: String,
}

/// Returns the help: for the most important commands, for all of them, or for one. Empty if there
/// is no such command.
pub(super) fn help(of: Option<&str>) -> Vec<HelpLine> {
    let line = |command: &Command, explanation: String| HelpLine {
        usage: format!("/{} {}", command.name(), command.arguments),
        explanation,
    };
    let mut lines = Vec::new();
    match of.map(|name| name.trim_start_matches('/')) {
        None => {
            let found = ESSENTIAL.iter().filter_map(|name| find(name));
            lines.extend(found.map(|command| line(command, command.help.to_owned())));
        }
        Some("all") => {
            for (number, command) in COMMANDS.iter().enumerate() {
                if number == 0 || COMMANDS[number - 1].group != command.group {
                    lines.push(HelpLine {
                        usage: command.group.to_owned(),
                        explanation: String::new(),
                    });
                }
                lines.push(line(command, command.help.to_owned()));
            }
        }
        Some(name) => lines.extend(find(name).map(|command| {
            let aliases: Vec<&str> = command.names.split(' ').skip(1).collect();
            let also = match aliases.is_empty() {
                true => String::new(),
                false => format!(" (also /{})", aliases.join(", /")),
            };
            line(command, command.help.to_owned() + &also)
        })),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Typist = Typist::Script { seed_words: false };

    #[test]
    fn lines_with_a_secret_are_recognised() {
        for line in [
            "/join den tea",
            "/join -n den tea",
            "/j #den tea",
            "/room den password tea",
            "/invitation 4kqm-7xtd-w2fn",
            // These do something else, but the words are secrets all the same.
            "/passwd tea",
            "/login alice tea",
            "/room password tea",
            " /JOIN den tea",
        ] {
            assert!(has_secret(line), "{line}");
        }
        for line in [
            "/join den",
            "/join -n den",
            "/room den invite",
            "/passwd",
            "/login alice",
            "/invitation",
            "join den tea",
            "//join den tea",
        ] {
            assert!(!has_secret(line), "{line}");
        }
    }

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
            ("/names", TypedLine::Names(None)),
            (
                "/join lobby tea",
                TypedLine::Join {
                    room: "lobby",
                    password: Some("tea"),
                    goes_there: true,
                },
            ),
            (
                "/invite bob",
                TypedLine::Invite {
                    name: "bob",
                    room: None,
                },
            ),
            (
                "/invite bob #lobby",
                TypedLine::Invite {
                    name: "bob",
                    room: Some("lobby"),
                },
            ),
            (
                "/kick bob in lobby too loud",
                TypedLine::Ask(ClientCommand::Kick {
                    room: Some("lobby".into()),
                    username: "bob".into(),
                    reason: "too loud".into(),
                }),
            ),
            (
                "/mute bob in lobby 10m",
                TypedLine::Ask(ClientCommand::Mute {
                    room: Some("lobby".into()),
                    username: "bob".into(),
                    duration: Some("10m".into()),
                }),
            ),
            (
                "/room lobby moderator bob off",
                TypedLine::Ask(ClientCommand::Room {
                    room: "lobby".into(),
                    access: None,
                    password: None,
                    moderated: None,
                    moderator: Some("bob".into()),
                    remove: true,
                }),
            ),
            (
                "/room lobby closed",
                TypedLine::Wrong(format!("usage: /room {RULES}")),
            ),
            (
                "/join lobby",
                TypedLine::Join {
                    room: "lobby",
                    password: None,
                    goes_there: true,
                },
            ),
            (
                "/join -n #lobby",
                TypedLine::Join {
                    room: "lobby",
                    password: None,
                    goes_there: false,
                },
            ),
            ("join lobby", TypedLine::Seed("join lobby")),
            ("send lobby hello", TypedLine::Seed("send lobby hello")),
            (
                "leave_chatroom lobby",
                TypedLine::Seed("leave_chatroom lobby"),
            ),
            ("disconnect", TypedLine::Seed("disconnect")),
            ("join us for tea", TypedLine::Say("join us for tea")),
            ("send help", TypedLine::Say("send help")),
            ("/leave", TypedLine::Leave(None)),
            ("/to partner", TypedLine::To(None)),
            (
                "/send lobby hi there",
                TypedLine::Send {
                    room: "lobby",
                    text: "hi there",
                },
            ),
            ("/leave_chatroom lobby", TypedLine::Leave(Some("lobby"))),
            ("/part #lobby", TypedLine::Leave(Some("lobby"))),
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
            ("/bell loud", "off|dm|mention|all"),
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
            ("/names", TypedLine::Names(None)),
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
        let all = help(Some("all"));
        for command in COMMANDS {
            let usage = format!("/{} {}", command.name(), command.arguments);
            assert!(all.iter().any(|line| line.usage == usage), "{usage}");
            for name in command.names.split(' ') {
                let own = help(Some(&name.to_ascii_uppercase()));
                assert!(own[0].explanation.starts_with(command.help), "{name}");
                let alias = format!("/{name}");
                assert!(own[0].usage.contains(&alias) || own[0].explanation.contains(&alias));
            }
        }
        assert!(help(Some("/frob")).is_empty());
        let short: Vec<String> = help(None).into_iter().map(|line| line.usage).collect();
        assert_eq!(short.len(), ESSENTIAL.len());
        assert!(
            !short.concat().contains("/dm"),
            "aliases are only in a command's own help"
        );
    }

    #[test]
    fn the_arguments_in_the_help_determine_what_tab_completes() {
        for (name, kind) in [
            ("msg", Takes::Name),
            ("all", Takes::Nothing),
            ("login", Takes::Nothing),
            ("join", Takes::Room),
            ("leave", Takes::Room),
            ("to", Takes::Whom),
            ("ignore", Takes::Name),
            ("help", Takes::Command),
            ("sent", Takes::Values("on|off")),
            ("history", Takes::Nothing),
        ] {
            assert_eq!(takes(name), kind, "{name}");
        }
    }

    const RULES: &str =
        "ROOM [open|invite|password WORD|moderated|unmoderated|moderator NAME [off]]";

    /// The commands that make sense only in a terminal. (Old messages appear on the page by
    /// scrolling, and its title counts the unread ones.)
    const NOT_ON_THE_PAGE: [&str; 9] = [
        "pm",
        "unread",
        "history",
        "timestamp",
        "bell",
        "notify",
        "quiet",
        "sent",
        "cancel",
    ];

    /// The page is written in another language, so its commands can't come from this table. They
    /// are in the page's own table.
    #[test]
    fn the_page_for_browsers_has_the_same_commands() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/page");
        let table = std::fs::read_to_string(page.join("commands.js")).unwrap();
        for command in COMMANDS {
            let name = command.name();
            let has_row = table.contains(&format!("names: ['{name}'"));
            assert_eq!(has_row, !NOT_ON_THE_PAGE.contains(&name), "/{name}");
        }
        let rows = table.split("names: ['").skip(1);
        for name in rows.map(|row| row.split('\'').next().unwrap()) {
            // A browser stays signed in, and a terminal does not.
            assert!(find(name).is_some() || name == "logout", "/{name}");
        }
    }
}
