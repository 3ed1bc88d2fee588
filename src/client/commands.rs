//! What can be typed: the table of commands, from which the help is made.

/// A line that the person typed, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// Chat for the partner.
    Say(&'l str),
    /// `/me waves`.
    Act(&'l str),
    /// `/help`, or `/help COMMAND`.
    Help(Option<&'l str>),
    /// `/quit`.
    Quit,
    /// Nothing but space.
    Nothing,
    /// A slash and something that is no command, or a command without what it needs.
    Wrong(String),
}

/// One command for the person.
struct Command {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    read: fn(&str) -> Option<Line<'_>>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "me",
        arguments: "TEXT",
        help: "say what you do: `/me waves` shows as `* 50001 waves`",
        read: |text| (!text.is_empty()).then_some(Line::Act(text)),
    },
    Command {
        name: "help",
        arguments: "[COMMAND]",
        help: "list the commands, or explain one",
        read: |name| Some(Line::Help((!name.is_empty()).then_some(name))),
    },
    Command {
        name: "quit",
        arguments: "",
        help: "leave (so do Ctrl-D and Ctrl-C)",
        read: |_| Some(Line::Quit),
    },
];

/// Understands a typed line. One that begins with two slashes is chat that begins with one.
pub(super) fn read(line: &str) -> Line<'_> {
    if line.trim().is_empty() {
        return Line::Nothing;
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
    match COMMANDS.iter().find(|known| known.name == name) {
        Some(known) => (known.read)(arguments.trim())
            .unwrap_or_else(|| Line::Wrong(format!("it is /{} {}", known.name, known.arguments))),
        None => Line::Wrong(format!(
            "there is no command /{name}; /help lists them, // says a slash"
        )),
    }
}

/// The help text: of all commands, or of one.
pub(super) fn help(of: Option<&str>) -> String {
    let name = of.map(|name| name.trim_start_matches('/'));
    let wanted = COMMANDS
        .iter()
        .filter(|command| name.is_none_or(|name| name == command.name));
    let lines: Vec<String> = wanted
        .map(|command| {
            let usage = format!("/{} {}", command.name, command.arguments);
            format!("  {usage:<18} {}", command.help)
        })
        .collect();
    match (name, lines.is_empty()) {
        (Some(name), true) => format!("  there is no command /{name}"),
        (Some(_), false) => lines.join("\n"),
        (None, _) => format!(
            "  Type and press Enter to say something to your partner.\n{}",
            lines.join("\n")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(read("hello /there"), Line::Say("hello /there"));
        assert_eq!(read("  indented"), Line::Say("  indented"));
        assert_eq!(read("   "), Line::Nothing);
        assert_eq!(read("//etc"), Line::Say("/etc"));
        assert_eq!(read("/me waves"), Line::Act("waves"));
        assert_eq!(read("/help  quit "), Line::Help(Some("quit")));
        assert_eq!(read("/quit"), Line::Quit);
        assert!(matches!(read("/me"), Line::Wrong(usage) if usage.contains("/me TEXT")));
        assert!(matches!(read("/frob"), Line::Wrong(usage) if usage.contains("/frob")));
    }

    #[test]
    fn every_command_is_in_the_help_and_has_its_own() {
        for command in COMMANDS {
            assert!(help(None).contains(&format!("/{}", command.name)));
            assert!(help(Some(command.name)).contains(command.help));
        }
        assert!(help(Some("/frob")).contains("no command"));
    }
}
