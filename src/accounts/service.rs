//! The server's accounts, stored in a file and shared with the other servers in a cluster.

use std::path::Path;
use std::sync::Arc;

use portal_core::event::Events;
use portal_core::service::Refusal;
use portal_net::lock::Mutex;
use portal_sessions::accounts::{Accounts as AccountService, PasswordChange, PasswordCheck};
use portal_wire::{ErrorCode, Name};

use crate::policies::{PolicyError, SharedPolicies, random_code};
use crate::{
    Account, AccountError, AccountRequest, Accounts, Damage, Decided, OpenAccounts, Rescued,
};

portal_core::event_kinds! {
    /// An event concerning the accounts file.
    pub enum AccountEvent {
        /// A line in the accounts file is invalid. It is kept, and the name on it is reserved.
        DamagedAccount = "damaged-account" {
            line: usize, reason: &'static str, fix: &'static str, name: Option<String>, file: String
        },
    }
}

/// Accounts that several servers share.
pub trait AccountDirectory: Send + Sync {
    /// Returns the shared account, if it exists and the lookup succeeds.
    fn find(&self, name: &Name) -> Option<Account>;

    /// Decides about a change to an account on behalf of all servers.
    fn decide(&self, wish: AccountRequest<'_>) -> Decided;
}

/// The clients that may register accounts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Register {
    /// Any client may.
    #[default]
    Open,
    /// A client with an invitation may.
    Invite,
    /// No client may.
    Closed,
}

/// The rules for registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub register: Register,
    /// The minimum number of characters in a new password.
    pub min_password: usize,
}

/// The accounts in a file, shared with the other servers in the cluster, if there is one.
pub struct SharedAccounts {
    file: Accounts,
    directory: Option<Arc<dyn AccountDirectory>>,
    /// A leaf lock.
    registration: Mutex<Registration>,
    /// The invitations.
    policies: Arc<SharedPolicies>,
    events: Events,
}

impl SharedAccounts {
    /// Opens the file; see [`Accounts::open`]. Emits an event for each damaged line.
    ///
    /// # Errors
    /// The same errors as [`Accounts::open`].
    pub fn open(
        path: &Path,
        directory: Option<Arc<dyn AccountDirectory>>,
        registration: Registration,
        policies: Arc<SharedPolicies>,
        events: &Events,
    ) -> Result<SharedAccounts, AccountError> {
        let OpenAccounts {
            accounts: file,
            damage,
            was_open_to_others,
        } = Accounts::open(path)?;
        let shared = SharedAccounts {
            file,
            directory,
            registration: Mutex::new(registration),
            policies,
            events: events.clone(),
        };
        if was_open_to_others {
            shared.events.emit_failure(
                "protect the accounts file",
                format!(
                    "other users had access to {}; access is now restricted to its owner (mode 0600)",
                    path.display()
                ),
            );
        }
        shared.report_damage(damage);
        Ok(shared)
    }

    /// Replaces the rules for registrations. Existing passwords stay valid.
    pub fn set_registration(&self, registration: Registration) {
        *self.registration.lock() = registration;
    }

    /// Returns the rules for registrations.
    pub fn registration(&self) -> Registration {
        *self.registration.lock()
    }

    /// Returns the account as this server knows it.
    pub(crate) fn find(&self, name: &Name) -> Option<Account> {
        self.file.find(name)
    }

    pub fn all(&self) -> Vec<Account> {
        self.file.all()
    }

    /// Replaces the password of an account with a random one, which it returns.
    ///
    /// # Errors
    /// [`AccountError`]. In that case, the old password remains valid.
    pub fn reset_password(&self, name: &Name) -> Result<(Name, String), AccountError> {
        let password = random_code().map_err(AccountError::Hash)?;
        let decide = |wish: AccountRequest<'_>| self.decide(wish);
        let name = self.file.reset_among(name, &password, decide)?;
        self.report_rescued();
        Ok((name, password))
    }

    /// Checks whether an account can be deleted.
    ///
    /// # Errors
    /// [`AccountError`], as [`SharedAccounts::delete`] would return it.
    pub fn may_delete(&self, name: &Name) -> Result<(), AccountError> {
        if self.directory.is_some() {
            return Err(AccountError::Shared);
        }
        self.file.check_registered(name)
    }

    /// Deletes an account. Its name can be registered again.
    ///
    /// # Errors
    /// [`AccountError`]. In that case, the account remains.
    pub fn delete(&self, name: &Name) -> Result<Name, AccountError> {
        self.may_delete(name)?;
        self.file.delete(name)
    }

    /// Returns the refusal for a new password that is too short.
    fn refuse_short(&self, password: &str) -> Option<Refusal> {
        let least = self.registration().min_password;
        (password.chars().count() < least).then(|| Refusal {
            code: ErrorCode::BadPassword,
            sentence: format!(
                "a new password must have at least {least} characters; choose a longer one"
            ),
        })
    }

    /// Returns the refusal for a new account, if registrations are not allowed.
    fn refuse_registration(&self, register: Register, invitation: Option<&str>) -> Option<Refusal> {
        let policies = &self.policies;
        let (code, sentence) = match register {
            Register::Open => return None,
            Register::Closed => (
                ErrorCode::RegistrationClosed,
                "that name has no account, and registration is closed; ask the operator for an account",
            ),
            Register::Invite => match invitation {
                Some(code) if policies.is_invitation(code) => return None,
                Some(_) => (ErrorCode::BadInvitation, USED),
                None => (
                    ErrorCode::InvitationNeeded,
                    "that name has no account, and registration requires an invitation; send its \
                     code with INVITATION, then log in again",
                ),
            },
        };
        let sentence = sentence.to_owned();
        Some(Refusal { code, sentence })
    }

    fn report_damage(&self, damage: Vec<Damage>) {
        for damage in damage {
            self.events.emit(|| AccountEvent::DamagedAccount {
                file: self.file.path().display().to_string(),
                line: damage.line,
                reason: damage.reason,
                fix: damage.fix,
                name: damage.name.map(|name| name.to_string()),
            });
        }
    }

    /// Emits an event if the file was replaced while the server was running.
    fn report_rescued(&self) {
        if let Some(Rescued { count, damage }) = self.file.take_rescued() {
            self.report_damage(damage);
            let accounts = if count == 1 { "account" } else { "accounts" };
            self.events.emit_failure(
                "check the accounts file",
                format!(
                    "the file was replaced, and the server restored {count} {accounts} missing \
                     from it; edit the file only while the server is stopped"
                ),
            );
        }
    }

    fn decide(&self, wish: AccountRequest<'_>) -> Decided {
        let directory = self.directory.as_ref();
        directory.map_or(Decided::Ours, |directory| directory.decide(wish))
    }

    fn refuse(&self, doing: &'static str, error: &AccountError) -> Refusal {
        let (code, sentence) = match error {
            AccountError::Undecided => (
                ErrorCode::Unreachable,
                "the other servers can't be reached, and one of them may have that account; try again in a minute",
            ),
            AccountError::Unprintable => {
                let (code, sentence) = (ErrorCode::BadPassword, error.to_string());
                return Refusal { code, sentence };
            }
            AccountError::Differs(_) => (
                ErrorCode::NotSaved,
                "the servers have two different passwords for that name; tell the operator, or choose another name",
            ),
            AccountError::Reserved(_) => (
                ErrorCode::NotSaved,
                "the account with that name is damaged on this server; tell the operator, or choose another name",
            ),
            _ => (ErrorCode::NotSaved, NOT_SAVED),
        };
        if code == ErrorCode::NotSaved {
            self.events.emit_failure(doing, error.to_string());
        }
        let sentence = sentence.to_owned();
        Refusal { code, sentence }
    }
}

const NOT_SAVED: &str = "the server can't store the account at the moment; try again later";

const USED: &str =
    "the invitation is not valid; each one works only once, so ask the operator for another";

/// An invitation that is being used. Dropping it makes it valid again.
struct UsedInvitation<'p> {
    policies: &'p SharedPolicies,
    code: Option<&'p str>,
}

impl UsedInvitation<'_> {
    fn keep(mut self) {
        self.code = None;
    }
}

impl Drop for UsedInvitation<'_> {
    fn drop(&mut self) {
        if let Some(code) = self.code {
            self.policies.return_invitation(code);
        }
    }
}

impl AccountService for SharedAccounts {
    /// Updates the account from the other servers. If they are unreachable, the local account is
    /// used, so that its owner can still take over the name.
    fn lookup(&self, name: &Name, invitation: Option<&str>) -> Result<bool, Refusal> {
        let theirs = self.directory.as_ref().and_then(|there| there.find(name));
        let adopted = theirs.map_or(Ok(()), |theirs| self.file.adopt(&theirs));
        let usable = adopted.and_then(|()| match self.file.is_reserved(name) {
            true => Err(AccountError::Reserved(name.clone())),
            false => Ok(()),
        });
        match usable {
            Ok(()) if self.file.knows(name) => Ok(true),
            Ok(()) => match self.refuse_registration(self.registration().register, invitation) {
                Some(refusal) => Err(refusal),
                None => Ok(false),
            },
            Err(error) => Err(self.refuse("look up an account", &error)),
        }
    }

    fn check_invitation(&self, code: &str) -> Result<(), Refusal> {
        let (code, sentence) = match self.registration().register {
            Register::Invite if self.policies.is_invitation(code) => return Ok(()),
            Register::Invite => (ErrorCode::BadInvitation, USED),
            Register::Open | Register::Closed => (
                ErrorCode::UnknownCommand,
                "this server does not use invitations",
            ),
        };
        let sentence = sentence.to_owned();
        Err(Refusal { code, sentence })
    }

    fn check(
        &self,
        name: &Name,
        password: &str,
        invitation: Option<&str>,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordCheck, Refusal> {
        let mut used = None;
        if !self.file.knows(name) {
            // Read this once: SIGHUP may replace it in between.
            let Registration { register, .. } = self.registration();
            let refusal = self.refuse_registration(register, invitation);
            if let Some(refusal) = refusal.or_else(|| self.refuse_short(password)) {
                return Err(refusal);
            }
            // Use the invitation before the account exists: a crash in between costs an invitation,
            // but never gives a second account.
            if let (Register::Invite, Some(code)) = (register, invitation) {
                let policies = &*self.policies;
                policies.use_invitation(code, name).map_err(|error| {
                    let (code, sentence) = match error {
                        PolicyError::NoSuchRule(_) => (ErrorCode::BadInvitation, USED),
                        error => {
                            let doing = "store an invitation's use";
                            self.events.emit_failure(doing, error.to_string());
                            (ErrorCode::NotSaved, NOT_SAVED)
                        }
                    };
                    let sentence = sentence.to_owned();
                    Refusal { code, sentence }
                })?;
                let code = Some(code);
                used = Some(UsedInvitation { policies, code });
            }
        }
        let decide = |wish: AccountRequest<'_>| self.decide(wish);
        let checked = self.file.check_among(name, password, given_up, decide);
        self.report_rescued();
        if let (Some(used), Ok(PasswordCheck::Registered(_))) = (used, &checked) {
            used.keep();
        }
        checked.map_err(|error| self.refuse("store an account", &error))
    }

    fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordChange, Refusal> {
        if let Some(refusal) = self.refuse_short(new) {
            return Err(refusal);
        }
        let decide = |wish: AccountRequest<'_>| self.decide(wish);
        let changed = self.file.change_among(name, old, new, given_up, decide);
        self.report_rescued();
        changed.map_err(|error| self.refuse("store a new password", &error))
    }
}
