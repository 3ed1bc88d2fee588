//! A session at a worker's port or the single port: the client chats with its partner and sends
//! commands.

use std::sync::Arc;

use crate::backplane::Recipients;
use crate::chat::{Connection, Joiner, RoomError, flush_all};
use crate::journal::{Conversation, Range};
use crate::limits;
use crate::outgoing::Destination;
use crate::pace::TokenBucket;
use crate::turn::{Message, Role, Session};
use portal_core::clock::Tick;
use portal_core::seats::SharedSeat;
use portal_net::Port;
use portal_wire::{
    Addressed, ClientCommand, CloseReason, DocError, ErrorCode, Name, Scope, Secret, ServerDoc,
};

/// A client in a seat, and the state of its login.
pub struct AtWorker<'s> {
    pub(crate) seat: &'s SharedSeat,
    /// The name that the client claims with its next password.
    pub(crate) claimed: Option<Name>,
    pub(crate) wrong_passwords: u32,
    /// The code of a valid invitation, for the account that the client registers next.
    pub(crate) invitation: Option<String>,
    /// Set once the client has received a session token.
    pub(crate) has_token: bool,
    /// The tick of the client's last report.
    pub(crate) reported_at: Option<Tick>,
    /// Limits the changes to rooms' rules.
    pub(crate) room_changes: TokenBucket,
    /// Set after the client has sent `PM` without a message: its next message is public.
    next_is_public: bool,
}

impl<'s> AtWorker<'s> {
    /// Creates the role of a client that has just been welcomed.
    pub fn new(seat: &'s SharedSeat) -> AtWorker<'s> {
        AtWorker {
            seat,
            claimed: None,
            wrong_passwords: 0,
            invitation: None,
            has_token: false,
            reported_at: None,
            room_changes: TokenBucket::new(
                limits::ROOM_CHANGES,
                limits::ROOM_CHANGES_PER_TICK,
                Tick::default(),
            ),
            next_is_public: false,
        }
    }
}

impl Role for AtWorker<'_> {
    fn port(&self) -> Port {
        self.seat.port
    }

    fn touch(&self, connection: &Arc<Connection>, now: Tick) -> Option<Port> {
        self.seat.touch(connection, now).then_some(self.seat.port)
    }

    /// Sends a message to the recipient that its text specifies (seed 003), otherwise to the
    /// partner. After `PM` without a message, sends it to all users.
    fn message(session: &mut Session<'_, Self>, message: Message<'_>) -> Result<(), CloseReason> {
        let me = message.me;
        let partner = Destination::Partner(session.role.seat.number);
        if std::mem::take(&mut session.role.next_is_public) {
            session
                .outgoing
                .send(Destination::EVERYONE, message.text, me);
            return Ok(());
        }
        match message.addressed() {
            Addressed::Chat(text) => session.outgoing.send(partner, text, me),
            Addressed::One { .. } if session.connection().name().is_none() => {
                return session.login_first();
            }
            Addressed::One { name, rest } => session.outgoing.send_direct(name, rest, me),
        }
        Ok(())
    }

    fn obey(
        session: &mut Session<'_, Self>,
        command: ClientCommand<'_>,
    ) -> Result<(), CloseReason> {
        // Any other command cancels the pending public message.
        if !matches!(command, ClientCommand::Stay) {
            session.role.next_is_public = false;
        }
        match command {
            // `STAY` only counts as activity.
            ClientCommand::Stay => Ok(()),
            ClientCommand::Login { username } => session.login(&username),
            ClientCommand::Password { password } => session.password(&password),
            ClientCommand::Resume {
                username,
                token: Secret(token),
            } => session.resume(&username, &token),
            ClientCommand::Invitation { code: Secret(code) } => session.invitation(code.trim()),
            // Valid only in a datagram.
            ClientCommand::Port => session.refuse(&DocError::UnknownCommand("PORT".to_owned())),
            command => match session.connection().name() {
                Some(name) => session.obey_somebody(&name, command),
                None => session.login_first(),
            },
        }
    }
}

impl Session<'_, AtWorker<'_>> {
    /// Executes a command from a client that has logged in as `who`.
    fn obey_somebody(&mut self, who: &Name, command: ClientCommand<'_>) -> Result<(), CloseReason> {
        match command {
            ClientCommand::Who => {
                let names = self.names();
                let users = names.iter().map(|name| name.as_str().into()).collect();
                self.outgoing.answer(&ServerDoc::Who { users });
            }
            ClientCommand::Public {
                message: Some(text),
                me,
            } => self.outgoing.send(Destination::EVERYONE, &text, me),
            ClientCommand::Public { message: None, .. } => {
                self.role.next_is_public = true;
                self.outgoing.answer(&ServerDoc::PublicNext);
            }
            ClientCommand::PublicCancel => self.outgoing.answer(&ServerDoc::Sent { count: 0 }),
            ClientCommand::Direct { to, message, me } => {
                self.outgoing.send_direct(&to, &message, me)
            }
            ClientCommand::DirectList => {
                let names = self.names();
                let others = names.iter().filter(|name| *name != who.as_str());
                let users = others.map(|name| name.as_str().into()).collect();
                self.outgoing.answer(&ServerDoc::DirectList { users });
            }
            ClientCommand::Passwd {
                old: Secret(old),
                new: Secret(new),
            } => return self.change_password(&old, &new),
            ClientCommand::Token => self.issue_token(who),
            ClientCommand::Logout {
                token: Secret(token),
            } => return self.logout(who, &token),
            ClientCommand::Members { room } => self.members(&room),
            ClientCommand::Rooms => self.rooms(),
            ClientCommand::Join {
                room,
                here,
                password,
            } => {
                let password = password.as_ref().map(|Secret(password)| &**password);
                return self.join(who, &room, here, password);
            }
            ClientCommand::Say { room, message, me } => self.send_to_room(who, &room, &message, me),
            ClientCommand::Topic { room, topic } => self.topic(who, &room, topic.as_deref()),
            ClientCommand::Leave { room } => self.leave(&room),
            ClientCommand::History {
                room,
                with,
                before,
                after,
                count,
            } => {
                let most = count.unwrap_or(limits::HISTORY_PAGE);
                let range = Range {
                    before,
                    after,
                    most: most.min(limits::HISTORY_PAGE),
                };
                self.history(who, (room.as_deref(), with.as_deref()), range);
            }
            ClientCommand::Kick { room: None, .. }
            | ClientCommand::Mute { room: None, .. }
            | ClientCommand::Unmute { room: None, .. }
            | ClientCommand::Ban { .. }
            | ClientCommand::Unban { .. }
            | ClientCommand::Report { .. } => self.moderate(who, &command),
            ClientCommand::Kick { .. }
            | ClientCommand::Mute { .. }
            | ClientCommand::Unmute { .. }
            | ClientCommand::Room { .. }
            | ClientCommand::Invite { .. } => self.room_rules(who, &command),
            // These need no login, or are the same in every role.
            ClientCommand::Login { .. }
            | ClientCommand::Password { .. }
            | ClientCommand::Resume { .. }
            | ClientCommand::Invitation { .. }
            | ClientCommand::Port
            | ClientCommand::Stay
            | ClientCommand::Ping
            | ClientCommand::Terminate
            | ClientCommand::IdleTimeout
            | ClientCommand::TotalTimeTimeout => {}
        }
        Ok(())
    }

    /// The names of all users on all servers, or only on this server if the others can't be
    /// reached.
    fn names(&mut self) -> Vec<String> {
        self.outgoing.send_answers();
        let everywhere = self.state.backplane.users();
        everywhere.unwrap_or_else(|| self.state.users.names())
    }

    /// Sends the names of all rooms on all servers, or only on this server if the others can't be
    /// reached.
    fn rooms(&mut self) {
        self.outgoing.send_answers();
        let elsewhere = self.state.backplane.rooms();
        let here = || self.state.rooms.with(|rooms| rooms.list());
        let rooms = elsewhere.unwrap_or_else(here);
        let rooms = rooms
            .iter()
            .map(|(name, members)| (name.as_str().into(), *members));
        self.outgoing.answer(&ServerDoc::Rooms {
            rooms: rooms.collect(),
        });
    }

    /// Sets a room's topic; without `topic`, sends the current one.
    fn topic(&mut self, who: &Name, room: &str, topic: Option<&str>) {
        let (length, most) = (topic.map_or(0, str::len), limits::MAX_TOPIC_BYTES);
        if length > most {
            let sentence =
                format!("the topic is {length} bytes long, but the limit is {most}; shorten it");
            return self.outgoing.error(ErrorCode::BadTopic, &sentence);
        }
        let (main, rooms) = (self.connection(), &self.state.rooms);
        let Some(name) = Name::new(room) else {
            return self.not_in_room(room, &RoomError::NoSuchRoom);
        };
        if let Some(topic) = topic {
            if self.is_refused_in(&name, who) {
                return;
            }
            if rooms.with(|rooms| rooms.name_for(&name, main)).is_ok()
                && !self.outgoing.publish_topic(&name, topic)
            {
                return;
            }
        }
        self.outgoing.wait_for_pending();
        let notified = rooms.with(|rooms| {
            let notified = rooms.topic(&name, main, topic)?;
            if let Some(topic) = topic {
                let journal = self.state.history.journal();
                journal.set_topic(&name, topic, &main.label());
            }
            Ok(notified)
        });
        match notified {
            Ok(notified) => flush_all(&notified),
            Err(error) => self.not_in_room(room, &error),
        }
    }

    /// Sends the names of a room's members, including those on the other servers if these can be
    /// reached.
    fn members(&mut self, room: &str) {
        let main = self.connection();
        let name = Name::new(room).ok_or(RoomError::NoSuchRoom);
        let rooms = &self.state.rooms;
        match name.and_then(|name| rooms.with(|rooms| rooms.name_for(&name, main))) {
            Ok(name) => {
                self.outgoing.send_answers();
                let elsewhere = self.state.backplane.room_members(&name);
                let here = || rooms.with(|rooms| rooms.member_names(&name));
                let mut names = elsewhere.unwrap_or_else(here);
                names.sort_by_key(|name| name.to_ascii_lowercase());
                self.outgoing.answer(&ServerDoc::Members {
                    room: name.as_str().into(),
                    users: names.iter().map(|name| name.as_str().into()).collect(),
                });
            }
            Err(error) => self.not_in_room(room, &error),
        }
    }

    fn join(
        &mut self,
        who: &Name,
        room: &str,
        here: bool,
        password: Option<&str>,
    ) -> Result<(), CloseReason> {
        let Some(name) = Name::new(room) else {
            self.bad_room_name();
            return Ok(());
        };
        if self.may_join(&name, who, password)? {
            self.enter_room(&name, who, here);
            self.leave_if_removed(&name, who);
        }
        Ok(())
    }

    fn enter_room(&mut self, name: &Name, who: &Name, here: bool) {
        let joiner = Joiner {
            main: self.connection(),
            who,
            seat: self.role.seat.number,
        };
        // Replies to earlier requests must precede the room's output.
        self.outgoing.wait_for_pending();
        let rooms = &self.state.rooms;
        if here {
            if let Err(error) = rooms.join_here(name, &joiner) {
                self.cant_join(name, &error);
            }
            return;
        }
        match rooms.join(name, &joiner) {
            Ok((name, ticket)) => {
                let outbox = &joiner.main.outbox;
                // The client can reach the room at the address at which it reached this server.
                let local = outbox.stream().local_addr();
                let address = local.map_or(rooms.ports.bind.ip(), |local| local.ip());
                self.outgoing.answer(&ServerDoc::Joined {
                    room: name.as_str().into(),
                    address: address.to_canonical(),
                    port: ticket.port,
                    passcode: ticket.passcode.reveal().into(),
                });
                self.outgoing.send_answers();
                rooms.with(|rooms| rooms.append_topic(&name, joiner.main));
                outbox.flush();
            }
            Err(error) => self.cant_join(name, &error),
        }
    }

    fn cant_join(&mut self, name: &Name, error: &RoomError) {
        match error {
            RoomError::AlreadyMember => {
                let sentence = format!("you are already in {name}");
                self.outgoing.error(ErrorCode::AlreadyMember, &sentence);
            }
            RoomError::TooMany => {
                let most = limits::MAX_ROOMS_PER_USER;
                let sentence =
                    format!("you are in {most} rooms, which is the limit; leave one first");
                self.outgoing.error(ErrorCode::NoRoomLeft, &sentence);
            }
            _ => {
                let sentence = "no room is available: every room port is in use, or the server can't start more threads; ROOMS lists the existing rooms";
                self.outgoing.error(ErrorCode::NoRoomLeft, sentence);
            }
        }
    }

    /// Sends a message to a room from the main connection.
    fn send_to_room(&mut self, who: &Name, room: &str, text: &str, me: bool) {
        let name = Name::new(room).ok_or(RoomError::NoSuchRoom);
        let main = self.connection();
        let name = name.and_then(|name| self.state.rooms.with(|rooms| rooms.name_for(&name, main)));
        match name {
            Ok(name) if self.is_refused_in(&name, who) => {}
            Ok(name) => self
                .outgoing
                .send(Destination::Users(Recipients::Room(name)), text, me),
            Err(error) => self.not_in_room(room, &error),
        }
    }

    fn leave(&mut self, room: &str) {
        let Some(name) = Name::new(room) else {
            return self.bad_room_name();
        };
        match self.state.rooms.leave(&name, self.connection()) {
            Ok(()) => self.outgoing.answer(&ServerDoc::Left {
                room: name.as_str().into(),
                by: None,
                reason: None,
            }),
            Err(error) => self.not_in_room(name.as_str(), &error),
        }
    }

    /// Sends a part of a room's history, of the direct messages with another user, or of the public
    /// messages.
    fn history(&mut self, who: &Name, of: (Option<&str>, Option<&str>), range: Range) {
        // The history includes the messages sent before this request, and the client must first
        // receive the replies to them.
        self.outgoing.wait_for_pending();
        let main = self.connection();
        let (conversation, scope, with) = match of {
            (Some(_), Some(_)) => {
                let sentence = "HISTORY takes <room> or <with>, not both";
                return self.outgoing.error(ErrorCode::Malformed, sentence);
            }
            (Some(room), None) => {
                let name = Name::new(room.trim()).ok_or(RoomError::NoSuchRoom);
                let rooms = &self.state.rooms;
                match name.and_then(|name| rooms.with(|rooms| rooms.name_for(&name, main))) {
                    Ok(name) => {
                        let scope = Scope::Room(name.to_string().into());
                        (Conversation::room(&name), scope, None)
                    }
                    Err(error) => return self.not_in_room(room, &error),
                }
            }
            (None, Some(with)) => {
                if !self.state.history.keeps_direct() {
                    let sentence = "this server does not keep direct messages, because it does not \
                                    protect names with passwords";
                    return self.outgoing.error(ErrorCode::NoHistory, sentence);
                }
                let Some(with) = Name::new(with.trim()) else {
                    let sentence = format!("not a valid name: {with}");
                    return self.outgoing.error(ErrorCode::BadName, &sentence);
                };
                let conversation = Conversation::direct(who, &with);
                (conversation, Scope::Direct, Some(with))
            }
            (None, None) => (Conversation::Public, Scope::Public, None),
        };
        let page = match self.state.history.journal().page(&conversation, range) {
            Ok(page) => page.within(limits::HISTORY, &scope, range),
            Err(error) => {
                let sentence = error.to_string();
                return self.outgoing.error(ErrorCode::NoHistory, &sentence);
            }
        };
        let room = match &scope {
            Scope::Room(name) => Some(name.clone()),
            _ => None,
        };
        self.outgoing.answer(&ServerDoc::History {
            room,
            with: with.as_ref().map(|with| with.as_str().into()),
            count: page.entries.len(),
            more: page.more,
        });
        self.outgoing.send_answers();
        let docs = page.entries_and_gaps();
        let docs = docs.map(|(entry, gap)| entry.doc(scope.clone(), gap));
        let bytes = docs.map(|doc| main.outbox.append_exempt_reply(&doc)).sum();
        main.charge_reply(bytes);
        main.outbox.flush();
    }

    fn not_in_room(&mut self, room: &str, error: &RoomError) {
        let (code, sentence) = match error {
            RoomError::NotAMember => (ErrorCode::NotAMember, format!("you are not in {room}")),
            _ => (
                ErrorCode::NoSuchRoom,
                format!("there is no room named {room}"),
            ),
        };
        self.outgoing.error(code, &sentence);
    }

    fn bad_room_name(&mut self) {
        let most = limits::MAX_NAME_BYTES;
        let sentence = format!(
            "a room name must be 1 to {most} characters: letters (a to z), digits, `_`, `.` or `-`"
        );
        self.outgoing.error(ErrorCode::BadName, &sentence);
    }

    pub(crate) fn login_first(&mut self) -> Result<(), CloseReason> {
        self.refuse_as(
            ErrorCode::LoginFirst,
            "log in first, with LOGIN and a username",
        )
    }
}
