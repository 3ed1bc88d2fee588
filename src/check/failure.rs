//! The report about a failed check.

use std::cell::RefCell;
use std::fmt::Display;

/// Reported if the program is no longer running.
pub(super) const ENDED: &str = "the program has ended";

/// The maximum length of sent or received text in a report, in characters.
const SHOWN: usize = 160;

thread_local! {
    /// The last action of any client that this thread simulates. When a client gets no reply, the
    /// cause is often something that another client sent.
    static LAST_ACTION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Records a client's last action.
pub(super) fn record_action(action: &str) {
    LAST_ACTION.with_borrow_mut(|last| action.clone_into(last));
}

/// The last action that this thread has recorded.
pub(super) fn last_action() -> String {
    LAST_ACTION.with_borrow(String::clone)
}

/// The kind of failure, regardless of the texts that were sent and received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symptom {
    /// The connection was refused, or the program has exited.
    NotListening,
    /// Nothing arrived in time.
    Silence,
    /// The connection was closed instead.
    Closed,
    /// Something else arrived.
    Different,
}

/// The difference between the expected and the actual behaviour.
#[derive(Debug)]
pub(super) struct Failure {
    /// The last action before it.
    pub(super) sent: String,
    pub(super) received: String,
    pub(super) expected: String,
    pub(super) symptom: Symptom,
    /// Replaces the check's idea, if the symptom points to a particular mistake.
    pub(super) idea: Option<&'static str>,
}

impl Failure {
    /// A failure whose expected behaviour was `expected`.
    pub(super) fn expected(expected: impl Display) -> Failure {
        Failure {
            sent: "nothing".to_owned(),
            received: "nothing".to_owned(),
            expected: expected.to_string(),
            symptom: Symptom::Different,
            idea: None,
        }
    }

    /// Replaces the check's idea with `idea` if the failure has this symptom and does not have an
    /// idea already.
    pub(super) fn hint(mut self, symptom: Symptom, idea: &'static str) -> Failure {
        if self.symptom == symptom && self.idea.is_none() {
            self.idea = Some(idea);
        }
        self
    }

    pub(super) fn symptom(self, symptom: Symptom) -> Failure {
        Failure { symptom, ..self }
    }

    pub(super) fn idea(self, idea: &'static str) -> Failure {
        let idea = Some(idea);
        Failure { idea, ..self }
    }

    pub(super) fn received(self, received: impl Display) -> Failure {
        let received = received.to_string();
        Failure { received, ..self }
    }

    pub(super) fn sent(self, sent: impl Display) -> Failure {
        let sent = sent.to_string();
        Failure { sent, ..self }
    }
}

/// Bytes as a report shows them: special characters are escaped, and long text is truncated.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = format!("{:?}", String::from_utf8_lossy(bytes));
    if text.chars().count() <= SHOWN {
        return text;
    }
    let beginning: String = text.chars().take(SHOWN).collect();
    format!("{beginning}…\" ({} bytes)", bytes.len())
}
