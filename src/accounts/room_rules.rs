//! The rules of rooms: the right to join, the right to send messages, and the right to change
//! rules.
//!
//! The user who creates a room is its first moderator. As long as a room is open and no user is
//! muted in it, its rules are deleted along with it, as in seed 004. A room with any other rule
//! keeps its rules when it is empty and, if there is a policies file, when the server restarts.

use std::collections::{BTreeMap, HashMap};

use portal_core::clock::Tick;
use portal_sessions::policies::{RoomRule, RoomRules};
use portal_wire::{Name, RoomAccess};

use crate::limits;
use crate::policies::Active;
use crate::policy_lines::{PolicyLine, RoomLine, Term};

/// The rules of all rooms.
#[derive(Clone, Default)]
pub(super) struct RoomBook {
    rooms: BTreeMap<String, RoomEntry>,
}

#[derive(Clone)]
struct RoomEntry {
    name: Name,
    access: Access,
    moderated: bool,
    /// In order of appointment.
    moderators: Vec<Name>,
    /// The users who may join a room that is not open.
    invited: BTreeMap<String, Name>,
    mutes: HashMap<String, (Name, Active)>,
    /// The users who were removed less than a minute ago, each with the tick at which they may
    /// return.
    removed: Vec<(String, Tick)>,
    /// True while the room exists.
    exists: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Access {
    Open,
    Invite,
    /// Users who were not invited need the password with this hash.
    Password(String),
}

/// The author of a change.
#[derive(Clone, Copy)]
pub(super) enum Author<'a> {
    Operator,
    /// A moderator of the server, who has the rights of a moderator in every room.
    Moderator(&'a Name),
    User(&'a Name),
}

impl<'a> Author<'a> {
    pub(super) fn name(self) -> Option<&'a Name> {
        match self {
            Author::Operator => None,
            Author::Moderator(name) | Author::User(name) => Some(name),
        }
    }
}

/// The reason why a rule can't be changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoomRefusal {
    /// The room does not exist and has no rules.
    NoSuchRoom,
    /// Only moderators may do that.
    NotAModerator,
    /// The rule is about a moderator, and the author was not appointed before that user.
    AboutAModerator,
    /// The rule to be lifted does not exist.
    NoSuchRule,
    /// The author is the first moderator of a room that keeps its rules, and can't step down:
    /// otherwise, the limit on such rooms would count for another user, or for none.
    FirstModerator,
    /// The room already has the maximum number of moderators and invited users.
    TooMany,
    /// The room already has the maximum number of mutes.
    TooManyMutes,
    /// The user is the first moderator of too many rooms with rules.
    TooManyRooms,
}

/// The result of checking whether a user may join.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Allowed,
    /// The user must be invited.
    InviteOnly,
    /// The user must know the password with this hash.
    Password(String),
    /// The user was removed, and may return at this tick.
    Removed(Tick),
}

/// The reason for refusing a message.
pub(super) enum Silence {
    Moderated,
    Muted(Active),
}

impl RoomEntry {
    fn new(name: &Name) -> RoomEntry {
        RoomEntry {
            name: name.clone(),
            access: Access::Open,
            moderated: false,
            moderators: Vec::new(),
            invited: BTreeMap::new(),
            mutes: HashMap::new(),
            removed: Vec::new(),
            exists: false,
        }
    }

    /// Returns whether the rules outlive the room.
    fn is_kept(&self) -> bool {
        self.access != Access::Open || self.moderated || !self.mutes.is_empty()
    }

    fn rank(&self, name: &Name) -> Option<usize> {
        let mut moderators = self.moderators.iter();
        moderators.position(|there| there.key() == name.key())
    }

    fn drop_expired(&mut self, now: Tick) {
        self.mutes.retain(|_, (_, mute)| !mute.is_over(now));
    }

    fn apply(&mut self, line: RoomLine, until: impl Fn(&Term) -> Option<Tick>) {
        match line {
            RoomLine::Reset => {
                let (exists, removed) = (self.exists, std::mem::take(&mut self.removed));
                *self = RoomEntry::new(&self.name);
                (self.exists, self.removed) = (exists, removed);
            }
            RoomLine::Open(_) => self.access = Access::Open,
            RoomLine::Invite(_) => {
                // Knowing the password is no invitation.
                if matches!(self.access, Access::Password(_)) {
                    self.invited.clear();
                }
                self.access = Access::Invite;
            }
            RoomLine::Password(hash, _) => {
                self.access = Access::Password(hash);
                // Users who knew the old password must send the new one.
                self.invited.clear();
            }
            RoomLine::Moderated(moderated) => self.moderated = moderated,
            RoomLine::Moderator(name, true) => {
                if self.rank(&name).is_none() {
                    self.moderators.push(name);
                }
            }
            RoomLine::Moderator(name, false) => {
                self.moderators.retain(|there| there.key() != name.key());
            }
            RoomLine::Invited(name, true) => {
                self.removed.retain(|(key, _)| *key != name.key());
                self.invited.insert(name.key(), name);
            }
            RoomLine::Invited(name, false) => {
                self.invited.remove(&name.key());
            }
            RoomLine::Mute(name, term) => {
                let until = until(&term);
                self.mutes
                    .insert(name.key(), (name, Active { term, until }));
            }
            RoomLine::Unmute(name, _) => {
                self.mutes.remove(&name.key());
            }
        }
    }

    /// The lines that create these rules.
    fn lines(&self) -> Vec<RoomLine> {
        let access = match &self.access {
            Access::Open => None,
            Access::Invite => Some(RoomLine::Invite(None)),
            Access::Password(hash) => Some(RoomLine::Password(hash.clone(), None)),
        };
        let moderated = self.moderated.then_some(RoomLine::Moderated(true));
        let moderators = self.moderators.iter().cloned();
        let moderators = moderators.map(|name| RoomLine::Moderator(name, true));
        let invited = self.invited.values().cloned();
        let invited = invited.map(|name| RoomLine::Invited(name, true));
        let mutes = self.mutes.values();
        let mutes = mutes.map(|(name, mute)| RoomLine::Mute(name.clone(), mute.term.clone()));
        let lines = [RoomLine::Reset].into_iter().chain(access);
        lines
            .chain(moderated)
            .chain(moderators)
            .chain(invited)
            .chain(mutes)
            .collect()
    }
}

impl RoomBook {
    /// Records that a room exists. Its creator becomes the first moderator, unless the operator has
    /// restricted the room before.
    pub(super) fn opened(&mut self, room: &Name, creator: &Name, now: Tick) {
        self.ended(room, now);
        let entry = self.rooms.entry(room.key());
        let entry = entry.or_insert_with(|| RoomEntry::new(room));
        entry.exists = true;
        let is_restricted = entry.access != Access::Open || entry.moderated;
        if entry.moderators.is_empty() && !is_restricted {
            entry.moderators.push(creator.clone());
        }
    }

    /// Records that a room has closed.
    pub(super) fn ended(&mut self, room: &Name, now: Tick) {
        if let Some(entry) = self.rooms.get_mut(&room.key()) {
            entry.exists = false;
            entry.drop_expired(now);
            if !entry.is_kept() {
                self.rooms.remove(&room.key());
            }
        }
    }

    /// Removes the mutes that have expired, and the rules that are no longer needed.
    pub(super) fn drop_expired(&mut self, now: Tick) {
        for entry in self.rooms.values_mut() {
            entry.drop_expired(now);
        }
        self.rooms
            .retain(|_, entry| entry.exists || entry.is_kept());
    }

    /// Returns whether any message to a room may be refused.
    pub(super) fn has_silences(&self) -> bool {
        let mut rooms = self.rooms.values();
        rooms.any(|entry| entry.moderated || !entry.mutes.is_empty())
    }

    /// Returns whether a user may join a room.
    pub(super) fn entry(&self, room: &Name, author: Author<'_>, now: Tick) -> Entry {
        let (Some(entry), Some(name)) = (self.rooms.get(&room.key()), author.name()) else {
            return Entry::Allowed;
        };
        let key = name.key();
        let mut removed = entry.removed.iter();
        if let Some((_, until)) = removed.find(|(there, until)| *there == key && *until > now) {
            return Entry::Removed(*until);
        }
        let is_known = entry.invited.contains_key(&key)
            || entry.rank(name).is_some()
            || matches!(author, Author::Moderator(_));
        match &entry.access {
            Access::Invite if !is_known => Entry::InviteOnly,
            Access::Password(hash) if !is_known => Entry::Password(hash.clone()),
            _ => Entry::Allowed,
        }
    }

    /// Returns the reason for refusing a message from a member.
    pub(super) fn silence(&self, room: &Name, author: Author<'_>, now: Tick) -> Option<Silence> {
        let (entry, name) = (self.rooms.get(&room.key())?, author.name()?);
        if let Some((_, mute)) = entry.mutes.get(&name.key())
            && !mute.is_over(now)
        {
            return Some(Silence::Muted(mute.clone()));
        }
        let may_speak = entry.rank(name).is_some() || matches!(author, Author::Moderator(_));
        (entry.moderated && !may_speak).then_some(Silence::Moderated)
    }

    /// The rules of a room.
    pub(super) fn rules(&self, room: &Name) -> Option<RoomRules> {
        let entry = self.rooms.get(&room.key())?;
        Some(RoomRules {
            name: entry.name.clone(),
            access: match entry.access {
                Access::Open => RoomAccess::Open,
                Access::Invite => RoomAccess::Invite,
                Access::Password(_) => RoomAccess::Password,
            },
            moderated: entry.moderated,
            moderators: entry.moderators.clone(),
        })
    }

    /// All rooms that have rules, in alphabetical order.
    pub(super) fn all(&self) -> Vec<RoomRules> {
        let rooms = self.rooms.values();
        rooms.filter_map(|entry| self.rules(&entry.name)).collect()
    }

    /// The users who are muted in a room, each with the room.
    pub(super) fn mutes(&self) -> impl Iterator<Item = (&Name, &Name, &Active)> {
        let rooms = self.rooms.values();
        rooms.flat_map(|entry| {
            let mutes = entry.mutes.values();
            mutes.map(|(name, mute)| (name, &entry.name, mute))
        })
    }

    /// Checks whether the author may make this change.
    ///
    /// # Errors
    /// [`RoomRefusal`].
    pub(super) fn check(
        &self,
        author: Author<'_>,
        room: &Name,
        rule: &RoomRule,
        is_server_moderator: impl Fn(&Name) -> bool,
    ) -> Result<(), RoomRefusal> {
        let entry = self.rooms.get(&room.key());
        let rank = match author {
            // They rank above all moderators of the room.
            Author::Operator | Author::Moderator(_) => None,
            Author::User(name) => {
                let entry = entry.ok_or(RoomRefusal::NoSuchRoom)?;
                Some(entry.rank(name).ok_or(RoomRefusal::NotAModerator)?)
            }
        };
        // Any other rule for an empty room would be dropped immediately.
        let is_kept = matches!(
            rule,
            RoomRule::InviteOnly
                | RoomRule::Password(_)
                | RoomRule::Moderated(true)
                | RoomRule::Mute(..)
        );
        if entry.is_none() && !is_kept {
            return Err(RoomRefusal::NoSuchRoom);
        }
        let about = match rule {
            RoomRule::Mute(name, _) | RoomRule::Remove(name) => Some((name, true)),
            RoomRule::Moderator(name, false) => Some((name, false)),
            _ => None,
        };
        if let Some((name, acts_on_user)) = about {
            let is_self = author.name().is_some_and(|by| by.key() == name.key());
            let theirs = entry.and_then(|entry| entry.rank(name));
            let precedes = match (rank, theirs) {
                (Some(ours), Some(theirs)) => ours < theirs,
                _ => true,
            };
            let protected =
                acts_on_user && is_server_moderator(name) && !matches!(author, Author::Operator);
            if !is_self && (protected || !precedes) {
                return Err(RoomRefusal::AboutAModerator);
            }
            let is_kept = entry.is_some_and(RoomEntry::is_kept);
            if is_kept && !acts_on_user && rank == Some(0) && theirs == rank {
                return Err(RoomRefusal::FirstModerator);
            }
        }
        let is_there = match (rule, entry) {
            (RoomRule::Unmute(name), Some(entry)) => entry.mutes.contains_key(&name.key()),
            (RoomRule::Moderator(name, false), Some(entry)) => entry.rank(name).is_some(),
            _ => true,
        };
        if !is_there {
            return Err(RoomRefusal::NoSuchRule);
        }
        match rule {
            RoomRule::Moderator(_, true) | RoomRule::Invite(_) if self.is_full(room) => {
                return Err(RoomRefusal::TooMany);
            }
            RoomRule::Mute(..)
                if entry.is_some_and(|entry| entry.mutes.len() >= limits::RULES_OF_A_ROOM) =>
            {
                return Err(RoomRefusal::TooManyMutes);
            }
            _ => {}
        }
        if let Author::User(_) = author
            && is_kept
            && !entry.is_some_and(RoomEntry::is_kept)
            && let Some(first) = entry.and_then(|entry| entry.moderators.first())
        {
            let rooms = self.rooms.values().filter(|entry| entry.is_kept());
            let firsts = rooms.filter_map(|entry| entry.moderators.first());
            let count = firsts.filter(|there| there.key() == first.key()).count();
            if count >= limits::ROOMS_WITH_RULES {
                return Err(RoomRefusal::TooManyRooms);
            }
        }
        Ok(())
    }

    /// The lines to store for a change. Empty if the rules will be deleted along with the room
    /// anyway.
    pub(super) fn lines_for(&self, room: &Name, line: &RoomLine) -> Vec<PolicyLine> {
        let before = self.rooms.get(&room.key());
        let mut after = before.map_or_else(|| RoomEntry::new(room), RoomEntry::clone);
        after.apply(line.clone(), |_| None);
        let as_line = |line| PolicyLine::Room(after.name.clone(), line);
        match (before.is_some_and(RoomEntry::is_kept), after.is_kept()) {
            (true, _) => vec![as_line(line.clone())],
            (false, true) => after.lines().into_iter().map(as_line).collect(),
            (false, false) => Vec::new(),
        }
    }

    /// Applies a change.
    pub(super) fn apply(
        &mut self,
        room: &Name,
        line: RoomLine,
        until: impl Fn(&Term) -> Option<Tick>,
    ) {
        let entry = self.rooms.entry(room.key());
        let entry = entry.or_insert_with(|| RoomEntry::new(room));
        entry.apply(line, until);
    }

    /// Returns whether the room has the maximum number of moderators and invited users.
    pub(super) fn is_full(&self, room: &Name) -> bool {
        let entry = self.rooms.get(&room.key());
        let known = entry.map_or(0, |entry| entry.moderators.len() + entry.invited.len());
        known >= limits::RULES_OF_A_ROOM
    }

    /// Adds the rooms from another book, which replace rooms with the same name.
    pub(super) fn overlay(&mut self, other: &RoomBook) {
        for (key, entry) in &other.rooms {
            self.rooms.insert(key.clone(), entry.clone());
        }
    }

    /// Records that a user may not return before `until`.
    pub(super) fn remove(&mut self, room: &Name, name: &Name, (now, until): (Tick, Tick)) {
        if let Some(entry) = self.rooms.get_mut(&room.key()) {
            entry.removed.retain(|(_, until)| *until > now);
            if entry.removed.len() >= limits::RULES_OF_A_ROOM {
                entry.removed.remove(0);
            }
            entry.removed.push((name.key(), until));
        }
    }

    /// Removes a deleted account from all rooms. Returns the lines to store.
    pub(super) fn lines_without(&self, name: &Name) -> Vec<PolicyLine> {
        let mut lines = Vec::new();
        for entry in self.rooms.values() {
            let line = |line| PolicyLine::Room(entry.name.clone(), line);
            if entry.rank(name).is_some() {
                lines.push(line(RoomLine::Moderator(name.clone(), false)));
            }
            if entry.invited.contains_key(&name.key()) {
                lines.push(line(RoomLine::Invited(name.clone(), false)));
            }
        }
        lines
    }

    /// The lines that recreate the kept rules.
    pub(super) fn lines(&self) -> Vec<PolicyLine> {
        let kept = self.rooms.values().filter(|entry| entry.is_kept());
        let lines = kept.flat_map(|entry| {
            let lines = entry.lines().into_iter();
            lines.map(|line| PolicyLine::Room(entry.name.clone(), line))
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn forever() -> Term {
        Term::new(None, None, "")
    }

    const USERS: [&str; 6] = ["first", "second", "guest", "other", "mod", "max"];

    fn is_server_moderator(name: &Name) -> bool {
        matches!(name.as_str(), "mod" | "max")
    }

    fn author(name: &Name) -> Author<'_> {
        match is_server_moderator(name) {
            true => Author::Moderator(name),
            false => Author::User(name),
        }
    }

    fn with(lines: Vec<RoomLine>) -> RoomBook {
        let mut book = RoomBook::default();
        book.opened(&name("lobby"), &name("first"), Tick(0));
        for line in lines {
            book.apply(&name("lobby"), line, |_| None);
        }
        book
    }

    /// A room that `first` created, with a second moderator and a guest, in every state.
    fn books() -> Vec<RoomBook> {
        let people = || {
            vec![
                RoomLine::Moderator(name("second"), true),
                RoomLine::Invited(name("guest"), true),
                RoomLine::Mute(name("other"), forever()),
            ]
        };
        let mut books = Vec::new();
        for access in [
            RoomLine::Open(None),
            RoomLine::Invite(None),
            RoomLine::Password("hash".to_owned(), None),
        ] {
            for moderated in [true, false] {
                let mut lines = vec![access.clone(), RoomLine::Moderated(moderated)];
                lines.extend(people());
                books.push(with(lines));
            }
        }
        books
    }

    #[test]
    fn the_order_of_moderators_decides_what_each_user_may_change() {
        for book in books() {
            for by in USERS.map(name) {
                for whom in USERS.map(name) {
                    for (rule, acts, demotes) in [
                        (RoomRule::Open, false, false),
                        (RoomRule::InviteOnly, false, false),
                        (RoomRule::Password("x".to_owned()), false, false),
                        (RoomRule::Moderated(true), false, false),
                        (RoomRule::Invite(whom.clone()), false, false),
                        (RoomRule::Moderator(whom.clone(), true), false, false),
                        (RoomRule::Moderator(whom.clone(), false), false, true),
                        (RoomRule::Mute(whom.clone(), None), true, false),
                        (RoomRule::Remove(whom.clone()), true, false),
                        (RoomRule::Unmute(whom.clone()), false, false),
                    ] {
                        let is_kept = book.rooms["lobby"].is_kept();
                        let ends_nothing = match &rule {
                            RoomRule::Moderator(_, false) => {
                                !matches!(whom.as_str(), "first" | "second")
                            }
                            RoomRule::Unmute(_) => whom.as_str() != "other",
                            _ => false,
                        };
                        let expected = match (by.as_str(), whom.as_str()) {
                            ("guest" | "other", _) => Err(RoomRefusal::NotAModerator),
                            ("second", "first") if acts || demotes => {
                                Err(RoomRefusal::AboutAModerator)
                            }
                            (by, "mod" | "max") if acts && by != whom.as_str() => {
                                Err(RoomRefusal::AboutAModerator)
                            }
                            _ if ends_nothing => Err(RoomRefusal::NoSuchRule),
                            ("first", "first") if demotes && is_kept => {
                                Err(RoomRefusal::FirstModerator)
                            }
                            _ => Ok(()),
                        };
                        let check =
                            |author| book.check(author, &name("lobby"), &rule, is_server_moderator);
                        assert_eq!(check(author(&by)), expected, "{by}: {rule}");
                        let operator = match ends_nothing {
                            true => Err(RoomRefusal::NoSuchRule),
                            false => Ok(()),
                        };
                        assert_eq!(check(Author::Operator), operator, "operator: {rule}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_user_joins_and_speaks_as_the_rules_allow() {
        for book in books() {
            let rules = book.rules(&name("lobby")).unwrap();
            for who in USERS {
                let user = name(who);
                let is_known = matches!(who, "first" | "second" | "guest" | "mod" | "max");
                let expected = match rules.access {
                    RoomAccess::Invite if !is_known => Entry::InviteOnly,
                    RoomAccess::Password if !is_known => Entry::Password("hash".to_owned()),
                    _ => Entry::Allowed,
                };
                let entry = book.entry(&name("lobby"), author(&user), Tick(0));
                assert_eq!(entry, expected, "{who}");
                let silence = book.silence(&name("lobby"), author(&user), Tick(0));
                let speaks = who != "other" && (!rules.moderated || who != "guest");
                assert_eq!(silence.is_none(), speaks, "{who}");
            }
            assert_eq!(
                book.entry(&name("den"), author(&name("other")), Tick(0)),
                Entry::Allowed
            );
        }
    }

    #[test]
    fn a_removed_user_returns_after_the_time_or_an_invitation() {
        let mut book = with(Vec::new());
        let (lobby, guest) = (name("lobby"), name("guest"));
        let entry = |book: &RoomBook, now| book.entry(&lobby, Author::User(&guest), Tick(now));
        book.remove(&lobby, &guest, (Tick(0), Tick(60)));
        assert_eq!(entry(&book, 59), Entry::Removed(Tick(60)));
        assert_eq!(entry(&book, 60), Entry::Allowed);
        book.apply(&lobby, RoomLine::Invited(guest.clone(), true), |_| None);
        assert_eq!(entry(&book, 0), Entry::Allowed);
    }

    #[test]
    fn the_rules_of_an_open_room_end_with_it_and_others_stay() {
        let lobby = name("lobby");
        let mut open = with(vec![RoomLine::Moderator(name("second"), true)]);
        assert!(open.lines().is_empty());
        open.ended(&lobby, Tick(0));
        assert_eq!(open.rules(&lobby), None);
        for rule in [
            RoomLine::Invite(None),
            RoomLine::Password("hash".to_owned(), None),
            RoomLine::Moderated(true),
            RoomLine::Mute(name("other"), forever()),
        ] {
            let mut kept = with(vec![rule]);
            kept.ended(&lobby, Tick(0));
            kept.opened(&lobby, &name("second"), Tick(0));
            assert_eq!(kept.rules(&lobby).unwrap().moderators, [name("first")]);
            assert_eq!(kept.lines().len(), 3);
        }
    }

    #[test]
    fn a_room_whose_mutes_have_expired_ends_with_its_rules() {
        let (lobby, second) = (name("lobby"), name("second"));
        for ends_in_time in [true, false] {
            let mut book = with(Vec::new());
            let mute = RoomLine::Mute(name("other"), forever());
            book.apply(&lobby, mute, |_| Some(Tick(5)));
            book.ended(&lobby, Tick(if ends_in_time { 5 } else { 4 }));
            assert_eq!(book.rules(&lobby).is_none(), ends_in_time);
            book.opened(&lobby, &second, Tick(5));
            let moderators = book.rules(&lobby).unwrap().moderators;
            assert_eq!(moderators.first(), Some(&second));
        }
    }

    #[test]
    fn a_room_that_the_operator_has_restricted_gets_no_moderator_by_itself() {
        for (rule, is_restricted) in [
            (RoomLine::Invite(None), true),
            (RoomLine::Password("hash".to_owned(), None), true),
            (RoomLine::Moderated(true), true),
            (RoomLine::Mute(name("other"), forever()), false),
        ] {
            let mut book = RoomBook::default();
            let lobby = name("lobby");
            book.apply(&lobby, rule, |_| None);
            book.opened(&lobby, &name("first"), Tick(0));
            let moderators = book.rules(&lobby).unwrap().moderators;
            assert_eq!(moderators.is_empty(), is_restricted);
        }
    }

    /// After a restart, a room has the rules from the last time that it was restricted, and none
    /// from before.
    #[test]
    fn rules_that_ended_do_not_return_with_the_next_ones() {
        let den = name("den");
        let mut stored: Vec<RoomLine> = Vec::new();
        let mut live = RoomBook::default();
        let mut change = |live: &mut RoomBook, line: RoomLine| {
            let lines = live.lines_for(&den, &line);
            stored.extend(lines.into_iter().map(|line| match line {
                PolicyLine::Room(_, line) => line,
                other => panic!("{other}"),
            }));
            live.apply(&den, line, |_| None);
        };
        live.opened(&den, &name("first"), Tick(0));
        change(&mut live, RoomLine::Invite(None));
        change(&mut live, RoomLine::Invited(name("guest"), true));
        change(&mut live, RoomLine::Open(None));
        live.ended(&den, Tick(0));
        live.opened(&den, &name("second"), Tick(0));
        change(&mut live, RoomLine::Moderator(name("other"), true));
        change(&mut live, RoomLine::Moderator(name("other"), false));
        change(&mut live, RoomLine::Invite(None));
        let mut read = RoomBook::default();
        for line in stored {
            read.apply(&den, line, |_| None);
        }
        assert_eq!(read.rules(&den), live.rules(&den));
        assert_eq!(read.rules(&den).unwrap().moderators, [name("second")]);
        for who in ["first", "guest", "other"] {
            let entry = read.entry(&den, Author::User(&name(who)), Tick(0));
            assert_eq!(entry, Entry::InviteOnly, "{who}");
        }
    }

    #[test]
    fn a_guest_who_knew_the_password_needs_an_invitation_afterwards() {
        let mut book = with(vec![
            RoomLine::Password("hash".to_owned(), None),
            RoomLine::Invited(name("guest"), true),
        ]);
        let (lobby, guest) = (name("lobby"), name("guest"));
        let entry = |book: &RoomBook| book.entry(&lobby, Author::User(&guest), Tick(0));
        assert_eq!(entry(&book), Entry::Allowed);
        book.apply(&lobby, RoomLine::Invite(None), |_| None);
        assert_eq!(entry(&book), Entry::InviteOnly);
        book.apply(&lobby, RoomLine::Invited(guest.clone(), true), |_| None);
        book.apply(&lobby, RoomLine::Invite(None), |_| None);
        assert_eq!(entry(&book), Entry::Allowed);
    }

    #[test]
    fn the_first_stored_rule_stores_the_earlier_ones_too() {
        let lobby = name("lobby");
        let mut book = with(Vec::new());
        let second = RoomLine::Moderator(name("second"), true);
        assert!(book.lines_for(&lobby, &second).is_empty());
        book.apply(&lobby, second, |_| None);
        let lines = book.lines_for(&lobby, &RoomLine::Invite(None));
        let mut read = RoomBook::default();
        for line in lines {
            let PolicyLine::Room(room, line) = line else {
                panic!("{line}");
            };
            read.apply(&room, line, |_| None);
        }
        let rules = read.rules(&lobby).unwrap();
        assert_eq!(rules.moderators, [name("first"), name("second")]);
        assert_eq!(rules.access, RoomAccess::Invite);
    }

    #[test]
    fn rooms_per_user_and_rules_per_room_are_limited() {
        let mut book = RoomBook::default();
        let first = name("first");
        for number in 0..=limits::ROOMS_WITH_RULES {
            let room = name(&format!("room{number}"));
            book.opened(&room, &first, Tick(0));
            let checked = book.check(Author::User(&first), &room, &RoomRule::InviteOnly, |_| {
                false
            });
            match number < limits::ROOMS_WITH_RULES {
                true => book.apply(&room, RoomLine::Invite(None), |_| None),
                false => assert_eq!(checked, Err(RoomRefusal::TooManyRooms)),
            }
        }
        let lobby = name("room0");
        let invite = |number| name(&format!("n{number}"));
        for number in 0..limits::RULES_OF_A_ROOM {
            book.apply(&lobby, RoomLine::Invited(invite(number), true), |_| None);
        }
        let one_more = RoomRule::Invite(invite(limits::RULES_OF_A_ROOM));
        let checked = book.check(Author::User(&first), &lobby, &one_more, |_| false);
        assert_eq!(checked, Err(RoomRefusal::TooMany));
        // Mutes have a limit of their own, or a popular room could not be kept in order.
        for number in 0..=limits::RULES_OF_A_ROOM {
            let rule = RoomRule::Mute(invite(number), None);
            let checked = book.check(Author::User(&first), &lobby, &rule, |_| false);
            match number < limits::RULES_OF_A_ROOM {
                true => assert_eq!(checked, Ok(())),
                false => assert_eq!(checked, Err(RoomRefusal::TooManyMutes)),
            }
            book.apply(&lobby, RoomLine::Mute(invite(number), forever()), |_| None);
        }
    }

    #[test]
    fn a_deleted_account_has_no_rights_in_any_room() {
        let mut book = with(vec![
            RoomLine::Invite(None),
            RoomLine::Invited(name("guest"), true),
        ]);
        for who in ["first", "guest"] {
            for line in book.lines_without(&name(who)) {
                let PolicyLine::Room(room, line) = line else {
                    panic!("{line}");
                };
                book.apply(&room, line, |_| None);
            }
            let entry = book.entry(&name("lobby"), Author::User(&name(who)), Tick(0));
            assert_eq!(entry, Entry::InviteOnly);
        }
    }
}
