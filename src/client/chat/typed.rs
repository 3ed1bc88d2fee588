//! Conversion of typed lines into documents.

use super::question::{Awaiting, Dialog};
use super::state::{Chat, SessionEnd};
use crate::commands::{self, TypedLine, Typist};
use crate::link::Link;
use crate::screen::Screen;
use crate::target::{Focus, Target};
use portal_wire::{Addressed, ClientCommand, ClientDoc, Secret};

impl Chat {
    /// Handles a typed line. `under` is the prompt's target when the line was begun; without
    /// prompts, it is `None`.
    pub(crate) fn typed(
        &mut self,
        text: &str,
        under: Option<&Target>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let target = self.target();
        if self.dialog != Dialog::Talk {
            return match under {
                Some(under) if *under != target => {
                    self.outdated(text, under, screen);
                    Ok(())
                }
                _ => self.answered(text, link, screen),
            };
        }
        // The final line feed of a paste is not part of its text.
        let text = text.strip_suffix('\n').unwrap_or(text);
        let pieces = if text.contains('\n') {
            commands::pieces(text)
        } else {
            vec![text.to_owned()]
        };
        let wrong = pieces
            .iter()
            .find_map(|piece| match commands::read(piece, self.typist) {
                TypedLine::Wrong(usage) => Some(usage),
                _ => None,
            });
        if let Some(usage) = wrong {
            self.lose_way("command");
            let nothing = if pieces.len() > 1 {
                "; the paste was not sent (press ↑ to get it back)"
            } else {
                ""
            };
            self.not_sent(&(usage + nothing), screen);
            return Ok(());
        }
        if let Some(under) = under.filter(|under| **under != target) {
            let (goes, stays): (Vec<String>, Vec<String>) = pieces
                .into_iter()
                .partition(|piece| !self.goes_to_target(piece));
            for piece in &stays {
                self.outdated(piece, under, screen);
            }
            self.pieces = goes.into();
        } else {
            self.pieces = pieces.into();
        }
        self.pasted_beside = self.beside();
        self.go_on(link, screen)
    }

    /// Handles the next part of a paste, unless the server must first reply to the previous one.
    /// After a failure, or while a question is open, drops the rest, because the user did not know
    /// about that when pasting.
    pub(crate) fn go_on(&mut self, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        while self.dialog == Dialog::Talk
            && let Some(piece) = self.pieces.pop_front()
        {
            let refusals = self.refusals;
            let is_for_partner = self.focus == Focus::Partner && self.goes_to_target(&piece);
            if is_for_partner && self.beside() != self.pasted_beside {
                let under = self.pasted_beside.clone();
                self.outdated(&piece, &under, screen);
            } else {
                self.talk(&piece, link, screen)?;
            }
            self.drop_the_rest_if(self.refusals > refusals, screen);
        }
        let is_question = matches!(self.question(), Some(Some(_)));
        self.drop_the_rest_if(is_question, screen);
        Ok(())
    }

    /// Drops the rest of a paste after part of it was refused.
    pub(super) fn drop_the_rest_if(&mut self, is_refused: bool, screen: &Screen) {
        if is_refused && !self.pieces.is_empty() {
            self.pieces.clear();
            let sentence = "the rest of the paste was not sent (press ↑ to get it back)";
            self.not_sent(sentence, screen);
        }
    }

    /// After a failed line in a script, makes the next lines fail, too. They must not go to a
    /// recipient other than the one that the failed line was meant to choose.
    pub(super) fn lose_way(&mut self, what: &str) {
        if !self.has_prompts {
            self.focus = Focus::Lost(format!("the earlier {what} failed"));
        }
    }

    /// Returns whether the recipient of a line depends on the prompt.
    fn goes_to_target(&self, line: &str) -> bool {
        matches!(
            commands::read(line, self.typist),
            TypedLine::Say(_) | TypedLine::Act(_)
        )
    }

    /// Rejects a line that was begun under an outdated prompt.
    fn outdated(&mut self, line: &str, under: &Target, screen: &Screen) {
        if line.trim().is_empty() {
            return;
        }
        let back = "(press ↑ to get it back)";
        let sentence = if matches!(under, Target::Secret(_)) {
            "not sent: the question has changed".to_owned()
        } else if matches!(under, Target::Question(_)) {
            format!("not sent: the question has changed {back}")
        } else if self.dialog != Dialog::Talk {
            format!("not sent: you typed it before this question appeared {back}")
        } else {
            format!("not sent: when you typed it, {} {back}", under.describe())
        };
        self.not_sent(&sentence, screen);
    }

    pub(super) fn talk(
        &mut self,
        line: &str,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match commands::read(line, self.typist) {
            TypedLine::Nothing => {}
            TypedLine::Quit => return Err(SessionEnd::Left),
            TypedLine::Cancel => screen.notice("there is no question to cancel"),
            TypedLine::Help(of) => {
                let help = commands::help(of);
                if of.is_none() {
                    screen.text(
                        "  Type a message and press Enter to send it to the recipient in the prompt.",
                    );
                }
                match of {
                    Some(name) if help.is_empty() => {
                        self.trouble(&format!("there is no command {name}"), screen);
                    }
                    _ => screen.help(&help),
                }
            }
            TypedLine::Wrong(usage) => {
                self.lose_way("command");
                self.not_sent(&usage, screen);
            }
            TypedLine::Say(text) => return self.send(text, false, link, screen),
            TypedLine::Act(text) => return self.send(text, true, link, screen),
            TypedLine::Timestamp(timestamp) => screen.set_timestamp(timestamp),
            TypedLine::Bell(bell) => self.bell = bell,
            TypedLine::Notify(notify) => self.notify = notify,
            TypedLine::Clear => screen.clear(),
            TypedLine::Quiet => {
                self.quiet = !self.quiet;
                let shown = if self.quiet {
                    "no longer shown"
                } else {
                    "shown again"
                };
                screen.notice(&format!("join and leave messages are {shown}"));
            }
            TypedLine::Ignore(name) => self.ignore(name, screen),
            // The following commands need a server that is not an original program.
            _ if self.is_legacy => {
                let sentence = "the original programs can only chat; for the other commands, start without --compat";
                self.not_sent(sentence, screen);
            }
            TypedLine::To(None) => self.focus = Focus::Partner,
            TypedLine::Login(_) if self.me.is_some() => {
                let sentence =
                    "you are already logged in; to use another name, /quit and log in again";
                self.not_sent(sentence, screen);
            }
            TypedLine::Login(username) => return self.be(username, link, screen),
            TypedLine::Invitation(code) => {
                let code = Secret(code.into());
                return self.command(ClientCommand::Invitation { code }, link, screen);
            }
            // The following commands need a login.
            line if self.me.is_none() => {
                let chooses = matches!(
                    line,
                    TypedLine::To(_)
                        | TypedLine::Query(_)
                        | TypedLine::AskPublic
                        | TypedLine::AskDirect
                );
                if chooses || matches!(line, TypedLine::AmbiguousPublic(_)) {
                    self.lose_way("command that needs a login");
                }
                self.not_sent("you must log in first, with /login NAME", screen);
            }
            named => return self.talk_by_name(named, link, screen),
        }
        Ok(())
    }

    /// Handles the commands that need a login.
    fn talk_by_name(
        &mut self,
        line: TypedLine<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match line {
            TypedLine::Public(text) => return self.send_public(text, false, link, screen),
            TypedLine::AskPublic => {
                let public = ClientCommand::Public {
                    message: None,
                    me: false,
                };
                return self.ask_server(public, Awaiting::Public, link, screen);
            }
            TypedLine::AmbiguousPublic(text) => match self.is_addressed(text) {
                Some(name) if self.has_prompts => {
                    screen.notice(&format!("PM sends to everyone, but {name} is online; to write to {name} alone, use /msg {name} …"));
                    let text = text.to_owned();
                    self.ask(Dialog::ConfirmPublic { text });
                }
                Some(name) => {
                    self.lose_way("/pm");
                    let sentence = format!(
                        "not sent: {name} is online, but PM sends to everyone; use /all … or \
                         /msg {name} …"
                    );
                    self.not_sent(&sentence, screen);
                }
                None => return self.send_public(text, false, link, screen),
            },
            TypedLine::Direct { to, text } => {
                return self.send_direct(to, text, false, link, screen);
            }
            TypedLine::AskDirect => {
                return self.ask_server(ClientCommand::DirectList, Awaiting::List, link, screen);
            }
            TypedLine::Reply(text) => match self.last_direct.clone() {
                Some(to) => return self.send_direct(&to, text, false, link, screen),
                None => self.not_sent(
                    "not sent: you have not received a direct message yet",
                    screen,
                ),
            },
            TypedLine::Join(room) => {
                self.want_room(room);
                let join = ClientCommand::Join {
                    room: room.into(),
                    here: false,
                    password: None,
                };
                return self.ask_server(join, Awaiting::Join, link, screen);
            }
            TypedLine::Leave(room) => {
                return self.leave_room(room, link, screen);
            }
            TypedLine::Ask(command) => return self.command(command, link, screen),
            TypedLine::History(count) => return self.ask_history(count, link, screen),
            TypedLine::Send { room, text } => return self.send_to_room(room, text, false, screen),
            TypedLine::To(Some(whom)) => self.turn_to(whom, screen),
            TypedLine::Query(name) => self.focus = Focus::Person(name.to_owned()),
            TypedLine::Passwd => {
                if self.typist == Typist::Person || self.has_prompts {
                    self.ask(Dialog::Passwd {
                        old: None,
                        new: None,
                    });
                } else {
                    self.not_sent("/passwd works only at a terminal", screen);
                }
            }
            // All others are handled above.
            _ => {}
        }
        Ok(())
    }

    /// Requests the last messages of the conversation in the prompt. Those of partners are not
    /// kept, so without a chosen recipient, requests the public messages.
    fn ask_history(
        &mut self,
        count: usize,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let (room, with) = match self.focus.clone() {
            Focus::Room(room) => (Some(room.into()), None),
            Focus::Person(name) => (None, Some(name.into())),
            Focus::Everyone | Focus::Partner => (None, None),
            Focus::Lost(why) => {
                let sentence = format!("no history: {why}; choose a recipient with /to");
                self.not_sent(&sentence, screen);
                return Ok(());
            }
        };
        let history = ClientCommand::History {
            room,
            with,
            before: None,
            after: None,
            count: Some(count),
        };
        self.command(history, link, screen)
    }

    /// Sends a message to the recipient in the prompt.
    fn send(
        &mut self,
        text: &str,
        me: bool,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        // `%NAME%text` names its recipient itself (seed 003), so it needs no partner.
        let is_addressed = matches!(Addressed::read(text), Addressed::One { .. });
        match self.focus.clone() {
            Focus::Partner
                if self.target() == Target::Nobody && self.has_prompts && !is_addressed =>
            {
                let sentence = if self.presence_notified {
                    "not sent: you have no partner yet (press ↑ to get it back)"
                } else {
                    "not sent: the server has not reported your partner yet"
                };
                self.not_sent(sentence, screen);
                Ok(())
            }
            Focus::Partner => {
                let text = text.into();
                self.send_doc(&ClientDoc::Message { text, me }, link, screen)
            }
            Focus::Everyone => self.send_public(text, me, link, screen),
            Focus::Person(name) => self.send_direct(&name, text, me, link, screen),
            Focus::Room(room) => self.send_to_room(&room, text, me, screen),
            Focus::Lost(why) => {
                let sentence = format!("not sent: {why}; choose a recipient with /to");
                self.not_sent(&sentence, screen);
                Ok(())
            }
        }
    }

    pub(super) fn send_public(
        &mut self,
        text: &str,
        me: bool,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let message = Some(text.into());
        self.unanswered += 1;
        self.command(ClientCommand::Public { message, me }, link, screen)
    }

    pub(super) fn send_direct(
        &mut self,
        to: &str,
        text: &str,
        me: bool,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let direct = ClientCommand::Direct {
            to: to.into(),
            message: text.into(),
            me,
        };
        self.unanswered += 1;
        self.command(direct, link, screen)
    }

    /// Makes `whom` the recipient of typed lines: everyone, a room that the user is in, or a user.
    fn turn_to(&mut self, whom: &str, screen: &Screen) {
        if whom.eq_ignore_ascii_case("all") {
            self.focus = Focus::Everyone;
        } else if let Some(room) = self.rooms.name_of(whom) {
            self.focus = Focus::Room(room);
        } else if let Some(name) = self.online(whom) {
            self.focus = Focus::Person(name);
        } else if self.silent_whos > 0 {
            // The list of users has not arrived yet. If there is no such user, the server refuses
            // each message, so no other user gets it.
            self.focus = Focus::Person(whom.to_owned());
        } else {
            let sentence = format!(
                "there is no user {whom} online, and you are not in a room {whom}; to join the \
                 room, use /join {whom}"
            );
            self.lose_way(&format!("/to {whom}"));
            self.not_sent(&sentence, screen);
        }
    }

    fn ignore(&mut self, name: Option<&str>, screen: &Screen) {
        let Some(name) = name else {
            let names: Vec<&str> = self.ignored.iter().map(String::as_str).collect();
            return screen.notice(&if names.is_empty() {
                "nobody is ignored".to_owned()
            } else {
                format!("ignored: {}", names.join(", "))
            });
        };
        let key = name.to_ascii_lowercase();
        if self.ignored.remove(&key) {
            screen.notice(&format!("messages from {name} are shown again"));
        } else {
            self.ignored.insert(key);
            screen.notice(&format!(
                "messages from {name} are hidden now; /ignore {name} shows them again"
            ));
        }
    }

    /// Returns the exact spelling of an online user's name.
    fn online(&self, name: &str) -> Option<String> {
        let known = self.known.lock();
        let mut people = known.people.iter();
        people
            .find(|there| there.eq_ignore_ascii_case(name))
            .cloned()
    }

    /// Returns the name of the online user with which `text` begins, if there is one.
    fn is_addressed(&self, text: &str) -> Option<String> {
        let word = text.split_whitespace().next()?.trim_end_matches([':', ',']);
        self.online(word)
    }
}
