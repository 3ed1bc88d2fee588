//! Steps shared by the checks from rung 4 on: what a chat client sends and expects.

use std::borrow::Cow;

use super::failure::{Failure, Symptom, shown};
use super::program::Subject;
use super::talk::Talk;
use portal_wire::{ClientCommand, ClientDoc, ErrorCode, Relay, Scope, ServerDoc};

/// The greeting of a server with a single port.
pub(super) const GREETING: &str =
    "<SERVER type='single' seat='1'><message>Connection successful</message></SERVER>";

/// A `LOGIN` command for `name`.
pub(super) fn login(name: &str) -> ClientDoc<'static> {
    ClientDoc::Command(ClientCommand::Login {
        username: Cow::Owned(name.to_owned()),
    })
}

/// The port and the passcode that a portal or a room has assigned.
pub(super) struct PortalTicket {
    pub(super) port: u16,
    pub(super) passcode: String,
}

/// The handshake: the first document sent on a ticket's port.
pub(super) fn handshake(passcode: &str) -> ClientDoc<'_> {
    ClientDoc::Handshake {
        passcode: Cow::Borrowed(passcode),
        callback: None,
    }
}

/// Expects the passcode to be rejected at a port of this `kind` ("room" or "worker"), and the
/// connection to be closed.
///
/// # Errors
/// Anything else happened.
pub(super) fn expect_rejected(client: &mut Talk, kind: &str) -> Result<(), Failure> {
    let expected = format!(
        "<SERVER type='{kind}' port='…'><message>Wrong handshake passcode</message></SERVER>"
    );
    expect_doc(
        client,
        &expected,
        |doc| matches!(doc, ServerDoc::WrongPasscode { room, .. } if room.is_some() == (kind == "room")),
    )
    .map_err(|failure| {
        failure.hint(
            Symptom::Silence,
            "The operating system has accepted the connection, but your program has neither read \
             from it nor answered. Is a thread blocked in accept() at that port even while no \
             client is expected there?",
        )
    })?;
    client.end()
}

/// The number of passcodes that are compared, the minimum length of a passcode in characters, and
/// the minimum range of numeric passcodes.
pub(super) const PASSCODES: usize = 24;
const SHORTEST_PASSCODE: usize = 6;
const NUMERIC_RANGE: u128 = 1_000_000;

/// Expects no pattern in the passcodes `seen`, which a server has assigned, in this order, after
/// `sent`.
///
/// # Errors
/// One of them is short, occurs twice, or is close to another one.
pub(super) fn expect_unpredictable(seen: &[String], sent: &str) -> Result<(), Failure> {
    let wrong = |received: String| {
        let expected = "passcodes that can't be guessed";
        Err(Failure::expected(expected).sent(sent).received(received))
    };
    if let Some(short) = seen.iter().find(|code| code.len() < SHORTEST_PASSCODE) {
        return wrong(format!(
            "{short:?}, which is shorter than {SHORTEST_PASSCODE} characters"
        ));
    }
    let mut sorted = seen.to_vec();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("{:?} twice", pair[0]));
    }
    // A counter or a clock yields numbers in a small range, decimal or hexadecimal.
    for radix in [10, 16] {
        let numbers: Result<Vec<u128>, _> = seen
            .iter()
            .map(|code| u128::from_str_radix(code, radix))
            .collect();
        let Ok(numbers) = numbers else {
            continue;
        };
        let (least, most) = (numbers.iter().min(), numbers.iter().max());
        if let (Some(least), Some(most)) = (least, most)
            && most - least < NUMERIC_RANGE
        {
            let first: Vec<&str> = seen.iter().take(4).map(String::as_str).collect();
            return wrong(format!(
                "{}, …: numbers in a range of fewer than {NUMERIC_RANGE}",
                first.join(", ")
            ));
        }
    }
    Ok(())
}

/// Connects a client and expects the greeting.
///
/// # Errors
/// The server did something else.
pub(super) fn connect_client(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = subject.connect(name)?;
    expect_doc(&mut client, GREETING, |doc| {
        matches!(doc, ServerDoc::WelcomeSingle { .. })
    })?;
    Ok(client)
}

/// Connects a client and logs in as `name`, on a server without passwords.
///
/// # Errors
/// The server did something else.
pub(super) fn connect_as(subject: &Subject<'_>, name: &str) -> Result<Talk, Failure> {
    let mut client = connect_client(subject, name)?;
    client.send_doc(&login(name))?;
    expect_welcome(&mut client, name)?;
    Ok(client)
}

/// Expects `client` to be logged in as `name`.
///
/// # Errors
/// The server sent something else.
pub(super) fn expect_welcome(client: &mut Talk, name: &str) -> Result<(), Failure> {
    let welcome = format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>");
    expect_doc(
        client,
        &welcome,
        |doc| matches!(doc, ServerDoc::LoggedIn { username, .. } if username == name),
    )
}

/// Expects a document for which `is` returns `true`; `expected` describes it.
///
/// # Errors
/// None arrived in time.
pub(super) fn expect_doc(
    client: &mut Talk,
    expected: &str,
    is: impl Fn(&ServerDoc<'_>) -> bool,
) -> Result<(), Failure> {
    client.document(expected, |doc| is(doc).then_some(()))
}

/// Expects SENT with the number of recipients.
///
/// # Errors
/// The server sent something else.
pub(super) fn expect_sent(client: &mut Talk, expected: usize) -> Result<(), Failure> {
    let sent = format!("<SERVER><command>SENT</command><count>{expected}</count></SERVER>");
    let count = client.document(&sent, |doc| match doc {
        ServerDoc::Sent { count } => Some(*count),
        _ => None,
    })?;
    match count == expected {
        true => Ok(()),
        false => Err(client
            .failure(&sent)
            .received(format!("a count of {count}"))),
    }
}

/// Expects the error `code`.
///
/// # Errors
/// The server sent something else.
pub(super) fn expect_error(client: &mut Talk, code: ErrorCode) -> Result<(), Failure> {
    let expected = error(code);
    client.document(&expected, |doc| match doc {
        ServerDoc::Error { code: given, .. } => (*given == code).then_some(()),
        _ => None,
    })
}

/// The error `code` as a document.
pub(super) fn error(code: ErrorCode) -> String {
    format!("<SERVER><error code='{}'>…</error></SERVER>", code.word())
}

/// Expects this to be the next message that `client` receives.
///
/// # Errors
/// The server sent something else.
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
    let expected = format!(
        "<CLIENT from='{from}'{word}{room}><message>…</message></CLIENT>, with the text {text:?}"
    );
    let is_right = |relay: &Relay<'_>| {
        relay.from == from && relay.text == text && relay.scope.as_borrowed() == *scope
    };
    let other = client.document(&expected, |doc| match doc {
        // A message from the room's history.
        ServerDoc::Relay(relay) if relay.old => None,
        ServerDoc::Relay(relay) if is_right(relay) => Some(None),
        ServerDoc::Relay(relay) => {
            let text = shown(relay.text.as_bytes());
            let received = format!(
                "from '{}', {:?}, with the text {text}",
                relay.from, relay.scope
            );
            Some(Some(received))
        }
        _ => None,
    })?;
    match other {
        None => Ok(()),
        Some(received) => Err(client.failure(&expected).received(received)),
    }
}
