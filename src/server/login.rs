//! Getting a name: `LOGIN` says who, `PASSWORD` proves it (seed 002).

use super::rooms;
use super::session::Session;
use crate::event::{End, What};
use crate::hall::{AccountError, Accounts, Entry, Name, PasswordChange, PasswordCheck};
use crate::limits;
use crate::wire::{ErrorCode, Secret, ServerDoc};

impl Session<'_> {
    /// Somebody says who they are. They are asked for the password, or, where names are not
    /// protected, let in if the name is free.
    pub(super) fn login(&mut self, username: &str) {
        if self.guest.name().is_some() {
            return self.already_logged_in();
        }
        let Some(name) = Name::new(username) else {
            let sentence = format!(
                "a name is 1 to {} letters (a to z), digits, _ . or -; choose another",
                limits::NAME
            );
            return self.error(ErrorCode::BadName, &sentence);
        };
        if !name.is_for_a_person() {
            let sentence = "a name is neither a number, as a seat has, nor server; choose another";
            return self.error(ErrorCode::BadName, sentence);
        }
        match &self.house.accounts {
            Some(accounts) => {
                let new_account = !accounts.knows(&name);
                self.claimed = Some(name);
                self.answer(&ServerDoc::Password { new_account });
            }
            None => self.enter(&name, false),
        }
    }

    /// The proof. Returns whether it was understood, right or wrong. It takes a while; others who
    /// log in wait for it, but nobody who chats does. Who has guessed before waits longer.
    pub(super) fn password(&mut self, password: &Secret<'_>) -> Result<bool, End> {
        if self.guest.name().is_some() {
            self.already_logged_in();
            return Ok(true);
        }
        let (Some(accounts), Some(name)) = (&self.house.accounts, self.claimed.clone()) else {
            return self.login_first().map(|()| false);
        };
        let Secret(password) = password;
        if !self.can_be_a_password(password) {
            return Ok(true);
        }
        self.wait_to_guess(&name)?;
        let address = self.guest.peer.ip();
        let over = || self.guest.outbox.is_over() || self.house.clock.is_stopped();
        let port = self.home.port();
        let check = accounts.check(&name, password, over);
        self.tell_of_rescued(accounts);
        if over() {
            // A connection that ended meanwhile must not take the name from a living one.
            return Err(End::Gone);
        }
        match check {
            Ok(PasswordCheck::GivenUp) => return Err(End::Gone),
            Ok(PasswordCheck::Wrong) => self.wrong_password(&name)?,
            Ok(PasswordCheck::Registered(name)) => {
                self.house.events.tell(|| What::Registered {
                    port,
                    name: name.to_string(),
                });
                self.enter(&name, true);
            }
            Ok(PasswordCheck::Right(name)) => {
                self.house.guesses.right(address, &name);
                self.enter(&name, true);
            }
            Err(error) => self.not_saved("store an account", &error),
        }
        Ok(true)
    }

    /// Another password for the account of whoever asks. Returns whether it was understood. A wrong
    /// old password is a guess like any other.
    pub(super) fn change_password(&mut self, old: &str, new: &str) -> Result<bool, End> {
        let (Some(accounts), Some(name)) = (&self.house.accounts, self.guest.name()) else {
            let sentence = "this server keeps no passwords";
            return self
                .refuse_as(ErrorCode::UnknownCommand, sentence)
                .map(|()| false);
        };
        if !self.can_be_a_password(new) {
            return Ok(true);
        }
        self.wait_to_guess(&name)?;
        let address = self.guest.peer.ip();
        let over = || self.guest.outbox.is_over() || self.house.clock.is_stopped();
        let changed = accounts.change(&name, old, new, over);
        self.tell_of_rescued(accounts);
        match changed {
            Ok(PasswordChange::Changed) => {
                self.house.guesses.right(address, &name);
                let port = self.home.port();
                self.house.events.tell(|| What::PasswordChanged {
                    port,
                    name: name.to_string(),
                });
                self.answer(&ServerDoc::PasswordChanged);
            }
            Ok(PasswordChange::Wrong) => self.wrong_password(&name)?,
            Ok(PasswordChange::GivenUp) => return Err(End::Gone),
            Err(error) => self.not_saved("store a new password", &error),
        }
        Ok(true)
    }

    /// Whether `password` has a length that a password may have; if not, the client is told.
    fn can_be_a_password(&mut self, password: &str) -> bool {
        let fits = (1..=limits::PASSWORD).contains(&password.len());
        if !fits {
            let sentence = format!(
                "a password is 1 to {} bytes long; choose another",
                limits::PASSWORD
            );
            self.error(ErrorCode::BadPassword, &sentence);
        }
        fits
    }

    /// Whoever has guessed before waits until it is their turn again.
    fn wait_to_guess(&mut self, name: &Name) -> Result<(), End> {
        self.send_answers();
        let address = self.guest.peer.ip();
        let slot = {
            let now = self.house.clock.now();
            self.house.guesses.slot(address, name, now)
        };
        while self.house.clock.now() < slot {
            self.wait_past(self.house.clock.now())?;
        }
        Ok(())
    }

    fn tell_of_rescued(&self, accounts: &Accounts) {
        if let Some(count) = accounts.take_rescued() {
            self.house.events.tell(|| What::Trouble {
                doing: "find the accounts file as it was",
                error: format!(
                    "it has been replaced, and got the {count} accounts that it lacked; \
                     edit it while the server is stopped"
                ),
            });
        }
    }

    /// Notes a wrong guess and says so. The last one that is allowed ends the session.
    fn wrong_password(&mut self, name: &Name) -> Result<(), End> {
        let port = self.home.port();
        self.house.events.tell(|| What::WrongPassword {
            port,
            name: name.to_string(),
        });
        let now = self.house.clock.now();
        self.house.guesses.wrong(self.guest.peer.ip(), name, now);
        self.wrong_passwords += 1;
        let left = limits::WRONG_PASSWORDS.saturating_sub(self.wrong_passwords);
        let sentence = format!("that is not the password of {name}; tries left: {left}");
        self.answer(&ServerDoc::Error {
            code: ErrorCode::WrongPassword,
            sentence: sentence.into(),
        });
        if left == 0 {
            return Err(End::WrongPassword);
        }
        Ok(())
    }

    fn not_saved(&mut self, doing: &'static str, error: &AccountError) {
        self.house.events.tell(|| What::Trouble {
            doing,
            error: error.to_string(),
        });
        self.error(
            ErrorCode::NotSaved,
            "the server can't store the account now; try again later",
        );
    }

    fn enter(&mut self, name: &Name, take_over: bool) {
        self.send_answers();
        let welcome = ServerDoc::LoggedIn {
            username: name.as_str().into(),
        };
        match self
            .house
            .people
            .enter(name, self.guest, take_over, &welcome)
        {
            Entry::InUse => {
                let sentence =
                    format!("somebody here is called {name} already; choose another name");
                return self.error(ErrorCode::NameInUse, &sentence);
            }
            // A dropped link must not lock its owner out: whoever has the password gets the name.
            Entry::TookOver(before) => {
                before.outbox.end(End::TakenOver);
                // At once, so that the rooms never hold the same person twice.
                rooms::leave_all(self.house, &before);
            }
            Entry::Entered => {}
        }
        self.claimed = None;
        self.label = self.guest.label();
        let port = self.home.port();
        self.house.events.tell(|| What::LoggedIn {
            port,
            name: name.to_string(),
        });
        if let Some(text) = &self.house.message_of_the_day {
            self.answer(&ServerDoc::Notice(text.as_str().into()));
        }
    }

    fn already_logged_in(&mut self) {
        let sentence = format!(
            "you are {} already; connect again to be somebody else",
            self.label
        );
        self.error(ErrorCode::AlreadyLoggedIn, &sentence);
    }
}
