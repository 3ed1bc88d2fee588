//! Rung 6: rooms, each with its own thread and port (seed 004).
//!
//! It continues rung 4, because rooms need no passwords. The answer to JOIN is a room's port and a
//! passcode. The client opens a second connection, to that port, and sends the passcode first. The
//! room's thread accepts these connections, and each of them has a thread, too. A room is closed
//! when its last member has left.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use roxmltree::Document;

/// The longest line in bytes, without its line feed and without a `\r` before that.
const MAX_LINE: u64 = 8192;
/// The time for which a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_millis(50);

/// The maximum number of rooms: each has one of the ports after the server's.
const MAX_ROOMS: u16 = 16;
/// The time for which a passcode is valid, and the time in which a connection to a room must send
/// one.
const RESERVATION: Duration = Duration::from_secs(2);
/// The interval at which expired passcodes are removed.
const TICK: Duration = Duration::from_millis(500);

/// A connection that several threads write to, each only while it holds the lock. So documents do
/// not mix. `Arc` counts the owners: the last owner to drop its `Client` closes the connection.
type Client = Arc<Mutex<TcpStream>>;

/// The state that all threads share, behind one lock. With a lock for each table, two threads could
/// each hold one lock and wait forever for the other one.
type Shared = Arc<Mutex<Chat>>;

#[derive(Default)]
struct Chat {
    /// The names of the clients that have logged in.
    names: HashSet<String>,
    /// The rooms, by port.
    rooms: HashMap<u16, Room>,
    /// The stack of the ports that no room uses.
    free_ports: Vec<u16>,
}

#[derive(Default)]
struct Room {
    name: String,
    /// The members, keyed by passcode; each JOIN has a different one.
    members: HashMap<String, Member>,
}

/// A client in a room, from its JOIN on.
struct Member {
    name: String,
    /// The time until which the client must connect.
    expiry: Instant,
    /// The client's connection to the room, or `None` until it has connected.
    connection: Option<Client>,
}

/// The data that a client's own thread keeps about the client.
#[derive(Default)]
struct Visit {
    /// `None` until the client has logged in.
    name: Option<String>,
    /// For each room that the client has joined: its port, and the client's passcode there.
    joined: HashMap<String, (u16, String)>,
}

/// Accepts clients and starts a thread for each, until the program is terminated. An error that
/// `main` returns is printed, and the program exits with code 1.
fn main() -> Result<(), String> {
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.ok_or("usage: rung-6 PORT")?;
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // An empty chat behind a lock.
    let shared = Shared::default();
    // In this order, the first room pops the first port. (`saturating_add` stops at 65535 instead
    // of overflowing. Then there are fewer rooms.)
    let ports = (1..=MAX_ROOMS).map(|number| port.saturating_add(number));
    lock(&shared).free_ports.extend(ports.rev());
    let ticking = Arc::clone(&shared);
    thread::spawn(move || tick(&ticking));
    // Each turn of this loop calls `accept`. It takes one connection out of the backlog, and blocks
    // while the backlog is empty. `zip` pairs each connection with the next number.
    for (stream, seat) in listener.incoming().zip(1..) {
        // One more owner of the same state, not a copy of it.
        let shared = Arc::clone(&shared);
        // `and_then` starts a thread if `accept` has not failed. `move` makes the new thread the
        // owner of the stream and of its `Arc`. A thread may outlive the function that started it,
        // so it must not borrow that function's variables (`'static`). `thread::spawn` would panic,
        // and so stop the server, if the system could not create another thread; `Builder` returns
        // an error instead.
        let started = stream
            .and_then(|stream| thread::Builder::new().spawn(move || visit(stream, seat, &shared)));
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
fn visit(stream: TcpStream, seat: u32, shared: &Shared) -> io::Result<()> {
    let (client, mut reader) = prepare(stream)?;
    let greeting = format!(
        "<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"
    );
    tell(&client, &greeting);
    // In other seeds, two neighbouring seats are partners, and a client is notified whether it has
    // a partner. The project's own chat client waits for that notification before it lets its user
    // type.
    tell(&client, "<SERVER><command>NO PARTNER</command></SERVER>");
    let mut visit = Visit::default();
    while let Some(line) = next_line(&mut reader) {
        let answer = answer(&line, &mut visit, shared);
        tell(&client, &answer);
    }
    // Every visit leads here, however it ends. (Only a panic would not.) If the client stayed in
    // the tables, no other client could ever have its name, and its rooms would never be closed.
    for (port, passcode) in visit.joined.values() {
        remove(passcode, *port, shared);
    }
    if let Some(name) = &visit.name {
        lock(shared).names.remove(name);
    }
    Ok(())
}

/// Makes two handles for a connection: one for writing, which several threads use, and one for
/// reading lines. If reading needed the lock, too, no other thread could write to this client while
/// its own thread waits for its next line.
fn prepare(stream: TcpStream) -> io::Result<(Client, BufReader<TcpStream>)> {
    // Without this, a write to a client that does not read would wait forever.
    stream.set_write_timeout(Some(WRITE))?;
    let reader = BufReader::new(stream.try_clone()?);
    Ok((Arc::new(Mutex::new(stream)), reader))
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

/// Does what a client asks for in one line. Returns the answer.
fn answer(line: &str, visit: &mut Visit, shared: &Shared) -> String {
    // The text of an element, or an empty text if there is no such element.
    let word = |element| child_text(line, element).unwrap_or_default();
    match (word("command").as_str(), visit.name.clone()) {
        ("LOGIN", None) => login(&word("username"), visit, shared),
        ("JOIN", Some(name)) => join(name, &word("room"), visit, shared),
        ("LEAVE", Some(_)) => leave(&word("room"), visit, shared),
        ("ROOMS", Some(_)) => list_rooms(shared),
        ("JOIN" | "LEAVE" | "ROOMS", None) => refusal("login-first", "log in before using rooms"),
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
fn login(wanted: &str, visit: &mut Visit, shared: &Shared) -> String {
    if !is_name(wanted) {
        return refusal("bad-name", "a name has 1 to 32 letters, digits, _ . or -");
    }
    // `insert` returns `false` if the name was in the set. Under the lock, it is one step: two
    // clients cannot both find the name free.
    if !lock(shared).names.insert(wanted.to_owned()) {
        return refusal("name-in-use", "another client has this name");
    }
    visit.name = Some(wanted.to_owned());
    format!("<SERVER><command>WELCOME</command><username>{wanted}</username></SERVER>")
}

/// Returns whether a client may have this name. Such a name needs no escaping.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

/// Reserves a place in a room, which is opened if there is none. Returns the answer.
fn join(name: String, room_name: &str, visit: &mut Visit, shared: &Shared) -> String {
    if !is_name(room_name) {
        return refusal("bad-name", "a room's name follows the rule for names");
    }
    // A client is in a room at most once. If it has joined before, it leaves first.
    leave(room_name, visit, shared);
    let passcode = new_passcode();
    // The lock is held until the end of this function. If it were released after `find`, the room
    // could be closed before the new member is in it.
    let mut chat = lock(shared);
    let found = chat.rooms.iter().find(|(_, room)| room.name == room_name);
    let found = found.map(|(port, _)| *port);
    // `or_else` calls `open_room` only if no room was found.
    let Some(port) = found.or_else(|| open_room(&mut chat, shared)) else {
        return refusal("no-room-left", "no port is left for another room");
    };
    // The room that has this port, or a new one.
    let room = chat.rooms.entry(port).or_default();
    room.name = room_name.to_owned();
    let member = Member {
        name,
        expiry: Instant::now() + RESERVATION,
        connection: None,
    };
    room.members.insert(passcode.clone(), member);
    let place = (port, passcode.clone());
    visit.joined.insert(room_name.to_owned(), place);
    format!(
        "<SERVER><command>JOINED</command><room>{room_name}</room><address>127.0.0.1</address>\
         <Port>{port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
    )
}

/// A passcode that cannot be guessed: 64 random bits, as 16 hexadecimal digits.
fn new_passcode() -> String {
    // `panic!` stops the client's thread. A guessable passcode would be worse.
    let number = getrandom::u64().unwrap_or_else(|error| panic!("no random numbers: {error}"));
    format!("{number:016x}")
}

/// Takes a port off the stack and starts a room's thread there. Returns the port, or `None` if that
/// is not possible. The caller holds the lock, and nothing here waits.
fn open_room(chat: &mut Chat, shared: &Shared) -> Option<u16> {
    let port = chat.free_ports.pop()?;
    let shared = Arc::clone(shared);
    let started = TcpListener::bind(("127.0.0.1", port)).and_then(|listener| {
        thread::Builder::new().spawn(move || serve_room(listener, port, &shared))
    });
    if let Err(error) = started {
        // Another program may be using the port. At the bottom of the stack, it is tried last.
        eprintln!("cannot open a room on port {port}: {error}");
        chat.free_ports.insert(0, port);
        return None;
    }
    Some(port)
}

/// Accepts connections to a room until the room is closed: like `main`, for one room.
fn serve_room(listener: TcpListener, port: u16, shared: &Shared) {
    for stream in listener.incoming() {
        // This connection may only be there to wake the thread.
        if !lock(shared).rooms.contains_key(&port) {
            break;
        }
        let shared = Arc::clone(shared);
        let started = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || visit_room(stream, port, &shared))
        });
        if let Err(error) = started {
            eprintln!("cannot serve a member: {error}");
            thread::sleep(Duration::from_millis(100));
        }
    }
    // The listener must be closed before its port is free. Otherwise the next room could not listen
    // there.
    drop(listener);
    lock(shared).free_ports.push(port);
}

/// Serves one connection to a room. Its first line must be a passcode.
fn visit_room(stream: TcpStream, port: u16, shared: &Shared) -> io::Result<()> {
    // Without this, a connection that sends no passcode would keep its thread forever. (One that
    // sends a byte now and then still keeps its thread for a long time: the timeout starts again
    // with each read.)
    stream.set_read_timeout(Some(RESERVATION))?;
    let (client, mut reader) = prepare(stream)?;
    let line = next_line(&mut reader).unwrap_or_default();
    let passcode = child_text(&line, "HandshakePasscode").unwrap_or_default();
    // A member may be silent for as long as it likes. (`get_ref` is the stream in the reader.)
    reader.get_ref().set_read_timeout(None)?;
    if enter(&passcode, &client, port, shared).is_none() {
        return Ok(());
    }
    while let Some(line) = next_line(&mut reader)
        && let Some(answer) = say(&line, &passcode, port, shared)
    {
        tell(&client, &answer);
    }
    // Every visit leads here, however it ends. LEAVE may have removed the member before.
    remove(&passcode, port, shared);
    Ok(())
}

/// Greets a connection to a room, and makes it a member if its passcode is right. Otherwise this
/// returns `None`.
fn enter(passcode: &str, client: &Client, port: u16, shared: &Shared) -> Option<()> {
    let mut chat = lock(shared);
    let room = chat.rooms.get_mut(&port)?;
    let member = room.members.get_mut(passcode);
    // A passcode admits one connection, once. A wrong passcode changes nothing, so a stranger
    // cannot cost a client its place.
    let member = member.filter(|member| member.connection.is_none());
    let text = match member {
        Some(_) => "Connection successful",
        None => "Wrong handshake passcode",
    };
    let name = &room.name;
    let greeting = format!(
        "<SERVER type='room' port='{port}' room='{name}'><message>{text}</message></SERVER>"
    );
    // First the greeting, then the messages from others. This write does not wait, although the
    // lock is held: nothing has been written to this connection before.
    tell(client, &greeting);
    // `?` returns `None` if there is no member with this passcode.
    member?.connection = Some(Arc::clone(client));
    Some(())
}

/// Delivers a member's message to the other members. Returns the answer, or `None` for a former
/// member.
fn say(line: &str, passcode: &str, port: u16, shared: &Shared) -> Option<String> {
    // The project's own chat client sends this before it leaves a room.
    if child_text(line, "command").as_deref() == Some("PING") {
        return Some("<SERVER><command>PONG</command></SERVER>".to_owned());
    }
    let Some(text) = child_text(line, "message") else {
        return Some(refusal("unknown-command", "a room accepts only messages"));
    };
    let text = escape(&text);
    let chat = lock(shared);
    let room = chat.rooms.get(&port)?;
    let (from, room_name) = (&room.members.get(passcode)?.name, &room.name);
    let document = format!(
        "<CLIENT from='{from}' scope='room' room='{room_name}'><message>{text}</message></CLIENT>"
    );
    let others = others(room, passcode);
    // If the lock were held during the writes, all clients would wait for each member that does not
    // read.
    drop(chat);
    for other in &others {
        tell(other, &document);
    }
    let count = others.len();
    let answer = format!("<SERVER><command>SENT</command><count>{count}</count></SERVER>");
    Some(answer)
}

/// The connections of all members of a room except the one with this passcode.
fn others(room: &Room, passcode: &str) -> Vec<Client> {
    let others = room.members.iter().filter(|(other, _)| *other != passcode);
    let connections = others.filter_map(|(_, member)| member.connection.clone());
    connections.collect()
}

/// Removes a client from a room and closes its connection there. Returns the answer.
fn leave(room_name: &str, visit: &mut Visit, shared: &Shared) -> String {
    let (port, passcode) = visit.joined.remove(room_name).unwrap_or_default();
    match remove(&passcode, port, shared) {
        Some(()) => format!("<SERVER><command>LEFT</command><room>{room_name}</room></SERVER>"),
        None => refusal("not-a-member", "this client is not in that room"),
    }
}

/// Removes the member with this passcode from a room, and notifies the others. Returns `None` if it
/// has been removed before.
fn remove(passcode: &str, port: u16, shared: &Shared) -> Option<()> {
    let mut chat = lock(shared);
    let room = chat.rooms.get_mut(&port)?;
    let member = room.members.remove(passcode)?;
    let (name, room_name) = (&member.name, &room.name);
    let news = format!(
        "<SERVER><command>ROOM LEFT</command><username>{name}</username><room>{room_name}</room></SERVER>"
    );
    let others = others(room, passcode);
    end_empty_rooms(chat);
    if let Some(connection) = &member.connection {
        // Wakes the thread that reads from this connection, which sees the end of the stream.
        let _ = lock(connection).shutdown(Shutdown::Both);
        for other in &others {
            tell(other, &news);
        }
    }
    Some(())
}

/// Closes the rooms without members. A client that has joined but not connected yet is also a
/// member: it has received the port, and must not find the port closed or used by another room.
///
/// The parameter is the guard of the lock, not the chat itself, so that this function can release
/// the lock before it connects: `connect` may wait.
fn end_empty_rooms(mut chat: MutexGuard<Chat>) {
    // `extract_if` takes the rooms for which this is true out of the table.
    let ended = chat.rooms.extract_if(|_, room| room.members.is_empty());
    let ports: Vec<u16> = ended.map(|(port, _)| port).collect();
    drop(chat);
    for port in ports {
        // The room's thread is blocked in `accept`. A connection wakes the thread, which then finds
        // no room.
        let _ = TcpStream::connect(("127.0.0.1", port));
    }
}

/// The ticker's thread: at each tick, it removes the members that have not connected in time.
fn tick(shared: &Shared) {
    loop {
        thread::sleep(TICK);
        let mut chat = lock(shared);
        for Room { members, .. } in chat.rooms.values_mut() {
            let now = Instant::now();
            members.retain(|_, member| member.connection.is_some() || now < member.expiry);
        }
        end_empty_rooms(chat);
    }
}

/// The answer to ROOMS: each room with the number of members that have connected.
fn list_rooms(shared: &Shared) -> String {
    let mut list = String::new();
    for room in lock(shared).rooms.values() {
        let members = others(room, "").len();
        list += &format!("<room members='{members}'>{}</room>", room.name);
    }
    format!("<SERVER><command>ROOMS</command>{list}</SERVER>")
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

    fn member(name: &str, connection: Option<Client>) -> Member {
        let expiry = Instant::now() + RESERVATION;
        Member {
            name: name.to_owned(),
            expiry,
            connection,
        }
    }

    /// A chat with the room "lobby", which alice has joined with the passcode "secret".
    fn with_lobby() -> Shared {
        let shared = Shared::default();
        let members = HashMap::from([("secret".to_owned(), member("alice", None))]);
        let name = "lobby".to_owned();
        lock(&shared).rooms.insert(50001, Room { name, members });
        shared
    }

    #[test]
    fn a_passcode_admits_one_connection() {
        let shared = with_lobby();
        let (alice, mut alices_end) = client();
        let mut enter = |passcode| {
            let is_in = enter(passcode, &alice, 50001, &shared).is_some();
            let greeting = next_line(&mut alices_end).unwrap();
            assert_eq!(is_in, greeting.contains("Connection successful"));
            is_in
        };
        assert!(!enter("guessed"));
        assert!(enter("secret"));
        assert!(!enter("secret"));
        assert_ne!(new_passcode(), new_passcode());
    }

    #[test]
    fn a_room_ends_when_no_client_is_in_it_or_on_its_way() {
        let shared = with_lobby();
        end_empty_rooms(lock(&shared));
        assert!(list_rooms(&shared).contains("<room members='0'>lobby</room>"));
        assert!(remove("secret", 50001, &shared).is_some());
        assert!(!list_rooms(&shared).contains("lobby"));
        assert!(remove("secret", 50001, &shared).is_none());
    }

    #[test]
    fn a_former_member_is_not_heard_and_the_others_are_told() {
        let shared = with_lobby();
        let ((alice, _alices_end), (bob, mut bobs_end)) = (client(), client());
        assert!(enter("secret", &alice, 50001, &shared).is_some());
        let bob = member("bob", Some(bob));
        let mut chat = lock(&shared);
        let lobby = chat.rooms.get_mut(&50001).unwrap();
        lobby.members.insert("another secret".to_owned(), bob);
        drop(chat);
        let hello = "<CLIENT><message>hello</message></CLIENT>";
        let sent = "<SERVER><command>SENT</command><count>1</count></SERVER>".to_owned();
        assert_eq!(say(hello, "secret", 50001, &shared), Some(sent));
        let mut told = || next_line(&mut bobs_end).unwrap();
        assert!(told().contains("from='alice' scope='room' room='lobby'><message>hello<"));
        assert!(remove("secret", 50001, &shared).is_some());
        assert!(told().contains("ROOM LEFT</command><username>alice<"));
        assert_eq!(say(hello, "secret", 50001, &shared), None);
    }
}
