//! The report on each check, for people and for learning platforms.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use serde_json::json;

use super::failure::{ENDED, Failure, Symptom, record_action, shown};
use super::program::{Kind, Launch};
use super::rung::{Check, Rung};
use portal_cli::output;
use portal_wire::{printable, xml_text};

/// The maximum number of lines from the program's output in a report.
const LINES: usize = 8;

/// The result of one check.
#[derive(Debug)]
pub(super) struct CheckResult {
    check: &'static Check,
    pub(super) failure: Option<Failure>,
    took: Duration,
    /// The last lines from the program's output, if the check failed.
    printed: Vec<String>,
}

impl CheckResult {
    /// Starts the program, runs `check`, and stops the program.
    pub(super) fn of(check: &'static Check, launch: &Launch<'_>) -> CheckResult {
        let start = Instant::now();
        let mut printed = Vec::new();
        let mut idea = None;
        record_action("");
        let result = launch.start(check.parity()).and_then(|subject| {
            let result = (check.play)(&subject);
            let result = result.map_err(|failure| match subject.end() {
                Some(status) if !failure.received.contains(ENDED) => Failure {
                    received: format!("{}; {ENDED} ({status})", failure.received),
                    ..failure
                },
                _ => failure,
            });
            if result.is_err() {
                let text = subject.printed();
                let lines: Vec<&str> = text.lines().collect();
                idea = idea_from_output(&lines, result.as_ref().err());
                let last = lines.len().saturating_sub(LINES);
                printed = lines[last..].iter().map(|line| printable(line)).collect();
            }
            result
        });
        CheckResult {
            check,
            failure: result.err().map(|failure| match idea {
                Some(idea) => failure.idea(idea),
                None => failure,
            }),
            took: start.elapsed(),
            printed,
        }
    }
}

/// The idea if the program's output explains the failure.
fn idea_from_output(lines: &[&str], failure: Option<&Failure>) -> Option<&'static str> {
    let failure = failure?;
    let has = |word: &str| lines.iter().any(|line| line.to_lowercase().contains(word));
    match failure.symptom {
        Symptom::Silence
            if lines
                .iter()
                .any(|line| shown(format!("{line}\n").as_bytes()) == failure.expected) =>
        {
            Some(
                "Your program has printed the reply on its own terminal. Which call sends the \
                 reply to the client, and is something, such as a buffer, holding it back?",
            )
        }
        _ if failure.idea.is_some() => None,
        Symptom::NotListening if has("already in use") => Some(
            "The port is in use. Is it the port from the command line, and do you bind it only \
             once?",
        ),
        Symptom::Silence | Symptom::Closed if has("already in use") => Some(
            "Your program binds a port on which an earlier listener of its own still listens: see \
             its last output. A listener that is closed while a thread is blocked in accept() goes \
             on listening. How do you wake that thread?",
        ),
        Symptom::Silence | Symptom::Closed if has("traceback") || has("panicked at") => Some(
            "Your program has reported an error: see its last output. Which thread failed, and who \
             waits for it now?",
        ),
        _ => None,
    }
}

/// The results so far; each is printed as soon as it is known.
pub(super) struct Report {
    rung: &'static Rung,
    command: String,
    is_json: bool,
    has_colour: bool,
    outcomes: Vec<CheckResult>,
    /// The first error while printing the report. The checks continue, because their result may
    /// also go to a file.
    not_printed: Option<io::Error>,
}

impl Report {
    /// Prints the heading.
    pub(super) fn of(rung: &'static Rung, command: &str, is_json: bool) -> Report {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mut report = Report {
            rung,
            command: printable(command),
            is_json,
            has_colour: !is_json && io::stdout().is_terminal() && !no_colour,
            outcomes: Vec::new(),
            not_printed: None,
        };
        if !is_json {
            let Rung { number, title, .. } = rung;
            let heading = match rung.kind {
                Kind::Server => format!("Rung {number}: {title}"),
                Kind::Client => format!("Client: {title}"),
            };
            let text = format!("{heading}\n{}\n\n", report.command);
            report.print(&text);
        }
        report
    }

    /// Prints the result of one more check.
    pub(super) fn add(&mut self, outcome: CheckResult) {
        let text = match self.is_json {
            true => format!("{}\n", as_json(&outcome)),
            false => self.as_text(&outcome),
        };
        self.print(&text);
        self.outcomes.push(outcome);
    }

    /// Prints the summary.
    pub(super) fn end(&mut self) {
        let passed = self.outcomes.iter().filter(|one| one.failure.is_none());
        let (passed, played) = (passed.count(), self.outcomes.len());
        let all = self.rung.checks.len();
        let text = if self.is_json {
            let rung = self.rung.number;
            let all = json!({"rung": rung, "checks": all, "played": played, "passed": passed});
            format!("{all}\n")
        } else if self.has_passed() && played == all {
            let next = self.rung.next();
            format!("\nAll {all} checks of {} passed.\n{next}", self.rung.name())
        } else if self.has_passed() {
            format!("\n{passed} of {played} checks passed; the rung has {all} checks.\n")
        } else if played < all
            && self
                .outcomes
                .last()
                .is_some_and(|one| one.failure.is_some())
        {
            format!(
                "\n{passed} of {all} checks passed. The checks after the failed one did not run; \
                 --keep-going runs them, too.\n"
            )
        } else {
            format!("\n{passed} of {played} checks passed.\n")
        };
        self.print(&text);
    }

    fn print(&mut self, text: &str) {
        if let Err(error) = output::print(text) {
            self.not_printed.get_or_insert(error);
        }
    }

    /// The first error while printing, if any. A closed pipe is not an error.
    pub(super) fn not_printed(&self) -> Option<&io::Error> {
        self.not_printed.as_ref()
    }

    /// Returns `true` if at least one check ran and all of them passed.
    pub(super) fn has_passed(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|one| one.failure.is_none())
    }

    fn as_text(&self, outcome: &CheckResult) -> String {
        let check = outcome.check;
        let (sign, colour) = match outcome.failure {
            None => ("✓", "32"),
            Some(_) => ("✗", "31"),
        };
        let sign = match self.has_colour {
            true => format!("\x1b[{colour}m{sign}\x1b[0m"),
            false => sign.to_owned(),
        };
        let width = self.rung.checks.iter().map(|check| check.name.len()).max();
        let mut text = format!(
            "{sign} {:width$}  {}\n",
            check.name,
            check.what,
            width = width.unwrap_or_default()
        );
        if let Some(failure) = &outcome.failure {
            // Writing to a String can't fail.
            let _ = write!(
                text,
                "    after     {}\n    received  {}\n    expected  {}\n    idea      {}\n    time      usually {} minutes\n",
                printable(&failure.sent),
                printable(&failure.received),
                printable(&failure.expected),
                failure.idea.unwrap_or(check.idea),
                check.minutes,
            );
            if let Some(first) = self.failed_before(check) {
                let _ = writeln!(
                    text,
                    "    first     fix {first}: this check can't pass without it"
                );
            }
            if !outcome.printed.is_empty() {
                text.push_str("    your program's last output:\n");
                for line in &outcome.printed {
                    let _ = writeln!(text, "      {line}");
                }
            }
        }
        text
    }

    /// The first failed check among those that `check` needs.
    fn failed_before(&self, check: &Check) -> Option<&'static str> {
        let failed = self.outcomes.iter().filter(|one| one.failure.is_some());
        let mut names = failed.map(|one| one.check.name);
        names.find(|name| check.needs.contains(name))
    }

    /// The results as JUnit XML.
    pub(super) fn junit(&self) -> String {
        let failed = self.outcomes.iter().filter(|one| one.failure.is_some());
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n",
            self.rung.name(),
            self.outcomes.len(),
            failed.count()
        );
        for outcome in &self.outcomes {
            let _ = write!(
                text,
                "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">",
                self.rung.name(),
                outcome.check.name,
                outcome.took.as_secs_f64()
            );
            if let Some(failure) = &outcome.failure {
                let Failure {
                    sent,
                    received,
                    expected,
                    ..
                } = failure;
                let idea = failure.idea.unwrap_or(outcome.check.idea);
                let what = xml_text(outcome.check.what);
                let details = format!(
                    "after: {sent}\nreceived: {received}\nexpected: {expected}\nidea: {idea}\n{}",
                    outcome.printed.join("\n")
                );
                let _ = write!(
                    text,
                    "\n    <failure message=\"{what}\">{}</failure>\n  ",
                    xml_text(&details)
                );
            }
            text.push_str("</testcase>\n");
        }
        text + "</testsuite>\n"
    }
}

fn as_json(outcome: &CheckResult) -> serde_json::Value {
    let check = outcome.check;
    let took = u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
    let mut value = json!({
        "check": check.name,
        "what": check.what,
        "passed": outcome.failure.is_none(),
        "milliseconds": took,
    });
    if let Some(failure) = &outcome.failure {
        value["before"] = json!(failure.sent);
        value["came"] = json!(failure.received);
        value["wanted"] = json!(failure.expected);
        value["idea"] = json!(failure.idea.unwrap_or(check.idea));
        value["minutes"] = json!(check.minutes);
        value["printed"] = json!(outcome.printed);
    }
    value
}

/// The list of checks, one per line, as text or as JSON.
pub(super) fn list(checks: &[&Check], is_json: bool) -> String {
    if is_json {
        let line = |check: &&Check| {
            let Check {
                name,
                what,
                idea,
                minutes,
                needs,
                ..
            } = check;
            let value = json!({
                "check": name, "what": what, "idea": idea, "minutes": minutes, "needs": needs,
            });
            format!("{value}\n")
        };
        return checks.iter().map(line).collect();
    }
    let width = checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or_default();
    let line = |check: &&Check| format!("{:width$}  {}\n", check.name, check.what);
    checks.iter().map(line).collect()
}

/// The task, and the command that checks it.
pub(super) fn task(rung: &Rung) -> String {
    let command = match rung {
        Rung {
            kind: Kind::Client, ..
        } => "CLIENT=1 CMD='python3 client.py {port}'".to_owned(),
        Rung {
            number,
            keeps_something: true,
            ..
        } => {
            format!("RUNG={number} CMD='python3 server.py {{port}} {{folder}}'")
        }
        Rung { number, .. } => format!("RUNG={number} CMD='python3 server.py {{port}}'"),
    };
    let task = rung.task;
    format!("{task}\n---\nCheck your program with\n  make grade {command}\n")
}
