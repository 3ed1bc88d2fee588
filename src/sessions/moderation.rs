//! Moderation: the operator and the moderators remove, ban and mute clients.
//!
//! A rule is stored before the clients that it covers are looked up, and a client looks up the
//! rules after it is registered. A client that arrives at the same moment therefore can't slip
//! through.

use std::net::IpAddr;
use std::sync::Arc;

use portal_net::host_of;
use portal_wire::{CloseReason, ErrorCode, Name, ServerDoc};

use crate::chat::{Connection, flush_all};
use crate::event::SessionEvent;
use crate::policies::{Banned, Change, RoomRule, Rule};
use crate::state::ChatState;
use portal_core::event::Place;
use portal_core::seats::SharedSeat;
use portal_core::service::Refusal;

/// The value of `by` in an event about an action by the operator. It is not a valid name.
const OPERATOR: &str = "(operator)";

fn shown(by: Option<&Name>) -> String {
    by.map_or(OPERATOR.to_owned(), Name::to_string)
}

impl ChatState {
    /// Disconnects the client with this name, or in the seat with this port, and sends it `reason`.
    /// The client may not return for a minute. Returns its label.
    ///
    /// # Errors
    /// [`Refusal`] if there is no such client, or a moderator may not remove it.
    pub fn remove(&self, by: Option<&Name>, whom: &str, reason: &str) -> Result<String, Refusal> {
        let there = self.find(whom).ok_or_else(|| not_here(whom))?;
        self.may_act_on(by, there.name().as_ref())?;
        let label = there.label().to_string();
        let name = there.name();
        if there.outbox.has_ended() {
            return Err(not_here(whom));
        }
        // Emit this before the event for the end of the session.
        self.events.emit(|| SessionEvent::Kicked {
            name: label.clone(),
            by: shown(by),
            reason: reason.to_owned(),
        });
        // End the session first: otherwise a client that is logging in is rejected without the
        // reason.
        end(&there, by, reason);
        // All clients behind a router share one address, so a client without a name is barred by
        // its address only if no other client uses that address.
        if name.is_some() || self.is_alone_at(there.peer.ip(), &there) {
            let now = self.clock.now();
            self.policies.removed(name.as_ref(), there.peer.ip(), now);
        }
        Ok(label)
    }

    /// Stores a rule, emits an event, and disconnects the clients that a ban covers. Returns their
    /// labels.
    ///
    /// # Errors
    /// [`Refusal`] if a moderator may not do that, or the rule can't be stored.
    pub fn change_rule(&self, by: Option<&Name>, rule: Rule) -> Result<Vec<String>, Refusal> {
        match &rule {
            Rule::Ban(Banned::Name(name), ..) | Rule::Mute(name, _) => {
                self.may_act_on(by, Some(name))?;
            }
            Rule::Ban(Banned::Network(_), ..) | Rule::Unban(_) | Rule::Unmute(_) => {
                self.may_act_on(by, None)?;
            }
        }
        let now = self.clock.now();
        let change = Change { by, rule };
        self.policies.change(&change, now)?;
        let (by_text, rule) = (shown(by), change.rule);
        let event = match rule.clone() {
            Rule::Ban(whom, duration, reason) => SessionEvent::Banned {
                whom: whom.to_string(),
                by: by_text,
                seconds: duration.map(|duration| duration.as_secs()),
                reason,
            },
            Rule::Unban(whom) => SessionEvent::Unbanned {
                whom: whom.to_string(),
                by: by_text,
            },
            Rule::Mute(name, duration) => SessionEvent::Muted {
                name: name.to_string(),
                by: by_text,
                seconds: duration.map(|duration| duration.as_secs()),
            },
            Rule::Unmute(name) => SessionEvent::Unmuted {
                name: name.to_string(),
                by: by_text,
            },
        };
        self.events.emit(|| event);
        if let Rule::Ban(Banned::Name(name), ..) = &rule
            && let Err(refusal) = self.logins.tokens.end_all(name)
        {
            self.events
                .emit_failure("revoke a banned user's session tokens", refusal.sentence);
        }
        let Rule::Ban(whom, ..) = &rule else {
            return Ok(Vec::new());
        };
        let ended = self.covered(whom).into_iter().filter(|there| {
            let refusal = match whom {
                Banned::Name(name) => self.policies.refuse_name(name, there.peer.ip(), now),
                Banned::Network(_) => self.policies.refuse_address(there.peer.ip(), now),
            };
            refusal.is_some_and(|refusal| end(there, by, &refusal.sentence))
        });
        Ok(ended.map(|there| there.label().to_string()).collect())
    }

    /// Changes a rule of a room, emits an event, and notifies the room's members or the user that
    /// the rule concerns. For a removal, returns whether the user was in the room.
    ///
    /// # Errors
    /// [`Refusal`] if the user `by` may not do that, or the rule can't be stored.
    pub fn change_room(
        &self,
        by: Option<&Name>,
        room: &Name,
        rule: &RoomRule,
        reason: &str,
    ) -> Result<bool, Refusal> {
        let now = self.clock.now();
        self.policies.change_room(by, room, rule, now)?;
        self.events.emit(|| SessionEvent::RoomRule {
            room: room.to_string(),
            by: shown(by),
            rule: rule.to_string(),
        });
        if rule.is_public()
            && let Some(rules) = self.policies.room(room)
        {
            flush_all(&self.rooms.with(|rooms| rooms.announce(room, &rules.doc())));
        }
        let (RoomRule::Invite(name) | RoomRule::Remove(name)) = rule else {
            return Ok(true);
        };
        let Some(there) = self.users.find(name) else {
            return Ok(false);
        };
        let by = by.map_or(OPERATOR.into(), |by| by.as_str().into());
        let doc = match rule {
            RoomRule::Invite(_) => ServerDoc::Invited {
                room: room.as_str().into(),
                username: by,
            },
            // The user is not in the room.
            _ if self.rooms.leave(room, &there).is_err() => return Ok(false),
            _ => ServerDoc::Left {
                room: room.as_str().into(),
                by: Some(by),
                reason: Some(reason)
                    .filter(|reason| !reason.is_empty())
                    .map(Into::into),
            },
        };
        there.outbox.send_doc(&doc);
        Ok(true)
    }

    /// Emits a report about a user, and sends it to the moderators that are logged in.
    pub fn report(&self, by: &Name, whom: &str, reason: &str) {
        self.events.emit(|| SessionEvent::Reported {
            name: whom.to_owned(),
            by: by.to_string(),
            reason: reason.to_owned(),
        });
        let text = format!("{by} reported {whom}: {reason}");
        let notice = ServerDoc::Notice(text.into());
        for (session, name) in self.users.sessions() {
            if self.policies.is_moderator(&name)
                && let Some(moderator) = self.users.with_session(session)
            {
                moderator.outbox.send_doc(&notice);
            }
        }
    }

    /// The connected clients that a ban covers, welcomed or not.
    pub fn covered(&self, whom: &Banned) -> Vec<Arc<Connection>> {
        match whom {
            Banned::Name(name) => self.users.find(name).into_iter().collect(),
            Banned::Network(network) => {
                let connections = self.seats.all().iter().filter_map(|seat| seat.connection());
                connections
                    .filter(|there| network.contains(there.peer.ip()))
                    .collect()
            }
        }
    }

    /// Returns whether `client` is the only one with its address.
    fn is_alone_at(&self, address: IpAddr, client: &Arc<Connection>) -> bool {
        let host = host_of(address);
        let mut others = self.seats.all().iter().filter_map(SharedSeat::connection);
        !others.any(|there| !Arc::ptr_eq(&there, client) && host_of(there.peer.ip()) == host)
    }

    /// The client in the seat with this port, or with this label. The port takes precedence,
    /// because a client may have chosen another client's port as its name.
    fn find(&self, whom: &str) -> Option<Arc<Connection>> {
        let connection = |seat: &SharedSeat| self.pairs.connection(seat.number);
        let is_port = |seat: &&SharedSeat| match self.seats.place(seat.number) {
            Place::Port(port) => port.to_string() == whom,
            Place::Seat(_) => false,
        };
        let mut seats = self.seats.all().iter();
        let by_port = seats.find(is_port).and_then(connection);
        by_port.or_else(|| {
            let mut clients = self.seats.all().iter().filter_map(connection);
            clients.find(|there| there.label().eq_ignore_ascii_case(whom))
        })
    }

    /// Checks whether `by` may act on a user. Only the operator may act on moderators.
    fn may_act_on(&self, by: Option<&Name>, whom: Option<&Name>) -> Result<(), Refusal> {
        let Some(by) = by else { return Ok(()) };
        let refuse = |sentence: String| Refusal {
            code: ErrorCode::NotAllowed,
            sentence,
        };
        if !self.policies.is_moderator(by) {
            let sentence = "only moderators can use this command; REPORT reports a user to them";
            return Err(refuse(sentence.to_owned()));
        }
        match whom {
            Some(whom) if self.policies.is_moderator(whom) => Err(refuse(format!(
                "{whom} is a moderator; only the operator can do that"
            ))),
            _ => Ok(()),
        }
    }
}

/// The answer to a removal from a room.
pub fn after_removal(user: &Name, room: &str, was_there: bool) -> String {
    match was_there {
        true => format!("{user} was removed from {room}"),
        false => format!("{user} is not in {room}, and can't join it for a minute"),
    }
}

/// Ends a session with the farewell `KICKED`. Returns false if it had already ended.
fn end(connection: &Connection, by: Option<&Name>, reason: &str) -> bool {
    let farewell = ServerDoc::Kicked {
        reason: reason.into(),
        by: by.map(|by| by.as_str().into()),
    };
    let outbox = &connection.outbox;
    outbox.end_saying(CloseReason::Kicked, Some(&farewell))
}

fn not_here(whom: &str) -> Refusal {
    Refusal {
        code: ErrorCode::NoSuchUser,
        sentence: format!("no client on this server is named {whom}; WHO lists the users"),
    }
}
