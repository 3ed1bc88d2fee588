//! What the person may be asked, and what the server may have to answer before that.

use portal_wire::ErrorCode;

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    /// Chat or a command.
    Talk,
    /// Nothing yet: the server has to answer first.
    Awaiting(Awaiting),
    /// The password of a new account (asked twice of a person, `first` being the first) or an
    /// existing one.
    Password {
        new_account: bool,
        first: Option<String>,
    },
    /// Another password: the old one, the new one, the new one again.
    Passwd {
        old: Option<String>,
        new: Option<String>,
    },
    /// The public message, after `PM`.
    PublicText,
    /// Whom the direct message is for, after `DM`.
    DirectWho,
    /// The direct message.
    DirectText { to: String },
    /// Whether `/pm bob …` was meant for everyone, although there is a bob.
    ConfirmPublic { text: String },
}

/// What the server has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// `LOGIN`, or the password after it.
    Login,
    /// `PASSWD`.
    Passwd,
    /// `PM` alone.
    Public,
    /// `DM` alone.
    List,
    /// `JOIN`.
    Join,
    /// `LEAVE`.
    Leave,
}

impl Awaiting {
    /// Whether an error of that kind is the answer to it. (Errors may still come for what was said
    /// before.)
    pub(super) fn is_answered_by(self, code: ErrorCode) -> bool {
        use ErrorCode as E;
        match self {
            Awaiting::Login => matches!(
                code,
                E::WrongPassword
                    | E::BadPassword
                    | E::BadName
                    | E::NameInUse
                    | E::NotSaved
                    | E::AlreadyLoggedIn
                    | E::LoginFirst
            ),
            Awaiting::Passwd => matches!(
                code,
                E::WrongPassword | E::BadPassword | E::NotSaved | E::UnknownCommand | E::LoginFirst
            ),
            Awaiting::Public | Awaiting::List => {
                matches!(code, E::LoginFirst | E::UnknownCommand)
            }
            Awaiting::Join => matches!(
                code,
                E::AlreadyMember | E::NoRoomLeft | E::BadName | E::LoginFirst
            ),
            Awaiting::Leave => matches!(
                code,
                E::NoSuchRoom | E::NotAMember | E::BadName | E::LoginFirst
            ),
        }
    }
}
