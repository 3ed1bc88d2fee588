//! The hand-written sections of `man chatcheck`.

use portal_cli::manual::Block::{Example, Item, Text};
use portal_cli::manual::Manual;

pub(crate) const MANUAL: Manual = Manual {
    synopsis: &["chatcheck [OPTIONS] RUNG [COMMAND]"],
    description: &[
        Text(
            "chatcheck checks a chat server that you have written yourself, in any language. RUNG \
             is the number of a step in the lessons (a rung), from 1 to 7. Without COMMAND, \
             chatcheck prints the task of that rung.",
        ),
        Text(
            "For each check, sh starts COMMAND again, with a free port on 127.0.0.1 in place of \
             {port} and an empty folder in place of {folder}. chatcheck talks to the server over \
             real sockets, and reports each failure with an idea that may help. Then it stops the \
             server and every process that the server has started.",
        ),
    ],
    sections: &[
        (
            "EXIT STATUS",
            &[
                Item("0", "All checks passed."),
                Item("1", "A check failed."),
                Item("2", "Nothing was checked; the reason is on standard error."),
                Item("128 + N", "Signal N ended the run."),
            ],
        ),
        ("FILES", &[Item("FILE", "The JUnit report (--junit FILE).")]),
        (
            "SIGNALS",
            &[Item(
                "SIGINT, SIGTERM, SIGHUP",
                "Stop the program being checked, then exit.",
            )],
        ),
        (
            "ENVIRONMENT",
            &[Item("NO_COLOR", "If set and not empty, turns off colours.")],
        ),
        (
            "EXAMPLES",
            &[
                Text("Print the first task:"),
                Example("chatcheck 1"),
                Text("Check a server written in Python:"),
                Example("chatcheck 1 'python3 server.py {port}'"),
                Text("Check a client, and continue after failures:"),
                Example("chatcheck 1 --client --keep-going 'python3 client.py {port}'"),
            ],
        ),
        ("SEE ALSO", &[Text("chatserver(1), chatclient(1)")]),
    ],
};
