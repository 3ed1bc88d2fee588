//! Rung 4: clients that address each other (seed 003).
//!
//! A client logs in with a name and writes `%bob%hello` to bob. Every line is a small XML document.
//! All threads share one table, from names to connections. The thread that has read alice's message
//! finds bob in the table and writes to his connection itself.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use roxmltree::Document;

/// The longest line in bytes, without its line feed and without a `\r` before that.
const MAX_LINE: u64 = 8192;
/// The time for which a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_millis(50);

/// The answer to a message that was written to its recipient's connection.
const SENT: &str = "<SERVER><command>SENT</command><count>1</count></SERVER>";

/// A connection that several threads write to, each only while it holds the lock. So documents do
/// not mix. `Arc` counts the owners. The connection is closed when all owners have dropped their
/// `Client` and its reader has also been dropped.
type Client = Arc<Mutex<TcpStream>>;
/// The table of the clients that have logged in, by name.
type Names = Mutex<HashMap<String, Client>>;

/// Accepts clients and starts a thread for each, until the program is terminated. An error that
/// `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    // Word 0 of the command line is the program's name. Without word 1, `?` returns the error from
    // `main`.
    let port = env::args().nth(1).ok_or("usage: rung-4 PORT")?;
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    let names = Arc::new(Names::default());
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty. `zip` pairs each connection with the next number.
    for (stream, seat) in listener.incoming().zip(1..) {
        // One more owner of the same table, not a copy of it.
        let names = Arc::clone(&names);
        // `and_then` starts a thread if `accept` has not failed. `move` makes the new thread the
        // owner of the stream and of its `Arc`. A thread may outlive the function that started it,
        // so it must not borrow that function's variables (`'static`). `thread::spawn` would panic,
        // and so stop the server, if the system could not create another thread; `Builder` returns
        // an error instead.
        let started = stream
            .and_then(|stream| thread::Builder::new().spawn(move || visit(stream, seat, &names)));
        // If the thread was started, its handle is dropped here. The thread continues without the
        // handle, but its result is lost. That is intended: a broken connection ends one visit, and
        // no other thread needs to know.
        if let Err(error) = started {
            eprintln!("cannot serve a client: {error}");
            // The usual reason is that the system has no file descriptor or no thread left. Trying
            // again immediately would fail again, and keep the processor busy. A pause gives
            // clients time to leave.
            thread::sleep(Duration::from_millis(100));
        }
    }
    // The loop above never ends, but the compiler does not know that.
    Ok(())
}

/// Serves one client. Its number is the *seat* in its greeting.
fn visit(stream: TcpStream, seat: u32, names: &Names) -> io::Result<()> {
    // Without this, a write to a client that does not read would wait forever.
    stream.set_write_timeout(Some(WRITE))?;
    // A second handle for the same connection. If reading needed the lock, too, no other thread
    // could write to this client while this one waits for its next line.
    let mut reader = BufReader::new(stream.try_clone()?);
    let client = Arc::new(Mutex::new(stream));
    let mut name = None;
    let greeting = format!(
        "<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"
    );
    tell(&client, &greeting);
    // In other seeds, two neighbouring seats are partners, and a client is notified whether it has
    // a partner. The project's own chat client waits for that notification before it lets its user
    // type.
    tell(&client, "<SERVER><command>NO PARTNER</command></SERVER>");
    while let Some(line) = next_line(&mut reader) {
        let answer = answer(&line, &client, &mut name, names);
        tell(&client, &answer);
    }
    // Every visit leads here, however it ends. (Only a panic would not.) If the client stayed in
    // the table, no other client could ever have its name. `ptr_eq`: are both the same connection?
    lock(names).retain(|_, other| !Arc::ptr_eq(other, &client));
    Ok(())
}

/// Writes one document to a client. Returns whether it was written.
///
/// Data that a client has not read yet waits in the system's buffers. When they are full, a write
/// waits for the client, and fails after `WRITE`. Then part of the document may have been written,
/// and nothing may follow it. So the connection is closed: the shutdown wakes its reading thread,
/// which sees the end of the stream. (`let _ =` ignores the result: the connection may have been
/// closed already.)
fn tell(client: &Client, document: &str) -> bool {
    let mut stream = lock(client);
    // Use a single write. If the line feed had its own write, the system might send it later than
    // the rest.
    let is_written = stream.write_all(format!("{document}\n").as_bytes()).is_ok();
    if !is_written {
        let _ = stream.shutdown(Shutdown::Both);
    }
    is_written
}

/// Reads the next line. Returns `None` at the end of the visit: at the end of the stream, or if the
/// connection is broken, or if the line is too long or not UTF-8.
///
/// `BufReader` does here what rung 3 does by hand: it keeps the bytes that it has read beyond the
/// line feed. `take` ends the line after that many bytes (it consumes the `&mut`, not the reader).
/// Otherwise a client that never sends a line feed could fill the memory. (The line feed stays in
/// the line. An XML parser skips it.)
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let count = reader.take(MAX_LINE + 2).read_line(&mut line).ok()?;
    // Only the end of the line may be beyond the limit. The last line of a stream may have none.
    let text = line.strip_suffix('\n').unwrap_or(&line);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let is_whole = count > 0 && text.len() as u64 <= MAX_LINE;
    is_whole.then_some(line)
}

/// Executes the request in one line from a client. Returns the answer. `name` is the client's own
/// name.
fn answer(line: &str, client: &Client, name: &mut Option<String>, names: &Names) -> String {
    let child = |element| child_text(line, element);
    // Like `child`, but an empty text if there is no such element.
    let word = |element| child(element).unwrap_or_default();
    match (word("command").as_str(), child("message"), name.clone()) {
        ("LOGIN", _, None) => login(&word("username"), client, name, names),
        ("", Some(message), Some(from)) => direct(&from, &message, names),
        ("", Some(_), None) => refusal("login-first", "log in before sending messages"),
        _ => refusal("unknown-command", "this request is not supported"),
    }
}

/// The text of the element `name` in a line's document. `None` if there is no such element, or the
/// line contains no document.
///
/// A parser understands attributes, both kinds of quotes, entities and CDATA. A search for
/// "<message>" does not. (Rereading the line for each element is simple, and these lines are
/// short.)
fn child_text(line: &str, name: &str) -> Option<String> {
    let document = Document::parse(line).ok()?;
    let mut children = document.root_element().children();
    let child = children.find(|child| child.has_tag_name(name))?;
    // A comment inside a text splits it into parts. `text()` alone would return its words, too.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// Gives the client the name that it requests, if no other client has the name. Returns the answer.
fn login(wanted: &str, client: &Client, name: &mut Option<String>, names: &Names) -> String {
    if !is_name(wanted) {
        return refusal("bad-name", "a name has 1 to 32 letters, digits, _ . or -");
    }
    // The lock is held until the end of this function. If it were released after `contains_key`,
    // two clients could find the name free, and both would get it.
    let mut names = lock(names);
    if names.contains_key(wanted) {
        return refusal("name-in-use", "another client has this name");
    }
    names.insert(wanted.to_owned(), Arc::clone(client));
    *name = Some(wanted.to_owned());
    format!("<SERVER><command>WELCOME</command><username>{wanted}</username></SERVER>")
}

/// Returns whether a client may have this name. Such a name needs no escaping. `bob` and `Bob` are
/// two names here: rung 5 compares names regardless of case.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// Delivers a message, such as `%bob%hello`. Returns the answer to its sender.
fn direct(from: &str, message: &str, names: &Names) -> String {
    let (to, text) = split_address(message).unwrap_or_default();
    let text = escape(text);
    let document =
        format!("<CLIENT from='{from}' scope='direct'><message>{text}</message></CLIENT>");
    // The table's lock is released at the end of this statement. If it were held during the write,
    // all clients would wait for a recipient that does not read.
    let receiver = lock(names).get(to).cloned();
    match receiver {
        Some(receiver) if tell(&receiver, &document) => SENT.to_owned(),
        _ => refusal("no-such-user", "no client has this name (write %NAME%TEXT)"),
    }
}

/// The name and the text in `%name%text`. Only the first two `%` have a meaning.
fn split_address(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix('%')?.split_once('%')
}

/// Text as it may appear in a document: `<` becomes `&#60;`.
///
/// A client can put a line feed into its text, by writing `&#10;`. As a raw line feed, it would end
/// the document early, and the rest of the text would look like a document from the server.
fn escape(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '&' | '<' | '>' | '\'' | '"' | '\n' | '\r' => format!("&#{};", u32::from(letter)),
        _ => letter.to_string(),
    });
    escaped.collect()
}

/// The document that refuses a request.
fn refusal(code: &str, sentence: &str) -> String {
    format!("<SERVER><error code='{code}'>{sentence}</error></SERVER>")
}

/// Locks a mutex until the guard that this returns is dropped: at the end of the scope if it has a
/// name, at the end of the statement if it has none.
///
/// If a thread panics while it holds a lock, `lock` returns an error with the guard in it, so that
/// no other thread uses half-changed data without knowing it. No line here changes a table in two
/// steps that could panic in between, so `into_inner` takes the guard out of the error, and the
/// server continues.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client, and the other end of its connection.
    fn client() -> (Client, BufReader<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other_end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (Arc::new(Mutex::new(stream)), BufReader::new(other_end))
    }

    #[test]
    fn the_text_begins_after_the_second_percent_sign() {
        let parts = Some(("bob", "50% of %x%"));
        assert_eq!(split_address("%bob%50% of %x%"), parts);
        assert_eq!(split_address("%bob"), None);
        assert_eq!(split_address("hello %bob%"), None);
    }

    #[test]
    fn a_line_has_8192_bytes_at_most() {
        let longest = "x".repeat(8192);
        for end in ["\n", "\r\n"] {
            let line = format!("{longest}{end}");
            let next = next_line(&mut format!("{line}more").as_bytes());
            assert_eq!(next, Some(line.clone()));
            assert_eq!(next_line(&mut format!("x{line}").as_bytes()), None);
        }
        assert_eq!(next_line(&mut format!("{longest}more").as_bytes()), None);
        assert_eq!(next_line(&mut &b""[..]), None);
        assert_eq!(next_line(&mut &b"\xff\n"[..]), None);
    }

    #[test]
    fn escaped_text_is_one_line_and_comes_back() {
        let message = |line: &str| child_text(line, "message");
        let text = "if a < b && c > d: \"x\" 'y' &amp;\n</message>\r";
        let line = format!("<CLIENT><message>{}</message></CLIENT>", escape(text));
        assert!(!line.contains('\n'));
        assert_eq!(message(&line).as_deref(), Some(text));
        let line = "<CLIENT><message>a <!-- b -->c</message></CLIENT>";
        assert_eq!(message(line).as_deref(), Some("a c"));
    }

    #[test]
    fn each_request_has_its_answer() {
        let names = Names::default();
        let ((alice, _), (bob, mut bobs_end)) = (client(), client());
        let (mut alices_name, mut bobs_name) = (None, None);
        let login =
            |name| format!("<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>");
        let hello =
            "<CLIENT at='1' me=\"no\"><message>%bob%a &lt; <![CDATA[<b>]]></message></CLIENT>";
        for (line, part) in [
            ("%bob%hello", "unknown-command"),
            ("<CLIENT><command>WHO</command></CLIENT>", "unknown-command"),
            (hello, "login-first"),
            (&login(""), "bad-name"),
            (&login("alice"), "WELCOME</command><username>alice<"),
            (&login("alicia"), "unknown-command"),
            (hello, "no-such-user"),
        ] {
            let answer = answer(line, &alice, &mut alices_name, &names);
            assert!(answer.contains(part), "{line}: {answer}");
        }
        let as_bob = |name, own: &mut Option<String>| answer(&login(name), &bob, own, &names);
        assert!(as_bob("alice", &mut bobs_name).contains("name-in-use"));
        assert!(as_bob("bob", &mut bobs_name).contains("WELCOME"));
        let answer = answer(hello, &alice, &mut alices_name, &names);
        assert!(answer.contains("<command>SENT</command><count>1</count>"));
        let relayed =
            "<CLIENT from='alice' scope='direct'><message>a &#60; &#60;b&#62;</message></CLIENT>\n";
        assert_eq!(next_line(&mut bobs_end).as_deref(), Some(relayed));
    }
}
