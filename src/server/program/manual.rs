//! The hand-written sections of `man chatserver`.

use crate::manual::Block::{Example, Item, Text};
use crate::manual::Manual;

pub(super) const MANUAL: Manual = Manual {
    synopsis: &[
        "chatserver [OPTIONS] [PORT]",
        "chatserver replay [OPTIONS] FILE",
        "chatserver journal [OPTIONS] FILE",
        "chatserver echo [OPTIONS] [PORT]",
    ],
    description: &[
        Text(
            "chatserver is a chat server with one thread per connection. Clients ask its portal, at \
             PORT (50000 by default), for a seat. The portal replies with the port of a worker and a \
             one-time passcode; the client connects there, sends the passcode, and talks to the \
             client in the neighbouring seat, to everyone, to one person or to a room.",
        ),
        Text(
            "On a terminal, chatserver shows its events and accepts commands; type help for a list. \
             Without a terminal it prints events to standard output.",
        ),
        Text(
            "chatserver replay shows, on the board, a recording made with --events. chatserver \
             journal prints the messages in a file written with --journal. chatserver echo is the \
             server of the first two lessons. Each of these commands lists its options with \
             --help.",
        ),
    ],
    sections: &[
        (
            "EXIT STATUS",
            &[
                Item(
                    "0",
                    "The server was shut down, or printed the requested output.",
                ),
                Item(
                    "2",
                    "An option is invalid, a file can't be used, a port can't be bound, or the \
                     events can't be written to standard output. The server did not start, or has \
                     stopped; standard error shows the reason and the fix.",
                ),
                Item(
                    "130",
                    "A second signal ended the shutdown before it was complete.",
                ),
            ],
        ),
        (
            "FILES",
            &[
                Text(
                    "For each file that no option specifies, chatserver uses the one in the \
                     current folder, if there is one. Otherwise, it uses or creates one in \
                     $STATE_DIRECTORY (set by systemd), $XDG_STATE_HOME/portal-chat or \
                     ~/.local/state/portal-chat.",
                ),
                Item("accounts.txt", "Names and password hashes (--accounts)."),
                Item(
                    "policies.txt",
                    "Bans, mutes, moderators and invitations (--policies).",
                ),
                Item(
                    "portal-chat-cert.pem, portal-chat-key.pem",
                    "The certificate and key that --tls creates if no files are given.",
                ),
                Text(
                    "The key, accounts, --cluster-secret, journal and event files must be owned by \
                     the user who runs chatserver, or by root, and must not be accessible to other \
                     users.",
                ),
                Item(
                    "FILE, FILE-wal, FILE-shm",
                    "The database of --journal FILE. Its view named history shows the messages. A \
                     damaged database is renamed to FILE.damaged-TIME.",
                ),
                Item(
                    "/etc/default/chatserver",
                    "Options for the system-wide systemd unit.",
                ),
                Item(
                    "~/.config/portal-chat/chatserver",
                    "Options for a user's systemd unit.",
                ),
            ],
        ),
        (
            "SIGNALS",
            &[
                Item(
                    "SIGINT, SIGTERM, SIGQUIT",
                    "Notify every client and shut down. On a second signal, exit at once.",
                ),
                Item(
                    "SIGHUP",
                    "Without a terminal, reload the certificate, the configuration file and the \
                     message of the day, and report the settings that need a restart. At a \
                     terminal, same as SIGTERM, because closing the terminal sends SIGHUP, too; \
                     there, use the command reload.",
                ),
                Item(
                    "SIGTSTP, SIGCONT",
                    "Suspend and resume; timeouts do not run while suspended.",
                ),
            ],
        ),
        (
            "ENVIRONMENT",
            &[
                Item("HOME, XDG_STATE_HOME, STATE_DIRECTORY", "See FILES."),
                Item("NO_COLOR", "If set and not empty, turns off colours."),
                Item(
                    "TERM",
                    "If dumb or not set, turns off colours and line editing.",
                ),
                Item("TZ", "The time zone for displayed times."),
            ],
        ),
        (
            "EXAMPLES",
            &[
                Text("A server with four seats, for this machine only:"),
                Example("chatserver"),
                Text("A server for a class of thirty who use browsers, open to the network:"),
                Example("chatserver --web 0.0.0.0:8080 --workers 30"),
                Text("An encrypted server for your network, with a self-signed certificate:"),
                Example("chatserver --bind 0.0.0.0 --tls"),
                Text("Check the options without starting the server:"),
                Example("chatserver --bind 0.0.0.0 --workers 200 --check"),
            ],
        ),
        ("SEE ALSO", &[Text("chatclient(1), chatcheck(1)")]),
    ],
};
