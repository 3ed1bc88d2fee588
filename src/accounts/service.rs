//! The server's accounts, stored in a file and shared with the other servers of a cluster.

use std::path::Path;
use std::sync::Arc;

use portal_core::accounts::{
    Accounts as AccountService, LoginRefusal, PasswordChange, PasswordCheck,
};
use portal_core::event::Events;
use portal_wire::{ErrorCode, Name};

use crate::{
    Account, AccountError, AccountRequest, Accounts, Damage, Decided, OpenAccounts, Rescued,
};

portal_core::event_kinds! {
    /// An event concerning the accounts file.
    pub enum AccountEvent {
        /// A line of the accounts file is invalid. It is kept, and the name on it is reserved.
        DamagedAccount = "damaged-account" {
            line: usize, reason: &'static str, fix: &'static str, name: Option<String>, file: String
        },
    }
}

/// Accounts that several servers share.
pub trait AccountDirectory: Send + Sync {
    /// Returns the shared account, if it exists and the lookup succeeds.
    fn find(&self, name: &Name) -> Option<Account>;

    /// Decides on a change to an account, for all servers.
    fn decide(&self, wish: AccountRequest<'_>) -> Decided;
}

/// The accounts in a file, shared with the other servers of the cluster, if there is one.
pub struct SharedAccounts {
    file: Accounts,
    directory: Option<Arc<dyn AccountDirectory>>,
    events: Events,
}

impl SharedAccounts {
    /// Opens the file; see [`Accounts::open`]. Emits an event for each damaged line.
    ///
    /// # Errors
    /// Those of [`Accounts::open`].
    pub fn open(
        path: &Path,
        directory: Option<Arc<dyn AccountDirectory>>,
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

    pub fn all(&self) -> Vec<Account> {
        self.file.all()
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
                "find the accounts file unchanged",
                format!(
                    "it was replaced, and the server added {count} {accounts} that it lacked; \
                     edit it only while the server is stopped"
                ),
            );
        }
    }

    fn decide(&self, wish: AccountRequest<'_>) -> Decided {
        let directory = self.directory.as_ref();
        directory.map_or(Decided::Ours, |directory| directory.decide(wish))
    }

    fn refuse(&self, doing: &'static str, error: &AccountError) -> LoginRefusal {
        let (code, sentence) = match error {
            AccountError::Undecided => (
                ErrorCode::Unreachable,
                "the other servers can't be reached, and one of them may have that account; try again in a minute",
            ),
            AccountError::Unprintable => {
                let (code, sentence) = (ErrorCode::BadPassword, error.to_string());
                return LoginRefusal { code, sentence };
            }
            AccountError::Differs(_) => (
                ErrorCode::NotSaved,
                "the servers have two different passwords for that name; tell the operator, or choose another name",
            ),
            AccountError::Reserved(_) => (
                ErrorCode::NotSaved,
                "the account with that name is damaged on this server; tell the operator, or choose another name",
            ),
            _ => (
                ErrorCode::NotSaved,
                "the server can't store the account at the moment; try again later",
            ),
        };
        if code == ErrorCode::NotSaved {
            self.events.emit_failure(doing, error.to_string());
        }
        let sentence = sentence.to_owned();
        LoginRefusal { code, sentence }
    }
}

impl AccountService for SharedAccounts {
    /// Updates the account from the other servers. If they are unreachable, the local account is
    /// used, so that its owner can still take over the name.
    fn lookup(&self, name: &Name) -> Result<bool, LoginRefusal> {
        let theirs = self.directory.as_ref().and_then(|there| there.find(name));
        let adopted = theirs.map_or(Ok(()), |theirs| self.file.adopt(&theirs));
        let usable = adopted.and_then(|()| match self.file.is_reserved(name) {
            true => Err(AccountError::Reserved(name.clone())),
            false => Ok(()),
        });
        match usable {
            Ok(()) => Ok(self.file.knows(name)),
            Err(error) => Err(self.refuse("look up an account", &error)),
        }
    }

    fn check(
        &self,
        name: &Name,
        password: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordCheck, LoginRefusal> {
        let decide = |wish: AccountRequest<'_>| self.decide(wish);
        let checked = self.file.check_among(name, password, given_up, decide);
        self.report_rescued();
        checked.map_err(|error| self.refuse("store an account", &error))
    }

    fn change(
        &self,
        name: &Name,
        old: &str,
        new: &str,
        given_up: &dyn Fn() -> bool,
    ) -> Result<PasswordChange, LoginRefusal> {
        let decide = |wish: AccountRequest<'_>| self.decide(wish);
        let changed = self.file.change_among(name, old, new, given_up, decide);
        self.report_rescued();
        changed.map_err(|error| self.refuse("store a new password", &error))
    }
}
