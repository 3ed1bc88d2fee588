//! Rung 5: names with passwords, kept in a file (seed 002).
//!
//! A name belongs to the client that has registered it, also after the server was killed and
//! started again. Clients write to all others (PM) or to one (DM). Hashing a password takes long on
//! purpose; the locks are free meanwhile, so that the other clients do not wait for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, str, thread};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many documents wait for one client at most.
const MAX_QUEUE: usize = 256;
/// How many wrong passwords end a connection.
const MAX_WRONG: u32 = 3;

/// The state that all threads share. No thread holds two of these locks at a time.
struct Chat {
    /// The clients that have logged in, by their names as they were registered.
    names: Mutex<HashMap<String, Client>>,
    accounts: Mutex<Accounts>,
    /// A hash takes 19 MiB of memory. A thread computes one only while it holds one of these locks,
    /// so that many logins at the same time do not fill the memory.
    hashing: [Mutex<()>; 8],
    /// How many hashes there were. It decides whose turn it is at which of the locks.
    hashes: AtomicUsize,
}

/// The accounts, in memory and in the file.
struct Accounts {
    file: File,
    /// The name as it was registered, and the hash of its password, by the name in small letters.
    by_key: HashMap<String, (String, String)>,
}

/// What all threads need of a client. A clone of it leads to the same connection.
#[derive(Clone)]
struct Client {
    stream: Arc<TcpStream>,
    /// The documents that the client's writing thread writes to the stream.
    queue: SyncSender<String>,
}

/// What a client's own thread remembers between LOGIN and PASSWORD.
#[derive(Default)]
struct Attempt {
    name: String,
    wrong: u32,
}

/// Accepts clients and starts a thread for each, until the program is ended.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).ok_or("usage: rung-5 PORT FOLDER")?;
    let folder = env::args().nth(2).ok_or("usage: rung-5 PORT FOLDER")?;
    let accounts = Accounts::open(&folder)
        .map_err(|error| format!("cannot open the accounts in {folder}: {error}"))?;
    // From here on the system accepts connections, whether or not this program calls `accept`.
    // With 0.0.0.0 instead of 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat {
        names: Mutex::default(),
        accounts: Mutex::new(accounts),
        hashing: Default::default(),
        hashes: AtomicUsize::new(0),
    });
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
    // If the client stayed in the table, it would receive messages for ever. (If another connection
    // has taken the name over, the entry is that one's, and stays.)
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
    let mut attempt = Attempt::default();
    while let Some(line) = next_line(&client.stream, &mut kept)? {
        match answer(&line, client, &mut attempt, chat) {
            Some(answer) => client.tell(answer)?,
            None => break,
        }
        // A client that could try again and again would find the password one day.
        if attempt.wrong == MAX_WRONG {
            break;
        }
    }
    Ok(())
}

/// Does what a client asks for in one line. Returns the answer, or `None` at the end of the visit.
fn answer(line: &[u8], client: &Client, attempt: &mut Attempt, chat: &Chat) -> Option<String> {
    let child = |name| child_text(line, name);
    let answer = match (child("command").as_deref(), child("message")) {
        (Some("LOGIN"), _) => login(client, child("username").unwrap_or_default(), attempt, chat),
        (Some("PASSWORD"), _) => {
            let given = child("password").unwrap_or_default();
            password(client, &given, attempt, chat)
        }
        (Some("PM"), Some(text)) => public(client, &text, chat),
        (Some("DM"), Some(text)) => direct(client, &child("to").unwrap_or_default(), &text, chat),
        (Some("EX" | "TERMINATE"), _) => return None,
        (None, Some(text)) => match split_address(&text) {
            Some((to, text)) => direct(client, to, text, chat),
            None => command("NO PARTNER"),
        },
        _ => refusal("unknown-command", "this server does not know that"),
    };
    Some(answer)
}

/// Asks for a password: a new one, or that of the account. Returns the question.
fn login(client: &Client, name: String, attempt: &mut Attempt, chat: &Chat) -> String {
    if !is_name(&name) {
        return refusal("bad-name", "a name is 1 to 32 letters, digits, _ . or -");
    }
    if name_of(client, chat).is_some() {
        return refusal("already-logged-in", "this client has a name already");
    }
    let account = lock(&chat.accounts).find(&name);
    attempt.name = name;
    let kind = if account.is_some() { "existing" } else { "new" };
    format!("<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>")
}

/// Gives the client its name, if the password is right. Returns the answer.
fn password(client: &Client, password: &str, attempt: &mut Attempt, chat: &Chat) -> String {
    if attempt.name.is_empty() {
        return refusal("login-first", "send LOGIN before PASSWORD");
    }
    if !(1..=128).contains(&password.len()) {
        return refusal("bad-password", "a password is 1 to 128 bytes long");
    }
    let name = match check_password(&attempt.name, password, chat) {
        Ok(Some(name)) => name,
        Ok(None) => {
            attempt.wrong += 1;
            return refusal("wrong-password", "this is not the password of that name");
        }
        Err(error) => {
            eprintln!("cannot save an account: {error}");
            return refusal("not-saved", "the server could not save the account");
        }
    };
    attempt.name.clear();
    // In this one step, the name passes from the old connection, if there is one, to the new one.
    let old = lock(&chat.names).insert(name.clone(), client.clone());
    if let Some(old) = old {
        let _ = old.queue.try_send(command("TAKEN OVER"));
        // The old connection's thread is blocked in `read`. This wakes it with the end of the
        // stream. The other direction stays open: the last document is still on its way.
        let _ = old.stream.shutdown(Shutdown::Read);
    }
    format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>")
}

/// Checks the password of an account, or makes the account. Returns the name as it was registered,
/// or `None` if the password is wrong.
fn check_password(name: &str, password: &str, chat: &Chat) -> io::Result<Option<String>> {
    let mut account = lock(&chat.accounts).find(name);
    if account.is_none() {
        // With a salt, equal passwords have different hashes, and a table of hashes is useless.
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let hash = {
            let _turn = turn_to_hash(chat);
            Argon2::default().hash_password_with_salt(password.as_bytes(), &salt)
        };
        let hash = hash.map_err(io::Error::other)?.to_string();
        // Another client may have registered the name meanwhile. Then this password must be its.
        account = lock(&chat.accounts).register(name, &hash)?;
    }
    let Some((name, hash)) = account else {
        return Ok(Some(name.to_owned()));
    };
    let _turn = turn_to_hash(chat);
    let verdict = Argon2::default().verify_password(password.as_bytes(), hash.as_str());
    Ok(verdict.is_ok().then_some(name))
}

/// Waits until this thread may compute a hash. Its turn ends when the guard goes out of scope.
fn turn_to_hash(chat: &Chat) -> MutexGuard<'_, ()> {
    let number = chat.hashes.fetch_add(1, Ordering::Relaxed);
    lock(&chat.hashing[number % chat.hashing.len()])
}

impl Accounts {
    /// Reads the file in that folder. Each line of it is a name, a space, and a hash with its salt.
    fn open(folder: &str) -> io::Result<Accounts> {
        let path = Path::new(folder).join("accounts.txt");
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The server may have been killed while it wrote the last line. No client was told of that
        // account. If half a line stayed, the next account would be appended to it.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let mut by_key = HashMap::new();
        for line in text[..whole].lines() {
            if let Some((name, hash)) = line.split_once(' ') {
                by_key.insert(key(name), (name.to_owned(), hash.to_owned()));
            }
        }
        Ok(Accounts { file, by_key })
    }

    /// The name as it was registered, and the hash of its password.
    fn find(&self, name: &str) -> Option<(String, String)> {
        self.by_key.get(&key(name)).cloned()
    }

    /// Adds an account and returns `None`, or returns the account that has this name already.
    fn register(&mut self, name: &str, hash: &str) -> io::Result<Option<(String, String)>> {
        if let Some(account) = self.find(name) {
            return Ok(Some(account));
        }
        let end = self.file.metadata()?.len();
        let written = self.file.write_all(format!("{name} {hash}\n").as_bytes());
        // `write_all` hands the line to the system; `sync_data` waits until it is on disk. WELCOME
        // comes after it: an account that was confirmed survives a power failure.
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            self.file.set_len(end)?;
            return Err(error);
        }
        self.by_key
            .insert(key(name), (name.to_owned(), hash.to_owned()));
        Ok(None)
    }
}

/// The spelling by which names are compared: `alice` and `ALICE` are one name.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Delivers a message to all others that have logged in. Returns the answer.
fn public(client: &Client, text: &str, chat: &Chat) -> String {
    let Some(from) = name_of(client, chat) else {
        return refusal("login-first", "log in before you write");
    };
    let names = lock(&chat.names);
    let document = relay(&from, "public", text);
    let mut count = 0;
    for receiver in names.values().filter(|other| !other.is(client)) {
        let _ = receiver.queue.try_send(document.clone());
        count += 1;
    }
    sent(count)
}

/// Delivers a message to the client with the name `to`. Returns the answer.
fn direct(client: &Client, to: &str, text: &str, chat: &Chat) -> String {
    let Some(from) = name_of(client, chat) else {
        return refusal("login-first", "log in before you write");
    };
    let account = lock(&chat.accounts).find(to);
    let names = lock(&chat.names);
    let Some(receiver) = account.and_then(|(name, _)| names.get(&name)) else {
        return refusal("no-such-user", "no client has this name");
    };
    // `send` would wait until the receiver reads, with the lock held: all other threads would wait,
    // too. If the queue is full, `try_send` drops the message. A client that does not read loses
    // messages, and delays no other client.
    let _ = receiver.queue.try_send(relay(&from, "direct", text));
    sent(1)
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

/// The document that brings a message to a client.
fn relay(from: &str, scope: &str, text: &str) -> String {
    let text = escape(text);
    format!("<CLIENT from='{from}' scope='{scope}'><message>{text}</message></CLIENT>")
}

/// The document that confirms a message: it is on its way to so many clients.
fn sent(count: usize) -> String {
    format!("<SERVER><command>SENT</command><count>{count}</count></SERVER>")
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

    #[test]
    fn the_text_begins_after_the_second_percent_sign() {
        assert_eq!(
            split_address("%bob%50% of %x%"),
            Some(("bob", "50% of %x%"))
        );
        assert_eq!(split_address("%bob"), None);
    }

    #[test]
    fn accounts_survive_and_half_a_line_does_not() {
        let folder = env::temp_dir().join(format!("portal-rung-5-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let open = || Accounts::open(folder.to_str().unwrap()).unwrap();
        let mut accounts = open();
        assert_eq!(accounts.find("alice"), None);
        assert_eq!(accounts.register("Alice", "hash").unwrap(), None);
        accounts.file.write_all(b"bob $argon2id$v=19$m=19").unwrap();
        let mut accounts = open();
        assert_eq!(accounts.find("bob"), None);
        assert_eq!(accounts.register("bob", "another").unwrap(), None);
        for (name, registered, hash) in [("alice", "Alice", "hash"), ("BOB", "bob", "another")] {
            let account = Some((registered.to_owned(), hash.to_owned()));
            assert_eq!(open().find(name), account);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_second_to_register_a_name_gets_the_account_of_the_first() {
        let folder = env::temp_dir().join(format!("portal-rung-5-second-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut accounts = Accounts::open(folder.to_str().unwrap()).unwrap();
        assert_eq!(accounts.register("alice", "first").unwrap(), None);
        let (name, hash) = accounts.register("ALICE", "second").unwrap().unwrap();
        assert_eq!((name.as_str(), hash.as_str()), ("alice", "first"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
