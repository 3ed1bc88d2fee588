//! Rung 4: clients that address each other (seed 003).
//!
//! A client logs in with a name and writes `%bob%hello` to bob. Every line is a small XML document.
//! All threads share one table, from names to clients. Each client has two threads: one reads from
//! its socket, the other takes documents out of its queue and writes them to its socket.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, process, str, thread};

use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many documents wait for one client at most.
const MAX_QUEUE: usize = 256;
/// How long a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_secs(10);

/// The state that all threads share.
#[derive(Default)]
struct Chat {
    /// The clients that have logged in, by their names.
    names: Mutex<HashMap<String, Client>>,
}

/// What all threads need of a client. A clone of it leads to the same connection.
#[derive(Clone)]
struct Client {
    stream: Arc<TcpStream>,
    /// The documents that the client's writing thread writes to the stream.
    queue: SyncSender<String>,
}

/// Accepts clients and starts a thread for each, until the program is ended.
fn main() {
    let port = env::args()
        .nth(1)
        .unwrap_or_else(|| fail("usage: rung-4 PORT"));
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .unwrap_or_else(|error| fail(&format!("cannot listen on port {port}: {error}")));
    println!("Listening on 127.0.0.1:{port}");
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat::default());
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty.
    for (stream, seat) in listener.incoming().zip(1_u64..) {
        let chat = Arc::clone(&chat);
        // `move` makes the new thread the owner of the stream and of its `Arc`. A thread may run
        // longer than the function that started it, so it must not borrow that function's variables
        // (`'static`). `thread::spawn` would panic if the system had no thread left, and so end the
        // server; `Builder` returns an error.
        let started = stream
            .and_then(|stream| thread::Builder::new().spawn(move || visit(stream, seat, &chat)));
        // If it was started, its handle is dropped here. The thread goes on without it, but its
        // result is lost. That is intended: a broken connection ends one visit, and no other thread
        // has to know.
        if let Err(error) = started {
            eprintln!("cannot serve a client: {error}");
            // The usual reason is that the system has no file descriptor or no thread left. Trying
            // again at once would fail again, and keep the processor busy. A pause gives clients
            // the time to leave.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ends the program with one sentence about the reason. `!` means that it never returns.
fn fail(reason: &str) -> ! {
    eprintln!("{reason}");
    process::exit(1)
}

/// Serves one client. Its number is the *seat* in its greeting. The connection closes when both of
/// its threads have ended.
fn visit(stream: TcpStream, seat: u64, chat: &Chat) -> io::Result<()> {
    let client = Client::start(stream)?;
    let result = talk(&client, seat, chat);
    // Every return from `talk` leads here: after the end of the stream, a broken connection, a long
    // line. (Only a panic would not.)
    // If the client stayed in the table, no other client could ever have its name.
    lock(&chat.names).retain(|_, other| !other.is(&client));
    result
}

impl Client {
    /// Starts the thread that writes to one client.
    ///
    /// If the other clients' threads wrote to the stream themselves, documents could mix on their
    /// way, and each of these threads could be blocked by a client that does not read.
    fn start(stream: TcpStream) -> io::Result<Client> {
        // Without this, the system may delay a small document until the one before it is
        // acknowledged.
        stream.set_nodelay(true)?;
        // Without this, a client that never reads would keep both threads and its name for ever.
        stream.set_write_timeout(Some(WRITE))?;
        let stream = Arc::new(stream);
        // A `sync_channel` is bounded: it holds so many documents. If it is full, `send` waits, and
        // `try_send` returns an error.
        let (queue, documents) = sync_channel::<String>(MAX_QUEUE);
        let client = Client { stream, queue };
        let stream = Arc::clone(&client.stream);
        thread::Builder::new().spawn(move || {
            // Ends when the queue is empty and no clone of the client is left: the visit is over.
            for document in documents {
                let line = format!("{document}\n");
                // `&*stream` is the `&TcpStream` in the `Arc`. `Read` and `Write` are implemented
                // for it, too, because the system does the work: two threads can use one stream.
                if (&*stream).write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
            // If the connection is broken, this wakes the thread that reads from it. (`let _ =`
            // ignores the result: the connection may have ended already.)
            let _ = stream.shutdown(Shutdown::Both);
        })?;
        Ok(client)
    }

    /// Queues an answer. Only the client's own thread calls this, with no lock held. If the queue
    /// is full, it waits: the client must read its answers before it may ask for more.
    fn tell(&self, document: String) -> io::Result<()> {
        self.queue.send(document).map_err(io::Error::other)
    }

    /// Queues a document that comes from another client. Returns whether there was room for it.
    ///
    /// The caller holds a lock. With `send`, it would hold it until this client reads, and all
    /// other threads would wait, too. A client whose queue is full does not read, so it is
    /// disconnected: the shutdown wakes its reading thread with the end of the stream.
    fn try_tell(&self, document: String) -> bool {
        let is_queued = self.queue.try_send(document).is_ok();
        if !is_queued {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        is_queued
    }

    /// Whether both are the same connection.
    fn is(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }
}

/// Greets a client and answers each of its lines.
fn talk(client: &Client, seat: u64, chat: &Chat) -> io::Result<()> {
    client.tell(format!(
        "<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"
    ))?;
    // In other seeds, two neighbouring seats are partners, and a client is told whether it has one.
    // The project's own chat client waits for that before it lets its user type.
    client.tell(command("NO PARTNER"))?;
    // Bytes that have been read and are not a whole line yet. Each client needs its own.
    let mut kept = Vec::new();
    while let Some(line) = next_line(&client.stream, &mut kept)? {
        client.tell(answer(&line, client, chat))?;
    }
    Ok(())
}

/// Does what a client asks for in one line. Returns the answer.
fn answer(line: &[u8], client: &Client, chat: &Chat) -> String {
    let document = parse(line);
    let child = |name| child_text(document.as_ref()?, name);
    match (child("command").as_deref(), child("message")) {
        (Some("LOGIN"), _) => login(client, &child("username").unwrap_or_default(), chat),
        (None, Some(text)) => match split_address(&text) {
            Some((to, text)) => direct(client, to, text, chat),
            None => command("NO PARTNER"),
        },
        _ => refusal("unknown-command", "this server does not know that"),
    }
}

/// Gives the client a name, if no other client has it. Returns the answer.
fn login(client: &Client, name: &str, chat: &Chat) -> String {
    if !is_name(name) {
        return refusal("bad-name", "a name is 1 to 32 letters, digits, _ . or -");
    }
    // The lock is released in between. That is safe: only this thread gives this client a name.
    if name_of(client, chat).is_some() {
        return refusal("already-logged-in", "this client has a name already");
    }
    // The lock is held until the end of this function. If it were released after `contains_key`,
    // two clients could find the name free, and both would get it.
    let mut names = lock(&chat.names);
    if names.contains_key(name) {
        return refusal("name-in-use", "another client has this name");
    }
    names.insert(name.to_owned(), client.clone());
    format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>")
}

/// Delivers a message to the client with the name `to`. Returns the answer.
fn direct(client: &Client, to: &str, text: &str, chat: &Chat) -> String {
    let Some(from) = name_of(client, chat) else {
        return refusal("login-first", "log in before you write");
    };
    let text = escape(text);
    let message =
        format!("<CLIENT from='{from}' scope='direct'><message>{text}</message></CLIENT>");
    match lock(&chat.names).get(to) {
        Some(receiver) if receiver.try_tell(message) => {
            "<SERVER><command>SENT</command><count>1</count></SERVER>".to_owned()
        }
        _ => refusal("no-such-user", "no client with this name reads messages"),
    }
}

/// The name of a client, if it has logged in. The table is the only place that knows it. (To search
/// the whole table is slow if there are many clients. A second copy of the name could be wrong.)
fn name_of(client: &Client, chat: &Chat) -> Option<String> {
    let names = lock(&chat.names);
    let (name, _) = names.iter().find(|(_, other)| other.is(client))?;
    Some(name.clone())
}

/// Whether a client may have this name. Such a name needs no escaping. `bob` and `Bob` are two
/// names here: rung 5 compares names without their case.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// The name and the text in `%name%text`. Only the first two `%` mean something.
fn split_address(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('%')?.split_once('%')
}

/// The document in a line, or `None` if there is none.
///
/// A parser knows both kinds of quotes, entities and CDATA. A search for "<message>" does not.
fn parse(line: &[u8]) -> Option<Document<'_>> {
    Document::parse(str::from_utf8(line).ok()?).ok()
}

/// The text of the element `name` in a document.
fn child_text(document: &Document, name: &str) -> Option<String> {
    let mut children = document.root_element().children();
    let child = children.find(|child| child.has_tag_name(name))?;
    // A comment inside divides a text into parts. `text()` alone would return its words, too.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// Text as it may stand in a document.
///
/// A client can put a line feed into its text, by writing `&#10;`. As a raw line feed it would end
/// the document early, and the rest of the text would look like a document of the server.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;") // The first one, or it would change the `&` of the others.
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
        .replace('\r', "&#13;")
}

/// The document that refuses a request.
fn refusal(code: &str, sentence: &str) -> String {
    format!("<SERVER><error code='{code}'>{sentence}</error></SERVER>")
}

/// The document that is one command.
fn command(word: &str) -> String {
    format!("<SERVER><command>{word}</command></SERVER>")
}

/// Locks a mutex until the guard that this returns is dropped: at the end of the scope if it has a
/// name, at the end of the statement if it has none.
///
/// If a thread panics while it holds a lock, `lock` returns an error with the guard in it, so that
/// no other thread uses half-changed data unawares. No line here changes a table in two steps that
/// could panic in between, so `into_inner` takes the guard out of the error, and the server goes
/// on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads until `kept` holds a whole line, and takes it out. `None` is the end of the stream.
///
/// (`read` wants a `&mut` of what it reads from. That is the `&TcpStream` here, hence the `mut`.)
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    // A longer buffer would save calls of `read` for long lines; most lines are short.
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte has arrived. How many arrive together means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending, and its last line has no line feed. With one, it is
            // a whole line, which the next turn of the loop takes. After that, `kept` is empty.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole. The line feed is removed, and so is a `\r`
/// before it: programs on Windows end a line with both.
///
/// The limit also applies to an incomplete line. Otherwise a client that never sends a line feed
/// could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    // A copy, because the original is removed from `kept` below.
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        // This ends the visit without an answer. The client is still sending and does not read, and
        // when a connection is closed with unread bytes, its system may drop an answer anyway.
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // Removes the line and its line feed. What follows stays: it begins the next line. (`drain`
    // also returns the removed bytes. It removes them even if they are not used.)
    kept.drain(..=end);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    /// A client that is connected to the test, and what it is told.
    fn client() -> (Client, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (queue, documents) = sync_channel(MAX_QUEUE);
        let stream = Arc::new(stream);
        (Client { stream, queue }, documents)
    }

    #[test]
    fn the_text_begins_after_the_second_percent_sign() {
        assert_eq!(
            split_address("%bob%50% of %x%"),
            Some(("bob", "50% of %x%"))
        );
        assert_eq!(split_address("%bob"), None);
        assert_eq!(split_address("hello %bob%"), None);
    }

    #[test]
    fn escaped_text_is_one_line_and_comes_back() {
        let message = |line| child_text(&parse(line)?, "message");
        let text = "if a < b && c > d: \"x\" 'y' &amp;\n</message>\r";
        let line = format!("<CLIENT><message>{}</message></CLIENT>", escape(text));
        assert!(!line.contains('\n'));
        assert_eq!(message(line.as_bytes()).as_deref(), Some(text));
        let line = b"<CLIENT><message>a <!-- b -->c</message></CLIENT>";
        assert_eq!(message(line).as_deref(), Some("a c"));
        assert_eq!(message(b"<CLIENT><message>\xff</message></CLIENT>"), None);
    }

    #[test]
    fn each_request_has_its_answer() {
        let chat = Chat::default();
        let (alice, _) = client();
        let (bob, documents) = client();
        let login =
            |name| format!("<CLIENT><command>LOGIN</command><username>{name}</username></CLIENT>");
        let hello =
            "<CLIENT at='1' me=\"no\"><message>%bob%a &lt; <![CDATA[<b>]]></message></CLIENT>";
        for (client, line, part) in [
            (&alice, "%bob%hello", "unknown-command"),
            (
                &alice,
                "<CLIENT><command>WHO</command></CLIENT>",
                "unknown-command",
            ),
            (&alice, hello, "login-first"),
            (&alice, &login(""), "bad-name"),
            (
                &alice,
                &login("alice"),
                "<command>WELCOME</command><username>alice<",
            ),
            (&alice, &login("alicia"), "already-logged-in"),
            (&bob, &login("alice"), "name-in-use"),
            (&alice, hello, "no-such-user"),
            (&bob, &login("bob"), "WELCOME"),
            (&alice, hello, "<command>SENT</command><count>1</count>"),
        ] {
            let answer = answer(line.as_bytes(), client, &chat);
            assert!(answer.contains(part), "{line}: {answer}");
        }
        let relayed =
            "<CLIENT from='alice' scope='direct'><message>a &lt; &lt;b&gt;</message></CLIENT>";
        assert_eq!(documents.try_recv().unwrap(), relayed);
        // bob does not read: as many messages as his queue holds are sent, and no more.
        let answers = (0..MAX_QUEUE + 1).map(|_| answer(hello.as_bytes(), &alice, &chat));
        let sent = answers.filter(|answer| answer.contains("SENT")).count();
        assert_eq!(sent, MAX_QUEUE);
    }
}
