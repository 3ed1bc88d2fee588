//! The client's main thread: decides what is sent and what is shown.

use std::io;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Outcome;
use super::chat::{Chat, Online, SessionEnd, completions, mention};
use super::commands::{self, Line};
use super::link::{Heard, Link, LinkId};
use super::options::Options;
use super::screen::Screen;
use super::seek::{Seat, SeekError, find_seat};
use crate::clock::{Clock, Deadline, Subscription, Ticker, Ticks};
use crate::limits;
use crate::terminal::{Keyboard, Palette, Prompt, Typed, is_waking_the_editor, restore_terminal};
use crate::wire::{ClientCommand, printable};

/// The client's clock.
const TICK: Duration = Duration::from_secs(1);
/// Ended by a second signal, as a shell reports it.
const INTERRUPTED: i32 = 130;
/// How long a client sleeps after FULL (seed 000, rule 7).
const FULL_PAUSE: Duration = Duration::from_secs(2);
/// The pauses between attempts to come back: the first, doubled each time up to the last.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often the worker may turn us away in a row before that is no accident.
const TURNED_AWAY: u32 = 3;

/// Finds a seat and chats until the person leaves or the link is lost for good.
pub(super) fn chat(options: &Options) -> Outcome {
    let palette = Palette::new(options.color);
    // Until the first seat is found there is nothing to tidy up, so Ctrl-C may simply kill.
    let say = |text: &str| eprintln!("{}", palette.notice(&format!("* {text}")));
    let seat = match find_first_seat(options, &say) {
        Ok(seat) => seat,
        Err(error) => {
            eprintln!("chatclient: {}", printable(&error.to_string()));
            return if matches!(error, SeekError::Full) {
                Outcome::Full
            } else {
                Outcome::Lost
            };
        }
    };
    match Conductor::start(options, palette) {
        Ok(conductor) => conductor.run(seat),
        Err(error) => {
            eprintln!("chatclient: the system refuses a thread or the terminal: {error}");
            Outcome::Lost
        }
    }
}

fn find_first_seat(options: &Options, say: &dyn Fn(&str)) -> Result<Seat, SeekError> {
    let mut tries = Tries::default();
    loop {
        let error = match find_seat(options) {
            Ok(seat) => return Ok(seat),
            Err(error) => error,
        };
        let pause = tries.pause_after(&error, options);
        let Some(pause) = pause else {
            return Err(error);
        };
        say(&tries.describe(&error));
        std::thread::sleep(pause);
    }
}

/// Counts what went wrong on the way to a seat.
#[derive(Default)]
struct Tries {
    full: u32,
    turned_away: u32,
}

impl Tries {
    /// How long to wait before asking again, or `None` when there is no point or no permission.
    fn pause_after(&mut self, error: &SeekError, options: &Options) -> Option<Duration> {
        match error {
            SeekError::Full => {
                self.full += 1;
                self.turned_away = 0;
                options
                    .retry
                    .is_none_or(|most| self.full <= most)
                    .then_some(FULL_PAUSE)
            }
            SeekError::TurnedAway => {
                self.turned_away += 1;
                (self.turned_away < TURNED_AWAY).then_some(Duration::ZERO)
            }
            _ => None,
        }
    }

    fn describe(&self, error: &SeekError) -> String {
        match error {
            SeekError::Full => format!(
                "the server is full (try {}); asking again in 2 s, Ctrl-C gives up",
                self.full
            ),
            other => format!("{other}; asking the portal again"),
        }
    }
}

struct Conductor<'o> {
    options: &'o Options,
    keyboard: Keyboard,
    screen: Screen,
    chat: Chat,
    /// What all links hear.
    incoming: Receiver<(LinkId, Heard)>,
    heard: Sender<(LinkId, Heard)>,
    links: u64,
    /// The person has been asked for a line and has not given one yet.
    prompted: bool,
    signals: Receiver<()>,
    signal_thread: signal_hook::iterator::Handle,
    ticker: Ticker,
    subscription: Subscription,
    clock: Clock,
}

impl<'o> Conductor<'o> {
    fn start(options: &'o Options, palette: Palette) -> io::Result<Conductor<'o>> {
        // Before the editor: with a handler in place, the signal that ends the editor can't end
        // the process, should it come at a moment when the editor does not listen for it.
        let (signal_thread, signals) = listen_for_signals()?;
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let ticker = Ticker::start(clock.clone(), TICK, |_, _| {})?;
        let online = Online::default();
        let (heard, incoming) = bounded(64);
        let username = options.username.clone();
        let chat = Chat::new(username, Online::clone(&online), heard.clone());
        let complete = Box::new(move |before: &str| completions(before, &online.lock()));
        let (keyboard, printer) = Keyboard::start(palette, complete)?;
        let screen = match printer {
            Some(printer) => Screen::above(palette, printer, options.trace.clone())?,
            None => Screen::plain(palette),
        };
        Ok(Conductor {
            options,
            keyboard,
            screen,
            chat,
            incoming,
            heard,
            links: 0,
            prompted: false,
            signals,
            signal_thread,
            ticker,
            subscription,
            clock,
        })
    }

    /// Chats, comes back if that is wanted, and tidies up.
    fn run(mut self, seat: Seat) -> Outcome {
        let mut next = Some(seat);
        let mut outcome = Outcome::Left;
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
            outcome = if end == SessionEnd::Left {
                Outcome::Left
            } else {
                Outcome::Lost
            };
            if end == SessionEnd::Lost && self.options.reconnect {
                match self.come_back() {
                    Ok(seat) => next = Some(seat),
                    Err(ended) => outcome = ended,
                }
            }
        }
        let Conductor {
            keyboard,
            screen,
            signal_thread,
            ticker,
            ..
        } = self;
        screen.close(|| keyboard.close());
        signal_thread.close();
        ticker.stop();
        outcome
    }

    /// One stay in one seat.
    fn session(&mut self, link: &Link) -> SessionEnd {
        let incoming = self.incoming.clone();
        let mut watch = Watch::new(self.options.server_timeout, &self.clock, &self.subscription);
        let caught_up = self.screen.caught_up();
        let nothing_heard = never();
        let nothing_typed = never();
        let mut end = self.chat.start(link, &self.screen).err();
        loop {
            if let Some(end) = end {
                if end == SessionEnd::Left {
                    mention(ClientCommand::Terminate, link);
                }
                return end;
            }
            self.ask();
            // A terminal that can't keep up is not fed any more; then the socket fills, and in
            // the end the server is the one to decide.
            let heard = if self.screen.is_behind() {
                &nothing_heard
            } else {
                &incoming
            };
            // While the server has to answer first, what a script goes on to say can wait.
            let typed = if self.chat.prompt().is_some() {
                self.keyboard.typed()
            } else {
                &nothing_typed
            };
            select! {
                recv(heard) -> heard => {
                    watch.heard(&self.clock, &self.subscription);
                    end = match heard {
                        Ok((id, heard)) if id != link.id() => {
                            self.chat.heard_in_room(id, heard, &self.screen);
                            None
                        }
                        Ok((_, Heard::Frame(frame))) => {
                            self.chat.heard(&frame, link, &self.screen).err()
                        }
                        Ok((_, Heard::Over(reason))) => {
                            self.screen.trouble(&format!("the connection is lost: {reason}"));
                            Some(SessionEnd::Lost)
                        }
                        Err(_) => Some(SessionEnd::Lost),
                    };
                }
                recv(typed) -> typed => {
                    self.prompted = false;
                    end = match typed {
                        // The prompt was there before the question changed: a password must not be said,
                        // nor something said in the open be taken for a password.
                        Ok(Typed::Line { hidden: Some(hidden), .. })
                            if self.chat.prompt().is_some_and(|prompt| prompt.hidden != hidden) =>
                        {
                            self.screen.notice("that was not sent: you are asked for something else now");
                            None
                        }
                        Ok(Typed::Line { text, .. }) => {
                            self.chat.typed(&text, link, &self.screen).err()
                        }
                        Ok(Typed::End) | Err(_) => Some(SessionEnd::Left),
                    };
                }
                recv(caught_up) -> _ => {}
                recv(self.signals) -> _ => end = Some(SessionEnd::Left),
                recv(self.subscription.ticks()) -> _ => {
                    // What has come and was not looked at yet counts as heard.
                    if !incoming.is_empty() {
                        watch.heard(&self.clock, &self.subscription);
                    }
                    match watch.look(&self.clock, &self.subscription) {
                        Look::Fine => {}
                        Look::Quiet => mention(ClientCommand::Ping, link),
                        Look::Dead => {
                            mention(ClientCommand::IdleTimeout, link);
                            let seconds = self.options.server_timeout.unwrap_or_default().as_secs();
                            self.screen.trouble(&format!("nothing has come from the server for {seconds} s; leaving"));
                            end = Some(SessionEnd::Lost);
                        }
                    }
                }
            }
        }
    }

    /// Asks the person for the next line, unless that has been done or has to wait.
    fn ask(&mut self) {
        if !self.prompted
            && let Some(prompt) = self.chat.prompt()
        {
            self.keyboard.prompt(prompt);
            self.prompted = true;
        }
    }

    /// Looks for a seat again, with growing pauses, until there is one or the person gives up.
    fn come_back(&mut self) -> Result<Seat, Outcome> {
        let (mut pause, most) = RECONNECT_PAUSES;
        let mut tries = Tries::default();
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
            if !self.prompted {
                self.keyboard.prompt(Prompt {
                    name: "not connected".to_owned(),
                    hidden: false,
                });
                self.prompted = true;
            }
            let typed = if self.screen.is_terminal() {
                self.keyboard.typed()
            } else {
                &nothing
            };
            select! {
                recv(over) -> _ => return Ok(()),
                recv(self.signals) -> _ => return Err(Outcome::Left),
                recv(typed) -> typed => match typed {
                    Ok(Typed::Line { text, .. }) if commands::read(&text) != Line::Quit => {
                        self.screen.notice("not connected; that was not sent");
                        self.prompted = false;
                    }
                    _ => return Err(Outcome::Left),
                },
            }
        }
    }
}

/// Starts the thread `signals`. The first signal is told; at a second one the person will not
/// wait any longer, for what may be a paused terminal, and the process ends on the spot.
fn listen_for_signals() -> io::Result<(signal_hook::iterator::Handle, Receiver<()>)> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let (sender, first) = bounded(1);
    Builder::new()
        .name("signals".to_owned())
        .stack_size(limits::THREAD_STACK)
        .spawn(move || {
            let mut told = false;
            for _ in signals.forever().filter(|_| !is_waking_the_editor()) {
                if told {
                    restore_terminal();
                    std::process::exit(INTERRUPTED);
                }
                told = true;
                let _ = sender.try_send(());
            }
        })?;
    Ok((handle, first))
}

/// Up to a quarter of `pause` more, so that a whole class that lost its server does not come back
/// in the same instant.
fn jitter(pause: Duration) -> Duration {
    // Without random numbers everyone comes at once, which is no worse than having no jitter.
    let part = getrandom::u32().unwrap_or(0) % 256;
    pause * part / 1024
}

/// The client's own timeout (seed 000, revision 1): pings a silent server, and gives it up in the
/// end.
struct Watch {
    timeout: Option<(Ticks, Ticks)>,
    ping: Option<Deadline>,
    dead: Option<Deadline>,
}

/// What a look at the clock came to.
#[derive(PartialEq, Eq, Debug)]
enum Look {
    Fine,
    Quiet,
    Dead,
}

impl Watch {
    fn new(timeout: Option<Duration>, clock: &Clock, subscription: &Subscription) -> Watch {
        let ticks = |timeout: Duration| {
            (
                Ticks::covering(timeout / 4, TICK),
                Ticks::covering(timeout, TICK),
            )
        };
        let mut watch = Watch {
            timeout: timeout.map(ticks),
            ping: None,
            dead: None,
        };
        watch.heard(clock, subscription);
        watch
    }

    fn heard(&mut self, clock: &Clock, subscription: &Subscription) {
        let now = clock.now();
        if let Some((ping, dead)) = self.timeout {
            self.ping = Some(Deadline::after(now, ping));
            self.dead = Some(Deadline::after(now, dead));
        }
        self.set_alarm(subscription);
    }

    fn look(&mut self, clock: &Clock, subscription: &Subscription) -> Look {
        let now = clock.now();
        let is_past =
            |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.is_past(now));
        let look = if is_past(self.dead) {
            Look::Dead
        } else if is_past(self.ping) {
            self.ping = self.timeout.map(|(ping, _)| Deadline::after(now, ping));
            Look::Quiet
        } else {
            Look::Fine
        };
        self.set_alarm(subscription);
        look
    }

    fn set_alarm(&self, subscription: &Subscription) {
        subscription
            .alarm()
            .set(self.ping.into_iter().chain(self.dead).min());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_pinged_and_then_given_up() {
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let mut watch = Watch::new(Some(Duration::from_secs(8)), &clock, &subscription);
        let mut looks = Vec::new();
        for _ in 0..9 {
            clock.beat();
            looks.push(watch.look(&clock, &subscription));
        }
        let pings = looks.iter().filter(|look| **look == Look::Quiet).count();
        assert_eq!((pings, looks.last()), (2, Some(&Look::Dead)), "{looks:?}");
    }

    #[test]
    fn a_word_from_the_server_starts_the_wait_anew() {
        let clock = Clock::new();
        let subscription = clock.subscribe();
        let mut watch = Watch::new(Some(Duration::from_secs(8)), &clock, &subscription);
        for _ in 0..30 {
            clock.beat();
            watch.heard(&clock, &subscription);
            assert_eq!(watch.look(&clock, &subscription), Look::Fine);
        }
    }

    #[test]
    fn full_is_asked_again_as_often_as_allowed() {
        let mut options = Options {
            server: String::new(),
            port: 1,
            username: None,
            compat: None,
            callback: None,
            portal: super::super::options::Portal::Tcp,
            retry: Some(2),
            reconnect: false,
            server_timeout: None,
            color: false,
            tap: crate::net::Tap::default(),
            trace: crate::client::trace::TraceOut::default(),
        };
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..3)
            .map(|_| tries.pause_after(&SeekError::Full, &options))
            .collect();
        assert_eq!(pauses, [Some(FULL_PAUSE), Some(FULL_PAUSE), None]);
        options.retry = None;
        assert_eq!(
            tries.pause_after(&SeekError::Full, &options),
            Some(FULL_PAUSE)
        );
    }
}
