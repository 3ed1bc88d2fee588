//! The interface to session tokens, with which a client logs in again without its password.

use portal_wire::Name;

use portal_core::service::Refusal;

/// The tokens of all names. A token is valid for one name, until it expires or is ended; a new
/// password or the end of the account also ends it. Methods block: they wait for the disk.
pub trait SessionTokens: Send + Sync {
    /// Makes a token for a name that has just logged in. On return, it has been stored. If the name
    /// has as many as it may have, its oldest one ends.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be stored; then there is none.
    fn issue(&self, name: &Name) -> Result<String, Refusal>;

    /// Returns the name, as it was registered, if the token is valid for it.
    ///
    /// # Errors
    /// [`Refusal`] if the answer is unknown.
    fn check(&self, name: &Name, token: &str) -> Result<Option<Name>, Refusal>;

    /// Ends one token of a name, if it is valid.
    ///
    /// # Errors
    /// [`Refusal`] if that can't be stored; then the token remains valid.
    fn end(&self, name: &Name, token: &str) -> Result<(), Refusal>;

    /// Ends all tokens of a name, and returns their number.
    ///
    /// # Errors
    /// [`Refusal`] if that can't be stored; then they remain valid.
    fn end_all(&self, name: &Name) -> Result<usize, Refusal>;
}
