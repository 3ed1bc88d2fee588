//! Getting a name: `LOGIN` says who, `PASSWORD` proves it (seed 002).

use super::room;
use super::session::Session;
use crate::event::{End, What};
use crate::hall::{Entry, Name, PasswordCheck};
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
        if !(1..=limits::PASSWORD).contains(&password.len()) {
            let sentence = format!(
                "a password is 1 to {} bytes long; choose another",
                limits::PASSWORD
            );
            self.error(ErrorCode::BadPassword, &sentence);
            return Ok(true);
        }
        self.send_answers();
        let address = self.guest.peer.ip();
        let slot = {
            let now = self.house.clock.now();
            self.house.guesses.slot(address, &name, now)
        };
        while self.house.clock.now() < slot {
            self.wait_past(self.house.clock.now())?;
        }
        let over = || self.guest.outbox.is_over() || self.house.clock.is_stopped();
        let port = self.home.port();
        let check = accounts.check(&name, password, over);
        if let Some(count) = accounts.take_rescued() {
            self.house.events.tell(|| What::Trouble {
                doing: "find the accounts file as it was",
                error: format!(
                    "it has been replaced, and got the {count} accounts that it lacked; \
                     edit it while the server is stopped"
                ),
            });
        }
        if over() {
            // A connection that ended meanwhile must not take the name from a living one.
            return Err(End::Gone);
        }
        match check {
            Ok(PasswordCheck::GivenUp) => return Err(End::Gone),
            Ok(PasswordCheck::Wrong) => {
                self.house.events.tell(|| What::WrongPassword {
                    port,
                    name: name.to_string(),
                });
                let now = self.house.clock.now();
                self.house.guesses.wrong(address, &name, now);
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
            }
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
            Err(error) => {
                self.house.events.tell(|| What::Trouble {
                    doing: "store an account",
                    error: error.to_string(),
                });
                self.error(
                    ErrorCode::NotSaved,
                    "the server can't store the account now; try again later",
                );
            }
        }
        Ok(true)
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
                room::leave_all(self.house, &before);
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
