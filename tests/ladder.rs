//! The ladder of lessons is complete: every rung has its parts, every named check is a test, every
//! file exists, and every bug can be applied and is found by the check of its exercise.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lesson/ladder");

/// The files in the ladder with this ending, each with its text.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(LADDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// `make lessons` on a terminal.
#[test]
fn a_terminal_shows_no_markdown() {
    for (name, text) in files(".md") {
        let output = Command::new("awk")
            .args(["-v", "width=80", "-f"])
            .args([format!("{LADDER}/terminal.awk"), format!("{LADDER}/{name}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}");
        let shown = String::from_utf8(output.stdout).unwrap();
        // Code keeps its characters, and is indented.
        let (code, prose): (Vec<&str>, Vec<&str>) =
            shown.lines().partition(|line| line.starts_with("    "));
        for sign in ["```", "**", "](", "<!--", "<details>", "`"] {
            let found = prose.iter().find(|line| line.contains(sign));
            assert_eq!(found, None, "{name}: {sign}");
        }
        assert!(!prose.iter().any(|line| line.starts_with('|')), "{name}");
        for heading in text.lines().filter_map(|line| line.strip_prefix("## ")) {
            let heading = format!("\u{1b}[1m{heading}\u{1b}[0m");
            assert!(prose.contains(&heading.as_str()), "{name}: {heading}");
        }
        let blocks = text.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(|block| block.lines().skip(1));
        assert_eq!(code.len(), lines.count(), "{name}");
    }
}

/// The exercises of a rung, each with its heading and its text.
fn exercises(rung: &str) -> Vec<(&str, &str)> {
    let all = rung.split_once("## Exercises").unwrap().1;
    all.split("\n### ")
        .skip(1)
        .map(|exercise| exercise.split_once('\n').unwrap())
        .collect()
}

/// Returns the arguments of the `cargo test` in an exercise: for a bug, the check that fails with
/// it; for a question, the test that demonstrates the answer. A question has a folded answer,
/// because no test can check whether a student knew it.
fn check<'e>((heading, exercise): (&str, &'e str)) -> Vec<&'e str> {
    let is_bug = heading.contains("Bug: ");
    let begin = if is_bug {
        "Check"
    } else {
        "The test that plays it"
    };
    let (_, check) = exercise
        .split_once(&format!("\n{begin}: `cargo test "))
        .unwrap_or_else(|| panic!("{heading}: no {begin}"));
    assert_eq!(
        exercise.contains("\n<details><summary>Answer</summary>\n\n"),
        !is_bug,
        "{heading}: exactly the questions have answers"
    );
    check
        .split_once('`')
        .unwrap()
        .0
        .split_whitespace()
        .collect()
}

#[test]
fn every_rung_has_its_parts() {
    let rungs = files(".md");
    assert_eq!(rungs.len(), 9);
    for (name, text) in &rungs {
        let mut rest = text.as_str();
        for part in [
            "# Rung ",
            "## The question",
            "## Run",
            "## Look",
            "## What happens",
            "## Read",
            "## Exercises",
        ] {
            let at = rest.find(part);
            rest = &rest[at.unwrap_or_else(|| panic!("{name}: no {part}"))..];
        }
        assert!((2..=3).contains(&exercises(text).len()), "{name}");
        assert!(text.contains("```sh\nmake run-server"), "{name}");
        let look = text.split_once("## Look").unwrap().1;
        let look = look.split_once("## What happens").unwrap().0;
        assert!(
            look.contains("\nOn the board: "),
            "{name}: no moment on the board"
        );
    }
}

#[test]
fn every_check_is_a_test() {
    for (name, text) in files(".md") {
        for exercise in exercises(&text) {
            let arguments = check(exercise);
            let (file, test) = match arguments[..] {
                ["--test", file, test, ..] => (format!("tests/{file}.rs"), test),
                ["--lib", test, ..] => ("src".to_owned(), test),
                _ => panic!("{name}: {arguments:?}"),
            };
            let function = test.rsplit("::").next().unwrap();
            let is_there = |text: &str| {
                // A transcript's test is in a macro's list.
                text.contains(&format!("fn {function}"))
                    || text.contains(&format!("{function}: \""))
            };
            assert!(
                texts_under(&Path::new(PROJECT).join(file))
                    .iter()
                    .any(|text| is_there(text)),
                "{name}: there is no test {test}"
            );
        }
    }
}

/// The texts of a file, or of all Rust files in a folder.
fn texts_under(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| texts_under(&entry.unwrap().path()))
            .collect();
    }
    if path.extension().is_some_and(|ending| ending == "rs") {
        vec![fs::read_to_string(path).unwrap()]
    } else {
        Vec::new()
    }
}

#[test]
fn every_file_to_read_exists() {
    for (name, text) in files(".md") {
        let read = text.split_once("## Read").unwrap().1;
        let read = read.split_once("## Exercises").unwrap().0;
        let paths: Vec<&str> = read
            .split('`')
            .filter(|word| word.starts_with("src/"))
            .collect();
        assert!(!paths.is_empty(), "{name}");
        for path in paths {
            assert!(Path::new(PROJECT).join(path).is_file(), "{name}: {path}");
        }
    }
}

/// Each patch with the check of the one exercise that applies it.
fn bugs() -> Vec<(String, Vec<String>)> {
    let rungs = files(".md");
    files(".patch")
        .into_iter()
        .map(|(patch, _)| {
            let exercises = rungs.iter().flat_map(|(_, text)| exercises(text));
            let applying: Vec<_> = exercises
                .filter(|(_, text)| text.contains(&format!("git apply src/lesson/ladder/{patch}")))
                .collect();
            assert_eq!(applying.len(), 1, "{patch} belongs to one exercise");
            assert!(applying[0].0.contains("Bug: "), "{patch}");
            let check = check(applying[0]).into_iter().map(str::to_owned);
            (patch, check.collect())
        })
        .collect()
}

fn apply(patch: &str, options: &[&str], folder: &Path) -> bool {
    Command::new("git")
        .arg("apply")
        .args(options)
        .arg(Path::new(LADDER).join(patch))
        .current_dir(folder)
        .status()
        .unwrap()
        .success()
}

#[test]
fn every_bug_can_be_applied() {
    if Command::new("git").arg("--version").output().is_err() {
        // Written directly, because the test harness captures the output of `eprintln!`.
        let _ = writeln!(
            io::stderr(),
            "NOT TESTED: the bugs of the lessons, because there is no git"
        );
        return;
    }
    assert!(bugs().len() >= 5);
    for (patch, _) in bugs() {
        assert!(
            apply(&patch, &["--check"], Path::new(PROJECT)),
            "{patch} no longer applies"
        );
    }
}

/// Copies the dependencies that this test's own build has compiled to the target directory of the
/// copy. The project's own files are left out: a build of the copy would overwrite them, and the
/// project would be rebuilt next time.
fn copy_dependencies(target: &Path) {
    let there = target.join("debug");
    fs::create_dir_all(&there).unwrap();
    let own_target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug");
    for (part, how) in [
        ("deps", "--link"),
        ("build", "--recursive"),
        (".fingerprint", "--recursive"),
    ] {
        // With their timestamps, so that cargo considers them up to date. For large files a hard
        // link is enough, because rustc replaces files instead of modifying them. If copying fails,
        // cargo builds them.
        let _ = Command::new("cp")
            .args(["-a", how])
            .arg(own_target.join(part))
            .arg(&there)
            .status();
    }
    let names = |part: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(there.join(part));
        let entries = entries.into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    // Each unit of the project is a folder `portal-chat-…-HASH`, whose files have names that end
    // with the same hash.
    for unit in names(".fingerprint") {
        let name = unit.file_name().unwrap().to_string_lossy().into_owned();
        let Some((_, hash)) = name
            .rsplit_once('-')
            .filter(|_| name.starts_with("portal-chat"))
        else {
            continue;
        };
        fs::remove_dir_all(&unit).unwrap();
        for file in names("deps") {
            if file.to_string_lossy().contains(hash) {
                fs::remove_file(&file).unwrap();
            }
        }
    }
}

/// Builds a copy of the project once for each bug, and once more without any.
#[test]
#[ignore = "takes minutes; `make bugs` runs it"]
fn every_bug_fails_the_check_of_its_exercise() {
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bugs");
    let _ = fs::remove_dir_all(&copy);
    let tree = copy.join("tree");
    for part in ["Cargo.toml", "Cargo.lock", "clippy.toml", "src", "tests"] {
        copy_all(&Path::new(PROJECT).join(part), &tree.join(part));
    }
    // A separate repository; otherwise git would apply the patch relative to the project's root.
    let init = Command::new("git")
        .arg("init")
        .arg("-q")
        .arg(&tree)
        .status();
    assert!(init.unwrap().success());
    copy_dependencies(&copy.join("target"));
    // Skip optimisation: each build runs only once, so building takes longer than running.
    let unoptimised = ["dev", "test"]
        .map(|profile| format!("--config=profile.{profile}.package.portal-chat.opt-level=0"));
    // Cargo's variables about this test's package would cause some crates to be rebuilt.
    let package_variables = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    let package_variables: Vec<_> = package_variables.collect();
    let cargo = |words: &[String], patience: &str| {
        let mut command = Command::new(env!("CARGO"));
        for name in &package_variables {
            command.env_remove(name);
        }
        let status = command
            .arg("test")
            .args(&unoptimised)
            .args(words)
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", copy.join("target"))
            .env("TEST_PATIENCE", patience)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap().success()
    };
    // The patience in seconds. With a bug, the expected event may never arrive.
    let (short, long) = ("8", "60");
    let report = |what: &str, check: &[String], is_green: bool| {
        let colour = if is_green { "green" } else { "red" };
        let check = check.join(" ");
        let _ = writeln!(io::stderr(), "{what}: cargo test {check} is {colour}");
    };
    // Without Redis, a test of a cluster tests nothing.
    let has_redis = Command::new("redis-server")
        .arg("--version")
        .output()
        .is_ok();
    let can_be_tried = |check: &[String]| has_redis || !check.contains(&"cluster".to_owned());
    for (patch, check) in bugs() {
        if !can_be_tried(&check) {
            let _ = writeln!(
                io::stderr(),
                "NOT TESTED: {patch}, because there is no redis-server"
            );
            continue;
        }
        assert!(apply(&patch, &[], &tree), "{patch}");
        let is_green = cargo(&check, short);
        report(&format!("{patch} applied"), &check, is_green);
        assert!(!is_green, "{patch} and {check:?}");
        // A test that does not compile also fails, so check that it compiles.
        let build: Vec<String> = ["--no-run".to_owned()]
            .into_iter()
            .chain(check.iter().take(check.len().min(2)).cloned())
            .collect();
        assert!(cargo(&build, short), "{patch} does not compile");
        assert!(apply(&patch, &["-R"], &tree), "{patch}");
    }
    for (patch, check) in bugs().into_iter().filter(|(_, check)| can_be_tried(check)) {
        let is_green = cargo(&check, long);
        report(&format!("{patch} reverted"), &check, is_green);
        assert!(is_green, "{patch} and {check:?}");
    }
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_all(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn each_bug_can_be_graded_by_number() {
    // A fake cargo that only prints its arguments, and is new enough.
    let cargo = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cargo-that-says.sh");
    let script = "if [ \"$1\" = --version ]; then echo cargo 99.0.0; else echo \"asked: $*\"; fi\n";
    fs::write(&cargo, script).unwrap();
    for (patch, check) in bugs() {
        let number = patch.split('-').next().unwrap();
        let output = Command::new("make")
            .args(["check", &format!("BUG={number}")])
            .arg(format!("CARGO=sh {}", cargo.display()))
            .current_dir(PROJECT)
            .output()
            .unwrap();
        let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = format!("asked: test {} --quiet\n", check.join(" "));
        assert!(output_text.contains(&expected), "{patch}: {output_text}");
    }
}
