//! Conversion of the server's documents into lines.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::question::{Awaiting, Dialog};
use super::state::{Chat, Handled, Partner, SessionEnd};
use super::words::in_our_words;
use crate::commands::When;
use crate::screen::mentions;
use crate::target::Target;
use portal_wire::{ClientCommand, ErrorCode, Relay, RoomAccess, Scope, ServerDoc};

/// Returns the reason why a user left, as the end of a sentence.
fn because(word: Option<&str>) -> &'static str {
    match word {
        Some("idle-timeout") => " (idle for too long)",
        Some("total-time-timeout") => " (time limit reached)",
        Some("too-slow") => " (connection too slow)",
        Some("kicked" | "banned") => " (removed)",
        Some("no-acknowledgement" | "asleep") => " (connection lost)",
        _ => "",
    }
}

/// If a user leaves the seat, the rooms and the chat within this time, only one departure is shown.
const ONE_DEPARTURE: Duration = Duration::from_secs(3);

impl Chat {
    /// Shows a document from the server and acts on it.
    pub(crate) fn on_frame(&mut self, frame: &[u8]) -> Handled {
        let doc = match self.codec().read_server(frame) {
            Ok(doc) => doc,
            Err(error) => {
                self.screen.notice(&format!(
                    "ignored a server document that this client can't read: {error}"
                ));
                return Ok(());
            }
        };
        if matches!(doc, ServerDoc::Sent { .. } | ServerDoc::Error { .. }) {
            self.replies.unanswered = self.replies.unanswered.saturating_sub(1);
        }
        self.explain_percent(&doc);
        match doc {
            ServerDoc::Relay(relay) => self.relay(&relay),
            ServerDoc::PartnerJoined { partner } => self.partner_joined(&partner),
            ServerDoc::PartnerLeft { partner, reason } => {
                self.talk.partner = None;
                self.talk.unread.remove("partner");
                if self.is_news(&partner) {
                    let sentence = format!(
                        "{partner} left{}; you have no partner now",
                        because(reason.as_deref())
                    );
                    self.screen.notice(&sentence);
                }
                self.hint_for_the_lonely();
            }
            ServerDoc::NoPartner => self.no_partner(),
            ServerDoc::Password { new_account } => {
                return self.asked_for_password(new_account);
            }
            ServerDoc::LoggedIn { username, .. } => return self.logged_in(&username),
            ServerDoc::PasswordChanged => {
                self.answered_as(Awaiting::Passwd);
                self.screen.notice("your password was changed");
            }
            ServerDoc::PartnerLoggedIn { partner } => {
                if let Some(there) = &mut self.talk.partner {
                    let was = std::mem::replace(&mut there.label, partner.to_string());
                    self.screen
                        .notice(&format!("your partner {was} logged in as {partner}"));
                }
            }
            ServerDoc::Members { room, users } => {
                let (count, names) = (users.len(), users.join(", "));
                self.screen.notice(&format!("in {room} ({count}): {names}"));
            }
            ServerDoc::Who { users } => {
                self.who(users.iter().map(|user| user.to_string()).collect());
            }
            ServerDoc::PublicNext => {
                if self.dialog == Dialog::Awaiting(Awaiting::Public) {
                    self.ask(Dialog::PublicText);
                }
            }
            ServerDoc::DirectList { users } if users.is_empty() => {
                self.answered_as(Awaiting::List);
                self.screen.notice("nobody else is logged in");
                self.lose_way("DM");
            }
            ServerDoc::DirectList { users } => {
                if self.dialog == Dialog::Awaiting(Awaiting::List) {
                    self.ask(Dialog::DirectWho);
                }
                self.screen.notice(&format!("online: {}", users.join(", ")));
            }
            ServerDoc::Sent { count: 0 } if self.replies.silent_sents > 0 => {
                self.replies.silent_sents -= 1
            }
            ServerDoc::Sent { count: 0 } => {
                self.screen
                    .notice("not delivered: nobody else is logged in");
            }
            ServerDoc::Sent { .. } if !self.alerts.confirmations => {}
            ServerDoc::Sent { count: 1 } => self.screen.notice("sent"),
            ServerDoc::Sent { count } => self.screen.notice(&format!("sent to {count} people")),
            ServerDoc::UserJoined { username } => {
                self.known.lock().people.insert(username.to_string());
                if !self.alerts.quiet {
                    self.screen.notice(&format!("{username} joined"));
                }
            }
            ServerDoc::UserLeft { username, reason } => {
                self.known.lock().people.remove(&*username);
                // The partner's departure is announced on its own line.
                let partner = self.talk.partner.as_ref();
                let is_partner = partner.is_some_and(|partner| *partner.label == *username);
                if !self.alerts.quiet && !is_partner && self.is_news(&username) {
                    let why = because(reason.as_deref());
                    self.screen.notice(&format!("{username} left{why}"));
                }
            }
            ServerDoc::Joined {
                room,
                port,
                passcode,
                ..
            } => {
                self.answered_as(Awaiting::Join);
                self.rooms
                    .rejoining
                    .retain(|there| !there.eq_ignore_ascii_case(&room));
                self.enter_room(&room, port, &passcode);
            }
            ServerDoc::JoinedHere { room } => {
                self.answered_as(Awaiting::Join);
                self.screen
                    .notice(&format!("you joined {room} on this connection"));
            }
            ServerDoc::Left {
                room,
                by: Some(by),
                reason,
            } => {
                let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
                self.screen
                    .notice(&format!("{by} removed you from {room}{reason}"));
                self.left_room(&room);
            }
            ServerDoc::Left { room, .. } => {
                self.answered_as(Awaiting::Leave);
                self.left_room(&room);
            }
            ServerDoc::Room {
                room,
                access,
                moderated,
                moderators,
            } => {
                let access = match access {
                    RoomAccess::Open => "everyone may join",
                    RoomAccess::Invite => "only invited users may join",
                    RoomAccess::Password => "a password is required to join",
                };
                let speakers = if moderated {
                    "only moderators"
                } else {
                    "all members"
                };
                let moderators = match moderators.is_empty() {
                    true => "none".to_owned(),
                    false => moderators.join(", "),
                };
                self.screen.notice(&format!(
                    "{room}: {access}, and {speakers} may send messages; moderators: {moderators}"
                ));
            }
            ServerDoc::Invited { username, .. } if self.ignores(&username) => {}
            ServerDoc::Invited { room, username } => {
                self.screen.notice(&format!(
                    "{username} invited you to the room {room}; to join it, type /join {room}"
                ));
                self.screen.ring();
            }
            ServerDoc::Rooms { rooms } => self.list_rooms(&rooms),
            ServerDoc::History {
                room, with, count, ..
            } => {
                let of = match (&room, &with) {
                    (Some(room), _) => format!("in {room}"),
                    (None, Some(with)) => format!("with {with}"),
                    (None, None) => "to everyone".to_owned(),
                };
                self.talk.requested = count;
                self.screen.notice(&match count {
                    0 => format!("the server has no old messages {of}"),
                    1 => format!("the last message {of}:"),
                    count => format!("the last {count} messages {of}:"),
                });
            }
            ServerDoc::Notice(text) => self.screen.notice(&text),
            ServerDoc::Error {
                code: ErrorCode::Banned,
                sentence,
            } => return self.ended(&sentence, SessionEnd::Dismissed),
            ServerDoc::Error { code, sentence } => {
                if code == ErrorCode::UnknownCommand {
                    // This may be the reply to our silent `WHO`, so stop waiting for one.
                    self.replies.silent_whos = 0;
                }
                if self.asks_later_for_its_name(code) {
                    return Ok(());
                }
                self.trouble(&format!("server: {}", in_our_words(&sentence)));
                self.refused_to_rejoin(code);
                return self.refused_while_awaiting(code);
            }
            ServerDoc::IdleSoon { seconds } => {
                self.warn_of_idle_timeout();
                self.screen.notice(&format!(
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
            | ServerDoc::WrongPasscode { .. } => self
                .screen
                .notice("ignored an unexpected document from the server"),
            ServerDoc::IdleTimeout => {
                return self.ended("you were idle for too long", SessionEnd::Idle);
            }
            ServerDoc::TotalTimeTimeout => {
                return self.ended("you reached the time limit", SessionEnd::Dismissed);
            }
            ServerDoc::Kicked { reason, by } => {
                let by = by.map_or("the operator".to_owned(), |by| by.to_string());
                let reason = match &*reason {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                return self.ended(&format!("{by} removed you{reason}"), SessionEnd::Dismissed);
            }
            ServerDoc::TakenOver => {
                return self.ended("you logged in elsewhere", SessionEnd::Dismissed);
            }
            ServerDoc::TooSlow => {
                return self.ended("your client did not read fast enough", SessionEnd::Lost);
            }
            ServerDoc::Shutdown => return self.ended("it is shutting down", SessionEnd::Lost),
            news => {
                self.room_news(&news);
            }
        }
        Ok(())
    }

    /// Handles the loss of the main link. Reports messages that may have been lost with it.
    pub(crate) fn lost(&mut self) {
        self.talk.requested = 0;
        self.rooms.rejoining.clear();
        let unanswered = std::mem::take(&mut self.replies.unanswered);
        self.not_confirmed(unanswered, "other people");
    }

    /// Handles a message from another user on the main link. A reply to `/history` is shown in any
    /// case.
    fn relay(&mut self, relay: &Relay<'_>) {
        if relay.old && self.talk.requested > 0 {
            self.talk.requested -= 1;
            self.note_shown(relay);
            self.show(relay);
        } else {
            self.show_once(relay);
        }
    }

    /// Shows a message, unless it is on the screen already.
    pub(super) fn show_once(&mut self, relay: &Relay<'_>) {
        if !self.note_shown(relay) {
            self.show(relay);
        }
    }

    fn show(&mut self, relay: &Relay<'_>) {
        if self.ignores(&relay.from) {
            return;
        }
        let is_direct = relay.scope == Scope::Direct;
        let kind = self.kind_of(relay);
        if is_direct && !relay.old {
            self.talk.last_direct = Some(relay.from.to_string());
        }
        // The partner may have logged in since its label was stored.
        if relay.scope == Scope::Partner
            && let Some(partner) = &mut self.talk.partner
        {
            partner.label = relay.from.to_string();
        }
        if relay.gap {
            self.screen.notice("(messages may be missing here)");
        }
        self.screen.relay(relay, self.login.me.as_deref());
        if relay.old {
            return;
        }
        self.count_unread(relay);
        if self.alerts.bell >= kind {
            self.screen.ring();
        }
        if self.alerts.notify >= kind {
            self.screen
                .notify(&format!("{}: {}", relay.from, relay.text));
        }
    }

    /// Records that a message is on the screen. Returns whether it was there already: after a
    /// reconnect, a room sends its last messages to its members again.
    fn note_shown(&mut self, relay: &Relay<'_>) -> bool {
        let (Scope::Room(room), Some(id)) = (&relay.scope, relay.id) else {
            return false;
        };
        let shown = self.talk.shown.entry(room.to_ascii_lowercase());
        let shown = shown.or_default();
        if id <= shown.newest {
            return relay.old;
        }
        shown.newest = id;
        let me = self.login.me.as_deref();
        let is_mine = me.is_some_and(|me| me.eq_ignore_ascii_case(&relay.from));
        if relay.old && is_mine && shown.own > 0 {
            shown.own -= 1;
            return true;
        }
        shown.own = 0;
        false
    }

    fn ignores(&self, name: &str) -> bool {
        self.alerts.ignored.contains(&name.to_ascii_lowercase())
    }

    /// The kind of a message, for [`When`].
    fn kind_of(&self, relay: &Relay<'_>) -> When {
        let me = self.login.me.as_deref();
        match relay.scope {
            Scope::Direct => When::Direct,
            _ if me.is_some_and(|me| mentions(&relay.text, me)) => When::Mention,
            _ => When::All,
        }
    }

    /// Counts a message to a conversation other than the one in the prompt.
    fn count_unread(&mut self, relay: &Relay<'_>) {
        let conversation = match &relay.scope {
            Scope::Partner => "partner".to_owned(),
            Scope::Public => "all".to_owned(),
            Scope::Direct => relay.from.to_ascii_lowercase(),
            Scope::Room(room) => room.to_ascii_lowercase(),
        };
        if self.has_prompts && conversation != self.talk.focus.conversation() {
            *self.talk.unread.entry(conversation).or_default() += 1;
        }
    }

    /// Returns whether a departure is news: a user who leaves the chat also leaves its rooms, and
    /// the screen shows one line for all of this.
    fn is_news(&mut self, username: &str) -> bool {
        let before = self
            .talk
            .departed
            .replace((username.to_owned(), Instant::now()));
        let is_same = |(name, then): (String, Instant)| {
            name.eq_ignore_ascii_case(username) && then.elapsed() < ONE_DEPARTURE
        };
        !self.has_prompts || !before.is_some_and(is_same)
    }

    /// Reports that the server has ended the session.
    fn ended(&self, why: &str, end: SessionEnd) -> Handled {
        let sentence = format!("the server ended the session: {why}");
        self.screen.trouble(&sentence);
        Err(end)
    }

    fn partner_joined(&mut self, partner: &str) {
        self.talk.presence_notified = true;
        self.talk.arrivals += 1;
        self.talk.partner = Some(Partner {
            label: partner.to_owned(),
            arrival: self.talk.arrivals,
        });
        if self.talk.seen_partner == Target::Nobody {
            self.talk.seen_partner = self.beside();
        }
        self.screen.notice(&format!("you are talking to {partner}"));
    }

    /// Explains how to send a text such as `50% off`, if the server took its beginning for a name.
    pub(super) fn explain_percent(&mut self, reply: &ServerDoc<'_>) {
        let code = match reply {
            ServerDoc::Sent { .. } => None,
            ServerDoc::Error { code, .. } => Some(*code),
            _ => return,
        };
        let was_addressed = std::mem::take(&mut self.replies.is_addressed);
        if was_addressed && self.has_prompts && code == Some(ErrorCode::NoSuchUser) {
            self.screen.notice(
                "%NAME% at the beginning sends a line to NAME; to begin a line with %, type %%",
            );
        }
    }

    /// Handles `NO PARTNER`. The first one reports a change; a later one is the reply to a message.
    fn no_partner(&mut self) {
        self.replies.refusals += u32::from(self.talk.presence_notified);
        self.talk.presence_notified = true;
        self.screen
            .notice("you have no partner yet; what you type now reaches nobody");
        self.hint_for_the_lonely();
    }

    /// Shows a user without a partner how to reach the other users, once per link.
    fn hint_for_the_lonely(&mut self) {
        if self.talk.partner.is_some() || self.talk.hinted || !self.has_prompts {
            return;
        }
        let Some(me) = &self.login.me else {
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
        self.talk.hinted = true;
        let (who, are) = if others.len() == 1 {
            (one.clone(), "is")
        } else {
            (others.join(", "), "are")
        };
        self.screen.notice(&format!(
            "{who} {are} online: use /msg {one} TEXT to write to {one}, or /all TEXT to write to \
             everyone; after /to {one} or /to all, everything you type goes there"
        ));
    }

    fn logged_in(&mut self, username: &str) -> Handled {
        self.answered_as(Awaiting::Login);
        self.login.given_at = None;
        self.login.me = Some(username.to_owned());
        self.login.old_name.had(username);
        self.screen.notice(&format!(
            "you are logged in as {username}; use /names to list who is online, or /all TEXT to \
             write to everyone"
        ));
        self.replies.silent_whos += 1;
        self.rejoin()?;
        self.command(ClientCommand::Who)
    }

    fn who(&mut self, users: BTreeSet<String>) {
        let is_silent = self.replies.silent_whos > 0;
        if is_silent {
            self.replies.silent_whos -= 1;
        } else {
            let names: Vec<&str> = users.iter().map(String::as_str).collect();
            self.screen
                .notice(&format!("online ({}): {}", names.len(), names.join(", ")));
        }
        self.known.lock().people = users;
        if is_silent && self.talk.presence_notified {
            self.hint_for_the_lonely();
        }
    }

    /// Shows news about a room, from any link. Returns whether the document was news about a room.
    pub(super) fn room_news(&mut self, doc: &ServerDoc<'_>) -> bool {
        match doc {
            ServerDoc::RoomJoined { .. } | ServerDoc::RoomLeft { .. } if self.alerts.quiet => {}
            ServerDoc::RoomJoined { username, room } => {
                self.screen.notice(&format!("[{room}] {username} joined"));
            }
            ServerDoc::RoomLeft {
                username,
                room,
                reason,
            } => {
                if self.is_news(username) {
                    let why = because(reason.as_deref());
                    self.screen
                        .notice(&format!("[{room}] {username} left{why}"));
                }
            }
            ServerDoc::Topic { room, topic, .. } if topic.is_empty() => {
                let sentence = format!("[{room}] no topic is set; /topic {room} TEXT sets one");
                self.screen.notice(&sentence);
            }
            ServerDoc::Topic {
                room,
                topic,
                username,
            } => self
                .screen
                .notice(&format!("[{room}] topic, set by {username}: {topic}")),
            _ => return false,
        }
        true
    }

    fn list_rooms(&mut self, rooms: &[(std::borrow::Cow<'_, str>, usize)]) {
        self.known.lock().rooms = rooms.iter().map(|(name, _)| name.to_string()).collect();
        if rooms.is_empty() {
            self.screen
                .notice("there are no rooms; /join NAME creates one");
            return;
        }
        let rooms: Vec<String> = rooms
            .iter()
            .map(|(name, members)| format!("{name} ({members})"))
            .collect();
        self.screen.notice(&format!("rooms: {}", rooms.join(", ")));
    }

    /// Ends the wait if this is the awaited reply.
    fn answered_as(&mut self, awaiting: Awaiting) {
        if self.dialog == Dialog::Awaiting(awaiting) {
            self.dialog = Dialog::Talk;
        }
    }
}
