//! Where a line goes. Each prompt stands for one target, and a line carries the target of the
//! prompt under which it was begun; so it goes there, or nowhere.

/// Where a line goes that is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To nobody: there is no connection, nobody sits beside, or a room is not entered yet.
    Nobody,
    /// To this partner, and not to the next one in the same seat.
    Partner {
        /// On which link to the server.
        link: u64,
        /// The how-manieth partner there.
        arrival: u64,
    },
    /// To everyone who is logged in.
    Everyone,
    /// To one person, by lower-case name.
    Person(String),
    /// To a room, by lower-case name.
    Room(String),
    /// It answers this question.
    Question(u64),
    /// It answers this question, and is neither shown nor remembered.
    Secret(u64),
}

/// What the person has chosen, by `/to`, to talk to. It outlasts a lost link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    /// Whoever sits beside.
    Partner,
    /// Everyone who is logged in.
    Everyone,
    /// One person, as the name was typed.
    Person(String),
    /// A room, as it is spelled there.
    Room(String),
    /// Nowhere, because a line that was to choose a target could not be done, or the room is left;
    /// and what that was. Only a script stays in this state: it has no prompt on which it could see
    /// another target.
    Lost(String),
}

impl Focus {
    /// For a sentence: where a line was meant to go.
    pub(super) fn describe(&self, partner: Option<&str>) -> String {
        match self {
            Focus::Partner => partner.map_or("nobody".to_owned(), ToOwned::to_owned),
            Focus::Everyone => "everyone".to_owned(),
            Focus::Person(name) => format!("{name} alone"),
            Focus::Room(room) | Focus::Lost(room) => room.clone(),
        }
    }
}

impl Target {
    /// For a sentence: whom a line was typed for that is not sent any more.
    pub(super) fn describe(&self) -> String {
        match self {
            Target::Nobody => "nobody".to_owned(),
            Target::Partner { .. } => "somebody who is not beside you any more".to_owned(),
            Target::Everyone => "everyone".to_owned(),
            Target::Person(name) => format!("{name} alone"),
            Target::Room(room) => format!("the room {room}"),
            Target::Question(_) | Target::Secret(_) => {
                "a question that is not asked any more".to_owned()
            }
        }
    }
}
