//! The hand-written sections of `man chatclient`.

use portal_cli::manual::Block::{Example, Item, Text};
use portal_cli::manual::Manual;

pub(crate) const MANUAL: Manual = Manual {
    synopsis: &[
        "chatclient [OPTIONS] [SERVER [PORT [USERNAME]]]",
        "chatclient echo [OPTIONS] [SERVER [PORT]]",
    ],
    description: &[
        Text(
            "chatclient connects to a chatserver, gets a seat, and sends each line that you type \
             to your partner in the neighbouring seat. With USERNAME, it also logs in, and you can \
             write to everyone, to one person or to rooms. Type /help to list the commands.",
        ),
        Text(
            "Without SERVER, the server, port, name and options come from the settings file. If \
             the input is a pipe, chatclient sends its lines in order and waits for the replies \
             before it exits.",
        ),
        Text("chatclient echo is the client for the first two lessons."),
    ],
    sections: &[
        (
            "EXIT STATUS",
            &[
                Item("0", "You left."),
                Item(
                    "1",
                    "The client could not connect, or the connection ended before you left. With \
                     input from a pipe, also: a line was refused or not sent.",
                ),
                Item("2", "An option, a file or the input is invalid."),
                Item(
                    "3",
                    "The server is full, and no retries are left (--retry).",
                ),
                Item(
                    "130",
                    "A second signal ended the program before it had left the chat.",
                ),
            ],
        ),
        (
            "FILES",
            &[
                Item(
                    "~/.config/portal-chat/client.conf",
                    "The settings file (--config, --save). Each line is an option without its \
                     dashes, such as server chat.example.org.",
                ),
                Item(
                    "~/.local/state/portal-chat/known_servers",
                    "The certificates of servers that you have chosen to trust (--tls).",
                ),
                Item(
                    "~/.local/state/portal-chat/history",
                    "The lines that you have typed.",
                ),
            ],
        ),
        (
            "SIGNALS",
            &[
                Item(
                    "SIGINT, SIGTERM, SIGHUP",
                    "Leave the chat. A second signal exits at once.",
                ),
                Item(
                    "SIGTSTP, SIGCONT",
                    "Suspend, and resume with the prompt redrawn.",
                ),
            ],
        ),
        (
            "ENVIRONMENT",
            &[
                Item(
                    "CHAT_PASSWORD",
                    "The password, unless --password-file is given.",
                ),
                Item(
                    "HOME, XDG_CONFIG_HOME, XDG_STATE_HOME",
                    "The folders for the files: XDG_CONFIG_HOME replaces ~/.config, and \
                     XDG_STATE_HOME replaces ~/.local/state.",
                ),
                Item("NO_COLOR", "If set and not empty, turns off colours."),
                Item(
                    "TERM",
                    "If dumb or not set, turns off colours and line editing.",
                ),
                Item("TZ", "The time zone in which times are shown."),
            ],
        ),
        (
            "EXAMPLES",
            &[
                Text("Chat on this machine, without a name:"),
                Example("chatclient"),
                Text("Log in as alice on another machine, encrypted:"),
                Example("chatclient chat.example.org 50000 alice --tls"),
                Text("Send one line from a script:"),
                Example(
                    "echo '/all backup done' | chatclient localhost 50000 backup --password-file FILE",
                ),
            ],
        ),
        ("SEE ALSO", &[Text("chatserver(1), chatcheck(1)")]),
    ],
};
