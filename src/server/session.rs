//! What a seated client says, and what the server does about it.
//!
//! The path of a message: one `read` brings some frames; each is read as a document; what is for
//! the same people is gathered and written to each of their sockets with one `send`, by this
//! thread. That is a *turn*. Nobody else is woken.

use std::sync::Arc;

use jiff::Timestamp;

use super::house::{House, Post};
use super::pace::Pace;
use super::rooms;
use crate::clock::{Subscription, Tick};
use crate::event::{End, What};
use crate::hall::{Addressed, Guest, Name, RoomError};
use crate::limits;
use crate::net::Port;
use crate::outbox::Handed;
use crate::seat::SeatNumber;
use crate::wire::{
    ClientCommand, ClientDoc, DocError, ErrorCode, FrameReader, Relay, Scope, Secret, ServerDoc,
};

/// One client's time in its seat.
pub(super) struct Session<'s> {
    pub(super) house: &'s House,
    pub(super) home: Home<'s>,
    pub(super) guest: &'s Arc<Guest>,
    /// What `from` says in its messages.
    pub(super) label: Arc<str>,
    /// The name that a password is awaited for.
    pub(super) claimed: Option<Name>,
    pub(super) wrong_passwords: u32,
    /// `PM` was said alone, so the next message is public.
    next_is_public: bool,
    /// The first frame may be a browser's, sent by the page of a stranger.
    may_be_http: bool,
    /// Refused documents since the last good one.
    refusals: u32,
    /// How fast the client may talk, if that is limited, and whether it has been told so.
    pace: Option<Pace>,
    told_of_pace: bool,
    /// To wait for a tick, once that has been necessary.
    waiting: Option<Subscription>,
    /// Messages gathered during a turn.
    gathered: Gathered,
    /// Answers to the client itself, gathered during a turn.
    answers: Vec<u8>,
}

/// Where the client is connected.
pub(super) enum Home<'s> {
    /// To a worker, where it talks with its partner and gives commands.
    Worker(&'s Post),
    /// To a room, where all it says is for the room.
    Room {
        port: Port,
        name: &'s Name,
        /// The same person's connection to a worker, and where that sits.
        main: &'s Arc<Guest>,
        seat: SeatNumber,
    },
}

/// Frames on their way to the same people.
struct Gathered {
    audience: Audience,
    frames: Vec<u8>,
    messages: Vec<Said>,
}

/// Who a message is for.
#[derive(Clone, PartialEq)]
enum Audience {
    Partner,
    Everyone,
    One(Name),
    Room(Name),
}

/// What is told of a message.
struct Said {
    bytes: usize,
    /// If texts are shown.
    text: Option<String>,
    /// What a room remembers of it: the text, and whether it is an action.
    remembered: Option<(String, bool)>,
}

impl Home<'_> {
    /// The port that the client is connected to.
    pub(super) fn port(&self) -> Port {
        match self {
            Home::Worker(post) => post.port,
            Home::Room { port, .. } => *port,
        }
    }

    /// Moves the idle deadline: the worker connection's own, or, for what is said in a room, that
    /// of the same person's worker connection.
    /// Returns that seat's port, if the person is still there.
    fn heard(&self, house: &House, now: Tick) -> Option<Port> {
        match self {
            Home::Worker(post) => {
                post.with_seat(|occupied| occupied.seat.heard(now));
                Some(post.port)
            }
            Home::Room { main, seat, .. } => {
                let post = &house.posts[seat.index()];
                let is_there = post.with_seat(|occupied| {
                    let there = occupied.connection.as_ref();
                    let is_there = there.is_some_and(|there| Arc::ptr_eq(there, main));
                    if is_there {
                        occupied.seat.heard(now);
                    }
                    is_there
                });
                is_there.then_some(post.port)
            }
        }
    }
}

impl<'s> Session<'s> {
    pub(super) fn new(house: &'s House, home: Home<'s>, guest: &'s Arc<Guest>) -> Session<'s> {
        Session {
            house,
            home,
            guest,
            label: guest.label(),
            claimed: None,
            wrong_passwords: 0,
            next_is_public: false,
            may_be_http: false,
            refusals: 0,
            pace: house
                .rate
                .map(|rate| Pace::new(rate, house.tick, house.clock.now())),
            told_of_pace: false,
            waiting: None,
            gathered: Gathered {
                audience: Audience::Partner,
                frames: Vec::new(),
                messages: Vec::new(),
            },
            answers: Vec::new(),
        }
    }

    /// Where no passcode is needed, any web page could make its reader's browser send words to this
    /// port, as lines of a request. So who begins as a browser does is not heard.
    pub(super) fn refusing_http(mut self) -> Session<'s> {
        self.may_be_http = true;
        self
    }

    /// Serves the client until something ends the session, and returns what did.
    pub(super) fn run(mut self, frames: &mut FrameReader) -> End {
        loop {
            self.house.may_panic("session");
            // What came together with the passcode is a turn of its own, so serve before reading.
            let end = self.turn(frames);
            self.deliver();
            self.send_answers();
            if let Err(end) = end {
                return end;
            }
            let outbox = &self.guest.outbox;
            match frames.read_from(&mut outbox.stream()) {
                // A last line without a line feed counts (`printf … | nc -N`).
                Ok(0) if frames.end_last_line() => {}
                Ok(0) => return End::Gone,
                // It was ended in the middle of what the client is sending. (If it was found broken
                // by a write, what the client had said before still counts.)
                Ok(_) if outbox.is_over() && outbox.ended() != Some(End::Broken) => {
                    return End::Broken;
                }
                Ok(_) => {}
                Err(_) => return End::Broken,
            }
        }
    }

    /// Serves every whole frame that has arrived.
    fn turn(&mut self, frames: &mut FrameReader) -> Result<(), End> {
        let mut heard = false;
        let result = loop {
            let read = match frames.next_frame() {
                Ok(Some(frame)) => {
                    if std::mem::take(&mut self.may_be_http) && is_http(frame) {
                        break Err(End::Http);
                    }
                    self.guest.outbox.codec().read_client(frame)
                }
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.error(ErrorCode::TooLong, &error.to_string());
                    break Err(End::TooLong);
                }
            };
            let outbox = &self.guest.outbox;
            if outbox.is_over() && outbox.ended() != Some(End::Broken) {
                break Err(End::Broken);
            }
            heard |= !matches!(read, Ok(ClientDoc::Command(ClientCommand::Ping)));
            if let Err(end) = self.keep_pace(&read) {
                break Err(end);
            }
            if let Err(end) = self.serve(read) {
                break Err(end);
            }
        };
        if heard {
            let now = self.house.clock.now();
            let is_first = self.guest.heard_at() != now;
            self.guest.heard(now);
            if let Some(port) = self.home.heard(self.house, now)
                && is_first
            {
                self.house.events.tell(|| What::Heard { port });
            }
        }
        result
    }

    /// Waits while the client talks faster than it may. Whoever ends its session meanwhile is not
    /// kept waiting for longer than a tick.
    fn keep_pace(&mut self, read: &Result<ClientDoc<'_>, DocError>) -> Result<(), End> {
        let is_free = matches!(
            read,
            Ok(ClientDoc::Command(
                ClientCommand::Ping
                    | ClientCommand::Terminate
                    | ClientCommand::IdleTimeout
                    | ClientCommand::TotalTimeTimeout
            ))
        );
        let Some(mut pace) = self.pace.clone().filter(|_| !is_free) else {
            return Ok(());
        };
        loop {
            let now = self.house.clock.now();
            if pace.take(now) {
                break;
            }
            if !self.told_of_pace {
                self.told_of_pace = true;
                let notice = "you talk faster than this server allows; what you say is delayed";
                self.answer(&ServerDoc::Notice(notice.into()));
            }
            self.deliver();
            // This is not heard anew: whoever has gone meanwhile must not keep the seat for as long
            // as it takes to serve what it left behind.
            self.wait_past(now)?;
        }
        self.pace = Some(pace);
        Ok(())
    }

    /// Waits until it is later than `tick`; what the client was answered goes out before.
    pub(super) fn wait_past(&mut self, tick: Tick) -> Result<(), End> {
        self.send_answers();
        let clock = &self.house.clock;
        let waiting = self.waiting.get_or_insert_with(|| clock.subscribe());
        if !waiting.wait_past(tick) {
            return Err(End::Shutdown);
        }
        if self.guest.outbox.is_over() {
            return Err(End::Gone);
        }
        Ok(())
    }

    fn serve(&mut self, read: Result<ClientDoc<'_>, DocError>) -> Result<(), End> {
        match read {
            Ok(ClientDoc::Message { text, me }) => {
                if std::mem::take(&mut self.next_is_public) {
                    self.say(Audience::Everyone, &text, me);
                } else if self.guest.outbox.codec().is_original() {
                    self.say(Audience::Partner, &text, me);
                } else {
                    self.say_where_it_says(&text, me)?;
                }
            }
            Ok(ClientDoc::Command(command)) => return self.obey(command),
            // The passcode has been said; a second one says nothing.
            Ok(ClientDoc::Handshake { .. }) => return self.refuse(&DocError::Missing("message")),
            Err(error) => return self.refuse(&error),
        }
        self.refusals = 0;
        Ok(())
    }

    /// A message that may name its destination itself (seed 003); if not, it is for the partner or
    /// the room.
    fn say_where_it_says(&mut self, text: &str, me: bool) -> Result<(), End> {
        let here = match self.home {
            Home::Worker(_) => Audience::Partner,
            Home::Room { name, .. } => Audience::Room(name.clone()),
        };
        match Addressed::read(text) {
            Addressed::Chat(text) => self.say(here, text, me),
            Addressed::One { .. } if here == Audience::Partner && self.guest.name().is_none() => {
                return self.login_first();
            }
            Addressed::One { name, rest } => self.say_to(name, rest, me),
        }
        Ok(())
    }

    /// A message for one person, who may not exist.
    fn say_to(&mut self, name: &str, text: &str, me: bool) {
        match Name::new(name) {
            Some(name) => self.say(Audience::One(name), text, me),
            None => {
                self.deliver();
                let from = self.home.port();
                self.house.events.tell_traffic(|| What::NoSuchUser {
                    from,
                    name: self.label.to_string(),
                    to: name.to_owned(),
                });
                let sentence = format!("nobody can be called {name}");
                self.answer(&ServerDoc::Error {
                    code: ErrorCode::NoSuchUser,
                    sentence: sentence.into(),
                });
            }
        }
    }

    fn obey(&mut self, command: ClientCommand<'_>) -> Result<(), End> {
        if let Home::Room { .. } = self.home {
            return self.obey_in_room(&command);
        }
        // Whoever gives another command has given the public message up.
        if !matches!(command, ClientCommand::Ping | ClientCommand::Stay) {
            self.next_is_public = false;
        }
        let needs_login = matches!(
            command,
            ClientCommand::Who
                | ClientCommand::Join { .. }
                | ClientCommand::Say { .. }
                | ClientCommand::Topic { .. }
                | ClientCommand::Leave { .. }
                | ClientCommand::Rooms
                | ClientCommand::Public { .. }
                | ClientCommand::PublicCancel
                | ClientCommand::DirectList
                | ClientCommand::Direct { .. }
                | ClientCommand::Passwd { .. }
        );
        if needs_login && self.guest.name().is_none() {
            return self.login_first();
        }
        match command {
            ClientCommand::Terminate => return Err(End::Terminate),
            ClientCommand::IdleTimeout => return Err(End::ClientIdle),
            ClientCommand::TotalTimeTimeout => return Err(End::ClientTotal),
            ClientCommand::Ping => self.answer(&ServerDoc::Pong),
            // That it was heard is all that it is for.
            ClientCommand::Stay => {}
            // A datagram's command, which means nothing on a connection.
            ClientCommand::Port => {
                return self.refuse(&DocError::UnknownCommand("PORT".to_owned()));
            }
            ClientCommand::Login { username } => self.login(&username),
            ClientCommand::Password(password) => {
                if !self.password(&password)? {
                    return Ok(());
                }
            }
            ClientCommand::Join { room, here } => self.join(&room, here),
            ClientCommand::Say { room, message, me } => self.say_in_room(&room, &message, me),
            ClientCommand::Topic { room, topic } => self.topic(&room, topic.as_deref()),
            ClientCommand::Leave { room } => self.leave(&room),
            ClientCommand::Rooms => {
                let rooms = self.house.rooms.lock().list();
                let rooms = rooms
                    .iter()
                    .map(|(name, members)| (name.as_str().into(), *members));
                self.answer(&ServerDoc::Rooms {
                    rooms: rooms.collect(),
                });
            }
            ClientCommand::Who => {
                let names = self.house.people.names();
                let users = names.iter().map(|name| name.as_str().into()).collect();
                self.answer(&ServerDoc::Who { users });
            }
            ClientCommand::Passwd {
                old: Secret(old),
                new: Secret(new),
            } => {
                if !self.change_password(&old, &new)? {
                    return Ok(());
                }
            }
            ClientCommand::PublicCancel => self.answer(&ServerDoc::Sent { count: 0 }),
            ClientCommand::Public { message: None, .. } => {
                self.next_is_public = true;
                self.answer(&ServerDoc::PublicNext);
            }
            ClientCommand::Public {
                message: Some(text),
                me,
            } => {
                self.say(Audience::Everyone, &text, me);
            }
            ClientCommand::DirectList => {
                let names = self.house.people.names();
                let others = names.iter().filter(|name| ***name != *self.label);
                let users = others.map(|name| name.as_str().into()).collect();
                self.answer(&ServerDoc::DirectList { users });
            }
            ClientCommand::Direct { to, message, me } => self.say_to(&to, &message, me),
        }
        self.refusals = 0;
        Ok(())
    }

    /// On a room's connection there is little to command: TERMINATE leaves the room.
    fn obey_in_room(&mut self, command: &ClientCommand<'_>) -> Result<(), End> {
        match command {
            ClientCommand::Terminate => return Err(End::Terminate),
            ClientCommand::IdleTimeout => return Err(End::ClientIdle),
            ClientCommand::TotalTimeTimeout => return Err(End::ClientTotal),
            ClientCommand::Ping => self.answer(&ServerDoc::Pong),
            _ => {
                let sentence = "that is for the main connection, not for a room's";
                return self.refuse_as(ErrorCode::UnknownCommand, sentence);
            }
        }
        self.refusals = 0;
        Ok(())
    }

    fn join(&mut self, room: &str, here: bool) {
        let (Home::Worker(post), Some(who)) = (&self.home, self.guest.name()) else {
            return;
        };
        let seat = post.number;
        let Some(name) = Name::new(room) else {
            return self.bad_room_name();
        };
        if here {
            // The answers to what was said before come before the room's.
            self.send_answers();
            if let Err(error) = rooms::join_here(self.house, &name, self.guest, &who, seat) {
                self.cant_join(&name, &error);
            }
            return;
        }
        match rooms::join(self.house, &name, self.guest, &who, seat) {
            Ok((name, ticket)) => {
                // Where the asker reached this server, it will reach the room.
                let local = self.guest.outbox.stream().local_addr();
                let address = local.map_or(self.house.bind, |local| local.ip());
                self.answer(&ServerDoc::Joined {
                    room: name.as_str().into(),
                    address: address.to_canonical(),
                    port: ticket.port,
                    passcode: ticket.passcode.reveal().into(),
                });
                self.send_answers();
                self.house.rooms.lock().append_topic(&name, self.guest);
                self.guest.outbox.flush();
            }
            Err(error) => self.cant_join(&name, &error),
        }
    }

    fn cant_join(&mut self, name: &Name, error: &RoomError) {
        match error {
            RoomError::AlreadyMember => {
                let sentence = format!("you are in {name} already");
                self.error(ErrorCode::AlreadyMember, &sentence);
            }
            _ => {
                let sentence = "there is no room left: every room's port is in use, or the machine gives no more threads; ROOMS tells which rooms there are";
                self.error(ErrorCode::NoRoomLeft, sentence);
            }
        }
    }

    /// Something for a room, said on the main connection.
    fn say_in_room(&mut self, room: &str, text: &str, me: bool) {
        let name = Name::new(room).ok_or(RoomError::NoSuchRoom);
        let name = name.and_then(|name| self.house.rooms.lock().name_for(&name, self.guest));
        match name {
            Ok(name) => self.say(Audience::Room(name), text, me),
            Err(error) => self.not_in_room(room, &error),
        }
    }

    fn topic(&mut self, room: &str, topic: Option<&str>) {
        self.send_answers();
        let name = Name::new(room).ok_or(RoomError::NoSuchRoom);
        let told = name.and_then(|name| self.house.rooms.lock().topic(&name, self.guest, topic));
        match told {
            Ok(told) => rooms::flush(&told),
            Err(error) => self.not_in_room(room, &error),
        }
    }

    fn not_in_room(&mut self, room: &str, error: &RoomError) {
        match error {
            RoomError::NotAMember => {
                self.error(ErrorCode::NotAMember, &format!("you are not in {room}"));
            }
            _ => self.error(ErrorCode::NoSuchRoom, &format!("there is no room {room}")),
        }
    }

    fn leave(&mut self, room: &str) {
        let Some(name) = Name::new(room) else {
            return self.bad_room_name();
        };
        match rooms::leave(self.house, &name, self.guest) {
            Ok(()) => self.answer(&ServerDoc::Left {
                room: name.as_str().into(),
            }),
            Err(error) => self.not_in_room(name.as_str(), &error),
        }
    }

    fn bad_room_name(&mut self) {
        let most = limits::NAME;
        let sentence = format!("a room's name is 1 to {most} letters (a to z), digits, _ . or -");
        self.error(ErrorCode::BadName, &sentence);
    }

    /// Gathers a message for `audience`.
    fn say(&mut self, audience: Audience, text: &str, me: bool) {
        // Messages to different people go out in the order in which they were said, because some
        // may hear both.
        if audience != self.gathered.audience {
            self.deliver();
            self.gathered.audience = audience;
        }
        let scope = match &self.gathered.audience {
            Audience::Room(name) => Scope::Room(name.as_str().into()),
            Audience::Partner => Scope::Partner,
            Audience::Everyone => Scope::Public,
            Audience::One(_) => Scope::Direct,
        };
        let relay = Relay {
            scope,
            from: (&*self.label).into(),
            text: text.into(),
            me,
            old: false,
            time: None,
        };
        let codec = self.guest.outbox.codec();
        codec.write_server(&ServerDoc::Relay(relay), &mut self.gathered.frames);
        let shown = self.house.events.text(text);
        let is_for_room = matches!(self.gathered.audience, Audience::Room(_));
        let remembered = is_for_room.then(|| (text.to_owned(), me));
        self.gathered.messages.push(Said {
            bytes: text.len(),
            text: shown,
            remembered,
        });
        self.guest.said(text.len());
        if self.gathered.frames.len() > limits::TURN {
            self.deliver();
        }
    }

    /// Hands over what was gathered, and answers each message: `SENT`, or that it reached nobody.
    fn deliver(&mut self) {
        if self.gathered.messages.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.gathered.messages);
        let frames = std::mem::take(&mut self.gathered.frames);
        match self.gathered.audience.clone() {
            Audience::Partner => self.deliver_to_partner(&frames, &messages),
            Audience::Everyone => self.deliver_to_everyone(&frames, &messages),
            Audience::One(name) => self.deliver_to_one(&name, &frames, &messages),
            Audience::Room(name) => self.deliver_to_room(&name, &frames, &messages),
        }
        // The room that they took is kept for the next turn.
        self.gathered.messages = messages;
        self.gathered.messages.clear();
        self.gathered.frames = frames;
        self.gathered.frames.clear();
    }

    fn deliver_to_partner(&mut self, frames: &[u8], messages: &[Said]) {
        let Home::Worker(post) = &self.home else {
            return;
        };
        let partner = self.house.pairs.partner(post.number);
        let handed = partner.map_or(Handed::Gone, |partner| partner.send(frames, messages.len()));
        let from = post.port;
        let to = self.house.partner_port(post.number).unwrap_or(from);
        for said in messages {
            match handed {
                Handed::Over => self.house.events.tell_traffic(|| What::Relayed {
                    from,
                    to,
                    bytes: said.bytes,
                    text: said.text.clone(),
                }),
                Handed::Gone => {
                    self.write_answer(&ServerDoc::NoPartner);
                    self.house
                        .events
                        .tell_traffic(|| What::NobodyThere { from });
                }
            }
        }
    }

    fn deliver_to_room(&mut self, name: &Name, frames: &[u8], messages: &[Said]) {
        let remembered: Vec<(String, bool)> = messages
            .iter()
            .filter_map(|said| said.remembered.clone())
            .collect();
        let now = Timestamp::now();
        let said = self
            .house
            .rooms
            .lock()
            .say(name, self.guest, &remembered, now);
        let (port, count) = match (said, &self.home) {
            (Ok(audience), _) => {
                let members = &audience.members;
                let group = &audience.group;
                let count = group.deliver(members, self.guest, frames, messages.len());
                (audience.port, count)
            }
            // On its way out of the room: nobody hears it any more.
            (Err(_), Home::Room { port, .. }) => (*port, 0),
            (Err(_), Home::Worker(_)) => {
                for _ in messages {
                    self.write_answer(&ServerDoc::Error {
                        code: ErrorCode::NotAMember,
                        sentence: format!("you are not in {name}").into(),
                    });
                }
                return;
            }
        };
        for said in messages {
            self.write_answer(&ServerDoc::Sent { count });
            self.house.events.tell_traffic(|| What::RoomSaid {
                port,
                room: name.to_string(),
                name: self.label.to_string(),
                count,
                text: said.text.clone(),
            });
        }
    }

    fn deliver_to_everyone(&mut self, frames: &[u8], messages: &[Said]) {
        let count = self.house.people.say(self.guest, frames, messages.len());
        for said in messages {
            self.write_answer(&ServerDoc::Sent { count });
            self.house.events.tell_traffic(|| What::Public {
                from: self.home.port(),
                name: self.label.to_string(),
                count,
                text: said.text.clone(),
            });
        }
    }

    fn deliver_to_one(&mut self, to: &Name, frames: &[u8], messages: &[Said]) {
        let target = self.house.people.find(to);
        let handed = target.map_or(Handed::Gone, |target| target.send(frames, messages.len()));
        let (from, name) = (self.home.port(), || self.label.to_string());
        for said in messages {
            match handed {
                Handed::Over => self.house.events.tell_traffic(|| What::Direct {
                    from,
                    name: name(),
                    to: to.to_string(),
                    text: said.text.clone(),
                }),
                Handed::Gone => self.house.events.tell_traffic(|| What::NoSuchUser {
                    from,
                    name: name(),
                    to: to.to_string(),
                }),
            }
        }
        for _ in messages {
            match handed {
                Handed::Over => self.write_answer(&ServerDoc::Sent { count: 1 }),
                Handed::Gone => self.write_answer(&ServerDoc::Error {
                    code: ErrorCode::NoSuchUser,
                    sentence: format!("{to} is not here; WHO tells who is").into(),
                }),
            }
        }
    }

    /// Answers the client, after the answers to what it said before.
    pub(super) fn answer(&mut self, doc: &ServerDoc<'_>) {
        self.deliver();
        self.write_answer(doc);
    }

    fn write_answer(&mut self, doc: &ServerDoc<'_>) {
        let outbox = &self.guest.outbox;
        outbox.codec().write_server(doc, &mut self.answers);
        if self.answers.len() > limits::TURN {
            outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Sends the answers so far. Before anything that takes long, the client and those whom it
    /// talked to should have what is theirs.
    pub(super) fn send_answers(&mut self) {
        self.deliver();
        if !self.answers.is_empty() {
            self.guest.outbox.send(&self.answers);
            self.answers.clear();
        }
    }

    /// Answers that something can't be done.
    pub(super) fn error(&mut self, code: ErrorCode, sentence: &str) {
        let port = self.home.port();
        self.house
            .events
            .tell_traffic(|| What::Refused { port, code });
        self.answer(&ServerDoc::Error {
            code,
            sentence: sentence.into(),
        });
    }

    /// Answers what could not be understood. Too many of those in a row end the session.
    fn refuse(&mut self, error: &DocError) -> Result<(), End> {
        self.refuse_as(error.code(), &error.to_string())
    }

    pub(super) fn login_first(&mut self) -> Result<(), End> {
        self.refuse_as(
            ErrorCode::LoginFirst,
            "log in first, with LOGIN and a username",
        )
    }

    pub(super) fn refuse_as(&mut self, code: ErrorCode, sentence: &str) -> Result<(), End> {
        self.error(code, sentence);
        self.refusals += 1;
        if self.refusals < limits::ERRORS_IN_A_ROW {
            return Ok(());
        }
        let sentence = format!("{} refusals in a row; connect again", self.refusals);
        self.error(ErrorCode::TooManyErrors, &sentence);
        Err(End::TooManyErrors)
    }
}

/// Whether a line is the first of an HTTP request.
fn is_http(line: &[u8]) -> bool {
    const METHODS: [&str; 9] = [
        "GET ", "POST ", "OPTIONS ", "PUT ", "HEAD ", "DELETE ", "CONNECT ", "PATCH ", "TRACE ",
    ];
    METHODS
        .iter()
        .any(|method| line.starts_with(method.as_bytes()))
}
