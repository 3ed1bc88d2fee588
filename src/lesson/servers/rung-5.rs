//! Rung 5: names with passwords, kept in a file (seed 002).
//!
//! A name belongs to the client that has registered it, also after the server was killed and
//! started again. Clients write to all others (PM, a public message) or to one (DM, a direct one).
//! To hash a password takes long on purpose: a thief of the file can try only few passwords per
//! second. No lock is held meanwhile, so that the other clients do not wait.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, process, str, thread};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many documents wait for one client at most.
const MAX_QUEUE: usize = 256;
/// How long a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_secs(10);
/// How many wrong passwords end a connection.
const MAX_WRONG: u32 = 3;
/// How many hashes are computed at the same time. Each takes 19 MiB of memory: without a limit,
/// many logins at the same time would fill the memory.
const MAX_HASHES: usize = 8;

/// The state that all threads share. No thread holds two of these locks at a time.
struct Chat {
    /// The clients that have logged in, by their names as they were registered.
    names: Mutex<HashMap<String, Client>>,
    accounts: Mutex<Accounts>,
    /// A bounded channel with room for `MAX_HASHES` values. A thread puts one in before it computes
    /// a hash, and takes one out after that. While the channel is full, the next thread waits.
    hashing: SyncSender<()>,
    hashed: Mutex<Receiver<()>>,
}

/// The accounts, in memory and in the file.
struct Accounts {
    file: File,
    /// For each name in small letters: the name as it was registered, and its password's hash.
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
    /// The name in the last LOGIN, or empty.
    name: String,
    /// How many wrong passwords this connection has sent.
    wrong: u32,
}

/// Accepts clients and starts a thread for each, until the program is ended.
fn main() {
    let usage = "usage: rung-5 PORT FOLDER";
    let port = env::args().nth(1).unwrap_or_else(|| fail(usage));
    let folder = env::args().nth(2).unwrap_or_else(|| fail(usage));
    let accounts = Accounts::open(&folder)
        .unwrap_or_else(|error| fail(&format!("cannot open the accounts in {folder}: {error}")));
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .unwrap_or_else(|error| fail(&format!("cannot listen on port {port}: {error}")));
    println!("Listening on 127.0.0.1:{port}");
    let (hashing, hashed) = sync_channel(MAX_HASHES);
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat {
        names: Mutex::default(),
        accounts: Mutex::new(accounts),
        hashing,
        hashed: Mutex::new(hashed),
    });
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
    // If the client stayed in the table, messages to it would be queued and never sent. (If another
    // connection has taken the name over, the entry belongs to that connection and stays.)
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
    let mut attempt = Attempt::default();
    while let Some(line) = next_line(&client.stream, &mut kept)? {
        match answer(&line, client, &mut attempt, chat) {
            Some(answer) => client.tell(answer)?,
            None => break,
        }
        // A client that could try again and again would find the password one day. This only slows
        // the guessing down: the client can connect again.
        if attempt.wrong == MAX_WRONG {
            break;
        }
    }
    Ok(())
}

/// Does what a client asks for in one line. Returns the answer, or `None` at the end of the visit.
fn answer(line: &[u8], client: &Client, attempt: &mut Attempt, chat: &Chat) -> Option<String> {
    let document = parse(line);
    let child = |name| child_text(document.as_ref()?, name);
    let answer = match (child("command").as_deref(), child("message")) {
        (Some("LOGIN"), _) => login(client, child("username").unwrap_or_default(), attempt, chat),
        (Some("PASSWORD"), _) => {
            let password = child("password").unwrap_or_default();
            authenticate(client, &password, attempt, chat)
        }
        (Some("PM"), Some(text)) => public(client, &text, chat),
        (Some("DM"), Some(text)) => direct(client, &child("to").unwrap_or_default(), &text, chat),
        // The clients of seed 002 leave with EX, the others with TERMINATE.
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
    // Even if this LOGIN is refused, the next PASSWORD must not count for the one before it.
    attempt.name.clear();
    if !is_name(&name) {
        return refusal("bad-name", "a name is 1 to 32 letters, digits, _ . or -");
    }
    // The lock is released in between. That is safe: only this thread gives this client a name.
    if name_of(client, chat).is_some() {
        return refusal("already-logged-in", "this client has a name already");
    }
    let account = lock(&chat.accounts).find(&name);
    attempt.name = name;
    let kind = if account.is_some() { "existing" } else { "new" };
    format!("<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>")
}

/// Gives the client its name, if the password is right. Returns the answer.
fn authenticate(client: &Client, password: &str, attempt: &mut Attempt, chat: &Chat) -> String {
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
            return refusal("wrong-password", "the password is wrong");
        }
        Err(error) => {
            eprintln!("cannot save an account: {error}");
            return refusal("not-saved", "the account could not be saved");
        }
    };
    attempt.name.clear();
    // In this one step, the name passes from the old connection, if there is one, to the new one.
    // The lock is released at the end of this statement.
    let old = lock(&chat.names).insert(name.clone(), client.clone());
    if let Some(old) = old {
        old.try_tell(command("TAKEN OVER"));
        // The old connection's thread is blocked in `read`. This wakes it with the end of the
        // stream. The other direction stays open: the last document is still on its way.
        let _ = old.stream.shutdown(Shutdown::Read);
    }
    format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>")
}

/// Checks the password of an account, or makes the account. Returns the name as it was registered,
/// or `None` if the password is wrong.
fn check_password(name: &str, password: &str, chat: &Chat) -> io::Result<Option<String>> {
    let argon2 = Argon2::default();
    // The lock is released at the end of this statement. So another client may register the name
    // while this thread computes the hash.
    let is_new = lock(&chat.accounts).find(name).is_none();
    if is_new {
        // With a salt, equal passwords have different hashes, and a table of hashes is useless.
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let hash = in_turn(chat, || {
            argon2.hash_password_with_salt(password.as_bytes(), &salt)
        });
        let hash = hash.map_err(io::Error::other)?.to_string();
        if lock(&chat.accounts).register(name, &hash)? {
            return Ok(Some(name.to_owned()));
        }
        // Another client was faster. The password must be the one of that account.
    }
    let account = lock(&chat.accounts).find(name);
    let Some((name, hash)) = account else {
        return Ok(None);
    };
    let verdict = in_turn(chat, || {
        argon2.verify_password(password.as_bytes(), hash.as_str())
    });
    Ok(verdict.is_ok().then_some(name))
}

/// Computes a hash, as soon as fewer than `MAX_HASHES` others are being computed.
fn in_turn<T>(chat: &Chat, compute: impl FnOnce() -> T) -> T {
    // Neither `send` nor `recv` can fail here: both ends of the channel live as long as `chat`.
    let _ = chat.hashing.send(());
    let hash = compute();
    let _ = lock(&chat.hashed).recv();
    hash
}

impl Accounts {
    /// Reads the file in that folder. Each line of it is a name, a space, and a hash with its salt.
    fn open(folder: &str) -> io::Result<Accounts> {
        let mut options = File::options();
        options.read(true).append(true).create(true);
        // Only the user who runs the server may read the hashes.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(Path::new(folder).join("accounts.txt"))?;
        // A second server in this folder would not know the accounts of the first one. The system
        // releases this lock when the program ends, even if it is killed.
        file.try_lock()?;
        // The file's name is stored in the folder. A new name is on disk after this. (Windows does
        // not need it.)
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The server may have been killed while it wrote the last line. That account was never
        // confirmed with WELCOME. If half a line stayed, the next account would be appended to it.
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

    /// Adds an account. Returns `false` if there is one with this name already.
    ///
    /// The caller holds the lock of the accounts, so LOGIN and PASSWORD of all clients wait for the
    /// disk meanwhile. Messages do not: they need only `names`.
    fn register(&mut self, name: &str, hash: &str) -> io::Result<bool> {
        if self.find(name).is_some() {
            return Ok(false);
        }
        let end = self.file.metadata()?.len();
        let written = self.file.write_all(format!("{name} {hash}\n").as_bytes());
        // After `write_all`, the system has the line, perhaps only in its memory. `sync_data` waits
        // until the line is on disk. Only then may the client receive WELCOME: an account that was
        // confirmed survives a power failure.
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Removes what was written of the line.
            self.file.set_len(end)?;
            return Err(error);
        }
        let account = (name.to_owned(), hash.to_owned());
        self.by_key.insert(key(name), account);
        Ok(true)
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
    let document = relay(&from, "public", text);
    let mut count = 0;
    // Locked until the end of the loop.
    for receiver in lock(&chat.names).values() {
        if !receiver.is(client) && receiver.try_tell(document.clone()) {
            count += 1;
        }
    }
    sent(count)
}

/// Delivers a message to the client with the name `to`. Returns the answer.
fn direct(client: &Client, to: &str, text: &str, chat: &Chat) -> String {
    let Some(from) = name_of(client, chat) else {
        return refusal("login-first", "log in before you write");
    };
    let message = relay(&from, "direct", text);
    let names = lock(&chat.names);
    let receiver = names.iter().find(|(name, _)| key(name) == key(to));
    match receiver {
        Some((_, receiver)) if receiver.try_tell(message) => sent(1),
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

/// Whether a client may have this name. Such a name needs no escaping.
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
        assert!(accounts.register("Alice", "hash").unwrap());
        accounts.file.write_all(b"bob $argon2id$v=19$m=19").unwrap();
        // A second server gets no access.
        assert!(Accounts::open(folder.to_str().unwrap()).is_err());
        drop(accounts);
        let mut accounts = open();
        assert_eq!(accounts.find("bob"), None);
        assert!(accounts.register("bob", "another").unwrap());
        drop(accounts);
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
        assert!(accounts.register("alice", "first").unwrap());
        assert!(!accounts.register("ALICE", "second").unwrap());
        let (name, hash) = accounts.find("ALICE").unwrap();
        assert_eq!((name.as_str(), hash.as_str()), ("alice", "first"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
