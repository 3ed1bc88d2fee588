//! The interface to the names and passwords that clients log in with (seed 002).

use portal_wire::{ErrorCode, Name};

/// Names that are protected by passwords. Methods block: they queue for the password hash, which
/// takes 20 ms of CPU time, and wait for the disk.
pub trait Accounts: Send + Sync {
    /// Returns whether the name has an account.
    ///
    /// # Errors
    /// [`LoginRefusal`] if logins with that name are impossible now.
    fn lookup(&self, name: &Name) -> Result<bool, LoginRefusal>;

    /// Checks the password of an account, or registers the account if it does not exist. A
    /// registered account has been written to disk. `given_up` is called before the work begins.
    ///
    /// # Errors
    /// [`LoginRefusal`] if the account can't be stored; then it does not exist.
    fn check(
        &self,
        name: &Name,
        password: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordCheck, LoginRefusal>;

    /// Replaces the password of an account if `old` is its current password.
    ///
    /// # Errors
    /// [`LoginRefusal`] if the new password can't be stored; then the old one remains.
    fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordChange, LoginRefusal>;
}

/// The error sent to the client. An event contains the details for the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct LoginRefusal {
    /// Its code.
    pub code: ErrorCode,
    /// The reason and the fix.
    pub sentence: String,
}

/// The result of [`Accounts::check`].
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// The account did not exist and was registered.
    Registered(Name),
    /// The password is correct. The name is spelled as it was registered.
    Right(Name),
    /// The password is wrong.
    Wrong,
    /// The client has disconnected.
    GivenUp,
}

/// The result of [`Accounts::change`].
#[derive(Debug, PartialEq, Eq)]
pub enum PasswordChange {
    /// The password was changed.
    Changed,
    /// `old` is not the account's password.
    Wrong,
    /// The client has disconnected.
    GivenUp,
}
