//! The seam to the names and passwords that clients log in with (seed 002).

use portal_wire::{ErrorCode, Name};

/// Names that passwords protect. Methods block: for the 20 ms that hashing takes, for their turn
/// before that, and for the disk.
pub trait Accounts: Send + Sync {
    /// Returns whether the name has an account.
    ///
    /// # Errors
    /// [`Refusal`] if nobody can log in with that name now.
    fn lookup(&self, name: &Name) -> Result<bool, Refusal>;

    /// Checks the password of an account, or registers the account if there is none. A registered
    /// account is on the disk. `given_up` is asked before the work begins.
    ///
    /// # Errors
    /// [`Refusal`] if the account can't be stored; then there is none.
    fn check(
        &self,
        name: &Name,
        password: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordCheck, Refusal>;

    /// Replaces the password of an account, if `old` is its password so far.
    ///
    /// # Errors
    /// [`Refusal`] if the new password can't be stored; then the old one remains.
    fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordChange, Refusal>;
}

/// The error that the client gets. What the operator must know is an event.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: ErrorCode,
    /// The reason and the fix.
    pub sentence: String,
}

/// The result of [`Accounts::check`].
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// There was no account; now there is one.
    Registered(Name),
    /// It is the account's password. The name is spelled as it was registered.
    Right(Name),
    /// It is not.
    Wrong,
    /// The client has gone.
    GivenUp,
}

/// The result of [`Accounts::change`].
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordChange {
    /// The new password counts.
    Changed,
    /// `old` is not the account's password.
    Wrong,
    /// The client has gone.
    GivenUp,
}
