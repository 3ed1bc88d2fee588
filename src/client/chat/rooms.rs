//! The rooms that the user is in, each with its own connection (seed 004).

use super::question::{Awaiting, Dialog};
use super::room_links::{Leaving, RoomLink};
use super::state::{Chat, Handled, mention};
use super::words::in_our_words;
use crate::link::{Link, LinkEvent, LinkId};
use crate::seek::take_seat;
use crate::target::Focus;
use portal_net::Port;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Secret, ServerDoc};

impl Chat {
    /// Joins a room. If `goes_there` is true, also makes it the recipient of typed lines.
    pub(super) fn join(&mut self, room: &str, password: Option<&str>, goes_there: bool) -> Handled {
        if let Some(room) = self.rooms.name_of(room).filter(|_| goes_there) {
            self.turn_to(Focus::Room(room));
            return Ok(());
        }
        self.rooms.pending = Some((room.to_owned(), goes_there));
        let (room, here) = (room.into(), false);
        let password = password.map(|word| Secret(word.into()));
        self.ask_server(
            ClientCommand::Join {
                room,
                here,
                password,
            },
            Awaiting::Join,
        )
    }

    /// Handles the rejection of a `JOIN` request.
    pub(super) fn forget_pending_room(&mut self) {
        let Some((room, goes_there)) = self.rooms.pending.take() else {
            return;
        };
        if !self.rooms.is_in(&room) {
            self.rooms.not_wanted(&room);
            self.lose_focus(&room);
            if goes_there {
                self.lose_way("/join");
            }
        }
    }

    /// Rejoins the rooms after the main link was lost.
    pub(super) fn rejoin(&mut self) -> Handled {
        self.rooms.rejoining = self.rooms.wanted.iter().cloned().collect();
        for room in self.rooms.rejoining.clone() {
            let (room, here, password) = (room.into(), false, None);
            self.command(ClientCommand::Join {
                room,
                here,
                password,
            })?;
        }
        Ok(())
    }

    /// Handles the refusal to let the user back into a room, if this error is one.
    pub(super) fn refused_to_rejoin(&mut self, code: ErrorCode) {
        if self.rooms.rejoining.is_empty() || !Awaiting::Join.is_answered_by(code) {
            return;
        }
        let room = self.rooms.rejoining.remove(0);
        self.screen.notice(&format!("you are no longer in {room}"));
        self.rooms.not_wanted(&room);
        self.lose_focus(&room);
    }

    /// Sends a message to a room, over the room's own link.
    pub(super) fn send_to_room(&mut self, room: &str, text: &str, me: bool) -> Handled {
        let doc = ClientDoc::Message {
            text: text.into(),
            me,
        };
        let key = room.to_ascii_lowercase();
        let Some(codec) = self.rooms.by_key.get(&key).map(|there| there.link.codec()) else {
            self.not_sent(&format!(
                "not sent: you are not in {room}; use /join {room} first"
            ));
            return Ok(());
        };
        if let Some(frame) = self.frame(&doc, codec)
            && let Some(there) = self.rooms.by_key.get_mut(&key)
        {
            there.unanswered += 1;
            // If that link is lost, its listener reports it, and the session continues without the
            // room.
            if let Err(error) = there.link.send(&frame) {
                self.trouble(&format!("connection lost: {error}"));
            }
        }
        Ok(())
    }

    /// Enters a room in which the server has reserved a place for the user.
    pub(super) fn enter_room(&mut self, name: &str, port: Port, passcode: &str) {
        let Some(main) = self.main() else { return };
        let there = main.server().at(port.get());
        let seat = take_seat(there, passcode, main.codec(), main.dial()).map_err(|e| e.to_string());
        let id = LinkId::Room(self.rooms.next_id);
        self.rooms.next_id += 1;
        let events = self.rooms.events.clone();
        let started =
            seat.and_then(|seat| Link::start(seat, id, events).map_err(|e| e.to_string()));
        let pending = self.rooms.pending.take();
        let goes_there =
            pending.is_some_and(|(room, goes)| goes && room.eq_ignore_ascii_case(name));
        match started {
            Ok(link) => {
                let (key, name) = (name.to_ascii_lowercase(), name.to_owned());
                let is_there = goes_there || self.talk.focus == Focus::Room(name.clone());
                self.screen.notice(&match is_there {
                    true => format!("you joined {name}; everything you type now goes there"),
                    false => format!(
                        "you joined {name}; use /send {name} TEXT to send one message there, or \
                         /to {name} to send everything you type there"
                    ),
                });
                self.rooms.wanted.insert(name.clone());
                self.known.lock().rooms.insert(name.clone());
                let room = RoomLink {
                    name: name.clone(),
                    link,
                    leaving: Leaving::No,
                    unanswered: 0,
                };
                self.rooms.by_key.insert(key, room);
                if goes_there {
                    self.turn_to(Focus::Room(name.clone()));
                }
                if goes_there && self.has_prompts {
                    let room = name.into();
                    // If that fails, the link's listener reports it.
                    self.mention(ClientCommand::Members { room });
                }
            }
            Err(reason) => {
                self.trouble(&format!("can't join {name}: {reason}"));
                self.lose_focus(name);
            }
        }
    }

    /// Leaves a room. Messages to the room and `LEAVE` are sent on different links. So the room
    /// must first reply to a `PING`, which shows that it has received the messages.
    pub(super) fn leave_room(&mut self, name: &str) -> Handled {
        match self.rooms.by_key.get_mut(&name.to_ascii_lowercase()) {
            Some(room) => {
                room.leaving = Leaving::Checking;
                mention(ClientCommand::Ping, &room.link);
                self.dialog = Dialog::Awaiting(Awaiting::Leave);
                Ok(())
            }
            // Let the server explain the problem.
            None => self.send_leave(name),
        }
    }

    fn send_leave(&mut self, name: &str) -> Handled {
        if let Some(room) = self.rooms.by_key.get_mut(&name.to_ascii_lowercase()) {
            room.leaving = Leaving::Asked;
        }
        let leave = ClientCommand::Leave { room: name.into() };
        self.ask_server(leave, Awaiting::Leave)
    }

    /// Handles the confirmation that the user has left a room.
    pub(super) fn left_room(&mut self, room: &str) {
        let left = self.rooms.by_key.remove(&room.to_ascii_lowercase());
        self.rooms.left.extend(left);
        self.rooms.not_wanted(room);
        self.screen.notice(&format!("you left {room}"));
        self.lose_focus(room);
    }

    /// Handles the loss of a room to which typed lines were sent. A user sees the new recipient in
    /// the next prompt; a script must choose one.
    fn lose_focus(&mut self, room: &str) {
        // The user can no longer read the room's unread messages.
        self.talk.unread.remove(&room.to_ascii_lowercase());
        if !matches!(&self.talk.focus, Focus::Room(there) if there.eq_ignore_ascii_case(room)) {
            return;
        }
        if self.has_prompts {
            self.talk.focus = Focus::Partner;
            let partner = self.talk.partner.as_ref().map(|there| there.label.as_str());
            let whom = self.talk.focus.describe(partner);
            self.screen.notice(&format!(
                "everything you type now goes to {whom}; use /to to choose another recipient"
            ));
        } else {
            self.talk.focus = Focus::Lost(format!("you are no longer in {room}"));
        }
    }

    /// Reports that a link ended before all messages on it were answered.
    pub(super) fn not_confirmed(&mut self, unanswered: u32, whom: &str) {
        match unanswered {
            0 => {}
            1 => self.not_sent(&format!(
                "your last message to {whom} may have been lost: it was not confirmed (press ↑ to \
                 get it back)"
            )),
            count => self.not_sent(&format!(
                "your last {count} messages to {whom} may have been lost: they were not confirmed \
                 (press ↑ to get them back)"
            )),
        }
    }

    /// Handles an event from a room's link.
    pub(crate) fn on_room_event(&mut self, id: LinkId, events: LinkEvent) -> Handled {
        let mut rooms = self.rooms.by_key.values().chain(&self.rooms.left);
        let Some(room) = rooms.find(|room| room.link.id() == id) else {
            // A late event from an abandoned link.
            return Ok(());
        };
        let (name, codec, leaving) = (room.name.clone(), room.link.codec(), room.leaving);
        let is_in = self.rooms.is_in(&name);
        let is_checking = leaving == Leaving::Checking
            && is_in
            && self.dialog == Dialog::Awaiting(Awaiting::Leave);
        let frame = match events {
            LinkEvent::Frame(frame) => frame,
            LinkEvent::Over(_) => {
                let unanswered = room.unanswered;
                let was_there = self.talk.focus == Focus::Room(name.clone());
                self.rooms.by_key.retain(|_, room| room.link.id() != id);
                self.rooms.left.retain(|room| room.link.id() != id);
                self.not_confirmed(unanswered, &name);
                if leaving == Leaving::No {
                    self.screen.notice(&format!(
                        "you are no longer in {name}: the connection to the room has ended"
                    ));
                    self.lose_focus(&name);
                    if self.has_prompts && was_there {
                        // The main link may be lost, too; the room is rejoined when that link is
                        // restored.
                        self.talk.lost_room = Some(name);
                    }
                } else if is_checking {
                    // The link ended on its own; the server's reply shows whether the user has
                    // left.
                    return self.send_leave(&name);
                }
                return Ok(());
            }
        };
        let doc = codec.read_server(&frame);
        if matches!(doc, Ok(ServerDoc::Sent { .. } | ServerDoc::Error { .. })) {
            let mut rooms = self.rooms.by_key.values_mut();
            if let Some(room) = rooms.find(|room| room.link.id() == id) {
                room.unanswered = room.unanswered.saturating_sub(1);
                if let Ok(ServerDoc::Sent { .. }) = doc {
                    let shown = self.talk.shown.entry(name.to_ascii_lowercase());
                    shown.or_default().own += 1;
                }
            }
        }
        if let Ok(doc) = &doc {
            self.explain_percent(doc);
        }
        match doc {
            Ok(ServerDoc::Relay(relay)) => self.show_once(&relay),
            Ok(news) if self.room_news(&news) => {}
            Ok(ServerDoc::Sent { count: 0 }) => {
                self.screen
                    .notice(&format!("[{name}] nobody else is in this room"));
            }
            // A user sees the typed line itself; a script gets the reply.
            Ok(ServerDoc::Sent { count }) if self.alerts.confirmations => {
                self.screen.notice(&format!("[{name}] sent to {count}"));
            }
            Ok(ServerDoc::Error { sentence, .. }) => {
                let sentence = in_our_words(&sentence);
                self.trouble(&format!("[{name}] server: {sentence}"));
            }
            Ok(ServerDoc::Notice(text)) => self.screen.notice(&format!("[{name}] {text}")),
            Ok(ServerDoc::Pong) if is_checking => {
                return self.send_leave(&name);
            }
            _ => {}
        }
        Ok(())
    }
}
