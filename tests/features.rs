//! The cargo features of the programs, and the Makefile's table of the options that need them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/sentences.rs"]
mod sentences;

use std::process::Command;

/// Returns a program's options for TLS, clusters and the journal, which the table must contain.
fn options(program: &str) -> Vec<String> {
    let help = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let features = ["--tls", "--cluster", "--journal"];
    let needs_one = |word: &&str| features.iter().any(|feature| word.starts_with(feature));
    let mut options: Vec<String> = words.filter(needs_one).map(str::to_owned).collect();
    options.sort();
    options.dedup();
    options
}

/// Returns the features in make's command that builds and runs a program.
fn features(target: &str, arguments: &str) -> String {
    let make = Command::new("make")
        .args(["--dry-run", "--no-print-directory", target])
        .arg(format!("ARGS={arguments}"))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let commands = String::from_utf8(make.stdout).unwrap();
    let (_, features) = commands.split_once("--features \"").expect("features");
    features.split('"').next().unwrap().trim().to_owned()
}

#[test]
fn make_builds_the_features_of_the_options() {
    let server = env!("CARGO_BIN_EXE_chatserver");
    let client = env!("CARGO_BIN_EXE_chatclient");
    for (target, program, minimum) in [
        ("run-server", server, "server"),
        ("run-client", client, "client"),
    ] {
        for arguments in ["", "--trace", "--bind 0.0.0.0"] {
            assert_eq!(features(target, arguments), minimum, "{arguments}");
        }
        for option in options(program) {
            let feature = option[2..].split('-').next().unwrap();
            let expected = format!("{minimum} {feature}");
            assert_eq!(
                features(target, &format!("{option} x")),
                expected,
                "{option}"
            );
        }
    }
    assert_eq!(
        features("run-server", "--cluster=redis://127.0.0.1 --tls"),
        "server tls cluster"
    );
}

#[cfg(not(feature = "tls"))]
fn refused(program: &str, arguments: &[&str], home: Option<&std::path::Path>) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(home) = home {
        command
            .env("HOME", home)
            .env("XDG_STATE_HOME", home)
            .env("XDG_CONFIG_HOME", home);
    }
    let output = command.output().unwrap();
    let (status, stderr) = (output.status, output.stderr);
    let sentence = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("cargo build --release"), "{sentence}");
    sentence
}

#[cfg(not(any(feature = "tls", feature = "cluster", feature = "journal")))]
#[test]
fn missing_feature_names_the_build_command() {
    let server = env!("CARGO_BIN_EXE_chatserver");
    let client = env!("CARGO_BIN_EXE_chatclient");
    let sentence = refused(server, &["--tls"], None);
    assert!(
        sentence.contains("make run-server ARGS=--tls"),
        "{sentence}"
    );
    let sentence = refused(server, &["--cluster", "redis://127.0.0.1"], None);
    assert!(sentence.contains("make run-server"), "{sentence}");
    let sentence = refused(server, &["--journal", "chat.db"], None);
    assert!(sentence.contains("make run-server"), "{sentence}");
    let sentence = refused(client, &["--tls"], None);
    assert!(
        sentence.contains("make run-client ARGS=--tls"),
        "{sentence}"
    );
    // A server that has used TLS before must not be contacted without it.
    let home = std::env::temp_dir().join(format!("portal-chat-lean-{}", std::process::id()));
    let known = home.join("portal-chat");
    std::fs::create_dir_all(&known).unwrap();
    std::fs::write(known.join("known_servers"), "127.0.0.1 50000 AB\n").unwrap();
    let sentence = refused(client, &["127.0.0.1"], Some(&home));
    std::fs::remove_dir_all(&home).unwrap();
    assert!(
        sentence.contains(sentences::THE_SERVER_SPEAKS_TLS),
        "{sentence}"
    );
}
