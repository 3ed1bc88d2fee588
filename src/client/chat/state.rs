//! The state of the conversation: the user's name, the recipients and the open question.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

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
use portal_wire::{ClientCommand, ClientDoc, Codec};

/// The reason why a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The user left.
    Left,
    /// The user was idle for too long, and may reconnect by pressing a key.
    Idle,
    /// The server dismissed the user: reconnecting would be rude or useless.
    Dismissed,
    /// The link was lost, or the server closed it for its own reasons: reconnecting makes sense.
    Lost,
}

/// The result of handling a line or a document; an error ends the session.
pub(crate) type Handled = Result<(), SessionEnd>;

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
    pub(crate) screen: Screen,
}

/// The user's login.
#[derive(Default)]
pub(super) struct Login {
    /// The name, once logged in on this link.
    pub(super) me: Option<String>,
    pub(super) credentials: Option<Credentials>,
    /// Given at startup, and used for only one attempt.
    pub(super) given_password: Option<Given>,
    /// The source of the given password; cleared once the server has replied to the password.
    pub(super) given_at: Option<String>,
    /// The name on the previous link, while the server still holds it for that link.
    pub(super) old_name: OldName,
    /// Set if a password was given at startup.
    pub(super) had_password: bool,
    /// Set if the requested password is that of a new account.
    pub(super) is_new_account: bool,
}

/// The client in the neighbouring seat.
pub(super) struct Partner {
    pub(super) label: String,
    /// Distinguishes this partner from earlier ones.
    pub(super) arrival: u64,
}

/// The recipients of typed lines, and the unread messages elsewhere.
pub(super) struct Talk {
    pub(super) focus: Focus,
    /// The room that was the recipient when its link was lost. It is the recipient again after a
    /// reconnect.
    pub(super) lost_room: Option<String>,
    pub(super) partner: Option<Partner>,
    pub(super) arrivals: u64,
    /// The number of the main link. The client does not wait for replies to messages on an earlier
    /// link.
    pub(super) link: u64,
    /// Set once the server has reported the partner, which it does once, unprompted.
    pub(super) presence_notified: bool,
    /// The sender of the last direct message.
    pub(super) last_direct: Option<String>,
    /// The recipient of `/reply`: the sender of the last direct message before the user began the
    /// current line. Later messages do not redirect the line.
    pub(super) reply_to: Option<String>,
    /// The partner for whom a line was last typed at a terminal without prompts; before that, the
    /// first partner.
    pub(super) seen_partner: Target,
    /// The number of unread messages in each other conversation, by the recipient's name.
    pub(super) unread: BTreeMap<String, usize>,
    /// The messages that have been shown from each room, by the room's lower-case name.
    pub(super) shown: BTreeMap<String, ShownMessages>,
    /// Number of old messages that still belong to the reply to `/history`.
    pub(super) requested: usize,
    /// The user who left last, so that a departure is shown only once.
    pub(super) departed: Option<(String, Instant)>,
    /// Set if the hint for a user without a partner was shown on this link.
    pub(super) hinted: bool,
}

/// The messages from a room that are on the screen.
#[derive(Default)]
pub(super) struct ShownMessages {
    /// The id of the newest one from another user, or from an earlier connection.
    pub(super) newest: u64,
    /// Number of the user's own messages after that one, whose ids the client does not know.
    pub(super) own: usize,
}

/// The messages that the user wants to see, and those that ring the bell or show a notification.
pub(super) struct Alerts {
    pub(super) bell: When,
    pub(super) notify: When,
    pub(super) quiet: bool,
    /// Set if the server's confirmations of sent messages are shown.
    pub(super) confirmations: bool,
    /// The ignored users, by lower-case name.
    pub(super) ignored: BTreeSet<String>,
}

/// The replies that the client expects, and the requests that have been refused.
#[derive(Default)]
pub(super) struct Replies {
    /// The number of pending replies to `WHO` that are for the Tab key and not for the screen.
    pub(super) silent_whos: u32,
    /// The number of pending replies to `PM` with `<cancel/>`, which are not shown.
    pub(super) silent_sents: u32,
    /// The number of public and direct messages on the main link without a reply.
    pub(super) unanswered: u32,
    /// True after a line of the form `%NAME%text`, until its reply.
    pub(super) is_addressed: bool,
    /// The number of requests that were refused or not sent.
    pub(super) refusals: u32,
}

/// The rest of a paste, which waits until the server has replied to the previous part.
pub(super) struct Paste {
    pub(super) pieces: VecDeque<String>,
    /// The partner at the time of the paste: a line for that partner must not go to another one.
    pub(super) beside: Target,
}

/// The client's state of the conversation.
pub(crate) struct Chat {
    pub(crate) screen: Screen,
    pub(super) typist: Typist,
    /// Set once a line has been typed.
    pub(super) has_typed: bool,
    /// Set if there are prompts on a terminal. Without them, no question is asked twice.
    pub(super) has_prompts: bool,
    /// The link to the worker. `None` while there is no connection.
    main: Option<Link>,
    pub(super) login: Login,
    pub(super) dialog: Dialog,
    /// Counts the questions, to match an answer to its question.
    pub(super) questions: u64,
    pub(super) talk: Talk,
    pub(super) alerts: Alerts,
    pub(super) replies: Replies,
    pub(super) paste: Paste,
    pub(super) rooms: RoomLinks,
    /// The words for the Tab key.
    pub(super) known: Arc<Mutex<CompletionWords>>,
    /// Set if the server has warned of the idle timeout.
    idle_soon: bool,
}

impl Chat {
    pub(crate) fn new(
        beginning: Beginning,
        known: Arc<Mutex<CompletionWords>>,
        events: Sender<(LinkId, LinkEvent)>,
    ) -> Chat {
        let has_prompts = beginning.screen.has_prompts();
        let credentials = beginning.username.map(|username| Credentials {
            username,
            password: None,
        });
        Chat {
            screen: beginning.screen,
            typist: beginning.typist,
            has_typed: false,
            has_prompts,
            main: None,
            login: Login {
                credentials,
                had_password: beginning.password.is_some(),
                given_password: beginning.password,
                ..Login::default()
            },
            dialog: Dialog::Talk,
            questions: 0,
            talk: Talk {
                focus: Focus::Partner,
                lost_room: None,
                partner: None,
                arrivals: 0,
                link: 0,
                presence_notified: false,
                last_direct: None,
                reply_to: None,
                seen_partner: Target::Nobody,
                unread: BTreeMap::new(),
                shown: BTreeMap::new(),
                requested: 0,
                departed: None,
                hinted: false,
            },
            alerts: Alerts {
                bell: When::Mention,
                notify: When::Off,
                quiet: false,
                confirmations: !has_prompts,
                ignored: BTreeSet::new(),
            },
            replies: Replies::default(),
            paste: Paste {
                pieces: VecDeque::new(),
                beside: Target::Nobody,
            },
            rooms: RoomLinks::new(events),
            known,
            idle_soon: false,
        }
    }

    /// Starts the conversation on a new link: logs in if the user has chosen a name.
    pub(crate) fn start(&mut self, main: Link) -> Handled {
        self.main = Some(main);
        self.login.me = None;
        self.login.old_name.stop();
        self.dialog = Dialog::Talk;
        self.talk.partner = None;
        self.talk.link += 1;
        self.talk.presence_notified = false;
        self.talk.hinted = false;
        self.idle_soon = false;
        self.replies = Replies {
            refusals: self.replies.refusals,
            ..Replies::default()
        };
        self.paste.pieces.clear();
        self.rooms.forget_connections();
        if let Some(room) = self.talk.lost_room.take() {
            self.talk.focus = Focus::Room(room);
        }
        *self.known.lock() = CompletionWords::default();
        match &self.login.credentials {
            Some(known) => self.log_in(&known.username.clone()),
            None => Ok(()),
        }
    }

    /// Closes the link to the worker. Messages on it may have been lost.
    pub(crate) fn end_link(&mut self) {
        self.main = None;
    }

    /// The link to the worker.
    pub(crate) fn main(&self) -> Option<&Link> {
        self.main.as_ref()
    }

    pub(crate) fn codec(&self) -> Codec {
        self.main.as_ref().map_or_else(Codec::default, Link::codec)
    }

    /// Returns the recipient of a line that is not a command.
    pub(crate) fn target(&self) -> Target {
        if self.dialog != Dialog::Talk {
            return match self.question() {
                Some(Some((_, PromptKind::Hidden))) => Target::Secret(self.questions),
                _ => Target::Question(self.questions),
            };
        }
        let is_in = self.login.me.is_some();
        match &self.talk.focus {
            Focus::Partner => self.beside(),
            Focus::Everyone if is_in => Target::Everyone,
            Focus::Person(name) if is_in => Target::Person(name.to_ascii_lowercase()),
            Focus::Room(room) if self.rooms.is_in(room) => Target::Room(room.to_ascii_lowercase()),
            Focus::Everyone | Focus::Person(_) | Focus::Room(_) | Focus::Lost(_) => Target::Nobody,
        }
    }

    /// Prepares for a new line, which refers to the messages on the screen now.
    pub(crate) fn begin_line(&mut self) {
        if self.talk.reply_to != self.talk.last_direct {
            self.talk.reply_to.clone_from(&self.talk.last_direct);
        }
    }

    /// Returns the current partner as a target.
    pub(super) fn beside(&self) -> Target {
        let arrival = match &self.talk.partner {
            _ if self.codec().is_legacy() => 0,
            Some(there) => there.arrival,
            None => return Target::Nobody,
        };
        Target::Partner {
            link: self.talk.link,
            arrival,
        }
    }

    /// Returns the prompt for the user; `None` while the server must reply first.
    pub(crate) fn prompt(&self) -> Option<Prompt<Target>> {
        let (name, ask) = match self.question() {
            Some(question) => question?,
            // The meaning of a script's line may depend on which users are online, and a script
            // does not check that first.
            None if self.replies.silent_whos > 0 && !self.has_prompts => return None,
            None => (self.talk_prompt(), PromptKind::Line),
        };
        Some(Prompt {
            name,
            ask,
            target: self.target(),
        })
    }

    /// Returns the prompt for chat: the user's name, the recipient, and the number of unread
    /// messages elsewhere.
    fn talk_prompt(&self) -> String {
        let me = self.login.me.as_deref().unwrap_or("you");
        let partner = self.talk.partner.as_ref().map(|there| there.label.as_str());
        let prompt = match (&self.talk.focus, self.target()) {
            (Focus::Partner, _) if self.codec().is_legacy() => me.to_owned(),
            (Focus::Partner, Target::Nobody) => format!("{me}, alone"),
            (Focus::Room(room), Target::Room(_)) => format!("{me} in {room}"),
            (focus, Target::Nobody) => {
                format!("{me}, not with {} yet", focus.describe(partner))
            }
            (focus, _) => format!("{me} to {}", focus.describe(partner)),
        };
        match self.unread() {
            unread if unread.is_empty() => prompt,
            unread => format!("{prompt} [{unread}]"),
        }
    }

    /// The number of unread messages in each conversation, such as `bob 1, lobby 2`.
    pub(super) fn unread(&self) -> String {
        let counts = self.talk.unread.iter();
        let counts = counts.map(|(name, count)| format!("{name} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// Makes `focus` the recipient of typed lines.
    pub(super) fn turn_to(&mut self, focus: Focus) {
        self.talk.unread.remove(&focus.conversation());
        self.talk.lost_room = None;
        self.talk.focus = focus;
    }

    /// Returns whether there has been an idle warning since the last call.
    pub(crate) fn should_stay(&mut self) -> bool {
        std::mem::take(&mut self.idle_soon)
    }

    pub(super) fn warn_of_idle_timeout(&mut self) {
        self.idle_soon = true;
    }

    /// The number of requests that were refused or not sent.
    pub(crate) fn refusals(&self) -> u32 {
        self.replies.refusals
    }

    /// All links of the conversation except the main one.
    pub(crate) fn room_links(&self) -> impl Iterator<Item = &Link> {
        self.rooms.links()
    }

    /// Reports that something was not sent, and why.
    pub(super) fn not_sent(&mut self, text: &str) {
        self.replies.refusals += 1;
        self.screen.not_sent(text);
    }

    /// Reports that something failed.
    pub(super) fn trouble(&mut self, text: &str) {
        self.replies.refusals += 1;
        self.screen.trouble(text);
    }

    /// Sends a document, unless it is longer than the server accepts.
    pub(super) fn send_doc(&mut self, doc: &ClientDoc<'_>) -> Handled {
        match self.frame(doc, self.codec()) {
            Some(frame) => self.send_frame(&frame),
            None => Ok(()),
        }
    }

    pub(super) fn command(&mut self, command: ClientCommand<'_>) -> Handled {
        self.send_doc(&ClientDoc::Command(command))
    }

    /// Sends a request whose reply must arrive before the next prompt.
    pub(super) fn ask_server(&mut self, command: ClientCommand<'_>, awaiting: Awaiting) -> Handled {
        let Some(frame) = self.frame(&ClientDoc::Command(command), self.codec()) else {
            self.dialog = Dialog::Talk;
            return Ok(());
        };
        self.dialog = Dialog::Awaiting(awaiting);
        self.send_frame(&frame)
    }

    /// Encodes a document as a frame. If it is longer than the server accepts, reports that and
    /// returns `None`.
    pub(super) fn frame(&mut self, doc: &ClientDoc<'_>, codec: Codec) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        codec.write_client(doc, &mut frame);
        let (long, most) = (frame.len().saturating_sub(1), codec.max_frame);
        if long > most {
            self.not_sent(&format!(
                "not sent: the message is too long ({long} bytes; the limit is {most}); split it \
                 into shorter messages"
            ));
            return None;
        }
        Some(frame)
    }

    pub(super) fn send_frame(&self, frame: &[u8]) -> Handled {
        let main = self.main.as_ref().ok_or(SessionEnd::Lost)?;
        main.send(frame).map_err(|error| {
            self.screen.trouble(&format!("connection lost: {error}"));
            SessionEnd::Lost
        })
    }

    /// Sends a command that the user does not see. Ignores errors: if the link is lost, its
    /// listener reports that.
    pub(crate) fn mention(&self, command: ClientCommand<'_>) {
        if let Some(main) = &self.main {
            mention(command, main);
        }
    }
}

/// Like [`Chat::mention`], on any link.
pub(crate) fn mention(command: ClientCommand<'_>, link: &Link) {
    let mut frame = Vec::new();
    link.codec()
        .write_client(&ClientDoc::Command(command), &mut frame);
    let _ = link.send(&frame);
}
