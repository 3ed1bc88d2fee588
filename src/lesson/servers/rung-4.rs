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
use std::{env, str, thread};

use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many documents wait for one client at most.
const MAX_QUEUE: usize = 256;

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
fn main() -> Result<(), String> {
    let port = env::args().nth(1).ok_or("usage: rung-4 PORT")?;
    // From here on the system accepts connections, whether or not this program calls `accept`.
    // With 0.0.0.0 instead of 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat::default());
    // Each turn of this loop calls `accept`, which blocks until a connection is in the backlog.
    for (stream, seat) in listener.incoming().zip(1_u64..) {
        let chat = Arc::clone(&chat);
        // `move` gives the stream to the new thread. An error in `visit` ends that thread alone;
        // its result is dropped together with its handle. (`thread::spawn` would panic if the
        // system had no thread left, and so end the server for all; `Builder` returns an error.)
        let started = stream
            .and_then(|stream| thread::Builder::new().spawn(move || visit(stream, seat, &chat)));
        // No descriptor or no thread is left. Without the pause, this loop would try again at once,
        // and take the processor from the clients whose leaving would help.
        if let Err(error) = started {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Serves one client. The connection closes when both of its threads have ended.
fn visit(stream: TcpStream, seat: u64, chat: &Chat) -> io::Result<()> {
    let client = Client::start(stream)?;
    let result = talk(&client, seat, chat);
    // Every way out of `talk` leads here: the end of the stream, a broken connection, a long line.
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
        let stream = Arc::new(stream);
        let (queue, documents) = sync_channel::<String>(MAX_QUEUE);
        let client = Client { stream, queue };
        let stream = Arc::clone(&client.stream);
        thread::Builder::new().spawn(move || {
            // Ends when the queue is empty and no clone of the client is left: the visit is over.
            for document in documents {
                let line = format!("{document}\n");
                if (&*stream).write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
            // If the connection is broken, this wakes the thread that reads from it.
            let _ = stream.shutdown(Shutdown::Both);
        })?;
        Ok(client)
    }

    /// Queues a document for the client whose own thread calls this. If the queue is full, it
    /// waits: the client must read its answers before it may ask for more. No other client waits
    /// for it, because no lock is held.
    fn tell(&self, document: String) -> io::Result<()> {
        self.queue.send(document).map_err(io::Error::other)
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
    // The project's chat client waits for this: there is no partner in another seat.
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
    let child = |name| child_text(line, name);
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
    if name_of(client, chat).is_some() {
        return refusal("already-logged-in", "this client has a name already");
    }
    // The lock is held until the end of this function. If it were released between the look and the
    // insertion, two clients could find the name free, and both would get it.
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
    let names = lock(&chat.names);
    let Some(receiver) = names.get(to) else {
        return refusal("no-such-user", "no client has this name");
    };
    // `send` would wait until the receiver reads, with the lock held: all other threads would wait,
    // too. If the queue is full, `try_send` drops the message. A client that does not read loses
    // messages, but does not delay other clients.
    let text = escape(text);
    let _ = receiver.queue.try_send(format!(
        "<CLIENT from='{from}' scope='direct'><message>{text}</message></CLIENT>"
    ));
    "<SERVER><command>SENT</command><count>1</count></SERVER>".to_owned()
}

/// The name of a client, if it has logged in. The table is the only place that knows it.
fn name_of(client: &Client, chat: &Chat) -> Option<String> {
    let names = lock(&chat.names);
    let (name, _) = names.iter().find(|(_, other)| other.is(client))?;
    Some(name.clone())
}

/// Whether a client may have this name. Such a name needs no escaping.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// The name and the text in `%name%text`. Only the first two `%` mean something.
fn split_address(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('%')?.split_once('%')
}

/// The text of the element `name` in a client's document. `None` if the line is no document, too.
///
/// A parser knows both kinds of quotes, entities and CDATA. A search for "<message>" does not.
fn child_text(line: &[u8], name: &str) -> Option<String> {
    let document = Document::parse(str::from_utf8(line).ok()?).ok()?;
    let root = document.root_element();
    let child = root.children().find(|child| child.has_tag_name(name))?;
    // Only a comment or another element inside it makes several parts of a text.
    let parts = child.children().filter(|part| part.is_text());
    Some(parts.filter_map(|part| part.text()).collect())
}

/// Text as it may stand in a document. A raw line feed would end the document, and the client could
/// write the next one in the server's name.
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

/// Locks a mutex, even if a thread has panicked while it held the lock: the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads until `kept` holds a whole line, and takes it out. `None` is the end of the stream.
fn next_line(mut stream: &TcpStream, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        // Blocks until at least one byte is there. How many come at once means nothing.
        match stream.read(&mut bytes)? {
            0 if kept.is_empty() => return Ok(None),
            // The client has finished sending: what is left is a line, too.
            0 => kept.push(b'\n'),
            count => kept.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Takes the first line out of `kept`, if it is whole: without its line feed and a `\r` before it.
///
/// The limit also applies to a line that is not whole yet. Otherwise a client that never sends a
/// line feed could fill the server's memory.
fn take_line(kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let end = kept.iter().position(|byte| *byte == b'\n');
    let line = &kept[..end.unwrap_or(kept.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.len() > MAX_LINE {
        return Err(io::Error::other("a line is too long"));
    }
    let Some(end) = end else {
        return Ok(None);
    };
    // What stands behind the line feed stays: it begins the next line.
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
        let text = "if a < b && c > d: \"x\" 'y' &amp;\n</message>\r";
        let line = format!("<CLIENT><message>{}</message></CLIENT>", escape(text));
        assert!(!line.contains('\n'));
        assert_eq!(
            child_text(line.as_bytes(), "message").as_deref(),
            Some(text)
        );
        let line = b"<CLIENT><message>a <!-- b -->c</message></CLIENT>";
        assert_eq!(child_text(line, "message").as_deref(), Some("a c"));
        assert_eq!(
            child_text(b"<CLIENT><message>\xff</message></CLIENT>", "message"),
            None
        );
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
    }
}
