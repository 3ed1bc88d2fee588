//! The state of the conversation: the user's name, the recipients and the open question.

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

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The user left.
    Left,
    /// The user was idle for too long, and may reconnect by pressing a key.
    Idle,
    /// The server dismissed the user: reconnecting would be rude or useless.
    Dismissed,
    /// The link was lost, or the server ended it for reasons of its own: reconnecting makes sense.
    Lost,
}

/// The user's name and password, kept for reconnecting.
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Option<String>,
}

/// The settings at the start of a conversation.
pub(crate) struct Beginning {
    /// The name for an immediate login.
    pub(crate) username: Option<String>,
    /// The password from a file or a variable.
    pub(crate) password: Option<Given>,
    /// The source of the lines.
    pub(crate) typist: Typist,
    /// Set if there are prompts on a terminal. Without them, no question is asked twice.
    pub(crate) has_prompts: bool,
}

/// The client in the neighbouring seat.
pub(super) struct Partner {
    pub(super) label: String,
    /// Distinguishes this partner from earlier ones.
    pub(super) arrival: u64,
}

/// The client's state of the conversation.
pub(crate) struct Chat {
    pub(super) typist: Typist,
    pub(super) has_prompts: bool,
    pub(super) credentials: Option<Credentials>,
    /// Given at startup, and used for only one attempt.
    pub(super) given_password: Option<Given>,
    /// Where the given password came from; cleared once the server has replied to it.
    pub(super) given_at: Option<String>,
    /// The name on the previous link, while the server still holds it for that link.
    pub(super) old_name: OldName,
    /// The user's name, once logged in on this link.
    pub(super) me: Option<String>,
    pub(super) dialog: Dialog,
    /// Counts the questions, to match an answer to its question.
    pub(super) questions: u64,
    pub(super) focus: Focus,
    pub(super) partner: Option<Partner>,
    pub(super) arrivals: u64,
    /// The number of the main link. The client does not wait for replies to messages on an earlier
    /// link.
    pub(super) link: u64,
    /// Set once the server has reported the partner, which it does once, without being asked.
    pub(super) presence_notified: bool,
    /// Set if the server is an original program, which has no names, rooms or partners.
    pub(super) is_legacy: bool,
    /// The sender of the last direct message.
    pub(super) last_direct: Option<String>,
    pub(super) bell: When,
    pub(super) notify: When,
    pub(super) quiet: bool,
    /// The ignored users, by lower-case name.
    pub(super) ignored: BTreeSet<String>,
    /// The number of pending replies to `WHO` that are for the Tab key and not for the screen.
    pub(super) silent_whos: u32,
    /// The number of pending replies to `PM` with `<cancel/>`, which are not shown.
    pub(super) silent_sents: u32,
    /// Set if the hint for a user without a partner was shown on this link.
    pub(super) hinted: bool,
    /// Set if the server has warned of the idle timeout.
    pub(super) idle_soon: bool,
    /// The number of requests that were refused or not sent.
    pub(super) refusals: u32,
    /// The number of public and direct messages on the main link without a reply.
    pub(super) unanswered: u32,
    /// The rest of a paste, which waits until the server has replied to the previous part.
    pub(super) pieces: VecDeque<String>,
    /// The partner at the time of the paste: a line for that partner must not go to another one.
    pub(super) pasted_beside: Target,
    /// Set if the requested password is that of a new account.
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

    /// Starts the conversation on a new link: logs in if the user has chosen a name.
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

    /// Returns the recipient of a line that is not a command.
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

    /// Returns the current partner as a target.
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

    /// Returns the prompt for the user; `None` while the server must reply first.
    pub(crate) fn prompt(&self) -> Option<Prompt<Target>> {
        let (name, ask) = match self.question() {
            Some(question) => question?,
            // The meaning of a script's line may depend on which users are online, and a script
            // does not check that first.
            None if self.silent_whos > 0 && !self.has_prompts => return None,
            None => (self.talk_prompt(), PromptKind::Line),
        };
        Some(Prompt {
            name,
            ask,
            target: self.target(),
        })
    }

    /// Returns the prompt for chat, with the user's name and the recipient.
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

    /// Returns whether there has been an idle warning since the last call.
    pub(crate) fn should_stay(&mut self) -> bool {
        std::mem::take(&mut self.idle_soon)
    }

    /// The number of requests that were refused or not sent.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// All links of the conversation except the main one.
    pub(crate) fn room_links(&self) -> impl Iterator<Item = &Link> {
        self.rooms.links()
    }

    /// Reports that something was not sent, and why.
    pub(super) fn not_sent(&mut self, text: &str, screen: &Screen) {
        self.refusals += 1;
        screen.not_sent(text);
    }

    /// Reports that something failed.
    pub(super) fn trouble(&mut self, text: &str, screen: &Screen) {
        self.refusals += 1;
        screen.trouble(text);
    }

    /// Sends a document, unless it is longer than the server accepts.
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

    /// Sends a request whose reply must arrive before the next prompt.
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

    /// Encodes a document as a frame. If it is longer than the server accepts, reports that and
    /// returns `None`.
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
            let sentence = format!(
                "not sent: it is too long ({long} bytes, at most {most} are allowed); split it"
            );
            self.not_sent(&sentence, screen);
            return None;
        }
        Some(frame)
    }
}

pub(super) fn send_frame(frame: &[u8], link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
    link.send(frame).map_err(|error| {
        screen.trouble(&format!("connection lost: {error}"));
        SessionEnd::Lost
    })
}

/// Sends a command that the user does not see. Ignores errors: if the link is lost, its listener
/// reports that.
pub(crate) fn mention(command: ClientCommand<'_>, link: &Link) {
    let mut frame = Vec::new();
    link.codec()
        .write_client(&ClientDoc::Command(command), &mut frame);
    let _ = link.send(&frame);
}
