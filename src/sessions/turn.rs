//! A client's session. It repeats the *turn*: one read, every complete frame in it, then one write
//! to each recipient.
//!
//! The path of a message: a `read` returns some frames, and each is decoded into a document. The
//! session's [`Role`], at a worker or in a room, decides what the document means. `Outgoing`
//! collects messages and delivers them at the turn's end.

use std::sync::Arc;

use crate::chat::Connection;
use crate::event::SessionEvent;
use crate::limits;
use crate::outgoing::Outgoing;
use crate::pace::{Rate, TokenBucket};
use crate::state::ChatState;
use portal_core::clock::{Subscription, Tick};
use portal_core::service::Refusal;
use portal_core::transport::{Decoder, Input};
use portal_net::Port;
use portal_wire::{
    Addressed, ClientCommand, ClientDoc, CloseReason, DocError, ErrorCode, FrameError, Frames,
    Name, ServerDoc,
};

/// The meaning of messages and commands at the port that the client is connected to.
pub trait Role: Sized {
    /// The port that the client is connected to.
    fn port(&self) -> Port;

    /// Moves the idle deadline of the client's seat. Returns that seat's port, or `None` if the
    /// client has left.
    fn touch(&self, connection: &Arc<Connection>, now: Tick) -> Option<Port>;

    /// Handles a message.
    ///
    /// # Errors
    /// The reason why the session ends.
    fn message(session: &mut Session<'_, Self>, message: Message<'_>) -> Result<(), CloseReason>;

    /// Executes a command, except those that mean the same everywhere.
    ///
    /// # Errors
    /// The reason why the session ends.
    fn obey(session: &mut Session<'_, Self>, command: ClientCommand<'_>)
    -> Result<(), CloseReason>;
}

/// A message as it was received.
pub struct Message<'m> {
    pub(crate) text: &'m str,
    pub(crate) me: bool,
    is_verbatim: bool,
}

impl<'m> Message<'m> {
    /// The recipient that the text itself specifies (seed 003), and the rest of the text.
    pub(crate) fn addressed(&self) -> Addressed<'m> {
        match self.is_verbatim {
            true => Addressed::Chat(self.text),
            false => Addressed::read(self.text),
        }
    }
}

/// One client's session in a role.
pub struct Session<'s, R> {
    pub(crate) state: &'s ChatState,
    pub(crate) role: R,
    pub(crate) outgoing: Outgoing<'s>,
    /// Refused documents since the last valid one.
    refusals: u32,
    /// Limits the client's message rate, if `--rate` is set.
    pace: Option<TokenBucket>,
    is_pace_notified: bool,
    /// Limits the bytes of replies that the client may request.
    replies: TokenBucket,
    /// Waits for ticks; created on the first wait.
    waiting: Option<Subscription>,
}

impl<'s, R: Role> Session<'s, R> {
    /// Creates a session for `connection` in `role`.
    pub fn new(state: &'s ChatState, role: R, connection: &'s Arc<Connection>) -> Session<'s, R> {
        let now = state.clock.now();
        let pace = |(rate, tick): (Rate, _)| rate.allowance(tick, now);
        let (burst, per_tick) = (
            tokens(limits::REPLY_BURST),
            tokens(limits::REPLIES_PER_TICK),
        );
        Session {
            state,
            outgoing: Outgoing::new(state, connection, role.port()),
            role,
            refusals: 0,
            pace: state.rate.lock().map(pace),
            is_pace_notified: false,
            replies: TokenBucket::new(burst, per_tick, now),
            waiting: None,
        }
    }

    pub(crate) fn connection(&self) -> &'s Arc<Connection> {
        self.outgoing.connection
    }

    /// Returns the reason if the server has ended the session while the client is still sending.
    /// (If a write found the connection broken, input that arrived earlier still counts.)
    fn cut_off(&self) -> Option<CloseReason> {
        let outbox = &self.connection().outbox;
        let end = outbox.has_ended().then(|| outbox.ended()).flatten();
        end.filter(|end| *end != CloseReason::ConnectionReset)
    }

    /// Serves the client until the session ends, and returns the reason.
    pub fn run(mut self, decoder: &mut dyn Decoder) -> CloseReason {
        self.connection().record_serving_thread();
        loop {
            self.state.panics.fail_point("session");
            // Input that arrived with the passcode is a separate turn, so serve before reading.
            let end = self.turn(decoder);
            self.outgoing.send_answers();
            if let Err(end) = end {
                self.outgoing.wait_for_pending();
                return end;
            }
            match decoder.read_from(&mut self.connection().outbox.stream()) {
                // Accept a last line without a line feed (`printf … | nc -N`).
                Ok(0) if decoder.end_of_stream() => {}
                Ok(0) => {
                    // The client may have closed only its sending side and still be reading.
                    self.outgoing.wait_for_pending();
                    return CloseReason::PeerClosed;
                }
                Ok(_) => match self.cut_off() {
                    Some(end) => return end,
                    None => self.connection().count_read(self.state.clock.now()),
                },
                Err(error) => return CloseReason::of_read(&error),
            }
        }
    }

    /// Answers the transport's own pings, which `--rate` limits like `PING`.
    fn answer_pings(&mut self, pongs: &Frames) -> Result<(), CloseReason> {
        for _ in pongs.ends() {
            self.keep_pace(false)?;
        }
        self.outgoing.send_answers();
        self.connection().outbox.send(pongs);
        Ok(())
    }

    /// Serves every complete frame that has arrived.
    fn turn(&mut self, decoder: &mut dyn Decoder) -> Result<(), CloseReason> {
        let mut was_active = false;
        let result = loop {
            let (length, read, is_verbatim) = match decoder.next_input() {
                Ok(Some(Input::Document {
                    frame,
                    read,
                    is_verbatim,
                    request,
                })) => {
                    self.outgoing.request = request;
                    (frame.len(), read, is_verbatim)
                }
                Ok(Some(Input::Alive { reply })) => {
                    // Answering may take longer than the timeout.
                    if std::mem::take(&mut was_active) {
                        self.note_activity();
                    }
                    match self.answer_pings(&reply) {
                        Ok(()) => continue,
                        Err(end) => break Err(end),
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(self.rejected(&error)),
            };
            if let Some(end) = self.cut_off() {
                break Err(end);
            }
            was_active |= !matches!(read, Ok(ClientDoc::Command(ClientCommand::Ping)));
            let waited = self
                .keep_pace(ends_session(&read))
                .and_then(|()| self.keep_to_replies(&read));
            let handled = waited.and_then(|()| self.handle(read, is_verbatim));
            self.charge_replies(length);
            if let Err(end) = handled {
                break Err(end);
            }
        };
        if was_active {
            self.note_activity();
        }
        result
    }

    /// Restarts the idle timeout, because the client has sent more than a `PING`.
    fn note_activity(&mut self) {
        let now = self.state.clock.now();
        let connection = self.connection();
        let is_first = connection.last_activity() != Some(now);
        connection.touch(now);
        if let Some(port) = self.role.touch(connection, now)
            && is_first
        {
            self.state
                .events
                .emit_pulse(|| SessionEvent::Activity { port });
        }
    }

    /// Waits while the client exceeds its message rate. A session that ends in the meantime waits
    /// for at most a tick.
    fn keep_pace(&mut self, ends_session: bool) -> Result<(), CloseReason> {
        let Some(mut pace) = self.pace.clone().filter(|_| !ends_session) else {
            return Ok(());
        };
        loop {
            let now = self.state.clock.now();
            if pace.has_tokens(now) {
                pace.spend(1);
                break;
            }
            if !self.is_pace_notified {
                self.is_pace_notified = true;
                let notice = "you are sending faster than this server allows; your messages are \
                              being delayed";
                self.outgoing.answer(&ServerDoc::Notice(notice.into()));
            }
            // This does not reset the idle timeout. A client that has disconnected may have left
            // many lines behind, and must not keep its seat for as long as it takes to serve them
            // slowly.
            self.wait_past(now)?;
        }
        self.pace = Some(pace);
        Ok(())
    }

    /// Waits while the client has requested more bytes of replies than allowed: history, topics,
    /// lists, refusals. Like [`Session::keep_pace`], this does not reset the idle timeout.
    fn keep_to_replies(
        &mut self,
        read: &Result<ClientDoc<'_>, DocError>,
    ) -> Result<(), CloseReason> {
        if ends_session(read) {
            return Ok(());
        }
        loop {
            let now = self.state.clock.now();
            if self.replies.has_tokens(now) {
                return Ok(());
            }
            self.wait_past(now)?;
        }
    }

    /// Charges the client for the replies since the last call, and credits it for `length` bytes of
    /// input.
    fn charge_replies(&mut self, length: usize) {
        self.replies.earn(tokens(limits::REPLY_FACTOR * length));
        let replied = self.outgoing.take_replied() + self.connection().take_charged_replies();
        self.replies.spend(tokens(replied));
    }

    /// Sends the replies so far, and waits for a tick after `tick`, while the client is connected.
    pub(crate) fn wait_past(&mut self, tick: Tick) -> Result<(), CloseReason> {
        self.outgoing.send_answers();
        let clock = &self.state.clock;
        let waiting = self.waiting.get_or_insert_with(|| clock.subscribe());
        if !waiting.wait_past(tick) {
            return Err(CloseReason::Shutdown);
        }
        let outbox = &self.connection().outbox;
        if outbox.stream().has_hung_up() {
            // The client may have closed only its sending side and still be reading.
            let notice = "you disconnected before the server had handled all of your input; the \
                          rest was dropped";
            self.outgoing.answer(&ServerDoc::Notice(notice.into()));
            self.outgoing.send_answers();
            return Err(CloseReason::PeerClosed);
        }
        if outbox.has_ended() {
            return Err(CloseReason::PeerClosed);
        }
        Ok(())
    }

    /// Answers a stream that can't be decoded any further, and returns the reason for closing it.
    fn rejected(&mut self, error: &FrameError) -> CloseReason {
        let end = CloseReason::from(error);
        let code = match end {
            CloseReason::TooLong => ErrorCode::TooLong,
            _ => ErrorCode::Malformed,
        };
        let is_answered = !matches!(
            error,
            FrameError::Closed { .. } | FrameError::Rejected { sentence: None, .. }
        );
        if is_answered {
            self.outgoing.error(code, &error.to_string());
        }
        end
    }

    fn handle(
        &mut self,
        read: Result<ClientDoc<'_>, DocError>,
        is_verbatim: bool,
    ) -> Result<(), CloseReason> {
        let refusals = self.refusals;
        if self.state.policies.may_refuse_messages()
            && is_speech(&read)
            && let Some(refusal) = self.refuse_speech()
        {
            self.outgoing.error(refusal.code, &refusal.sentence);
            return Ok(());
        }
        match read {
            Ok(ClientDoc::Message { text, me }) => {
                let text = &text;
                let message = Message {
                    text,
                    me,
                    is_verbatim,
                };
                R::message(self, message)?;
            }
            Ok(ClientDoc::Command(command)) => match command {
                ClientCommand::Terminate => return Err(CloseReason::Terminate),
                ClientCommand::IdleTimeout => return Err(CloseReason::ClientIdleTimeout),
                ClientCommand::TotalTimeTimeout => return Err(CloseReason::ClientTotalTimeout),
                ClientCommand::Ping => self.outgoing.answer(&ServerDoc::Pong),
                command => R::obey(self, command)?,
            },
            // The passcode was already accepted; a second one is refused.
            Ok(ClientDoc::Handshake { .. }) => self.refuse(&DocError::Missing("message"))?,
            Err(error) => self.refuse(&error)?,
        }
        if self.refusals == refusals {
            self.refusals = 0;
        }
        Ok(())
    }

    /// Returns the reason for refusing the client's messages, if it is muted.
    fn refuse_speech(&self) -> Option<Refusal> {
        let (name, now) = (self.outgoing.name()?, self.state.clock.now());
        self.state.policies.refuse_message(&name, now)
    }

    /// Returns whether the client's messages to a room are refused, and answers if so.
    pub(crate) fn is_refused_in(&mut self, room: &Name, name: &Name) -> bool {
        let now = self.state.clock.now();
        let refusal = self.state.policies.refuse_in_room(room, name, now);
        if let Some(refusal) = &refusal {
            self.outgoing.error(refusal.code, &refusal.sentence);
        }
        refusal.is_some()
    }

    /// Refuses an invalid document. Too many in a row end the session.
    pub(crate) fn refuse(&mut self, error: &DocError) -> Result<(), CloseReason> {
        self.refuse_as(error.code(), &error.to_string())
    }

    pub(crate) fn refuse_as(&mut self, code: ErrorCode, sentence: &str) -> Result<(), CloseReason> {
        self.outgoing.error(code, sentence);
        self.refusals += 1;
        if self.refusals < limits::ERRORS_IN_A_ROW {
            return Ok(());
        }
        let sentence = format!(
            "{} invalid requests in a row; reconnect to continue",
            self.refusals
        );
        self.outgoing.error(ErrorCode::TooManyErrors, &sentence);
        Err(CloseReason::TooManyErrors)
    }
}

fn tokens(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Returns whether a document contains text for other users.
fn is_speech(read: &Result<ClientDoc<'_>, DocError>) -> bool {
    use ClientCommand::{Direct, Invite, Public, Report, Say, Topic};
    matches!(
        read,
        Ok(ClientDoc::Message { .. }
            | ClientDoc::Command(
                Public { .. }
                    | Direct { .. }
                    | Say { .. }
                    | Report { .. }
                    | Invite { .. }
                    | Topic { topic: Some(_), .. }
            ))
    )
}

/// Returns whether a document ends the session. Such a document is never delayed.
fn ends_session(read: &Result<ClientDoc<'_>, DocError>) -> bool {
    matches!(
        read,
        Ok(ClientDoc::Command(
            ClientCommand::Terminate | ClientCommand::IdleTimeout | ClientCommand::TotalTimeTimeout
        ))
    )
}
