//! Conversion of typed lines into documents.

use super::question::{Awaiting, Dialog};
use super::state::{Chat, Handled, SessionEnd};
use crate::commands::{self, TypedLine, Typist};
use crate::target::{Focus, Target};
use portal_wire::{Addressed, ClientCommand, ClientDoc, Secret};

impl Chat {
    /// Handles a typed line. `under` is the prompt's target when the line was begun; without
    /// prompts, it is `None`.
    pub(crate) fn typed(&mut self, text: &str, under: Option<&Target>) -> Handled {
        let target = self.target();
        if self.dialog != Dialog::Talk {
            return match under {
                Some(under) if *under != target => {
                    self.outdated(text, under);
                    Ok(())
                }
                _ => self.answered(text),
            };
        }
        if under.is_none() && self.has_other_partner(text) {
            return Ok(());
        }
        if under.is_none() && self.is_first_of_dialogue(text) {
            self.typist = Typist::Script { seed_words: true };
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
            self.not_sent(&(usage + nothing));
            return Ok(());
        }
        if let Some(under) = under.filter(|under| **under != target) {
            let (goes, stays): (Vec<String>, Vec<String>) = pieces
                .into_iter()
                .partition(|piece| !self.goes_to_target(piece));
            for piece in &stays {
                self.outdated(piece, under);
            }
            self.paste.pieces = goes.into();
        } else {
            self.paste.pieces = pieces.into();
        }
        self.paste.beside = self.beside();
        self.go_on()
    }

    /// Handles the next part of a paste, unless the server must first reply to the previous one.
    /// After a failure, or while a question is open, drops the rest, because the user could not
    /// foresee that when pasting.
    pub(crate) fn go_on(&mut self) -> Handled {
        while self.dialog == Dialog::Talk
            && let Some(piece) = self.paste.pieces.pop_front()
        {
            let refusals = self.replies.refusals;
            let is_for_partner = self.talk.focus == Focus::Partner && self.goes_to_target(&piece);
            if is_for_partner && self.beside() != self.paste.beside {
                let under = self.paste.beside.clone();
                self.outdated(&piece, &under);
            } else {
                self.talk(&piece)?;
            }
            self.drop_the_rest_if(self.replies.refusals > refusals);
        }
        let is_question = matches!(self.question(), Some(Some(_)));
        self.drop_the_rest_if(is_question);
        Ok(())
    }

    /// Drops the rest of a paste after part of it was refused.
    pub(super) fn drop_the_rest_if(&mut self, is_refused: bool) {
        if is_refused && !self.paste.pieces.is_empty() {
            self.paste.pieces.clear();
            let sentence = "the rest of the paste was not sent (press ↑ to get it back)";
            self.not_sent(sentence);
        }
    }

    /// Makes all later lines of a script fail after one line has failed. They must not go to a
    /// recipient other than the one that the failed line was meant to choose.
    pub(super) fn lose_way(&mut self, what: &str) {
        if !self.has_prompts {
            self.talk.focus = Focus::Lost(format!("the earlier {what} failed"));
        }
    }

    /// Returns whether the recipient of a line depends on the prompt.
    fn goes_to_target(&self, line: &str) -> bool {
        matches!(
            commands::read(line, self.typist),
            TypedLine::Say(_) | TypedLine::Act(_) | TypedLine::Seed(_)
        )
    }

    /// Rejects a line for the partner if another one has taken the seat since the last line.
    /// Without prompts, the client can't tell when a line was begun, or for which partner.
    fn has_other_partner(&mut self, text: &str) -> bool {
        let is_for_partner = self.talk.focus == Focus::Partner && self.goes_to_target(text);
        if self.typist != Typist::Person || self.has_prompts || !is_for_partner {
            return false;
        }
        let partner = self.beside();
        let seen = std::mem::replace(&mut self.talk.seen_partner, partner.clone());
        let is_other = seen != Target::Nobody && partner != Target::Nobody && partner != seen;
        if is_other {
            self.not_sent(
                "not sent: your partner has changed; to send the line to the new one, type it again",
            );
        }
        is_other
    }

    /// Rejects a line that was begun under an outdated prompt.
    fn outdated(&mut self, line: &str, under: &Target) {
        if line.trim().is_empty() {
            return;
        }
        let back = "(press ↑ to get the line back)";
        let sentence = if matches!(under, Target::Secret(_)) {
            "not sent: the question has changed".to_owned()
        } else if matches!(under, Target::Question(_)) {
            format!("not sent: the question has changed {back}")
        } else if self.dialog != Dialog::Talk {
            format!("not sent: you typed this line before the question appeared {back}")
        } else {
            format!(
                "not sent: when you typed this line, {} {back}",
                under.describe()
            )
        };
        self.not_sent(&sentence);
    }

    /// Returns whether a script with a password begins with an operation of seed 002: a recorded
    /// dialogue with that seed's client.
    fn is_first_of_dialogue(&mut self, line: &str) -> bool {
        let is_first = !std::mem::replace(&mut self.has_typed, true);
        is_first && self.login.had_password && commands::begins_dialogue(line)
    }

    pub(super) fn talk(&mut self, line: &str) -> Handled {
        match commands::read(line, self.typist) {
            TypedLine::Nothing => {}
            TypedLine::Quit => return Err(SessionEnd::Left),
            TypedLine::Cancel => self.screen.notice("there is no question to cancel"),
            TypedLine::Help(of) => self.help(of),
            TypedLine::Wrong(usage) => {
                self.lose_way("command");
                self.not_sent(&usage);
            }
            TypedLine::Say(text) => return self.send(text, false),
            TypedLine::Act(text) => return self.send(text, true),
            TypedLine::Seed(line) if self.has_prompts && self.target() != Target::Nobody => {
                let line = line.to_owned();
                self.ask(Dialog::ConfirmCommand { line });
            }
            TypedLine::Seed(line) => return self.talk(&format!("/{}", line.trim_start())),
            TypedLine::Timestamp(timestamp) => self.screen.set_timestamp(timestamp),
            TypedLine::Bell(bell) => self.alerts.bell = bell,
            TypedLine::Notify(notify) => self.alerts.notify = notify,
            TypedLine::Confirmations(shown) => self.alerts.confirmations = shown,
            TypedLine::Clear => self.screen.clear(),
            TypedLine::Unread => match self.unread() {
                unread if unread.is_empty() => self.screen.notice("you have no unread messages"),
                unread => self
                    .screen
                    .notice(&format!("unread messages: {unread}; to read them, use /to")),
            },
            TypedLine::Quiet => {
                self.alerts.quiet = !self.alerts.quiet;
                let shown = match self.alerts.quiet {
                    true => "no longer shown",
                    false => "shown again",
                };
                self.screen
                    .notice(&format!("join and leave messages are {shown}"));
            }
            TypedLine::Ignore(name) => self.ignore(name),
            // The original programs do not support the following commands.
            _ if self.codec().is_legacy() => self.not_sent(
                "--compat supports only chat messages; to use other commands, start the client \
                 without it",
            ),
            TypedLine::To(None) => self.turn_to(Focus::Partner),
            TypedLine::Login(_) if self.login.me.is_some() => self.not_sent(
                "you are already logged in; to use another name, exit with /quit and log in again",
            ),
            TypedLine::Login(username) => return self.be(username),
            TypedLine::Invitation(code) => {
                let code = Secret(code.into());
                return self.command(ClientCommand::Invitation { code });
            }
            // The following commands need a login.
            line if self.login.me.is_none() => {
                use TypedLine as T;
                let chooses = T::AskPublic == line || T::AskDirect == line;
                if chooses || matches!(line, T::To(_) | T::Query(_) | T::AmbiguousPublic(_)) {
                    self.lose_way("command that needs a login");
                }
                self.not_sent("you must log in first, with /login NAME");
            }
            named => return self.talk_by_name(named),
        }
        Ok(())
    }

    fn help(&mut self, of: Option<&str>) {
        let help = commands::help(of);
        match of {
            Some(name) if help.is_empty() => {
                return self.trouble(&format!("there is no command {name}"));
            }
            None => self.screen.text(
                "  Type a message and press Enter to send it to the recipient in the prompt.",
            ),
            Some(_) => {}
        }
        self.screen.help(&help);
        if of.is_none() {
            self.screen
                .text("  /help all lists all commands; /help COMMAND explains one command.");
        }
    }

    /// Handles the commands that need a login.
    fn talk_by_name(&mut self, line: TypedLine<'_>) -> Handled {
        match line {
            TypedLine::Public(text) => return self.send_public(text, false),
            TypedLine::AskPublic => {
                let (message, me) = (None, false);
                let public = ClientCommand::Public { message, me };
                return self.ask_server(public, Awaiting::Public);
            }
            TypedLine::AmbiguousPublic(text) => match self.is_addressed(text) {
                Some(name) if self.has_prompts => {
                    self.screen.notice(&format!(
                        "PM sends the message to everyone, but {name} is online; to write only to \
                         {name}, use /msg {name} TEXT"
                    ));
                    let text = text.to_owned();
                    self.ask(Dialog::ConfirmPublic { text });
                }
                Some(name) => {
                    self.lose_way("/pm");
                    self.not_sent(&format!(
                        "not sent: {name} is online, but PM sends the message to everyone; use \
                         /all TEXT or /msg {name} TEXT"
                    ));
                }
                None => return self.send_public(text, false),
            },
            TypedLine::Direct { to, text } => return self.send_direct(to, text, false),
            TypedLine::AskDirect => {
                return self.ask_server(ClientCommand::DirectList, Awaiting::List);
            }
            TypedLine::Reply(text) => match self.talk.reply_to.clone() {
                Some(to) => {
                    let other = self.talk.last_direct.as_ref().filter(|last| **last != to);
                    if let Some(other) = other {
                        self.screen.notice(&format!(
                            "your reply goes to {to}; {other} wrote while you were typing"
                        ));
                    }
                    return self.send_direct(&to, text, false);
                }
                None => self.not_sent("not sent: you have not received a direct message yet"),
            },
            TypedLine::Join {
                room,
                password,
                goes_there,
            } => return self.join(room, password, goes_there),
            TypedLine::Invite { name, room } => {
                let room = match (room, &self.talk.focus) {
                    (Some(room), _) => room.to_owned(),
                    (None, Focus::Room(room)) => room.clone(),
                    (None, _) => {
                        self.not_sent(
                            "this conversation is not a room; specify a room: /invite NAME ROOM",
                        );
                        return Ok(());
                    }
                };
                return self.command(ClientCommand::Invite {
                    room: room.into(),
                    username: name.into(),
                });
            }
            TypedLine::Leave(Some(room)) => return self.leave_room(room),
            TypedLine::Leave(None) => match self.talk.focus.clone() {
                Focus::Room(room) => return self.leave_room(&room),
                _ => self.not_sent(
                    "this conversation is not a room; specify the room to leave: /leave ROOM",
                ),
            },
            TypedLine::Topic(rest) => return self.topic(rest),
            TypedLine::Names(room) => {
                let room = match (room, &self.talk.focus) {
                    (Some("all"), _) => None,
                    (Some(room), _) => commands::in_room(room).map(str::to_owned),
                    (None, Focus::Room(room)) => Some(room.clone()),
                    (None, _) => None,
                };
                let members = |room: String| ClientCommand::Members { room: room.into() };
                return self.command(room.map_or(ClientCommand::Who, members));
            }
            TypedLine::Ask(command) => return self.command(command),
            TypedLine::History(count) => return self.ask_history(count),
            TypedLine::Send { room, text } => return self.send_to_room(room, text, false),
            TypedLine::To(Some(whom)) => self.go_to(whom),
            TypedLine::Query(name) => self.turn_to(Focus::Person(name.to_owned())),
            TypedLine::Passwd => {
                if self.typist == Typist::Person || self.has_prompts {
                    self.ask(Dialog::Passwd {
                        old: None,
                        new: None,
                    });
                } else {
                    self.not_sent("/passwd works only in a terminal");
                }
            }
            // All others are handled above.
            _ => {}
        }
        Ok(())
    }

    /// Shows or sets a topic. The first word may be the name of the room; otherwise, the room is
    /// the one in the prompt.
    fn topic(&mut self, rest: &str) -> Handled {
        let (first, text) = commands::split_word(rest).unwrap_or_default();
        let named = commands::in_room(first).filter(|name| {
            let is_here = matches!(self.talk.focus, Focus::Room(_));
            first.starts_with('#') || !is_here || self.rooms.is_in(name)
        });
        let (room, topic) = match (named, &self.talk.focus) {
            (Some(room), _) => (room.to_owned(), text),
            (None, Focus::Room(room)) => (room.clone(), rest),
            (None, _) => {
                self.not_sent(
                    "this conversation is not a room; specify a room: /topic ROOM [TEXT]",
                );
                return Ok(());
            }
        };
        let topic = (!topic.is_empty()).then(|| topic.into());
        let room = room.into();
        self.command(ClientCommand::Topic { room, topic })
    }

    /// Requests the last messages in the conversation named in the prompt. Messages between
    /// partners are not kept, so without a chosen recipient, requests the public messages.
    fn ask_history(&mut self, count: usize) -> Handled {
        let (room, with) = match self.talk.focus.clone() {
            Focus::Room(room) => (Some(room.into()), None),
            Focus::Person(name) => (None, Some(name.into())),
            Focus::Everyone | Focus::Partner => (None, None),
            Focus::Lost(why) => {
                let sentence =
                    format!("can't show the history: {why}; choose a recipient with /to");
                self.not_sent(&sentence);
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
        self.command(history)
    }

    /// Sends a message to the recipient in the prompt.
    pub(super) fn send(&mut self, text: &str, me: bool) -> Handled {
        // `%NAME%text` specifies its own recipient (seed 003), so it needs no partner.
        let is_addressed = matches!(Addressed::read(text), Addressed::One { .. });
        self.replies.is_addressed = is_addressed;
        match self.talk.focus.clone() {
            Focus::Partner
                if self.target() == Target::Nobody && self.has_prompts && !is_addressed =>
            {
                let sentence = if self.talk.presence_notified {
                    "not sent: you have no partner yet (press ↑ to get the line back)"
                } else {
                    "not sent: the server has not yet reported whether you have a partner"
                };
                self.not_sent(sentence);
                Ok(())
            }
            Focus::Partner => {
                self.talk.lost_room = None;
                let text = text.into();
                self.send_doc(&ClientDoc::Message { text, me })
            }
            Focus::Everyone => self.send_public(text, me),
            Focus::Person(name) => self.send_direct(&name, text, me),
            Focus::Room(room) => self.send_to_room(&room, text, me),
            Focus::Lost(why) => {
                let sentence = format!("not sent: {why}; choose a recipient with /to");
                self.not_sent(&sentence);
                Ok(())
            }
        }
    }

    pub(super) fn send_public(&mut self, text: &str, me: bool) -> Handled {
        let message = Some(text.into());
        self.replies.unanswered += 1;
        self.command(ClientCommand::Public { message, me })
    }

    pub(super) fn send_direct(&mut self, to: &str, text: &str, me: bool) -> Handled {
        let direct = ClientCommand::Direct {
            to: to.into(),
            message: text.into(),
            me,
        };
        self.replies.unanswered += 1;
        // Answering shows that the messages were read.
        self.talk.unread.remove(&to.to_ascii_lowercase());
        self.command(direct)
    }

    /// Makes `whom` the recipient of typed lines: everyone, a room that the user is in, or a user.
    fn go_to(&mut self, whom: &str) {
        let is_room = whom.starts_with('#');
        let whom = commands::in_room(whom).unwrap_or(whom);
        if whom.eq_ignore_ascii_case("all") {
            self.turn_to(Focus::Everyone);
        } else if let (false, Some(room), Some(name)) =
            (is_room, self.rooms.name_of(whom), self.online(whom))
        {
            self.lose_way(&format!("/to {whom}"));
            self.not_sent(&format!(
                "{whom} is a room and a user: use /to #{room} for the room, or /query {name} for \
                 the user"
            ));
        } else if let Some(room) = self.rooms.name_of(whom) {
            self.turn_to(Focus::Room(room));
        } else if let Some(name) = self.online(whom) {
            self.turn_to(Focus::Person(name));
        } else if self.replies.silent_whos > 0 {
            // The list of users has not arrived yet. If there is no such user, the server refuses
            // each message, so no other user gets it.
            self.turn_to(Focus::Person(whom.to_owned()));
        } else {
            let sentence = format!(
                "no user named {whom} is online, and you are not in a room with that name; to \
                 join the room, use /join {whom}"
            );
            self.lose_way(&format!("/to {whom}"));
            self.not_sent(&sentence);
        }
    }

    fn ignore(&mut self, name: Option<&str>) {
        let Some(name) = name else {
            let names: Vec<&str> = self.alerts.ignored.iter().map(String::as_str).collect();
            return self.screen.notice(&if names.is_empty() {
                "you are not ignoring anyone".to_owned()
            } else {
                format!("ignored: {}", names.join(", "))
            });
        };
        let key = name.to_ascii_lowercase();
        if self.alerts.ignored.remove(&key) {
            self.screen.notice(&format!(
                "messages and invitations from {name} are shown again"
            ));
        } else {
            self.alerts.ignored.insert(key);
            self.screen.notice(&format!(
                "messages and invitations from {name} are hidden now; /ignore {name} shows them \
                 again"
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
