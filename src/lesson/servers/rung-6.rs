//! Rung 6: rooms, each with its own port (seed 004).
//!
//! It continues rung 4, because rooms need no passwords. The answer to JOIN is a room's port and a
//! passcode. The client opens a second connection, to that port, and sends the passcode first. Each
//! room has a thread that accepts its connections, and each of these has two threads, as in rung 4.
//! A room ends when its last member has left.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, process, str, thread};

use roxmltree::Document;

/// The longest line in bytes, without its line feed.
const MAX_LINE: usize = 8192;
/// How many documents wait for one client at most.
const MAX_QUEUE: usize = 256;
/// How long a write may wait for a client that does not read.
const WRITE: Duration = Duration::from_secs(10);
/// How many rooms there may be: each has one of the ports after the server's.
const MAX_ROOMS: u16 = 16;
/// How many rooms a client may be in. Otherwise one client could take all of them.
const MAX_ROOMS_PER_CLIENT: usize = 4;
/// How long a passcode is valid, and how long a connection to a room may take to send one.
const RESERVATION: Duration = Duration::from_secs(2);
/// How often passcodes that have expired are removed.
const TICK: Duration = Duration::from_millis(500);

/// The state that all threads share. A thread that needs `rooms` and `free_ports` locks `rooms`
/// first. If another thread locked them in the other order, each could hold one lock and wait for
/// the other one for ever.
#[derive(Default)]
struct Chat {
    /// The clients that have logged in, by their names.
    names: Mutex<HashMap<String, Client>>,
    /// The rooms, by their ports.
    rooms: Mutex<HashMap<u16, Room>>,
    /// The stack of the ports that no room has.
    free_ports: Mutex<Vec<u16>>,
}

#[derive(Default)]
struct Room {
    name: String,
    /// The clients that have joined and not connected yet: for each passcode the client's name, and
    /// the time at which the passcode expires.
    expected: HashMap<String, (String, Instant)>,
    /// The clients that have connected: for each name its connection to this room.
    members: HashMap<String, Client>,
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
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.unwrap_or_else(|| fail("usage: rung-6 PORT"));
    let last = port
        .checked_add(MAX_ROOMS)
        .unwrap_or_else(|| fail("the rooms' ports end above 65535"));
    // From here on, clients can connect: the system completes their connections and keeps them in
    // the backlog, even while this program does not call `accept`. With 0.0.0.0 instead of
    // 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .unwrap_or_else(|error| fail(&format!("cannot listen on port {port}: {error}")));
    println!("Listening on 127.0.0.1:{port}");
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat::default());
    // In this order, the first room pops the first port.
    lock(&chat.free_ports).extend((port + 1..=last).rev());
    let ticking = Arc::clone(&chat);
    thread::spawn(move || tick(&ticking));
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
fn visit(stream: TcpStream, seat: u64, chat: &Arc<Chat>) -> io::Result<()> {
    let client = Client::start(stream)?;
    let result = talk(&client, seat, chat);
    // Every return from `talk` leads here: after the end of the stream, a broken connection, a long
    // line. (Only a panic would not.)
    // If the client stayed in the table, no other client could ever have its name. It leaves its
    // rooms before it loses the name. Otherwise another client could take the name and join a room,
    // and would be removed from there in its place.
    if let Some(name) = name_of(&client, chat) {
        leave_all_rooms(&name, chat);
    }
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
fn talk(client: &Client, seat: u64, chat: &Arc<Chat>) -> io::Result<()> {
    client.tell(format!(
        "<SERVER type='single' seat='{seat}'><message>Connection successful</message></SERVER>"
    ))?;
    // In other seeds, two neighbouring seats are partners, and a client is told whether it has one.
    // The project's own chat client waits for that before it lets its user type.
    client.tell(command("NO PARTNER"))?;
    // Bytes that have been read and are not a whole line yet. Each client needs its own.
    let mut kept = Vec::new();
    while let Some(line) = next_line(&client.stream, &mut kept, None)? {
        client.tell(answer(&line, client, chat))?;
    }
    Ok(())
}

/// Does what a client asks for in one line. Returns the answer.
fn answer(line: &[u8], client: &Client, chat: &Arc<Chat>) -> String {
    let document = parse(line);
    let child = |name| child_text(document.as_ref()?, name);
    let room_name = child("room").unwrap_or_default();
    match (child("command").as_deref(), child("message")) {
        (Some("LOGIN"), _) => login(client, &child("username").unwrap_or_default(), chat),
        (Some("JOIN"), _) => join(client, &room_name, chat),
        (Some("LEAVE"), _) => leave(client, &room_name, chat),
        (Some("ROOMS"), _) => list_rooms(chat),
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
    let message = relay(&from, "scope='direct'", text);
    match lock(&chat.names).get(to) {
        Some(receiver) if receiver.try_tell(message) => sent(1),
        _ => refusal("no-such-user", "no client with this name reads messages"),
    }
}

/// Reserves a place in a room, which is opened if there is none. Returns the answer.
fn join(client: &Client, room_name: &str, chat: &Arc<Chat>) -> String {
    let Some(name) = name_of(client, chat) else {
        return refusal("login-first", "log in before you join a room");
    };
    if !is_name(room_name) {
        return refusal("bad-name", "a room's name follows the rule for names");
    }
    // The lock is held until the end of this function. If it were released after the search, the
    // room could end before the new passcode is in it.
    let mut rooms = lock(&chat.rooms);
    let others = rooms.values().filter(|room| room.name != room_name);
    if others.filter(|room| room.knows(&name)).count() == MAX_ROOMS_PER_CLIENT {
        return refusal("no-room-left", "this client is in too many rooms");
    }
    let found = rooms.iter().find(|(_, room)| room.name == room_name);
    let port = match found.map(|(port, _)| *port).or_else(|| open_room(chat)) {
        Some(port) => port,
        None => return refusal("no-room-left", "no port is left for another room"),
    };
    let room = rooms.entry(port).or_default();
    if room.members.contains_key(&name) {
        return refusal("already-member", "this client is in that room");
    }
    room.name = room_name.to_owned();
    // Only the last passcode of a client is valid. With several, the client could connect several
    // times, and fill the memory with passcodes.
    room.expected.retain(|_, (expected, _)| *expected != name);
    let passcode = new_passcode();
    let expiry = Instant::now() + RESERVATION;
    room.expected.insert(passcode.clone(), (name, expiry));
    format!(
        "<SERVER><command>JOINED</command><room>{room_name}</room><address>127.0.0.1</address>\
         <Port>{port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
    )
}

/// A passcode that cannot be guessed: 128 random bits.
fn new_passcode() -> String {
    let mut bytes = [0; 16];
    // With passcodes that can be guessed, the server would be worse than no server.
    if let Err(error) = getrandom::fill(&mut bytes) {
        fail(&format!("the system has no random numbers: {error}"));
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes a port off the stack and starts a room's thread there. The caller holds the lock of the
/// rooms, and nothing here waits.
fn open_room(chat: &Arc<Chat>) -> Option<u16> {
    // Each free port is tried once. Another program may have one of them.
    let free = lock(&chat.free_ports).len();
    for _ in 0..free {
        let port = lock(&chat.free_ports).pop()?;
        let shared = Arc::clone(chat);
        let started = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| {
            thread::Builder::new().spawn(move || serve_room(listener, port, &shared))
        });
        match started {
            Ok(_) => return Some(port),
            Err(error) => eprintln!("cannot open a room at port {port}: {error}"),
        }
        // At the bottom of the stack, it is tried last from now on.
        lock(&chat.free_ports).insert(0, port);
    }
    None
}

/// Accepts connections to a room until the room has ended: what `main` does, for one room.
fn serve_room(listener: TcpListener, port: u16, chat: &Arc<Chat>) {
    for stream in listener.incoming() {
        // Checked after each `accept`: this connection may only be there to wake the thread.
        if !lock(&chat.rooms).contains_key(&port) {
            break;
        }
        let chat = Arc::clone(chat);
        let started = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || visit_room(stream, port, &chat))
        });
        if let Err(error) = started {
            eprintln!("cannot serve a member: {error}");
            thread::sleep(Duration::from_millis(100));
        }
    }
    // The port must be closed before it is free. Otherwise the next room could not listen there.
    drop(listener);
    lock(&chat.free_ports).push(port);
}

/// Serves one connection to a room. Its first line must be a passcode.
fn visit_room(stream: TcpStream, port: u16, chat: &Chat) -> io::Result<()> {
    let client = Client::start(stream)?;
    let mut kept = Vec::new();
    // Without a deadline, a connection that sends no passcode would keep its threads for ever.
    let deadline = Some(Instant::now() + RESERVATION);
    let line = next_line(&client.stream, &mut kept, deadline)?.unwrap_or_default();
    let passcode = parse(&line).and_then(|document| child_text(&document, "HandshakePasscode"));
    let Some(name) = enter(&passcode.unwrap_or_default(), &client, port, chat) else {
        return Ok(());
    };
    let result = talk_in_room(&name, &client, &mut kept, port, chat);
    // Every return from `talk_in_room` leads here. LEAVE may have removed this member before, and
    // the client may have joined again since. In that case, the entry belongs to the new connection
    // and stays.
    let mut rooms = lock(&chat.rooms);
    if let Some(room) = rooms.get_mut(&port)
        && room.has(&name, &client)
    {
        room.remove(&name);
    }
    // `end_empty_rooms` locks the rooms itself.
    drop(rooms);
    end_empty_rooms(chat);
    result
}

/// Makes a connection with the right passcode a member. Returns the member's name.
fn enter(passcode: &str, client: &Client, port: u16, chat: &Chat) -> Option<String> {
    let mut rooms = lock(&chat.rooms);
    let room = rooms.get_mut(&port)?;
    // `remove`: a passcode admits one connection. A wrong passcode changes nothing, so a stranger
    // cannot cost a client its place.
    let name = match room.expected.remove(passcode) {
        Some((name, expiry)) if Instant::now() < expiry => name,
        _ => {
            client.try_tell(greeting(port, &room.name, "Wrong handshake passcode"));
            return None;
        }
    };
    // First into the queue, then into the list: the greeting comes before all messages.
    client.try_tell(greeting(port, &room.name, "Connection successful"));
    room.members.insert(name.clone(), client.clone());
    Some(name)
}

/// Delivers a member's messages, until its connection ends or LEAVE has removed it.
fn talk_in_room(
    name: &str,
    client: &Client,
    kept: &mut Vec<u8>,
    port: u16,
    chat: &Chat,
) -> io::Result<()> {
    // The deadline for the passcode no longer applies: a member may be silent.
    client.stream.set_read_timeout(None)?;
    while let Some(line) = next_line(&client.stream, kept, None)? {
        let text = parse(&line).and_then(|document| child_text(&document, "message"));
        let answer = match text {
            Some(text) => say(name, client, &text, port, chat),
            None => Some(refusal("unknown-command", "a room knows messages only")),
        };
        match answer {
            Some(answer) => client.tell(answer)?,
            None => break,
        }
    }
    Ok(())
}

/// Delivers a message to the other members. Returns the answer, or `None` to a former member.
fn say(name: &str, client: &Client, text: &str, port: u16, chat: &Chat) -> Option<String> {
    let rooms = lock(&chat.rooms);
    let room = rooms.get(&port)?;
    if !room.has(name, client) {
        return None;
    }
    let scope = format!("scope='room' room='{}'", room.name);
    Some(sent(room.tell_others(name, &relay(name, &scope, text))))
}

impl Room {
    /// Whether the client `name` is in the room, or has joined and not connected yet.
    fn knows(&self, name: &str) -> bool {
        let is_expected = self.expected.values().any(|(expected, _)| expected == name);
        is_expected || self.members.contains_key(name)
    }

    /// Whether that connection is the member `name`.
    fn has(&self, name: &str, client: &Client) -> bool {
        self.members
            .get(name)
            .is_some_and(|member| member.is(client))
    }

    /// Removes a member and tells the others.
    fn remove(&mut self, name: &str) -> Option<Client> {
        let member = self.members.remove(name)?;
        let room_name = &self.name;
        self.tell_others(name, &format!(
            "<SERVER><command>ROOM LEFT</command><username>{name}</username><room>{room_name}</room></SERVER>"
        ));
        Some(member)
    }

    /// Queues a document for every member except `name`. Returns how many had room for it.
    fn tell_others(&self, name: &str, document: &str) -> usize {
        let mut count = 0;
        for (other, member) in &self.members {
            if other != name && member.try_tell(document.to_owned()) {
                count += 1;
            }
        }
        count
    }
}

/// Removes a client from a room and ends its connection there. Returns the answer.
fn leave(client: &Client, room_name: &str, chat: &Chat) -> String {
    let name = name_of(client, chat).unwrap_or_default();
    let mut rooms = lock(&chat.rooms);
    let room = rooms.values_mut().find(|room| room.name == room_name);
    let Some(member) = room.and_then(|room| room.remove(&name)) else {
        return refusal("not-a-member", "this client is not in that room");
    };
    // Wakes the thread that reads from the member's connection. The other direction stays open:
    // documents may still be in the queue. The writing thread closes it.
    let _ = member.stream.shutdown(Shutdown::Read);
    drop(rooms);
    end_empty_rooms(chat);
    format!("<SERVER><command>LEFT</command><room>{room_name}</room></SERVER>")
}

/// Removes a client from all rooms and ends its connections there.
fn leave_all_rooms(name: &str, chat: &Chat) {
    let mut rooms = lock(&chat.rooms);
    for room in rooms.values_mut() {
        room.expected.retain(|_, (expected, _)| expected != name);
        if let Some(member) = room.remove(name) {
            let _ = member.stream.shutdown(Shutdown::Read);
        }
    }
    drop(rooms);
    end_empty_rooms(chat);
}

/// Removes the passcodes that have expired, at each tick. A room without members ends then.
fn tick(chat: &Chat) {
    loop {
        thread::sleep(TICK);
        // Locked until the end of the loop below. `values_mut` borrows from the guard.
        for room in lock(&chat.rooms).values_mut() {
            room.expected
                .retain(|_, (_, expiry)| Instant::now() < *expiry);
        }
        end_empty_rooms(chat);
    }
}

/// Ends the rooms without members, except those that a client has joined and not connected to yet.
/// That client has been given the port: it must not find it closed, or another room there.
fn end_empty_rooms(chat: &Chat) {
    let mut rooms = lock(&chat.rooms);
    let is_empty = |room: &Room| room.members.is_empty() && room.expected.is_empty();
    let ended = rooms.extract_if(|_, room| is_empty(room));
    let ports: Vec<u16> = ended.map(|(port, _)| port).collect();
    // The lock is released first: `connect` may wait.
    drop(rooms);
    for port in ports {
        // The room's thread is blocked in `accept`. A connection wakes it, and it finds no room.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let _ = TcpStream::connect_timeout(&address, RESERVATION);
    }
}

/// The answer to ROOMS: each room with the number of its members.
fn list_rooms(chat: &Chat) -> String {
    let mut list = String::new();
    for Room { name, members, .. } in lock(&chat.rooms).values() {
        list += &format!("<room members='{}'>{name}</room>", members.len());
    }
    format!("<SERVER><command>ROOMS</command>{list}</SERVER>")
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

/// The document that greets a client at a room's port, or rejects it.
fn greeting(port: u16, room_name: &str, text: &str) -> String {
    format!(
        "<SERVER type='room' port='{port}' room='{room_name}'><message>{text}</message></SERVER>"
    )
}

/// The document that brings a message to a client.
fn relay(from: &str, scope: &str, text: &str) -> String {
    let text = escape(text);
    format!("<CLIENT from='{from}' {scope}><message>{text}</message></CLIENT>")
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
fn next_line(
    mut stream: &TcpStream,
    kept: &mut Vec<u8>,
    deadline: Option<Instant>,
) -> io::Result<Option<Vec<u8>>> {
    // A longer buffer would save calls of `read` for long lines; most lines are short.
    let mut bytes = [0; 4096];
    loop {
        // Before reading: one read may have brought several lines.
        let line = take_line(kept)?;
        if line.is_some() {
            return Ok(line);
        }
        if let Some(deadline) = deadline {
            // A read may take the time that is left. (If each read could take the whole time, a
            // client could send one byte after the other for ever. If no time is left,
            // `set_read_timeout` returns an error.)
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left))?;
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

    /// A chat with a room at port 50001, to which alice is on her way with the passcode "secret".
    fn with_lobby() -> Chat {
        let chat = Chat::default();
        let alice = ("alice".to_owned(), Instant::now() + RESERVATION);
        let lobby = Room {
            name: "lobby".to_owned(),
            expected: HashMap::from([("secret".to_owned(), alice)]),
            ..Room::default()
        };
        lock(&chat.rooms).insert(50001, lobby);
        chat
    }

    #[test]
    fn a_passcode_admits_one_connection() {
        let chat = with_lobby();
        let (alice, documents) = client();
        assert_eq!(enter("guessed", &alice, 50001, &chat), None);
        assert!(
            documents
                .recv()
                .unwrap()
                .contains("Wrong handshake passcode")
        );
        assert_eq!(enter("secret", &alice, 50002, &chat), None);
        assert_eq!(
            enter("secret", &alice, 50001, &chat).as_deref(),
            Some("alice")
        );
        assert!(documents.recv().unwrap().contains("Connection successful"));
        assert_eq!(enter("secret", &alice, 50001, &chat), None);
        assert_ne!(new_passcode(), new_passcode());
        let late = ("bob".to_owned(), Instant::now());
        let mut rooms = lock(&chat.rooms);
        let lobby = rooms.get_mut(&50001).unwrap();
        lobby.expected.insert("late".to_owned(), late);
        drop(rooms);
        assert_eq!(enter("late", &alice, 50001, &chat), None);
    }

    #[test]
    fn a_room_ends_when_no_client_is_in_it_or_on_its_way() {
        let chat = with_lobby();
        end_empty_rooms(&chat);
        assert!(list_rooms(&chat).contains("<room members='0'>lobby</room>"));
        leave_all_rooms("alice", &chat);
        assert!(!list_rooms(&chat).contains("lobby"));
    }

    #[test]
    fn a_former_member_is_not_heard_and_the_others_are_told() {
        let chat = with_lobby();
        let ((alice, _), (bob, documents)) = (client(), client());
        lock(&chat.names).insert("alice".to_owned(), alice.clone());
        enter("secret", &alice, 50001, &chat);
        let members = |chat: &Chat| lock(&chat.rooms)[&50001].members.len();
        lock(&chat.rooms)
            .get_mut(&50001)
            .unwrap()
            .members
            .insert("bob".to_owned(), bob);
        assert_eq!(members(&chat), 2);
        assert_eq!(say("alice", &alice, "hello", 50001, &chat), Some(sent(1)));
        assert!(
            documents
                .recv()
                .unwrap()
                .contains("room='lobby'><message>hello<")
        );
        assert!(leave(&alice, "lobby", &chat).contains("LEFT"));
        assert!(documents.recv().unwrap().contains("ROOM LEFT"));
        assert_eq!(say("alice", &alice, "hello", 50001, &chat), None);
        assert_eq!(members(&chat), 1);
    }
}
