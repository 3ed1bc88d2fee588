//! The client's main thread, which decides what to send and what to show.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, Sender, after, bounded, never, select};
use parking_lot::Mutex;

use super::ExitStatus;
use super::chat::{Beginning, Chat, CompletionWords, Handled, SessionEnd, completions, mention};
use super::commands::{self, TypedLine, Typist};
use super::introduction::{FailureVerdict, Introduction};
use super::link::{Link, LinkEvent, LinkId};
use super::options::Options;
use super::retry::{Tries, find_first_seat, jitter};
use super::screen::Screen;
use super::seek::{ClientSeat, SeekError, find_seat};
use super::target::Target;
use super::watch::{IdleCheck, TICK, Watch};
use portal_cli::output::{self, Output, counted};
use portal_cli::signals::{self, Listening, Signal};
use portal_cli::terminal::{
    Input, InputOptions, Palette, Prompt, PromptKind, TypeAhead, Typed, restore_after_panics,
    unknown_time_zone,
};
use portal_core::clock::{Clock, Deadline, Subscription, Tick, Ticker, Ticks, slowed};
use portal_net::threads;
use portal_wire::{ClientCommand, ServerDoc, printable, printable_lines};

/// The first and the longest pause before an attempt to reconnect. Each pause is twice as long as
/// the previous one.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Finds a seat, and chats until the user leaves or the connection is lost for good.
pub(super) fn chat(options: &Options) -> ExitStatus {
    let mut options = options.clone();
    let palette = Palette::new(options.color);
    // Until the first seat is found, nothing needs cleaning up, so Ctrl-C may simply kill the
    // process.
    let say = |text: &str| {
        let text = palette.notice(&printable_lines(&format!("* {text}")));
        // If this fails, there is nowhere else to report it.
        let _ = Output::Stderr.print(&(text + "\n"));
    };
    let refuse = |reason: &str| {
        output::report(&format!("chatclient: {reason}\n"));
        ExitStatus::Lost
    };
    let mut introduction = match Introduction::begin(&mut options) {
        Ok(introduction) => introduction,
        Err(reason) => {
            refuse(&reason);
            return ExitStatus::BadInput;
        }
    };
    let seat = loop {
        let error = match find_first_seat(&options, &say) {
            Ok(seat) => break seat,
            Err(error) => error,
        };
        match introduction.judge(&mut options) {
            FailureVerdict::TryAgain => continue,
            FailureVerdict::Refused(reason) => return refuse(&reason),
            FailureVerdict::NotMine => {}
        }
        let outcome = refuse(&error.to_string());
        return match error {
            SeekError::Full => ExitStatus::Full,
            _ => outcome,
        };
    };
    match App::start(&options, palette) {
        Ok(conductor) => conductor.run(seat),
        Err(error) => {
            output::report(&format!(
                "chatclient: can't start a thread or open the terminal: {error}\n"
            ));
            ExitStatus::Lost
        }
    }
}

struct App<'o> {
    options: &'o Options,
    input: Input<Target>,
    /// Receives a value when a thread panics.
    panicked: Receiver<()>,
    /// The lines of `--trace`, while a line is being typed.
    traced: Receiver<String>,
    chat: Chat,
    typist: Typist,
    /// The events from all links.
    incoming: Receiver<(LinkId, LinkEvent)>,
    event: Sender<(LinkId, LinkEvent)>,
    links: u64,
    /// The current prompt.
    asked: Option<Prompt<Target>>,
    /// Set if a line in the script was not UTF-8; the script stopped there.
    input_is_bad: bool,
    /// The tick at which a key was last pressed.
    touched_at: Tick,
    signals: Listening,
    ticker: Ticker,
    subscription: Subscription,
    clock: Clock,
}

/// Timeout for the last replies if there is no `--server-timeout`.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// Maximum time that a leaving user waits for the rooms to receive the last messages.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Number of ticks without a key press after which the user may be away. A mark then shows where
/// unread lines begin.
const AWAY: u64 = 60;

const INPUT_FAILED: &str = "the thread that reads your input has failed; disconnecting";

/// The state of the input during a session.
enum InputMode {
    /// All input is accepted.
    Open,
    /// There is no more input, but replies are pending. A `PING` was sent on each link; the reply
    /// to it shows that all earlier requests have been answered.
    Finishing {
        /// The room links that have not replied yet.
        rooms: Vec<LinkId>,
    },
    /// `TERMINATE` has been sent, and the server is expected to close the connection.
    Leaving,
}

/// The state of one session in a seat.
struct SessionState {
    watch: Watch,
    input: InputMode,
    /// The number of `PING`s sent on the main link, and the number of replies to them.
    pings: u32,
    pongs: u32,
}

impl<'o> App<'o> {
    fn start(options: &'o Options, palette: Palette) -> io::Result<App<'o>> {
        let signals = signals::listen()?;
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let ticker = Ticker::start(clock.clone(), slowed(TICK), |_, _| {})?;
        let known = Arc::new(Mutex::new(CompletionWords::default()));
        let (event, incoming) = bounded(64);
        let completing = Arc::clone(&known);
        let input = Input::start(InputOptions {
            palette,
            complete: Box::new(move |before| completions(before, &completing.lock())),
            history: options.history.clone().unwrap_or_default(),
            only_in_foreground: false,
        })?;
        let (traced, screen) = match input.is_editing() {
            true => (options.trace.show_above(), Screen::above(palette)),
            false => (never(), Screen::plain(palette)),
        };
        let typist = if io::stdin().is_terminal() {
            Typist::Person
        } else {
            Typist::Script {
                seed_words: options.commands,
            }
        };
        let beginning = Beginning {
            username: options.username.clone(),
            password: options.password.clone(),
            typist,
            screen,
        };
        let chat = Chat::new(beginning, known, event.clone());
        Ok(App {
            options,
            input,
            panicked: restore_after_panics(),
            traced,
            chat,
            typist,
            incoming,
            event,
            links: 0,
            asked: None,
            input_is_bad: false,
            touched_at: clock.now(),
            signals,
            ticker,
            subscription,
            clock,
        })
    }

    /// Chats, reconnects if requested, and cleans up.
    fn run(mut self, seat: ClientSeat) -> ExitStatus {
        let mut next = Some(seat);
        let mut outcome = ExitStatus::Left;
        if let Some(sentence) = unknown_time_zone() {
            self.chat.screen.notice(&sentence);
        }
        while let Some(seat) = next.take() {
            self.chat.screen.notice(&format!(
                "connected {}; type a message, or /help for a list of commands",
                seat.place
            ));
            self.links += 1;
            let end = match Link::start(seat, LinkId::Main(self.links), self.event.clone()) {
                Ok(link) => self.session(link),
                Err(error) => {
                    let sentence = format!("can't start a thread: {error}");
                    self.chat.screen.trouble(&sentence);
                    SessionEnd::Dismissed
                }
            };
            self.chat.end_link();
            outcome = match end {
                SessionEnd::Left if self.chat.screen.has_failed() => ExitStatus::Lost,
                SessionEnd::Left if self.input_is_bad => ExitStatus::BadInput,
                SessionEnd::Left if self.is_script() && self.chat.refusals() > 0 => {
                    ExitStatus::Refused
                }
                SessionEnd::Left => ExitStatus::Left,
                SessionEnd::Idle | SessionEnd::Dismissed | SessionEnd::Lost => ExitStatus::Lost,
            };
            let comes_back = match end {
                SessionEnd::Lost => self.options.reconnect,
                SessionEnd::Idle => self.options.reconnect && self.is_there_again(),
                SessionEnd::Left | SessionEnd::Dismissed => false,
            };
            if comes_back {
                match self.come_back() {
                    Ok(seat) => next = Some(seat),
                    Err(ended) => outcome = ended,
                }
            }
        }
        self.options.trace.show_plainly();
        self.show();
        self.input.close();
        self.signals.handle.close();
        self.ticker.stop();
        outcome
    }

    fn is_script(&self) -> bool {
        self.typist != Typist::Person
    }

    /// Runs one session in one seat.
    fn session(&mut self, link: Link) -> SessionEnd {
        let incoming = self.incoming.clone();
        let mut stay = SessionState {
            watch: Watch::new(self.options.server_timeout, &self.clock, &self.subscription),
            input: InputMode::Open,
            pings: 0,
            pongs: 0,
        };
        let no_events = never();
        let mut ahead = TypeAhead::KeepsTarget;
        let mut end = self.chat.start(link).err();
        loop {
            match end.take() {
                Some(SessionEnd::Left) if matches!(stay.input, InputMode::Open) => {
                    // The original programs send no replies, so there is nothing to wait for.
                    let is_legacy = self.chat.codec().is_legacy();
                    let is_brief =
                        self.chat.screen.has_prompts() && self.chat.room_links().count() == 0;
                    if is_legacy || is_brief || self.chat.screen.reader_is_gone() {
                        self.chat.mention(ClientCommand::Terminate);
                        return SessionEnd::Left;
                    }
                    self.finish(&mut stay);
                }
                Some(end) => return end,
                None => {}
            }
            if self.chat.screen.reader_is_gone() {
                self.chat.mention(ClientCommand::Terminate);
                return SessionEnd::Left;
            }
            if matches!(stay.input, InputMode::Open) {
                self.ask(std::mem::replace(&mut ahead, TypeAhead::KeepsTarget));
                if let Some(typed) = self.input.next_typed() {
                    let refusals = self.chat.refusals();
                    end = self.typed(typed).err();
                    ahead = if self.chat.refusals() == refusals {
                        TypeAhead::Meant
                    } else {
                        TypeAhead::ThrownAway
                    };
                    continue;
                }
            }
            if !self.input.has_draft() {
                self.chat.begin_line();
            }
            // Draw once per burst.
            if incoming.is_empty() || self.input.is_behind() {
                self.show();
            }
            // While the terminal can't keep up, accept no events. The socket then fills up, and the
            // server decides when to give up on this client.
            let event = match self.input.is_behind() {
                true => &no_events,
                false => &incoming,
            };
            select! {
                recv(event) -> event => {
                    stay.watch.touch(&self.clock, &self.subscription);
                    end = match event {
                        Ok((id, event)) => self.on_event(id, event, &mut stay),
                        Err(_) => Some(SessionEnd::Lost),
                    };
                }
                recv(self.input.events()) -> event => {
                    if self.input.take(event) {
                        self.touched();
                    }
                }
                recv(self.panicked) -> _ => {
                    self.chat.screen.trouble("one of the client's threads has failed; \
                                              disconnecting");
                    self.chat.mention(ClientCommand::Terminate);
                    return SessionEnd::Dismissed;
                }
                recv(self.traced) -> line => self.chat.screen.show_lines(line.unwrap_or_default()),
                recv(self.signals.receiver) -> signal => {
                    if self.signalled(signal) {
                        self.chat.mention(ClientCommand::Terminate);
                        return SessionEnd::Left;
                    }
                }
                recv(self.subscription.ticks()) -> _ => {
                    // Data that has arrived but is still unprocessed counts as activity.
                    if !incoming.is_empty() {
                        stay.watch.touch(&self.clock, &self.subscription);
                    }
                    end = self.ticked(&mut stay).err();
                }
            }
        }
    }

    /// Draws the new lines, above the prompt.
    fn show(&mut self) {
        for line in self.traced.try_iter() {
            self.chat.screen.show_lines(line);
        }
        self.input.show_time(self.chat.screen.shows_time());
        self.input.print(&self.chat.screen.take_lines());
        self.input.draw();
    }

    /// Handles a signal. Returns whether it terminates the program.
    fn signalled(&mut self, signal: Result<Signal, RecvError>) -> bool {
        match signal {
            Ok(Signal::GoesOn) => self.input.resume(),
            Ok(Signal::Resized) => self.input.resize(),
            Ok(Signal::ReadAnew) => {}
            Ok(Signal::End(_)) | Err(_) => return true,
        }
        false
    }

    /// Handles an event from one of the links.
    fn on_event(
        &mut self,
        id: LinkId,
        event: LinkEvent,
        stay: &mut SessionState,
    ) -> Option<SessionEnd> {
        let away = self.clock.now().0.saturating_sub(self.touched_at.0) >= AWAY;
        self.chat.screen.set_away(away);
        let is_pong =
            |frame: &[u8]| matches!(self.chat.codec().read_server(frame), Ok(ServerDoc::Pong));
        let mut end = None;
        if self.chat.main().is_some_and(|main| main.id() == id) {
            end = match event {
                LinkEvent::Frame(frame) => {
                    stay.pongs += u32::from(is_pong(&frame));
                    let event = self.chat.on_frame(&frame);
                    event.and_then(|()| self.chat.go_on()).err()
                }
                LinkEvent::Over(_) if matches!(stay.input, InputMode::Leaving) => {
                    return Some(SessionEnd::Left);
                }
                LinkEvent::Over(reason) => {
                    self.chat
                        .screen
                        .trouble(&format!("connection lost: {reason}"));
                    self.chat.lost();
                    Some(SessionEnd::Lost)
                }
            };
        } else {
            if let InputMode::Finishing { rooms, .. } = &mut stay.input {
                let answered = match &event {
                    LinkEvent::Frame(frame) => is_pong(frame),
                    LinkEvent::Over(_) => true,
                };
                rooms.retain(|room| *room != id || !answered);
            }
            let is_leaving = matches!(stay.input, InputMode::Leaving);
            if !(is_leaving && matches!(event, LinkEvent::Over(_))) {
                end = self.chat.on_room_event(id, event).err();
            }
        }
        if let InputMode::Finishing { rooms, .. } = &stay.input
            && rooms.is_empty()
            && stay.pongs >= stay.pings
        {
            self.leave(stay);
        }
        end
    }

    /// Handles input from the user or the script.
    fn typed(&mut self, typed: Typed<Target>) -> Handled {
        match typed {
            Typed::Line { text, under } => {
                self.asked = None;
                self.chat.typed(&text, under.as_ref())
            }
            Typed::TooMuch { bytes, lines } => {
                self.chat.screen.not_sent(&format!(
                    "the paste was not sent ({}, {bytes} bytes): a message can have at most {} \
                     bytes; to send a whole file, start the client with `< FILE`",
                    counted(lines, "line", "lines"),
                    self.chat.codec().max_frame
                ));
                Ok(())
            }
            Typed::NotText(error) => {
                self.asked = None;
                if !self.is_script() {
                    self.chat.screen.not_sent(&error);
                    return Ok(());
                }
                // The recipients of the following lines may depend on this line.
                self.chat
                    .screen
                    .not_sent(&format!("{error}; the rest of the input was not sent"));
                self.input_is_bad = true;
                Err(SessionEnd::Left)
            }
            Typed::PassedOver => {
                self.chat
                    .screen
                    .notice("what you typed before this prompt appeared was ignored");
                Ok(())
            }
            Typed::NoTerminal => Err(self.chat.no_terminal()),
            Typed::Failed => {
                self.chat.screen.trouble(INPUT_FAILED);
                Err(SessionEnd::Dismissed)
            }
            Typed::End | Typed::Gone => Err(SessionEnd::Left),
        }
    }

    /// Handles a key press, which shows that the user is present.
    fn touched(&mut self) {
        self.touched_at = self.clock.now();
        self.chat.screen.set_away(false);
        if self.chat.should_stay() {
            self.chat.mention(ClientCommand::Stay);
        }
    }

    fn ticked(&mut self, stay: &mut SessionState) -> Handled {
        match stay.watch.look(&self.clock, &self.subscription) {
            IdleCheck::Fine => {}
            IdleCheck::Late
                if matches!(stay.input, InputMode::Leaving) || self.chat.screen.has_prompts() =>
            {
                self.chat.mention(ClientCommand::Terminate);
                return Err(SessionEnd::Left);
            }
            IdleCheck::Late => {
                self.chat
                    .screen
                    .not_sent("the server did not answer all requests in time; disconnecting");
                self.chat.mention(ClientCommand::Terminate);
                return Err(SessionEnd::Lost);
            }
            IdleCheck::Quiet => {
                stay.pings += 1;
                self.chat.mention(ClientCommand::Ping);
            }
            IdleCheck::Dead => {
                self.chat.mention(ClientCommand::IdleTimeout);
                let seconds = self.options.server_timeout.unwrap_or_default().as_secs();
                self.chat.screen.trouble(&format!(
                    "the server has sent nothing for {seconds} s; disconnecting"
                ));
                return Err(SessionEnd::Lost);
            }
        }
        self.chat.ticked()
    }

    /// Handles the end of the input. The client must not leave before pending requests are
    /// answered.
    fn finish(&mut self, stay: &mut SessionState) {
        let mut rooms = Vec::new();
        for room in self.chat.room_links() {
            mention(ClientCommand::Ping, room);
            rooms.push(room.id());
        }
        stay.pings += 1;
        self.chat.mention(ClientCommand::Ping);
        stay.watch.end_by(self.in_time(), &self.subscription);
        stay.input = InputMode::Finishing { rooms };
    }

    fn leave(&self, stay: &mut SessionState) {
        self.chat.mention(ClientCommand::Terminate);
        stay.watch.end_by(self.in_time(), &self.subscription);
        stay.input = InputMode::Leaving;
    }

    /// The deadline for the last replies.
    fn in_time(&self) -> Deadline {
        let timeout = if self.chat.screen.has_prompts() {
            // A user waits only until the last messages have arrived.
            LAST_WORDS
        } else {
            self.options.server_timeout.unwrap_or(LAST_ANSWERS)
        };
        Deadline::after(self.clock.now(), Ticks::covering(timeout, TICK))
    }

    /// Shows the current prompt in place of an outdated one.
    fn ask(&mut self, ahead: TypeAhead) {
        let wanted = match (self.chat.prompt(), &self.asked) {
            (Some(wanted), _) => wanted,
            // The prompt on the screen is outdated, and nothing can be sent yet.
            (None, Some(asked))
                if self.chat.screen.has_prompts() && asked.target != Target::Nobody =>
            {
                nobody("please wait")
            }
            (None, _) => return,
        };
        let stands = match &self.asked {
            None => false,
            // Without prompts on the screen, all line prompts are equivalent.
            Some(asked) if !self.chat.screen.has_prompts() && wanted.ask != PromptKind::Hidden => {
                asked.ask == wanted.ask
            }
            // If the partner has logged in since then, the prompt shows a new name, but the target
            // is the same.
            Some(asked) if wanted.target != Target::Nobody => {
                (&asked.target, asked.ask) == (&wanted.target, wanted.ask)
            }
            Some(asked) => *asked == wanted,
        };
        if !stands {
            self.input.prompt(wanted.clone(), ahead);
            self.asked = Some(wanted);
        } else if self.chat.screen.has_prompts() {
            self.input.rename(wanted.name.clone());
            self.asked = Some(wanted);
        }
    }

    /// Asks a user who was disconnected for being idle whether to reconnect. Without this question,
    /// an idle client would keep its seat by reconnecting. Returns whether to reconnect.
    fn is_there_again(&mut self) -> bool {
        if self.is_script() {
            return false;
        }
        self.chat
            .screen
            .notice("press Enter to reconnect, or type /quit to exit");
        self.not_connected(TypeAhead::KeepsTarget);
        loop {
            match self.typed_while_waiting(&never::<()>()) {
                Waited::Line(text) => match commands::read(&text, self.typist) {
                    TypedLine::Quit => return false,
                    TypedLine::Nothing => return true,
                    _ => {
                        self.chat.screen.not_sent(NOT_CONNECTED);
                        return true;
                    }
                },
                Waited::Left => return false,
                Waited::Enough(()) => {}
            }
        }
    }

    fn not_connected(&mut self, ahead: TypeAhead) {
        let prompt = nobody("not connected");
        self.input.prompt(prompt.clone(), ahead);
        self.asked = Some(prompt);
    }

    /// Waits without a connection, until `over` receives a value or the user types a line.
    fn typed_while_waiting<R>(&mut self, over: &Receiver<R>) -> Waited<R> {
        loop {
            // A script's lines are kept for the next session.
            while !self.is_script()
                && let Some(typed) = self.input.next_typed()
            {
                match typed {
                    Typed::Line { text, .. } => {
                        self.asked = None;
                        return Waited::Line(text);
                    }
                    Typed::End | Typed::Gone | Typed::Failed => return Waited::Left,
                    _ => {}
                }
            }
            self.show();
            select! {
                recv(over) -> result => {
                    return result.map_or(Waited::Left, Waited::Enough);
                }
                recv(self.signals.receiver) -> signal => {
                    if self.signalled(signal) {
                        return Waited::Left;
                    }
                }
                recv(self.input.events()) -> event => { self.input.take(event); }
            }
        }
    }

    /// Looks for a seat again, with growing pauses, until it finds one or the user gives up.
    fn come_back(&mut self) -> Result<ClientSeat, ExitStatus> {
        let (mut pause, most) = RECONNECT_PAUSES;
        let mut tries = Tries::default();
        if self.chat.screen.has_prompts() {
            self.not_connected(TypeAhead::KeepsTarget);
        }
        let mut attempts = 0;
        let mut last = String::new();
        loop {
            let wait = pause + jitter(pause);
            let seconds = wait.as_secs_f32();
            self.report_attempt(&format!(
                "{last}reconnecting in {seconds:.1} s; type /quit to give up"
            ));
            self.wait(&after(wait))?;
            // Use a thread, because the attempt may take a while and must not block the keyboard.
            let (sender, found) = bounded(1);
            let options = self.options.clone();
            let seeking = threads::start("seek", move || {
                let _ = sender.send(find_seat(&options));
            });
            if let Err(error) = seeking {
                let sentence = format!("can't start a thread: {error}");
                self.chat.screen.trouble(&sentence);
                return Err(ExitStatus::Lost);
            }
            let error = match self.wait(&found)? {
                Ok(seat) => {
                    self.input.set_status("");
                    return Ok(seat);
                }
                Err(error) => error,
            };
            attempts += 1;
            let reason = match tries.pause_after(&error, self.options) {
                Some(short) => {
                    pause = short;
                    tries.describe(&error)
                }
                None if matches!(error, SeekError::Full) => {
                    self.chat.screen.trouble(&error.to_string());
                    return Err(ExitStatus::Full);
                }
                None => {
                    pause = (pause * 2).clamp(RECONNECT_PAUSES.0, most);
                    match error {
                        SeekError::Unreachable { error, .. } => error.to_string(),
                        other => other.to_string(),
                    }
                }
            };
            last = format!("attempt {attempts} failed: {reason}; ");
        }
    }

    /// Shows the state of the attempts to reconnect, in one line that changes.
    fn report_attempt(&mut self, sentence: &str) {
        if self.chat.screen.has_prompts() {
            self.input.set_status(&format!("* {}", printable(sentence)));
        } else {
            self.chat.screen.notice(sentence);
        }
    }

    /// Waits, unless the user leaves in the meantime. A script's lines are kept for the next
    /// session; a user's lines are rejected with a message.
    fn wait<R>(&mut self, over: &Receiver<R>) -> Result<R, ExitStatus> {
        loop {
            if self.asked.is_none() && self.chat.screen.has_prompts() {
                self.not_connected(TypeAhead::Meant);
            }
            match self.typed_while_waiting(over) {
                Waited::Enough(result) => return Ok(result),
                Waited::Left => return Err(ExitStatus::Left),
                Waited::Line(text) => match commands::read(&text, self.typist) {
                    TypedLine::Quit => return Err(ExitStatus::Left),
                    TypedLine::Nothing => {}
                    _ => self.chat.screen.not_sent(NOT_CONNECTED),
                },
            }
        }
    }
}

const NOT_CONNECTED: &str = "not sent: you are not connected (press ↑ to get the line back)";

/// The outcome of a wait without a connection.
enum Waited<R> {
    Line(String),
    /// The user left.
    Left,
    /// The awaited result.
    Enough(R),
}

/// A prompt without a recipient: a line typed at it is not sent.
fn nobody(name: &str) -> Prompt<Target> {
    Prompt {
        name: name.to_owned(),
        ask: PromptKind::Line,
        target: Target::Nobody,
    }
}
