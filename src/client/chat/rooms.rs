//! The rooms that the user is in, each with its own connection (seed 004).

use super::question::{Awaiting, Dialog};
use super::room_links::{Leaving, RoomLink};
use super::state::{Chat, SessionEnd, mention, send_frame};
use super::words::in_our_words;
use crate::link::{Link, LinkEvent, LinkId};
use crate::screen::Screen;
use crate::seek::take_seat;
use crate::target::Focus;
use portal_net::Port;
use portal_wire::{ClientCommand, ClientDoc, ServerDoc};

impl Chat {
    /// Records the room that a `JOIN` request names.
    pub(super) fn want_room(&mut self, room: &str) {
        self.rooms.pending = Some(room.to_owned());
    }

    /// Handles the rejection of a `JOIN` request.
    pub(super) fn forget_pending_room(&mut self, screen: &Screen) {
        if let Some(room) = self.rooms.pending.take()
            && !self.rooms.is_in(&room)
        {
            self.rooms
                .wanted
                .retain(|wanted| !wanted.eq_ignore_ascii_case(&room));
            self.lose_focus(&room, screen);
        }
    }

    /// Rejoins the rooms after the main link was lost.
    pub(super) fn rejoin(&mut self, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        for room in self.rooms.wanted.clone() {
            let join = ClientCommand::Join {
                room: room.into(),
                here: false,
                password: None,
            };
            self.command(join, link, screen)?;
        }
        Ok(())
    }

    /// Sends a message to a room, over the room's own link.
    pub(super) fn send_to_room(
        &mut self,
        room: &str,
        text: &str,
        me: bool,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let doc = ClientDoc::Message {
            text: text.into(),
            me,
        };
        let Some(there) = self.rooms.by_key.get_mut(&room.to_ascii_lowercase()) else {
            let sentence = format!("not sent: you are not in {room}; use /join {room} first");
            self.not_sent(&sentence, screen);
            return Ok(());
        };
        let mut frame = Vec::new();
        let codec = there.link.codec();
        codec.write_client(&doc, &mut frame);
        let (long, most) = (frame.len().saturating_sub(1), codec.max_frame);
        if long > most {
            let sentence = format!(
                "not sent: it is too long ({long} bytes, at most {most} are allowed); split it"
            );
            self.not_sent(&sentence, screen);
            return Ok(());
        }
        there.unanswered += 1;
        // If that link is lost, its listener reports it, and the session continues without the
        // room.
        if send_frame(&frame, &there.link, screen).is_err() {
            self.refusals += 1;
        }
        Ok(())
    }

    /// Enters a room in which the server has reserved a place for the user.
    pub(super) fn enter_room(
        &mut self,
        name: &str,
        port: Port,
        passcode: &str,
        link: &Link,
        screen: &Screen,
    ) {
        self.rooms.pending = None;
        let there = link.server().at(port.get());
        let seat = take_seat(there, passcode, link.codec(), link.dial()).map_err(|e| e.to_string());
        let id = LinkId::Room(self.rooms.next_id);
        self.rooms.next_id += 1;
        let events = self.rooms.events.clone();
        let started =
            seat.and_then(|seat| Link::start(seat, id, events).map_err(|e| e.to_string()));
        match started {
            Ok(link) => {
                let (key, name) = (name.to_ascii_lowercase(), name.to_owned());
                screen.notice(&format!(
                    "you joined {name}; /send {name} TEXT writes to it, /to {name} sends everything \
                     you type there"
                ));
                self.rooms.wanted.insert(name.clone());
                self.known.lock().rooms.insert(name.clone());
                self.rooms.by_key.insert(
                    key,
                    RoomLink {
                        name,
                        link,
                        leaving: Leaving::No,
                        unanswered: 0,
                    },
                );
            }
            Err(reason) => {
                self.trouble(&format!("can't join {name}: {reason}"), screen);
                self.lose_focus(name, screen);
            }
        }
    }

    /// Leaves a room. Messages to the room and `LEAVE` are sent on different links. So the room
    /// must first reply to a `PING`, which shows that it has received the messages.
    pub(super) fn leave_room(
        &mut self,
        name: &str,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match self.rooms.by_key.get_mut(&name.to_ascii_lowercase()) {
            Some(room) => {
                room.leaving = Leaving::Checking;
                mention(ClientCommand::Ping, &room.link);
                self.dialog = Dialog::Awaiting(Awaiting::Leave);
                Ok(())
            }
            // The server explains what is wrong.
            None => self.send_leave(name, link, screen),
        }
    }

    fn send_leave(&mut self, name: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        if let Some(room) = self.rooms.by_key.get_mut(&name.to_ascii_lowercase()) {
            room.leaving = Leaving::Asked;
        }
        let leave = ClientCommand::Leave { room: name.into() };
        self.ask_server(leave, Awaiting::Leave, link, screen)
    }

    /// Handles the confirmation that the user has left a room.
    pub(super) fn left_room(&mut self, room: &str, screen: &Screen) {
        let left = self.rooms.by_key.remove(&room.to_ascii_lowercase());
        self.rooms.left.extend(left);
        self.rooms
            .wanted
            .retain(|wanted| !wanted.eq_ignore_ascii_case(room));
        screen.notice(&format!("you left {room}"));
        self.lose_focus(room, screen);
    }

    /// Handles the loss of a room to which typed lines were sent. A user sees the new recipient in
    /// the next prompt; a script must choose one.
    fn lose_focus(&mut self, room: &str, screen: &Screen) {
        if !matches!(&self.focus, Focus::Room(there) if there.eq_ignore_ascii_case(room)) {
            return;
        }
        if self.has_prompts {
            self.focus = Focus::Partner;
            let partner = self.partner.as_ref().map(|there| there.label.as_str());
            let whom = self.focus.describe(partner);
            screen.notice(&format!(
                "what you type goes to {whom} now; /to changes that"
            ));
        } else {
            self.focus = Focus::Lost(format!("you are no longer in {room}"));
        }
    }

    /// Reports that a link ended before all messages on it were answered.
    pub(super) fn not_confirmed(&mut self, whom: &str, screen: &Screen) {
        let sentence = format!(
            "your last message to {whom} may have been lost: it was not confirmed (press ↑ to get \
             it back)"
        );
        self.not_sent(&sentence, screen);
    }

    /// Handles an event of a room's link.
    pub(crate) fn on_room_event(
        &mut self,
        id: LinkId,
        events: LinkEvent,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
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
                self.rooms.by_key.retain(|_, room| room.link.id() != id);
                self.rooms.left.retain(|room| room.link.id() != id);
                if unanswered > 0 {
                    self.not_confirmed(&name, screen);
                }
                if leaving == Leaving::No {
                    screen.notice(&format!("you are no longer in {name}"));
                    self.lose_focus(&name, screen);
                } else if is_checking {
                    // The link ended on its own; the server's reply shows whether the user has
                    // left.
                    return self.send_leave(&name, link, screen);
                }
                return Ok(());
            }
        };
        let doc = codec.read_server(&frame);
        if matches!(doc, Ok(ServerDoc::Sent { .. } | ServerDoc::Error { .. })) {
            let mut rooms = self.rooms.by_key.values_mut();
            if let Some(room) = rooms.find(|room| room.link.id() == id) {
                room.unanswered = room.unanswered.saturating_sub(1);
            }
        }
        match doc {
            Ok(ServerDoc::Relay(relay)) => self.relay(&relay, screen),
            Ok(news) if self.room_news(&news, screen) => {}
            Ok(ServerDoc::Sent { count: 0 }) => {
                screen.notice(&format!("[{name}] nobody else is in this room"));
            }
            // A user sees the typed line itself; a script gets the reply.
            Ok(ServerDoc::Sent { count }) if !self.has_prompts => {
                screen.notice(&format!("[{name}] sent to {count}"));
            }
            Ok(ServerDoc::Error { sentence, .. }) => {
                let sentence = in_our_words(&sentence);
                self.trouble(&format!("[{name}] server: {sentence}"), screen);
            }
            Ok(ServerDoc::Notice(text)) => screen.notice(&format!("[{name}] {text}")),
            Ok(ServerDoc::Pong) if is_checking => {
                return self.send_leave(&name, link, screen);
            }
            _ => {}
        }
        Ok(())
    }
}
