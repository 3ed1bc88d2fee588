//! Every file that users edit, in every form in which editors and shells save text. Either the form
//! makes no difference, or the program exits with code 2 and a message that mentions the file and
//! the line.
#![cfg(all(unix, feature = "tls", feature = "cluster"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use portal_chat::accounts::{Accounts, PasswordCheck};
use portal_chat::event::Recording;
use portal_chat::server::Settings;
use portal_chat::wire::Name;
use support::running::Running;
use support::sentences;
use support::{TestServer, temporary_file};

const CLIENT: &str = env!("CARGO_BIN_EXE_chatclient");
const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");

/// The output of a program on both streams, and its exit code.
type Run = (String, Option<i32>);

fn run(program: &str, home: &Path, arguments: &[&str], input: &[u8]) -> Run {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOME", home)
        .env("XDG_STATE_HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("CHAT_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that rejects its options reads no input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8_lossy(&output_text).into_owned();
    (output_text, output.status.code())
}

/// A kind of file: its content, the command line that reads it, and a check that it was read
/// correctly.
struct Kind<'k> {
    name: &'static str,
    text: String,
    start: Box<dyn Fn(&Path) -> Run + 'k>,
    is_understood: fn(&Run) -> bool,
}

enum Outcome {
    Same,
    /// No difference, or an error that mentions this line.
    SameOrLine(usize),
    Refused,
}

/// The forms in which `text` can be saved, each with the expected outcome.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let plain = text.as_bytes().to_vec();
    let mark = "\u{feff}".as_bytes();
    let crlf = text.replace('\n', "\r\n").into_bytes();
    let unended = text.trim_end().as_bytes().to_vec();
    let latin1 = [&plain[..], b"# M\xfcller\n"].concat();
    let utf16 = |marked: &str| -> Vec<u8> {
        let text = marked.to_owned() + text;
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let last = text.lines().count() + 1;
    vec![
        ("as it is", plain.clone(), Outcome::Same),
        ("byte order mark", [mark, &plain].concat(), Outcome::Same),
        ("CRLF", crlf.clone(), Outcome::Same),
        ("no final newline", unended, Outcome::Same),
        (
            "byte order mark and CRLF",
            [mark, &crlf].concat(),
            Outcome::Same,
        ),
        ("Latin-1", latin1, Outcome::SameOrLine(last)),
        ("UTF-16", utf16("\u{feff}"), Outcome::Refused),
        ("UTF-16 without a mark", utf16(""), Outcome::Refused),
    ]
}

fn is_refused((output_text, code): &Run, file: &Path, line: Option<usize>) -> bool {
    let names = match line {
        Some(line) => format!("{}, line {line}: ", file.display()),
        None => file.display().to_string(),
    };
    *code == Some(2) && output_text.contains(&names) && !output_text.contains("Usage")
}

#[test]
fn every_file_form_is_read_or_refused() {
    let open = TestServer::with_workers(4);
    let guarded = TestServer::start(&Settings {
        workers: 4,
        accounts: Some(temporary_file("text-guarded")),
        ..Settings::default()
    });
    let port = |server: &TestServer| server.server.portal().port().to_string();
    let home = temporary_file("text-home");
    std::fs::create_dir_all(&home).unwrap();
    let folder = home.join("portal-chat");
    std::fs::create_dir_all(&folder).unwrap();
    support::tls::in_files(&folder);
    let pem = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let made = temporary_file("text-accounts");
    let accounts = Accounts::open(&made).unwrap().accounts;
    let alice = Name::new("alice").unwrap();
    accounts.check(&alice, "secret", || false).unwrap();
    drop(accounts);
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let check = |options: &[&str]| {
        let options = [&["0", "--workers", "2", "--check"], options].concat();
        run(SERVER, &home, &options, b"")
    };
    let can_start: fn(&Run) -> bool = |(output_text, code)| {
        *code == Some(0) && output_text.contains(sentences::THE_SERVER_CAN_START)
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let kinds = [
        Kind {
            name: "client.conf",
            text: format!(
                "# mine\nserver = 127.0.0.1\nport {}\nname = alice\nreconnect = true\n",
                port(&open)
            ),
            start: Box::new(|file| run(CLIENT, &home, &["--config", &text(file)], b"")),
            is_understood: |(output_text, code)| {
                *code == Some(0) && output_text.contains(sentences::LOGGED_IN_AS_ALICE)
            },
        },
        Kind {
            name: "password",
            text: "p\u{e4}ss w\u{f6}rd\n".to_owned(),
            start: Box::new(|file| {
                let (port, file) = (port(&guarded), text(file));
                let options = ["127.0.0.1", &port, "bob", "--password-file", &file];
                guarded.with_running_clock(|| run(CLIENT, &home, &options, b""))
            }),
            is_understood: |(output_text, code)| {
                *code == Some(0) && output_text.contains(sentences::LOGGED_IN_AS_BOB)
            },
        },
        Kind {
            name: "known_servers",
            text: format!("# mine\nlocalhost 1 {}\n", ["AB"; 32].join(":")),
            // The connection fails, because no program listens there, but only after the file is
            // read.
            start: Box::new(|file| {
                std::fs::rename(file, folder.join("known_servers")).unwrap();
                let run = run(CLIENT, &home, &["localhost", "1", "--tls"], b"");
                std::fs::rename(folder.join("known_servers"), file).unwrap();
                let output_text = run
                    .0
                    .replace(&text(&folder.join("known_servers")), &text(file));
                (output_text, run.1)
            }),
            is_understood: |(_, code)| *code == Some(1),
        },
        Kind {
            name: "motd",
            text: "welcome\n\nto all\n".to_owned(),
            start: Box::new(|file| check(&["--no-passwords", "--motd", &text(file)])),
            is_understood: can_start,
        },
        Kind {
            name: "word",
            text: "secret\n".to_owned(),
            // The connection fails, because there is no Redis, but only after the file is read.
            start: Box::new(|file| {
                let redis = "redis://127.0.0.1:1";
                check(&[
                    "--no-passwords",
                    "--cluster",
                    redis,
                    "--cluster-secret",
                    &text(file),
                ])
            }),
            is_understood: |(output_text, _)| !output_text.contains("--cluster-secret "),
        },
        Kind {
            name: "accounts.txt",
            text: std::fs::read_to_string(&made).unwrap(),
            start: Box::new(|file| {
                let run = check(&["--accounts", &text(file)]);
                if run.1 == Some(0) {
                    let opened = Accounts::open(file).unwrap();
                    assert_eq!(opened.damage, vec![]);
                    let right = opened.accounts.check(&alice, "secret", || false);
                    assert!(matches!(right, Ok(PasswordCheck::Right(_))), "{right:?}");
                }
                run
            }),
            is_understood: can_start,
        },
        Kind {
            name: "other-cert.pem",
            text: pem("cert.pem"),
            start: Box::new(|file| check(&["--no-passwords", "--tls", &text(file), &text(&key)])),
            is_understood: can_start,
        },
        Kind {
            name: "other-key.pem",
            text: pem("key.pem"),
            start: Box::new(|file| {
                check(&["--no-passwords", "--tls", &text(&certificate), &text(file)])
            }),
            is_understood: can_start,
        },
    ];
    let files = home.join("files");
    std::fs::create_dir_all(&files).unwrap();
    for kind in &kinds {
        let file: PathBuf = files.join(kind.name);
        let failed = |form: &str, run: &Run| panic!("{}, {form}: {:?} {}", kind.name, run.1, run.0);
        for (form, bytes, expected) in forms(&kind.text) {
            std::fs::write(&file, bytes).unwrap();
            support::make_private(&file);
            let run = (kind.start)(&file);
            let is_right = match expected {
                Outcome::Same => (kind.is_understood)(&run),
                Outcome::SameOrLine(line) => {
                    (kind.is_understood)(&run) || is_refused(&run, &file, Some(line))
                }
                Outcome::Refused => is_refused(&run, &file, None),
            };
            if !is_right {
                failed(form, &run);
            }
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let run = (kind.start)(&file);
        if !(is_refused(&run, &file, None) && run.0.contains(sentences::IT_IS_A_DIRECTORY)) {
            failed("a directory", &run);
        }
        std::fs::remove_dir(&file).unwrap();
        let made = Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        support::make_private(&file);
        let run = (kind.start)(&file);
        if !(is_refused(&run, &file, None) && run.0.contains("regular file")) {
            failed("a FIFO", &run);
        }
    }
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::remove_file(made).unwrap();
}

#[test]
fn invalid_line_of_client_conf_is_named() {
    let home = temporary_file("text-wrong");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("client.conf");
    let config = file.to_str().unwrap();
    for (text, expected) in [
        (
            "tls\nreconect\n",
            "line 2: there is no setting reconect; did you mean `reconnect`?\n",
        ),
        (
            "tls\nusername = bob\n",
            "line 2: there is no setting username; write `name bob`\n",
        ),
        (
            "[chat]\nport = 1\n",
            "line 1: a settings file can't have sections; delete this line\n",
        ),
        (
            "--reconnect\n",
            "line 1: omit the dashes: write `reconnect`\n",
        ),
        (
            "port = 1\ntls\nport = 2\n",
            "line 3: port is already set on line 1; delete one of the two lines\n",
        ),
        ("# mine\nport = 99999\n", "line 2: invalid value '99999'"),
        ("reconnect = maybe\n", "line 1: to turn reconnect on, write"),
        ("server = a b\n", "line 1: invalid value 'a b'"),
        (
            "compat 0\ntls\n",
            "line 2: the argument '--compat <0|1|2>' cannot be used with '--tls'",
        ),
        ("server\n", "line 1: server needs a value"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (output_text, code) = run(CLIENT, &home, &["--config", config], b"");
        let expected = format!("{config}, {expected}");
        assert!(
            code == Some(2) && output_text.contains(&expected),
            "{text}: {output_text}"
        );
        assert!(
            !output_text.contains("tip:") && !output_text.contains("Usage"),
            "{output_text}"
        );
    }
    // Quotes from a file are escaped like a message.
    std::fs::write(&file, "server = a\u{202e}\u{1b}[31m b\n").unwrap();
    let (output_text, code) = run(CLIENT, &home, &["--config", config], b"");
    assert!(
        code == Some(2) && output_text.contains("a\u{fffd}\u{fffd}[31m b"),
        "{output_text}"
    );
    assert!(
        !output_text.contains(['\u{202e}', '\u{1b}']),
        "{output_text:?}"
    );
    // A dangling symbolic link is not the same as a missing file.
    std::fs::remove_file(&file).unwrap();
    let folder = home.join(".config/portal-chat");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("client.conf");
    std::os::unix::fs::symlink(home.join("gone"), &file).unwrap();
    for options in [&[][..], &["--save", "localhost", "1"][..]] {
        let run = run(CLIENT, &home, options, b"");
        let expected = "it is a symbolic link to a file that does not exist";
        assert!(
            is_refused(&run, &file, None) && run.0.contains(expected),
            "{run:?}"
        );
    }
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn saving_settings_keeps_the_others_and_the_comments() {
    let server = TestServer::with_workers(2);
    let home = temporary_file("text-save");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("client.conf");
    let pin = ["AB"; 32].join(":");
    let port = server.server.portal().port().to_string();
    let save = |options: &[&str]| {
        let config = ["--save", "--config", file.to_str().unwrap()];
        run(CLIENT, &home, &[options, &config].concat(), b"")
    };
    std::fs::write(
        &file,
        format!("# mine\r\nserver = old.example\r\ntls-fingerprint {pin}\r\n# often\r\nretry 3"),
    )
    .unwrap();
    let (output_text, code) = save(&["127.0.0.1", &port, "alice", "--retry", "7", "--reconnect"]);
    assert_eq!(code, Some(0), "{output_text}");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected = format!(
        "# mine\r\nserver = 127.0.0.1\r\ntls-fingerprint {pin}\r\n# often\r\nretry 7\r\nport {port}\r\nname alice\r\nreconnect\r\n"
    );
    assert_eq!(text, expected);
    // Conflicting options are not saved.
    let (output_text, code) = save(&["127.0.0.1", &port, "--compat", "0"]);
    assert!(
        code == Some(2) && output_text.contains(sentences::NOTHING_WAS_SAVED),
        "{output_text}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn piped_lines_are_sent_unchanged_or_refused() {
    let server = TestServer::with_workers(2);
    let home = temporary_file("text-piped");
    let port = server.server.portal().port().to_string();
    let script = |input: &[u8]| {
        let (mut bob, _) = server.seat();
        let run = server.with_running_clock(|| run(CLIENT, &home, &["127.0.0.1", &port], input));
        bob.send_line(&support::command("TERMINATE", ""));
        let received = bob.rest();
        server.assert_all_ports_freed();
        (run.0, run.1, received)
    };
    let (output_text, code, received) = script(b"\xef\xbb\xbf/msg kim secret\r\n");
    assert!(
        code == Some(1) && output_text.contains(sentences::LOG_IN_FIRST),
        "{output_text}"
    );
    assert!(!received.contains("secret"), "{received}");

    let (output_text, code, received) = script(b"one\nz\xfcrich\nthree\n");
    let expected = "standard input, line 2: the byte 0xFC is not UTF-8";
    assert!(
        code == Some(2) && output_text.contains(expected),
        "{output_text}"
    );
    assert!(
        received.contains("one") && !received.contains("rich") && !received.contains("three"),
        "{received}"
    );

    for (mark, line) in [("\u{feff}", 1), ("", 1)] {
        let text = mark.to_owned() + "one\ntwo\n";
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (output_text, code, received) = script(&bytes);
        let expected = format!("standard input, line {line}: it is UTF-16");
        assert!(
            code == Some(2) && output_text.contains(&expected),
            "{output_text}"
        );
        assert!(
            !received.contains("one") && !received.contains("two"),
            "{received}"
        );
    }
}

#[test]
fn unreadable_standard_input_is_an_error() {
    let server = TestServer::with_workers(2);
    let home = temporary_file("text-directory");
    let port = server.server.portal().port().to_string();
    let mut client = Command::new(CLIENT);
    client
        .args(["127.0.0.1", &port])
        .env("HOME", &home)
        .stdin(std::fs::File::open(std::env::temp_dir()).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = client.spawn().unwrap();
    let output = server
        .with_running_clock(|| child.wait_with_output())
        .unwrap();
    let output_text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let expected = "standard input: it is a directory";
    assert!(
        output.status.code() == Some(2) && output_text.contains(expected),
        "{output_text}"
    );
    server.assert_all_ports_freed();
}

#[test]
fn every_recording_form_is_read_or_refused() {
    let home = temporary_file("text-recording");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("events.jsonl");
    let event = r#"{"time":"1970-01-01T00:00:00Z","tick":1,"thread":"main","event":"tick"}"#;
    let replay = || {
        let options = ["replay", file.to_str().unwrap(), "--board", "127.0.0.1:0"];
        run(SERVER, &home, &options, b"")
    };
    for (form, bytes, expected) in forms(&format!("{event}\n{event}\n")) {
        std::fs::write(&file, bytes).unwrap();
        match expected {
            Outcome::Same => {
                let recording = Recording::read(&file).unwrap();
                assert_eq!(recording.left_out(), 0, "{form}");
            }
            // A crash may have damaged one line, so the others are used.
            Outcome::SameOrLine(_) => {
                Recording::read(&file).unwrap();
            }
            Outcome::Refused => {
                let run = replay();
                assert!(is_refused(&run, &file, None), "{form}: {run:?}");
                assert!(run.0.contains(sentences::SAVE_IT_AS_UTF), "{form}: {run:?}");
            }
        }
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let run = replay();
    assert!(
        is_refused(&run, &file, None) && run.0.contains(sentences::IT_IS_A_DIRECTORY),
        "{run:?}"
    );
    std::fs::remove_dir(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    let run = replay();
    assert!(
        is_refused(&run, &file, None) && run.0.contains(sentences::START_THE_WRITER_FIRST),
        "{run:?}"
    );
    // While it waits for a writer, a signal terminates it.
    let writer = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&file)
        .unwrap();
    let mut waiting = Running::start(
        Command::new(SERVER)
            .args(["replay", file.to_str().unwrap(), "--board", "127.0.0.1:0"])
            .stderr(Stdio::piped()),
    );
    let id = waiting.id().to_string();
    let opened = || {
        let listed = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
        let mut targets = listed.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets.any(|target| target == file.canonicalize().unwrap())
    };
    if Path::new("/proc/self/fd").exists() {
        while !opened() {
            std::thread::yield_now();
        }
    }
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(waiting.wait().unwrap().signal(), Some(15));
    drop(writer);
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn incomplete_known_server_is_an_error() {
    let home = temporary_file("text-known");
    let folder = home.join("portal-chat");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("known_servers");
    for line in [
        "localhost",
        "localhost 1",
        "localhost:1 AB:CD",
        "LOCALHOST one AB:CD",
    ] {
        std::fs::write(&file, format!("# mine\r\n{line}\r\n")).unwrap();
        let run = run(CLIENT, &home, &["localhost", "1", "--tls"], b"");
        assert!(is_refused(&run, &file, Some(2)), "{line}: {run:?}");
    }
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn failing_password_file_is_named() {
    let accounts = temporary_file("text-wrong-password");
    let server = TestServer::start(&Settings {
        accounts: Some(accounts),
        ..Settings::default()
    });
    let port = server.server.portal().port().to_string();
    let home = temporary_file("text-password-file");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("password");
    let options = [
        "127.0.0.1",
        &port,
        "alice",
        "--password-file",
        file.to_str().unwrap(),
    ];
    let run = || server.with_running_clock(|| run(CLIENT, &home, &options, b""));
    let refused = run();
    assert!(is_refused(&refused, &file, None), "{refused:?}");
    assert_eq!(refused.0.trim_end().lines().count(), 1, "{refused:?}");
    for (password, sentence) in [
        ("right", "you are logged in as alice"),
        ("wrong", "correct the password there"),
    ] {
        std::fs::write(&file, password).unwrap();
        let (output_text, code) = run();
        assert!(output_text.contains(sentence), "{output_text}");
        if password == "wrong" {
            assert!(
                output_text.contains(&format!("the password from {}", file.display())),
                "{output_text}"
            );
            assert!(
                code == Some(1) && !output_text.contains("--password-file FILE"),
                "{output_text}"
            );
        }
    }
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn check_prints_damaged_lines_of_accounts() {
    let home = temporary_file("text-check");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("accounts.txt");
    std::fs::write(&file, "# mine\nalice $argon2id$v=19\n\n???\n").unwrap();
    let options = [
        "0",
        "--workers",
        "2",
        "--check",
        "--accounts",
        file.to_str().unwrap(),
    ];
    let (output_text, code) = run(SERVER, &home, &options, b"");
    let at = |line: usize| format!("{}, line {line}", file.display());
    assert_eq!(code, Some(0), "{output_text}");
    assert!(
        output_text.contains(&(at(2) + " (of alice): ")),
        "{output_text}"
    );
    assert!(output_text.contains(&(at(4) + ": ")), "{output_text}");
    assert!(
        !output_text.contains(&at(1)) && output_text.contains(sentences::THE_SERVER_CAN_START),
        "{output_text}"
    );
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn fifo_as_event_file_needs_a_reader() {
    let home = temporary_file("text-events");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("events");
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    support::make_private(&file);
    let options = [
        "0",
        "--no-passwords",
        "--workers",
        "2",
        "--events",
        file.to_str().unwrap(),
    ];
    for more in [&[][..], &["--check"][..]] {
        let run = run(SERVER, &home, &[&options, more].concat(), b"");
        assert!(is_refused(&run, &file, None), "{run:?}");
        assert!(run.0.contains(sentences::START_ITS_READER_FIRST), "{run:?}");
    }
    std::fs::remove_dir_all(home).unwrap();
}

/// A file without any permissions. (root can still read it.)
#[test]
fn unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = temporary_file("text-unreadable");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("client.conf");
    std::fs::write(&file, "tls\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&file).is_ok() {
        eprintln!("NOT RUN: this user may read every file");
    } else {
        let run = run(CLIENT, &home, &["--config", file.to_str().unwrap()], b"");
        assert!(is_refused(&run, &file, None), "{run:?}");
    }
    std::fs::remove_dir_all(home).unwrap();
}

/// The shell's `--password-file <(pass show chat)`.
#[test]
fn password_file_may_be_a_pipe() {
    let server = TestServer::start(&Settings {
        accounts: Some(temporary_file("text-pipe")),
        ..Settings::default()
    });
    let port = server.server.portal().port().to_string();
    let line = format!(
        "exec {CLIENT} 127.0.0.1 {port} alice --password-file <(printf 'secret\\r\\n') </dev/null"
    );
    let mut bash = Running::start(
        Command::new("bash")
            .args(["-c", &line])
            .stdout(Stdio::piped()),
    );
    let code = server.with_running_clock(|| bash.wait().unwrap().code());
    assert_eq!(code, Some(0));
    server.wait_for_event("registered", None);
}
