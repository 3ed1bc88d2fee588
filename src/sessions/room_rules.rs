//! The commands for a room's moderators, and the checks that apply to a room's members.

use crate::at_worker::AtWorker;
use crate::in_room::InRoom;
use crate::moderate::{named, one_line, read_duration, until};
use crate::moderation::after_removal;
use crate::policies::RoomRule;
use crate::turn::Session;
use portal_core::service::Refusal;
use portal_wire::{ClientCommand, CloseReason, ErrorCode, Name, RoomAccess, Secret, ServerDoc};

impl Session<'_, InRoom<'_>> {
    /// Returns whether the member's messages are refused in its room, and answers if so.
    pub(crate) fn is_refused_here(&mut self) -> bool {
        if !self.state.policies.may_refuse_messages() {
            return false;
        }
        let room = self.role.name;
        // Use the name of the main connection: no two users in a room have the same name.
        let name = self.role.main.name();
        name.is_some_and(|name| self.is_refused_in(room, &name))
    }
}

impl Session<'_, AtWorker<'_>> {
    /// Executes a command that concerns one room and its rules.
    pub(crate) fn room_rules(&mut self, who: &Name, command: &ClientCommand<'_>) {
        // Storing a rule may take a while.
        self.outgoing.send_answers();
        let done = match command {
            ClientCommand::Room { room, .. } => match rule_of(command) {
                Ok(None) => self.show_rules(room).map(|()| None),
                Ok(Some(rule)) => self
                    .change_room(who, room, &rule, "")
                    .map(|_| done(&rule, room)),
                Err(refusal) => Err(refusal),
            },
            ClientCommand::Invite { room, username } => self.invite(who, room, username).map(Some),
            ClientCommand::Kick {
                room: Some(room),
                username,
                reason,
            } => named(username).and_then(|name| {
                let rule = RoomRule::Remove(name.clone());
                let was_there = self.change_room(who, room, &rule, reason)?;
                Ok(Some(after_removal(&name, room, was_there)))
            }),
            ClientCommand::Mute {
                room: Some(room),
                username,
                duration,
            } => named(username).and_then(|name| {
                let duration = read_duration(duration.as_deref())?;
                self.change_room(who, room, &RoomRule::Mute(name.clone(), duration), "")?;
                let until = until(duration);
                Ok(Some(format!("{name} is muted in {room}{until}")))
            }),
            ClientCommand::Unmute {
                room: Some(room),
                username,
            } => named(username).and_then(|name| {
                self.change_room(who, room, &RoomRule::Unmute(name.clone()), "")?;
                Ok(Some(format!("{name} may send messages to {room} again")))
            }),
            _ => return,
        };
        match done {
            Ok(Some(text)) => self.outgoing.answer(&ServerDoc::Notice(text.into())),
            Ok(None) => {}
            Err(refusal) => self.outgoing.error(refusal.code, &refusal.sentence),
        }
    }

    /// Answers with a room's rules.
    fn show_rules(&mut self, room: &str) -> Result<(), Refusal> {
        let rules = Name::new(room).and_then(|room| self.state.policies.room(&room));
        let rules = rules.ok_or_else(no_such_room)?;
        self.outgoing.answer(&rules.doc());
        Ok(())
    }

    fn change_room(
        &mut self,
        who: &Name,
        room: &str,
        rule: &RoomRule,
        reason: &str,
    ) -> Result<bool, Refusal> {
        let room = Name::new(room).ok_or_else(no_such_room)?;
        if !self.role.room_changes.has_tokens(self.state.clock.now()) {
            return Err(Refusal {
                code: ErrorCode::NotAllowed,
                sentence: "you have changed room rules too often; try again later".to_owned(),
            });
        }
        self.role.room_changes.spend(1);
        // The user's earlier messages must arrive before the change.
        self.outgoing.wait_for_pending();
        self.state
            .change_room(Some(who), &room, rule, &one_line(reason))
    }

    /// Invites a user. In an open room every member may do that, because it changes no rule.
    fn invite(&mut self, who: &Name, room: &str, username: &str) -> Result<String, Refusal> {
        let name = named(username)?;
        let room_name = Name::new(room).ok_or_else(no_such_room)?;
        let rules = self.state.policies.room(&room_name);
        if rules.is_some_and(|rules| rules.access != RoomAccess::Open) {
            self.change_room(who, room, &RoomRule::Invite(name.clone()), "")?;
            return Ok(format!("{name} may join {room}"));
        }
        let (rooms, main) = (&self.state.rooms, self.connection());
        let spelled = rooms.with(|rooms| rooms.name_for(&room_name, main));
        let spelled = spelled.map_err(|_| Refusal {
            code: ErrorCode::NotAMember,
            sentence: format!("you are not in {room}; JOIN joins it"),
        })?;
        let Some(there) = self.state.users.find(&name) else {
            return Err(Refusal {
                code: ErrorCode::NoSuchUser,
                sentence: format!("no user named {name} is logged in on this server"),
            });
        };
        there.outbox.send_doc(&ServerDoc::Invited {
            room: spelled.as_str().into(),
            username: who.as_str().into(),
        });
        Ok(format!("{name} received your invitation to {room}"))
    }

    /// Leaves a room from which a moderator has removed the user while the user was joining.
    ///
    /// A moderator's removal is stored before the member is looked up, and this function looks for
    /// the removal after the member has entered. So one of the two always finds the other.
    pub(crate) fn leave_if_removed(&mut self, room: &Name, who: &Name) {
        let (state, now) = (self.state, self.state.clock.now());
        let Err(refusal) = state.policies.may_join(room, who, None, now) else {
            return;
        };
        // Any other refusal has no effect on a member.
        if refusal.code == ErrorCode::NotAllowed
            && state.rooms.leave(room, self.connection()).is_ok()
        {
            self.outgoing.answer(&ServerDoc::Left {
                room: room.as_str().into(),
                by: None,
                reason: Some(refusal.sentence.as_str().into()),
            });
            self.outgoing
                .answer(&ServerDoc::Notice(refusal.sentence.into()));
        }
    }

    /// Checks whether the user may join a room; otherwise answers. After wrong passwords, the same
    /// user's next check is delayed, as for a login.
    ///
    /// # Errors
    /// The reason why the session ends.
    pub(crate) fn may_join(
        &mut self,
        room: &Name,
        who: &Name,
        password: Option<&str>,
    ) -> Result<bool, CloseReason> {
        let (guesses, address) = (&self.state.logins.room_guesses, self.connection().peer.ip());
        if password.is_some() {
            self.outgoing.send_answers();
            self.wait_for_slot(guesses, who)?;
        }
        let now = self.state.clock.now();
        let Err(refusal) = self.state.policies.may_join(room, who, password, now) else {
            // Keep the delay: the room may not require a password at all.
            return Ok(true);
        };
        if password.is_some() && refusal.code == ErrorCode::RoomPassword {
            guesses.wrong(address, who, now);
        }
        self.outgoing.error(refusal.code, &refusal.sentence);
        Ok(false)
    }
}

/// Returns the change that a `ROOM` command requests, or `None` if it requests the rules.
fn rule_of(command: &ClientCommand<'_>) -> Result<Option<RoomRule>, Refusal> {
    let ClientCommand::Room {
        access,
        password,
        moderated,
        moderator,
        remove,
        ..
    } = command
    else {
        return Ok(None);
    };
    let access = access.as_deref().map(str::trim);
    let rule = match (access, moderated.as_deref(), moderator.as_deref()) {
        (None, None, None) => return Ok(None),
        (Some(word), None, None) => match (RoomAccess::from_word(word), password) {
            (Some(RoomAccess::Open), None) => RoomRule::Open,
            (Some(RoomAccess::Invite), None) => RoomRule::InviteOnly,
            (Some(RoomAccess::Password), Some(Secret(password))) => {
                RoomRule::Password(password.to_string())
            }
            _ => {
                return Err(bad_rule(
                    "<access> must be open, invite, or password with a <password>",
                ));
            }
        },
        (None, Some(word), None) => match word.trim() {
            "yes" => RoomRule::Moderated(true),
            "no" => RoomRule::Moderated(false),
            _ => return Err(bad_rule("<moderated> must be yes or no")),
        },
        (None, None, Some(username)) => RoomRule::Moderator(named(username.trim())?, !remove),
        _ => return Err(bad_rule("change only one rule of a room at a time")),
    };
    Ok(Some(rule))
}

/// The answer to a change, in addition to the room's rules that every member gets.
fn done(rule: &RoomRule, room: &str) -> Option<String> {
    Some(match rule {
        RoomRule::Open => format!("every user may join {room}"),
        RoomRule::InviteOnly => format!("only invited users may join {room}"),
        RoomRule::Password(_) => format!("users need the password to join {room}"),
        RoomRule::Moderated(true) => format!("only moderators may send messages to {room}"),
        RoomRule::Moderated(false) => format!("every member may send messages to {room}"),
        RoomRule::Moderator(name, true) => format!("{name} is a moderator of {room}"),
        RoomRule::Moderator(name, false) => format!("{name} is no longer a moderator of {room}"),
        _ => return None,
    })
}

fn bad_rule(sentence: &str) -> Refusal {
    Refusal {
        code: ErrorCode::BadRule,
        sentence: sentence.to_owned(),
    }
}

fn no_such_room() -> Refusal {
    Refusal {
        code: ErrorCode::NoSuchRoom,
        sentence: "there is no such room; ROOMS lists the rooms".to_owned(),
    }
}
