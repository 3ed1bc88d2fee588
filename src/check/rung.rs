//! A rung: a task, and the checks that decide whether it is solved.

use super::failure::Failure;
use super::program::{Kind, Parity, Subject};

/// The last rung with a task.
const LAST_TASK: u8 = 7;

/// One step of the ladder, as a task for the student.
#[derive(Debug)]
pub(super) struct Rung {
    /// The number, from 1.
    pub(super) number: u8,
    /// The title of the task.
    pub(super) title: &'static str,
    /// The text of the task, in Markdown.
    pub(super) task: &'static str,
    pub(super) kind: Kind,
    /// `true` if its server keeps files in the folder named in its command.
    pub(super) keeps_something: bool,
    /// The number of ports after its own on which the server listens.
    pub(super) more_ports: u16,
    /// The checks, in the order in which a growing server passes them. The last one tests the
    /// server under load.
    pub(super) checks: &'static [Check],
}

impl Rung {
    /// The rung's name for use in a sentence.
    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::Server => format!("rung {}", self.number),
            Kind::Client => "the client".to_owned(),
        }
    }

    /// Lines about what to do next, for a student whose program has passed all checks.
    pub(super) fn next(&self) -> String {
        let next = self.number + 1;
        match self.kind {
            Kind::Client => {
                "Next: `make grade RUNG=1` prints the first task for a server.\n".to_owned()
            }
            Kind::Server if next <= LAST_TASK => format!(
                "Next: `make lessons RUNG={next}` explains the next rung, and `make grade RUNG={next}` prints its task.\n"
            ),
            Kind::Server => format!(
                "That was the last task. Next: `make lessons RUNG={next}` explains the next rung.\n"
            ),
        }
    }
}

/// One required behaviour of a program.
#[derive(Debug)]
pub(super) struct Check {
    /// The name for `--only`.
    pub(super) name: &'static str,
    /// The required behaviour, in one sentence.
    pub(super) what: &'static str,
    /// A hint for a student whose program fails the check; it does not give the solution away.
    pub(super) idea: &'static str,
    /// The usual time to solve it, in minutes, once the checks before it pass.
    pub(super) minutes: u8,
    /// The checks that this one depends on. A server that fails one of them may fail this one, too.
    pub(super) needs: &'static [&'static str],
    /// Runs the check.
    pub(super) play: fn(&Subject<'_>) -> Result<(), Failure>,
}

impl Check {
    /// Returns the parity of the port on which the program runs. A server that computes a worker's
    /// partner from its port number is right for half of all ports. Therefore `pairs` always runs
    /// on an odd port, and `load`, which tests pairs again, on an even one.
    pub(super) fn parity(&self) -> Parity {
        match self.name {
            "pairs" => Parity::Odd,
            _ => Parity::Even,
        }
    }
}
