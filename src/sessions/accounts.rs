//! The interface to the names and passwords that clients log in with (seed 002).

use portal_core::service::Refusal;
use portal_wire::Name;

/// Names that are protected by passwords. Methods block: they queue for the password hash, which
/// takes 20 ms of CPU time, and wait for the disk.
pub trait Accounts: Send + Sync {
    /// Returns whether the name has an account. `invitation` is the code that the client has sent,
    /// if any.
    ///
    /// # Errors
    /// [`Refusal`] if logins with this name are impossible now.
    fn lookup(&self, name: &Name, invitation: Option<&str>) -> Result<bool, Refusal>;

    /// Checks the code of an invitation. The code stays valid until an account is registered with
    /// it.
    ///
    /// # Errors
    /// [`Refusal`] if it is not valid, or none is needed.
    fn check_invitation(&self, code: &str) -> Result<(), Refusal>;

    /// Checks the password of an account, or registers the account if it does not exist. A
    /// registered account has been written to disk. `given_up` is called before the work begins.
    ///
    /// # Errors
    /// [`Refusal`] if the account can't be stored. In that case, it does not exist.
    fn check(
        &self,
        name: &Name,
        password: &str,
        invitation: Option<&str>,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordCheck, Refusal>;

    /// Replaces the password of an account if `old` is its current password.
    ///
    /// # Errors
    /// [`Refusal`] if the new password can't be stored. In that case, the old one remains valid.
    fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordChange, Refusal>;
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
