//! Checks that the lines for all kinds of events stay the same.
#![cfg(test)]
#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use portal_backplane::ClusterEvent;
use portal_journal::JournalEvent;

use super::*;
use crate::clock::{Tick, Ticks};
use crate::net::Port;
use crate::seat::SeatNumber;
use crate::wire::{CloseReason, ErrorCode};

fn event(kind: impl EventKind) -> Event {
    Event {
        time: SystemTime::UNIX_EPOCH,
        thread: "worker-50001".to_owned(),
        ..Event::new(Tick(12), kind)
    }
}

/// One event of each kind, with and without its optional fields.
fn every() -> Vec<Event> {
    let port = Port::new(50001).unwrap();
    let other = Port::new(50002).unwrap();
    let peer: std::net::SocketAddr = "[2001:db8::1]:40000".parse().unwrap();
    let ticks = |count| {
        Ticks::covering(
            std::time::Duration::from_secs(count),
            std::time::Duration::from_secs(1),
        )
    };
    let name = || "alice".to_owned();
    let room = || "lobby".to_owned();
    let some = |text: &str| Some(text.to_owned());
    vec![
        event(ClusterEvent::ClusterLost {
            reason: "a reason".to_owned(),
        }),
        event(ClusterEvent::ClusterBack {}),
        event(ClusterEvent::ClusterServer {
            server: "two".to_owned(),
            lives: true,
            taken: 1,
            seats: 4,
            lag: 250,
        }),
        event(ClusterEvent::ClusterMissed {
            room: Some(room()),
            count: Some(3),
        }),
        event(ClusterEvent::ClusterMissed {
            room: None,
            count: None,
        }),
        event(JournalEvent::JournalOpen {
            file: "journal.db".to_owned(),
            bytes: 4096,
        }),
        event(JournalEvent::JournalFailing {
            file: "journal.db".to_owned(),
            reason: "a reason".to_owned(),
        }),
        event(JournalEvent::JournalWorks {
            file: "journal.db".to_owned(),
        }),
        event(JournalEvent::JournalDamaged {
            file: "journal.db".to_owned(),
            kept: "journal.db.damaged-1".to_owned(),
            reason: "a reason".to_owned(),
        }),
        event(JournalEvent::JournalOff {
            file: "journal.db".to_owned(),
            reason: "a reason".to_owned(),
            fix: "a fix".to_owned(),
        }),
        event(JournalEvent::JournalMissed { count: 3 }),
        event(CoreEvent::Started {
            ports: vec![port, other],
            period: 1,
            reserve: ticks(2),
            handshake: ticks(1),
            idle: 300,
            total: 0,
        }),
        event(CoreEvent::Listening {
            role: "workers",
            address: peer,
        }),
        event(CoreEvent::Ticket {
            port,
            asker: peer,
            passcode: some("abc"),
            via: None,
        }),
        event(CoreEvent::Ticket {
            port,
            asker: peer,
            passcode: None,
            via: Some("web"),
        }),
        event(CoreEvent::TicketResent { port, asker: peer }),
        event(CoreEvent::Full { asker: peer }),
        event(CoreEvent::NoShow { port }),
        event(CoreEvent::Arrived { port, peer }),
        event(EntranceEvent::Calling { port, peer }),
        event(EntranceEvent::TlsEstablished { port, peer }),
        event(EntranceEvent::TlsFailed {
            port,
            peer,
            error: "a reason".to_owned(),
        }),
        event(EntranceEvent::WrongProtocol {
            port,
            peer,
            protocol: "http".to_owned(),
        }),
        event(EntranceEvent::HttpRefused {
            port,
            peer,
            status: "403 Forbidden".to_owned(),
            reason: "a reason".to_owned(),
        }),
        event(CoreEvent::UnexpectedConnection { port, peer }),
        event(CoreEvent::WrongPasscode { port, peer }),
        event(CoreEvent::Seated {
            port,
            peer,
            via: None,
            seat: None,
        }),
        event(CoreEvent::Seated {
            port,
            peer,
            via: Some("web"),
            seat: None,
        }),
        event(CoreEvent::Seated {
            port,
            peer,
            via: None,
            seat: Some(2),
        }),
        event(SessionEvent::Relayed {
            from: Place::Port(port),
            to: Place::Port(other),
            bytes: 2,
            text: some("h\u{85}i"),
        }),
        event(SessionEvent::Relayed {
            from: Place::Port(port),
            to: Place::Port(other),
            bytes: 2,
            text: None,
        }),
        event(SessionEvent::Relayed {
            from: Place::Seat(SeatNumber::from_index(0)),
            to: Place::Seat(SeatNumber::from_index(1)),
            bytes: 2,
            text: None,
        }),
        event(SessionEvent::NoPartner {
            from: Place::Port(port),
        }),
        event(CoreEvent::PortsBusy {
            ports: vec![port, Port::new(50002).unwrap()],
            reason: "a reason",
        }),
        event(CoreEvent::PortReady { port }),
        event(SessionEvent::Registered { port, name: name() }),
        event(SessionEvent::LoggedIn { port, name: name() }),
        event(SessionEvent::PasswordChanged { port, name: name() }),
        event(SessionEvent::WrongPassword { port, name: name() }),
        event(SessionEvent::WrongToken { port, name: name() }),
        event(SessionEvent::LoggedOut { port, name: name() }),
        event(SessionEvent::Public {
            port,
            name: name(),
            count: 3,
            text: some("a \"b\"\\\n"),
        }),
        event(SessionEvent::Direct {
            port,
            name: name(),
            to: "bob".to_owned(),
            text: None,
        }),
        event(SessionEvent::NoSuchUser {
            port,
            name: name(),
            to: "bob".to_owned(),
        }),
        event(SessionEvent::RoomOpened { port, room: room() }),
        event(SessionEvent::RoomEnded { port, room: room() }),
        event(SessionEvent::RoomJoined {
            port,
            room: room(),
            name: name(),
        }),
        event(SessionEvent::RoomLeft {
            room: room(),
            name: name(),
            end: CloseReason::ClientIdleTimeout,
        }),
        event(SessionEvent::RoomSaid {
            port,
            room: room(),
            name: name(),
            count: 0,
            text: some("hi"),
        }),
        event(AccountEvent::DamagedAccount {
            file: "accounts.txt".to_owned(),
            line: 7,
            reason: "it is not UTF-8",
            fix: "delete it",
            name: Some(name()),
        }),
        event(PolicyEvent::DamagedPolicy {
            file: "policies.txt".to_owned(),
            line: 7,
            reason: "its code is incomplete",
            fix: "delete it",
        }),
        event(PolicyEvent::Moderator {
            name: name(),
            is_one: true,
        }),
        event(PolicyEvent::Invite { open: 2 }),
        event(SessionEvent::Kicked {
            name: name(),
            by: "(operator)".to_owned(),
            reason: "loud".to_owned(),
        }),
        event(SessionEvent::Banned {
            whom: "192.0.2.0/24".to_owned(),
            by: "bob".to_owned(),
            seconds: Some(600),
            reason: "loud".to_owned(),
        }),
        event(SessionEvent::Banned {
            whom: name(),
            by: "bob".to_owned(),
            seconds: None,
            reason: String::new(),
        }),
        event(SessionEvent::Unbanned {
            whom: name(),
            by: "bob".to_owned(),
        }),
        event(SessionEvent::Muted {
            name: name(),
            by: "bob".to_owned(),
            seconds: Some(600),
        }),
        event(SessionEvent::Unmuted {
            name: name(),
            by: "bob".to_owned(),
        }),
        event(SessionEvent::RoomRule {
            room: "lobby".to_owned(),
            by: "bob".to_owned(),
            rule: "invite-only".to_owned(),
        }),
        event(SessionEvent::Reported {
            name: name(),
            by: "bob".to_owned(),
            reason: "loud".to_owned(),
        }),
        event(CoreEvent::Rejected {
            peer,
            name: Some(name()),
            reason: "you are banned".to_owned(),
        }),
        event(CoreEvent::Rejected {
            peer,
            name: None,
            reason: "you are banned".to_owned(),
        }),
        event(CoreEvent::Refused {
            port,
            code: ErrorCode::BadName,
        }),
        event(CoreEvent::Closed {
            port,
            peer,
            end: CloseReason::TotalTimeout,
        }),
        event(CoreEvent::SeatFree {
            port,
            passcode: None,
        }),
        event(SessionEvent::Activity { port }),
        event(ServerEvent::Caption {
            text: "look".to_owned(),
            look: None,
        }),
        event(ServerEvent::Caption {
            text: "look".to_owned(),
            look: some("stack"),
        }),
        event(ServerEvent::ActEnded {}),
        event(ServerEvent::ThreadStarted { name: name() }),
        event(ServerEvent::ThreadEnded { name: name() }),
        event(CoreEvent::Panicked {
            message: "oops".to_owned(),
            place: "here:1:2".to_owned(),
        }),
        event(CoreEvent::Error {
            doing: "accept",
            error: "no".to_owned(),
            times: None,
        }),
        event(CoreEvent::Error {
            doing: "accept",
            error: "no".to_owned(),
            times: Some(12),
        }),
        event(CoreEvent::LinesMissing {
            count: 3,
            reason: "a reason".to_owned(),
        }),
        event(SocketCall {
            call: "bind",
            address: Some(peer),
            wanted: None,
            got: None,
            failed: None,
            bytes: None,
        }),
        event(SocketCall {
            call: "read",
            address: Some(peer),
            wanted: Some(10),
            got: Some(2),
            failed: None,
            bytes: some("\"hi\""),
        }),
        event(SocketCall {
            call: "write",
            address: None,
            wanted: Some(10),
            got: None,
            failed: some("no"),
            bytes: None,
        }),
        event(CoreEvent::Ticked { told: 3 }),
        event(CoreEvent::ShuttingDown { why: None }),
        event(CoreEvent::ShuttingDown {
            why: some("operator"),
        }),
    ]
}

/// Programs read event files, and older recordings must remain readable.
#[test]
fn the_lines_of_events_stay_the_same() {
    let lines = every().into_iter();
    let lines: Vec<String> = lines
        .flat_map(|event| [event.line(), to_json(&event)])
        .collect();
    assert_eq!(lines.join("\n"), include_str!("lines.txt").trim_end());
}
