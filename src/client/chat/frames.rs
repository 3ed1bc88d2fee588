//! Conversion of the server's documents into lines.

use std::collections::BTreeSet;

use super::question::{Awaiting, Dialog};
use super::state::{Chat, Partner, SessionEnd};
use super::words::in_our_words;
use crate::link::Link;
use crate::screen::Screen;
use portal_wire::{ClientCommand, ErrorCode, Relay, Scope, ServerDoc};

impl Chat {
    /// Shows a document from the server and acts on it.
    pub(crate) fn on_frame(
        &mut self,
        frame: &[u8],
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let doc = match link.codec().read_server(frame) {
            Ok(doc) => doc,
            Err(error) => {
                screen.notice(&format!(
                    "ignored a document from the server that this client does not understand: {error}"
                ));
                return Ok(());
            }
        };
        let dismissed = |why: &str| {
            screen.trouble(&format!("the server ended the session: {why}"));
            Err(SessionEnd::Dismissed)
        };
        let lost = |why: &str| {
            screen.trouble(&format!("the server ended the session: {why}"));
            Err(SessionEnd::Lost)
        };
        if matches!(doc, ServerDoc::Sent { .. } | ServerDoc::Error { .. }) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        match doc {
            ServerDoc::Relay(relay) => self.relay(&relay, screen),
            ServerDoc::PartnerJoined { partner } => self.partner_joined(&partner, screen),
            ServerDoc::PartnerLeft { partner } => {
                self.partner = None;
                screen.notice(&format!("{partner} left; you have no partner now"));
                self.hint_for_the_lonely(screen);
            }
            ServerDoc::NoPartner => self.no_partner(screen),
            ServerDoc::Password { new_account } => {
                return self.asked_for_password(new_account, link, screen);
            }
            ServerDoc::LoggedIn { username, .. } => return self.logged_in(&username, link, screen),
            ServerDoc::PasswordChanged => {
                self.answered_as(Awaiting::Passwd);
                screen.notice("your password was changed");
            }
            ServerDoc::Who { users } => {
                self.who(users.iter().map(|user| user.to_string()).collect(), screen);
            }
            ServerDoc::PublicNext => {
                if self.dialog == Dialog::Awaiting(Awaiting::Public) {
                    self.ask(Dialog::PublicText);
                }
            }
            ServerDoc::DirectList { users } if users.is_empty() => {
                self.answered_as(Awaiting::List);
                screen.notice("nobody else is logged in");
                self.lose_way("DM");
            }
            ServerDoc::DirectList { users } => {
                if self.dialog == Dialog::Awaiting(Awaiting::List) {
                    self.ask(Dialog::DirectWho);
                }
                screen.notice(&format!("online: {}", users.join(", ")));
            }
            ServerDoc::Sent { count: 0 } if self.silent_sents > 0 => self.silent_sents -= 1,
            ServerDoc::Sent { count: 0 } => {
                screen.notice("not delivered: nobody else is logged in");
            }
            ServerDoc::Sent { count: 1 } => screen.notice("sent"),
            ServerDoc::Sent { count } => screen.notice(&format!("sent to {count} people")),
            ServerDoc::UserJoined { username } => {
                self.known.lock().people.insert(username.to_string());
                if !self.quiet {
                    screen.notice(&format!("{username} joined"));
                }
            }
            ServerDoc::UserLeft { username } => {
                self.known.lock().people.remove(&*username);
                if !self.quiet {
                    screen.notice(&format!("{username} left"));
                }
            }
            ServerDoc::Joined {
                room,
                port,
                passcode,
                ..
            } => {
                self.answered_as(Awaiting::Join);
                self.enter_room(&room, port, &passcode, link, screen);
            }
            ServerDoc::JoinedHere { room } => {
                self.answered_as(Awaiting::Join);
                screen.notice(&format!("you joined {room} on this connection"));
            }
            ServerDoc::Left { room, .. } => {
                self.answered_as(Awaiting::Leave);
                self.left_room(&room, screen);
            }
            ServerDoc::Rooms { rooms } => self.list_rooms(&rooms, screen),
            ServerDoc::History {
                room, with, count, ..
            } => {
                let of = match (&room, &with) {
                    (Some(room), _) => format!("in {room}"),
                    (None, Some(with)) => format!("with {with}"),
                    (None, None) => "to everyone".to_owned(),
                };
                screen.notice(&match count {
                    0 => format!("the server has no old messages {of}"),
                    1 => format!("the last message {of}:"),
                    count => format!("the last {count} messages {of}:"),
                });
            }
            ServerDoc::Notice(text) => screen.notice(&text),
            ServerDoc::Error {
                code: ErrorCode::Banned,
                sentence,
            } => return dismissed(&sentence),
            ServerDoc::Error { code, sentence } => {
                if code == ErrorCode::UnknownCommand {
                    // This may be the reply to our silent `WHO`, so stop waiting for one.
                    self.silent_whos = 0;
                }
                if self.asks_later_for_its_name(code, screen) {
                    return Ok(());
                }
                self.trouble(&format!("server: {}", in_our_words(&sentence)), screen);
                return self.refused_while_awaiting(code, screen);
            }
            ServerDoc::IdleSoon { seconds } => {
                self.idle_soon = true;
                screen.notice(&format!(
                    "you have been idle: the server will disconnect you in {seconds} s; press any \
                     key to stay"
                ));
            }
            ServerDoc::Pong => {}
            ServerDoc::Welcome { .. }
            | ServerDoc::WelcomeSingle { .. }
            | ServerDoc::CallingBack { .. }
            | ServerDoc::CalledBack { .. }
            | ServerDoc::Ticket { .. }
            | ServerDoc::Full
            | ServerDoc::WrongPasscode { .. } => screen.notice("unexpected server document"),
            ServerDoc::IdleTimeout => {
                return dismissed("you were idle for too long").or(Err(SessionEnd::Idle));
            }
            ServerDoc::TotalTimeTimeout => return dismissed("you reached the time limit"),
            ServerDoc::Kicked { reason, by } => {
                let by = by.map_or("the operator".to_owned(), |by| by.to_string());
                let reason = match &*reason {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                return dismissed(&format!("{by} removed you{reason}"));
            }
            ServerDoc::TakenOver => return dismissed("you logged in elsewhere"),
            ServerDoc::TooSlow => return lost("your client did not read fast enough"),
            ServerDoc::Shutdown => return lost("it is shutting down"),
            news => {
                self.room_news(&news, screen);
            }
        }
        Ok(())
    }

    /// Handles the loss of the main link. Reports messages that may have been lost with it.
    pub(crate) fn lost(&mut self, screen: &Screen) {
        if std::mem::take(&mut self.unanswered) > 0 {
            self.not_confirmed("other people", screen);
        }
    }

    /// Shows a message from another user.
    pub(super) fn relay(&mut self, relay: &Relay<'_>, screen: &Screen) {
        if self.ignored.contains(&relay.from.to_ascii_lowercase()) {
            return;
        }
        let is_direct = relay.scope == Scope::Direct;
        if is_direct && !relay.old {
            self.last_direct = Some(relay.from.to_string());
        }
        // A partner who has logged in since then goes by that name.
        if relay.scope == Scope::Partner
            && let Some(partner) = &mut self.partner
        {
            partner.label = relay.from.to_string();
        }
        screen.relay(relay, self.me.as_deref());
        if relay.old {
            return;
        }
        if self.bell.is_for(is_direct) {
            screen.ring();
        }
        if self.notify.is_for(is_direct) {
            screen.notify(&format!("{}: {}", relay.from, relay.text));
        }
    }

    fn partner_joined(&mut self, partner: &str, screen: &Screen) {
        self.presence_notified = true;
        self.arrivals += 1;
        self.partner = Some(Partner {
            label: partner.to_owned(),
            arrival: self.arrivals,
        });
        screen.notice(&format!("you are talking to {partner}"));
    }

    /// Handles `NO PARTNER`. The first one reports a change; a later one is the reply to a message.
    fn no_partner(&mut self, screen: &Screen) {
        self.refusals += u32::from(self.presence_notified);
        self.presence_notified = true;
        screen.notice("you have no partner yet; what you type now reaches nobody");
        self.hint_for_the_lonely(screen);
    }

    /// Shows a user without a partner how to reach the other users, but only once.
    fn hint_for_the_lonely(&mut self, screen: &Screen) {
        if self.partner.is_some() || self.hinted || !self.has_prompts {
            return;
        }
        let Some(me) = &self.me else {
            return;
        };
        let others: Vec<String> = {
            let known = self.known.lock();
            let others = known.people.iter().filter(|name| *name != me);
            others.take(3).cloned().collect()
        };
        let Some(one) = others.first() else {
            return;
        };
        self.hinted = true;
        let (who, are) = if others.len() == 1 {
            (one.clone(), "is")
        } else {
            (others.join(", "), "are")
        };
        screen.notice(&format!(
            "{who} {are} online: write to {one} with /msg {one} TEXT, to everyone with /all TEXT; \
             /to {one} or /to all sends everything you type there"
        ));
    }

    fn logged_in(
        &mut self,
        username: &str,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        self.answered_as(Awaiting::Login);
        self.given_at = None;
        self.me = Some(username.to_owned());
        self.old_name.had(username);
        screen.notice(&format!(
            "you are logged in as {username}; /names lists who is online, /all TEXT writes to everyone"
        ));
        self.silent_whos += 1;
        self.rejoin(link, screen)?;
        self.command(ClientCommand::Who, link, screen)
    }

    fn who(&mut self, users: BTreeSet<String>, screen: &Screen) {
        let is_silent = self.silent_whos > 0;
        if is_silent {
            self.silent_whos -= 1;
        } else {
            let names: Vec<&str> = users.iter().map(String::as_str).collect();
            screen.notice(&format!("online ({}): {}", names.len(), names.join(", ")));
        }
        self.known.lock().people = users;
        if is_silent && self.presence_notified {
            self.hint_for_the_lonely(screen);
        }
    }

    /// Shows news about a room, from any link. Returns whether the document was news about a room.
    pub(super) fn room_news(&self, doc: &ServerDoc<'_>, screen: &Screen) -> bool {
        match doc {
            ServerDoc::RoomJoined { .. } | ServerDoc::RoomLeft { .. } if self.quiet => {}
            ServerDoc::RoomJoined { username, room } => {
                screen.notice(&format!("[{room}] {username} joined"));
            }
            ServerDoc::RoomLeft { username, room } => {
                screen.notice(&format!("[{room}] {username} left"));
            }
            ServerDoc::Topic { room, topic, .. } if topic.is_empty() => {
                let sentence = format!("[{room}] no topic is set; /topic {room} TEXT sets one");
                screen.notice(&sentence);
            }
            ServerDoc::Topic {
                room,
                topic,
                username,
            } => screen.notice(&format!("[{room}] topic, set by {username}: {topic}")),
            _ => return false,
        }
        true
    }

    fn list_rooms(&mut self, rooms: &[(std::borrow::Cow<'_, str>, usize)], screen: &Screen) {
        self.known.lock().rooms = rooms.iter().map(|(name, _)| name.to_string()).collect();
        if rooms.is_empty() {
            screen.notice("there are no rooms; /join NAME creates one");
            return;
        }
        let rooms: Vec<String> = rooms
            .iter()
            .map(|(name, members)| format!("{name} ({members})"))
            .collect();
        screen.notice(&format!("rooms: {}", rooms.join(", ")));
    }

    /// Ends the wait for a reply if that reply was awaited.
    fn answered_as(&mut self, awaiting: Awaiting) {
        if self.dialog == Dialog::Awaiting(awaiting) {
            self.dialog = Dialog::Talk;
        }
    }
}
