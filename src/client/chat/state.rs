//! Who the person is, whom they talk to, what they are asked.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::completion::CompletionWords;
use super::old_name::OldName;
use super::question::{Awaiting, Dialog};
use super::room_links::RoomLinks;
use crate::commands::{Typist, When};
use crate::link::{Link, LinkEvent, LinkId};
use crate::options::Given;
use crate::screen::Screen;
use crate::target::{Focus, Target};
use portal_cli::terminal::{Prompt, PromptKind};
use portal_wire::{ClientCommand, ClientDoc};

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
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
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Option<String>,
}

/// How a conversation begins.
pub(crate) struct Beginning {
    /// Who to log in as, at once.
    pub(crate) username: Option<String>,
    /// The password that was given beforehand, in a file or a variable.
    pub(crate) password: Option<Given>,
    /// How lines come.
    pub(crate) typist: Typist,
    /// There are prompts on a terminal. Without them, nobody is asked twice.
    pub(crate) has_prompts: bool,
}

/// Whoever sits beside.
pub(super) struct Partner {
    pub(super) label: String,
    /// The how-manieth on this link.
    pub(super) arrival: u64,
}

/// The conversation's state on the person's side.
pub(crate) struct Chat {
    pub(super) typist: Typist,
    pub(super) has_prompts: bool,
    pub(super) credentials: Option<Credentials>,
    /// Given beforehand, and good for one try.
    pub(super) given_password: Option<Given>,
    /// The place of the given password, while the server has not answered to it.
    pub(super) given_at: Option<String>,
    /// The name of the link before, while the server still holds it for that.
    pub(super) old_name: OldName,
    /// The name, once logged in on this link.
    pub(super) me: Option<String>,
    pub(super) dialog: Dialog,
    /// Counts the questions, so that an answer is known to be one to this question.
    pub(super) questions: u64,
    pub(super) focus: Focus,
    pub(super) partner: Option<Partner>,
    pub(super) arrivals: u64,
    /// Which main link this is; no answer to what was said on another one is waited for.
    pub(super) link: u64,
    /// Whether the server has said who sits beside; it does so once, unasked.
    pub(super) presence_notified: bool,
    /// The original programs know no names, rooms and partners.
    pub(super) is_legacy: bool,
    /// Who wrote to this person alone last.
    pub(super) last_direct: Option<String>,
    pub(super) bell: When,
    pub(super) notify: When,
    pub(super) quiet: bool,
    /// By lower-case name.
    pub(super) ignored: BTreeSet<String>,
    /// Answers to `WHO` that are for the Tab key and not for the screen.
    pub(super) silent_whos: u32,
    /// Answers to `PM` with `<cancel/>`, which are for nobody.
    pub(super) silent_sents: u32,
    /// Whether the hint for somebody who sits alone was shown on this link.
    pub(super) hinted: bool,
    /// The server will soon end a session in which nothing is said.
    pub(super) idle_soon: bool,
    /// Something that was to be done was refused, or not sent.
    pub(super) refusals: u32,
    /// What was said to people by name on the main link, and has not been answered.
    pub(super) unanswered: u32,
    /// The rest of a paste, while the server has to answer to what came before it.
    pub(super) pieces: VecDeque<String>,
    /// Who sat beside when it was pasted: what was meant for them is for nobody else.
    pub(super) pasted_beside: Target,
    /// Whether the password that is asked for is that of a new account.
    pub(super) is_new_account: bool,
    pub(super) known: Arc<Mutex<CompletionWords>>,
    pub(super) rooms: RoomLinks,
}

impl Chat {
    pub(crate) fn new(
        beginning: Beginning,
        known: Arc<Mutex<CompletionWords>>,
        events: Sender<(LinkId, LinkEvent)>,
    ) -> Chat {
        Chat {
            typist: beginning.typist,
            has_prompts: beginning.has_prompts,
            credentials: beginning.username.map(|username| Credentials {
                username,
                password: None,
            }),
            given_password: beginning.password,
            given_at: None,
            old_name: OldName::default(),
            me: None,
            dialog: Dialog::Talk,
            questions: 0,
            focus: Focus::Partner,
            partner: None,
            arrivals: 0,
            link: 0,
            presence_notified: false,
            is_legacy: false,
            last_direct: None,
            bell: When::Direct,
            notify: When::Off,
            quiet: false,
            ignored: BTreeSet::new(),
            silent_whos: 0,
            silent_sents: 0,
            hinted: false,
            idle_soon: false,
            refusals: 0,
            unanswered: 0,
            pieces: VecDeque::new(),
            pasted_beside: Target::Nobody,
            is_new_account: false,
            known,
            rooms: RoomLinks::new(events),
        }
    }

    /// A new link: logs in, if the person wants to be somebody.
    pub(crate) fn start(&mut self, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        self.me = None;
        self.old_name.stop();
        self.dialog = Dialog::Talk;
        self.partner = None;
        self.link += 1;
        self.presence_notified = false;
        self.is_legacy = link.codec().is_legacy();
        (self.silent_whos, self.silent_sents) = (0, 0);
        (self.hinted, self.idle_soon) = (false, false);
        self.pieces.clear();
        self.unanswered = 0;
        self.rooms.forget_connections();
        *self.known.lock() = CompletionWords::default();
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
    pub(crate) fn target(&self) -> Target {
        if self.dialog != Dialog::Talk {
            return match self.question() {
                Some(Some((_, PromptKind::Hidden))) => Target::Secret(self.questions),
                _ => Target::Question(self.questions),
            };
        }
        match &self.focus {
            Focus::Partner => self.beside(),
            Focus::Everyone if self.me.is_some() => Target::Everyone,
            Focus::Person(name) if self.me.is_some() => Target::Person(name.to_ascii_lowercase()),
            Focus::Room(room) if self.rooms.is_in(room) => Target::Room(room.to_ascii_lowercase()),
            Focus::Everyone | Focus::Person(_) | Focus::Room(_) | Focus::Lost(_) => Target::Nobody,
        }
    }

    /// Whoever sits beside.
    pub(super) fn beside(&self) -> Target {
        let arrival = match &self.partner {
            _ if self.is_legacy => 0,
            Some(there) => there.arrival,
            None => return Target::Nobody,
        };
        Target::Partner {
            link: self.link,
            arrival,
        }
    }

    /// What to ask the person for; `None` while the server has to answer first.
    pub(crate) fn prompt(&self) -> Option<Prompt<Target>> {
        let (name, ask) = match self.question() {
            Some(question) => question?,
            // What a script's line means may depend on who is here, and it does not look first.
            None if self.silent_whos > 0 && !self.has_prompts => return None,
            None => (self.talk_prompt(), PromptKind::Line),
        };
        Some(Prompt {
            name,
            ask,
            target: self.target(),
        })
    }

    /// The prompt for talking: who one is, and whom one talks to.
    pub(super) fn talk_prompt(&self) -> String {
        let me = self.me.as_deref().unwrap_or("you");
        let partner = self.partner.as_ref().map(|there| there.label.as_str());
        match (&self.focus, self.target()) {
            (Focus::Partner, _) if self.is_legacy => me.to_owned(),
            (Focus::Partner, Target::Nobody) => format!("{me}, alone"),
            (Focus::Room(room), Target::Room(_)) => format!("{me} in {room}"),
            (focus, Target::Nobody) => {
                format!("{me}, not with {} yet", focus.describe(partner))
            }
            (focus, _) => format!("{me} to {}", focus.describe(partner)),
        }
    }

    /// Whether the server has warned that it ends a silent session, and nobody has answered it.
    pub(crate) fn should_stay(&mut self) -> bool {
        std::mem::take(&mut self.idle_soon)
    }

    /// How often something that was to be done was refused, or not sent.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// All links of the conversation beside the main one.
    pub(crate) fn room_links(&self) -> impl Iterator<Item = &Link> {
        self.rooms.links()
    }

    /// Says that something is not sent, and why.
    pub(super) fn not_sent(&mut self, text: &str, screen: &Screen) {
        self.refusals += 1;
        screen.not_sent(text);
    }

    /// Says that something could not be done.
    pub(super) fn trouble(&mut self, text: &str, screen: &Screen) {
        self.refusals += 1;
        screen.trouble(text);
    }

    /// Sends a document, unless it is longer than the server takes.
    pub(super) fn send_doc(
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

    pub(super) fn command(
        &mut self,
        command: ClientCommand<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        self.send_doc(&ClientDoc::Command(command), link, screen)
    }

    /// Sends what the server has to answer before the person is asked for anything else.
    pub(super) fn ask_server(
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

    /// A document as a frame; `None` if the server would not take one so long, and then the person
    /// is told.
    pub(super) fn frame(
        &mut self,
        doc: &ClientDoc<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Option<Vec<u8>> {
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

pub(super) fn send_frame(frame: &[u8], link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
    link.send(frame).map_err(|error| {
        screen.trouble(&format!("the connection is lost: {error}"));
        SessionEnd::Lost
    })
}

/// Says something that the person does not see, and that may fail: if the link is lost, the
/// listener hears it, too, and tells.
pub(crate) fn mention(command: ClientCommand<'_>, link: &Link) {
    let mut frame = Vec::new();
    link.codec()
        .write_client(&ClientDoc::Command(command), &mut frame);
    let _ = link.send(&frame);
}
