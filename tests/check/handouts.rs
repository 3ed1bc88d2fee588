//! `make handouts`: one printable page for each task, generated from the same Markdown that `make
//! grade` prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_macros,
    missing_docs
)]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use pulldown_cmark::{Options, Parser, html};
use serde_json::Value;

/// Black on white, readable at arm's length, without page breaks inside table rows.
const STYLE: &str = "
body { font: 11pt/1.45 Georgia, serif; max-width: 42em; margin: 2em auto; padding: 0 1em; color: #000; background: #fff }
h1 { font-size: 18pt } h2 { font-size: 13pt }
code { font: 9.5pt Menlo, Consolas, monospace }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid #999; padding: .3em .5em; text-align: left; vertical-align: top; overflow-wrap: anywhere }
tr, li { break-inside: avoid } h2 { break-after: avoid }
ul.checks { list-style: none; padding: 0 } ul.checks li::before { content: '☐ '; font-size: 13pt }
@media print { body { margin: 0; max-width: none } @page { margin: 18mm } }
";

fn main() -> ExitCode {
    let folder = std::env::args().nth(1).expect("the folder to write into");
    fs::create_dir_all(&folder).expect("a folder to write into");
    let tasks = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lesson/tasks");
    let mut tasks: Vec<_> = fs::read_dir(tasks)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    tasks.sort();
    for task in tasks {
        let name = task.file_stem().unwrap().to_str().unwrap();
        let markdown = fs::read_to_string(&task).unwrap();
        let title = markdown
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("# ");
        let mut body = String::new();
        html::push_html(
            &mut body,
            Parser::new_ext(&markdown, Options::ENABLE_TABLES),
        );
        let task = match name {
            "client" => &["1", "--client"][..],
            rung => &[rung.split('-').next().unwrap()],
        };
        let body = format!(
            "{body}<h2>The checks</h2>\n<ul class=\"checks\">\n{}</ul>\n<p><code>{}</code></p>\n",
            checks(task),
            command(task)
        );
        let file = Path::new(&folder).join(format!("{name}.html"));
        fs::write(&file, page(title, &body)).expect("a file to write");
        println!("{}", file.display());
    }
    let file = Path::new(&folder).join("answers.html");
    fs::write(&file, answers()).expect("a file to write");
    println!("{}  (for teachers)", file.display());
    println!("Open one in a browser, and print it from there.");
    ExitCode::SUCCESS
}

/// The exercises of all lessons with their answers unfolded, for the teacher.
fn answers() -> String {
    let ladder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lesson/ladder");
    let mut rungs: Vec<_> = fs::read_dir(ladder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    rungs.sort();
    let mut body = String::new();
    for rung in rungs {
        let markdown = fs::read_to_string(&rung).unwrap();
        let title = markdown.lines().next().unwrap_or_default();
        let (_, exercises) = markdown.split_once("## Exercises").unwrap();
        let unfolded = exercises
            .replace("<details><summary>Answer</summary>", "**Answer**")
            .replace("</details>", "");
        html::push_html(&mut body, Parser::new(&format!("{title}\n{unfolded}")));
    }
    page("The lessons' exercises, with their answers", &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}

/// Runs `chatcheck`, which is in the parent folder, and returns its output.
fn checker(words: &[&str]) -> String {
    let checker = Path::new(&std::env::current_exe().unwrap())
        .ancestors()
        .nth(2)
        .unwrap()
        .join("chatcheck");
    let output = Command::new(checker).args(words).output();
    String::from_utf8(output.expect("chatcheck in the parent folder").stdout).unwrap()
}

/// Returns the command that checks a task: the last line of the checker's output.
fn command(task: &[&str]) -> String {
    let text = checker(task);
    text.lines().last().unwrap().trim().to_owned()
}

/// Returns the checks of a task as an HTML list with boxes to tick.
fn checks(task: &[&str]) -> String {
    let text = checker(&[task, &["--list", "--json"]].concat());
    let line = |line: &str| {
        let check: Value = serde_json::from_str(line).unwrap();
        let mut what = String::new();
        html::push_html(&mut what, Parser::new(check["what"].as_str().unwrap()));
        let what = what
            .trim()
            .trim_start_matches("<p>")
            .trim_end_matches("</p>");
        format!(
            "<li><code>{}</code> {what}</li>\n",
            check["check"].as_str().unwrap()
        )
    };
    text.lines().map(line).collect()
}
