//! The small servers of `src/lesson/servers`: each passes the checks of its rung, and each page of
//! the ladder shows the server's length and its difference from an earlier one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

const CHECKER: &str = env!("CARGO_BIN_EXE_chatcheck");
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const RUNGS: std::ops::RangeInclusive<usize> = 1..=7;

/// The rung from which each server continues, from rung 2 on. The tasks of rungs 6 and 7 begin with
/// rung 4: only rung 5 adds accounts.
const BASES: [(usize, usize); 6] = [(2, 1), (3, 2), (4, 3), (5, 4), (6, 4), (7, 4)];

/// Number of lines above which a diff is shown item by item, without the long bodies of new items.
const LONG_DIFF: usize = 100;
/// Maximum number of lines in a body that is shown anyway.
const SHORT_BODY: usize = 5;

fn source(rung: usize) -> String {
    let path = format!("{PROJECT}/src/lesson/servers/rung-{rung}.rs");
    fs::read_to_string(path).unwrap()
}

/// The server's lines of code: without comments, blank lines and unit tests.
fn code(rung: usize) -> Vec<String> {
    let source = source(rung);
    let (server, _) = source.split_once("\n#[cfg(test)]\n").unwrap();
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    server.lines().filter(is_code).map(str::to_owned).collect()
}

/// The page of a rung.
fn page(rung: usize) -> PathBuf {
    let entries = fs::read_dir(format!("{PROJECT}/src/lesson/ladder")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&format!("{rung}-")) && name.ends_with(".md")
    };
    paths.find(is_it).unwrap()
}

/// The lines of both texts in one order, each with a sign: ' ' in both, '-' in the first, '+' in
/// the second. As many lines as possible are marked as in both; a line with little content, such as
/// `}`, counts little.
fn compare(old: &[String], new: &[String]) -> Vec<(char, String)> {
    let weight = |line: &str| if line.trim().len() > 4 { 10 } else { 1 };
    let mut best = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let both = match old[i] == new[j] {
                true => best[i + 1][j + 1] + weight(&old[i]),
                false => 0,
            };
            best[i][j] = both.max(best[i + 1][j]).max(best[i][j + 1]);
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        let is_same = i < old.len() && j < new.len() && old[i] == new[j];
        if is_same && best[i][j] == best[i + 1][j + 1] + weight(&old[i]) {
            lines.push((' ', old[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && best[i][j] == best[i + 1][j] {
            lines.push(('-', old[i].clone()));
            i += 1;
        } else {
            lines.push(('+', new[j].clone()));
            j += 1;
        }
    }
    lines
}

/// Leaves out the lines that are in both texts, except one line before and after each change.
fn hunks(lines: &[(char, String)]) -> Vec<(char, String)> {
    let is_change = |at: usize| lines.get(at).is_some_and(|(sign, _)| *sign != ' ');
    let is_near = |at: usize| is_change(at) || is_change(at + 1) || at > 0 && is_change(at - 1);
    let mut shown: Vec<(char, String)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if is_near(at) {
            shown.push(line.clone());
        } else if shown.last().is_some_and(|(sign, _)| *sign != '@') {
            shown.push(('@', "@".to_owned()));
        }
    }
    if shown.last().is_some_and(|(sign, _)| *sign == '@') {
        shown.pop();
    }
    shown
}

/// The items in a server, in order: each has a name, such as `fn main`, and its lines.
fn items(code: &[String]) -> Vec<(String, Vec<String>)> {
    let mut items: Vec<(String, Vec<String>)> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for line in code {
        lines.push(line.clone());
        let is_end = line == "}" || (!line.starts_with([' ', '}', ')']) && line.ends_with(';'));
        if is_end {
            let head = lines.iter().find(|line| !line.starts_with('#')).unwrap();
            let name = match head.starts_with("use ") {
                true => head.split('{').next(),
                false => head.split(['(', '{', ':', '<']).next(),
            };
            items.push((name.unwrap().trim().to_owned(), std::mem::take(&mut lines)));
        }
    }
    assert!(lines.is_empty(), "{lines:?}");
    items
}

/// The lines of an item, or of an `impl`, in which long bodies are replaced by their length.
fn shortened(lines: &[String], longest: usize) -> Vec<String> {
    let indentation = |line: &String| line.len() - line.trim_start().len();
    let mut shown = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        shown.push(lines[at].clone());
        let depth = indentation(&lines[at]);
        at += 1;
        if !lines[at - 1].ends_with('{') {
            continue;
        }
        let rest = &lines[at..];
        let body = rest
            .iter()
            .position(|line| indentation(line) <= depth)
            .unwrap();
        if lines[at - 1].starts_with("impl ") {
            shown.extend(shortened(&rest[..body], longest));
        } else if body > longest {
            let lines = if body == 1 { "line" } else { "lines" };
            shown.push(format!("{}… {body} {lines}", " ".repeat(depth + 4)));
        } else {
            shown.extend_from_slice(&rest[..body]);
        }
        at += body;
    }
    shown
}

/// The diff, item by item. Added and removed items are shown without long bodies, as are items that
/// have little in common with the earlier item of the same name.
fn by_items(old: &[String], new: &[String]) -> Vec<(char, String)> {
    let (old, new) = (items(old), items(new));
    let mut shown = Vec::new();
    let mut at = 0;
    let signed = |sign: char, lines: Vec<String>| lines.into_iter().map(move |line| (sign, line));
    for (name, lines) in &new {
        let before = old.iter().position(|(other, _)| other == name);
        // The lines removed just before it come first.
        while at < before.map_or(0, |before| before) {
            if !new.iter().any(|(other, _)| *other == old[at].0) {
                shown.extend(signed('-', shortened(&old[at].1, 0)));
            }
            at += 1;
        }
        let Some(before) = before else {
            shown.extend(signed('+', shortened(lines, SHORT_BODY)));
            continue;
        };
        let compared = compare(&old[before].1, lines);
        let same = compared.iter().filter(|(sign, _)| *sign == ' ').count();
        if same == compared.len() {
            continue;
        }
        if lines.len() > SHORT_BODY && 2 * same < lines.len() {
            shown.extend(signed('-', shortened(&old[before].1, 0)));
            shown.extend(signed('+', shortened(lines, SHORT_BODY)));
        } else {
            let hunks = hunks(&compared);
            // Like git, show the name of the item that contains the lines, unless it is shown
            // already.
            if hunks[0].1 != compared[0].1 {
                shown.push(('@', format!("@ {name}")));
            }
            shown.extend(hunks);
        }
    }
    for (name, lines) in &old[at..] {
        if !new.iter().any(|(other, _)| other == name) {
            shown.extend(signed('-', shortened(lines, 0)));
        }
    }
    shown
}

/// The generated text between a page's marks.
fn generated(rung: usize) -> String {
    let count = code(rung).len();
    let mut text = format!(
        "## The whole server in {count} lines\n\n\
         `make rung RUNG={rung}` runs `src/lesson/servers/rung-{rung}.rs`: one file, to be read from top to bottom.\n\
         (Comments and unit tests are not counted.)\n"
    );
    let Some((_, base)) = BASES.iter().find(|(number, _)| *number == rung) else {
        return text;
    };
    let mut lines = hunks(&compare(&code(*base), &code(rung)));
    let is_long = lines.len() > LONG_DIFF;
    if is_long {
        lines = by_items(&code(*base), &code(rung));
    }
    let left_out = match is_long {
        true => {
            ", without comments and without the longer bodies of functions that are new or gone"
        }
        false => ", without comments",
    };
    text += &format!("\nThe difference from rung {base}{left_out}:\n\n```diff\n");
    for (sign, line) in lines {
        text += format!("{sign}{line}").trim_end();
        text.push('\n');
    }
    text + "```\n"
}

/// The list of the small servers on the page about the seeds.
fn list_of_seeds() -> String {
    let lines = |rung: usize| code(rung).len();
    let seeds = [
        ("000", 7, "the portal and its workers"),
        ("001", 1, "one client at a time"),
        ("001", 2, "a thread for each client"),
        ("002", 5, "accounts, public and direct messages"),
        ("003", 4, "`%name%message`"),
        ("004", 6, "rooms"),
    ];
    let row = |(seed, rung, what): (&str, usize, &str)| {
        let count = lines(rung);
        format!(
            "- Seed {seed} in {count} lines: `make rung RUNG={rung}` ({what}; `src/lesson/servers/rung-{rung}.rs`)\n"
        )
    };
    seeds.map(row).concat()
}

/// Compares the text between a page's marks with `wanted`. `make pages` sets `WRITE_PAGES=1`, which
/// writes `wanted` there instead.
fn stands_on(path: &Path, wanted: &str) {
    let text = fs::read_to_string(path).unwrap();
    let begin = "<!-- written by `make pages` -->\n\n";
    let end = "\n<!-- end -->\n";
    let name = path.display();
    let (before, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{name}: {begin:?}"));
    let (found, after) = rest
        .split_once(end)
        .unwrap_or_else(|| panic!("{name}: {end:?}"));
    if std::env::var_os("WRITE_PAGES").is_some() {
        fs::write(path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
    } else {
        assert!(found == wanted, "{name} is out of date: run `make pages`");
    }
}

#[test]
fn each_page_shows_its_server() {
    for rung in RUNGS {
        stands_on(&page(rung), &generated(rung));
    }
    let seeds = Path::new(PROJECT).join("src/guide/seeds.md");
    stands_on(&seeds, &list_of_seeds());
}

/// The tables in the section about what a server leaves out: each row names an item and its file.
#[test]
fn what_a_server_leaves_out_is_in_the_file_that_its_page_names() {
    for rung in RUNGS {
        let text = fs::read_to_string(page(rung)).unwrap();
        let heading = "## What this leaves out, and where the real server does it\n";
        let (_, section) = text.split_once(heading).expect(heading);
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> = section.lines().filter(|row| row.contains("](")).collect();
        assert!(rows.len() >= 3, "rung {rung}: {rows:?}");
        for row in rows {
            // | what | [`crate`: `item`](../../core/outbox.rs) |
            let (words, link) = row.rsplit_once("](").unwrap();
            let file = link.split(')').next().unwrap();
            let item = words.rsplit('`').nth(1).unwrap();
            let path = page(rung).with_file_name(file);
            let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{row}: {error}"));
            assert!(code.contains(item), "{row}: there is no {item}");
        }
    }
}

#[test]
fn the_last_server_uses_the_packages_of_the_design_card() {
    let packages = |rung: usize| {
        let mut found: Vec<&str> = Vec::new();
        let code = code(rung).join("\n");
        for package in [
            "argon2",
            "crossbeam_channel",
            "getrandom",
            "parking_lot",
            "roxmltree",
        ] {
            if code.contains(&format!("{package}::")) {
                found.push(package);
            }
        }
        found
    };
    for rung in 1..=3 {
        assert!(packages(rung).is_empty());
    }
    assert_eq!(packages(4), ["roxmltree"]);
    assert_eq!(packages(5), ["argon2", "getrandom", "roxmltree"]);
    assert_eq!(packages(6), ["getrandom", "roxmltree"]);
    let card = ["crossbeam_channel", "getrandom", "parking_lot", "roxmltree"];
    assert_eq!(packages(7), card);
}

/// Builds the servers, and returns the paths of their programs. (Cargo does not build another
/// package's examples for a test.)
fn programs() -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo's variables about this test's package would cause some crates to be rebuilt.
    for (name, _) in std::env::vars_os() {
        let word = name.to_string_lossy();
        if word.starts_with("CARGO_PKG_") || word.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo.args(["build", "--quiet", "--workspace", "--example", "rung-*"]);
    cargo.args(["--message-format", "json"]);
    if Path::new(CHECKER).parent().unwrap().ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo
        .current_dir(PROJECT)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the servers do not build");
    let mut programs = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if let Some(path) = message["executable"].as_str() {
            let name = message["target"]["name"].as_str().unwrap();
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    programs
}

/// Returns the checks that a server fails among `only`, or among all checks if `only` is empty,
/// each with the checker's line about it. `slower` is the factor for the checker's and the server's
/// limits.
fn failures(
    rung: usize,
    program: &Path,
    only: &[String],
    patience: &str,
    slower: &str,
) -> BTreeMap<String, Value> {
    let program = program.display();
    let command = match rung {
        5 => format!("exec {program} {{port}} {{folder}}"),
        7 => format!("exec {program} {{port}} {slower}"),
        _ => format!("exec {program} {{port}}"),
    };
    let output = Command::new(CHECKER)
        .args([&rung.to_string(), &command, "--json", "--keep-going"])
        .args(["--patience", patience, "--start-within", "120"])
        .args(only.iter().flat_map(|name| ["--only", name.as_str()]))
        .env("CHAT_TEST_CLOCK", slower)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines
        .filter(|line: &Value| line["check"].is_string())
        .collect();
    assert!(!lines.is_empty(), "rung {rung}: {text}");
    let failed = lines
        .into_iter()
        .filter(|line| line["passed"] != Value::Bool(true));
    let failed: BTreeMap<String, Value> = failed
        .map(|line| (line["check"].as_str().unwrap().to_owned(), line))
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!failed.is_empty())));
    failed
}

#[test]
fn each_server_passes_its_rung() {
    let programs = programs();
    let program = |rung: usize| &programs[&format!("rung-{rung}")];
    let failed: Vec<(usize, Vec<String>)> = thread::scope(|threads| {
        let play = |rung| move || (rung, failures(rung, program(rung), &[], "5", "1"));
        let all: Vec<_> = RUNGS.map(|rung| threads.spawn(play(rung))).collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.map(|(rung, failed)| (rung, failed.into_keys().collect()))
            .collect()
    });
    // On a busy machine, a first verdict may be wrong because of timeouts. This one is final.
    for (rung, names) in failed.into_iter().filter(|(_, names)| !names.is_empty()) {
        // Written directly, because the test harness shows captured output only if the test fails.
        let _ = writeln!(
            std::io::stderr(),
            "once more, slowly: rung {rung}, {names:?}"
        );
        let failed = failures(rung, program(rung), &names, "60", "20");
        assert!(failed.is_empty(), "rung {rung}: {failed:#?}");
    }
}

#[test]
fn a_wrong_command_line_and_a_taken_port_are_one_sentence_and_code_1() {
    let programs = programs();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = env!("CARGO_TARGET_TMPDIR");
    for rung in RUNGS {
        let name = format!("rung-{rung}");
        for (words, part) in [
            (&[][..], format!("usage: {name} PORT")),
            (&[&port, folder], format!("cannot listen on port {port}: ")),
        ] {
            let words = if rung == 5 {
                words
            } else {
                &words[..words.len().min(1)]
            };
            let output = Command::new(&programs[&name]).args(words).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}: {said}");
            assert!(
                said.contains(&part) && said.lines().count() == 1,
                "{name}: {said}"
            );
        }
    }
}
