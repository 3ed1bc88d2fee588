//! The hand-written sections of `man chatcheck`.

use portal_cli::manual::Block::{Example, Item, Text};
use portal_cli::manual::Manual;

pub(crate) const MANUAL: Manual = Manual {
    synopsis: &["chatcheck [OPTIONS] RUNG [COMMAND]"],
    description: &[
        Text(
            "chatcheck checks a chat server that you have written yourself, in any language. The \
             lessons have seven steps, the rungs; RUNG is the number of one. Without COMMAND, \
             chatcheck prints the task.",
        ),
        Text(
            "For each check, sh starts COMMAND again, with a free port on 127.0.0.1 in place of \
             {port} and an empty folder in place of {folder}. chatcheck talks to the server over \
             real sockets, reports what fails, with an idea that may help, and stops the server and \
             every process that it has started.",
        ),
    ],
    sections: &[
        (
            "EXIT STATUS",
            &[
                Item("0", "Every check has passed."),
                Item("1", "A check has failed."),
                Item("2", "Nothing was checked; standard error says why."),
                Item("128 + N", "Signal N ended the run."),
            ],
        ),
        (
            "FILES",
            &[Item("FILE", "The report that --junit FILE writes.")],
        ),
        (
            "SIGNALS",
            &[Item(
                "SIGINT, SIGTERM, SIGHUP",
                "Stop the checked program, then chatcheck.",
            )],
        ),
        (
            "ENVIRONMENT",
            &[Item("NO_COLOR", "No colours if it is set and not empty.")],
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
