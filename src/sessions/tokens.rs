//! The interface to session tokens, with which a client logs in again without its password.

use portal_wire::Name;

use portal_core::service::Refusal;

/// The tokens for all names. A token is valid for one name, until it expires or is revoked. A new
/// password or the deletion of the account also revokes it. Methods block: they wait for the disk.
pub trait SessionTokens: Send + Sync {
    /// Makes a token for a name that has just logged in. On return, it has been stored. If the name
    /// already has the maximum number of tokens, the oldest one is revoked.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be stored. In that case, no token is issued.
    fn issue(&self, name: &Name) -> Result<String, Refusal>;

    /// Returns the name, as it was registered, if the token is valid for it.
    ///
    /// # Errors
    /// [`Refusal`] if the answer is unknown.
    fn check(&self, name: &Name, token: &str) -> Result<Option<Name>, Refusal>;

    /// Revokes one token for a name, if the token is valid.
    ///
    /// # Errors
    /// [`Refusal`] if that can't be stored. In that case, the token remains valid.
    fn end(&self, name: &Name, token: &str) -> Result<(), Refusal>;

    /// Revokes all tokens for a name, and returns the number of revoked tokens.
    ///
    /// # Errors
    /// [`Refusal`] if that can't be stored. In that case, the tokens remain valid.
    fn end_all(&self, name: &Name) -> Result<usize, Refusal>;
}
