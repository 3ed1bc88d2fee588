//! The conversation as the person has it: who they are, whom they talk to, what they are asked.
//!
//! `typed` makes documents of lines, `heard` lines of documents, `dialog` asks and takes answers,
//! `rooms` keeps the connections to rooms. Where a line goes is a [`Target`].

mod dialog;
mod heard;
mod rooms;
mod typed;

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::commands::{self, Takes, Typist, When};
use super::link::{Heard, Link, LinkId};
use super::screen::Screen;
use super::target::{Focus, Target};
use crate::terminal::{Ask, Prompt};
use crate::wire::{ClientCommand, ClientDoc};

use dialog::{Awaiting, Dialog};
use rooms::Rooms;

/// What Tab completes: who is online, and which rooms there are. The conversation keeps it, the
/// editor's thread reads it.
#[derive(Default)]
pub(super) struct Known {
    people: BTreeSet<String>,
    rooms: BTreeSet<String>,
}

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The person left.
    Left,
    /// The person has said nothing for too long. Once they are there, they may come back.
    Idle,
    /// The server wants us gone: coming back would be rude or useless.
    Dismissed,
    /// The link is lost, or the server ended it for its own reasons: coming back makes sense.
    Lost,
}

/// Who the person is to the server; kept for coming back.
struct Credentials {
    username: String,
    password: Option<String>,
}

/// How a conversation begins.
pub(super) struct Beginning {
    /// Who to log in as, at once.
    pub(super) username: Option<String>,
    /// The password that was given beforehand, in a file or a variable.
    pub(super) password: Option<String>,
    /// How lines come.
    pub(super) typist: Typist,
    /// There are prompts on a terminal. Without them, nobody is asked twice.
    pub(super) has_prompts: bool,
}

/// Whoever sits beside.
struct Partner {
    label: String,
    /// The how-manieth on this link.
    arrival: u64,
}

/// The conversation's state on the person's side.
pub(super) struct Chat {
    typist: Typist,
    has_prompts: bool,
    credentials: Option<Credentials>,
    /// Given beforehand, and good for one try.
    given_password: Option<String>,
    /// The name, once logged in on this link.
    me: Option<String>,
    dialog: Dialog,
    /// Counts the questions, so that an answer is known to be one to this question.
    questions: u64,
    focus: Focus,
    partner: Option<Partner>,
    arrivals: u64,
    /// Which main link this is; no answer to what was said on another one is waited for.
    link: u64,
    /// Whether the server has said who sits beside; it does so once, unasked.
    presence_told: bool,
    /// The original programs know no names, rooms and partners.
    is_original: bool,
    /// Who wrote to this person alone last.
    last_direct: Option<String>,
    bell: When,
    notify: When,
    quiet: bool,
    /// By lower-case name.
    ignored: BTreeSet<String>,
    /// Answers to `WHO` that are for the Tab key and not for the screen.
    silent_whos: u32,
    /// Answers to `PM` with `<cancel/>`, which are for nobody.
    silent_sents: u32,
    /// Whether the hint for somebody who sits alone was shown on this link.
    hinted: bool,
    /// The server will soon end a session in which nothing is said.
    idle_soon: bool,
    /// Something that was to be done was refused, or not sent.
    refused: bool,
    known: Arc<Mutex<Known>>,
    rooms: Rooms,
}

impl Chat {
    pub(super) fn new(
        beginning: Beginning,
        known: Arc<Mutex<Known>>,
        heard: Sender<(LinkId, Heard)>,
    ) -> Chat {
        Chat {
            typist: beginning.typist,
            has_prompts: beginning.has_prompts,
            credentials: beginning.username.map(|username| Credentials {
                username,
                password: None,
            }),
            given_password: beginning.password,
            me: None,
            dialog: Dialog::Talk,
            questions: 0,
            focus: Focus::Partner,
            partner: None,
            arrivals: 0,
            link: 0,
            presence_told: false,
            is_original: false,
            last_direct: None,
            bell: When::Direct,
            notify: When::Off,
            quiet: false,
            ignored: BTreeSet::new(),
            silent_whos: 0,
            silent_sents: 0,
            hinted: false,
            idle_soon: false,
            refused: false,
            known,
            rooms: Rooms::new(heard),
        }
    }

    /// A new link: logs in, if the person wants to be somebody.
    pub(super) fn start(&mut self, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        self.me = None;
        self.dialog = Dialog::Talk;
        self.partner = None;
        self.link += 1;
        self.presence_told = false;
        self.is_original = link.codec().is_original();
        (self.silent_whos, self.silent_sents) = (0, 0);
        (self.hinted, self.idle_soon) = (false, false);
        self.rooms.forget_connections();
        *self.known.lock() = Known::default();
        let username = self
            .credentials
            .as_ref()
            .map(|known| known.username.clone());
        match username {
            Some(username) => self.log_in(&username, link, screen),
            None => Ok(()),
        }
    }

    /// Where a line goes now that is no command.
    pub(super) fn target(&self) -> Target {
        if self.dialog != Dialog::Talk {
            return Target::Question(self.questions);
        }
        let partner = |arrival| Target::Partner {
            link: self.link,
            arrival,
        };
        match &self.focus {
            Focus::Partner if self.is_original => partner(0),
            Focus::Partner => self
                .partner
                .as_ref()
                .map_or(Target::Nobody, |there| partner(there.arrival)),
            Focus::Everyone if self.me.is_some() => Target::Everyone,
            Focus::Person(name) if self.me.is_some() => Target::Person(name.to_ascii_lowercase()),
            Focus::Room(room) if self.rooms.is_in(room) => Target::Room(room.to_ascii_lowercase()),
            Focus::Everyone | Focus::Person(_) | Focus::Room(_) | Focus::Lost(_) => Target::Nobody,
        }
    }

    /// What to ask the person for; `None` while the server has to answer first.
    pub(super) fn prompt(&self) -> Option<Prompt<Target>> {
        let (name, ask) = match self.question() {
            Some(question) => question?,
            None => (self.talk_prompt(), Ask::Line),
        };
        Some(Prompt {
            name,
            ask,
            target: self.target(),
        })
    }

    /// The prompt for talking: who one is, and whom one talks to.
    fn talk_prompt(&self) -> String {
        let me = self.me.as_deref().unwrap_or("you");
        let partner = self.partner.as_ref().map(|there| there.label.as_str());
        match (&self.focus, self.target()) {
            (Focus::Partner, _) if self.is_original => me.to_owned(),
            (Focus::Partner, Target::Nobody) => format!("{me}, alone"),
            (Focus::Room(room), Target::Room(_)) => format!("{me} in {room}"),
            (focus, Target::Nobody) => {
                format!("{me}, not with {} yet", focus.describe(partner))
            }
            (focus, _) => format!("{me} to {}", focus.describe(partner)),
        }
    }

    /// Whether the server has warned that it ends a silent session, and nobody has answered it.
    pub(super) fn should_stay(&mut self) -> bool {
        std::mem::take(&mut self.idle_soon)
    }

    /// Whether something that was to be done was refused, or not sent.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
    }

    /// All links of the conversation beside the main one.
    pub(super) fn room_links(&self) -> impl Iterator<Item = &Link> {
        self.rooms.links()
    }

    /// Says that something is not sent, and why.
    fn not_sent(&mut self, text: &str, screen: &Screen) {
        self.refused = true;
        screen.not_sent(text);
    }

    /// Says that something could not be done.
    fn trouble(&mut self, text: &str, screen: &Screen) {
        self.refused = true;
        screen.trouble(text);
    }

    /// Sends a document, unless it is longer than the server takes.
    fn send(
        &mut self,
        doc: &ClientDoc<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match self.frame(doc, link, screen) {
            Some(frame) => send_frame(&frame, link, screen),
            None => Ok(()),
        }
    }

    fn command(
        &mut self,
        command: ClientCommand<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        self.send(&ClientDoc::Command(command), link, screen)
    }

    /// Sends what the server has to answer before the person is asked for anything else.
    fn ask_server(
        &mut self,
        command: ClientCommand<'_>,
        awaiting: Awaiting,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let Some(frame) = self.frame(&ClientDoc::Command(command), link, screen) else {
            self.dialog = Dialog::Talk;
            return Ok(());
        };
        self.dialog = Dialog::Awaiting(awaiting);
        send_frame(&frame, link, screen)
    }

    /// A document as a frame; `None` if the server would not take one so long, and then the person is
    /// told.
    fn frame(&mut self, doc: &ClientDoc<'_>, link: &Link, screen: &Screen) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        link.codec().write_client(doc, &mut frame);
        let (long, most) = (frame.len().saturating_sub(1), link.codec().max_frame);
        if long > most {
            let sentence =
                format!("that is too long ({long} bytes, {most} are allowed); say it in pieces");
            self.not_sent(&sentence, screen);
            return None;
        }
        Some(frame)
    }
}

fn send_frame(frame: &[u8], link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
    link.send(frame).map_err(|error| {
        screen.trouble(&format!("the connection is lost: {error}"));
        SessionEnd::Lost
    })
}

/// Says something that the person does not see, and that may fail: if the link is lost, the
/// listener hears it, too, and tells.
pub(super) fn mention(command: ClientCommand<'_>, link: &Link) {
    let mut frame = Vec::new();
    link.codec()
        .write_client(&ClientDoc::Command(command), &mut frame);
    let _ = link.send(&frame);
}

/// What Tab can make of the last word before the cursor, and where that word begins: a command
/// after a slash, a name at the start of a line, after a command whatever that takes.
pub(super) fn completions(before: &str, known: &Known) -> (usize, Vec<String>) {
    let start = before.rfind([' ', '\n']).map_or(0, |space| space + 1);
    let (lead, word) = before.split_at(start);
    let commands = |word: &str| -> Vec<String> {
        commands::beginning_with(word)
            .map(|name| format!("/{name}"))
            .collect()
    };
    if let (true, Some(command)) = (lead.is_empty(), word.strip_prefix('/')) {
        return (start, commands(command));
    }
    let begins = |name: &&String| {
        name.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let of = |names: &BTreeSet<String>| -> Vec<String> {
        names.iter().filter(begins).cloned().collect()
    };
    let takes = match lead.trim_end().strip_prefix('/') {
        Some(command) => commands::takes(command),
        None if lead.is_empty() => Takes::Name,
        None => Takes::Nothing,
    };
    let words = match takes {
        Takes::Nothing => Vec::new(),
        Takes::Name => of(&known.people),
        Takes::Room => of(&known.rooms),
        Takes::Whom => {
            let all = ["all".to_owned()];
            let all = all.into_iter().filter(|all| begins(&all));
            all.chain(of(&known.rooms))
                .chain(of(&known.people))
                .collect()
        }
        Takes::Values(values) => values
            .iter()
            .map(|value| (*value).to_owned())
            .filter(|value| begins(&value))
            .collect(),
        Takes::Command => commands(word.trim_start_matches('/')),
    };
    (start, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_commands_names_rooms_and_values() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = Known {
            people: set(&["Bob", "bobby", "carol"]),
            rooms: set(&["attic", "Bar"]),
        };
        for (before, start, words) in [
            ("/qui", 0, vec!["/quiet", "/quit"]),
            ("/QUI", 0, vec!["/quiet", "/quit"]),
            ("/msg bo", 5, vec!["Bob", "bobby"]),
            ("/msg bob ca", 9, vec![]),
            ("car", 0, vec!["carol"]),
            ("hello ca", 6, vec![]),
            ("/all ca", 5, vec![]),
            ("/join a", 6, vec!["attic"]),
            (
                "/to ",
                4,
                vec!["all", "Bar", "attic", "Bob", "bobby", "carol"],
            ),
            ("/to b", 4, vec!["Bar", "Bob", "bobby"]),
            ("/bell ", 6, vec!["off", "dm", "all"]),
            ("/timestamp d", 11, vec!["datetime"]),
            ("/help qui", 6, vec!["/quiet", "/quit"]),
        ] {
            assert_eq!(
                completions(before, &known),
                (start, words.into_iter().map(str::to_owned).collect()),
                "{before}"
            );
        }
    }
}
