//! Rung 5: names with passwords, kept in a file (seed 002).
//!
//! A name belongs to the client that has registered it, even after the server has been killed and
//! started again. Clients write to all other clients (PM, a public message) or to one client (DM, a
//! direct message). Hashing a password is slow on purpose: someone who steals the file can try only
//! a few passwords per second. No lock is held during that time, so the other clients do not wait.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use argon2::Argon2;
use roxmltree::Document;

/// The longest line in bytes, without its line feed and without a `\r` before that.
const MAX_LINE: u64 = 8192;
/// The time for which a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_millis(50);

/// The number of wrong passwords after which a connection is closed.
const MAX_WRONG: u32 = 3;

/// A connection that several threads write to, each only while it holds the lock. So documents do
/// not mix. `Arc` counts the owners: the last owner to drop its `Client` closes the connection.
type Client = Arc<Mutex<TcpStream>>;

/// The state that all threads share. No thread holds two of these locks at a time.
struct Chat {
    /// The clients that have logged in, by their names in lower case.
    names: Mutex<HashMap<String, Client>>,
    /// The file with the accounts, one per line.
    accounts: Mutex<File>,
}

/// One line in that file. `name` is spelled as it was registered, including upper-case letters.
struct Account {
    name: String,
    salt: String,
    hash: String,
}

/// The data that a client's own thread keeps about the client.
struct Visit {
    client: Client,
    state: State,
    /// The number of wrong passwords that the client has sent.
    wrong: u32,
}

#[derive(Clone)]
enum State {
    New,
    /// The client has sent LOGIN with this name, but no password yet.
    Asked(String),
    LoggedIn(String),
}

/// Accepts clients and starts a thread for each, until the program is terminated. An error that
/// `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    let usage = "usage: rung-5 PORT FOLDER";
    let port = env::args().nth(1).ok_or(usage)?;
    let folder = env::args().nth(2).ok_or(usage)?;
    // `append`: each write goes to the end of the file, wherever the last read stopped.
    let accounts = File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(Path::new(&folder).join("accounts.txt"))
        .map_err(|error| format!("cannot open the accounts in {folder}: {error}"))?;
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    let chat = Arc::new(Chat {
        names: Mutex::default(),
        accounts: Mutex::new(accounts),
    });
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty. `zip` pairs each connection with the next number.
    for (stream, seat) in listener.incoming().zip(1..) {
        // One more owner of the same state, not a copy of it.
        let chat = Arc::clone(&chat);
        // `and_then` starts a thread if `accept` has not failed. `move` makes the new thread the
        // owner of the stream and of its `Arc`. A thread may outlive the function that started it,
        // so it must not borrow that function's variables (`'static`). `thread::spawn` would panic,
        // and so stop the server, if the system could not create another thread; `Builder` returns
        // an error instead.
        let started = stream
            .and_then(|stream| thread::Builder::new().spawn(move || visit(stream, seat, &chat)));
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
fn visit(stream: TcpStream, seat: u32, chat: &Chat) -> io::Result<()> {
    // Without this, a write to a client that does not read would wait forever.
    stream.set_write_timeout(Some(WRITE))?;
    // A second handle for the same connection. If reading needed the lock, too, no other thread
    // could write to this client while this one waits for its next line.
    let mut reader = BufReader::new(stream.try_clone()?);
    let client = Arc::new(Mutex::new(stream));
    let greeting = format!(
        "<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"
    );
    tell(&client, &greeting);
    // In other seeds, two neighbouring seats are partners, and a client is notified whether it has
    // a partner. The project's own chat client waits for that notification before it lets its user
    // type.
    tell(&client, "<SERVER><command>NO PARTNER</command></SERVER>");
    let mut visit = Visit {
        client,
        state: State::New,
        wrong: 0,
    };
    // The loop ends at the first of these conditions that is not met. A client that could keep
    // trying would eventually find a password. `MAX_WRONG` only slows that down: the client can
    // connect again.
    while visit.wrong < MAX_WRONG
        && let Some(line) = next_line(&mut reader)
        && let Some(answer) = answer(&line, &mut visit, chat)
    {
        tell(&visit.client, &answer);
    }
    // Every visit leads here, however it ends. (Only a panic would not.) If the client stayed in
    // the table, messages to it would be written to a closed connection. If another connection has
    // taken the name over, the entry belongs to that connection and stays. `ptr_eq`: are both the
    // same connection?
    lock(&chat.names).retain(|_, other| !Arc::ptr_eq(other, &visit.client));
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

/// Executes the request in one line from a client. Returns the answer, or `None` at the end of the
/// visit.
fn answer(line: &str, visit: &mut Visit, chat: &Chat) -> Option<String> {
    let child = |element| child_text(line, element);
    // Like `child`, but an empty text if there is no such element.
    let word = |element| child(element).unwrap_or_default();
    let (command, state) = (word("command"), visit.state.clone());
    let answer = match (command.as_str(), child("message"), state) {
        ("LOGIN", _, State::New | State::Asked(_)) => login(&word("username"), visit, chat),
        ("PASSWORD", _, State::Asked(name)) => authenticate(&name, &word("password"), visit, chat),
        ("PM", Some(text), State::LoggedIn(from)) => public(&from, &text, chat),
        ("DM", Some(text), State::LoggedIn(from)) => direct(&from, &word("to"), &text, chat),
        ("PASSWORD" | "PM" | "DM", _, State::New | State::Asked(_)) => {
            refusal("login-first", "log in before sending other requests")
        }
        // Clients from seed 002 leave with EX, others with TERMINATE.
        ("EX" | "TERMINATE", ..) => return None,
        _ => refusal("unknown-command", "this request is not supported"),
    };
    Some(answer)
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

/// Asks for a password: a new one, or the account's. Returns the question.
fn login(name: &str, visit: &mut Visit, chat: &Chat) -> String {
    visit.state = State::New;
    if !is_name(name) {
        return refusal("bad-name", "a name has 1 to 32 letters, digits, _ . or -");
    }
    // `unwrap_or_default` makes `None` of an error. If the file cannot be read, PASSWORD is
    // refused.
    let account = find(name, &mut lock(&chat.accounts)).unwrap_or_default();
    visit.state = State::Asked(name.to_owned());
    let kind = if account.is_some() { "existing" } else { "new" };
    format!("<SERVER><command>PASSWORD</command><account>{kind}</account></SERVER>")
}

/// Returns whether a client may have this name. Such a name needs no escaping.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// Gives the client the name if the password is right. Returns the answer.
fn authenticate(name: &str, password: &str, visit: &mut Visit, chat: &Chat) -> String {
    if !(1..=128).contains(&password.len()) {
        return refusal("bad-password", "a password is 1 to 128 bytes long");
    }
    match check_password(name, password, chat) {
        Ok(Some(name)) => enter(name, visit, chat),
        Ok(None) => {
            visit.wrong += 1;
            refusal("wrong-password", "the password is wrong")
        }
        Err(error) => {
            eprintln!("cannot use the accounts file: {error}");
            refusal("not-saved", "the server cannot use its accounts")
        }
    }
}

/// Compares a password with the account's, or creates the account. Returns the name as it was
/// registered, or `None` if the password is wrong.
fn check_password(name: &str, password: &str, chat: &Chat) -> io::Result<Option<String>> {
    // The lock is released at the end of this statement. While this thread computes the hash,
    // others can use the file.
    let account = find(name, &mut lock(&chat.accounts))?;
    let salt = match account {
        Some(account) => account.salt,
        // With a salt, equal passwords have different hashes, and a list of the hashes of common
        // passwords is useless to a thief.
        None => format!("{:016x}", getrandom::u64().map_err(io::Error::other)?),
    };
    let hash = hash(password, &salt)?;
    // Locked until the end of this function. `find` is called once more: in the meantime, another
    // client may have registered the name. That client's salt and hash are different, so this
    // password is wrong.
    let mut file = lock(&chat.accounts);
    match find(name, &mut file)? {
        Some(account) if account.hash == hash => Ok(Some(account.name)),
        Some(_) => Ok(None),
        None => {
            // The line feed comes first: if the server was killed while it was writing the previous
            // line, this line does not become part of it.
            file.write_all(format!("\n{name} {salt} {hash}").as_bytes())?;
            // The operating system now has the line, if only in memory: it survives if the server
            // is killed, but not if the machine loses power. (`sync_data` would wait for the disk.
            // On a busy machine, that may take seconds.)
            Ok(Some(name.to_owned()))
        }
    }
}

/// Looks for an account in the file. `alice` and `ALICE` are one account.
///
/// Reading the whole file each time is simple, and fast enough for a few hundred accounts.
fn find(wanted: &str, file: &mut File) -> io::Result<Option<Account>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    for line in text.lines() {
        let mut words = line.split(' ').map(str::to_owned);
        if let (Some(name), Some(salt), Some(hash)) = (words.next(), words.next(), words.next())
            && name.eq_ignore_ascii_case(wanted)
        {
            return Ok(Some(Account { name, salt, hash }));
        }
    }
    Ok(None)
}

/// The value stored instead of a password. The password cannot be computed from it.
fn hash(password: &str, salt: &str) -> io::Result<String> {
    let mut hash = [0; 16];
    Argon2::default()
        .hash_password_into(password.as_bytes(), salt.as_bytes(), &mut hash)
        .map_err(io::Error::other)?;
    // All 16 bytes as one number, to write them with hexadecimal digits.
    Ok(format!("{:032x}", u128::from_be_bytes(hash)))
}

/// Logs a client in. If the name is in use, the new connection takes it over from the old
/// connection.
fn enter(name: String, visit: &mut Visit, chat: &Chat) -> String {
    let client = Arc::clone(&visit.client);
    // In this one step, the name passes to the new connection. The lock is released at the end of
    // this statement.
    let old = lock(&chat.names).insert(name.to_ascii_lowercase(), client);
    if let Some(old) = old {
        tell(&old, "<SERVER><command>TAKEN OVER</command></SERVER>");
        // The old connection's thread is blocked in `read`. This wakes the thread, which sees the
        // end of the stream.
        let _ = lock(&old).shutdown(Shutdown::Both);
    }
    let welcome = format!("<SERVER><command>WELCOME</command><username>{name}</username></SERVER>");
    visit.state = State::LoggedIn(name);
    welcome
}

/// Delivers a message to all other clients that have logged in. Returns the answer.
fn public(from: &str, text: &str, chat: &Chat) -> String {
    let document = relay(from, "public", text);
    // Copy the table: the lock is released at the end of this statement. If it were held during the
    // writes, all clients would wait for each recipient that does not read.
    let mut receivers = lock(&chat.names).clone();
    receivers.remove(&from.to_ascii_lowercase());
    let mut count = 0;
    for receiver in receivers.values() {
        if tell(receiver, &document) {
            count += 1;
        }
    }
    sent(count)
}

/// Delivers a message to the client with the name `to`. Returns the answer.
fn direct(from: &str, to: &str, text: &str, chat: &Chat) -> String {
    let document = relay(from, "direct", text);
    let receiver = lock(&chat.names).get(&to.to_ascii_lowercase()).cloned();
    match receiver {
        Some(receiver) if tell(&receiver, &document) => sent(1),
        _ => refusal("no-such-user", "no client with this name has logged in"),
    }
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

/// The document that brings a message to a client.
fn relay(from: &str, scope: &str, text: &str) -> String {
    let text = escape(text);
    format!("<CLIENT from='{from}' scope='{scope}'><message>{text}</message></CLIENT>")
}

/// The document that confirms a message: it was delivered to this many clients.
fn sent(count: usize) -> String {
    format!("<SERVER><command>SENT</command><count>{count}</count></SERVER>")
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
    use std::fs;
    use std::path::PathBuf;

    /// A chat with an empty file (named after the test), and the file's path.
    fn chat(test: &str) -> (Chat, PathBuf) {
        let name = format!("portal-rung-5-{test}-{}", std::process::id());
        let path = env::temp_dir().join(name);
        let mut options = File::options();
        options.read(true).append(true).create_new(true);
        let chat = Chat {
            names: Mutex::default(),
            accounts: Mutex::new(options.open(&path).unwrap()),
        };
        (chat, path)
    }

    #[test]
    fn the_first_password_for_a_name_is_the_right_one() {
        let (chat, path) = chat("first");
        let check = |name, password| check_password(name, password, &chat).unwrap();
        assert_eq!(check("Alice", "the moon").as_deref(), Some("Alice"));
        assert_eq!(check("alice", "the sun"), None);
        assert_eq!(check("ALICE", "the moon").as_deref(), Some("Alice"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("moon"), "{text}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn half_a_line_spoils_no_other_account() {
        let (chat, path) = chat("half");
        let check = |name| check_password(name, "the moon", &chat).unwrap();
        assert!(check("alice").is_some());
        for half in [
            "\nbob",
            "\ncarol 0123456789abcdef",
            "\ndave 0123456789abcdef 00",
        ] {
            lock(&chat.accounts).write_all(half.as_bytes()).unwrap();
            assert!(check("alice").is_some());
        }
        assert!(check("eve").is_some() && check("eve").is_some());
        assert_eq!(check("dave"), None);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn equal_passwords_have_different_hashes() {
        let hash = |salt| hash("the moon", salt).unwrap();
        assert_ne!(hash("0123456789abcdef"), hash("fedcba9876543210"));
        assert_eq!(hash("0123456789abcdef"), hash("0123456789abcdef"));
    }
}
