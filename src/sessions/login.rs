//! Login: `LOGIN` claims a name, and `PASSWORD` proves the claim (seed 002).

use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::accounts::{PasswordChange, PasswordCheck};
use crate::at_worker::AtWorker;
use crate::backplane::{Claim, Sender};
use crate::chat::NameClaim;
use crate::event::SessionEvent;
use crate::limits;
use crate::login_throttle::LoginThrottle;
use crate::turn::Session;
use portal_core::service::Refusal;
use portal_wire::{CloseReason, ErrorCode, Name, Secret, ServerDoc};

/// Names under which a user could be mistaken for the operator, or for a group of recipients.
const RESERVED: [&str; 3] = ["operator", "everyone", "all"];

impl Session<'_, AtWorker<'_>> {
    /// Handles a claim to a name. Asks for the password or, if names have no passwords, logs the
    /// client in if the name is free.
    ///
    /// # Errors
    /// The reason why the session ends: the client is banned.
    pub(crate) fn login(&mut self, username: &str) -> Result<(), CloseReason> {
        if self.connection().name().is_some() {
            self.already_logged_in();
            return Ok(());
        }
        let Some(name) = Name::new(username) else {
            let sentence = format!(
                "a name must be 1 to {} characters: letters (a to z), digits, `_`, `.` or `-`; \
                 choose another",
                limits::MAX_NAME_BYTES
            );
            self.outgoing.error(ErrorCode::BadName, &sentence);
            return Ok(());
        };
        if !name.is_for_a_person() {
            let sentence = "a name can't be a number or the word `server`; choose another";
            self.outgoing.error(ErrorCode::BadName, sentence);
            return Ok(());
        }
        if RESERVED
            .iter()
            .any(|word| word.eq_ignore_ascii_case(name.as_str()))
        {
            let sentence = format!("the name {name} is reserved; choose another");
            self.outgoing.error(ErrorCode::BadName, &sentence);
            return Ok(());
        }
        self.reject_if_name_banned(&name)?;
        match &self.state.logins.accounts {
            Some(accounts) => {
                // The lookup may take a while.
                self.outgoing.send_answers();
                match accounts.lookup(&name, self.role.invitation.as_deref()) {
                    Ok(exists) => {
                        self.role.claimed = Some(name);
                        let new_account = !exists;
                        self.outgoing.answer(&ServerDoc::Password { new_account });
                    }
                    Err(refusal) => self.refused(&refusal),
                }
                Ok(())
            }
            None => {
                // On a single server, a free name stays free until a client enters with it. So
                // revoke its tokens first; then none of them can take the name back after the
                // welcome.
                let state = self.state;
                if state.backplane.users().is_none() && state.users.find(&name).is_none() {
                    self.end_earlier_tokens(&name);
                }
                self.enter(&name, false)?;
                if self.connection().name().is_some() {
                    self.end_earlier_tokens(&name);
                }
                Ok(())
            }
        }
    }

    /// Revokes the session tokens for a name that has no password. The name belongs to the client
    /// that has it: an earlier client must not take it back.
    fn end_earlier_tokens(&self, name: &Name) {
        if let Err(refusal) = self.state.logins.tokens.end_all(name) {
            let doing = "revoke a name's earlier session tokens";
            self.state.events.emit_failure(doing, refusal.sentence);
        }
    }

    /// Checks a password. This takes a while, and longer after wrong passwords. Other logins wait
    /// for it, but chatting clients do not.
    pub(crate) fn password(&mut self, password: &Secret<'_>) -> Result<(), CloseReason> {
        if self.connection().name().is_some() {
            self.already_logged_in();
            return Ok(());
        }
        let (Some(accounts), Some(name)) = (&self.state.logins.accounts, self.role.claimed.clone())
        else {
            return self.login_first();
        };
        let Secret(password) = password;
        if !self.can_be_a_password(password) {
            return Ok(());
        }
        if !self.was_right(&name) {
            self.wait_to_guess(&name)?;
        }
        let over = || self.connection().outbox.has_ended() || self.state.clock.is_stopped();
        let port = self.outgoing.port;
        let invitation = self.role.invitation.as_deref();
        let check = accounts.check(&name, password, invitation, &over);
        if over() {
            // A connection that has been closed in the meantime must not take the name from a live
            // one.
            return Err(CloseReason::PeerClosed);
        }
        match check {
            Ok(PasswordCheck::GivenUp) => return Err(CloseReason::PeerClosed),
            Ok(PasswordCheck::Wrong) => self.wrong_password(&name)?,
            Ok(PasswordCheck::Registered(name)) => {
                self.right_password(&name);
                self.state.events.emit(|| SessionEvent::Registered {
                    port,
                    name: name.to_string(),
                });
                self.enter(&name, true)?;
            }
            Ok(PasswordCheck::Right(name)) => {
                self.right_password(&name);
                self.enter(&name, true)?;
            }
            Err(refusal) => self.refused(&refusal),
        }
        Ok(())
    }

    /// Logs in with a session token, which takes the name over like a password. A wrong token
    /// counts like a wrong password, except that later logins are not delayed: a token can't be
    /// guessed, and a client may have kept one that has been revoked.
    pub(crate) fn resume(&mut self, username: &str, token: &str) -> Result<(), CloseReason> {
        if self.connection().name().is_some() {
            self.already_logged_in();
            return Ok(());
        }
        let Some(name) = Name::new(username).filter(Name::is_for_a_person) else {
            let sentence = "that is not a valid username; log in with another";
            self.outgoing.error(ErrorCode::BadName, sentence);
            return Ok(());
        };
        self.reject_if_name_banned(&name)?;
        // The check may take a while.
        self.outgoing.send_answers();
        let checked = self.state.logins.tokens.check(&name, token);
        if self.connection().outbox.has_ended() {
            // A connection that has been closed in the meantime must not take the name from a live
            // one.
            return Err(CloseReason::PeerClosed);
        }
        match checked {
            Ok(Some(name)) => self.enter(&name, true),
            Ok(None) => self.wrong_token(&name),
            Err(refusal) => {
                self.refused(&refusal);
                Ok(())
            }
        }
    }

    fn wrong_token(&mut self, name: &Name) -> Result<(), CloseReason> {
        let port = self.outgoing.port;
        self.state.events.emit(|| SessionEvent::WrongToken {
            port,
            name: name.to_string(),
        });
        let sentence = format!("you are no longer signed in as {name}; log in again");
        self.outgoing.error(ErrorCode::BadToken, &sentence);
        self.role.wrong_passwords += 1;
        match self.role.wrong_passwords < limits::WRONG_PASSWORDS {
            true => Ok(()),
            false => Err(CloseReason::WrongPassword),
        }
    }

    /// Sends the client a session token, one for each login and each new password: each token is
    /// written to disk.
    pub(crate) fn issue_token(&mut self, name: &Name) {
        if self.role.has_token {
            let sentence = "this session already has its token";
            return self.outgoing.error(ErrorCode::NotAllowed, sentence);
        }
        self.outgoing.send_answers();
        match self.state.logins.tokens.issue(name) {
            Ok(token) => {
                self.role.has_token = true;
                self.outgoing.answer(&ServerDoc::Token {
                    token: Secret(token.into()),
                });
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    /// Revokes the client's token and ends its session.
    pub(crate) fn logout(&mut self, name: &Name, token: &str) -> Result<(), CloseReason> {
        self.outgoing.send_answers();
        if let Err(refusal) = self.state.logins.tokens.end(name, token) {
            self.refused(&refusal);
        }
        let port = self.outgoing.port;
        self.state.events.emit(|| SessionEvent::LoggedOut {
            port,
            name: name.to_string(),
        });
        Err(CloseReason::Terminate)
    }

    /// Keeps the code of an invitation for the account that the client registers next. A wrong code
    /// counts as an invalid request, so several in a row end the session.
    pub(crate) fn invitation(&mut self, code: &str) -> Result<(), CloseReason> {
        let checked = match &self.state.logins.accounts {
            Some(accounts) => accounts.check_invitation(code),
            None => Err(Refusal {
                code: ErrorCode::UnknownCommand,
                sentence: "this server does not use passwords, so no invitation is needed"
                    .to_owned(),
            }),
        };
        if let Err(refusal) = checked {
            return self.refuse_as(refusal.code, &refusal.sentence);
        }
        self.role.invitation = Some(code.to_owned());
        let sentence = "the invitation is valid; log in with the name that you want";
        self.outgoing.answer(&ServerDoc::Notice(sentence.into()));
        Ok(())
    }

    /// Changes the password of the client's account. A wrong old password counts as a guess.
    pub(crate) fn change_password(&mut self, old: &str, new: &str) -> Result<(), CloseReason> {
        let (Some(accounts), Some(name)) = (&self.state.logins.accounts, self.connection().name())
        else {
            let sentence = "this server does not use passwords";
            return self.refuse_as(ErrorCode::UnknownCommand, sentence);
        };
        if !self.can_be_a_password(new) {
            return Ok(());
        }
        if !self.was_right(&name) {
            self.wait_to_guess(&name)?;
        }
        let over = || self.connection().outbox.has_ended() || self.state.clock.is_stopped();
        match accounts.change(&name, old, new, &over) {
            Ok(PasswordChange::Changed) => {
                self.right_password(&name);
                // The new password has revoked the token.
                self.role.has_token = false;
                let port = self.outgoing.port;
                self.state.events.emit(|| SessionEvent::PasswordChanged {
                    port,
                    name: name.to_string(),
                });
                self.outgoing.answer(&ServerDoc::PasswordChanged);
            }
            Ok(PasswordChange::Wrong) => self.wrong_password(&name)?,
            Ok(PasswordChange::GivenUp) => return Err(CloseReason::PeerClosed),
            Err(refusal) => self.refused(&refusal),
        }
        Ok(())
    }

    /// Returns whether `password` has a valid length; otherwise answers with an error.
    fn can_be_a_password(&mut self, password: &str) -> bool {
        let fits = (1..=limits::PASSWORD).contains(&password.len());
        if !fits {
            let sentence = format!(
                "a password must be 1 to {} bytes long; choose another",
                limits::PASSWORD
            );
            self.outgoing.error(ErrorCode::BadPassword, &sentence);
        }
        fits
    }

    /// Login throttling: delays the check after wrong guesses, while the client is connected.
    fn wait_to_guess(&mut self, name: &Name) -> Result<(), CloseReason> {
        self.wait_for_slot(&self.state.logins.guesses, name)
    }

    /// Waits for the time at which a password for `name`, a user or a room, may be checked.
    pub(crate) fn wait_for_slot(
        &mut self,
        guesses: &LoginThrottle,
        name: &Name,
    ) -> Result<(), CloseReason> {
        self.outgoing.send_answers();
        let clock = &self.state.clock;
        let address = self.connection().peer.ip();
        let slot = guesses.slot(address, name, clock.now());
        while clock.now() < slot.at {
            self.wait_past(clock.now())
                .inspect_err(|_| guesses.give_back(address, name, slot))?;
        }
        Ok(())
    }

    /// Returns whether this address has given the right password before. If so, a password is
    /// checked before the wait, and only a wrong one waits.
    fn was_right(&self, name: &Name) -> bool {
        let address = self.connection().peer.ip();
        self.state.logins.guesses.was_right(address, name)
    }

    fn right_password(&self, name: &Name) {
        let (now, address) = (self.state.clock.now(), self.connection().peer.ip());
        self.state.logins.guesses.right(address, name, now);
    }

    /// Counts a wrong guess and answers it. The last allowed one ends the session.
    fn wrong_password(&mut self, name: &Name) -> Result<(), CloseReason> {
        if self.was_right(name) {
            self.wait_to_guess(name)?;
        }
        let port = self.outgoing.port;
        self.state.events.emit(|| SessionEvent::WrongPassword {
            port,
            name: name.to_string(),
        });
        let now = self.state.clock.now();
        self.state
            .logins
            .guesses
            .wrong(self.connection().peer.ip(), name, now);
        self.role.wrong_passwords += 1;
        let left = limits::WRONG_PASSWORDS.saturating_sub(self.role.wrong_passwords);
        let sentence = format!("wrong password for {name}; attempts left: {left}");
        self.outgoing.answer(&ServerDoc::Error {
            code: ErrorCode::WrongPassword,
            sentence: sentence.into(),
        });
        if left == 0 {
            return Err(CloseReason::WrongPassword);
        }
        Ok(())
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.outgoing.error(refusal.code, &refusal.sentence);
    }

    fn enter(&mut self, name: &Name, take_over: bool) -> Result<(), CloseReason> {
        self.outgoing.wait_for_pending();
        let entry = match self.entry(name, take_over) {
            Ok(entry) => entry,
            Err(Claim::Unreachable) => {
                let sentence = "the other servers are unreachable, and the name may be in use on one of them; try again in a minute";
                self.outgoing.error(ErrorCode::Unreachable, sentence);
                return Ok(());
            }
            Err(Claim::InUse | Claim::Granted) => NameClaim::InUse,
        };
        match entry {
            NameClaim::InUse => {
                let sentence = format!("the name {name} is already in use; choose another");
                self.outgoing.error(ErrorCode::NameInUse, &sentence);
                return Ok(());
            }
            // A dropped connection must not lock the account's owner out: the password gives access
            // to the name.
            NameClaim::TookOver(before) => {
                before.outbox.end(CloseReason::TakenOver);
                // Leave the rooms now, so that no room has two members with this name.
                self.state.rooms.leave_all(&before);
            }
            NameClaim::Entered => {}
        }
        self.role.claimed = None;
        self.outgoing.label = self.connection().label();
        let port = self.outgoing.port;
        self.state.events.emit(|| SessionEvent::LoggedIn {
            port,
            name: name.to_string(),
        });
        self.state.pairs.logged_in(self.role.seat.number);
        let greeting = self.state.logins.message_of_the_day.lock().clone();
        if let Some(text) = greeting {
            self.outgoing.answer(&ServerDoc::Notice(text.into()));
        }
        if self.state.policies.is_moderator(name) {
            let text = "you are a moderator: you can remove, mute and ban users";
            self.outgoing.answer(&ServerDoc::Notice(text.into()));
        }
        self.reject_if_name_banned(name)
    }

    /// Claims the name on all servers.
    fn entry(&self, name: &Name, take_over: bool) -> Result<NameClaim, Claim> {
        let users = &self.state.users;
        let is_ours = users.find(name).is_some();
        let (entered, entry) = bounded(1);
        let (users, connection, named) = (
            Arc::clone(users),
            Arc::clone(self.connection()),
            name.clone(),
        );
        let is_moderator = self.state.policies.is_moderator(name);
        // This runs in the order in which names are granted: of two claims on this server, the
        // later one gets the name.
        let granted = move |take_over| {
            let welcome = ServerDoc::LoggedIn {
                username: named.as_str().into(),
                moderator: is_moderator,
            };
            let _ = entered.send(users.enter(&named, &connection, take_over, &welcome));
        };
        let sender = Sender {
            session: self.connection().session(),
            name,
        };
        let backplane = &self.state.backplane;
        let claim = backplane.claim(sender, take_over, is_ours, Box::new(granted));
        match claim {
            Claim::Granted => entry.recv().map_err(|_| Claim::Unreachable),
            claim => Err(claim),
        }
    }

    fn already_logged_in(&mut self) {
        let sentence = format!(
            "you are already logged in as {}; reconnect to use another name",
            self.outgoing.label
        );
        self.outgoing.error(ErrorCode::AlreadyLoggedIn, &sentence);
    }
}
