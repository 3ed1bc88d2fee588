//! Questions to the user, and the server's replies that may have to arrive first.

use portal_wire::ErrorCode;

/// The meaning of the next line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    /// Chat or a command.
    Talk,
    /// Nothing yet: the server must reply first.
    Awaiting(Awaiting),
    /// The password of a new or an existing account. A user types a new one twice; `first` is the
    /// first of the two.
    Password {
        new_account: bool,
        first: Option<String>,
    },
    /// The code of an invitation, which the server needs for the new name.
    Invitation,
    /// A password change: the old password, the new one, and the new one again.
    Passwd {
        old: Option<String>,
        new: Option<String>,
    },
    /// The public message, after `PM`.
    PublicText,
    /// The recipient of the direct message, after `DM`.
    DirectWho,
    /// The direct message.
    DirectText { to: String },
    /// The confirmation that `/pm bob …` is meant for everyone, although there is a user named bob.
    ConfirmPublic { text: String },
    /// The choice between a command from seed 004, typed without a slash, and a text for the
    /// recipient in the prompt.
    ConfirmCommand { line: String },
}

/// The awaited reply from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// `LOGIN`, or the password after it.
    Login,
    Passwd,
    /// `PM` alone.
    Public,
    /// `DM` alone.
    List,
    Join,
    Leave,
}

impl Awaiting {
    /// Returns whether an error with this code is the awaited reply. (Errors for earlier requests
    /// may still arrive.)
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
                    | E::RegistrationClosed
                    | E::InvitationNeeded
                    | E::BadInvitation
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
                E::AlreadyMember
                    | E::NoRoomLeft
                    | E::InviteOnly
                    | E::RoomPassword
                    | E::NotAllowed
                    | E::BadName
                    | E::LoginFirst
            ),
            Awaiting::Leave => matches!(
                code,
                E::NoSuchRoom | E::NotAMember | E::BadName | E::LoginFirst
            ),
        }
    }
}
