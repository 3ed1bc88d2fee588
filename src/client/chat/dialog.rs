//! Questions to the user, and their answers. A question is asked only when it can be shown, and
//! only text typed after that counts as the answer.

use super::old_name::NameRefused;
use super::question::{Awaiting, Dialog};
use super::state::{Chat, Credentials, Handled, SessionEnd};
use crate::commands;
use portal_cli::terminal::PromptKind;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Secret};

impl Chat {
    /// Returns the open question: `None` if there is none, `Some(None)` while the server must reply
    /// first.
    pub(super) fn question(&self) -> Option<Option<(String, PromptKind)>> {
        let username = || {
            self.login
                .credentials
                .as_ref()
                .map_or("you", |known| known.username.as_str())
        };
        let me = self.login.me.as_deref().unwrap_or("you");
        Some(match &self.dialog {
            Dialog::Talk => return None,
            Dialog::Awaiting(_) => None,
            Dialog::Password { first: Some(_), .. } => {
                Some(("repeat the password".to_owned(), PromptKind::Hidden))
            }
            Dialog::Password {
                new_account: true, ..
            } => Some((
                format!("choose a password for {}", username()),
                PromptKind::Hidden,
            )),
            Dialog::Password { .. } => {
                Some((format!("password for {}", username()), PromptKind::Hidden))
            }
            Dialog::Invitation => Some((
                format!("invitation code for {}", username()),
                PromptKind::Hidden,
            )),
            Dialog::Passwd { old: None, .. } => {
                Some((format!("current password for {me}"), PromptKind::Hidden))
            }
            Dialog::Passwd { new: None, .. } => {
                Some((format!("new password for {me}"), PromptKind::Hidden))
            }
            Dialog::Passwd { .. } => {
                Some(("repeat the new password".to_owned(), PromptKind::Hidden))
            }
            Dialog::PublicText => Some(("message for everyone".to_owned(), PromptKind::Line)),
            Dialog::DirectWho => Some(("recipient".to_owned(), PromptKind::Line)),
            Dialog::DirectText { to } => Some((format!("message for {to}"), PromptKind::Line)),
            Dialog::ConfirmPublic { .. } => Some((
                "send the message to everyone? (yes/no)".to_owned(),
                PromptKind::Answer,
            )),
            Dialog::ConfirmCommand { line } => Some((
                format!("run /{line}, or send it as text? (run/send)"),
                PromptKind::Answer,
            )),
        })
    }

    /// Asks a question.
    pub(super) fn ask(&mut self, dialog: Dialog) {
        self.questions += 1;
        self.dialog = dialog;
    }

    /// Handles the answer to the open question.
    pub(super) fn answered(&mut self, line: &str) -> Handled {
        let is_hidden = matches!(self.question(), Some(Some((_, PromptKind::Hidden))));
        let leaves = if is_hidden {
            line.trim().eq_ignore_ascii_case("/cancel")
        } else {
            commands::is_known_command(line)
        };
        if leaves {
            // A command typed at a question is not an answer. In particular, it must not become a
            // public message.
            self.leave_dialog()?;
            let is_cancel = line.trim().eq_ignore_ascii_case("/cancel");
            return if is_hidden || is_cancel {
                Ok(())
            } else {
                self.talk(line)
            };
        }
        // A password manager may paste the end of the line, too.
        let line = if is_hidden {
            line.trim_end_matches('\n')
        } else {
            line
        };
        if is_hidden && line.contains('\n') {
            self.screen
                .trouble("a password must be a single line; nothing was sent");
            return Ok(());
        }
        if line.trim().is_empty() {
            self.screen
                .notice("nothing was sent; /cancel cancels this question");
            return Ok(());
        }
        match std::mem::replace(&mut self.dialog, Dialog::Talk) {
            Dialog::Talk | Dialog::Awaiting(_) => self.talk(line),
            Dialog::Password { new_account, first } => self.password(line, new_account, first),
            Dialog::Invitation => {
                let code = Secret(line.trim().into());
                self.command(ClientCommand::Invitation { code })?;
                match self
                    .login
                    .credentials
                    .as_ref()
                    .map(|known| known.username.clone())
                {
                    Some(username) => self.log_in(&username),
                    None => Ok(()),
                }
            }
            Dialog::Passwd { old, new } => self.passwd(line, old, new),
            Dialog::PublicText => self.send_after_pm(line),
            Dialog::DirectWho => {
                let to = line.trim().to_owned();
                self.ask(Dialog::DirectText { to });
                Ok(())
            }
            Dialog::DirectText { to } => self.send_direct(&to, line, false),
            Dialog::ConfirmCommand { line: said } => {
                match line.trim().to_ascii_lowercase().as_str() {
                    "r" | "run" | "y" | "yes" => self.talk(&format!("/{}", said.trim_start())),
                    "s" | "send" | "n" | "no" => self.send(&said, false),
                    _ => {
                        self.not_sent("type `run` or `send`; nothing has been sent yet");
                        self.ask(Dialog::ConfirmCommand { line: said });
                        Ok(())
                    }
                }
            }
            Dialog::ConfirmPublic { text } => match line.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => self.send_public(&text, false),
                "n" | "no" => {
                    self.not_sent("nothing was sent; to write to one person, use /msg NAME TEXT");
                    Ok(())
                }
                _ => {
                    let sentence = "answer yes or no; nothing has been sent yet (press ↑ to get \
                                    the line back)";
                    self.not_sent(sentence);
                    self.ask(Dialog::ConfirmPublic { text });
                    Ok(())
                }
            },
        }
    }

    /// Sends the public message: the next message after `PM` alone (seed 002).
    fn send_after_pm(&mut self, line: &str) -> Handled {
        match self.frame(&ClientDoc::message(line), self.codec()) {
            Some(frame) => self.send_frame(&frame),
            None => {
                // The server is still waiting for the public message.
                self.ask(Dialog::PublicText);
                Ok(())
            }
        }
    }

    /// Cancels the open question, including on the server.
    fn leave_dialog(&mut self) -> Handled {
        match std::mem::replace(&mut self.dialog, Dialog::Talk) {
            Dialog::Talk | Dialog::Awaiting(_) => return Ok(()),
            Dialog::PublicText => {
                // Otherwise the next message would be the public one.
                self.replies.silent_sents += 1;
                self.command(ClientCommand::PublicCancel)?;
            }
            Dialog::Password { .. } | Dialog::Invitation => {
                self.login.credentials = None;
            }
            Dialog::Passwd { .. }
            | Dialog::DirectWho
            | Dialog::DirectText { .. }
            | Dialog::ConfirmPublic { .. }
            | Dialog::ConfirmCommand { .. } => {}
        }
        self.screen.notice("the question is cancelled");
        Ok(())
    }

    pub(super) fn log_in(&mut self, username: &str) -> Handled {
        let login = ClientCommand::Login {
            username: username.into(),
        };
        self.ask_server(login, Awaiting::Login)
    }

    /// Logs in under a name that the user has chosen.
    pub(super) fn be(&mut self, username: &str) -> Handled {
        self.login.credentials = Some(Credentials {
            username: username.to_owned(),
            password: None,
        });
        self.login.old_name.stop();
        self.log_in(username)
    }

    /// Handles the server's request for a password: sends the known one, or asks the user.
    pub(super) fn asked_for_password(&mut self, new_account: bool) -> Handled {
        self.login.is_new_account = new_account;
        let Some(credentials) = &mut self.login.credentials else {
            self.dialog = Dialog::Talk;
            return Ok(());
        };
        if let Some(given) = self.login.given_password.take() {
            credentials.password = Some(given.value);
            self.login.given_at = Some(given.place);
        }
        match credentials.password.clone() {
            // Known from before a reconnect, or given at startup.
            Some(password) => self.prove(&password),
            None => {
                let first = None;
                self.ask(Dialog::Password { new_account, first });
                Ok(())
            }
        }
    }

    fn password(&mut self, password: &str, new_account: bool, first: Option<String>) -> Handled {
        match first {
            Some(first) if first != password => {
                self.screen.trouble("the passwords do not match; try again");
                let first = None;
                self.ask(Dialog::Password { new_account, first });
                return Ok(());
            }
            // A typo in a new password would lock its owner out.
            None if new_account => {
                let first = Some(password.to_owned());
                self.ask(Dialog::Password { new_account, first });
                return Ok(());
            }
            _ => {}
        }
        if let Some(credentials) = &mut self.login.credentials {
            credentials.password = Some(password.to_owned());
        }
        self.prove(password)
    }

    fn prove(&mut self, password: &str) -> Handled {
        let proof = ClientCommand::Password {
            password: Secret(password.into()),
        };
        self.ask_server(proof, Awaiting::Login)
    }

    fn passwd(&mut self, line: &str, old: Option<String>, new: Option<String>) -> Handled {
        match (old, new) {
            (None, _) => {
                let old = Some(line.to_owned());
                self.ask(Dialog::Passwd { old, new: None });
            }
            (old, None) => {
                let new = Some(line.to_owned());
                self.ask(Dialog::Passwd { old, new });
            }
            (old, Some(new)) if new != line => {
                self.screen.trouble("the passwords do not match; try again");
                self.ask(Dialog::Passwd { old, new: None });
            }
            (Some(old), Some(new)) => {
                let passwd = ClientCommand::Passwd {
                    old: Secret(old.into()),
                    new: Secret(new.clone().into()),
                };
                if let Some(credentials) = &mut self.login.credentials {
                    // Keep it for reconnecting. If the server rejects it then, the user is asked
                    // again.
                    credentials.password = Some(new);
                }
                return self.ask_server(passwd, Awaiting::Passwd);
            }
        }
        Ok(())
    }

    /// Handles a question that can't be asked, because there is no terminal.
    pub(crate) fn no_terminal(&mut self) -> SessionEnd {
        if self.login.given_at.is_some() {
            // The error message has already mentioned the source of the password.
            return SessionEnd::Dismissed;
        }
        self.not_sent(
            "the server requires a password, but there is no terminal to enter it on: use \
             --password-file FILE, or set CHAT_PASSWORD",
        );
        SessionEnd::Dismissed
    }

    /// Returns whether the error only means that the server still holds the name for our own
    /// previous connection. If so, the client requests the name again later. A script's lines wait
    /// until then, because they must be sent under that name.
    pub(super) fn asks_later_for_its_name(&mut self, code: ErrorCode) -> bool {
        let (Dialog::Awaiting(Awaiting::Login), ErrorCode::NameInUse, Some(known)) =
            (&self.dialog, code, &self.login.credentials)
        else {
            return false;
        };
        let NameRefused::AskLater { is_first } = self.login.old_name.refused(&known.username)
        else {
            return false;
        };
        if is_first {
            self.screen.notice(&format!(
                "your old connection is still using the name {}; trying again until the name is \
                 free, which can take four minutes",
                known.username
            ));
        }
        if self.has_prompts {
            self.dialog = Dialog::Talk;
        }
        true
    }

    /// Handles a tick: requests the name again if that is due.
    pub(crate) fn ticked(&mut self) -> Handled {
        // Do not close a question that the user may be reading.
        let may_ask = matches!(
            self.dialog,
            Dialog::Talk | Dialog::Awaiting(Awaiting::Login)
        );
        if !may_ask || !self.login.old_name.is_due() {
            return Ok(());
        }
        match &self.login.credentials {
            Some(known) => self.log_in(&known.username.clone()),
            None => Ok(()),
        }
    }

    /// Handles an error that answers the awaited request.
    pub(super) fn refused_while_awaiting(&mut self, code: ErrorCode) -> Handled {
        let Dialog::Awaiting(awaiting) = self.dialog else {
            return Ok(());
        };
        if !awaiting.is_answered_by(code) {
            return Ok(());
        }
        self.dialog = Dialog::Talk;
        self.drop_the_rest_if(true);
        match (awaiting, code) {
            (Awaiting::Login, ErrorCode::WrongPassword | ErrorCode::BadPassword) => {
                if let Some(credentials) = &mut self.login.credentials {
                    credentials.password = None;
                }
                if let Some(place) = &self.login.given_at {
                    let sentence = format!(
                        "the server rejected the password from {place}; correct the password there"
                    );
                    self.not_sent(&sentence);
                    // From now on, ask the user.
                    self.login.given_at.take_if(|_| self.has_prompts);
                }
                let new_account = self.login.is_new_account;
                let first = None;
                self.ask(Dialog::Password { new_account, first });
            }
            (Awaiting::Login, ErrorCode::InvitationNeeded | ErrorCode::BadInvitation)
                if self.has_prompts =>
            {
                self.ask(Dialog::Invitation);
            }
            (
                Awaiting::Login,
                ErrorCode::BadName
                | ErrorCode::NameInUse
                | ErrorCode::NotSaved
                | ErrorCode::RegistrationClosed
                | ErrorCode::InvitationNeeded
                | ErrorCode::BadInvitation,
            ) => {
                self.login.credentials = None;
                self.lose_way("login");
            }
            (Awaiting::Passwd, _) => {
                if let Some(credentials) = &mut self.login.credentials {
                    credentials.password = None;
                }
            }
            (Awaiting::Join, _) => self.forget_pending_room(),
            (Awaiting::Public | Awaiting::List, _) => self.lose_way("PM or DM"),
            _ => {}
        }
        Ok(())
    }
}
