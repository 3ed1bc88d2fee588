//! The commands for moderators, and `REPORT`.

use crate::at_worker::AtWorker;
use crate::limits;
use crate::policies::{Banned, Rule};
use crate::turn::Session;
use portal_core::clock::Tick;
use portal_core::service::Refusal;
use portal_wire::{ClientCommand, CloseReason, ErrorCode, Name, ServerDoc, printable, time};
use std::time::Duration;

impl Session<'_, AtWorker<'_>> {
    /// Executes a command that concerns the whole server, from a moderator, or `REPORT`.
    pub(crate) fn moderate(&mut self, who: &Name, command: &ClientCommand<'_>) {
        // Storing a rule may take a while.
        self.outgoing.send_answers();
        let done = match command {
            ClientCommand::Kick {
                room: None,
                username,
                reason,
            } => self.kick(who, username, reason),
            ClientCommand::Ban {
                username,
                duration,
                reason,
            } => self.ban(who, username, duration.as_deref(), reason),
            ClientCommand::Unban { username } => named(username).and_then(|name| {
                self.change(who, Rule::Unban(Banned::Name(name.clone())))?;
                Ok(format!("{name} is no longer banned"))
            }),
            ClientCommand::Mute {
                room: None,
                username,
                duration,
            } => self.mute(who, username, duration.as_deref()),
            ClientCommand::Unmute {
                room: None,
                username,
            } => named(username).and_then(|name| {
                self.change(who, Rule::Unmute(name.clone()))?;
                Ok(format!("{name} may send messages again"))
            }),
            ClientCommand::Report { username, reason } => self.report(who, username, reason),
            _ => return,
        };
        match done {
            Ok(text) => self.outgoing.answer(&ServerDoc::Notice(text.into())),
            Err(refusal) => self.outgoing.error(refusal.code, &refusal.sentence),
        }
    }

    fn change(&self, who: &Name, rule: Rule) -> Result<Vec<String>, Refusal> {
        self.state.change_rule(Some(who), rule)
    }

    fn kick(&self, who: &Name, whom: &str, reason: &str) -> Result<String, Refusal> {
        let label = self.state.remove(Some(who), whom, &one_line(reason))?;
        Ok(format!("{label} was disconnected"))
    }

    fn ban(
        &self,
        who: &Name,
        username: &str,
        duration: Option<&str>,
        reason: &str,
    ) -> Result<String, Refusal> {
        let (name, duration) = (named(username)?, read_duration(duration)?);
        let rule = Rule::Ban(Banned::Name(name.clone()), duration, one_line(reason));
        self.change(who, rule)?;
        Ok(format!("{name} is banned{}", until(duration)))
    }

    fn mute(&self, who: &Name, username: &str, duration: Option<&str>) -> Result<String, Refusal> {
        let (name, duration) = (named(username)?, read_duration(duration)?);
        self.change(who, Rule::Mute(name.clone(), duration))?;
        Ok(format!("{name} is muted{}", until(duration)))
    }

    /// Reports a user. A client may send one report every [`limits::REPORT_EVERY`] ticks, because
    /// every moderator gets each report.
    fn report(&mut self, who: &Name, whom: &str, reason: &str) -> Result<String, Refusal> {
        let now = self.state.clock.now();
        if let Some(Tick(before)) = self.role.reported_at
            && now.0 < before + limits::REPORT_EVERY
        {
            return Err(Refusal {
                code: ErrorCode::NotAllowed,
                sentence: format!(
                    "the limit is one report per {} ticks; try again later",
                    limits::REPORT_EVERY
                ),
            });
        }
        self.role.reported_at = Some(now);
        self.state.report(who, &one_line(whom), &one_line(reason));
        Ok("your report was sent to the operator and the moderators".to_owned())
    }

    /// Ends the session if the client is banned. It is called after the client has its name: a ban
    /// that is set at the same moment either finds the client or is found here.
    pub(crate) fn reject_if_name_banned(&mut self, name: &Name) -> Result<(), CloseReason> {
        let (peer, now) = (self.connection().peer, self.state.clock.now());
        let Some(refusal) = self.state.policies.refuse_name(name, peer.ip(), now) else {
            return Ok(());
        };
        let event = || portal_core::event::CoreEvent::Rejected {
            peer,
            name: Some(name.to_string()),
            reason: refusal.sentence.clone(),
        };
        self.state.events.emit(event);
        self.outgoing.answer(&refusal.doc());
        Err(CloseReason::Banned)
    }
}

pub(crate) fn named(username: &str) -> Result<Name, Refusal> {
    let name = Name::new(username).filter(Name::is_for_a_person);
    name.ok_or_else(|| Refusal {
        code: ErrorCode::BadName,
        sentence: format!("{} is not a valid username", printable(username)),
    })
}

pub(crate) fn read_duration(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    time::read_duration(text).map(Some).ok_or_else(|| Refusal {
        code: ErrorCode::BadDuration,
        sentence: format!(
            "{} is not a duration; write a number with a unit, such as 30s, 10m, 2h or 7d",
            printable(text)
        ),
    })
}

pub(crate) fn until(duration: Option<Duration>) -> String {
    duration.map_or(String::new(), |duration| {
        format!(" for {}", time::duration_in_words(duration))
    })
}

/// Replaces the control characters in `text` and limits its length, so that it is safe in a file
/// and for other users.
pub(crate) fn one_line(text: &str) -> String {
    let text = printable(text.trim());
    let end = text.floor_char_boundary(limits::MAX_REASON_BYTES);
    text[..end].to_owned()
}
