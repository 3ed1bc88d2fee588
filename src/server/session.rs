//! What a seated client says, and what the server does about it.
//!
//! The path of a message: one `read` brings some frames; each is read as a document; what is for
//! the same people is gathered and written to each of their sockets with one `send`, by this
//! thread. That is a *turn*. Nobody else is woken.

use std::sync::Arc;

use super::house::{House, Post};
use crate::event::{End, What};
use crate::hall::{Guest, Name};
use crate::limits;
use crate::outbox::Handed;
use crate::wire::{
    ClientCommand, ClientDoc, DocError, ErrorCode, FrameReader, Relay, Scope, ServerDoc,
};

/// One client's time in its seat.
pub(super) struct Session<'s> {
    pub(super) house: &'s House,
    pub(super) post: &'s Post,
    pub(super) guest: &'s Arc<Guest>,
    /// What `from` says in its messages.
    pub(super) label: Arc<str>,
    /// The name that a password is awaited for.
    pub(super) claimed: Option<Name>,
    pub(super) wrong_passwords: u32,
    /// `PM` was said alone, so the next message is public.
    next_is_public: bool,
    /// Refused documents since the last good one.
    refusals: u32,
    /// Messages gathered during a turn.
    gathered: Gathered,
    /// Answers to the client itself, gathered during a turn.
    answers: Vec<u8>,
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
}

/// What is told of a message.
struct Said {
    bytes: usize,
    /// If texts are shown.
    text: Option<String>,
}

impl<'s> Session<'s> {
    pub(super) fn new(house: &'s House, post: &'s Post, guest: &'s Arc<Guest>) -> Session<'s> {
        Session {
            house,
            post,
            guest,
            label: guest.label(),
            claimed: None,
            wrong_passwords: 0,
            next_is_public: false,
            refusals: 0,
            gathered: Gathered {
                audience: Audience::Partner,
                frames: Vec::new(),
                messages: Vec::new(),
            },
            answers: Vec::new(),
        }
    }

    /// Serves the client until something ends the session, and returns what did.
    pub(super) fn run(mut self, frames: &mut FrameReader) -> End {
        loop {
            // What came together with the passcode is a turn of its own, so serve before reading.
            let end = self.turn(frames);
            self.deliver();
            self.send_answers();
            if let Err(end) = end {
                return end;
            }
            let outbox = &self.guest.outbox;
            match frames.read_from(&mut outbox.stream()) {
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
                Ok(Some(frame)) => self.guest.outbox.codec().read_client(frame),
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.error(ErrorCode::TooLong, &error.to_string());
                    break Err(End::TooLong);
                }
            };
            heard |= !matches!(read, Ok(ClientDoc::Command(ClientCommand::Ping)));
            if let Err(end) = self.serve(read) {
                break Err(end);
            }
        };
        if heard {
            let now = self.house.clock.now();
            self.guest.heard(now);
            self.post.with_seat(|occupied| occupied.seat.heard(now));
        }
        result
    }

    fn serve(&mut self, read: Result<ClientDoc<'_>, DocError>) -> Result<(), End> {
        match read {
            Ok(ClientDoc::Message { text, me }) => {
                let is_public = std::mem::take(&mut self.next_is_public);
                let addressed = self.guest.name().and_then(|_| Name::addressed(&text));
                match addressed {
                    _ if is_public => self.say(Audience::Everyone, &text, me),
                    Some((name, rest)) => self.say(Audience::One(name), rest, me),
                    None => self.say(Audience::Partner, &text, me),
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

    fn obey(&mut self, command: ClientCommand<'_>) -> Result<(), End> {
        let needs_login = matches!(
            command,
            ClientCommand::Who
                | ClientCommand::Public { .. }
                | ClientCommand::DirectList
                | ClientCommand::Direct { .. }
        );
        if needs_login && self.guest.name().is_none() {
            return self.login_first();
        }
        match command {
            ClientCommand::Terminate => return Err(End::Terminate),
            ClientCommand::IdleTimeout => return Err(End::ClientIdle),
            ClientCommand::TotalTimeTimeout => return Err(End::ClientTotal),
            ClientCommand::Ping => self.answer(&ServerDoc::Pong),
            // A datagram's command, which means nothing on a connection.
            ClientCommand::Port => {
                return self.refuse(&DocError::UnknownCommand("PORT".to_owned()));
            }
            ClientCommand::Login { username } => self.login(&username),
            ClientCommand::Password(password) => return self.password(&password),
            ClientCommand::Who => {
                let names = self.house.people.names();
                let users = names.iter().map(|name| name.as_str().into()).collect();
                self.answer(&ServerDoc::Who { users });
            }
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
            ClientCommand::Direct { to, message, me } => match Name::new(&to) {
                Some(name) => self.say(Audience::One(name), &message, me),
                None => self.error(ErrorCode::NoSuchUser, &format!("nobody can be called {to}")),
            },
        }
        self.refusals = 0;
        Ok(())
    }

    /// Gathers a message for `audience`.
    fn say(&mut self, audience: Audience, text: &str, me: bool) {
        // Messages to different people go out in the order in which they were said, because some
        // may hear both.
        if audience != self.gathered.audience {
            self.deliver();
            self.gathered.audience = audience;
        }
        let scope = match self.gathered.audience {
            Audience::Partner => Scope::Partner,
            Audience::Everyone => Scope::Public,
            Audience::One(_) => Scope::Direct,
        };
        let relay = Relay {
            scope,
            from: (&*self.label).into(),
            text: text.into(),
            me,
        };
        let codec = self.guest.outbox.codec();
        codec.write_server(&ServerDoc::Relay(relay), &mut self.gathered.frames);
        let shown = self.house.events.text(text);
        self.gathered.messages.push(Said {
            bytes: text.len(),
            text: shown,
        });
        self.guest.said(text.len());
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
        }
        // The room that they took is kept for the next turn.
        self.gathered.messages = messages;
        self.gathered.messages.clear();
        self.gathered.frames = frames;
        self.gathered.frames.clear();
    }

    fn deliver_to_partner(&mut self, frames: &[u8], messages: &[Said]) {
        let partner = self.house.pairs.partner(self.post.number);
        let handed = partner.map_or(Handed::Gone, |partner| partner.send(frames, messages.len()));
        let from = self.post.port;
        for said in messages {
            match handed {
                Handed::Over => self.house.events.tell(|| {
                    let to = self.house.partner_port(self.post.number).unwrap_or(from);
                    What::Relayed {
                        from,
                        to,
                        bytes: said.bytes,
                        text: said.text.clone(),
                    }
                }),
                Handed::Gone => {
                    self.write_answer(&ServerDoc::NoPartner);
                    self.house.events.tell(|| What::NobodyThere { from });
                }
            }
        }
    }

    fn deliver_to_everyone(&mut self, frames: &[u8], messages: &[Said]) {
        let count = self.house.people.say(self.guest, frames, messages.len());
        for said in messages {
            self.write_answer(&ServerDoc::Sent { count });
            self.house.events.tell(|| What::Public {
                from: self.post.port,
                name: self.label.to_string(),
                count,
                text: said.text.clone(),
            });
        }
    }

    fn deliver_to_one(&mut self, to: &Name, frames: &[u8], messages: &[Said]) {
        let target = self.house.people.find(to);
        let handed = target.map_or(Handed::Gone, |target| target.send(frames, messages.len()));
        let (from, name) = (self.post.port, || self.label.to_string());
        for said in messages {
            match handed {
                Handed::Over => self.house.events.tell(|| What::Direct {
                    from,
                    name: name(),
                    to: to.to_string(),
                    text: said.text.clone(),
                }),
                Handed::Gone => self.house.events.tell(|| What::NoSuchUser {
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
        self.guest
            .outbox
            .codec()
            .write_server(doc, &mut self.answers);
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
        let port = self.post.port;
        self.house.events.tell(|| What::Refused { port, code });
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

    fn refuse_as(&mut self, code: ErrorCode, sentence: &str) -> Result<(), End> {
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
