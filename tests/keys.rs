//! Random keys, typed at a real client on a real terminal while messages arrive: no message is
//! lost, and the line that is sent is the one on the screen.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use portal_chat::server::Settings;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::terminal::Terminal;
use support::{TestServer, command, login, message, sentences, temporary_file};

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

/// The number of steps in one sequence.
const STEPS: usize = 40;

/// A key, or a message that arrives.
#[derive(Clone, Debug)]
enum Step {
    Key(&'static str),
    Message,
}

/// The prompts at which a line is sent to a recipient.
#[derive(Clone, Copy, Debug)]
enum Prompt {
    Partner,
    User,
    Everyone,
    Room,
}

impl Prompt {
    /// Brings alice to the prompt.
    fn reach(self, alice: &mut Terminal) {
        let (line, prompt) = match self {
            Prompt::Partner => return alice.wait_for_prompt("alice to bob>"),
            Prompt::User => ("/to bob", "alice to bob alone>"),
            Prompt::Everyone => ("/to all", "alice to everyone>"),
            Prompt::Room => ("/join lobby", "alice in lobby>"),
        };
        alice.wait_for_text("bob joined");
        alice.type_line(line);
        alice.wait_for_prompt(prompt);
    }

    /// A message from bob that is shown at this prompt.
    fn message(self, text: &str) -> String {
        let text = format!("<message>{text}</message>");
        match self {
            Prompt::Partner => format!("<CLIENT>{text}</CLIENT>"),
            Prompt::User => command("DM", &format!("<to>alice</to>{text}")),
            Prompt::Everyone => command("PM", &text),
            Prompt::Room => command("SAY", &format!("<room>lobby</room>{text}")),
        }
    }
}

/// The typed lines on the screen, and the messages, both without white space.
fn shown(screen: &str) -> (String, Vec<String>) {
    let (mut lines, mut messages) = (String::new(), Vec::new());
    let solid = |text: &str| text.split_whitespace().collect::<String>();
    for row in screen.lines() {
        // The time of day, and then a prompt or a message.
        let rest = row.get("00:00 ".len()..).unwrap_or_default();
        let is_prompt = rest.starts_with("alice to ") || rest.starts_with("alice in ");
        if let Some((_, message)) = rest.split_once(": m-") {
            messages.push(message.to_owned());
        } else if let Some((_, line)) = rest.split_once("> ").filter(|_| is_prompt) {
            lines += &solid(line);
        } else if !rest.starts_with("* ") && !rest.starts_with("alice") {
            // The next row of a line that spans several rows.
            lines += &solid(row);
        }
    }
    (lines, messages)
}

fn check(prompt: Prompt, steps: &[Step]) -> Result<(), TestCaseError> {
    let server = TestServer::with_workers(4);
    let (partner, _) = server.seat();
    let port = server.server.portal().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice"];
    let mut alice = Terminal::start(env!("CARGO_BIN_EXE_chatclient"), &arguments, &[]);
    alice.wait_for_prompt("alice to ");
    let (mut bob, _partner) = match prompt {
        Prompt::Partner => (partner, None),
        _ => (server.seat().0, Some(partner)),
    };
    bob.send_line(&login("bob"));
    bob.line_with("WELCOME");
    bob.send_line(&command("JOIN", "<room>lobby</room><here/>"));
    bob.line_with("JOINED");
    prompt.reach(&mut alice);
    // Fill the history, so that no key recalls the command that led here.
    for number in 0..STEPS {
        alice.type_line(&format!("aa bb {number}"));
    }
    bob.line_with(&format!("aa bb {}<", STEPS - 1));
    // The lines so far are not part of the test.
    alice.type_text("\x0c");
    alice.wait_for("an empty screen", |alice| {
        alice.contents().lines().count() == 1
    });
    let mut sent = 0;
    for step in steps {
        match step {
            Step::Key(key) => alice.type_text(key),
            Step::Message => {
                sent += 1;
                bob.send_line(&prompt.message(&format!("m-{sent}")));
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

fn any_keys_at(prompt: Prompt, cases: u32) {
    let step = prop_oneof![
        9 => proptest::sample::select(&KEYS[..]).prop_map(Step::Key),
        1 => Just(Step::Message),
    ];
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&proptest::collection::vec(step, STEPS), |steps| {
            check(prompt, &steps)
        })
        .unwrap();
}

#[test]
fn at_the_partners_prompt_the_line_shown_is_sent_and_no_message_is_lost() {
    any_keys_at(Prompt::Partner, 16);
}

#[test]
fn at_a_users_prompt_the_line_shown_is_sent_and_no_message_is_lost() {
    any_keys_at(Prompt::User, 8);
}

#[test]
fn at_everyones_prompt_the_line_shown_is_sent_and_no_message_is_lost() {
    any_keys_at(Prompt::Everyone, 8);
}

#[test]
fn at_a_rooms_prompt_the_line_shown_is_sent_and_no_message_is_lost() {
    any_keys_at(Prompt::Room, 8);
}

/// Checks that keys typed at a password prompt are never shown, and that the next messages arrive.
fn check_hidden(steps: &[Step]) -> Result<(), TestCaseError> {
    let accounts = temporary_file("keys");
    let server = TestServer::start(&Settings {
        workers: 2,
        accounts: Some(accounts.clone()),
        ..Settings::default()
    });
    let (mut bob, _) = server.seat();
    let port = server.server.portal().port().to_string();
    let arguments = ["127.0.0.1", &port, "alice"];
    let mut alice = Terminal::start(env!("CARGO_BIN_EXE_chatclient"), &arguments, &[]);
    alice.wait_for_prompt("choose a password for alice>");
    for step in steps {
        match step {
            Step::Key("\r") => {}
            Step::Key(key) => alice.type_text(key),
            Step::Message => bob.send_line(&message("m-")),
        }
    }
    // Leaves a search or a paste, then the question.
    alice.type_text("\x07\x15");
    prop_assert!(!alice.contents().contains('漢'), "{}", alice.contents());
    alice.type_line("geheim");
    alice.wait_for_prompt("repeat the password>");
    alice.type_line("geheim");
    alice.wait_for_text(sentences::YOU_ARE_LOGGED_IN_AS_ALICE);
    bob.send_line(&message("the end"));
    alice.wait_for_text(": the end");
    let _ = std::fs::remove_file(accounts);
    Ok(())
}

#[test]
fn whatever_is_typed_at_a_passwords_prompt_stays_hidden() {
    let step = prop_oneof![
        9 => proptest::sample::select(&KEYS[..]).prop_map(Step::Key),
        1 => Just(Step::Message),
    ];
    let mut runner = TestRunner::new(Config {
        cases: 8,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&proptest::collection::vec(step, STEPS), |steps| {
            check_hidden(&steps)
        })
        .unwrap();
}
