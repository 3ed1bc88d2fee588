//! Any keys, at a real client on a real terminal, while messages arrive: no message is lost, and
//! the line that is sent is the one on the screen.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::TestServer;
use support::terminal::Terminal;

/// The keys of a keyboard, and what a terminal sends on its own. Keys that leave the client on an
/// empty line (Ctrl-C, Ctrl-D) and commands are excluded.
const KEYS: [&str; 38] = [
    "a",
    "b",
    "c",
    " ",
    "漢",
    "é",
    "z",
    "x",
    "\t",
    "\x7f",
    "\x1b[3~",
    "\x01",
    "\x05",
    "\x02",
    "\x06",
    "\x0b",
    "\x15",
    "\x17",
    "\x19",
    "\x14",
    "\x1f",
    "\x12",
    "\x07",
    "\x1bb",
    "\x1bf",
    "\x1bd",
    "\x1by",
    "\x1b\x7f",
    "\x1b[A",
    "\x1b[B",
    "\x1b[C",
    "\x1b[D",
    "\x1b[1;5D",
    "\x1b[200~pas\nted\x1b[201~",
    "\x1b]11;rgb:1e/1e/1e\x07",
    "\x1b[<0;3;4M",
    "\r",
    "\r",
];

/// A key, or a message that arrives.
#[derive(Clone, Debug)]
enum Step {
    Key(&'static str),
    Message,
}

/// The typed lines on the screen, and the messages, both without white space.
fn shown(screen: &str) -> (String, Vec<String>) {
    let (mut lines, mut messages) = (String::new(), Vec::new());
    let solid = |text: &str| text.split_whitespace().collect::<String>();
    for row in screen.lines() {
        // The time of day, and then a prompt or a message.
        let rest = row.get("00:00 ".len()..).unwrap_or_default();
        if let Some((_, message)) = rest.split_once(": m-") {
            messages.push(message.to_owned());
        } else if let Some((_, line)) = rest.split_once("> ").filter(|_| rest.starts_with("you to"))
        {
            lines += &solid(line);
        } else if !rest.starts_with("* ") && !rest.starts_with("you") {
            // The next row of a line that spans several rows.
            lines += &solid(row);
        }
    }
    (lines, messages)
}

fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let server = TestServer::with_workers(2);
    let (mut bob, _) = server.seat();
    let port = server.server.portal().port().to_string();
    let mut alice = Terminal::start(env!("CARGO_BIN_EXE_chatclient"), &["127.0.0.1", &port], &[]);
    alice.wait_for_prompt("you to");
    let mut sent = 0;
    for step in steps {
        match step {
            Step::Key(key) => alice.type_text(key),
            Step::Message => {
                sent += 1;
                bob.send_line(&support::message(&format!("m-{sent}")));
            }
        }
    }
    // Enter also ends a search in the history. The next line marks the end of the messages.
    alice.type_text("\r\x15");
    alice.type_line("theend");
    let mut received = String::new();
    while !received.ends_with("theend") {
        let line = bob.line_with("<message>");
        let text = line.split_once("<message>").unwrap().1;
        let text = text.split_once("</message>").unwrap().0;
        received.extend(
            text.replace("&#10;", "")
                .replace("&#9;", "")
                .split_whitespace(),
        );
    }
    alice.wait_for("the messages", |alice| {
        let (lines, messages) = shown(&alice.contents());
        lines.ends_with("theend") && messages.len() == sent
    });
    let (lines, messages) = shown(&alice.contents());
    let numbers: Vec<String> = (1..=sent).map(|number| number.to_string()).collect();
    prop_assert_eq!(messages, numbers);
    prop_assert_eq!(lines, received, "on the screen:\n{}", alice.contents());
    Ok(())
}

#[test]
fn the_line_that_is_sent_is_the_one_shown_and_no_message_is_lost() {
    let step = prop_oneof![
        9 => proptest::sample::select(&KEYS[..]).prop_map(Step::Key),
        1 => Just(Step::Message),
    ];
    let mut runner = TestRunner::new(Config {
        cases: 40,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&proptest::collection::vec(step, 40), |steps| check(&steps))
        .unwrap();
}
