//! What the clients of a chat say and hear, from rung 4 on.

use std::borrow::Cow;

use super::failure::{Failure, shown};
use super::program::Subject;
use super::talk::Talk;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Relay, Scope, ServerDoc};

/// `LOGIN` with that name.
pub(super) fn login(name: &str) -> ClientDoc<'static> {
    ClientDoc::Command(ClientCommand::Login {
        username: Cow::Owned(name.to_owned()),
    })
}

/// Where somebody is sent, and with which passcode.
pub(super) struct PortalTicket {
    pub(super) port: u16,
    pub(super) passcode: String,
}

/// What is said first at the port of a ticket.
pub(super) fn handshake(passcode: &str) -> ClientDoc<'_> {
    ClientDoc::Handshake {
        passcode: Cow::Borrowed(passcode),
        callback: None,
    }
}

/// `client` is told that its passcode is wrong, at a port of this `kind` ("room" or "worker"), and
/// that is the end.
///
/// # Errors
/// When something else happens.
pub(super) fn expect_rejected(client: &mut Talk, kind: &str) -> Result<(), Failure> {
    let wanted = format!(
        "<SERVER type='{kind}' port='…'><message>Wrong handshake passcode</message></SERVER>"
    );
    expect_doc(
        client,
        &wanted,
        |doc| matches!(doc, ServerDoc::WrongPasscode { room, .. } if room.is_some() == (kind == "room")),
    )?;
    client.end()
}

/// Somebody who is connected and greeted.
///
/// # Errors
/// When that does not come about.
pub(super) fn newcomer(subject: &Subject<'_>, who: &str) -> Result<Talk, Failure> {
    let mut client = subject.connect(who)?;
    let greeting =
        "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>";
    expect_doc(&mut client, greeting, |doc| {
        matches!(doc, ServerDoc::WelcomeSingle { .. })
    })?;
    Ok(client)
}

/// Somebody who has the name `name`, on a server without passwords.
///
/// # Errors
/// When that does not come about.
pub(super) fn named(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = newcomer(subject, name)?;
    client.send_doc(&login(name))?;
    is_welcome(&mut client, name)?;
    Ok(client)
}

/// `client` is told that it is logged in as `name`.
///
/// # Errors
/// When it is not.
pub(super) fn is_welcome(client: &mut Talk, name: &str) -> Result<(), Failure> {
    let welcome = format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>");
    expect_doc(
        client,
        &welcome,
        |doc| matches!(doc, ServerDoc::LoggedIn { username } if username == name),
    )
}

/// `client` gets a document that `is` something; `wanted` is what it would look like.
///
/// # Errors
/// When none comes.
pub(super) fn expect_doc(
    client: &mut Talk,
    wanted: &str,
    is: impl Fn(&ServerDoc<'_>) -> bool,
) -> Result<(), Failure> {
    client.document(wanted, |doc| is(doc).then_some(()))
}

/// `client` is told that its message has gone to so many people.
///
/// # Errors
/// When it is not.
pub(super) fn is_sent(client: &mut Talk, wanted: usize) -> Result<(), Failure> {
    let sent = format!("<SERVER><command>SENT</command><count>{wanted}</count></SERVER>");
    let count = client.document(&sent, |doc| match doc {
        ServerDoc::Sent { count } => Some(*count),
        _ => None,
    })?;
    match count == wanted {
        true => Ok(()),
        false => Err(client.failure(&sent).came(format!("a count of {count}"))),
    }
}

/// `client` gets the error `code`.
///
/// # Errors
/// When it does not.
pub(super) fn is_refused(client: &mut Talk, code: ErrorCode) -> Result<(), Failure> {
    let wanted = error(code);
    client.document(&wanted, |doc| match doc {
        ServerDoc::Error { code: given, .. } => (*given == code).then_some(()),
        _ => None,
    })
}

/// The error `code`, as it travels.
pub(super) fn error(code: ErrorCode) -> String {
    format!("<SERVER><error code='{}'>…</error></SERVER>", code.word())
}

/// The next that anybody says to `client` is this.
///
/// # Errors
/// When it is not.
pub(super) fn expect_message(
    client: &mut Talk,
    from: &str,
    text: &str,
    scope: &Scope<'_>,
) -> Result<(), Failure> {
    let (word, room) = match scope {
        Scope::Partner => ("", String::new()),
        Scope::Public => (" scope='public'", String::new()),
        Scope::Direct => (" scope='direct'", String::new()),
        Scope::Room(room) => (" scope='room'", format!(" room='{room}'")),
    };
    let wanted = format!(
        "<CLIENT from='{from}'{word}{room}><message>…</message></CLIENT>, with the text {text:?}"
    );
    let is_right = |relay: &Relay<'_>| {
        relay.from == from && relay.text == text && relay.scope.as_borrowed() == *scope
    };
    let other = client.document(&wanted, |doc| match doc {
        // What was said before it came.
        ServerDoc::Relay(relay) if relay.old => None,
        ServerDoc::Relay(relay) if is_right(relay) => Some(None),
        ServerDoc::Relay(relay) => {
            let text = shown(relay.text.as_bytes());
            let came = format!(
                "from '{}', {:?}, with the text {text}",
                relay.from, relay.scope
            );
            Some(Some(came))
        }
        _ => None,
    })?;
    match other {
        None => Ok(()),
        Some(came) => Err(client.failure(&wanted).came(came)),
    }
}
