//! Bans, mutes, moderators and invitations, in a file alongside the accounts.
//!
//! The file has one line for each change to a rule; `policy_lines.rs` describes the format. The
//! server only appends lines, each in a single write that reaches the disk before the change is
//! confirmed. The file is created with the first rule. Without a file, the rules last only as long
//! as the server runs.
//!
//! A rule expires when either the system clock or the tick count reaches its expiry time: ticks
//! stop while the server is suspended, and the clock may be set back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use portal_cli::text_file::without_mark;
use portal_core::clock::{Clock, Tick, Ticks};
use portal_core::event::Events;
use portal_core::service::Refusal;
use portal_net::Network;
use portal_net::host_of;
use portal_net::lock::{Mutex, Rank};
use portal_sessions::policies::{Banned, Change, Policies, RoomRule, RoomRules, Rule};
use portal_wire::time::duration_in_words;
use portal_wire::{ErrorCode, Name};

use crate::disk_file::DiskFile;
use crate::hasher::Hasher;
use crate::limits;
pub use crate::policy_lines::read_subject;
use crate::policy_lines::{CODE_LENGTH, CODE_LETTERS, PolicyLine, RoomLine, Term};
use crate::room_rules::{Author, Entry, RoomBook, RoomRefusal, Silence};

portal_core::event_kinds! {
    /// An event about the policies file.
    pub enum PolicyEvent {
        /// A line in the policies file is not a valid rule. It is kept.
        DamagedPolicy = "damaged-policy" {
            line: usize, reason: &'static str, fix: &'static str, file: String
        },
        /// The operator appointed or dismissed a moderator.
        Moderator = "moderator" { name: String, is_one: bool },
        /// The operator created an invitation.
        Invite = "invite" { open: usize },
    }
}

/// An error in the policies file, or in a change to the rules.
#[derive(Debug)]
pub enum PolicyError {
    /// The file can't be opened, read or written.
    File(PathBuf, io::Error),
    /// Another server uses the file.
    InUse(PathBuf),
    /// The maximum number of rules is reached.
    TooMany,
    /// There is no such rule.
    NoSuchRule(String),
    /// The author may not change the room's rule in this way.
    Refused(Refusal),
    /// The system has no random numbers.
    NoRandomness(String),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::File(path, error) => write!(
                f,
                "the policies file {} can't be used ({error}): give the user who runs this server \
                 read and write permission for it and its folder, or choose another file with \
                 --policies FILE",
                path.display()
            ),
            PolicyError::InUse(path) => write!(
                f,
                "another server is using the policies file {}: stop that server, or choose another \
                 file with --policies FILE",
                path.display()
            ),
            PolicyError::TooMany => write!(
                f,
                "the limit of {} bans, mutes and invitations in total has been reached: remove \
                 some of them first",
                limits::RULES
            ),
            PolicyError::NoSuchRule(sentence) => f.write_str(sentence),
            PolicyError::Refused(refusal) => f.write_str(&refusal.sentence),
            PolicyError::NoRandomness(reason) => {
                write!(
                    f,
                    "the system can't provide random numbers ({reason}): try again later"
                )
            }
        }
    }
}

impl std::error::Error for PolicyError {}

/// The rules on one server.
pub struct SharedPolicies {
    /// Locked by the thread that changes a rule.
    disk: Mutex<Disk>,
    /// A leaf lock, never held during disk access.
    state: Mutex<PolicyState>,
    /// False if no user is muted and no room is moderated. Messages then need no lock.
    may_refuse_messages: AtomicBool,
    /// False if no address is refused.
    has_addresses: AtomicBool,
    /// The length of a tick.
    tick: Duration,
    clock: Clock,
    /// True if moderators may use their commands.
    moderators: bool,
    /// The reason why all rooms stay open, if they do.
    open_rooms: Option<&'static str>,
    /// Hashes room passwords, one at a time. A leaf lock.
    hasher: Mutex<Hasher>,
    events: Events,
}

/// The policies file. It does not exist before the first rule.
struct Disk {
    path: Option<PathBuf>,
    file: Option<DiskFile>,
}

#[derive(Default)]
struct PolicyState {
    rules: PolicyRules,
    removed: Vec<Removed>,
}

/// A client that was removed and may not return yet.
struct Removed {
    host: IpAddr,
    /// The key of its name; `None` for a client that had not logged in.
    name: Option<String>,
    until: Tick,
}

/// The rules that are in force.
#[derive(Clone, Default)]
struct PolicyRules {
    networks: Vec<(Network, Active)>,
    names: HashMap<String, (Name, Active)>,
    mutes: HashMap<String, (Name, Active)>,
    moderators: BTreeMap<String, Name>,
    invites: BTreeSet<String>,
    rooms: RoomBook,
}

/// A rule's term, and its expiry time in ticks.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) term: Term,
    /// The first tick at which the rule no longer applies.
    pub(super) until: Option<Tick>,
}

impl Active {
    pub(super) fn is_over(&self, now: Tick) -> bool {
        let by_tick = self.until.is_some_and(|until| now >= until);
        by_tick || self.term.end.is_some_and(|end| SystemTime::now() >= end)
    }

    /// The remaining time, such as ` for another 10 minutes`; empty for a permanent rule.
    fn remaining(&self, now: Tick, tick: Duration) -> String {
        self.until.map_or(String::new(), |until| {
            format!(" for another {}", ticks_in_words(until, now, tick))
        })
    }

    fn reason(&self) -> String {
        match self.term.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        }
    }
}

fn ticks_in_words(until: Tick, now: Tick, tick: Duration) -> String {
    let ticks = until.0.saturating_sub(now.0);
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
    duration_in_words(tick.saturating_mul(ticks))
}

/// A ban or a mute, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// `ban` or `mute`.
    pub kind: &'static str,
    /// The name or the network.
    pub whom: String,
    /// The remaining time in words; `None` if the rule is permanent.
    pub remaining: Option<String>,
    /// The moderator; `None` is the operator.
    pub by: Option<Name>,
    /// The reason; may be empty.
    pub reason: String,
}

impl PolicyRules {
    fn apply(&mut self, line: PolicyLine, until: impl Fn(&Term) -> Option<Tick>) {
        let active = |term: Term| Active {
            until: until(&term),
            term,
        };
        match line {
            PolicyLine::Ban(Banned::Network(network), term) => {
                self.networks.retain(|(there, _)| *there != network);
                self.networks.push((network, active(term)));
            }
            PolicyLine::Ban(Banned::Name(name), term) => {
                self.names.insert(name.key(), (name, active(term)));
            }
            PolicyLine::Unban(Banned::Network(network), _) => {
                self.networks.retain(|(there, _)| *there != network);
            }
            PolicyLine::Unban(Banned::Name(name), _) => {
                self.names.remove(&name.key());
            }
            PolicyLine::Mute(name, term) => {
                self.mutes.insert(name.key(), (name, active(term)));
            }
            PolicyLine::Unmute(name, _) => {
                self.mutes.remove(&name.key());
            }
            PolicyLine::Moderator(name, true) => {
                self.moderators.insert(name.key(), name);
            }
            PolicyLine::Moderator(name, false) => {
                self.moderators.remove(&name.key());
            }
            PolicyLine::Invite(code) => {
                self.invites.insert(code);
            }
            PolicyLine::Invited(code, _) => {
                self.invites.remove(&code);
            }
            PolicyLine::Room(room, line) => {
                self.rooms.apply(&room, line, until);
            }
        }
    }

    fn drop_expired(&mut self, now: Tick) {
        self.networks.retain(|(_, active)| !active.is_over(now));
        self.names.retain(|_, (_, active)| !active.is_over(now));
        self.mutes.retain(|_, (_, active)| !active.is_over(now));
        self.rooms.drop_expired(now);
    }

    fn len(&self) -> usize {
        self.networks.len() + self.names.len() + self.mutes.len() + self.invites.len()
    }

    /// The lines that create these rules.
    fn lines(&self) -> Vec<PolicyLine> {
        let networks = self.networks.iter();
        let networks = networks.map(|(network, active)| {
            PolicyLine::Ban(Banned::Network(*network), active.term.clone())
        });
        let names = self.names.values();
        let names = names
            .map(|(name, active)| PolicyLine::Ban(Banned::Name(name.clone()), active.term.clone()));
        let mutes = self.mutes.values();
        let mutes = mutes.map(|(name, active)| PolicyLine::Mute(name.clone(), active.term.clone()));
        let moderators = self.moderators.values();
        let moderators = moderators.map(|name| PolicyLine::Moderator(name.clone(), true));
        let invites = self.invites.iter().cloned().map(PolicyLine::Invite);
        let lines = networks.chain(names).chain(mutes);
        let lines = lines.chain(moderators).chain(invites);
        lines.chain(self.rooms.lines()).collect()
    }
}

impl SharedPolicies {
    /// Reads the rules in the file at `path`, and locks it against other servers. A file that does
    /// not exist is created with the first rule; without a path, the rules last only as long as the
    /// server runs.
    ///
    /// # Errors
    /// [`PolicyError::File`] and [`PolicyError::InUse`].
    pub fn open(
        path: Option<&Path>,
        tick: Duration,
        clock: &Clock,
        events: &Events,
    ) -> Result<SharedPolicies, PolicyError> {
        let policies = SharedPolicies {
            disk: Mutex::ranked(
                Rank::AccountsFile,
                Disk {
                    path: path.map(Path::to_owned),
                    file: None,
                },
            ),
            state: Mutex::default(),
            may_refuse_messages: AtomicBool::new(false),
            has_addresses: AtomicBool::new(false),
            tick,
            clock: clock.clone(),
            moderators: true,
            open_rooms: None,
            hasher: Mutex::default(),
            events: events.clone(),
        };
        if let Some(path) = path
            && path.symlink_metadata().is_ok()
        {
            policies.open_file(&mut policies.disk.lock(), clock.now())?;
        }
        Ok(policies)
    }

    /// Disables the moderators' commands, because names are not protected by passwords.
    #[must_use]
    pub fn without_moderators(self) -> SharedPolicies {
        SharedPolicies {
            moderators: false,
            ..self
        }
        .with_open_rooms(
            "this server does not protect names with passwords, so its rooms stay open to everyone",
        )
    }

    /// Keeps all rooms open. `reason` explains this to users.
    #[must_use]
    pub fn with_open_rooms(self, reason: &'static str) -> SharedPolicies {
        SharedPolicies {
            open_rooms: Some(reason),
            ..self
        }
    }

    /// Opens the file at the path, adds its rules to those in memory, and appends the rules that it
    /// lacks.
    fn open_file(&self, disk: &mut Disk, now: Tick) -> Result<(), PolicyError> {
        let Some(path) = disk.path.clone() else {
            return Ok(());
        };
        let failed = |error| PolicyError::File(path.clone(), error);
        let opened = DiskFile::open(&path).map_err(failed)?;
        let (mut file, bytes, was_open) = opened.ok_or_else(|| PolicyError::InUse(path.clone()))?;
        if was_open {
            let text = format!(
                "other users had access to {}; access is now restricted to its owner (mode 0600)",
                path.display()
            );
            self.events.emit_failure("protect the policies file", text);
        }
        let bytes = without_mark(&bytes).map_err(|fault| failed(fault.into()))?;
        let mut rules = PolicyRules::default();
        for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
            match PolicyLine::read(line) {
                Ok(None) => {}
                Ok(Some(line)) => rules.apply(line, |term| self.tick_of(term, now)),
                Err(reason) => self.events.emit(|| PolicyEvent::DamagedPolicy {
                    line: number,
                    reason,
                    fix: "correct the line, or delete it",
                    file: path.display().to_string(),
                }),
            }
        }
        let known = self.state.lock().rules.lines();
        let there: Vec<PolicyLine> = rules.lines();
        let lacking: Vec<PolicyLine> = known
            .into_iter()
            .filter(|line| !there.contains(line))
            .collect();
        let text: String = lacking.iter().map(|line| format!("{line}\n")).collect();
        if !text.is_empty() {
            file.append(&text).map_err(failed)?;
        }
        for line in lacking {
            rules.apply(line, |term| self.tick_of(term, now));
        }
        rules.drop_expired(now);
        disk.file = Some(file);
        let mut state = self.state.lock();
        rules.rooms.overlay(&state.rules.rooms);
        state.rules = rules;
        self.note(&state);
        Ok(())
    }

    /// The first tick at which a rule no longer applies.
    fn tick_of(&self, term: &Term, now: Tick) -> Option<Tick> {
        let left = term.end?.duration_since(SystemTime::now());
        Some(self.tick_in(left.unwrap_or_default(), now))
    }

    fn tick_in(&self, duration: Duration, now: Tick) -> Tick {
        Tick(
            now.0
                .saturating_add(Ticks::covering(duration, self.tick).get()),
        )
    }

    /// Updates the flags that let most callers avoid the lock.
    fn note(&self, state: &PolicyState) {
        let rules = &state.rules;
        let may_refuse_messages = !rules.mutes.is_empty() || rules.rooms.has_silences();
        let has_addresses = !state.rules.networks.is_empty()
            || state.removed.iter().any(|removed| removed.name.is_none());
        self.may_refuse_messages
            .store(may_refuse_messages, Ordering::Release);
        self.has_addresses.store(has_addresses, Ordering::Release);
    }

    /// Stores a line, and applies it once it is on disk. Calls `check` before that, under the lock
    /// that excludes other changes.
    fn store(
        &self,
        line: PolicyLine,
        duration: Option<Duration>,
        now: Tick,
        check: impl FnOnce(&PolicyRules) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let adds = matches!(
            line,
            PolicyLine::Ban(..) | PolicyLine::Mute(..) | PolicyLine::Invite(_)
        );
        self.store_lines(duration, now, |rules| {
            check(rules)?;
            match adds && rules.len() >= limits::RULES {
                true => Err(PolicyError::TooMany),
                false => Ok((vec![line.clone()], Some(line))),
            }
        })
    }

    /// Calls `plan` under the lock that excludes other changes. `plan` returns the lines to store,
    /// and the line to apply once the stored lines are on disk.
    fn store_lines(
        &self,
        duration: Option<Duration>,
        now: Tick,
        plan: impl FnOnce(&PolicyRules) -> Result<(Vec<PolicyLine>, Option<PolicyLine>), PolicyError>,
    ) -> Result<(), PolicyError> {
        let mut disk = self.disk.lock();
        // If the file was replaced, read it again first, because `plan` must take its rules into
        // account.
        if let Some(path) = disk.path.clone() {
            let is_elsewhere = match &disk.file {
                Some(file) => file.is_elsewhere(),
                None => Ok(path.symlink_metadata().is_ok()),
            };
            if is_elsewhere.map_err(|error| PolicyError::File(path, error))? {
                self.open_file(&mut disk, now)?;
            }
        }
        let (lines, line) = {
            let mut state = self.state.lock();
            state.rules.drop_expired(now);
            plan(&state.rules)?
        };
        if let Some(path) = disk.path.clone()
            && !lines.is_empty()
        {
            // The first rule creates the file.
            if disk.file.is_none() {
                self.open_file(&mut disk, now)?;
            }
            let failed = |error| PolicyError::File(path.clone(), error);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            if let Some(file) = &mut disk.file {
                file.append(&text).map_err(failed)?;
            }
        }
        let mut state = self.state.lock();
        if let Some(line) = line {
            let until = duration.map(|duration| self.tick_in(duration, now));
            state.rules.apply(line, |_| until);
        }
        state.rules.drop_expired(now);
        self.note(&state);
        Ok(())
    }

    fn change_rule(&self, change: &Change<'_>, now: Tick) -> Result<(), PolicyError> {
        let term = |duration, reason: &str| Term::new(duration, change.by, reason);
        let missing = |is_there: bool, sentence: String| match is_there {
            true => Ok(()),
            false => Err(PolicyError::NoSuchRule(sentence)),
        };
        match &change.rule {
            Rule::Ban(whom, duration, reason) => {
                let line = PolicyLine::Ban(whom.clone(), term(*duration, reason));
                self.store(line, *duration, now, |_| Ok(()))
            }
            Rule::Unban(whom) => self.store(
                PolicyLine::Unban(whom.clone(), change.by.cloned()),
                None,
                now,
                |rules| {
                    let is_there = match whom {
                        Banned::Name(name) => rules.names.contains_key(&name.key()),
                        Banned::Network(network) => {
                            rules.networks.iter().any(|(there, _)| there == network)
                        }
                    };
                    missing(is_there, format!("{whom} is not banned"))
                },
            ),
            Rule::Mute(name, duration) => {
                let line = PolicyLine::Mute(name.clone(), term(*duration, ""));
                self.store(line, *duration, now, |_| Ok(()))
            }
            Rule::Unmute(name) => self.store(
                PolicyLine::Unmute(name.clone(), change.by.cloned()),
                None,
                now,
                |rules| {
                    let is_there = rules.mutes.contains_key(&name.key());
                    missing(is_there, format!("{name} is not muted"))
                },
            ),
        }
    }

    /// Appoints or dismisses a moderator.
    ///
    /// # Errors
    /// [`PolicyError`] if the change can't be stored, or the user to dismiss is not a moderator.
    pub fn set_moderator(&self, name: &Name, is_one: bool) -> Result<(), PolicyError> {
        let line = PolicyLine::Moderator(name.clone(), is_one);
        self.store(line, None, self.clock.now(), |rules| {
            match is_one || rules.moderators.contains_key(&name.key()) {
                true => Ok(()),
                false => Err(PolicyError::NoSuchRule(format!(
                    "{name} is not a moderator"
                ))),
            }
        })?;
        self.events.emit(|| PolicyEvent::Moderator {
            name: name.to_string(),
            is_one,
        });
        Ok(())
    }

    /// Creates an invitation, and returns its code.
    ///
    /// # Errors
    /// [`PolicyError`] if it can't be stored.
    pub fn invite(&self) -> Result<String, PolicyError> {
        let code = random_code().map_err(PolicyError::NoRandomness)?;
        self.store(
            PolicyLine::Invite(code.clone()),
            None,
            self.clock.now(),
            |_| Ok(()),
        )?;
        let open = self.invitations().len();
        self.events.emit(|| PolicyEvent::Invite { open });
        Ok(code)
    }

    /// The codes of the invitations that have not been used yet.
    pub fn invitations(&self) -> Vec<String> {
        self.state.lock().rules.invites.iter().cloned().collect()
    }

    /// Returns whether the invitation exists and has not been used yet.
    pub(crate) fn is_invitation(&self, code: &str) -> bool {
        self.state.lock().rules.invites.contains(code)
    }

    /// Uses an invitation. If several clients use it at the same time, only one succeeds.
    ///
    /// # Errors
    /// [`PolicyError::NoSuchRule`] if the invitation has been used; [`PolicyError::File`].
    pub(crate) fn use_invitation(&self, code: &str, name: &Name) -> Result<(), PolicyError> {
        let line = PolicyLine::Invited(code.to_owned(), name.clone());
        self.store(line, None, self.clock.now(), |rules| {
            match rules.invites.contains(code) {
                true => Ok(()),
                false => Err(PolicyError::NoSuchRule(
                    "the invitation was used".to_owned(),
                )),
            }
        })
    }

    /// Makes a used invitation valid again, because the registration failed.
    pub(crate) fn return_invitation(&self, code: &str) {
        let line = PolicyLine::Invite(code.to_owned());
        if let Err(error) = self.store(line, None, self.clock.now(), |_| Ok(())) {
            let doing = "make an invitation valid again";
            self.events.emit_failure(doing, error.to_string());
        }
    }

    /// The names of the moderators, in alphabetical order.
    pub fn moderators(&self) -> Vec<Name> {
        self.state
            .lock()
            .rules
            .moderators
            .values()
            .cloned()
            .collect()
    }

    /// The bans and mutes, bans first.
    pub fn list(&self) -> Vec<ListedRule> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.rules.drop_expired(now);
        let rules = &state.rules;
        let listed = |kind, whom: String, active: &Active| ListedRule {
            kind,
            whom,
            remaining: active
                .until
                .map(|until| ticks_in_words(until, now, self.tick)),
            by: active.term.by.clone(),
            reason: active.term.reason.clone(),
        };
        let networks = rules.networks.iter();
        let networks = networks.map(|(network, active)| listed("ban", network.to_string(), active));
        let in_rooms = rules.rooms.mutes();
        let in_rooms = in_rooms
            .map(|(name, room, active)| listed("mute", format!("{name} in {room}"), active));
        let sorted = |map: &HashMap<String, (Name, Active)>, kind| {
            let mut list: Vec<ListedRule> = map
                .values()
                .map(|(name, active)| listed(kind, name.to_string(), active))
                .collect();
            list.sort_by(|one, other| one.whom.cmp(&other.whom));
            list
        };
        let names = sorted(&rules.names, "ban");
        let mutes = sorted(&rules.mutes, "mute");
        networks.chain(names).chain(mutes).chain(in_rooms).collect()
    }
}

/// Returns a random code such as `4kqm-7xtd-w2fn`, for an invitation or a new password.
///
/// # Errors
/// The system's reason if it has no random numbers.
pub(crate) fn random_code() -> Result<String, String> {
    let mut bytes = [0; CODE_LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    // 256 is a multiple of 32, the number of letters, so each letter is equally likely.
    let letter = |byte: u8| char::from(CODE_LETTERS[usize::from(byte) % CODE_LETTERS.len()]);
    let code = bytes.iter().enumerate().map(|(at, &byte)| match at {
        4 | 9 => '-',
        _ => letter(byte),
    });
    Ok(code.collect())
}

fn refused(code: ErrorCode, sentence: String) -> PolicyError {
    PolicyError::Refused(Refusal { code, sentence })
}

fn room_refusal(refusal: &RoomRefusal, room: &Name) -> PolicyError {
    let (code, sentence) = match refusal {
        RoomRefusal::NoSuchRoom => (
            ErrorCode::NoSuchRoom,
            "there is no such room; ROOMS lists the rooms".to_owned(),
        ),
        RoomRefusal::NotAModerator => (
            ErrorCode::NotAllowed,
            format!("only the moderators of {room} can do that; ROOM lists them"),
        ),
        RoomRefusal::AboutAModerator => (
            ErrorCode::NotAllowed,
            "that user became a moderator before you did; ask the operator".to_owned(),
        ),
        RoomRefusal::NoSuchRule => (ErrorCode::NoSuchUser, format!("{room} has no such rule")),
        RoomRefusal::FirstModerator => (
            ErrorCode::NotAllowed,
            format!(
                "you are the first moderator of {room}, so you can't step down while it has rules; \
                 open it to everyone first, or ask the operator"
            ),
        ),
        RoomRefusal::TooMany => (
            ErrorCode::NotAllowed,
            format!(
                "{room} has reached the limit of {} moderators and invited users in total",
                limits::RULES_OF_A_ROOM
            ),
        ),
        RoomRefusal::TooManyMutes => (
            ErrorCode::NotAllowed,
            format!(
                "{room} has reached the limit of {} mutes",
                limits::RULES_OF_A_ROOM
            ),
        ),
        RoomRefusal::TooManyRooms => (
            ErrorCode::NotAllowed,
            format!(
                "you have {} rooms with rules, which is the limit; open one of them to everyone \
                 first",
                limits::ROOMS_WITH_RULES
            ),
        ),
    };
    refused(code, sentence)
}

fn banned(sentence: String) -> Refusal {
    Refusal {
        code: ErrorCode::Banned,
        sentence,
    }
}

impl Policies for SharedPolicies {
    fn refuse_address(&self, address: IpAddr, now: Tick) -> Option<Refusal> {
        if !self.has_addresses.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        let networks = state.rules.networks.iter();
        let mut covering = networks.filter(|(network, _)| network.contains(address));
        if let Some((_, ban)) = covering.find(|(_, ban)| !ban.is_over(now)) {
            return Some(self.ban(ban, now));
        }
        self.still_removed(&state, None, address, now)
    }

    fn refuse_name(&self, name: &Name, address: IpAddr, now: Tick) -> Option<Refusal> {
        let state = self.state.lock();
        let ban = state.rules.names.get(&name.key());
        match ban.filter(|(_, ban)| !ban.is_over(now)) {
            Some((_, ban)) => Some(self.ban(ban, now)),
            None => self.still_removed(&state, Some(name), address, now),
        }
    }

    fn may_refuse_messages(&self) -> bool {
        self.may_refuse_messages.load(Ordering::Acquire)
    }

    fn refuse_message(&self, name: &Name, now: Tick) -> Option<Refusal> {
        let state = self.state.lock();
        let (_, mute) = state.rules.mutes.get(&name.key())?;
        (!mute.is_over(now)).then(|| Refusal {
            code: ErrorCode::Muted,
            sentence: format!(
                "you are not allowed to send messages{}",
                mute.remaining(now, self.tick)
            ),
        })
    }

    fn is_moderator(&self, name: &Name) -> bool {
        self.moderators && self.state.lock().rules.moderators.contains_key(&name.key())
    }

    fn removed(&self, name: Option<&Name>, address: IpAddr, now: Tick) {
        let mut state = self.state.lock();
        state.removed.retain(|there| there.until > now);
        if state.removed.len() >= limits::REMOVED {
            state.removed.remove(0);
        }
        state.removed.push(Removed {
            host: host_of(address),
            name: name.map(Name::key),
            until: self.tick_in(limits::REMOVED_FOR, now),
        });
        self.note(&state);
    }

    fn room_opened(&self, room: &Name, creator: &Name) {
        if self.open_rooms.is_none() {
            let now = self.clock.now();
            self.state.lock().rules.rooms.opened(room, creator, now);
        }
    }

    fn room_ended(&self, room: &Name) {
        let now = self.clock.now();
        self.state.lock().rules.rooms.ended(room, now);
    }

    fn room(&self, room: &Name) -> Option<RoomRules> {
        self.state.lock().rules.rooms.rules(room)
    }

    fn may_join(
        &self,
        room: &Name,
        name: &Name,
        password: Option<&str>,
        now: Tick,
    ) -> Result<(), Refusal> {
        let entry = {
            let rules = &self.state.lock().rules;
            rules.rooms.entry(room, self.author(rules, Some(name)), now)
        };
        if let (Entry::Password(hash), Some(password)) = (&entry, password) {
            // Release the hasher before the file is written.
            let is_right = self.hasher.lock().verify(hash, password);
            if is_right {
                return self.admit_guest(room, name, hash, now);
            }
            return Err(Refusal {
                code: ErrorCode::RoomPassword,
                sentence: format!("wrong password for the room {room}"),
            });
        }
        self.entry_refusal(&entry, room, now).map_or(Ok(()), Err)
    }

    fn refuse_in_room(&self, room: &Name, name: &Name, now: Tick) -> Option<Refusal> {
        if !self.may_refuse_messages() {
            return None;
        }
        let rules = &self.state.lock().rules;
        let author = self.author(rules, Some(name));
        Some(match rules.rooms.silence(room, author, now)? {
            Silence::Moderated => Refusal {
                code: ErrorCode::Moderated,
                sentence: format!("only moderators may send messages to {room}"),
            },
            Silence::Muted(mute) => Refusal {
                code: ErrorCode::Muted,
                sentence: format!(
                    "you are not allowed to send messages to {room}{}",
                    mute.remaining(now, self.tick)
                ),
            },
        })
    }

    fn change_room(
        &self,
        by: Option<&Name>,
        room: &Name,
        rule: &RoomRule,
        now: Tick,
    ) -> Result<(), Refusal> {
        self.change_room_rule(by, room, rule, now)
            .map_err(|error| self.refusal(error, by))
    }

    fn change(&self, change: &Change<'_>, now: Tick) -> Result<(), Refusal> {
        self.change_rule(change, now)
            .map_err(|error| self.refusal(error, change.by))
    }
}

impl SharedPolicies {
    /// Converts an error to a refusal for the author of a change. Only the operator gets the
    /// details of a failure.
    fn refusal(&self, error: PolicyError, by: Option<&Name>) -> Refusal {
        let sentence = error.to_string();
        match error {
            PolicyError::NoSuchRule(_) => Refusal {
                code: ErrorCode::NoSuchUser,
                sentence,
            },
            PolicyError::Refused(refusal) => refusal,
            _ => {
                self.events.emit_failure("store a rule", sentence.clone());
                let sentence = match by {
                    Some(_) => {
                        "the server can't store that change right now; tell the operator".to_owned()
                    }
                    None => sentence,
                };
                let code = ErrorCode::NotSaved;
                Refusal { code, sentence }
            }
        }
    }

    fn author<'a>(&self, rules: &PolicyRules, by: Option<&'a Name>) -> Author<'a> {
        match by {
            None => Author::Operator,
            Some(by) if self.moderators && rules.moderators.contains_key(&by.key()) => {
                Author::Moderator(by)
            }
            Some(by) => Author::User(by),
        }
    }

    fn change_room_rule(
        &self,
        by: Option<&Name>,
        room: &Name,
        rule: &RoomRule,
        now: Tick,
    ) -> Result<(), PolicyError> {
        if let Some(reason) = self.open_rooms {
            return Err(refused(ErrorCode::NotAllowed, reason.to_owned()));
        }
        let check = |rules: &PolicyRules| {
            let is_moderator = |name: &Name| rules.moderators.contains_key(&name.key());
            let author = self.author(rules, by);
            let checked = rules.rooms.check(author, room, rule, is_moderator);
            checked.map_err(|refusal| room_refusal(&refusal, room))
        };
        // Check before hashing, which takes a while.
        check(&self.state.lock().rules)?;
        let (line, duration) = match rule {
            RoomRule::Open => (RoomLine::Open(by.cloned()), None),
            RoomRule::InviteOnly => (RoomLine::Invite(by.cloned()), None),
            RoomRule::Password(password) => {
                if !(1..=portal_sessions::limits::PASSWORD).contains(&password.len()) {
                    let sentence = "a room password must be 1 to 128 bytes long";
                    return Err(refused(ErrorCode::BadPassword, sentence.to_owned()));
                }
                let hash = self.hasher.lock().hash(password);
                let hash = hash.map_err(PolicyError::NoRandomness)?;
                (RoomLine::Password(hash, by.cloned()), None)
            }
            RoomRule::Moderated(is_on) => (RoomLine::Moderated(*is_on), None),
            RoomRule::Moderator(name, is_one) => (RoomLine::Moderator(name.clone(), *is_one), None),
            RoomRule::Invite(name) => (RoomLine::Invited(name.clone(), true), None),
            RoomRule::Mute(name, duration) => {
                let term = Term::new(*duration, by, "");
                (RoomLine::Mute(name.clone(), term), *duration)
            }
            RoomRule::Unmute(name) => (RoomLine::Unmute(name.clone(), by.cloned()), None),
            RoomRule::Remove(name) => (RoomLine::Invited(name.clone(), false), None),
        };
        self.store_lines(duration, now, |rules| {
            check(rules)?;
            let lines = rules.rooms.lines_for(room, &line);
            Ok((lines, Some(PolicyLine::Room(room.clone(), line))))
        })?;
        if let RoomRule::Remove(name) = rule {
            let until = self.tick_in(limits::REMOVED_FOR, now);
            let mut state = self.state.lock();
            state.rules.rooms.remove(room, name, (now, until));
        }
        Ok(())
    }

    /// Returns the refusal for a user without a password, if any.
    fn entry_refusal(&self, entry: &Entry, room: &Name, now: Tick) -> Option<Refusal> {
        let (code, sentence) = match entry {
            Entry::Allowed => return None,
            Entry::Password(_) => (
                ErrorCode::RoomPassword,
                format!("{room} requires a password: send it with JOIN"),
            ),
            Entry::InviteOnly => (
                ErrorCode::InviteOnly,
                format!("only invited users may join {room}; ask one of its moderators"),
            ),
            Entry::Removed(until) => (
                ErrorCode::NotAllowed,
                format!(
                    "you were removed from {room}; you can rejoin in {}",
                    ticks_in_words(*until, now, self.tick)
                ),
            ),
        };
        Some(Refusal { code, sentence })
    }

    /// Admits a user whose password matches `hash`, and remembers the user, so that a reconnect
    /// does not need the password again.
    ///
    /// # Errors
    /// [`Refusal`] if the password has changed since it was compared. After any other failure, the
    /// user is admitted but not remembered.
    fn admit_guest(&self, room: &Name, name: &Name, hash: &str, now: Tick) -> Result<(), Refusal> {
        let line = RoomLine::Invited(name.clone(), true);
        let stored = self.store_lines(None, now, |rules| {
            let author = self.author(rules, Some(name));
            match rules.rooms.entry(room, author, now) {
                Entry::Password(there) if there == hash => {}
                Entry::Password(_) => {
                    let sentence = format!("the password of {room} has changed");
                    return Err(refused(ErrorCode::RoomPassword, sentence));
                }
                // The rules have changed during the comparison.
                entry => {
                    return match self.entry_refusal(&entry, room, now) {
                        None => Ok((Vec::new(), None)),
                        Some(refusal) => Err(PolicyError::Refused(refusal)),
                    };
                }
            }
            if rules.rooms.is_full(room) {
                return Err(PolicyError::TooMany);
            }
            let lines = rules.rooms.lines_for(room, &line);
            Ok((lines, Some(PolicyLine::Room(room.clone(), line))))
        });
        match stored {
            Ok(()) => {}
            Err(PolicyError::Refused(refusal)) => return Err(refusal),
            Err(error) => {
                let doing = "store the users who entered a room's password";
                self.events.emit_failure(doing, error.to_string());
            }
        }
        Ok(())
    }

    /// The rules of all rooms, in alphabetical order.
    pub fn rooms(&self) -> Vec<RoomRules> {
        self.state.lock().rules.rooms.all()
    }

    /// Removes a deleted account from the moderators and the invited users of all rooms, so that
    /// the next owner of the name is neither.
    ///
    /// # Errors
    /// [`PolicyError::File`].
    pub fn forget_in_rooms(&self, name: &Name) -> Result<(), PolicyError> {
        let now = self.clock.now();
        let lines = self.state.lock().rules.rooms.lines_without(name);
        for line in lines {
            self.store_lines(None, now, |_| Ok((vec![line.clone()], Some(line))))?;
        }
        Ok(())
    }

    fn ban(&self, ban: &Active, now: Tick) -> Refusal {
        banned(format!(
            "you are banned{}{}",
            ban.remaining(now, self.tick),
            ban.reason()
        ))
    }

    /// Returns the refusal for a client that was removed less than a minute ago.
    fn still_removed(
        &self,
        state: &PolicyState,
        name: Option<&Name>,
        address: IpAddr,
        now: Tick,
    ) -> Option<Refusal> {
        let (host, name) = (host_of(address), name.map(Name::key));
        let mut there = state.removed.iter();
        let there = there
            .find(|removed| removed.host == host && removed.name == name && removed.until > now)?;
        Some(banned(format!(
            "you were removed; you can reconnect in {}",
            ticks_in_words(there.until, now, self.tick)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::TempFile;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 3, 7));

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn open(path: Option<&Path>) -> Result<SharedPolicies, PolicyError> {
        let clock = Clock::new();
        let events = Events::new(clock.clone());
        SharedPolicies::open(path, Duration::from_secs(1), &clock, &events)
    }

    fn minutes(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(60 * count))
    }

    fn change(policies: &SharedPolicies, rule: Rule) -> Result<(), Refusal> {
        policies.change(&Change { by: None, rule }, Tick(0))
    }

    fn ban(whom: &str, duration: Option<Duration>) -> Rule {
        Rule::Ban(read_subject(whom).unwrap(), duration, String::new())
    }

    #[test]
    fn active_rules_survive_a_restart_and_ended_ones_do_not() {
        let file = TempFile::new("policies-restart");
        let policies = open(Some(&file.0)).unwrap();
        assert!(!file.0.exists(), "no file before the first rule");
        // This is so long that the duration of the test does not affect the remaining time.
        let week = minutes(7 * 24 * 60);
        change(&policies, ban("alice", week)).unwrap();
        change(&policies, ban("192.0.2.0/24", None)).unwrap();
        change(&policies, ban("bob", None)).unwrap();
        change(&policies, Rule::Unban(read_subject("bob").unwrap())).unwrap();
        change(&policies, Rule::Mute(name("carol"), week)).unwrap();
        policies.set_moderator(&name("dave"), true).unwrap();
        policies.set_moderator(&name("erin"), true).unwrap();
        policies.set_moderator(&name("Erin"), false).unwrap();
        let code = policies.invite().unwrap();
        let before = policies.list();
        drop(policies);
        let policies = open(Some(&file.0)).unwrap();
        assert_eq!(policies.list(), before);
        assert_eq!(policies.moderators(), [name("dave")]);
        assert_eq!(policies.invitations(), [code]);
        let refusal = policies.refuse_address(HERE, Tick(0)).unwrap();
        assert_eq!(refusal.sentence, "you are banned");
        assert!(policies.refuse_address(THERE, Tick(0)).is_none());
        let refused = |who: &str, tick| {
            let refusal = policies.refuse_name(&name(who), THERE, Tick(tick));
            refusal.is_some()
        };
        assert!(refused("Alice", 0) && !refused("alice", 7 * 24 * 60 * 60));
        assert!(policies.refuse_name(&name("bob"), THERE, Tick(0)).is_none());
        assert!(policies.may_refuse_messages());
        assert!(policies.refuse_message(&name("carol"), Tick(0)).is_some());
        drop(policies);
        // Use an expiry time in the past, as after a long downtime.
        std::fs::write(&file.0, "ban alice 2020-01-01T00:00:00Z (operator)\n").unwrap();
        assert_eq!(open(Some(&file.0)).unwrap().list(), []);
    }

    #[test]
    fn a_second_server_cant_use_the_file() {
        let file = TempFile::new("policies-locked");
        let first = open(Some(&file.0)).unwrap();
        change(&first, ban("alice", None)).unwrap();
        let second = open(Some(&file.0));
        assert!(matches!(second, Err(PolicyError::InUse(_))));
    }

    #[test]
    fn a_damaged_line_affects_no_other() {
        let file = TempFile::new("policies-damaged");
        std::fs::write(
            &file.0,
            "ban alice forever (operator)\nnonsense\nban bob forever",
        )
        .unwrap();
        let policies = open(Some(&file.0)).unwrap();
        assert_eq!(policies.list().len(), 1);
        change(&policies, ban("carol", None)).unwrap();
        drop(policies);
        let text = std::fs::read_to_string(&file.0).unwrap();
        assert!(
            text.ends_with("ban bob forever\nban carol forever (operator)\n"),
            "{text}"
        );
        assert_eq!(open(Some(&file.0)).unwrap().list().len(), 2);
    }

    #[test]
    fn a_replaced_file_gets_the_missing_rules() {
        let file = TempFile::new("policies-replaced");
        let policies = open(Some(&file.0)).unwrap();
        change(&policies, ban("alice", None)).unwrap();
        std::fs::remove_file(&file.0).unwrap();
        std::fs::write(&file.0, "ban bob forever (operator)\n").unwrap();
        change(&policies, ban("carol", None)).unwrap();
        let whom = |policies: &SharedPolicies| -> Vec<String> {
            policies.list().into_iter().map(|rule| rule.whom).collect()
        };
        assert_eq!(whom(&policies), ["alice", "bob", "carol"]);
        drop(policies);
        assert_eq!(
            whom(&open(Some(&file.0)).unwrap()),
            ["alice", "bob", "carol"]
        );
    }

    #[test]
    fn a_rooms_rules_survive_a_restart_and_its_password_is_hashed() {
        let file = TempFile::new("policies-rooms");
        let policies = open(Some(&file.0)).unwrap();
        let (lobby, alice, bob) = (name("lobby"), name("alice"), name("bob"));
        policies.room_opened(&lobby, &alice);
        let change = |policies: &SharedPolicies, rule| {
            policies.change_room(Some(&alice), &lobby, &rule, Tick(0))
        };
        change(&policies, RoomRule::Moderator(bob.clone(), true)).unwrap();
        assert!(!file.0.exists(), "the rules of an open room end with it");
        change(&policies, RoomRule::Password("tea".to_owned())).unwrap();
        let join = |policies: &SharedPolicies, who: &str, password| {
            policies
                .may_join(&lobby, &name(who), password, Tick(0))
                .is_ok()
        };
        assert!(!join(&policies, "carol", Some("coffee")) && !join(&policies, "carol", None));
        assert!(join(&policies, "carol", Some("tea")) && join(&policies, "carol", None));
        drop(policies);
        let text = std::fs::read_to_string(&file.0).unwrap();
        assert!(!text.contains("tea"), "{text}");
        let policies = open(Some(&file.0)).unwrap();
        assert!(join(&policies, "carol", None) && join(&policies, "bob", None));
        assert!(!join(&policies, "dave", None) && join(&policies, "dave", Some("tea")));
        // A new password revokes the access of users who have not sent it.
        change(&policies, RoomRule::Password("milk".to_owned())).unwrap();
        assert!(!join(&policies, "carol", None) && join(&policies, "bob", None));
        change(&policies, RoomRule::Open).unwrap();
        drop(policies);
        let policies = open(Some(&file.0)).unwrap();
        assert_eq!(policies.room(&lobby), None);
        assert!(join(&policies, "dave", None));
    }

    /// Comparing a password takes a while. What a moderator changes in the meantime counts.
    #[test]
    fn a_right_password_does_not_help_after_the_rules_have_changed() {
        let policies = open(None).unwrap();
        let (lobby, alice, kim) = (name("lobby"), name("alice"), name("kim"));
        policies.room_opened(&lobby, &alice);
        let change = |rule| {
            let changed = policies.change_room(Some(&alice), &lobby, &rule, Tick(0));
            changed.unwrap();
        };
        change(RoomRule::Password("tea".to_owned()));
        let rules = |policies: &SharedPolicies| {
            let state = policies.state.lock();
            state.rules.rooms.entry(&lobby, Author::User(&kim), Tick(0))
        };
        let Entry::Password(hash) = rules(&policies) else {
            panic!("the room has a password");
        };
        let admitted = |policies: &SharedPolicies| {
            let admitted = policies.admit_guest(&lobby, &kim, &hash, Tick(0));
            admitted.map_err(|refusal| refusal.code)
        };
        change(RoomRule::Remove(kim.clone()));
        assert_eq!(admitted(&policies), Err(ErrorCode::NotAllowed));
        assert!(matches!(rules(&policies), Entry::Removed(_)));
        change(RoomRule::Invite(kim.clone()));
        assert_eq!(admitted(&policies), Ok(()));
        change(RoomRule::InviteOnly);
        assert_eq!(admitted(&policies), Err(ErrorCode::InviteOnly));
        change(RoomRule::Password("milk".to_owned()));
        assert_eq!(admitted(&policies), Err(ErrorCode::RoomPassword));
    }

    #[test]
    fn rooms_stay_open_if_names_have_no_passwords() {
        let policies = open(None).unwrap().without_moderators();
        policies.room_opened(&name("lobby"), &name("alice"));
        let rule = RoomRule::InviteOnly;
        let refused = policies.change_room(Some(&name("alice")), &name("lobby"), &rule, Tick(0));
        assert_eq!(refused.unwrap_err().code, ErrorCode::NotAllowed);
    }

    #[test]
    fn a_disk_failure_sets_no_rule_and_leaves_no_line() {
        let file = TempFile::new("policies-failing");
        let policies = open(Some(&file.0)).unwrap();
        change(&policies, ban("alice", None)).unwrap();
        let before = std::fs::read_to_string(&file.0).unwrap();
        let failing = Box::new(|_: &std::fs::File| Err(io::Error::other("no")));
        policies
            .disk
            .lock()
            .file
            .as_mut()
            .unwrap()
            .sync_with(failing);
        let refused = change(&policies, ban("bob", None)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotSaved);
        let refused = change(&policies, Rule::Unban(read_subject("alice").unwrap()));
        assert!(refused.is_err());
        assert_eq!(std::fs::read_to_string(&file.0).unwrap(), before);
        assert_eq!(policies.list().len(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn the_file_is_private_and_not_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = TempFile::new("policies-mode");
        let policies = open(Some(&file.0)).unwrap();
        change(&policies, ban("alice", None)).unwrap();
        let mode = std::fs::metadata(&file.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let link = file.0.with_extension("link");
        std::os::unix::fs::symlink(&file.0, &link).unwrap();
        let opened = open(Some(&link));
        std::fs::remove_file(&link).unwrap();
        assert!(matches!(opened, Err(PolicyError::File(..))));
    }

    #[test]
    fn an_invitation_is_used_by_one_of_many_clients() {
        let policies = open(None).unwrap();
        let code = policies.invite().unwrap();
        let used = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let (policies, code) = (&policies, &code);
                    let who = name(&format!("n{number}"));
                    scope.spawn(move || policies.use_invitation(code, &who).is_ok())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .filter(|used| *used)
                .count()
        });
        assert_eq!(used, 1);
        policies.return_invitation(&code);
        assert!(policies.is_invitation(&code));
    }

    #[test]
    fn a_removed_client_is_known_by_name_and_address_for_a_minute() {
        let policies = open(None).unwrap();
        policies.removed(Some(&name("alice")), HERE, Tick(5));
        let refused = |who: &str, address, tick| {
            policies
                .refuse_name(&name(who), address, Tick(tick))
                .is_some()
        };
        assert!(refused("ALICE", HERE, 5) && refused("alice", HERE, 64));
        assert!(
            !refused("alice", HERE, 65) && !refused("alice", THERE, 5) && !refused("bob", HERE, 5)
        );
        assert!(policies.refuse_address(HERE, Tick(5)).is_none());
        policies.removed(None, HERE, Tick(5));
        assert!(policies.refuse_address(HERE, Tick(64)).is_some());
        assert!(policies.refuse_address(HERE, Tick(65)).is_none());
        assert!(policies.refuse_address(THERE, Tick(5)).is_none());
    }

    #[test]
    fn the_number_of_rules_is_limited() {
        let policies = open(None).unwrap();
        for number in 0..limits::RULES {
            change(&policies, ban(&format!("n{number}"), None)).unwrap();
        }
        assert!(change(&policies, ban("alice", None)).is_err());
        change(&policies, Rule::Unban(read_subject("n0").unwrap())).unwrap();
        change(&policies, ban("alice", None)).unwrap();
        for _ in 0..2 * limits::REMOVED {
            policies.removed(None, HERE, Tick(0));
        }
        assert_eq!(policies.state.lock().removed.len(), limits::REMOVED);
    }
}
