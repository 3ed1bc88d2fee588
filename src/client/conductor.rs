//! The client's main thread: decides what is sent and what is shown.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use parking_lot::Mutex;

use super::Outcome;
use super::chat::{Beginning, Chat, Known, SessionEnd, completions, mention};
use super::commands::{self, Line, Typist};
use super::introduction::{Introduction, Verdict};
use super::link::{Heard, Link, LinkId};
use super::options::Options;
use super::screen::Screen;
use super::seek::{Seat, SeekError, find_seat};
use super::target::Target;
use super::tries::{Tries, find_first_seat, jitter};
use super::watch::{Look, TICK, Watch};
use portal_cli::output::{self, Output, counted};
use portal_cli::signals::{self, Listening, Told};
use portal_cli::terminal::{
    Ahead, Ask, Keyboard, Manner, Palette, PreparedEditor, Prompt, Typed, unknown_time_zone,
};
use portal_core::clock::{Clock, Deadline, Subscription, Tick, Ticker, Ticks, slowed};
use portal_wire::{ClientCommand, ServerDoc, printable_lines};

/// The pauses between attempts to come back: the first, doubled each time up to the last.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Finds a seat and chats until the person leaves or the link is lost for good.
pub(super) fn chat(options: &Options) -> Outcome {
    let mut options = options.clone();
    let palette = Palette::new(options.color);
    // Until the first seat is found there is nothing to tidy up, so Ctrl-C may simply kill.
    let say = |text: &str| {
        let text = palette.notice(&printable_lines(&format!("* {text}")));
        // There is no other place to report it.
        let _ = Output::Stderr.print(&(text + "\n"));
    };
    let refuse = |reason: &str| {
        output::report(&format!("chatclient: {reason}\n"));
        Outcome::Lost
    };
    let mut introduction = match Introduction::begin(&mut options) {
        Ok(introduction) => introduction,
        Err(reason) => {
            refuse(&reason);
            return Outcome::BadInput;
        }
    };
    let seat = loop {
        let error = match find_first_seat(&options, &say) {
            Ok(seat) => break seat,
            Err(error) => error,
        };
        match introduction.judge(&mut options) {
            Verdict::TryAgain => continue,
            Verdict::Refused(reason) => return refuse(&reason),
            Verdict::NotMine => {}
        }
        let outcome = refuse(&error.to_string());
        return match error {
            SeekError::Full => Outcome::Full,
            _ => outcome,
        };
    };
    match Conductor::start(&options, palette) {
        Ok(conductor) => conductor.run(seat),
        Err(error) => {
            output::report(&format!(
                "chatclient: can't start a thread or open the terminal: {error}\n"
            ));
            Outcome::Lost
        }
    }
}

struct Conductor<'o> {
    options: &'o Options,
    keyboard: Keyboard<Target>,
    screen: Screen,
    chat: Chat,
    typist: Typist,
    /// What all links hear.
    incoming: Receiver<(LinkId, Heard)>,
    heard: Sender<(LinkId, Heard)>,
    links: u64,
    /// What the person is being asked for.
    asked: Option<Prompt<Target>>,
    /// A line of the script was not UTF-8 text, and the script ended there.
    input_is_bad: bool,
    /// When a key was pressed last.
    touched_at: Tick,
    signals: Listening,
    ticker: Ticker,
    subscription: Subscription,
    clock: Clock,
}

/// How long the last answers may take where the server may be silent for ever.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// How long a person who leaves waits until what they said in rooms has been heard there.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whoever has pressed no key for so long may have gone: a mark shows them what came since.
const AWAY: u64 = 60;

/// What is done with what is typed.
enum Input {
    /// Everything is taken.
    Open,
    /// There is no more, and what was asked for has still to be answered. Each of these links has
    /// been sent a `PING`: when it has answered that, it has answered all before.
    Finishing {
        /// The room links that have not answered yet.
        rooms: Vec<LinkId>,
    },
    /// `TERMINATE` has been said, and the server has the last word.
    Leaving,
}

/// What one stay in a seat needs to remember.
struct Stay {
    watch: Watch,
    input: Input,
    /// `PING`s sent on the main link, and answers to them.
    pings: u32,
    pongs: u32,
}

impl<'o> Conductor<'o> {
    fn start(options: &'o Options, palette: Palette) -> io::Result<Conductor<'o>> {
        let signals = signals::listen()?;
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let ticker = Ticker::start(clock.clone(), slowed(TICK), |_, _| {})?;
        let known = Arc::new(Mutex::new(Known::default()));
        let (heard, incoming) = bounded(64);
        let completing = Arc::clone(&known);
        let (keyboard, printer) = Keyboard::start(PreparedEditor::new(Manner {
            palette,
            complete: Box::new(move |before| completions(before, &completing.lock())),
            history: options.history.clone(),
            only_in_foreground: false,
        }))?;
        let screen = match printer {
            Some(printer) => Screen::above(palette, printer, options.trace.clone())?,
            None => Screen::plain(palette),
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
            has_prompts: keyboard.is_editing(),
        };
        let chat = Chat::new(beginning, known, heard.clone());
        Ok(Conductor {
            options,
            keyboard,
            screen,
            chat,
            typist,
            incoming,
            heard,
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

    /// Chats, comes back if that is wanted, and tidies up.
    fn run(mut self, seat: Seat) -> Outcome {
        let mut next = Some(seat);
        let mut outcome = Outcome::Left;
        if let Some(sentence) = unknown_time_zone() {
            self.screen.notice(&sentence);
        }
        while let Some(seat) = next.take() {
            self.screen.notice(&format!(
                "you are {}; type to talk, /help lists the commands",
                seat.place
            ));
            self.links += 1;
            let end = match Link::start(seat, LinkId::Main(self.links), self.heard.clone()) {
                Ok(link) => self.session(&link),
                Err(error) => {
                    self.screen
                        .trouble(&format!("the system refuses a thread: {error}"));
                    SessionEnd::Dismissed
                }
            };
            outcome = match end {
                SessionEnd::Left if self.screen.has_failed() => Outcome::Lost,
                SessionEnd::Left if self.input_is_bad => Outcome::BadInput,
                SessionEnd::Left if self.is_script() && self.chat.refusals() > 0 => {
                    Outcome::Refused
                }
                SessionEnd::Left => Outcome::Left,
                SessionEnd::Idle | SessionEnd::Dismissed | SessionEnd::Lost => Outcome::Lost,
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
        let Conductor {
            keyboard,
            screen,
            signals,
            ticker,
            ..
        } = self;
        screen.close(|| keyboard.close());
        signals.handle.close();
        ticker.stop();
        outcome
    }

    fn is_script(&self) -> bool {
        self.typist != Typist::Person
    }

    /// One stay in one seat.
    fn session(&mut self, link: &Link) -> SessionEnd {
        let incoming = self.incoming.clone();
        let mut stay = Stay {
            watch: Watch::new(self.options.server_timeout, &self.clock, &self.subscription),
            input: Input::Open,
            pings: 0,
            pongs: 0,
        };
        let caught_up = self.screen.caught_up();
        let touched = self.keyboard.touched().clone();
        let nothing_heard = never();
        let nothing_typed = never();
        let mut ahead = Ahead::KeepsTarget;
        let mut end = self.chat.start(link, &self.screen).err();
        loop {
            match end.take() {
                Some(SessionEnd::Left) if matches!(stay.input, Input::Open) => {
                    // The original programs answer nothing, so there is nothing to wait for.
                    let is_original = link.codec().is_original();
                    let is_brief = self.screen.has_prompts() && self.chat.room_links().count() == 0;
                    if is_original || is_brief || self.screen.reader_is_gone() {
                        mention(ClientCommand::Terminate, link);
                        return SessionEnd::Left;
                    }
                    self.finish(link, &mut stay);
                }
                Some(end) => return end,
                None => {}
            }
            if self.screen.reader_is_gone() {
                mention(ClientCommand::Terminate, link);
                return SessionEnd::Left;
            }
            let takes_input = matches!(stay.input, Input::Open);
            if takes_input {
                self.ask(std::mem::replace(&mut ahead, Ahead::KeepsTarget));
            }
            // A terminal that can't keep up is not fed any more; then the socket fills, and in
            // the end the server is the one to decide.
            let heard = if self.screen.is_behind() {
                &nothing_heard
            } else {
                &incoming
            };
            // While the server has to answer first, what a script goes on to say can wait.
            let typed = if takes_input && self.asked.is_some() {
                self.keyboard.typed()
            } else {
                &nothing_typed
            };
            select! {
                recv(heard) -> heard => {
                    stay.watch.heard(&self.clock, &self.subscription);
                    end = match heard {
                        Ok((id, heard)) => self.heard(id, heard, link, &mut stay),
                        Err(_) => Some(SessionEnd::Lost),
                    };
                }
                recv(typed) -> typed => {
                    let refusals = self.chat.refusals();
                    end = self.typed(typed.unwrap_or(Typed::End), link).err();
                    ahead = if self.chat.refusals() == refusals {
                        Ahead::Meant
                    } else {
                        Ahead::ThrownAway
                    };
                }
                recv(touched) -> _ => self.touched(link),
                recv(caught_up) -> _ => {}
                recv(self.signals.told) -> told => match told {
                    Ok(Told::GoesOn | Told::ReadAnew) => self.keyboard.resume(),
                    Ok(Told::End(_)) | Err(_) => {
                        mention(ClientCommand::Terminate, link);
                        return SessionEnd::Left;
                    }
                },
                recv(self.subscription.ticks()) -> _ => {
                    // What has come and was not looked at yet counts as heard.
                    if !incoming.is_empty() {
                        stay.watch.heard(&self.clock, &self.subscription);
                    }
                    end = self.ticked(link, &mut stay).err();
                }
            }
        }
    }

    /// Something has come over one of the links.
    fn heard(
        &mut self,
        id: LinkId,
        heard: Heard,
        link: &Link,
        stay: &mut Stay,
    ) -> Option<SessionEnd> {
        let away = self.clock.now().0.saturating_sub(self.touched_at.0) >= AWAY;
        self.screen.set_away(away);
        let is_pong = |frame: &[u8]| matches!(link.codec().read_server(frame), Ok(ServerDoc::Pong));
        let mut end = None;
        if id == link.id() {
            end = match heard {
                Heard::Frame(frame) => {
                    stay.pongs += u32::from(is_pong(&frame));
                    let heard = self.chat.heard(&frame, link, &self.screen);
                    heard
                        .and_then(|()| self.chat.go_on(link, &self.screen))
                        .err()
                }
                Heard::Over(_) if matches!(stay.input, Input::Leaving) => {
                    return Some(SessionEnd::Left);
                }
                Heard::Over(reason) => {
                    self.screen
                        .trouble(&format!("the connection is lost: {reason}"));
                    self.chat.lost(&self.screen);
                    Some(SessionEnd::Lost)
                }
            };
        } else {
            if let Input::Finishing { rooms, .. } = &mut stay.input {
                let answered = match &heard {
                    Heard::Frame(frame) => is_pong(frame),
                    Heard::Over(_) => true,
                };
                rooms.retain(|room| *room != id || !answered);
            }
            let is_leaving = matches!(stay.input, Input::Leaving);
            if !(is_leaving && matches!(heard, Heard::Over(_))) {
                end = self.chat.heard_in_room(id, heard, link, &self.screen).err();
            }
        }
        if let Input::Finishing { rooms, .. } = &stay.input
            && rooms.is_empty()
            && stay.pongs >= stay.pings
        {
            self.leave(link, stay);
        }
        end
    }

    /// The person, or the script, has given something.
    fn typed(&mut self, typed: Typed<Target>, link: &Link) -> Result<(), SessionEnd> {
        match typed {
            Typed::Line { text, under } => {
                self.asked = None;
                self.chat.typed(&text, under.as_ref(), link, &self.screen)
            }
            Typed::TooMuch { bytes, lines } => {
                self.screen.not_sent(&format!(
                    "that paste ({}, {bytes} bytes) was not accepted: a message has at most {} \
                     bytes; `… < FILE` sends a whole file",
                    counted(lines, "line", "lines"),
                    link.codec().max_frame
                ));
                Ok(())
            }
            Typed::NotText(error) => {
                self.asked = None;
                if !self.is_script() {
                    self.screen.not_sent(&error);
                    return Ok(());
                }
                // The recipients of the following lines may depend on this line.
                self.screen
                    .not_sent(&format!("{error}; the rest of the input was not sent"));
                self.input_is_bad = true;
                Err(SessionEnd::Left)
            }
            Typed::PassedOver => {
                self.screen
                    .notice("what was typed before this was asked has been passed over");
                Ok(())
            }
            Typed::NoTerminal => Err(self.chat.no_terminal(&self.screen)),
            Typed::End | Typed::Gone => Err(SessionEnd::Left),
        }
    }

    /// A key has been pressed: somebody is there.
    fn touched(&mut self, link: &Link) {
        self.touched_at = self.clock.now();
        self.screen.set_away(false);
        if self.chat.should_stay() {
            mention(ClientCommand::Stay, link);
        }
    }

    fn ticked(&mut self, link: &Link, stay: &mut Stay) -> Result<(), SessionEnd> {
        match stay.watch.look(&self.clock, &self.subscription) {
            Look::Fine => {}
            Look::Late if matches!(stay.input, Input::Leaving) || self.screen.has_prompts() => {
                mention(ClientCommand::Terminate, link);
                return Err(SessionEnd::Left);
            }
            Look::Late => {
                self.screen
                    .not_sent("the server has not answered everything in time; leaving");
                mention(ClientCommand::Terminate, link);
                return Err(SessionEnd::Lost);
            }
            Look::Quiet => {
                stay.pings += 1;
                mention(ClientCommand::Ping, link);
            }
            Look::Dead => {
                mention(ClientCommand::IdleTimeout, link);
                let seconds = self.options.server_timeout.unwrap_or_default().as_secs();
                self.screen.trouble(&format!(
                    "nothing has come from the server for {seconds} s; leaving"
                ));
                return Err(SessionEnd::Lost);
            }
        }
        self.chat.ticked(link, &self.screen)
    }

    /// There is no more input: what was asked for is to be answered before the client leaves.
    fn finish(&mut self, link: &Link, stay: &mut Stay) {
        let mut rooms = Vec::new();
        for room in self.chat.room_links() {
            mention(ClientCommand::Ping, room);
            rooms.push(room.id());
        }
        stay.pings += 1;
        mention(ClientCommand::Ping, link);
        stay.watch.end_by(self.in_time(), &self.subscription);
        stay.input = Input::Finishing { rooms };
    }

    fn leave(&self, link: &Link, stay: &mut Stay) {
        mention(ClientCommand::Terminate, link);
        stay.watch.end_by(self.in_time(), &self.subscription);
        stay.input = Input::Leaving;
    }

    /// When the last answers have to be there.
    fn in_time(&self) -> Deadline {
        let timeout = if self.screen.has_prompts() {
            // A person waits no longer than it takes for what they said last to arrive.
            LAST_WORDS
        } else {
            self.options.server_timeout.unwrap_or(LAST_ANSWERS)
        };
        Deadline::after(self.clock.now(), Ticks::covering(timeout, TICK))
    }

    /// Shows the prompt that is true now, in the place of one that is not.
    fn ask(&mut self, ahead: Ahead) {
        let wanted = match (self.chat.prompt(), &self.asked) {
            (Some(wanted), _) => wanted,
            // What stands there has ceased to be true, and nothing can be said yet.
            (None, Some(asked)) if self.screen.has_prompts() && asked.target != Target::Nobody => {
                nobody("one moment")
            }
            (None, _) => return,
        };
        let stands = match &self.asked {
            None => false,
            // Without prompts on the screen, a line is a line.
            Some(asked) if !self.screen.has_prompts() && wanted.ask != Ask::Hidden => {
                asked.ask == wanted.ask
            }
            // A partner who has logged in meanwhile has another name, and is the same: to draw the
            // prompt anew would end a search in the history.
            Some(asked) if wanted.target != Target::Nobody => {
                (&asked.target, asked.ask) == (&wanted.target, wanted.ask)
            }
            Some(asked) => *asked == wanted,
        };
        if !stands {
            self.keyboard.prompt(wanted.clone(), ahead);
            self.asked = Some(wanted);
        }
    }

    /// Whoever said nothing for too long keeps no seat by coming back unasked; a person may, with a
    /// key. Returns whether they have pressed one.
    fn is_there_again(&mut self) -> bool {
        if !self.screen.has_prompts() {
            return false;
        }
        self.screen.notice("Enter comes back; /quit leaves");
        let prompt = nobody("not connected");
        self.keyboard.prompt(prompt.clone(), Ahead::KeepsTarget);
        self.asked = Some(prompt);
        loop {
            select! {
                recv(self.signals.told) -> told => match told {
                    Ok(Told::GoesOn | Told::ReadAnew) => self.keyboard.resume(),
                    Ok(Told::End(_)) | Err(_) => return false,
                },
                recv(self.keyboard.typed()) -> typed => match typed {
                    Ok(Typed::Line { text, .. }) => {
                        self.asked = None;
                        return commands::read(&text, self.typist) != Line::Quit;
                    }
                    Ok(
                        Typed::TooMuch { .. }
                        | Typed::NotText(_)
                        | Typed::PassedOver
                        | Typed::NoTerminal,
                    ) => {}
                    Ok(Typed::End | Typed::Gone) | Err(_) => return false,
                },
            }
        }
    }

    /// Looks for a seat again, with growing pauses, until there is one or the person gives up.
    fn come_back(&mut self) -> Result<Seat, Outcome> {
        let (mut pause, most) = RECONNECT_PAUSES;
        let mut tries = Tries::default();
        if self.screen.has_prompts() {
            let prompt = nobody("not connected");
            self.keyboard.prompt(prompt.clone(), Ahead::KeepsTarget);
            self.asked = Some(prompt);
        }
        loop {
            let wait = pause + jitter(pause);
            self.screen.notice(&format!(
                "coming back in {:.1} s; /quit gives up",
                wait.as_secs_f32()
            ));
            self.wait(wait)?;
            let error = match find_seat(self.options) {
                Ok(seat) => return Ok(seat),
                Err(error) => error,
            };
            match tries.pause_after(&error, self.options) {
                Some(short) => {
                    self.screen.notice(&tries.describe(&error));
                    pause = short;
                }
                None if matches!(error, SeekError::Full) => {
                    self.screen.trouble(&error.to_string());
                    return Err(Outcome::Full);
                }
                None => {
                    self.screen.trouble(&error.to_string());
                    pause = (pause * 2).clamp(RECONNECT_PAUSES.0, most);
                }
            }
        }
    }

    /// Waits, unless the person leaves meanwhile. What a script has typed stays for the next
    /// session; a person is told.
    fn wait(&mut self, duration: Duration) -> Result<(), Outcome> {
        let over = crossbeam_channel::after(duration);
        let nothing = never();
        loop {
            if self.asked.is_none() && self.screen.has_prompts() {
                let prompt = nobody("not connected");
                self.keyboard.prompt(prompt.clone(), Ahead::Meant);
                self.asked = Some(prompt);
            }
            let typed = if self.screen.has_prompts() {
                self.keyboard.typed()
            } else {
                &nothing
            };
            select! {
                recv(over) -> _ => return Ok(()),
                recv(self.signals.told) -> told => match told {
                    Ok(Told::GoesOn | Told::ReadAnew) => self.keyboard.resume(),
                    Ok(Told::End(_)) | Err(_) => return Err(Outcome::Left),
                },
                recv(typed) -> typed => match typed {
                    Ok(Typed::Line { text, .. }) => {
                        self.asked = None;
                        match commands::read(&text, self.typist) {
                            Line::Quit => return Err(Outcome::Left),
                            Line::Nothing => {}
                            _ => self.screen.not_sent(
                                "not connected; that was not sent (the up arrow brings it back)",
                            ),
                        }
                    }
                    Ok(
                        Typed::TooMuch { .. }
                        | Typed::NotText(_)
                        | Typed::PassedOver
                        | Typed::NoTerminal,
                    ) => {}
                    Ok(Typed::End | Typed::Gone) | Err(_) => return Err(Outcome::Left),
                },
            }
        }
    }
}

/// A prompt at which nothing that is typed goes to anybody.
fn nobody(name: &str) -> Prompt<Target> {
    Prompt {
        name: name.to_owned(),
        ask: Ask::Line,
        target: Target::Nobody,
    }
}
