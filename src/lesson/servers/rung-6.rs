//! Rung 6: rooms, each with its own thread and its own port (seed 004).
//!
//! It continues rung 4. The answer to JOIN is a room's port and a passcode. The client opens a
//! second connection, to that port, and sends the passcode first. A room ends with its last member.

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
/// How many rooms there may be: each has one of the ports after the server's.
const MAX_ROOMS: u16 = 16;
/// How long a passcode is valid, and how long a connection to a room may take to send one.
const RESERVATION: Duration = Duration::from_secs(2);
/// How often passcodes that have expired are removed.
const TICK: Duration = Duration::from_millis(500);

/// The state that all threads share. A thread that needs both of the last two locks takes `rooms`
/// first: if another one did it the other way round, the two could wait for each other for ever.
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
    /// The clients that may come: for each passcode the client's name, and when it was issued.
    expected: HashMap<String, (String, Instant)>,
    /// The clients that have come: for each name its connection to this room.
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
fn main() -> Result<(), String> {
    let port = env::args().nth(1).and_then(|word| word.parse().ok());
    let port: u16 = port.ok_or("usage: rung-6 PORT")?;
    let last = port
        .checked_add(MAX_ROOMS)
        .ok_or("the rooms' ports end above 65535")?;
    // From here on the system accepts connections, whether or not this program calls `accept`.
    // With 0.0.0.0 instead of 127.0.0.1, clients on other machines could connect, too.
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("Listening on 127.0.0.1:{port}");
    // `Arc` counts its owners: the table lives as long as a thread uses it.
    let chat = Arc::new(Chat::default());
    // In this order, the first room pops the first port.
    lock(&chat.free_ports).extend((port + 1..=last).rev());
    let ticking = Arc::clone(&chat);
    thread::spawn(move || tick(&ticking));
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
fn visit(stream: TcpStream, seat: u64, chat: &Arc<Chat>) -> io::Result<()> {
    let client = Client::start(stream)?;
    let result = talk(&client, seat, chat);
    // Every way out of `talk` leads here: the end of the stream, a broken connection, a long line.
    // If the client stayed in the table, no other client could ever have its name. It leaves its
    // rooms first: as long as it has the name, no other client can be in them with that name.
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
fn talk(client: &Client, seat: u64, chat: &Arc<Chat>) -> io::Result<()> {
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
fn answer(line: &[u8], client: &Client, chat: &Arc<Chat>) -> String {
    let child = |name| child_text(line, name);
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
    // messages, and delays no other client.
    let _ = receiver
        .queue
        .try_send(relay(&from, "scope='direct'", text));
    sent(1)
}

/// Sends a client to a room, which is made if there is none. Returns the answer.
fn join(client: &Client, room_name: &str, chat: &Arc<Chat>) -> String {
    let Some(name) = name_of(client, chat) else {
        return refusal("login-first", "log in before you join a room");
    };
    if !is_name(room_name) {
        return refusal("bad-name", "a room's name follows the rule for names");
    }
    // The lock is held until the end: between the look and the new passcode, the room must not end.
    let mut rooms = lock(&chat.rooms);
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
    // Only the last passcode of a client counts: it cannot fill the memory, or come twice.
    room.expected.retain(|_, (expected, _)| *expected != name);
    let passcode = new_passcode();
    room.expected
        .insert(passcode.clone(), (name, Instant::now()));
    format!(
        "<SERVER><command>JOINED</command><room>{room_name}</room><address>127.0.0.1</address>\
         <Port>{port}</Port><HandshakePasscode>{passcode}</HandshakePasscode></SERVER>"
    )
}

/// A passcode that cannot be guessed: 128 random bits.
fn new_passcode() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // It is better to run no server than one whose passcodes can be guessed.
        eprintln!("the system has no random numbers: {error}");
        process::exit(1);
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes a port off the stack and starts a room's thread there. (It waits for nothing.)
fn open_room(chat: &Arc<Chat>) -> Option<u16> {
    let port = lock(&chat.free_ports).pop()?;
    let shared = Arc::clone(chat);
    let started = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| {
        thread::Builder::new().spawn(move || serve_room(listener, port, &shared))
    });
    if let Err(error) = started {
        // Another program may have the port. At the bottom of the stack, it is not tried next.
        eprintln!("cannot open a room at port {port}: {error}");
        lock(&chat.free_ports).insert(0, port);
        return None;
    }
    Some(port)
}

/// Accepts connections to a room until the room has ended: what `main` does, for one room.
fn serve_room(listener: TcpListener, port: u16, chat: &Arc<Chat>) {
    for stream in listener.incoming() {
        // Looked at after each `accept`: this connection may only be there to wake the thread.
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
    // In this order: as long as this thread listens there, no new room can have the port.
    drop(listener);
    lock(&chat.free_ports).push(port);
}

/// Serves one connection to a room. Its first line must be a passcode.
fn visit_room(stream: TcpStream, port: u16, chat: &Chat) -> io::Result<()> {
    // Without a timeout, a connection that sends nothing would keep this thread for ever.
    stream.set_read_timeout(Some(RESERVATION))?;
    let client = Client::start(stream)?;
    let mut kept = Vec::new();
    let line = next_line(&client.stream, &mut kept)?.unwrap_or_default();
    let passcode = child_text(&line, "HandshakePasscode").unwrap_or_default();
    let Some(name) = enter(&passcode, &client, port, chat) else {
        return Ok(());
    };
    let result = talk_in_room(&name, &client, &mut kept, port, chat);
    // Here, too, every way out leads. (LEAVE may have removed the member before, and it may have
    // come back with another connection since. In that case, the entry belongs to that connection
    // and is kept.)
    let mut rooms = lock(&chat.rooms);
    if let Some(room) = rooms.get_mut(&port).filter(|room| room.has(&name, &client)) {
        room.remove(&name);
    }
    end_empty_rooms(rooms);
    result
}

/// Makes a connection with the right passcode a member. Returns the member's name.
fn enter(passcode: &str, client: &Client, port: u16, chat: &Chat) -> Option<String> {
    let mut rooms = lock(&chat.rooms);
    let room = rooms.get_mut(&port)?;
    let greeting = |text: &str| {
        let room_name = &room.name;
        format!(
            "<SERVER type='room' port='{port}' room='{room_name}'><message>{text}</message></SERVER>"
        )
    };
    // `remove`: a passcode admits one connection. A wrong one changes nothing for the others.
    let Some((name, _)) = room.expected.remove(passcode) else {
        let _ = client.queue.try_send(greeting("Wrong handshake passcode"));
        return None;
    };
    // First into the queue, then into the list: the greeting comes before all messages.
    let _ = client.queue.try_send(greeting("Connection successful"));
    room.members.insert(name.clone(), client.clone());
    Some(name)
}

/// Delivers what a member says, until its connection ends or LEAVE has removed it.
fn talk_in_room(
    name: &str,
    client: &Client,
    kept: &mut Vec<u8>,
    port: u16,
    chat: &Chat,
) -> io::Result<()> {
    // From here on, a member may be silent as long as it likes.
    client.stream.set_read_timeout(None)?;
    while let Some(line) = next_line(&client.stream, kept)? {
        let answer = match child_text(&line, "message") {
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
    let room = rooms.get(&port).filter(|room| room.has(name, client))?;
    let scope = format!("scope='room' room='{}'", room.name);
    Some(sent(room.tell_others(name, &relay(name, &scope, text))))
}

impl Room {
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

    /// Puts a document into the queue of every member except `name`. Returns how many these are.
    fn tell_others(&self, name: &str, document: &str) -> usize {
        let mut count = 0;
        for (_, member) in self.members.iter().filter(|(other, _)| *other != name) {
            let _ = member.queue.try_send(document.to_owned());
            count += 1;
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
    // Wakes the thread that reads from the member's connection.
    let _ = member.stream.shutdown(Shutdown::Both);
    end_empty_rooms(rooms);
    format!("<SERVER><command>LEFT</command><room>{room_name}</room></SERVER>")
}

/// Removes a client from all rooms and ends its connections there.
fn leave_all_rooms(name: &str, chat: &Chat) {
    let mut rooms = lock(&chat.rooms);
    for room in rooms.values_mut() {
        room.expected.retain(|_, (expected, _)| expected != name);
        if let Some(member) = room.remove(name) {
            let _ = member.stream.shutdown(Shutdown::Both);
        }
    }
    end_empty_rooms(rooms);
}

/// Removes passcodes that have expired, again and again. Their clients have not come.
fn tick(chat: &Chat) {
    loop {
        thread::sleep(TICK);
        let mut rooms = lock(&chat.rooms);
        for room in rooms.values_mut() {
            room.expected
                .retain(|_, (_, issued)| issued.elapsed() < RESERVATION);
        }
        end_empty_rooms(rooms);
    }
}

/// Ends the rooms that no client is in or on its way to. (If a client on its way did not count, it
/// would find its port closed, or another room there.)
fn end_empty_rooms(mut rooms: MutexGuard<HashMap<u16, Room>>) {
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

    /// A chat with a room at port 50001, to which alice is on her way with the passcode "secret".
    fn with_lobby() -> Chat {
        let chat = Chat::default();
        let alice = ("alice".to_owned(), Instant::now());
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
    }

    #[test]
    fn a_room_ends_when_no_client_is_in_it_or_on_its_way() {
        let chat = with_lobby();
        end_empty_rooms(lock(&chat.rooms));
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
