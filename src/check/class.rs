//! `--class`: checks every submission in a folder, and writes a table for the teacher.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::program::Launch;
use super::report::CheckResult;
use super::rung::{Check, Rung};
use portal_cli::output;
use portal_wire::{printable, xml_text};

/// The placeholder for a submission in the command.
pub(super) const SUBMISSION: &str = "{submission}";

/// One submission and its results, in the order of the checks.
struct Submission {
    name: String,
    passed: Vec<bool>,
}

impl Submission {
    fn count(&self) -> usize {
        self.passed.iter().filter(|passed| **passed).count()
    }
}

/// Checks each file and folder in `folder`. Returns `true` if all submissions pass all checks.
///
/// # Errors
/// The folder has no submissions, or a result can't be written.
pub(super) fn run(
    rung: &Rung,
    checks: &[&'static Check],
    folder: &Path,
    launch: &Launch<'_>,
) -> Result<bool, String> {
    let mut submissions = Vec::new();
    let paths = submissions_in(folder)?;
    let width = paths.iter().map(|path| name_of(path).chars().count()).max();
    let width = width.unwrap_or_default();
    for path in paths {
        let command = launch.command.replace(SUBMISSION, &quoted(&path));
        let launch = launch.with_command(&command);
        let passed = checks
            .iter()
            .map(|check| CheckResult::of(check, &launch).failure.is_none())
            .collect();
        let name = name_of(&path);
        let submission = Submission { name, passed };
        let first = checks
            .iter()
            .zip(&submission.passed)
            .find(|(_, passed)| !**passed);
        let first = first.map_or_else(String::new, |(check, _)| {
            format!("  first failure: {}", check.name)
        });
        print(&format!(
            "{:width$}  {:2} of {}{first}\n",
            submission.name,
            submission.count(),
            checks.len()
        ))?;
        submissions.push(submission);
        // Checking a class takes minutes. An interrupted run keeps its results.
        write_tables(rung, checks, folder, &submissions)?;
    }
    for file in write_tables(rung, checks, folder, &submissions)? {
        print(&format!("{}\n", file.display()))?;
    }
    Ok(submissions.iter().all(|one| one.count() == checks.len()))
}

/// Writes the table of the submissions so far as CSV and HTML. Returns the files.
fn write_tables(
    rung: &Rung,
    checks: &[&'static Check],
    folder: &Path,
    submissions: &[Submission],
) -> Result<[PathBuf; 2], String> {
    let name = format!("chatcheck-rung-{}", rung.number);
    let write = |ending: &str, text: String| {
        let file = folder.join(&name).with_extension(ending);
        std::fs::write(&file, text)
            .map_err(|error| format!("can't write {}: {error}", file.display()))?;
        Ok::<_, String>(file)
    };
    Ok([
        write("csv", csv(checks, submissions))?,
        write("html", html(rung, checks, submissions))?,
    ])
}

fn print(text: &str) -> Result<(), String> {
    output::print(text).map_err(|error| output::not_written(&error))
}

/// The files and folders in `folder`, by name, except hidden ones and earlier tables.
fn submissions_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |reason: String| format!("--class {}: {reason}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|error| wrong(error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = name_of(path);
            !name.starts_with('.') && !name.starts_with("chatcheck-rung-")
        })
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(wrong(
            "the folder is empty; put one file or folder for each student into it".to_owned(),
        ));
    }
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    printable(&name.to_string_lossy())
}

/// The path, quoted as one word for `sh`.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\'', "'\\''");
    format!("'{path}'")
}

fn csv(checks: &[&Check], submissions: &[Submission]) -> String {
    let mut text = String::from("submission,passed");
    for check in checks {
        let _ = write!(text, ",{}", check.name);
    }
    text.push('\n');
    for submission in submissions {
        let name = submission.name.replace('"', "\"\"");
        let _ = write!(text, "\"{name}\",{}", submission.count());
        for passed in &submission.passed {
            let _ = write!(text, ",{}", u8::from(*passed));
        }
        text.push('\n');
    }
    text
}

fn html(rung: &Rung, checks: &[&Check], submissions: &[Submission]) -> String {
    let title = xml_text(&format!("Rung {}: {}", rung.number, rung.title));
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body {{ font: 15px sans-serif }} table {{ border-collapse: collapse }} \
         th, td {{ border: 1px solid #999; padding: 3px 6px }} \
         .no {{ background: #f6caca }} .yes {{ background: #d5efd5 }}</style>\n\
         <h1>{title}</h1>\n<table>\n<tr><th>Submission<th>Passed"
    );
    for check in checks {
        let _ = write!(
            text,
            "<th title=\"{}\">{}",
            xml_text(check.what),
            check.name
        );
    }
    text.push('\n');
    for submission in submissions {
        let name = xml_text(&submission.name);
        let _ = write!(text, "<tr><th>{name}<td>{}", submission.count());
        for passed in &submission.passed {
            text.push_str(match passed {
                true => "<td class=\"yes\">✓",
                false => "<td class=\"no\">✗",
            });
        }
        text.push('\n');
    }
    text + "</table>\n"
}
