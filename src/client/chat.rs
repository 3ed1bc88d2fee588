//! What is said and shown: the person's lines become documents, the server's documents lines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::commands::{self, Bell, Line};
use super::link::{Heard, Link, LinkId};
use super::screen::Screen;
use super::seek::take_seat;
use crate::net::Port;
use crate::terminal::Prompt;
use crate::wire::{ClientCommand, ClientDoc, ErrorCode, Relay, Scope, Secret, ServerDoc};

/// The names that Tab completes: who is online. The conversation keeps it, the editor's thread
/// reads it.
pub(super) type Online = Arc<Mutex<BTreeSet<String>>>;

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The person left.
    Left,
    /// The server wants us gone: coming back would be rude or useless.
    Dismissed,
    /// The link is lost, or the server ended it for its own reasons: coming back makes sense.
    Lost,
}

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
enum Dialog {
    /// Chat or a command.
    Talk,
    /// Nothing yet: the server has to answer first.
    Awaiting,
    /// The password of a new account (asked twice of a person, `first` being the first) or an
    /// existing one.
    Password {
        new_account: bool,
        first: Option<String>,
    },
    /// The public message, after `PM`.
    PublicText,
    /// Whom the direct message is for, after `DM`.
    DirectWho,
    /// The direct message.
    DirectText { to: String },
    /// Whether `/pm bob …` was meant for everyone, although there is a bob.
    ConfirmPublic { text: String },
}

/// Who the person is to the server; kept for coming back.
struct Credentials {
    username: String,
    password: Option<String>,
}

/// The conversation's state on the person's side.
pub(super) struct Chat {
    credentials: Option<Credentials>,
    /// The name, once logged in on this link.
    me: Option<String>,
    dialog: Dialog,
    /// Who wrote to this person alone last.
    last_direct: Option<String>,
    bell: Bell,
    quiet: bool,
    /// Answers to `WHO` that are for the Tab key and not for the screen.
    silent_whos: u32,
    online: Online,
    rooms: Rooms,
}

/// The rooms that the person is in.
struct Rooms {
    /// By lower-case name.
    by_key: BTreeMap<String, Room>,
    /// The rooms to go back into after the link was lost.
    wanted: BTreeSet<String>,
    /// Where what is typed goes; `None` is to the partner.
    target: Option<String>,
    /// Where the links' listeners tell what they hear.
    heard: Sender<(LinkId, Heard)>,
    next_id: u64,
}

struct Room {
    name: String,
    link: Link,
    /// The person has asked to leave, so the end of the link is no news.
    leaving: bool,
}

impl Chat {
    pub(super) fn new(
        username: Option<String>,
        online: Online,
        heard: Sender<(LinkId, Heard)>,
    ) -> Chat {
        let rooms = Rooms {
            by_key: BTreeMap::new(),
            wanted: BTreeSet::new(),
            target: None,
            heard,
            next_id: 0,
        };
        Chat {
            credentials: username.map(|username| Credentials {
                username,
                password: None,
            }),
            me: None,
            dialog: Dialog::Talk,
            last_direct: None,
            bell: Bell::Direct,
            quiet: false,
            silent_whos: 0,
            online,
            rooms,
        }
    }

    /// A new link: logs in, if the person wants to be somebody.
    pub(super) fn start(&mut self, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        self.me = None;
        self.dialog = Dialog::Talk;
        self.silent_whos = 0;
        self.rooms.by_key.clear();
        self.online.lock().clear();
        match self
            .credentials
            .as_ref()
            .map(|credentials| credentials.username.clone())
        {
            Some(username) => self.log_in(&username, link, screen),
            None => Ok(()),
        }
    }

    /// What to ask the person for; `None` while the server has to answer first.
    pub(super) fn prompt(&self) -> Option<Prompt> {
        let open = |name: &str| {
            Some(Prompt {
                name: name.to_owned(),
                hidden: false,
            })
        };
        let hidden = |name: String| Some(Prompt { name, hidden: true });
        let username = || {
            self.credentials
                .as_ref()
                .map_or("you", |known| known.username.as_str())
        };
        match &self.dialog {
            Dialog::Awaiting => None,
            Dialog::Talk => {
                let me = self.me.as_deref().unwrap_or("you");
                match &self.rooms.target {
                    Some(room) => open(&format!("{me} in {room}")),
                    None => open(me),
                }
            }
            Dialog::Password { first: Some(_), .. } => hidden("the same password again".to_owned()),
            Dialog::Password {
                new_account: true, ..
            } => hidden(format!("a password for the new account {}", username())),
            Dialog::Password { .. } => hidden(format!("password of {}", username())),
            Dialog::PublicText => open("message for everyone"),
            Dialog::DirectWho => open("for whom"),
            Dialog::DirectText { to } => open(&format!("message for {to}")),
            Dialog::ConfirmPublic { .. } => open("for everyone? (yes/no)"),
        }
    }

    /// Does what the person typed.
    pub(super) fn typed(
        &mut self,
        line: &str,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match std::mem::replace(&mut self.dialog, Dialog::Talk) {
            Dialog::Talk | Dialog::Awaiting => self.talk(line, link, screen),
            _ if line.trim().is_empty() => {
                screen.notice("nothing was sent");
                Ok(())
            }
            Dialog::Password { new_account, first } => {
                self.password(line, new_account, first, link, screen)
            }
            Dialog::PublicText => self.say_public(line, link, screen),
            Dialog::DirectWho => {
                self.dialog = Dialog::DirectText {
                    to: line.trim().to_owned(),
                };
                Ok(())
            }
            Dialog::DirectText { to } => self.say_to(&to, line, link, screen),
            Dialog::ConfirmPublic { text } if matches!(line.trim(), "y" | "yes") => {
                self.say_public(&text, link, screen)
            }
            Dialog::ConfirmPublic { .. } => {
                screen.notice("nothing was sent; /msg NAME TEXT is for one person");
                Ok(())
            }
        }
    }

    fn talk(&mut self, line: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        match commands::read(line) {
            Line::Nothing => Ok(()),
            Line::Quit => Err(SessionEnd::Left),
            Line::Help(of) => {
                screen.text(&commands::help(of));
                Ok(())
            }
            Line::Wrong(usage) => {
                screen.trouble(&usage);
                Ok(())
            }
            Line::Say(text) if self.rooms.target.is_some() => {
                let room = self.rooms.target.clone().unwrap_or_default();
                self.say_in(&room, &ClientDoc::say(text), screen)
            }
            Line::Say(text) => send(&ClientDoc::say(text), link, screen),
            Line::Act(text) => {
                let act = ClientDoc::Message {
                    text: text.into(),
                    me: true,
                };
                match self.rooms.target.clone() {
                    Some(room) => self.say_in(&room, &act, screen),
                    None => send(&act, link, screen),
                }
            }
            Line::Timestamp(timestamp) => {
                screen.set_timestamp(timestamp);
                Ok(())
            }
            Line::Bell(bell) => {
                self.bell = bell;
                Ok(())
            }
            Line::Quiet => {
                self.quiet = !self.quiet;
                let shown = if self.quiet {
                    "not shown any more"
                } else {
                    "shown again"
                };
                screen.notice(&format!("who comes and goes is {shown}"));
                Ok(())
            }
            // From here on it takes a server that is not one of the original programs.
            _ if link.codec().is_original() => {
                screen.trouble("the original programs only chat; without --compat there is more");
                Ok(())
            }
            Line::Login(_) if self.me.is_some() => {
                screen.trouble("you are logged in already; /quit, and come back as somebody else");
                Ok(())
            }
            Line::Login(username) => {
                self.credentials = Some(Credentials {
                    username: username.to_owned(),
                    password: None,
                });
                self.log_in(username, link, screen)
            }
            // What follows is for people with a name.
            _ if self.me.is_none() => {
                screen.trouble("that takes a name: log in first, with /login NAME");
                Ok(())
            }
            Line::Public(text) => self.say_public(text, link, screen),
            Line::AskPublic => {
                self.dialog = Dialog::PublicText;
                Ok(())
            }
            Line::AmbiguousPublic(text) => match self.is_addressed(text) {
                Some(name) => {
                    screen.notice(&format!("PM is a public message here, and {name} is online: /msg {name} … is for {name} alone"));
                    self.dialog = Dialog::ConfirmPublic {
                        text: text.to_owned(),
                    };
                    Ok(())
                }
                None => self.say_public(text, link, screen),
            },
            Line::Direct { to, text } => self.say_to(to, text, link, screen),
            Line::AskDirect => self.ask_server(ClientCommand::DirectList, link, screen),
            Line::Reply(text) => match self.last_direct.clone() {
                Some(to) => self.say_to(&to, text, link, screen),
                None => {
                    screen.trouble("nobody has written to you alone yet");
                    Ok(())
                }
            },
            Line::Join(room) => {
                let join = ClientCommand::Join { room: room.into() };
                send(&ClientDoc::Command(join), link, screen)
            }
            Line::Leave(room) => {
                if let Some(room) = self.rooms.by_key.get_mut(&room.to_ascii_lowercase()) {
                    room.leaving = true;
                }
                let leave = ClientCommand::Leave { room: room.into() };
                send(&ClientDoc::Command(leave), link, screen)
            }
            Line::Rooms => send(&ClientDoc::Command(ClientCommand::Rooms), link, screen),
            Line::Send { room, text } => self.say_in(room, &ClientDoc::say(text), screen),
            Line::To(None) => {
                self.rooms.target = None;
                Ok(())
            }
            Line::To(Some(room)) => {
                match self.rooms.by_key.get(&room.to_ascii_lowercase()) {
                    Some(room) => self.rooms.target = Some(room.name.clone()),
                    None => screen.trouble(&format!("you are not in {room}; /join {room} first")),
                }
                Ok(())
            }
            Line::Names => send(&ClientDoc::Command(ClientCommand::Who), link, screen),
        }
    }

    /// Says something in a room, on the link that the person has to it.
    fn say_in(&self, room: &str, doc: &ClientDoc<'_>, screen: &Screen) -> Result<(), SessionEnd> {
        match self.rooms.by_key.get(&room.to_ascii_lowercase()) {
            // If that link is lost, its listener tells; the session goes on without the room.
            Some(room) => send(doc, &room.link, screen).or(Ok(())),
            None => {
                screen.trouble(&format!("you are not in {room}; /join {room} first"));
                Ok(())
            }
        }
    }

    /// The server has a place for the person in a room: goes there.
    fn enter_room(&mut self, name: &str, port: Port, passcode: &str, link: &Link, screen: &Screen) {
        let there = SocketAddr::new(link.server(), port.get());
        let seat = take_seat(there, passcode, link.codec(), link.tap()).map_err(|e| e.to_string());
        let id = LinkId::Room(self.rooms.next_id);
        self.rooms.next_id += 1;
        let heard = self.rooms.heard.clone();
        let started = seat.and_then(|seat| Link::start(seat, id, heard).map_err(|e| e.to_string()));
        match started {
            Ok(link) => {
                let (key, name) = (name.to_ascii_lowercase(), name.to_owned());
                screen.notice(&format!(
                    "you are in {name}; /send {name} TEXT talks there, or /to {name} for all you type"
                ));
                self.rooms.wanted.insert(name.clone());
                self.rooms.by_key.insert(
                    key,
                    Room {
                        name,
                        link,
                        leaving: false,
                    },
                );
            }
            Err(reason) => screen.trouble(&format!("can't get into {name}: {reason}")),
        }
    }

    /// Shows what was heard in a room.
    pub(super) fn heard_in_room(&mut self, id: LinkId, heard: Heard, screen: &Screen) {
        let Some((key, room)) = self
            .rooms
            .by_key
            .iter()
            .find(|(_, room)| room.link.id() == id)
        else {
            // The last words of a link that was given up.
            return;
        };
        let frame = match heard {
            Heard::Frame(frame) => frame,
            Heard::Over(_) => {
                let (key, name, leaving) = (key.clone(), room.name.clone(), room.leaving);
                self.rooms.by_key.remove(&key);
                self.forget_target(&name);
                if !leaving {
                    screen.notice(&format!("you are not in {name} any more"));
                }
                return;
            }
        };
        match room.link.codec().read_server(&frame) {
            Ok(ServerDoc::Relay(relay)) => {
                screen.relay(&relay, self.me.as_deref());
                if self.bell == Bell::All && !relay.old {
                    screen.ring();
                }
            }
            Ok(ServerDoc::RoomJoined { username, room }) if !self.quiet => {
                screen.notice(&format!("[{room}] {username} has come in"));
            }
            Ok(ServerDoc::RoomLeft { username, room }) if !self.quiet => {
                screen.notice(&format!("[{room}] {username} has left"));
            }
            Ok(ServerDoc::Sent { count: 0 }) => {
                screen.notice(&format!("[{}] nobody else is in here", room.name));
            }
            Ok(ServerDoc::Error { sentence, .. }) => {
                screen.trouble(&format!("[{}] the server: {sentence}", room.name));
            }
            Ok(ServerDoc::Notice(text)) => screen.notice(&format!("[{}] {text}", room.name)),
            _ => {}
        }
    }

    fn forget_target(&mut self, room: &str) {
        if self
            .rooms
            .target
            .as_deref()
            .is_some_and(|there| there.eq_ignore_ascii_case(room))
        {
            self.rooms.target = None;
        }
    }

    /// The name of somebody who is online, if `text` begins with it.
    fn is_addressed(&self, text: &str) -> Option<String> {
        let word = text.split_whitespace().next()?.trim_end_matches([':', ',']);
        let online = self.online.lock();
        online
            .iter()
            .find(|name| name.eq_ignore_ascii_case(word))
            .cloned()
    }

    /// Sends what the server has to answer before the person is asked for anything else.
    fn ask_server(
        &mut self,
        command: ClientCommand<'_>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let Some(frame) = frame(&ClientDoc::Command(command), link, screen) else {
            return Ok(());
        };
        self.dialog = Dialog::Awaiting;
        send_frame(&frame, link, screen)
    }

    fn log_in(&mut self, username: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        let login = ClientCommand::Login {
            username: username.into(),
        };
        self.ask_server(login, link, screen)
    }

    fn password(
        &mut self,
        password: &str,
        new_account: bool,
        first: Option<String>,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        match first {
            Some(first) if first != password => {
                screen.trouble("the two were not the same; once more");
                self.dialog = Dialog::Password {
                    new_account,
                    first: None,
                };
                return Ok(());
            }
            // A slip of the finger in a new password would lock its owner out.
            None if new_account && screen.is_terminal() => {
                self.dialog = Dialog::Password {
                    new_account,
                    first: Some(password.to_owned()),
                };
                return Ok(());
            }
            _ => {}
        }
        if let Some(credentials) = &mut self.credentials {
            credentials.password = Some(password.to_owned());
        }
        self.prove(password, link, screen)
    }

    fn prove(&mut self, password: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        let proof = ClientCommand::Password(Secret(password.into()));
        self.ask_server(proof, link, screen)
    }

    fn say_public(&self, text: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        let public = ClientCommand::Public {
            message: Some(text.into()),
            me: false,
        };
        send(&ClientDoc::Command(public), link, screen)
    }

    fn say_to(&self, to: &str, text: &str, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
        let direct = ClientCommand::Direct {
            to: to.into(),
            message: text.into(),
            me: false,
        };
        send(&ClientDoc::Command(direct), link, screen)
    }

    /// Shows what the server sent.
    pub(super) fn heard(
        &mut self,
        frame: &[u8],
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let doc = match link.codec().read_server(frame) {
            Ok(doc) => doc,
            Err(error) => {
                screen.notice(&format!(
                    "the server said something that this client does not know: {error}"
                ));
                return Ok(());
            }
        };
        let dismissed = |why: &str| {
            screen.trouble(&format!("the server ended the session: {why}"));
            Err(SessionEnd::Dismissed)
        };
        let lost = |why: &str| {
            screen.trouble(&format!("the server ended the session: {why}"));
            Err(SessionEnd::Lost)
        };
        match doc {
            ServerDoc::Relay(relay) => self.relay(&relay, screen),
            ServerDoc::PartnerJoined { partner } => {
                screen.notice(&format!("you are talking to {partner}"));
            }
            ServerDoc::PartnerLeft { partner } => {
                screen.notice(&format!("{partner} has left; nobody is beside you now"));
            }
            ServerDoc::NoPartner => {
                screen.notice("nobody is beside you yet; what you say now reaches nobody");
            }
            ServerDoc::Password { new_account } => {
                return self.asked_for_password(new_account, link, screen);
            }
            ServerDoc::LoggedIn { username } => return self.logged_in(&username, link, screen),
            ServerDoc::Who { users } => {
                self.who(users.iter().map(|user| user.to_string()).collect(), screen)
            }
            ServerDoc::DirectList { users } if users.is_empty() => {
                self.dialog = Dialog::Talk;
                screen.notice("nobody else is logged in");
            }
            ServerDoc::DirectList { users } => {
                self.dialog = Dialog::DirectWho;
                screen.notice(&format!("online: {}", users.join(", ")));
            }
            ServerDoc::Sent { count: 0 } => {
                screen.notice("nobody else is logged in; that reached nobody")
            }
            ServerDoc::Sent { count: 1 } => screen.notice("sent"),
            ServerDoc::Sent { count } => screen.notice(&format!("sent to {count} people")),
            ServerDoc::UserJoined { username } => {
                self.online.lock().insert(username.to_string());
                if !self.quiet {
                    screen.notice(&format!("{username} has come"));
                }
            }
            ServerDoc::UserLeft { username } => {
                self.online.lock().remove(&*username);
                if !self.quiet {
                    screen.notice(&format!("{username} has gone"));
                }
            }
            ServerDoc::Joined {
                room,
                port,
                passcode,
                ..
            } => {
                self.enter_room(&room, port, &passcode, link, screen);
            }
            ServerDoc::Left { room } => {
                self.rooms.by_key.remove(&room.to_ascii_lowercase());
                self.rooms
                    .wanted
                    .retain(|wanted| !wanted.eq_ignore_ascii_case(&room));
                self.forget_target(&room);
                screen.notice(&format!("you have left {room}"));
            }
            ServerDoc::Rooms { rooms } if rooms.is_empty() => {
                screen.notice("there are no rooms; /join NAME makes one");
            }
            ServerDoc::Rooms { rooms } => {
                let rooms: Vec<String> = rooms
                    .iter()
                    .map(|(name, members)| format!("{name} ({members})"))
                    .collect();
                screen.notice(&format!("rooms: {}", rooms.join(", ")));
            }
            ServerDoc::RoomJoined { .. } | ServerDoc::RoomLeft { .. } => {}
            ServerDoc::Notice(text) => screen.notice(&text),
            ServerDoc::Error { code, sentence } => self.refused(code, &sentence, screen),
            ServerDoc::Pong
            | ServerDoc::PublicNext
            | ServerDoc::PasswordChanged
            | ServerDoc::IdleSoon { .. } => {}
            ServerDoc::Welcome { .. }
            | ServerDoc::WelcomeSingle { .. }
            | ServerDoc::CallingBack { .. }
            | ServerDoc::CalledBack { .. }
            | ServerDoc::Ticket { .. }
            | ServerDoc::Full
            | ServerDoc::WrongPasscode { .. } => screen.notice("the server repeats itself"),
            ServerDoc::IdleTimeout => return dismissed("you have said nothing for too long"),
            ServerDoc::TotalTimeTimeout => return dismissed("your time is up"),
            ServerDoc::Kicked { reason } if reason.is_empty() => {
                return dismissed("the operator has removed you");
            }
            ServerDoc::Kicked { reason } => {
                return dismissed(&format!("the operator has removed you: {reason}"));
            }
            ServerDoc::TakenOver => return dismissed("you have logged in elsewhere"),
            ServerDoc::TooSlow => return lost("you did not read what was sent to you"),
            ServerDoc::Shutdown => return lost("it is shutting down"),
        }
        Ok(())
    }

    fn relay(&mut self, relay: &Relay<'_>, screen: &Screen) {
        let is_direct = relay.scope == Scope::Direct;
        if is_direct {
            self.last_direct = Some(relay.from.to_string());
        }
        screen.relay(relay, self.me.as_deref());
        if self.bell == Bell::All || (self.bell == Bell::Direct && is_direct) {
            screen.ring();
        }
    }

    fn asked_for_password(
        &mut self,
        new_account: bool,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        let known = self
            .credentials
            .as_ref()
            .and_then(|known| known.password.clone());
        match known {
            // Coming back: the person has given it before.
            Some(password) => self.prove(&password, link, screen),
            None => {
                self.dialog = Dialog::Password {
                    new_account,
                    first: None,
                };
                Ok(())
            }
        }
    }

    fn logged_in(
        &mut self,
        username: &str,
        link: &Link,
        screen: &Screen,
    ) -> Result<(), SessionEnd> {
        self.dialog = Dialog::Talk;
        self.me = Some(username.to_owned());
        screen.notice(&format!(
            "you are {username} now; /names tells who is here, /all TEXT is for everyone"
        ));
        self.silent_whos += 1;
        // After a lost link: back into the rooms.
        for room in self.rooms.wanted.clone() {
            let join = ClientCommand::Join { room: room.into() };
            send(&ClientDoc::Command(join), link, screen)?;
        }
        send(&ClientDoc::Command(ClientCommand::Who), link, screen)
    }

    fn who(&mut self, users: BTreeSet<String>, screen: &Screen) {
        if self.silent_whos > 0 {
            self.silent_whos -= 1;
        } else {
            let names: Vec<&str> = users.iter().map(String::as_str).collect();
            screen.notice(&format!("online ({}): {}", names.len(), names.join(", ")));
        }
        *self.online.lock() = users;
    }

    fn refused(&mut self, code: ErrorCode, sentence: &str, screen: &Screen) {
        screen.trouble(&format!("the server: {sentence}"));
        if self.dialog != Dialog::Awaiting {
            return;
        }
        self.dialog = match code {
            ErrorCode::WrongPassword | ErrorCode::BadPassword => {
                if let Some(credentials) = &mut self.credentials {
                    credentials.password = None;
                }
                Dialog::Password {
                    new_account: code == ErrorCode::BadPassword,
                    first: None,
                }
            }
            ErrorCode::BadName | ErrorCode::NameInUse | ErrorCode::NotSaved => {
                self.credentials = None;
                Dialog::Talk
            }
            _ => Dialog::Talk,
        };
    }
}

/// A document as a frame; `None` if the server would not take one so long, and then the person is
/// told.
fn frame(doc: &ClientDoc<'_>, link: &Link, screen: &Screen) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    link.codec().write_client(doc, &mut frame);
    let (long, most) = (frame.len().saturating_sub(1), link.codec().max_frame);
    if long > most {
        screen.trouble(&format!(
            "that is too long ({long} bytes, {most} are allowed); say it in pieces"
        ));
        return None;
    }
    Some(frame)
}

/// Sends a document, unless it is longer than the server takes.
fn send(doc: &ClientDoc<'_>, link: &Link, screen: &Screen) -> Result<(), SessionEnd> {
    match frame(doc, link, screen) {
        Some(frame) => send_frame(&frame, link, screen),
        None => Ok(()),
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
/// after a slash, a name at the start of a line or after a command that takes one.
pub(super) fn completions(before: &str, online: &BTreeSet<String>) -> (usize, Vec<String>) {
    let start = before.rfind(' ').map_or(0, |space| space + 1);
    let (lead, word) = before.split_at(start);
    if let (true, Some(command)) = (lead.is_empty(), word.strip_prefix('/')) {
        return (
            start,
            commands::beginning_with(command)
                .map(|name| format!("/{name}"))
                .collect(),
        );
    }
    let is_name = match lead.trim_end().strip_prefix('/') {
        Some(command) => commands::takes_a_name(command),
        None => lead.is_empty(),
    };
    let begins = |name: &&String| {
        name.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let names = online.iter().filter(begins).cloned();
    (start, if is_name { names.collect() } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_commands_and_names() {
        let online = BTreeSet::from(["Bob".to_owned(), "bobby".to_owned(), "carol".to_owned()]);
        for (before, start, words) in [
            ("/qui", 0, vec!["/quiet", "/quit"]),
            ("/msg bo", 5, vec!["Bob", "bobby"]),
            ("/msg bob ca", 9, vec![]),
            ("car", 0, vec!["carol"]),
            ("hello ca", 6, vec![]),
            ("/all ca", 5, vec![]),
        ] {
            assert_eq!(
                completions(before, &online),
                (start, words.into_iter().map(str::to_owned).collect()),
                "{before}"
            );
        }
    }
}
