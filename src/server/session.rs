//! What a seated client says, and what the server does about it.
//!
//! The path of a message: one `read` brings some frames; each is read as a document; what is for
//! the partner is gathered and written to the partner's socket with one `send`, by this thread.
//! That is a *turn*. Nobody else is woken.

use super::house::{House, Post};
use crate::event::{End, What};
use crate::hall::Guest;
use crate::limits;
use crate::outbox::Handed;
use crate::wire::{ClientCommand, ClientDoc, DocError, ErrorCode, FrameReader, Relay, ServerDoc};

/// One client's time in its seat.
pub(super) struct Session<'s> {
    house: &'s House,
    post: &'s Post,
    guest: &'s Guest,
    /// Refused documents since the last good one.
    refusals: u32,
    /// Messages for the partner, gathered during a turn.
    to_partner: Gathered,
    /// Answers to the client itself, gathered during a turn.
    to_self: Vec<u8>,
}

/// Frames on their way to the partner.
#[derive(Default)]
struct Gathered {
    frames: Vec<u8>,
    /// The texts' lengths and, if they are shown, the texts.
    messages: Vec<(usize, Option<String>)>,
}

impl<'s> Session<'s> {
    pub(super) fn new(house: &'s House, post: &'s Post, guest: &'s Guest) -> Session<'s> {
        let (to_partner, to_self) = (Gathered::default(), Vec::new());
        Session {
            house,
            post,
            guest,
            refusals: 0,
            to_partner,
            to_self,
        }
    }

    /// Serves the client until something ends the session, and returns what did.
    pub(super) fn run(mut self, frames: &mut FrameReader) -> End {
        let outbox = &self.guest.outbox;
        loop {
            // What came together with the passcode is a turn of its own, so serve before reading.
            let end = self.turn(frames);
            self.deliver();
            if !self.to_self.is_empty() {
                outbox.send(&self.to_self);
                self.to_self.clear();
            }
            if let Err(end) = end {
                return end;
            }
            match frames.read_from(&mut outbox.stream()) {
                Ok(0) => return End::Gone,
                // It was ended in the middle of what the client is sending.
                Ok(_) if outbox.is_over() => return End::Broken,
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
                    self.answer(&ServerDoc::Error {
                        code: ErrorCode::TooLong,
                        sentence: error.to_string().into(),
                    });
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
            self.post.with_seat(|occupied| occupied.seat.heard(now));
        }
        result
    }

    fn serve(&mut self, read: Result<ClientDoc<'_>, DocError>) -> Result<(), End> {
        match read {
            Ok(ClientDoc::Message { text, me }) => {
                let from = (&*self.guest.name).into();
                let shown = self.house.events.text(&text);
                self.to_partner.messages.push((text.len(), shown));
                let relay = ServerDoc::Relay(Relay { from, text, me });
                self.guest
                    .outbox
                    .codec()
                    .write_server(&relay, &mut self.to_partner.frames);
            }
            Ok(ClientDoc::Command(command)) => {
                // Answers come in the order of what they answer.
                self.deliver();
                match command {
                    ClientCommand::Terminate => return Err(End::Terminate),
                    ClientCommand::IdleTimeout => return Err(End::ClientIdle),
                    ClientCommand::TotalTimeTimeout => return Err(End::ClientTotal),
                    ClientCommand::Ping => self.answer(&ServerDoc::Pong),
                    ClientCommand::Port => {
                        return self.refuse(&DocError::UnknownCommand(command.name().to_owned()));
                    }
                }
            }
            // The passcode has been said; a second one says nothing.
            Ok(ClientDoc::Handshake { .. }) => return self.refuse(&DocError::Missing("message")),
            Err(error) => return self.refuse(&error),
        }
        self.refusals = 0;
        Ok(())
    }

    /// Hands what was gathered to the partner, and answers what had nobody to go to.
    fn deliver(&mut self) {
        let Gathered { frames, messages } = &mut self.to_partner;
        if messages.is_empty() {
            return;
        }
        let partner = self.house.hall.partner(self.post.number);
        let handed = partner.map_or(Handed::Gone, |partner| partner.outbox.send(frames));
        for (bytes, text) in messages.drain(..) {
            let from = self.post.port;
            match handed {
                Handed::Over => self.house.events.tell(|| {
                    let to = self.house.partner_port(self.post.number).unwrap_or(from);
                    What::Relayed {
                        from,
                        to,
                        bytes,
                        text,
                    }
                }),
                Handed::Gone => {
                    self.guest
                        .outbox
                        .codec()
                        .write_server(&ServerDoc::NoPartner, &mut self.to_self);
                    self.house.events.tell(|| What::NobodyThere { from });
                }
            }
        }
        frames.clear();
    }

    fn answer(&mut self, doc: &ServerDoc<'_>) {
        // After what is gathered, because that may have to be answered first.
        self.deliver();
        self.guest
            .outbox
            .codec()
            .write_server(doc, &mut self.to_self);
    }

    fn refuse(&mut self, error: &DocError) -> Result<(), End> {
        let code = error.code();
        self.house.events.tell(|| What::Refused {
            port: self.post.port,
            code,
        });
        self.answer(&ServerDoc::Error {
            code,
            sentence: error.to_string().into(),
        });
        self.refusals += 1;
        if self.refusals < limits::ERRORS_IN_A_ROW {
            return Ok(());
        }
        let sentence = format!("{} refusals in a row; connect again", self.refusals);
        self.answer(&ServerDoc::Error {
            code: ErrorCode::TooManyErrors,
            sentence: sentence.into(),
        });
        Err(End::TooManyErrors)
    }
}
