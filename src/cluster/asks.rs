//! What is asked of the other servers, and what becomes of it.

use crate::hall::Unwritten;
use crate::wire::Name;

/// What became of an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has its place in the order; so many people were there besides the speaker.
    Sent(usize),
    /// Nobody has that name.
    Nobody,
    /// The speaker does not have the name, or is not in the room (any more).
    NotYours,
    /// The engine is away, and it was not sent.
    Unreachable,
    /// No answer came: it may have been done or not.
    Unsure,
}

/// What became of the wish for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is this session's.
    Yes,
    /// Somebody has it and keeps it.
    InUse,
    /// The engine is away, or did not answer.
    Unreachable,
}

/// A room as the others know it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Says which beginning of the room it was, when it ends.
    pub token: u64,
    /// Its name as it was spelled first.
    pub name: String,
    /// What it is about, and who said so.
    pub topic: Option<(String, String)>,
    /// What was said last: when (in seconds since 1970), who, an action, what.
    pub history: Vec<(u64, String, bool, String)>,
}

/// Who speaks: a session and its name.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'s> {
    /// The number of the session that has logged in.
    pub session: u64,
    /// As whom.
    pub name: &'s Name,
}

impl Speaker<'_> {
    #[cfg(feature = "cluster")]
    pub(super) fn args(&self) -> Vec<String> {
        vec![
            self.session.to_string(),
            self.name.key(),
            self.name.to_string(),
        ]
    }
}

/// Called with what became of an ask, by `cluster-out`, by `cluster-in` or by whoever asked. It may not wait; what it has
/// for people is written when the turn is over.
pub type Done = Box<dyn FnOnce(Fate, &mut Unwritten) + Send>;
