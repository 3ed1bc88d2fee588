//! Tests the checker: a correct server for each rung passes every check, and each faulty server
//! fails its check and no others, except those that depend on it. (Those may pass or fail, so they
//! do not run.) The servers are in `tests/check`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/running.rs"]
mod running;
#[path = "support/sentences.rs"]
mod sentences;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{self, Command, Output, Stdio};
use std::sync::{Mutex, RwLock};
use std::thread;

use running::{CLOCK, Running};
use serde_json::Value;

const CHECKER: &str = env!("CARGO_BIN_EXE_chatcheck");
const SERVER: &str = env!("CARGO_BIN_EXE_chatserver");
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// The tasks, as arguments of the checker: seven rungs, and a client.
const TASKS: [&str; 8] = ["1", "2", "3", "4", "5", "6", "7", CLIENT];
const CLIENT: &str = "1 --client";

/// The number of checkers that run at the same time. They wait most of the time.
const AT_ONCE: usize = 20;

/// The time limits of a checker and its server.
#[derive(Clone, Copy)]
struct Time {
    /// The timeout for a missing reply, in seconds. A correct server never reaches it.
    patience: &'static str,
    /// The factor for the server's reservation and idle timeouts.
    slower: &'static str,
}

/// The limits for the first verdict.
const QUICK: Time = Time {
    patience: "3",
    slower: "1",
};
/// The limits for servers whose first verdict was wrong. They run one at a time, and slowly enough
/// for a busy machine. This verdict is final.
const SLOW: Time = Time {
    patience: "60",
    slower: "20",
};

/// A test holds this for writing if only small tests may run alongside it, and for reading if any
/// tests may. Small tests do not take it.
static ALONE: RwLock<()> = RwLock::new(());

/// Runs the checker, and parses its JSON lines.
fn check(words: &[&str]) -> (Vec<Value>, Option<i32>) {
    check_at(QUICK, words)
}

fn check_at(time: Time, words: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = checker_at(time, words);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), output.status.code())
}

fn checker(words: &[&str]) -> Output {
    checker_at(QUICK, words)
}

fn checker_at(time: Time, words: &[&str]) -> Output {
    Command::new(CHECKER)
        .args(words)
        .env(CLOCK, time.slower)
        .current_dir(PROJECT)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Returns the checks of a task, each with the checks that it needs.
fn checks(task: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut words: Vec<&str> = task.split(' ').collect();
    words.extend(["--list", "--json"]);
    let (lines, code) = check(&words);
    assert_eq!(code, Some(0));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let needs = |value: &Value| value.as_array().unwrap().iter().map(text).collect();
    let each = lines.iter();
    each.map(|line| (text(&line["check"]), needs(&line["needs"])))
        .collect()
}

/// Returns the names of the checks that a server passes, and those that it fails with their
/// results: only the checks in `only`, or all if that is empty.
fn verdicts(
    task: &str,
    command: &str,
    only: &[String],
    time: Time,
) -> (BTreeSet<String>, BTreeMap<String, Value>) {
    let mut words: Vec<&str> = task.split(' ').collect();
    words.extend([command, "--json", "--keep-going"]);
    words.extend(["--patience", time.patience, "--start-within", "120"]);
    words.extend(only.iter().flat_map(|name| ["--only", name.as_str()]));
    let (mut lines, _) = check_at(time, &words);
    lines.pop();
    let name = |line: &Value| line["check"].as_str().unwrap().to_owned();
    let (passed, failed): (Vec<Value>, Vec<Value>) = lines
        .into_iter()
        .partition(|line| line["passed"] == Value::Bool(true));
    (
        passed.iter().map(name).collect(),
        failed.into_iter().map(|line| (name(&line), line)).collect(),
    )
}

/// Returns the path of the interpreter itself: `python3` may be a wrapper script whose search takes
/// longer than the interpreter's start.
fn python() -> Option<String> {
    let words = ["-c", "import sys; print(sys.executable)"];
    match Command::new("python3").args(words).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        Err(_) => {
            // Written directly, because the test harness captures the output of `eprintln!`.
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: the checker against faulty servers, because there is no python3"
            );
            None
        }
    }
}

#[test]
fn every_rung_ends_with_a_load_check() {
    for task in TASKS {
        let checks = checks(task);
        assert!((6..=17).contains(&checks.len()), "task {task}");
        assert_eq!(checks.last().unwrap().0, "load");
        let mut before = BTreeSet::new();
        for (name, needs) in checks {
            assert!(needs.is_subset(&before), "task {task}: {name}");
            assert!(before.insert(name));
        }
    }
}

#[test]
fn own_programs_pass_their_tasks() {
    let programs = [
        ("1", "echo {port} --one-at-a-time --bind 127.0.0.1"),
        ("2", "echo {port} --bind 127.0.0.1"),
        ("3", "echo {port} --bind 127.0.0.1"),
        (
            "4",
            "{port} --single-port --no-passwords --max-clients 300 --quiet",
        ),
        (
            "5",
            "{port} --single-port --accounts {folder}/accounts.txt --max-clients 300 --quiet",
        ),
        (
            "6",
            "{port} --single-port --no-passwords --max-clients 300 --quiet",
        ),
        (
            "7",
            "{port} --portal tcp --reserve-timeout 1 --handshake-timeout 1 --idle-timeout 2 --total-timeout 6 \
             --no-passwords --rooms 0 --quiet",
        ),
        (CLIENT, "echo 127.0.0.1 {port}"),
    ];
    thread::scope(|threads| {
        for (task, options) in programs {
            threads.spawn(move || check_own_program(task, options));
        }
    });
}

fn check_own_program(task: &str, options: &str) {
    let program = match task {
        CLIENT => env!("CARGO_BIN_EXE_chatclient"),
        _ => SERVER,
    };
    let command = format!("{program} {options}");
    let (passed, mut failed) = verdicts(task, &command, &[], QUICK);
    assert_eq!(passed.len() + failed.len(), checks(task).len());
    if !failed.is_empty() {
        // Two hundred passwords are hashed one after another, which takes a long time on a busy
        // machine.
        let _alone = ALONE.write();
        let again: Vec<String> = failed.into_keys().collect();
        (_, failed) = verdicts(task, &command, &again, SLOW);
    }
    assert!(failed.is_empty(), "task {task}: {failed:#?}");
}

/// The main test: the check for each fault finds it, and other checks find it only if they depend
/// on that one.
#[test]
fn each_faulty_server_fails_exactly_its_check() {
    let Some(python) = python() else {
        return;
    };
    let starter = Starter::new(&python, QUICK);
    let mut servers: Vec<(&str, Option<String>)> = Vec::new();
    for task in TASKS {
        servers.push((task, None));
        let faults = checks(task).into_iter().map(|(name, _)| (task, Some(name)));
        servers.extend(faults);
    }
    // The last servers take longest, so they run first.
    let servers = Mutex::new(servers);
    let again = Mutex::new(Vec::new());
    let crowd = ALONE.read();
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some((task, fault)) = { servers.lock().unwrap().pop() } {
                    let checks_run = checks_to_run(task, fault.as_deref());
                    let wrong = starter.judge(task, fault.as_deref(), &checks_run);
                    if !wrong.is_empty() {
                        let names: Vec<String> = wrong.into_keys().collect();
                        let fault_or_none = fault.as_deref().unwrap_or("no fault");
                        // Written directly, because the test harness captures the output of
                        // `eprintln!`.
                        let _ = writeln!(
                            std::io::stderr(),
                            "again, alone: task {task}, {fault_or_none}: {names:?}"
                        );
                        again.lock().unwrap().push((task, fault, names));
                    }
                }
            });
        }
    });
    drop((crowd, starter));
    // On a busy machine, a first verdict may be wrong because of timeouts; the slow one is final.
    let _alone = ALONE.write();
    let starter = Starter::new(&python, SLOW);
    let again = again.into_inner().unwrap().into_iter();
    let complaints: Vec<String> = again
        .flat_map(|(task, fault, names)| starter.judge(task, fault.as_deref(), &names))
        .map(|(_, complaint)| complaint)
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Starts the faulty servers with `tests/check/starter.py`, which exits with the test.
struct Starter {
    time: Time,
    python: String,
    _process: Running,
    folder: PathBuf,
    /// Kept open while the starter runs, also for reading, so that no shell ever blocks while it
    /// opens the pipe.
    _asked: File,
}

impl Starter {
    fn new(python: &str, time: Time) -> Starter {
        let folder = std::env::temp_dir().join(format!("portal-chat-starter-{}", process::id()));
        // An earlier process with this ID may have been killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let made = Command::new("mkfifo")
            .args(["asked", "never"].map(|pipe| folder.join(pipe)))
            .status();
        assert!(made.unwrap().success());
        let pipe = folder.join("asked");
        let asked = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut process = Running::start(
            Command::new(python)
                .args(["-S", "tests/check/starter.py"])
                .arg(&pipe)
                .env(CLOCK, time.slower)
                .current_dir(PROJECT)
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        );
        let mut output_text = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut output_text).unwrap();
        assert_eq!(output_text, "ready\n");
        Starter {
            time,
            python: python.to_owned(),
            _process: process,
            folder,
            _asked: asked,
        }
    }

    /// Returns the command for the checker. The shell waits for a pipe that is never written to,
    /// until its process group is killed.
    fn command(&self, task: &str, fault: &str) -> String {
        let python = &self.python;
        let folder = self.folder.display();
        match task {
            CLIENT => format!("exec {python} -S tests/check/client.py {{port}} {fault}"),
            "5" => format!(
                "echo $$ 5 {{port}} {{folder}} {fault} >{folder}/asked; read never <{folder}/never"
            ),
            rung => format!(
                "echo $$ {rung} {{port}} {fault} >{folder}/asked; read never <{folder}/never"
            ),
        }
    }

    /// Runs these checks with the task's faulty program, and compares the failures with the
    /// expected ones. Returns the mistakes by the check's name.
    fn judge(
        &self,
        task: &str,
        fault: Option<&str>,
        checks_run: &[String],
    ) -> BTreeMap<String, String> {
        let command = self.command(task, fault.unwrap_or_default());
        let (passed, failed) = verdicts(task, &command, checks_run, self.time);
        let mut wrong = BTreeMap::new();
        for name in checks_run {
            let complaint = match (fault == Some(name), passed.contains(name)) {
                (true, true) => format!("task {task}: {name} is not found"),
                (false, false) => format!(
                    "task {task}, {}: {name} fails, too: {:#}",
                    fault.unwrap_or("the correct one"),
                    failed[name]
                ),
                _ => continue,
            };
            wrong.insert(name.clone(), complaint);
        }
        wrong
    }
}

/// Returns the checks with a defined result for this fault. Checks that need the failing one may
/// fail or pass.
fn checks_to_run(task: &str, fault: Option<&str>) -> Vec<String> {
    let needs_it = |needs: &BTreeSet<String>| fault.is_some_and(|fault| needs.contains(fault));
    let checks = checks(task).into_iter();
    let worth = checks.filter(|(_, needs)| !needs_it(needs));
    worth.map(|(name, _)| name).collect()
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn failed_start_shows_the_output_of_the_program() {
    let output = checker(&["1", "echo it is broken >&2; exit 3 # {port}"]);
    let output_text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output_text.contains(sentences::THE_PROGRAM_HAS_ENDED)
            && output_text.contains("      it is broken"),
        "{output_text}"
    );
    // The later checks did not run, and the report explains how to run them.
    assert!(output_text.contains("--keep-going"), "{output_text}");
}

#[test]
fn invalid_command_line_exits_with_code_2() {
    for (words, part) in [
        (&["1", "python3 server.py 8080"][..], "{port}"),
        (&["1", "true {port}", "--only", "nonsense"], "--list"),
        (&["99"], "99"),
    ] {
        let output = checker(words);
        let output_text = String::from_utf8(output.stderr).unwrap();
        assert!(output_text.contains(part), "{words:?}: {output_text}");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn missing_command_prints_the_task() {
    let output = checker(&["1"]);
    let output_text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output_text.starts_with("# Rung 1, to build") && output_text.contains("make grade RUNG=1")
    );
    let server = format!("{SERVER} echo {{port}} --bind 127.0.0.1");
    let (lines, code) = check(&["1", &server, "--json", "--only", "empty-line"]);
    assert_eq!(code, Some(0));
    assert_eq!(lines[0]["check"], "empty-line");
    assert_eq!(lines[1]["played"], 1);
}

#[test]
fn solved_rung_names_the_next_command() {
    let server = format!("{SERVER} echo {{port}} --bind 127.0.0.1");
    let report = |rung: &str, arguments: &[&str]| {
        let output = checker(&[&[rung, &server][..], arguments].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let next = "make grade RUNG=3";
    assert!(report("2", &["--patience", "60"]).contains(next));
    assert!(!report("2", &["--only", "one-line"]).contains(next));
}

/// The second server copies the table when it starts. A teacher may interrupt a long run at any
/// time.
#[test]
fn table_of_a_class_has_each_submission_as_soon_as_it_is_checked() {
    let folder = std::env::temp_dir().join(format!("portal-chat-class-{}", process::id()));
    let submissions = folder.join("submissions");
    std::fs::create_dir_all(&submissions).unwrap();
    let noted = folder.join("noted");
    std::fs::write(
        submissions.join("alice.sh"),
        "echo alice can\\'t start\nexit 1\n",
    )
    .unwrap();
    std::fs::write(
        submissions.join("bob's.sh"),
        format!(
            "cp '{}'/*.csv '{}'\n",
            submissions.display(),
            noted.display()
        ),
    )
    .unwrap();
    let class = submissions.to_str().unwrap();
    let output = checker(&[
        "1",
        "sh {submission} {port}",
        "--only",
        "one-line",
        "--class",
        class,
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |file: PathBuf| std::fs::read_to_string(file).unwrap();
    assert!(
        noted.exists(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let first = read(noted);
    let table = read(submissions.join("chatcheck-rung-1.csv"));
    let page = read(submissions.join("chatcheck-rung-1.html"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(first, "submission,passed,one-line\n\"alice.sh\",0,0\n");
    assert_eq!(table, format!("{first}\"bob's.sh\",0,0\n"));
    assert!(page.contains("<tr><th>bob&apos;s.sh<td>0"), "{page}");
    assert!(
        text.contains("alice.sh   0 of 1  first failure: one-line"),
        "{text}"
    );
}

#[test]
fn junit_report_is_valid_xml() {
    let file = std::env::temp_dir().join(format!("portal-chat-junit-{}.xml", process::id()));
    let server = format!("{SERVER} echo {{port}} --bind 127.0.0.1; echo '<gone>'");
    let path = file.to_str().unwrap();
    let output = checker(&["4", &server, "--patience", "1", "--junit", path]);
    assert_eq!(output.status.code(), Some(1));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let xml = roxmltree::Document::parse(&text).unwrap();
    let suite = xml.root_element();
    assert_eq!(suite.attribute("failures"), Some("1"));
    let case = suite.first_element_child().unwrap();
    assert_eq!(case.attribute("name"), Some("greeting"));
    let failure = case.first_element_child().unwrap();
    assert!(
        failure
            .text()
            .unwrap()
            .contains("expected: <SERVER type='single'")
    );
}

#[test]
fn all_started_processes_are_ended() {
    let file = std::env::temp_dir().join(format!("portal-chat-child-{}", process::id()));
    let path = file.to_str().unwrap();
    // A child process that outlives the program that started it.
    let server =
        format!("sleep 1000 & echo $! > {path}; exec {SERVER} echo {{port}} --bind 127.0.0.1");
    let output = checker(&["1", &server, "--only", "one-line"]);
    assert_eq!(output.status.code(), Some(0));
    let child = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    // A signal may take effect with a delay. After that, the process is gone, or a zombie if its
    // new parent does not reap it.
    let is_over = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        state.map_or(true, |state| state.contains(") Z "))
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_over() {
        assert!(std::time::Instant::now() < until, "{child} still runs");
        thread::yield_now();
    }
}
