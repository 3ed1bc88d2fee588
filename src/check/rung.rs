//! What a rung is: a task, and the checks that tell whether it is done.

use super::failure::Failure;
use super::program::{Kind, Subject};

/// One step of the ladder, to be built by the student.
#[derive(Debug)]
pub(super) struct Rung {
    /// From 1.
    pub(super) number: u8,
    /// What it is about, in a few words.
    pub(super) title: &'static str,
    /// The page that says what is to be built.
    pub(super) task: &'static str,
    /// What the student builds.
    pub(super) kind: Kind,
    /// Its server keeps something, in the folder that its command names.
    pub(super) keeps_something: bool,
    /// How many ports after its own it listens at.
    pub(super) more_ports: u16,
    /// In the order in which a server that grows will pass them; the last one is with load.
    pub(super) checks: &'static [Check],
}

impl Rung {
    /// What it is called within a sentence.
    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::Server => format!("rung {}", self.number),
            Kind::Client => "the client".to_owned(),
        }
    }
}

/// One thing that a server of a rung does.
#[derive(Debug)]
pub(super) struct Check {
    /// For `--only`.
    pub(super) name: &'static str,
    /// What is right, in one sentence.
    pub(super) what: &'static str,
    /// The idea that helps who fails it, and not the solution.
    pub(super) idea: &'static str,
    /// How long it usually takes to get it right, once the checks before it pass.
    pub(super) minutes: u8,
    /// The checks without which this one can't pass. A server that fails one of them may fail this
    /// one, too.
    pub(super) needs: &'static [&'static str],
    /// Plays it.
    pub(super) play: fn(&Subject<'_>) -> Result<(), Failure>,
}
