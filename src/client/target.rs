//! The recipient of a line. Each prompt has one target, and a line carries the target of the prompt
//! under which it was begun. The line goes to that target or to none.

/// The recipient of a line that is not a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// No recipient: there is no connection or no partner, or the room has not been joined yet.
    Nobody,
    /// This partner, not the next one in the same seat.
    Partner {
        /// The number of the link to the server.
        link: u64,
        /// Distinguishes this partner from others in the same seat.
        arrival: u64,
    },
    /// Everyone who is logged in.
    Everyone,
    /// One user, by lower-case name.
    Person(String),
    /// A room, by lower-case name.
    Room(String),
    /// The answer to this question.
    Question(u64),
    /// The answer to this question, which is neither shown nor stored.
    Secret(u64),
}

/// The recipient that the user has chosen with `/to`. It survives a lost link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    /// The current partner.
    Partner,
    /// Everyone who is logged in.
    Everyone,
    /// One user, by the name as typed.
    Person(String),
    /// A room, by its exact name.
    Room(String),
    /// No recipient, because a line that should have chosen one failed, or because the user left
    /// the room. Contains the reason. Only a script stays in this state, because it has no prompt
    /// to show a different target.
    Lost(String),
}

impl Focus {
    /// The intended recipient, for use in a sentence.
    pub(super) fn describe(&self, partner: Option<&str>) -> String {
        match self {
            Focus::Partner => partner.map_or("nobody".to_owned(), ToOwned::to_owned),
            Focus::Everyone => "everyone".to_owned(),
            Focus::Person(name) => format!("{name} alone"),
            Focus::Room(room) | Focus::Lost(room) => room.clone(),
        }
    }
}

impl Focus {
    /// The name under which the conversation's unread messages are counted.
    pub(super) fn conversation(&self) -> String {
        match self {
            Focus::Partner => "partner".to_owned(),
            Focus::Everyone => "all".to_owned(),
            Focus::Person(name) | Focus::Room(name) => name.to_ascii_lowercase(),
            Focus::Lost(_) => String::new(),
        }
    }
}

impl Target {
    /// The recipient when a rejected line was typed, as a clause for a sentence.
    pub(super) fn describe(&self) -> String {
        match self {
            Target::Nobody => "you had no recipient".to_owned(),
            Target::Partner { .. } => "you had another partner".to_owned(),
            Target::Everyone => "you were writing to everyone".to_owned(),
            Target::Person(name) => format!("you were writing to {name} alone"),
            Target::Room(room) => format!("you were writing to the room {room}"),
            Target::Question(_) | Target::Secret(_) => {
                "it was the answer to an earlier question".to_owned()
            }
        }
    }
}
